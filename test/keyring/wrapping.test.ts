import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { findSuite } from '../../src/crypto/suites.ts';
import { WRAP_SUITES, aRun, codeOf, NO_BINDING, openWorld, secret, toSuite } from './world.ts';
import { wrapOffline } from './offline.ts';
import type { World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world.stop());

const bound = (tenant: string) => ({ encryptionContext: { tenant }, aad: Buffer.from('aad') });
const rotate = (key: string, suite: string) =>
  world.keyring.manage.rotate(world.grant('keys.rotate', key), toSuite(suite), aRun());
const rewrap = (
  key: string,
  ciphertext: Uint8Array,
  to: string | null = null,
  binding = NO_BINDING,
) =>
  world.keyring.use.rewrap(
    world.grant('rewrap', key),
    to === null ? null : world.grant('rewrap', to),
    { ciphertext, binding },
  );
const open = (key: string, ciphertext: Uint8Array) =>
  world.keyring.use.unwrap(world.grant('unwrap', key), { ciphertext, binding: NO_BINDING });
const suspend = (key: string) =>
  world.keyring.manage.suspend(world.grant('keys.suspend', key), { reason: 'test' }, aRun());

describe.each(WRAP_SUITES)('wrap and unwrap under %s', (suite) => {
  it('round-trips by id and by name, bound to context and aad', async () => {
    const name = `round-trip-${suite.toLowerCase()}`;
    const id = await world.create({ name, suite });
    const ciphertext = await world.wrap(name, 'plain', bound('a'));
    expect(await world.unwrap(id, ciphertext, bound('a'))).toBe('plain');
    for (const other of [bound('b'), NO_BINDING, { ...bound('a'), aad: new Uint8Array(1) }]) {
      expect(await codeOf(world.unwrap(id, ciphertext, other))).toBe('decryption_failed');
    }
    const { used, origin, plaintext } = await world.keyring.use.unwrap(world.grant('unwrap', id), {
      ciphertext,
      binding: bound('a'),
    });
    const suiteNumber = findSuite(suite).number;
    expect(used).toEqual({ key: name, keyId: id, keyVersion: 1, suite, suiteNumber });
    expect([origin, Buffer.from(plaintext.reveal()).toString()]).toEqual(['service', 'plain']);
  });

  it('takes 0 and 65,536 bytes, and no more', async () => {
    const id = await world.create({ suite });
    for (const length of [0, 65_536]) {
      const text = 'x'.repeat(length);
      expect(await world.unwrap(id, await world.wrap(id, text))).toBe(text);
    }
    expect(await codeOf(world.wrap(id, 'x'.repeat(65_537)))).toBe('invalid_value');
  });

  it('answers the right code for a flipped bit anywhere', async () => {
    const id = await world.create({ suite });
    const ciphertext = await world.wrap(id, 'plain');
    const isKem = findSuite(suite).kind === 'kem';
    const allBits = (at: number) => at < 25 || !isKem;
    const isTried = (at: number) => allBits(at) || at % 7 === 0 || at >= ciphertext.length - 21;
    const seen: Record<string, number> = {};
    for (const at of [...ciphertext.keys()].filter(isTried)) {
      for (const bit of allBits(at) ? [0, 1, 2, 3, 4, 5, 6, 7] : [at % 8]) {
        const flipped = Uint8Array.from(ciphertext);
        flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
        const code = await codeOf(open(id, flipped));
        expect([at, bit, codesAt(at, isKem)]).toEqual([at, bit, expect.arrayContaining([code])]);
        seen[code] = (seen[code] ?? 0) + 1;
      }
    }
    expect(seen['decryption_failed']).toBeGreaterThan(150);
    // The low bit of `psk` mode makes it `base`, which parses and does not open.
    const base = Uint8Array.from(ciphertext);
    base[1] = (base[1] ?? 0) ^ 1;
    expect(await codeOf(open(id, base))).toBe(isKem ? 'decryption_failed' : 'invalid_envelope');
  });

  it('refuses every truncation', async () => {
    const id = await world.create({ suite });
    const ciphertext = await world.wrap(id, 'plain');
    for (let length = 0; length < ciphertext.length; length += length < 60 ? 1 : 97) {
      const code = await codeOf(open(id, ciphertext.subarray(0, length)));
      expect(['invalid_envelope', 'decryption_failed']).toContain(code);
    }
    const longer = Buffer.concat([ciphertext, Buffer.of(0)]);
    expect(await codeOf(open(id, longer))).toBe('decryption_failed');
  });
});

