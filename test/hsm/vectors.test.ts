/** The published vectors with their classical half in the token. */
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import type { MlDsaParameterSet, MlKemParameterSet } from '../../src/crypto/engine.ts';
import type { Curve, KemSuite, SignatureSuite } from '../../src/crypto/suite.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import type { HsmKeySpec } from '../../src/hsm/port.ts';
import { expandSeed } from '../crypto/seed-expansion.ts';
import {
  classicalPublicKey,
  derivingCurve,
  HYBRID_KEMS,
  hex,
  pairSpec,
  splitCompositeKey,
  toHex,
} from '../crypto/software-halves.ts';
import { publicKeyOf } from '../crypto/classical-keys.ts';
import { hasPublishedFolder, report, TOTALS, vectorsOf } from '../vectors/published.ts';
import { importKeys } from './import-keys.ts';
import { makeToken, ROOT } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

interface Case {
  readonly suite: KemSuite;
  readonly pqSeed: Uint8Array;
  readonly scalar: Uint8Array;
  readonly encapsulation: string;
  readonly secret: string;
  readonly publicKey: string | undefined;
}

let fixture: TokenFixture;
let hsm: PooledHsm | undefined;

beforeAll(async () => {
  fixture = await makeToken();
});
afterEach(async () => {
  await hsm?.close();
  hsm = undefined;
});
afterAll(() => {
  fixture.remove();
});

const curveOf = derivingCurve;
const setOf = (suite: KemSuite) => suite.pq as MlKemParameterSet;

const deriving = (curve: Curve): HsmKeySpec =>
  curve === 'X25519' ? { kind: 'x25519', use: 'derive' } : { kind: 'ec', curve, use: 'derive' };

async function open(): Promise<PooledHsm> {
  hsm = await fixture.open();
  await hsm.useRoot(ROOT);
  return hsm;
}

async function decapsulateAll(cases: readonly Case[]): Promise<void> {
  const keys = await importKeys(
    fixture,
    cases.map(({ suite, scalar }) => ({
      spec: deriving(curveOf(suite)),
      scalar,
      publicKey: classicalPublicKey(curveOf(suite), scalar),
    })),
  );
  const port = await open();
  for (const [index, one] of cases.entries()) {
    const key = keys[index];
    if (key === undefined) throw new Error('a key was not imported');
    const seed = SecretBytes.copyOf(one.pqSeed);
    const pqKey = nativeEngine.mlKem.importSeed(setOf(one.suite), seed);
    const publicKey = one.suite.kem.joinPublicKey(nativeEngine, {
      pq: nativeEngine.mlKem.publicKey(setOf(one.suite), seed),
      classical: key.material.check,
    });
    if (one.publicKey !== undefined) expect(toHex(publicKey)).toBe(one.publicKey);
    const secret = await one.suite.kem.decapsulate(hex(one.encapsulation), publicKey, {
      pq: (ciphertext) => pqKey.decapsulate(ciphertext),
      classical: (peer) => port.ecdh(key, peer),
    });
    expect(toHex(secret.reveal())).toBe(one.secret);
  }
}

describe('hybrid KEM vectors with ECDH in the token', () => {
  it('CFRG concrete hybrids', async () => {
    const cases = vectorsOf('cfrg-hybrids').map((vector): Case => {
      const suite = findSuite(vector.suite) as KemSuite;
      const halves = expandSeed(curveOf(suite), hex(vector.seed));
      return {
        suite,
        ...halves,
        encapsulation: vector.ct,
        secret: vector.ss,
        publicKey: vector.pk,
      };
    });
    await decapsulateAll(cases);
    report(`CFRG hybrids in the token: ${cases.length}`);
    if (hasPublishedFolder()) expect(cases).toHaveLength(30);
  });

  it('X-Wing', async () => {
    const suite = findSuite('MLKEM768-X25519') as KemSuite;
    const cases = vectorsOf('xwing').map((vector): Case => {
      const halves = expandSeed('X25519', hex(vector.seed));
      return {
        suite,
        ...halves,
        encapsulation: vector.ct,
        secret: vector.ss,
        publicKey: vector.pk,
      };
    });
    await decapsulateAll(cases);
    report(`X-Wing in the token: ${cases.length}`);
    expect(cases).toHaveLength(3);
  });

  it('HPKE-PQ shared secrets of the hybrid KEMs', async () => {
    const kems = HYBRID_KEMS;
    const cases = vectorsOf('hpke-pq').flatMap((vector): Case[] => {
      const suite = kems.find((row) => row.hpke.kem === vector.kem_id);
      if (suite === undefined) return [];
      const halves = expandSeed(curveOf(suite), hex(vector.skRm));
      const { enc: encapsulation, shared_secret: secret, pkRm: publicKey } = vector;
      return [{ suite, ...halves, encapsulation, secret, publicKey }];
    });
    await decapsulateAll(cases);
    report(`HPKE-PQ hybrids in the token: ${cases.length}`);
    if (hasPublishedFolder()) expect(cases).toHaveLength(5);
  });
});

