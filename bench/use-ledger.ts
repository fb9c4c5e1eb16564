/**
 * What the counting of uses adds to a wrap and an unwrap: the same keyring code with and without it, in
 * turns, over HSM calls that cost nothing, which makes the share as large as it can be. JSON on stdout.
 */
import { randomUUID } from 'node:crypto';

import { UseLedger } from '../src/keyring/use-ledger.ts';
import { NO_BINDING, openWorld, secret } from '../test/keyring/world.ts';

const CALLS = 4_000;
const ROUNDS = 15;
const USES = 2_000_000;

const world = await openWorld();
const counting = Object.getOwnPropertyDescriptor(UseLedger.prototype, 'count');
if (counting === undefined) throw new Error('nothing counts');
const redefine = (descriptor: PropertyDescriptor) =>
  Object.defineProperty(UseLedger.prototype, 'count', descriptor);
const id = await world.create({ suite: 'A256GCM' });
const ciphertext = await world.wrap(id, 'text');

const operations = {
  wrap: () =>
    world.keyring.use.wrap(world.grant('wrap', id), {
      plaintext: secret('text'),
      binding: NO_BINDING,
    }),
  unwrap: () =>
    world.keyring.use.unwrap(world.grant('unwrap', id), { ciphertext, binding: NO_BINDING }),
};

async function microseconds(call: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  for (let each = 0; each < CALLS; each += 1) await call();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / CALLS;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/** In turns, so that what else the machine does falls on both. */
async function compare(call: () => Promise<unknown>) {
  const [counted, uncounted]: [number[], number[]] = [[], []];
  await microseconds(call);
  for (let round = 0; round < ROUNDS; round += 1) {
    uncounted.push(await uncountedMicroseconds(call));
    counted.push(await microseconds(call));
  }
  const [withIt, withoutIt] = [median(counted), median(uncounted)];
  return { with: withIt, without: withoutIt, ratio: withIt / withoutIt };
}

async function uncountedMicroseconds(call: () => Promise<unknown>): Promise<number> {
  redefine({ ...counting, value: () => undefined });
  try {
    return await microseconds(call);
  } finally {
    redefine(counting ?? {});
  }
}

/** One count, of `principals` that take turns over `versions`. */
function perCount(principals: number, versions: number): number {
  const store = { addUses: () => Promise.resolve() };
  const ledger = new UseLedger(store, { instance: randomUUID(), intervalMs: null });
  const keyId = randomUUID();
  const who = Array.from({ length: principals }, (_, index) => ({
    issuer: 'https://issuer.example/realm',
    subject: `system:serviceaccount:team:workload-${index}`,
  }));
  const run = (uses: number) => {
    for (let use = 0; use < uses; use += 1) {
      const principal = who[use % principals];
      const version = { keyId, version: 1 + (use % versions) };
      if (principal !== undefined) ledger.count(version, principal, 'process');
    }
  };
  run(USES / 10);
  const before = process.cpuUsage();
  run(USES);
  const { user, system } = process.cpuUsage(before);
  ledger.close();
  return (user + system) / USES;
}

const report = {
  unit: 'microseconds of processor time',
  count: { onePrincipal: perCount(1, 1), manyPrincipals: perCount(97, 5) },
  wrap: await compare(operations.wrap),
  unwrap: await compare(operations.unwrap),
};
await world.stop();
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
