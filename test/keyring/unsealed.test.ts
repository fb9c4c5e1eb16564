import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import type { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuiteByNumber } from '../../src/crypto/suites.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { TwofoldError } from '../../src/errors.ts';
import { UnsealedHalves } from '../../src/keyring/unsealed.ts';
import type { Unsealed, VersionMaterial } from '../../src/keyring/unsealed.ts';
import { isWiped } from './watched-hsm.ts';
import { codeOf, openWorld } from './world.ts';
import type { World } from './world.ts';

let world: World;
let epoch: SecurityEpoch;
let halves: UnsealedHalves;
let keys: VersionMaterial[];

async function materialOf(key: string): Promise<VersionMaterial> {
  const view = await world.keyring.read.get(world.grant('keys.read', key));
  const [version] = view.versions;
  if (version?.state !== 'active') throw new TypeError('not active');
  const suite = findSuiteByNumber(version.suite);
  return { key: view.key, keyId: view.key.id, version: 1, suite, material: version.material };
}

beforeEach(async () => {
  world = await openWorld();
  keys = [];
  for (let index = 0; index < 4; index += 1) keys.push(await materialOf(await world.create()));
  epoch = new SecurityEpoch(1);
  halves = new UnsealedHalves(world.root, nativeEngine, epoch, 3);
  world.device.given.length = 0;
});
afterEach(async () => {
  halves.close();
  await world.stop();
  jest.useRealTimers();
});

const keyAt = (index: number): VersionMaterial => {
  const found = keys[index];
  if (found === undefined) throw new RangeError('no such key');
  return found;
};
const use = (index: number, since = epoch.current) =>
  halves.with(keyAt(index), since, (unsealed) => Promise.resolve(unsealed));
const changeOf = (index: number, at = epoch.current + 1) => ({
  epoch: at,
  scope: 'key' as const,
  namespace: 'default',
  keyId: keyAt(index).keyId,
  keyName: null,
});
const isReleased = ({ decapsulation, psk }: Unsealed): Promise<boolean> =>
  decapsulation === null || psk === null
    ? Promise.reject(new TypeError('nothing to release'))
    : decapsulation.decapsulate(new Uint8Array(1088)).then(
        (secret: SecretBytes) => {
          secret.wipe();
          return isWiped(psk);
        },
        () => isWiped(psk),
      );
const unseals = () => world.device.calls.filter((call) => call === 'decrypt').length;
const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