describe('RSA-OAEP in the token', () => {
  it('Wycheproof', async () => {
    const spec = { kind: 'rsa', bits: 3072, use: 'decrypt', hash: 'SHA-256' } as const;
    // The others have a label, which this service does not use.
    const vectors = vectorsOf('rsa-oaep').filter(({ label }) => label === '');
    const [first] = vectors;
    const node = createPrivateKey({ key: hex(first?.key ?? ''), format: 'der', type: 'pkcs8' });
    const pkcs1 = { format: 'der', type: 'pkcs1' } as const;
    const publicKey = Uint8Array.from(createPublicKey(node).export(pkcs1));
    const [key] = await importKeys(fixture, [{ spec, scalar: node.export(pkcs1), publicKey }]);
    if (key === undefined) throw new Error('the key was not imported');
    const port = await open();
    for (const { ct, msg, result } of vectors) {
      const opened = await port.decryptOaep(key, hex(ct)).then(
        (secret) => toHex(secret.reveal()),
        (error: unknown) => (TwofoldError.is(error) ? error.code : String(error)),
      );
      expect(opened).toBe(result === 'valid' ? msg : 'decryption_failed');
    }
    report(`RSA-OAEP in the token: ${vectors.length}`);
    if (hasPublishedFolder()) expect(vectors).toHaveLength(29);
  });
});

describe('composite signatures with the classical half in the token', () => {
  it('published keys sign, and both engines verify', async () => {
    const vectors = vectorsOf('composite-sigs');
    const parts = vectors.map((vector) => {
      const suite = findSuite(vector.suite) as SignatureSuite;
      const spec = pairSpec(suite);
      if (spec === null) throw new Error('a composite has two halves');
      return { vector, suite, spec, ...splitCompositeKey(suite, hex(vector.sk)) };
    });
    const keys = await importKeys(
      fixture,
      parts.map(({ spec, scalar }) => ({ spec, scalar, publicKey: publicKeyOf(spec, scalar) })),
    );
    const port = await open();
    for (const [index, { vector, suite, seed }] of parts.entries()) {
      const key = keys[index];
      if (key === undefined) throw new Error('a key was not imported');
      const pqKey = nativeEngine.signatures.importSeed(
        suite.pq as MlDsaParameterSet,
        SecretBytes.copyOf(seed),
      );
      const [message, context] = [hex(vector.message), hex(vector.context)];
      const signature = await suite.signer.sign({ message }, context, {
        pq: (m, c) => pqKey.sign(m, c),
        mu: (mu) => pqKey.signMu(mu),
        classical: (input) => port.sign(key, input),
      });
      for (const engine of [nativeEngine, portableEngine]) {
        const verify = (input: Uint8Array) =>
          suite.signer.verify(engine, hex(vector.pk), { message: input }, context, signature);
        expect(await verify(message)).toBe(true);
        expect(await verify(Uint8Array.of(...message, 1))).toBe(false);
      }
    }
    report(`composite signatures by the token: ${parts.length}`);
    // The extract has 17.
    expect(parts).toHaveLength(hasPublishedFolder() ? TOTALS['composite-sigs'] : 17);
  });
});
