/** What making a version takes: of what was made, else of trials that leave nothing behind. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { findSuite } from '../../src/crypto/suites.ts';
import { TwofoldError } from '../../src/errors.ts';
import { openWorld } from './world.ts';
import type { World } from './world.ts';

let world: World;
beforeEach(async () => {
  world = await openWorld();
  world.device.calls.length = 0;
});
afterEach(() => world.stop());

const measured = (suite: string) => world.keyring.generation.measured(findSuite(suite));
const generations = () => world.device.calls.filter((call) => call === 'generate').length;

describe('the time of a generation', () => {
  it('is that of trials until a version was made, and each suite is tried once', async () => {
    const tried = await measured('MLKEM768-P256');
    expect(tried).toMatchObject({ versions: 3 });
    expect([(tried?.hsmMs ?? 0) > 0, (tried?.cpuMs ?? 0) > 0]).toEqual([true, true]);
    // One more, which includes what happens but once.
    expect(generations()).toBe(4);
    expect(await measured('MLKEM768-P256')).toEqual(tried);
    expect(generations()).toBe(4);
    const { rows } = world.store;
    expect([rows.keys.size, rows.versions.size, rows.intents.size]).toEqual([0, 0, 0]);
    await world.create({ suite: 'MLKEM768-P256' });
    expect(await measured('MLKEM768-P256')).toMatchObject({ versions: 1 });
  });

  it('tells the token from the processor', async () => {
    world.device.meanwhile = async (call) => {
      if (call === 'generate') await new Promise((resolve) => setTimeout(resolve, 40));
    };
    const { hsmMs = 0, cpuMs = 0 } = (await measured('MLKEM768-P256')) ?? {};
    expect(hsmMs).toBeGreaterThan(38);
    expect(cpuMs).toBeLessThan(30);
  });

  it.each(['RSA-OAEP-2048-SHA256', 'DHKEM-X25519', 'MLKEM768-X25519'])(
    'of %s is not tried: it takes a token long, or stays on it',
    async (suite) => {
      expect(await measured(suite)).toBeNull();
      expect(generations()).toBe(0);
    },
  );

  it('is known of a key on the token alone once one was made', async () => {
    await world.create({ suite: 'DHKEM-X25519', custody: 'hsm-token' });
    expect(await measured('DHKEM-X25519')).toMatchObject({ versions: 1 });
  });

  it('is not known while the token is away, and no other failure is taken for that', async () => {
    world.device.fault = (call) => (call === 'generate' ? 'before' : 'none');
    expect(await measured('MLKEM768-P256')).toBeNull();
    world.device.fault = () => new TwofoldError('internal', 'broken');
    await expect(measured('MLKEM768-P256')).rejects.toMatchObject({ code: 'internal' });
    world.device.fault = () => 'none';
    expect(await measured('MLKEM768-P256')).toMatchObject({ versions: 3 });
  });
});
