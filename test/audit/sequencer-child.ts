/**
 * An instance as a process of its own, to be killed and paused: appends entries without end, and stands for
 * the sequencer. Prints `+<id>` for each entry that it was told is durable, and `=<size> <root>` for each
 * checkpoint that it publishes.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { createAuditLog } from '../../src/audit/log.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { laneCounts } from '../../src/main/sequencing.ts';
import { openStore } from '../../src/store/store.ts';
import { softwareMac } from './memory-store.ts';
import { testSequencer } from './sequenced-log.ts';

const WRITERS = 16;
const store = openStore({ url: process.argv[2] ?? '' });
const instance = randomUUID();
/** What the database refuses for a while is tried again. */
const patiently = async <T>(work: () => Promise<T>): Promise<T> => {
  for (;;) {
    try {
      return await work();
    } catch {
      await sleep(50);
    }
  }
};
await patiently(() =>
  store.instances.open({ id: instance, zone: 'z', suites: [], envelopes: [], graceMs: 0 }),
);
const { epoch } = await patiently(() => store.instances.beat(instance, 0));
const log = await patiently(async () => {
  const made = createAuditLog({
    ...{ store: store.audit, mac: softwareMac, epoch: new SecurityEpoch(epoch), instance },
    zone: 'z',
  });
  await made.start();
  return made;
});
const { sequencer, leader } = testSequencer(store, {
  intervalMs: 20,
  silenceMs: 400,
  publish: ({ size, root }) => {
    process.stdout.write(`=${size} ${Buffer.from(root).toString('hex')}\n`);
  },
  onFault: (fault) => {
    process.stdout.write(`!${JSON.stringify(fault)}\n`);
  },
});
process.stdout.write('ready\n');

const writer = async (): Promise<never> => {
  for (;;) {
    await patiently(async () => {
      process.stdout.write(`+${await log.recordOwn('test', {})}\n`);
    });
    await sleep(1);
  }
};
const beats = async (): Promise<never> => {
  for (;;) {
    await store.instances.beat(instance, epoch, laneCounts(log)).catch(() => undefined);
    await log.probe();
    await sleep(100);
  }
};
const sequencing = async (): Promise<never> => {
  for (;;) {
    try {
      await leader.tick();
      await sequencer.step();
    } catch {
      // The next step finds out.
    }
    if (sequencer.halted !== null) process.stdout.write(`!${sequencer.halted}\n`);
    await sleep(10);
  }
};
await Promise.all([...Array.from({ length: WRITERS }, writer), beats(), sequencing()]);
