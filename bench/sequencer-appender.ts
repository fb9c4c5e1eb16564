/**
 * One instance that writes audit entries at a steady rate, as the audit log writes them: group commit, one
 * append in flight in a lane. `URL ENTRIES-A-SECOND SECONDS`; JSON on stdout.
 */
import { createHmac, randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { seal, startOf, unplaced } from '../src/audit/batch.ts';
import { openStore } from '../src/store/store.ts';
import { draftOf } from '../test/audit/drafts.ts';
import { openInstance } from '../test/audit/sequenced-log.ts';

const KEYS = 10_000;
const MOST = 256;
const [url = '', rate = '10000', seconds = '10'] = process.argv.slice(2);
const mac = (data: Uint8Array): Promise<Uint8Array> =>
  Promise.resolve(createHmac('sha256', 'the audit key of the tests').update(data).digest());

const store = openStore({ url, max: 2 });
const instance = await openInstance(store);
const lane = await store.audit.openLane(instance, 'use');
const { epoch } = await store.instances.beat(instance, 0);
const origin = { at: new Date(), zone: 'zone-a', instance };
/** Made before: what a request's own work costs is not measured here. */
const parts = await Promise.all(
  Array.from({ length: 4_096 }, () => {
    const key = String(randomInt(KEYS)).padStart(12, '0');
    const draft = draftOf({
      ...{ keyId: `10000000-0000-4000-8000-${key}`, keyRef: `key-${key}` },
      requestId: '0b8f4c0e-6a5f-4d43-9d0e-0f4c6f5f9a11',
      actor: { ...draftOf().actor, subject: `system:serviceaccount:team:workload-${key}` },
      contextValues: new Uint8Array(40),
    });
    return unplaced(draft, origin, mac);
  }),
);
let position = startOf(lane);
let bytes = 0;
const times: number[] = [];
const began = performance.now();
const due = (): number => Math.floor(((performance.now() - began) * Number(rate)) / 1000);
while (performance.now() - began < Number(seconds) * 1000) {
  const count = Math.min(MOST, due() - (position.next - 1));
  if (count < 1) {
    await sleep(1);
    continue;
  }
  const start = performance.now();
  const chosen = Array.from(
    { length: count },
    (_, at) => parts[(position.next + at) % parts.length],
  );
  const entries = chosen.filter((part) => part !== undefined);
  const { batch, after } = await seal(mac, position, epoch, entries);
  await store.audit.append(batch);
  position = after;
  bytes += batch.entries.reduce((sum, { body }) => sum + body.length, 0);
  times.push(performance.now() - start);
}
const taken = performance.now() - began;
times.sort((a, b) => a - b);
const at = (share: number): number => times[Math.floor(times.length * share)] ?? 0;
const appended = position.next - 1;
const { user, system } = process.cpuUsage();
process.stdout.write(
  JSON.stringify({
    appended,
    perSecond: (appended * 1000) / taken,
    p50: at(0.5),
    p99: at(0.99),
    bodyBytes: bytes / appended,
    cpu: (user + system) / 1000 / taken,
  }),
);
await store.close();
