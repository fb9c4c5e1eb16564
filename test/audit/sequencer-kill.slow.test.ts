/**
 * Instances that append and sequence, as processes of their own, killed (-9) and paused in rounds, and
 * PostgreSQL killed beneath them. Then: every entry that any of them was told is durable is in the log once,
 * the tree has its root, and every checkpoint that any of them published is one of the log.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { openStore } from '../../src/store/store.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { seeded } from '../store/embedded-harness.ts';
import { withOwner } from '../store/owner.ts';
import { rootsOf, testSequencer, wholeLog } from './sequenced-log.ts';

const ROUNDS = 14;

interface Child {
  readonly process: ChildProcess;
  lines: string;
}

let database: TestDatabase;
const children: Child[] = [];

beforeAll(async () => {
  database = await startTestDatabase();
}, 60_000);
afterAll(async () => {
  for (const { process: child } of children) child.kill('SIGKILL');
  await database.stop();
});

const start = (): Child => {
  const script = join(import.meta.dirname, 'sequencer-child.ts');
  const flags = ['--disable-warning=ExperimentalWarning', script, database.appUrl];
  const child = spawn(process.execPath, flags, { stdio: ['ignore', 'pipe', 'inherit'] });
  const made: Child = { process: child, lines: '' };
  child.stdout.on('data', (data: Buffer) => (made.lines += data.toString()));
  children.push(made);
  return made;
};

/** A server process of a client: PostgreSQL ends all others, and recovers as after a crash. */
async function killServer(): Promise<void> {
  const pid = await withOwner(database, async (client) => {
    const { rows } = await client.query<{ pid: number }>(
      `select pid from pg_stat_activity where application_name = 'twofold' limit 1`,
    );
    return rows[0]?.pid;
  }).catch(() => undefined);
  if (pid !== undefined) process.kill(pid, 'SIGKILL');
}

it(`loses and repeats nothing over ${ROUNDS} rounds of kills and pauses`, async () => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
  console.log(`kill -9 and pauses of sequencers: seed ${seed}`);
  const random = seeded(seed);
  let running = [start(), start(), start()];
  await sleep(3_000);
  for (let round = 0; round < ROUNDS; round += 1) {
    await sleep(500 + random() * 1_500);
    const victim = running[Math.floor(random() * running.length)];
    if (victim === undefined) throw new Error('nobody runs');
    switch (round % 3) {
      case 0:
        victim.process.kill('SIGKILL');
        running = [...running.filter((each) => each !== victim), start()];
        break;
      case 1:
        // Longer than a leader may be silent, in whatever it is doing.
        victim.process.kill('SIGSTOP');
        await sleep(1_500);
        victim.process.kill('SIGCONT');
        break;
      default:
        await killServer();
    }
  }
  await sleep(3_000);
  for (const { process: child } of running) {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }
  await sleep(500);
  const store = openStore({ url: database.appUrl });
  try {
    const last = testSequencer(store);
    await last.drain();
    expect(last.faults).toEqual([]);
    expect(last.sequencer.halted).toBeNull();
  } finally {
    await store.close();
  }
  const { entries, checkpoints } = await wholeLog(database);
  const found = children.flatMap(({ lines }) => lines.split('\n').slice(0, -1));
  const acknowledged = found.filter((line) => line.startsWith('+')).map((line) => line.slice(1));
  expect(found.filter((line) => line.startsWith('!'))).toEqual([]);
  const ids = new Set(entries.map(({ id }) => id));
  expect(acknowledged.filter((id) => !ids.has(id))).toEqual([]);
  const published = found.filter((line) => line.startsWith('=')).map((line) => line.split(' '));
  const sizes = published.map(([size = '']) => Number(size.slice(1)));
  const roots = rootsOf(
    entries.map(({ leaf }) => leaf),
    sizes,
  );
  for (const [at, [, root]] of published.entries()) {
    expect(root).toBe(roots.get(sizes[at] ?? 0)?.toString('hex'));
  }
  console.log(
    `${acknowledged.length} acknowledged, ${entries.length} in the log, ${checkpoints.length} checkpoints, ` +
      `${children.length} processes`,
  );
  expect(acknowledged.length).toBeGreaterThan(1_000);
}, 180_000);
