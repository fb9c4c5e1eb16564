import { afterEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { Suite } from '../../src/crypto/suite.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { findSuite, SUITES } from '../../src/crypto/suites.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { RotateKey } from '../../src/keyring/operations.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import { admits } from '../../src/keyring/suite-policy.ts';
import type { SuitePolicy } from '../../src/keyring/suite-policy.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { SoftwareToken } from '../hsm/software-hsm.ts';
import { watchedHsm } from './watched-hsm.ts';
import { ANY_SUITE, aKey, aRun, openInstance, openWorld, toSuite } from './world.ts';
import type { Instance, World, WorldOptions } from './world.ts';

const ALL = Object.values(SUITES);
const NOW = new Date('2027-01-01T00:00:00Z');
const before = (ms: number) => new Date(NOW.getTime() - ms);
const idsOf = (policy: Partial<SuitePolicy>) =>
  ALL.filter((suite) => admits({ ...ANY_SUITE, ...policy }, suite, NOW) === null).map(
    ({ id }) => id,
  );

describe('admits', () => {
  it('takes every suite by default but experimental ones', () => {
    const offered = ALL.filter(({ status }) => status === 'offered').map(({ id }) => id);
    expect(idsOf({ experimental: false })).toEqual(offered);
    expect(idsOf({})).toEqual(ALL.map(({ id }) => id));
    expect(admits({ ...ANY_SUITE, experimental: false }, findSuite('Falcon-512'), NOW)).toBe(
      'Falcon-512 is experimental, and suites.experimental is false.',
    );
  });

  it('takes for cnsa2 what CNSA 2.0 lists, and no hybrid', () => {
    const ids = idsOf({ profile: 'cnsa2' });
    expect(ids).toEqual(
      expect.arrayContaining(['ML-KEM-1024-HKDF-SHA384', 'ML-DSA-87', 'A256GCM', 'HS384', 'HS512']),
    );
    expect(ids).toHaveLength(5);
  });

  it('takes for fips what is approved throughout', () => {
    const ids = idsOf({ profile: 'fips' });
    expect(ids).toEqual(
      expect.arrayContaining(['ML-KEM-1024-HKDF-SHA384', 'ML-DSA-65', 'SLH-DSA-SHA2-128s']),
    );
    for (const id of ['Falcon-512', 'ML-KEM-768', 'MLKEM768-P256', 'MLKEM768-X25519']) {
      expect(ids).not.toContain(id);
    }
  });

  it('ends classical suites at the moment, not before, and no others', () => {
    const vulnerable = ALL.filter(({ strength }) => strength.quantumVulnerable);
    const rest = ALL.filter(({ strength }) => !strength.quantumVulnerable).map(({ id }) => id);
    expect(vulnerable.length).toBeGreaterThan(0);
    expect(idsOf({ classicalUntil: before(-1) })).toHaveLength(ALL.length);
    expect(idsOf({ classicalUntil: NOW })).toEqual(rest);
    expect(idsOf({ classicalUntil: before(1) })).toEqual(rest);
    expect(idsOf({ classicalUntil: 'never' })).toEqual(rest);
  });

  it('never admits more than each of its settings alone', () => {
    const suite = fc.constantFrom<Suite>(...ALL);
    const policy = fc.record({
      profile: fc.constantFrom('default' as const, 'cnsa2' as const, 'fips' as const),
      allow: fc.subarray(ALL.map(({ id }) => id)),
      classicalUntil: fc.constantFrom(null, 'never' as const, before(1), NOW, before(-1)),
      experimental: fc.boolean(),
      tokenKeysNamed: fc.boolean(),
    });
    fc.assert(
      fc.property(policy, suite, (given, row) => {
        const alone = (Object.keys(given) as (keyof SuitePolicy)[]).map((name) =>
          admits({ ...ANY_SUITE, [name]: given[name] }, row, NOW),
        );
        const whole = admits(given, row, NOW);
        expect(whole === null).toBe(alone.every((reason) => reason === null));
        if (whole !== null) expect(alone).toContain(whole);
      }),
    );
  });
});

describe('a keyring with a policy', () => {
  let world: World;
  const open = async (options: WorldOptions) => {
    world = await openWorld(options);
    return world;
  };
  const rotate = (key: string, suite?: string, dryRun = false) =>
    world.keyring.manage.rotate(world.grant('keys.rotate', key), toSuite(suite), aRun({ dryRun }));
  const refused = (suite: string) =>
    expect.objectContaining({
      code: 'suite_unavailable_here',
      detail: expect.stringContaining(suite) as unknown,
    });
  afterEach(() => world.stop());

  it('refuses create, dry or not, and leaves nothing', async () => {
    await open({ suites: { ...ANY_SUITE, profile: 'cnsa2' } });
    for (const dryRun of [true, false]) {
      const input = aKey({ name: 'new', suite: 'MLKEM768-P256' });
      const created = world.keyring.manage.create(
        world.grant('keys.create', 'new'),
        input,
        aRun({ dryRun }),
      );
      await expect(created).rejects.toEqual(refused('MLKEM768-P256'));
    }
    await expect(world.create({ name: 'new', suite: 'A256GCM' })).resolves.not.toBe('');
  });

  it('ends new versions of a suite while keys stay usable, and lets them move on', async () => {
    let now = before(1);
    await open({ suites: { ...ANY_SUITE, classicalUntil: NOW }, clock: () => now });
    const key = await world.create({ suite: 'RSA-OAEP-3072-SHA256' });
    await rotate(key);
    const ciphertext = await world.wrap(key, 'old');
    now = NOW;
    for (const dryRun of [true, false]) {
      await expect(rotate(key, undefined, dryRun)).rejects.toEqual(refused('RSA-OAEP-3072-SHA256'));
      await expect(rotate(key, 'RSA-OAEP-4096-SHA256', dryRun)).rejects.toEqual(
        refused('RSA-OAEP-4096-SHA256'),
      );
    }
    expect(await world.unwrap(key, ciphertext)).toBe('old');
    expect(await world.unwrap(key, await world.wrap(key, 'still'))).toBe('still');
    await rotate(key, 'ML-KEM-1024');
    expect(await world.unwrap(key, ciphertext)).toBe('old');
  });

  it('makes a key of one token only by its name, where there are several zones', async () => {
    await open({ suites: { ...ANY_SUITE, tokenKeysNamed: true } });
    const suite = 'MLKEM768-X25519';
    const unnamed = world.create({ suite });
    await expect(unnamed).rejects.toEqual(refused('name the custody hsm-token'));
    const key = await world.create({ suite, custody: 'hsm-token' });
    // What was chosen for the key holds for its later versions, and is not chosen by another suite.
    await rotate(key);
    const other = await world.create({ suite: 'MLKEM768-P256' });
    await expect(rotate(other, suite)).rejects.toEqual(refused('name the custody hsm-token'));
  });

  describe('of a key that lives on a token', () => {
    const SUITE = 'MLDSA65-Ed25519-SHA512';
    const SEVERAL = { ...ANY_SUITE, tokenKeysNamed: true };
    /** An instance of a zone with a token of its own, on which the same root is. */
    const zoneOf = async (token: SoftwareToken, suites: SuitePolicy): Promise<Instance> => {
      const { hsm } = watchedHsm(token);
      const { store } = world;
      const uses = new UsageCounters(store);
      const root = await openRoot(hsm, store, uses, null);
      const lacking = (serial: string) =>
        Promise.resolve(new TwofoldError('zone_lacks_material', `not ${serial}`));
      const instance = { hsm, engine: nativeEngine, store, root, uses, suites, lacking };
      elsewhere = await openInstance(instance);
      return elsewhere;
    };
    const otherToken = () => {
      const token = new SoftwareToken();
      for (const [name, secret] of world.device.token.roots) token.roots.set(name, secret);
      return token;
    };
    /** It knows what the other has changed. */
    const upToDate = async ({ epoch }: Instance) => {
      epoch.advance(await world.store.audit.changesSince(epoch.current));
    };
    const rotateIn = async (zone: Instance, key: string, input: RotateKey = {}, dryRun = false) => {
      await upToDate(zone);
      const grant = zone.grant('keys.rotate', key);
      return zone.keyring.manage.rotate(grant, input, aRun({ dryRun }));
    };
    const tokensOf = async (key: string) => {
      const view = await world.keyring.find('default', key);
      return view?.versions.map((version) => {
        const half = 'material' in version ? version.material.classical?.hsm : undefined;
        return half?.custody === 'hsm-token' ? half.tokenSerial : half?.custody;
      });
    };
    let elsewhere: Instance | undefined;
    afterEach(async () => {
      await elsewhere?.stop();
      elsewhere = undefined;
    });

    it('leaves its next version to its zone, unless the request names the token', async () => {
      await open({ suites: SEVERAL });
      const here = world.device.token.serial;
      const there = otherToken();
      const zone = await zoneOf(there, SEVERAL);
      for (const suite of [SUITE, 'MLKEM768-P256']) {
        const key = await world.create({ suite, custody: 'hsm-token' });
        const lacks = { code: 'zone_lacks_material', detail: `not ${here}` };
        for (const dryRun of [true, false]) {
          const named = { suite: findSuite(suite) };
          await expect(rotateIn(zone, key, {}, dryRun)).rejects.toMatchObject(lacks);
          await expect(rotateIn(zone, key, named, dryRun)).rejects.toMatchObject(lacks);
        }
        expect(await tokensOf(key)).toEqual([here]);
        await rotateIn(world, key);
        await rotateIn(zone, key, { custody: 'hsm-token' });
        expect(await tokensOf(key)).toEqual([here, here, there.serial]);
        // It lives there from now on.
        await rotateIn(zone, key);
        await expect(rotateIn(world, key)).rejects.toMatchObject({ code: 'zone_lacks_material' });
      }
      expect(there.objects.size).toBe(4);
    });

    it('heeds a compromise in another zone, and says why nothing replaces the version', async () => {
      await open({ suites: SEVERAL });
      const zone = await zoneOf(otherToken(), SEVERAL);
      const key = await world.create({ suite: SUITE, custody: 'hsm-token' });
      const compromise = async (by: Instance) => {
        await upToDate(by);
        const grant = by.grant('versions.compromise', key);
        const input = { version: 1, reason: 'seen elsewhere', replace: true };
        return by.keyring.lifecycle.compromiseVersion(grant, input, aRun());
      };
      const { change } = await compromise(zone);
      expect(change?.detail).toMatchObject({ replacementRefused: 'zone_lacks_material' });
      expect(change?.after.key.primary).toBeNull();
      await compromise(world);
      expect(await tokensOf(key)).toEqual(Array(2).fill(world.device.token.serial));
    });

    it('takes the custody that is named, also of another suite, and back into the database', async () => {
      await open({ suites: SEVERAL });
      const key = await world.create({ suite: 'MLKEM768-P256' });
      const { serial } = world.device.token;
      const suite = findSuite('MLKEM768-X25519');
      await rotateIn(world, key, { suite, custody: 'hsm-token' });
      await expect(rotateIn(world, key, { custody: 'hsm-wrapped' })).rejects.toMatchObject({
        code: 'suite_unavailable_here',
      });
      await rotateIn(world, key, { suite: findSuite('MLKEM768-P256') });
      await rotateIn(world, key, { custody: 'hsm-token' });
      await rotateIn(world, key, { custody: 'hsm-wrapped' });
      const wrapped = 'hsm-wrapped';
      expect(await tokensOf(key)).toEqual([wrapped, serial, wrapped, serial, wrapped]);
    });

    it('goes on where there is one zone, whose token was replaced', async () => {
      await open({ suites: ANY_SUITE });
      const there = otherToken();
      const zone = await zoneOf(there, ANY_SUITE);
      const key = await world.create({ suite: SUITE });
      await rotateIn(zone, key);
      expect(await tokensOf(key)).toEqual([world.device.token.serial, there.serial]);
    });
  });
});
