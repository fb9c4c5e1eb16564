/** What is remembered of opened seeds, how much, how long, and what ends it. */
import { expect, test } from '@jest/globals';

import { SecretBytes } from '../../src/crypto/secret.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { OpenedSeeds } from '../../src/kubernetes/opened-seeds.ts';
import type { Opened } from '../../src/keyring/operations.ts';

const used = { keyId: 'k', keyVersion: 1 } as unknown as Opened['used'];
const standingAt = (epoch: number) => ({ epoch, namespace: 'default', keyId: null, keyName: 'k' });

function openedSeeds() {
  const epoch = new SecurityEpoch(1);
  const clock = { now: 0 };
  const seeds = new OpenedSeeds(epoch, () => clock.now);
  const made: SecretBytes[] = [];
  const open = (name: string, work?: () => Promise<Opened>) =>
    seeds.open(
      name,
      standingAt(epoch.current),
      work ??
        (() => {
          const plaintext = SecretBytes.copyOf(Buffer.from(name));
          made.push(plaintext);
          return Promise.resolve({ used, plaintext, origin: 'service' as const });
        }),
    );
  const change = (scope: 'key' | 'access', keyName: string) =>
    epoch.advance([
      { epoch: epoch.current + 1, scope, namespace: 'default', keyId: null, keyName },
    ]);
  return { epoch, clock, seeds, made, open, change };
}

test('equal ones share one opening, and each has a copy of its own', async () => {
  const { open, made } = openedSeeds();
  const given = await Promise.all(Array.from({ length: 10 }, () => open('a')));
  expect(made).toHaveLength(1);
  given[0]?.plaintext.wipe();
  expect(Buffer.from(given[1]?.plaintext.reveal() ?? []).toString()).toBe('a');
  expect(Buffer.from((await open('a')).plaintext.reveal()).toString()).toBe('a');
  expect(made).toHaveLength(1);
});

test.each(['key', 'access'] as const)('a change of %s ends all of it, wiped', async (scope) => {
  const { open, made, seeds, change } = openedSeeds();
  await open('a');
  change(scope, 'some other key');
  expect(seeds.size).toBe(0);
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  expect(() => made[0]?.reveal()).toThrow();
  await open('a');
  expect(made).toHaveLength(2);
});

test('what was opened while its key changed is given and not remembered', async () => {
  const { open, seeds, change } = openedSeeds();
  const { promise, resolve } = Promise.withResolvers<Opened>();
  const opening = open('a', () => promise);
  change('key', 'k');
  resolve({ used, plaintext: SecretBytes.copyOf(Buffer.from('a')), origin: 'service' });
  await opening;
  expect(seeds.size).toBe(0);
});

test('a failure is not remembered', async () => {
  const { open, seeds } = openedSeeds();
  await expect(open('a', () => Promise.reject(new Error('once')))).rejects.toThrow('once');
  expect(seeds.size).toBe(0);
  expect((await open('a')).origin).toBe('service');
});

test('five minutes, and a thousand: those go that were used longest ago', async () => {
  const { open, made, seeds, clock } = openedSeeds();
  await open('first');
  await open('second');
  for (let n = 0; n < 998; n += 1) await open(`n${String(n)}`);
  await open('first');
  expect([seeds.size, made.length]).toEqual([1_000, 1_000]);
  await open('one more');
  await open('first');
  expect([seeds.size, made.length]).toEqual([1_000, 1_001]);
  await open('second');
  expect(made).toHaveLength(1_002);
  clock.now = 300_000;
  await open('first');
  expect(made).toHaveLength(1_003);
});
