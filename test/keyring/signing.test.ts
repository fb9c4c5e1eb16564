import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { findSuite } from '../../src/crypto/suites.ts';
import type { SignInput } from '../../src/keyring/operations.ts';
import { aRun, codeOf, openWorld, SIGN_SUITES, toSuite } from './world.ts';
import type { World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world.stop());

const NO_CONTEXT = new Uint8Array(0);
const message = Buffer.from('a message');
const digestOf = (algorithm: 'SHA-256' | 'SHA-512'): SignInput => ({
  digest: {
    algorithm,
    value: createHash(algorithm.replace('-', '').toLowerCase()).update(message).digest(),
  },
});
const sign = (
  key: string,
  input: SignInput,
  signatureContext: Uint8Array = NO_CONTEXT,
  keyVersion?: number,
) =>
  world.keyring.use.sign(world.grant('sign', key), {
    ...input,
    signatureContext,
    ...(keyVersion === undefined ? {} : { keyVersion }),
  });
const verify = (
  key: string,
  input: SignInput,
  signature: Uint8Array,
  signatureContext: Uint8Array = NO_CONTEXT,
  keyVersion?: number,
) =>
  world.keyring.use.verify(world.grant('verify', key), {
    ...input,
    signature,
    signatureContext,
    ...(keyVersion === undefined ? {} : { keyVersion }),
  });
const rotate = (key: string, suite?: string) =>
  world.keyring.manage.rotate(world.grant('keys.rotate', key), toSuite(suite), aRun());

describe.each(SIGN_SUITES)('%s', (suite) => {
  it('signs a message or its digest alike, bound to the context', async () => {
    const id = await world.create({ suite });
    const context = Buffer.from('release');
    const { signature, used } = await sign(id, { message }, context);
    expect(used).toMatchObject({ keyId: id, keyVersion: 1, suite });
    const valid = async (...args: Parameters<typeof verify>) => (await verify(...args)).valid;
    expect(await valid(id, { message }, signature, context)).toBe(true);
    expect(await valid(id, digestOf('SHA-512'), signature, context)).toBe(true);
    expect(await valid(id, { message }, signature)).toBe(false);
    expect(await valid(id, { message: Buffer.from('another') }, signature, context)).toBe(false);
    const ofDigest = await sign(id, digestOf('SHA-512'));
    expect(await valid(id, { message }, ofDigest.signature)).toBe(true);
    const another = await world.create({ suite });
    expect(await valid(another, { message }, signature, context)).toBe(false);
  });

  it('is valid only as a whole: a false bit in either half, or a half of another signature', async () => {
    const id = await world.create({ suite });
    const [one, two] = [await sign(id, { message }), await sign(id, { message: Buffer.from('2') })];
    const found = findSuite(suite);
    const split = found.kind === 'signature' && found.pq === 'ML-DSA-65' ? 3309 : 4627;
    const parts = ({ signature }: { signature: Uint8Array }) => [
      signature.subarray(0, split),
      signature.subarray(split),
    ];
    const [pqOne = NO_CONTEXT, classicalOne = NO_CONTEXT] = parts(one);
    const [pqTwo = NO_CONTEXT, classicalTwo = NO_CONTEXT] = parts(two);
    const mixed = [
      Buffer.concat([pqOne, classicalTwo]),
      Buffer.concat([pqTwo, classicalOne]),
      pqOne,
      classicalOne,
      NO_CONTEXT,
      Buffer.concat([one.signature, Buffer.of(0)]),
    ];
    for (const signature of mixed)
      expect((await verify(id, { message }, signature)).valid).toBe(false);
    for (let at = 0; at < one.signature.length; at += 97) {
      const flipped = Uint8Array.from(one.signature);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8));
      expect((await verify(id, { message }, flipped)).valid).toBe(false);
    }
  });

  it('takes its own digest only, and a context of 255 bytes at most', async () => {
    const id = await world.create({ suite });
    expect(await codeOf(sign(id, digestOf('SHA-256')))).toBe('invalid_value');
    expect(await codeOf(verify(id, digestOf('SHA-256'), NO_CONTEXT))).toBe('invalid_value');
    expect(await codeOf(sign(id, { message }, new Uint8Array(256)))).toBe('invalid_value');
    expect(await codeOf(sign(id, { message }, new Uint8Array(255)))).toBe('no error');
  });
});