/** Codes that a flip in this byte may have: version, mode, suite, key id, version number, the rest. */
function codesAt(at: number, isKem: boolean): readonly string[] {
  if (at === 0) return ['unsupported_envelope_version'];
  if (at === 1) return ['invalid_envelope', 'decryption_failed'];
  if (at < 4) return ['unknown_suite', 'invalid_envelope', 'decryption_failed'];
  if (at < 20) return ['key_mismatch'];
  if (at < 24) return at === 23 ? ['version_not_found', 'invalid_envelope'] : ['version_not_found'];
  return at === 24 && !isKem ? ['invalid_envelope'] : ['decryption_failed'];
}

describe('rewrap and origin', () => {
  it('keeps what anyone made as anyone-made, also through a rotation', async () => {
    const id = await world.create();
    const offline = await wrapOffline(world, id, 'from outside');
    expect(await open(id, offline)).toMatchObject({ origin: 'anyone' });
    expect((await rewrap(id, offline)).changed).toBe(false);
    await rotate(id, 'MLKEM1024-P384');
    const { ciphertext, changed, used } = await rewrap(id, offline);
    expect([changed, used.keyVersion]).toEqual([true, 2]);
    expect(await open(id, ciphertext)).toMatchObject({ origin: 'anyone' });
    expect(await world.unwrap(id, ciphertext)).toBe('from outside');
  });

  it('never makes it look service-made', async () => {
    const [from, symmetric] = [await world.create(), await world.create({ suite: 'A256GCM' })];
    const offline = await wrapOffline(world, from, 'x');
    expect(await codeOf(rewrap(from, offline, symmetric))).toBe('origin_would_rise');
    await rotate(from, 'A256GCM');
    expect(await codeOf(rewrap(from, offline))).toBe('origin_would_rise');
  });

  it('moves service-made data to another key of any suite, and its binding with it', async () => {
    const ids = new Map<string, string>();
    for (const suite of WRAP_SUITES) ids.set(suite, await world.create({ suite }));
    for (const [fromSuite, from] of ids) {
      for (const [toSuite, to] of ids) {
        const ciphertext = await world.wrap(from, `${fromSuite} ${toSuite}`, bound('a'));
        const moved = await rewrap(from, ciphertext, to, bound('a'));
        expect(moved.changed).toBe(from !== to);
        expect(await world.unwrap(to, moved.ciphertext, bound('a'))).toBe(
          `${fromSuite} ${toSuite}`,
        );
        expect(await codeOf(world.unwrap(to, moved.ciphertext))).toBe('decryption_failed');
      }
    }
  });

  it('opens before it answers, and needs a target that may be used', async () => {
    const [from, to, signer] = [
      await world.create(),
      await world.create(),
      await world.create({ suite: 'HS256' }),
    ];
    const ciphertext = await world.wrap(from, 'x');
    const wrong = Uint8Array.from(ciphertext);
    wrong.fill(0, -1);
    expect(await codeOf(rewrap(from, wrong))).toMatch(/^(decryption_failed|no error)$/);
    expect(await codeOf(rewrap(from, ciphertext, null, bound('b')))).toBe('decryption_failed');
    expect(await codeOf(rewrap(from, ciphertext, signer))).toBe('wrong_purpose');
    expect(await codeOf(rewrap(from, ciphertext, 'no-such-key'))).toBe('key_not_found');
    expect(await codeOf(rewrap(to, ciphertext))).toBe('key_mismatch');
    await suspend(to);
    expect(await codeOf(rewrap(from, ciphertext, to))).toBe('version_not_usable');
  });

  it('wipes the plaintext that it passed through', async () => {
    const id = await world.create({ suite: 'A256GCM' });
    const ciphertext = await world.wrap(id, 'x');
    await rotate(id, 'A256GCM');
    world.device.given.length = 0;
    await rewrap(id, ciphertext);
    expect(world.device.given).toHaveLength(1);
    expect(() => world.device.given[0]?.reveal()).toThrow();
  });
});