describe('an entry', () => {
  it('is unsealed once for all who use it, and only the seed is wiped at once', async () => {
    const before = unseals();
    const [one, two] = await Promise.all([use(0), use(0)]);
    expect(one).toBe(two);
    expect(await use(0)).toBe(one);
    expect(unseals() - before).toBe(2);
    expect(world.device.given.map(isWiped).toSorted()).toEqual([false, true]);
    expect(one.psk?.length).toBe(32);
  });

  it('ends with a change of its key, and no other', async () => {
    const [one, other] = [await use(0), await use(1)];
    epoch.advance([changeOf(0)]);
    await settled();
    expect([await isReleased(one), await isReleased(other)]).toEqual([true, false]);
    expect(halves.size).toBe(1);
    epoch.advance([{ ...changeOf(1), scope: 'access', keyId: null }]);
    expect(halves.size).toBe(1);
  });

  it('ends with all others when the record of a change is missing', async () => {
    await Promise.all([use(0), use(1)]);
    epoch.advance([changeOf(3, 9)]);
    expect(halves.size).toBe(0);
  });

  it('ends when it is the least recently used of too many', async () => {
    const first = await use(0);
    const second = await use(1);
    await use(2);
    await use(0);
    await use(3);
    await settled();
    expect(halves.size).toBe(3);
    expect([await isReleased(first), await isReleased(second)]).toEqual([false, true]);
  });

  it('ends by age, swept when nobody asks, replaced when somebody does', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] });
    const aged = new UnsealedHalves(world.root, nativeEngine, epoch, 3);
    const get = (index: number) =>
      aged.with(keyAt(index), 1, (unsealed) => Promise.resolve(unsealed));
    const [one, two] = [await get(0), await get(1)];
    jest.advanceTimersByTime(9 * 60_000);
    expect(await get(0)).toBe(one);
    jest.setSystemTime(Date.now() + 11 * 60_000);
    jest.advanceTimersByTime(2 * 60_000);
    jest.useRealTimers();
    await settled();
    expect([await isReleased(one), await isReleased(two), aged.size]).toEqual([true, true, 0]);
    aged.close();
  });

  it('lives on while it is in use, and ends with its last user', async () => {
    const [first, second] = [
      Promise.withResolvers<undefined>(),
      Promise.withResolvers<undefined>(),
    ];
    const inUse: Unsealed[] = [];
    const users = [first, second].map(({ promise }) =>
      halves.with(keyAt(0), 1, async (unsealed) => {
        inUse.push(unsealed);
        await promise;
        return isReleased(unsealed);
      }),
    );
    await settled();
    epoch.advance([changeOf(0)]);
    halves.close();
    first.resolve(undefined);
    expect(await users[0]).toBe(false);
    second.resolve(undefined);
    expect(await users[1]).toBe(false);
    await settled();
    const [held] = inUse;
    expect(held && (await isReleased(held))).toBe(true);
  });

  it("ends when its only user fails, and its error is the caller's", async () => {
    const failing = halves.with(keyAt(0), 1, () => Promise.reject(new TwofoldError('hsm_busy')));
    expect(await codeOf(failing)).toBe('hsm_busy');
    expect(halves.size).toBe(1);
    epoch.advance([changeOf(0)]);
    await settled();
    expect(world.device.given.every(isWiped)).toBe(true);
  });
});

describe('what is not kept', () => {
  it('is what a request unseals whose key has changed since its grant', async () => {
    epoch.advance([changeOf(0)]);
    const stale = await use(0, 1);
    await settled();
    expect([halves.size, await isReleased(stale)]).toEqual([0, true]);
    await use(0);
    await use(1, 1);
    expect(halves.size).toBe(2);
  });

  it('is what was being unsealed when the change came', async () => {
    const using = use(0);
    epoch.advance([changeOf(0)]);
    const unsealed = await using;
    await settled();
    expect([halves.size, await isReleased(unsealed)]).toEqual([0, true]);
  });

  it.each([1, 2])('is an unsealing that failed at its half %s', async (failing) => {
    let decrypts = 0;
    world.device.fault = (call) => {
      if (call !== 'decrypt') return 'none';
      decrypts += 1;
      return decrypts === failing ? 'before' : 'none';
    };
    const codes = await Promise.all([codeOf(use(0)), codeOf(use(0))]);
    expect(codes).toEqual(['hsm_unavailable', 'hsm_unavailable']);
    await settled();
    expect(halves.size).toBe(0);
    expect(world.device.given).toHaveLength(1);
    expect(world.device.given.every(isWiped)).toBe(true);
    world.device.fault = () => 'none';
    await use(0);
    expect(halves.size).toBe(1);
  });

  it('is a half that does not open', async () => {
    const { material } = keyAt(0);
    const [pq, psk] = [material.pq, material.psk];
    if (pq === null || psk === null) throw new TypeError('no halves');
    const swapped = {
      ...keyAt(0),
      material: { ...material, psk: pq.half, pq: { ...pq, half: psk } },
    };
    const none = { ...keyAt(1), material: { ...material, pq: null } };
    for (const version of [swapped, none]) {
      const using = halves.with(version, 1, (unsealed) => Promise.resolve(unsealed));
      expect(await codeOf(using)).toBe('integrity_failed');
    }
    await settled();
    expect(halves.size).toBe(0);
  });
});

describe('close', () => {
  it('wipes everything that is not in use', async () => {
    const all = [await use(0), await use(1)];
    halves.close();
    await settled();
    expect(await Promise.all(all.map(isReleased))).toEqual([true, true]);
    expect(world.device.given.every(isWiped)).toBe(true);
  });
});