describe('versions', () => {
  it('verifies under a named version; unnamed, only while one is usable', async () => {
    const id = await world.create({ suite: SIGN_SUITES[0] });
    const { signature } = await sign(id, { message });
    await rotate(id, SIGN_SUITES[1]);
    expect(await codeOf(verify(id, { message }, signature))).toBe('ambiguous_version');
    expect((await verify(id, { message }, signature, NO_CONTEXT, 1)).valid).toBe(true);
    expect((await verify(id, { message }, signature, NO_CONTEXT, 2)).valid).toBe(false);
    expect(await codeOf(verify(id, { message }, signature, NO_CONTEXT, 3))).toBe(
      'version_not_found',
    );
    expect((await sign(id, { message })).used).toMatchObject({
      keyVersion: 2,
      suite: SIGN_SUITES[1],
    });
    expect((await sign(id, { message }, NO_CONTEXT, 1)).used.keyVersion).toBe(1);
    const { manage } = world.keyring;
    const input = { version: 1, reason: 'test' };
    await manage.suspendVersion(world.grant('versions.suspend', id), input, aRun());
    expect((await verify(id, { message }, signature)).used.keyVersion).toBe(2);
    expect(await codeOf(verify(id, { message }, signature, NO_CONTEXT, 1))).toBe(
      'version_not_usable',
    );
  });

  it('a suspended key neither signs nor verifies', async () => {
    const id = await world.create({ suite: SIGN_SUITES[0] });
    const { signature } = await sign(id, { message });
    const { manage } = world.keyring;
    await manage.suspend(world.grant('keys.suspend', id), { reason: 'test' }, aRun());
    expect(await codeOf(sign(id, { message }))).toBe('version_not_usable');
    expect(await codeOf(verify(id, { message }, signature))).toBe('version_not_usable');
    expect(await codeOf(verify(id, { message }, signature, NO_CONTEXT, 1))).toBe(
      'version_not_usable',
    );
  });

  it('a key of another purpose does neither', async () => {
    const id = await world.create();
    expect(await codeOf(sign(id, { message }))).toBe('wrong_purpose');
    expect(await codeOf(verify(id, { message }, NO_CONTEXT))).toBe('wrong_purpose');
  });
});

describe('HS256', () => {
  const mac = (key: string, keyVersion?: number) =>
    world.keyring.use.mac(world.grant('mac', key), {
      message,
      ...(keyVersion === undefined ? {} : { keyVersion }),
    });
  const verifyMac = (key: string, value: Uint8Array, keyVersion?: number) =>
    world.keyring.use.verifyMac(world.grant('verify-mac', key), {
      message,
      mac: value,
      ...(keyVersion === undefined ? {} : { keyVersion }),
    });

  it('is verified whole, in the HSM, under its version', async () => {
    const id = await world.create({ suite: 'HS256' });
    const first = (await mac(id)).mac.reveal().slice();
    expect(first).toHaveLength(32);
    expect((await verifyMac(id, first)).valid).toBe(true);
    for (const wrong of [first.subarray(0, 31), Buffer.concat([first, Buffer.of(0)]), NO_CONTEXT]) {
      expect((await verifyMac(id, wrong)).valid).toBe(false);
    }
    const flipped = Uint8Array.from(first, (byte, at) => (at === 31 ? byte ^ 1 : byte));
    expect((await verifyMac(id, flipped)).valid).toBe(false);
    await rotate(id);
    expect(await codeOf(verifyMac(id, first))).toBe('ambiguous_version');
    expect((await verifyMac(id, first, 1)).valid).toBe(true);
    expect((await verifyMac(id, first, 2)).valid).toBe(false);
    expect((await mac(id)).used.keyVersion).toBe(2);
    expect(Buffer.from((await mac(id, 1)).mac.reveal())).toEqual(Buffer.from(first));
  });

  it('is no row MAC: a message is never MACed under root-mac', async () => {
    const id = await world.create({ suite: 'HS256' });
    const [of, row] = [(await mac(id)).mac.reveal(), await world.root.mac(message)];
    expect(Buffer.from(of)).not.toEqual(Buffer.from(row));
  });
});

describe('random', () => {
  const random = (bytes: number) => world.keyring.use.random(world.grant('random', null), bytes);

  it('gives 1 to 4,096 bytes of the HSM', async () => {
    for (const bytes of [1, 32, 4096]) expect((await random(bytes)).length).toBe(bytes);
    for (const bytes of [0, -1, 4097, 1.5, Number.NaN]) {
      expect(await codeOf(random(bytes))).toBe('invalid_value');
    }
  });
});
