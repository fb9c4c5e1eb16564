/**
 * P2: an unwrap succeeds only with every half of its suite right, says nothing of which was wrong, and
 * no operation answers a raw half.
 */
import { afterEach, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import type { DecapsulationKey, Engine } from '../../src/crypto/engine.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { SIGNATURE_LENGTHS } from '../../src/crypto/engine.ts';
import { isComposite } from '../../src/crypto/suite.ts';
import type { KemSuite } from '../../src/crypto/suite.ts';
import { SUITES } from '../../src/crypto/suites.ts';
import { ERRORS, TwofoldError } from '../../src/errors.ts';
import { codeOf, NO_BINDING, openWorld } from '../keyring/world.ts';
import type { World } from '../keyring/world.ts';
import { isWiped } from '../keyring/watched-hsm.ts';

// Keys of RSA with more bits take seconds each and say nothing more.
const ROWS = Object.values(SUITES).filter(({ id }) => !/3072|4096/.test(id));
const KEMS = ROWS.filter((suite) => suite.kind === 'kem');
const COMPOSITES = ROWS.filter((suite) => suite.kind === 'signature').filter(isComposite);

/** What a suite has, one wrong after the other, and all at once. */
function wrongHalvesOf({ pq, hsm }: KemSuite): readonly Tampering['wrong'][] {
  const has = [
    ...(pq === null ? [] : ['pq' as const]),
    ...(hsm === null ? [] : ['classical' as const]),
  ];
  return [...has.map((half) => [half]), ...(has.length === 2 ? [has] : [])];
}

/** The call by which the token opens its half. */
const callOf = ({ hsm }: KemSuite) => (hsm?.kind === 'rsa' ? 'decryptOaep' : 'ecdh');

/** Which secrets come out wrong, and a copy of every right one. */
interface Tampering {
  wrong: readonly ('pq' | 'classical' | 'psk')[];
  readonly raw: Uint8Array[];
}

const wrongOf = (secret: SecretBytes): SecretBytes => {
  const wrong = SecretBytes.own(randomBytes(secret.length));
  secret.wipe();
  return wrong;
};

function tamperedEngine(tampering: Tampering): Engine {
  const { mlKem } = nativeEngine;
  const tampered = (key: DecapsulationKey): DecapsulationKey => ({
    parameterSet: key.parameterSet,
    release: () => key.release(),
    decapsulate: async (ciphertext) => {
      const secret = await key.decapsulate(ciphertext);
      tampering.raw.push(secret.reveal().slice());
      return tampering.wrong.includes('pq') ? wrongOf(secret) : secret;
    },
  });
  const importSeed: typeof mlKem.importSeed = (set, seed) => {
    tampering.raw.push(seed.reveal().slice());
    return tampered(mlKem.importSeed(set, seed));
  };
  const encapsulate: typeof mlKem.encapsulate = async (set, publicKey) => {
    const made = await mlKem.encapsulate(set, publicKey);
    tampering.raw.push(made.sharedSecret.reveal().slice());
    return made;
  };
  return { ...nativeEngine, mlKem: { ...mlKem, importSeed, encapsulate } };
}

const worlds: World[] = [];
afterEach(async () => {
  for (const world of worlds.splice(0)) await world.stop();
});

async function tamperedWorld() {
  const tampering: Tampering = { wrong: [], raw: [] };
  const world = await openWorld({ engine: tamperedEngine(tampering) });
  worlds.push(world);
  const { device } = world;
  device.answer = (call, secret) => {
    const half =
      call === 'ecdh' || call === 'decryptOaep'
        ? 'classical'
        : call === 'decrypt' && secret.length === 32
          ? 'psk'
          : null;
    if (half === null) return secret;
    tampering.raw.push(secret.reveal().slice());
    return tampering.wrong.includes(half) ? wrongOf(secret) : secret;
  };
  return { world, tampering };
}

/** Everything that an answer could be made of. */
async function refusal(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    if (!TwofoldError.is(error)) throw error;
    const { code, detail, retryAfter, message } = error;
    return { code, detail, retryAfter, message, row: ERRORS[code] };
  }
  return 'no error';
}

