/**
 * P8: data stored under an earlier version of this software, suite by suite, stays readable; so does
 * data under every earlier version of a key. `p8-stored-data.json` is never made anew.
 */
import { readFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { decodeEnvelopeText, parseEnvelope } from '../../src/crypto/envelope.ts';
import type { Engine } from '../../src/crypto/engine.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import type { Hash, SignatureInput } from '../../src/crypto/suite.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { openEnvelope, openSymmetric } from '../../src/crypto/wrap.ts';
import { importKeys } from '../hsm/import-keys.ts';
import { makeToken, ROOT } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import {
  aRun,
  codeOf,
  NO_BINDING,
  openWorld,
  SIGN_SUITES,
  WRAP_SUITES,
  toSuite,
} from '../keyring/world.ts';
import type { World } from '../keyring/world.ts';
import { aeadOf, bytes, halvesOf, publicKeyOf, secretOf } from './p8-stored-keys.ts';
import type { StoredWrap } from './p8-stored-keys.ts';

interface StoredSignature {
  readonly suite: string;
  readonly publicKey: string;
  readonly message: string;
  readonly context: string;
  readonly signature: string;
}

/** Hex; `check` is the check value that the key's row holds. */
interface StoredMac {
  readonly suite: string;
  readonly key: string;
  readonly check: string;
  readonly message: string;
  readonly mac: string;
}

const stored = JSON.parse(
  readFileSync(new URL('p8-stored-data.json', import.meta.url), 'utf8'),
) as {
  readonly wraps: readonly StoredWrap[];
  readonly signatures: readonly StoredSignature[];
  readonly macs: readonly StoredMac[];
  readonly numbers: Readonly<Record<string, number>>;
};

function serves(engine: Engine, id: string): boolean {
  const { pq } = findSuite(id);
  return pq === null || engine.implementationOf(pq) !== null;
}

const digestOf = (algorithm: Hash, message: Uint8Array) => ({
  algorithm,
  value: createHash(algorithm).update(message).digest(),
});

describe('data of an earlier software version', () => {
  it('has every suite that there was, under the number that it had', () => {
    for (const [id, number] of Object.entries(stored.numbers))
      expect(findSuite(id).number).toBe(number);
    const covered = [...stored.wraps, ...stored.signatures, ...stored.macs].map(
      ({ suite }) => suite,
    );
    expect(covered.toSorted()).toEqual(
      expect.arrayContaining(Object.keys(stored.numbers).toSorted()),
    );
  });

  it.each(
    stored.wraps.flatMap((wrap) =>
      Object.entries(wrap.envelopes).map(([mode, text]) => [wrap.suite, mode, text, wrap] as const),
    ),
  )('opens: %s, mode %s', async (_suite, mode, text, wrap) => {
    const envelope = parseEnvelope(decodeEnvelopeText(text));
    expect(envelope).toMatchObject({ mode, keyId: wrap.keyId, keyVersion: wrap.keyVersion });
    expect(envelope.suite).toBe(findSuite(wrap.suite));
    const context = { encryptionContext: wrap.encryptionContext, aad: bytes(wrap.aad) };
    const opened =
      envelope.mode === 'symmetric'
        ? openSymmetric(envelope, { key: aeadOf(wrap, envelope.nonce), context })
        : openEnvelope(envelope, {
            publicKey: publicKeyOf(envelope.suite, wrap),
            halves: halvesOf(envelope.suite, wrap),
            psk: secretOf(wrap.psk),
            context,
          });
    expect(Buffer.from((await opened).reveal()).toString('hex')).toBe(wrap.plaintext);
  });

  it.each(
    stored.signatures.flatMap((signed) =>
      [nativeEngine, portableEngine]
        .filter((engine) => serves(engine, signed.suite))
        .map((engine) => [signed.suite, engine.name, signed, engine] as const),
    ),
  )('verifies: %s by the %s engine', async (id, _name, signed, engine) => {
    const suite = findSuite(id);
    if (suite.kind !== 'signature') throw new TypeError('not a signature suite');
    const message = bytes(signed.message);
    const { prehash } = suite.signer;
    const inputs: readonly SignatureInput[] = [
      { message },
      ...(prehash === null ? [] : [{ digest: digestOf(prehash, message) }]),
    ];
    for (const input of inputs) {
      const [key, context, signature] = [signed.publicKey, signed.context, signed.signature].map(
        bytes,
      );
      if (key === undefined || context === undefined || signature === undefined)
        throw new TypeError();
      expect(await suite.signer.verify(engine, key, input, context, signature)).toBe(true);
    }
  });
});

describe('MACs of an earlier software version', () => {
  let fixture: TokenFixture;
  beforeAll(async () => {
    fixture = await makeToken();
  }, 60_000);
  afterAll(() => {
    fixture.remove();
  });

  it.each(stored.macs.map((made) => [made.suite, made] as const))(
    'are made again in the token: %s',
    async (id, made) => {
      const { kind, hsm: need } = findSuite(id);
      if (kind !== 'mac' || need.kind !== 'hmac') throw new TypeError('not a MAC suite');
      const { key, check, message, mac } = made;
      const imported = { spec: need, scalar: bytes(key), publicKey: bytes(check) };
      const [stored] = await importKeys(fixture, [imported]);
      if (stored === undefined) throw new TypeError();
      const hsm = await fixture.open();
      try {
        await hsm.useRoot(ROOT);
        expect(Buffer.from(await hsm.mac(stored, bytes(message))).toString('hex')).toBe(mac);
      } finally {
        await hsm.close();
      }
    },
  );
});

describe('data of earlier versions of a key', () => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld();
  });
  afterAll(() => world.stop());
  const rotate = (key: string, suite: string) =>
    world.keyring.manage.rotate(world.grant('keys.rotate', key), toSuite(suite), aRun());

  it('opens after rotations through every wrap suite, and rewraps to the newest', async () => {
    const id = await world.create({ suite: WRAP_SUITES[0] });
    const old: Uint8Array[] = [];
    for (const suite of WRAP_SUITES) {
      if (suite !== WRAP_SUITES[0]) await rotate(id, suite);
      old.push(await world.wrap(id, suite));
    }
    for (const [index, ciphertext] of old.entries()) {
      expect(await world.unwrap(id, ciphertext)).toBe(WRAP_SUITES[index]);
      const input = { ciphertext, binding: NO_BINDING };
      const rewrapped = await world.keyring.use.rewrap(world.grant('rewrap', id), null, input);
      expect(rewrapped.changed).toBe(index !== old.length - 1);
      expect(rewrapped.used.keyVersion).toBe(WRAP_SUITES.length);
      expect(await world.unwrap(id, rewrapped.ciphertext)).toBe(WRAP_SUITES[index]);
    }
  });

  it('verifies and decapsulates under the version that its answer named', async () => {
    const { use } = world.keyring;
    const signer = await world.create({ suite: SIGN_SUITES[0] });
    const input = { message: Buffer.from('m'), signatureContext: new Uint8Array(0) };
    const signed = await use.sign(world.grant('sign', signer), input);
    const kem = await world.create({ suite: WRAP_SUITES[0], purpose: 'kem' });
    const made = await use.encapsulate(world.grant('encapsulate', kem), {});
    const macKey = await world.create({ suite: 'HS256' });
    const mac = await use.mac(world.grant('mac', macKey), { message: input.message });
    await rotate(signer, SIGN_SUITES[1]);
    await rotate(kem, WRAP_SUITES[2]);
    await rotate(macKey, 'HS256');
    const verified = await use.verify(world.grant('verify', signer), {
      ...input,
      signature: signed.signature,
      keyVersion: signed.used.keyVersion,
    });
    expect(verified.valid).toBe(true);
    const opened = await use.decapsulate(world.grant('decapsulate', kem), {
      encapsulation: made.encapsulation,
      keyVersion: made.used.keyVersion,
    });
    expect(opened.sharedSecret.reveal()).toEqual(made.sharedSecret.reveal());
    const macked = await use.verifyMac(world.grant('verify-mac', macKey), {
      message: input.message,
      mac: mac.mac.reveal(),
      keyVersion: mac.used.keyVersion,
    });
    expect(macked.valid).toBe(true);
    const notNew = { encapsulation: made.encapsulation, keyVersion: 2 };
    expect(await codeOf(use.decapsulate(world.grant('decapsulate', kem), notNew))).toBe(
      'decryption_failed',
    );
  });
});
