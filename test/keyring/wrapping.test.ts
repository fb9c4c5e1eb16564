import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { WRAP_SUITES, aRun, codeOf, NO_BINDING, openWorld } from './world.ts';
import type { World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world.stop());

const bound = (tenant: string) => ({
  encryptionContext: { tenant },
  aad: Buffer.from('aad'),
});
const rotate = (key: string, suite?: string) =>
  world.keyring.manage.rotate(
    world.grant('keys.rotate', key),
    suite === undefined ? {} : { suite },
    aRun(),
  );
const rewrap = (key: string, ciphertext: Uint8Array, to: string | null = null) =>
  world.keyring.use.rewrap(
    world.grant('rewrap', key),
    to === null ? null : world.grant('rewrap', to),
    { ciphertext, binding: NO_BINDING },
  );

describe.each(WRAP_SUITES)('wrap and unwrap under %s', (suite) => {
  it('round-trips by id and by name, bound to context and aad', async () => {
    const name = `round-trip-${suite.toLowerCase()}`;
    const id = await world.create({ name, suite });
    const ciphertext = await world.wrap(name, 'plain', bound('a'));
    expect(await world.unwrap(id, ciphertext, bound('a'))).toBe('plain');
    expect(await codeOf(world.unwrap(id, ciphertext, bound('b')))).toBe('decryption_failed');
    expect(await codeOf(world.unwrap(id, ciphertext))).toBe('decryption_failed');
  });
});

describe('P8: rotation', () => {
  it('keeps data of every earlier suite readable and rewraps it to the newest', async () => {
    const id = await world.create({ suite: WRAP_SUITES[0] });
    const old: Uint8Array[] = [];
    for (const suite of WRAP_SUITES) {
      if (suite !== WRAP_SUITES[0]) await rotate(id, suite);
      old.push(await world.wrap(id, suite));
    }
    for (const [index, ciphertext] of old.entries()) {
      expect(await world.unwrap(id, ciphertext)).toBe(WRAP_SUITES[index]);
      const rewrapped = await rewrap(id, ciphertext);
      const isNewest = index === old.length - 1;
      expect(rewrapped.changed).toBe(!isNewest);
      expect(rewrapped.used.keyVersion).toBe(WRAP_SUITES.length);
      expect(await world.unwrap(id, rewrapped.ciphertext)).toBe(WRAP_SUITES[index]);
    }
  });
});