describe('refusals', () => {
  it('another key, another namespace, another purpose', async () => {
    const id = await world.create({ name: 'refusals' });
    const ciphertext = await world.wrap(id, 'x');
    expect(await codeOf(open(await world.create(), ciphertext))).toBe('key_mismatch');
    const elsewhere = world.keyring.use.unwrap(world.grant('unwrap', id, 'elsewhere'), {
      ciphertext,
      binding: NO_BINDING,
    });
    expect(await codeOf(elsewhere)).toBe('key_not_found');
    for (const suite of ['HS256', 'MLDSA65-ECDSA-P256-SHA512']) {
      const other = await world.create({ suite });
      expect(await codeOf(open(other, ciphertext))).toBe('wrong_purpose');
      expect(await codeOf(world.wrap(other, 'x'))).toBe('wrong_purpose');
    }
    const kem = await world.create({ purpose: 'kem' });
    expect(await codeOf(world.wrap(kem, 'x'))).toBe('wrong_purpose');
  });

  it.each(['no-such-key', '', '..', 'a\0', 'REFUSALS', '__proto__', 'a\nb'])(
    'a key named %j does not exist',
    async (name) => {
      expect(await codeOf(world.wrap(name, 'x'))).toBe('key_not_found');
    },
  );

  it('a suspended key at once, and no longer when it is resumed', async () => {
    const id = await world.create();
    const ciphertext = await world.wrap(id, 'x');
    await suspend(id);
    expect(await codeOf(open(id, ciphertext))).toBe('version_not_usable');
    expect(await codeOf(world.wrap(id, 'x'))).toBe('version_not_usable');
    const { manage } = world.keyring;
    await manage.resume(world.grant('keys.resume', id), { reason: 'test' }, aRun());
    expect(await world.unwrap(id, ciphertext)).toBe('x');
  });

  it('a suspended version, while the others serve', async () => {
    const id = await world.create();
    const [old] = [await world.wrap(id, 'old'), await rotate(id, 'A256GCM')];
    const { manage, use } = world.keyring;
    const input = { version: 1, reason: 'test' };
    await manage.suspendVersion(world.grant('versions.suspend', id), input, aRun());
    expect(await codeOf(open(id, old))).toBe('version_not_usable');
    const named = { plaintext: secret('x'), binding: NO_BINDING, keyVersion: 1 };
    expect(await codeOf(use.wrap(world.grant('wrap', id), named))).toBe('version_not_usable');
    expect(await world.unwrap(id, await world.wrap(id, 'new'))).toBe('new');
    await manage.resumeVersion(world.grant('versions.resume', id), input, aRun());
    expect(await world.unwrap(id, old)).toBe('old');
    const missing = { ...named, keyVersion: 9 };
    expect(await codeOf(use.wrap(world.grant('wrap', id), missing))).toBe('version_not_found');
  });
});

describe('encapsulate and decapsulate', () => {
  const kems = WRAP_SUITES.filter((suite) => findSuite(suite).kind === 'kem');

  it.each(kems)('agree on 32 bytes under %s, which no wrap key gives', async (suite) => {
    const { use } = world.keyring;
    const id = await world.create({ suite, purpose: 'kem' });
    const made = await use.encapsulate(world.grant('encapsulate', id), {});
    const input = { encapsulation: made.encapsulation, keyVersion: 1 };
    const opened = await use.decapsulate(world.grant('decapsulate', id), input);
    expect(opened.sharedSecret.reveal()).toEqual(made.sharedSecret.reveal());
    expect(made.sharedSecret.length).toBe(32);
    const short = { ...input, encapsulation: made.encapsulation.subarray(1) };
    expect(await codeOf(use.decapsulate(world.grant('decapsulate', id), short))).toBe(
      'decryption_failed',
    );
    const missing = { ...input, keyVersion: 2 };
    expect(await codeOf(use.decapsulate(world.grant('decapsulate', id), missing))).toBe(
      'version_not_found',
    );
    const wrapKey = await world.create({ suite });
    expect(await codeOf(use.encapsulate(world.grant('encapsulate', wrapKey), {}))).toBe(
      'wrong_purpose',
    );
    expect(await codeOf(use.decapsulate(world.grant('decapsulate', wrapKey), input))).toBe(
      'wrong_purpose',
    );
  });

  it('a symmetric or signing suite serves no kem key', async () => {
    for (const suite of ['A256GCM', 'HS256', 'MLDSA65-ECDSA-P256-SHA512']) {
      expect(await codeOf(world.create({ suite, purpose: 'kem' }))).toBe('wrong_purpose');
    }
  });
});