describe.each(KEMS.map((suite) => [suite.id, suite] as const))('%s', (id, suite: KemSuite) => {
  it('opens with every secret right, and with any one wrong refuses in one and the same way', async () => {
    const { world, tampering } = await tamperedWorld();
    const key = await world.create({ suite: id });
    const ciphertext = await world.wrap(key, 'plain');
    const open = (bytes = ciphertext) =>
      world.keyring.use.unwrap(world.grant('unwrap', key), {
        ciphertext: bytes,
        binding: NO_BINDING,
      });
    expect(await world.unwrap(key, ciphertext)).toBe('plain');
    const refusals: unknown[] = [];
    for (const wrong of wrongHalvesOf(suite)) {
      tampering.wrong = wrong;
      refusals.push(await refusal(open()));
    }
    tampering.wrong = [];
    const split = 24 + suite.kem.lengths.encapsulation;
    // In turn: the encapsulation of each half, the AEAD output, its tag.
    for (const at of [
      24,
      24 + Math.trunc((split - 24) / 2),
      split - 1,
      split,
      ciphertext.length - 1,
    ]) {
      const flipped = Uint8Array.from(ciphertext, (byte, index) =>
        index === at ? byte ^ 1 : byte,
      );
      refusals.push(await refusal(open(flipped)));
    }
    expect(refusals[0]).toMatchObject({ code: 'decryption_failed', detail: undefined });
    expect(refusals[0]).toMatchObject({ row: { status: 422, exposesDetail: false } });
    for (const found of refusals) expect(found).toEqual(refusals[0]);
    expect(await world.unwrap(key, ciphertext)).toBe('plain');
  });

  it('is not opened by its asymmetric halves without the secret of its version', async () => {
    const { world, tampering } = await tamperedWorld();
    const key = await world.create({ suite: id });
    const ciphertext = await world.wrap(key, 'plain');
    const { manage } = world.keyring;
    const run = {
      dryRun: false,
      requestId: 'r',
      ended: Promise.resolve(),
      source: 's',
      ifMatch: null,
      idempotency: null,
      render: () => ({ status: 200, body: '' }),
    };
    // The change empties the cache, so that the psk is unsealed anew.
    await manage.update(world.grant('keys.update', key), { labels: { a: '1' } }, run);
    tampering.wrong = ['psk'];
    expect(await codeOf(world.unwrap(key, ciphertext))).toBe('decryption_failed');
  });

  it('fails as a whole when the token does not answer', async () => {
    if (suite.hsm === null) return;
    const { world } = await tamperedWorld();
    const key = await world.create({ suite: id });
    const ciphertext = await world.wrap(key, 'plain');
    await world.unwrap(key, ciphertext);
    world.device.fault = (call) => (call === callOf(suite) ? 'before' : 'none');
    expect(await codeOf(world.unwrap(key, ciphertext))).toBe('hsm_unavailable');
  });

  it('answers no raw half, seed or psk, and leaves none of them behind', async () => {
    const { world, tampering } = await tamperedWorld();
    const wrapping = await world.create({ suite: id });
    const kem = await world.create({ suite: id, purpose: 'kem' });
    const { use } = world.keyring;
    const ciphertext = await world.wrap(wrapping, 'plain');
    const made = await use.encapsulate(world.grant('encapsulate', kem), {});
    const answers: unknown[] = [
      ciphertext,
      made,
      await use.unwrap(world.grant('unwrap', wrapping), { ciphertext, binding: NO_BINDING }),
      await use.rewrap(world.grant('rewrap', wrapping), null, { ciphertext, binding: NO_BINDING }),
      await use.decapsulate(world.grant('decapsulate', kem), {
        encapsulation: made.encapsulation,
        keyVersion: 1,
      }),
      await world.keyring.read.get(world.grant('keys.read', wrapping)),
    ];
    expect(tampering.raw.length).toBeGreaterThan(4);
    const hex = answers
      .flatMap((answer) => [...bytesOf(answer)])
      .map((bytes) => Buffer.from(bytes).toString('hex'));
    expect(hex.length).toBeGreaterThanOrEqual(9);
    for (const raw of tampering.raw) {
      const secret = Buffer.from(raw).toString('hex');
      expect(hex.filter((text) => text.includes(secret))).toEqual([]);
    }
    world.keyring.close();
    await new Promise((resolve) => setImmediate(resolve));
    expect(world.device.given.every(isWiped)).toBe(true);
  });
});

/** Every byte string in an answer, at any depth, secret or not. */
function* bytesOf(value: unknown): Generator<Uint8Array> {
  if (value instanceof SecretBytes) yield value.reveal();
  else if (value instanceof Uint8Array) yield value;
  else if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) yield* bytesOf(member);
  }
}

describe.each(COMPOSITES.map((suite) => [suite.id, suite] as const))('%s', (id, suite) => {
  it('signs with both halves or not at all', async () => {
    const { world } = await tamperedWorld();
    const key = await world.create({ suite: id });
    world.device.fault = (call) => (call === 'sign' ? 'before' : 'none');
    const input = { message: Buffer.from('m'), signatureContext: new Uint8Array(0) };
    expect(await codeOf(world.keyring.use.sign(world.grant('sign', key), input))).toBe(
      'hsm_unavailable',
    );
  });

  it('verifies only when both halves do', async () => {
    const { world } = await tamperedWorld();
    const split = SIGNATURE_LENGTHS[suite.pq].signature;
    const [one, two] = [await world.create({ suite: id }), await world.create({ suite: id })];
    const input = { message: Buffer.from('m'), signatureContext: new Uint8Array(0) };
    const { use } = world.keyring;
    const { signature: right } = await use.sign(world.grant('sign', one), input);
    const { signature: other } = await use.sign(world.grant('sign', two), input);
    const valid = async (signature: Uint8Array) =>
      (await use.verify(world.grant('verify', one), { ...input, signature })).valid;
    expect(await valid(right)).toBe(true);
    expect(await valid(Buffer.concat([right.subarray(0, split), other.subarray(split)]))).toBe(
      false,
    );
    expect(await valid(Buffer.concat([other.subarray(0, split), right.subarray(split)]))).toBe(
      false,
    );
  });
});
