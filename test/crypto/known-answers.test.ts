import { createCipheriv, createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it } from '@jest/globals';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256, sha384 } from '@noble/hashes/sha2.js';

import { runKnownAnswers } from '../../src/crypto/known-answers.ts';
import {
  AES_256_GCM_ANSWER,
  ECDH_ANSWERS,
  ECDSA_ANSWERS,
  HMAC_SHA256_ANSWER,
} from '../../src/crypto/known-answers-classical.ts';
import {
  COMBINER_ANSWERS,
  COMPOSITE_ANSWERS,
  COMPOSITE_CONTEXT,
  COMPOSITE_MESSAGE,
  ML_KEM_ANSWERS,
} from '../../src/crypto/known-answers-pq.ts';
import { SIGNATURE_LENGTHS } from '../../src/crypto/engine.ts';
import { SIGNATURE_ANSWERS } from '../../src/crypto/known-answers-signatures.ts';
import { HKDF_ANSWERS, VERIFICATION_ANSWERS } from '../../src/crypto/known-answers-verification.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { messageRepresentative } from '../../src/crypto/signature.ts';
import { FOLDER, hasPublishedFolder, report, vectorsOf } from '../vectors/published.ts';
import { signDigest } from './classical-keys.ts';
import { classicalPublicKey, derive, toHex } from './software-halves.ts';
import type { Engine, MlKem, Signatures } from '../../src/crypto/engine.ts';

const ALGORITHMS = [
  'SHA3-256',
  'SHAKE256',
  'HMAC-SHA-256',
  'AES-256-GCM',
  'ECDH-P-256',
  'ECDH-P-384',
  'X25519',
  'ECDSA-P-256',
  'ECDSA-P-384',
  'ECDSA-P-521',
  'Ed25519',
  'RSASSA-PSS',
  'RSASSA-PKCS1-v1_5',
  'HKDF-SHA-256',
  'HKDF-SHA-384',
  'ML-KEM-512',
  'ML-KEM-768',
  'ML-KEM-1024',
  'ML-DSA-44',
  'ML-DSA-65',
  'ML-DSA-87',
  'MLKEM768-P256',
  'MLKEM768-X25519',
  'MLKEM1024-P384',
  'MLDSA65-ECDSA-P256-SHA512',
  'MLDSA87-ECDSA-P384-SHA512',
];

const failing = async (engine: Engine) =>
  (await runKnownAnswers(engine)).filter(({ passed }) => !passed).map((row) => row.algorithm);

/** The native engine with one operation that lies. */
function broken(change: {
  readonly mlKem?: Partial<MlKem>;
  readonly signatures?: Partial<Signatures>;
}): Engine {
  return {
    ...nativeEngine,
    mlKem: { ...nativeEngine.mlKem, ...change.mlKem },
    signatures: { ...nativeEngine.signatures, ...change.signatures },
  };
}

describe('known answers', () => {
  it.each([nativeEngine, portableEngine])('all pass with the $name engine', async (engine) => {
    const results = await runKnownAnswers(engine);
    expect(results).toEqual(ALGORITHMS.map((algorithm) => ({ algorithm, passed: true })));
  });

  it('cover the suites that a start checks', () => {
    const hybrids = ['MLKEM768-P256', 'MLKEM768-X25519', 'MLKEM1024-P384'];
    const composites = ['MLDSA65-ECDSA-P256-SHA512', 'MLDSA87-ECDSA-P384-SHA512'];
    for (const id of [...hybrids, ...composites]) expect(ALGORITHMS).toContain(id);
  });

  it('find an engine that ignores the ML-DSA context when it signs and verifies', async () => {
    const none = new Uint8Array(0);
    const { signatures } = nativeEngine;
    const deaf = broken({
      signatures: {
        importSeed: (set, seed) => {
          const key = signatures.importSeed(set, seed);
          return { ...key, sign: (message) => key.sign(message, none) };
        },
        verify: (set, pk, message, signature) =>
          signatures.verify(set, pk, message, signature, none),
      },
    });
    expect(await failing(deaf)).toEqual([
      'ML-DSA-44',
      'ML-DSA-65',
      'ML-DSA-87',
      'MLDSA65-ECDSA-P256-SHA512',
      'MLDSA87-ECDSA-P384-SHA512',
    ]);
  });

  it('find an engine that verifies everything', async () => {
    const gullible = broken({ signatures: { verify: async () => true } });
    expect(await failing(gullible)).toEqual(expect.arrayContaining(['ML-DSA-65', 'ML-DSA-87']));
  });

  it('find an engine with a wrong shared secret, and one that throws', async () => {
    const wrong = broken({
      mlKem: {
        importSeed: (set, seed) => ({
          ...nativeEngine.mlKem.importSeed(set, seed),
          decapsulate: async () => SecretBytes.own(new Uint8Array(32)),
        }),
      },
    });
    expect(await failing(wrong)).toEqual(['ML-KEM-512', 'ML-KEM-768', 'ML-KEM-1024']);
    const throwing = broken({
      mlKem: {
        encapsulate: () => Promise.reject(new Error('no entropy')),
      },
    });
    const results = await runKnownAnswers(throwing);
    const kem = results.find(({ algorithm }) => algorithm === 'ML-KEM-768');
    expect(kem).toMatchObject({ passed: false, cause: new Error('no entropy') });
  });
});

describe('the constants of the known answers', () => {
  it('post-quantum and composite ones are published vectors', () => {
    const hybrids = vectorsOf('cfrg-hybrids');
    for (const answer of COMBINER_ANSWERS) {
      const vector = hybrids.find(({ ss }) => ss === toHex(answer.sharedSecret));
      expect(vector?.suite).toBe(answer.suite);
      expect(vector?.pk.endsWith(toHex(answer.classicalPublicKey))).toBe(true);
      expect(vector?.ct.endsWith(toHex(answer.ephemeralPublicKey))).toBe(true);
    }
    const encapsulations = [
      ...hybrids.map(({ ct }) => ct),
      ...vectorsOf('hpke-pq').map(({ enc }) => enc),
    ];
    for (const { ciphertext } of ML_KEM_ANSWERS) {
      expect(encapsulations.some((ct) => ct.startsWith(toHex(ciphertext)))).toBe(true);
    }
    for (const answer of COMPOSITE_ANSWERS) {
      const signature = toHex(answer.signature);
      const vector = vectorsOf('composite-sigs').find((row) => row.signature === signature);
      expect(vector).toMatchObject({
        suite: answer.suite,
        message: toHex(COMPOSITE_MESSAGE),
        context: toHex(COMPOSITE_CONTEXT),
      });
    }
  });

  it('those of signature sets are published vectors, one for each set', () => {
    expect([...SIGNATURE_ANSWERS.keys()].sort()).toEqual(Object.keys(SIGNATURE_LENGTHS).sort());
    const published = new Map<string, string>([
      ...vectorsOf('slh-dsa-keygen').map(({ seed, pk }) => [seed, pk] as const),
      ...vectorsOf('falcon').map(({ set, message, pk }) => [`${set} ${message}`, pk] as const),
    ]);
    for (const { set, seed, known, publicKeySha3 } of SIGNATURE_ANSWERS.values()) {
      if (set.startsWith('ML-DSA')) continue;
      const name = known === null ? toHex(seed) : `${set} ${toHex(known.message)}`;
      const pk = Buffer.from(published.get(name) ?? '', 'hex');
      expect([set, createHash('sha3-256').update(pk).digest('hex')]).toEqual([
        set,
        toHex(publicKeySha3),
      ]);
    }
  });

  it('those of verification are halves of published composites', async () => {
    if (!hasPublishedFolder()) {
      report('known answers of verification: NOT compared');
      return;
    }
    const file = join(FOLDER, 'composite-sigs/testvectors.json');
    const published = JSON.parse(readFileSync(file, 'utf8')) as {
      readonly m: string;
      readonly tests: readonly { readonly tcId: string; readonly pk: string; readonly s: string }[];
    };
    const message = Buffer.from(published.m, 'base64');
    for (const answer of VERIFICATION_ANSWERS) {
      const row = published.tests.find(({ tcId }) => tcId === `id-${answer.suite}`);
      const tail = (text: string | undefined, { length }: Uint8Array) =>
        Buffer.from(text ?? '', 'base64')
          .subarray(-length)
          .toString('hex');
      expect(tail(row?.pk, answer.publicKey)).toBe(toHex(answer.publicKey));
      expect(tail(row?.s, answer.signature)).toBe(toHex(answer.signature));
      const hash = answer.suite.endsWith('SHA512') ? 'SHA-512' : 'SHA-256';
      const label = `COMPSIG-${answer.suite}`;
      const signed = messageRepresentative(label, hash, { message }, new Uint8Array(0));
      expect(toHex(signed)).toBe(toHex(answer.message));
    }
  });

  it('those of HKDF agree with noble', () => {
    for (const { hash, keyMaterial, salt, info, output } of HKDF_ANSWERS) {
      const noble = hash === 'SHA-256' ? sha256 : sha384;
      expect(toHex(hkdf(noble, keyMaterial, salt, info, output.length))).toBe(toHex(output));
    }
  });

  it('classical ones agree with other code, and with each other', () => {
    for (const { curve, privateKey, peerPublicKey, secret } of ECDH_ANSWERS) {
      const derived = derive(curve, privateKey, peerPublicKey);
      expect(toHex(derived.reveal())).toBe(toHex(secret));
    }
    for (const { curve, hash, privateKey, publicKey, message, signature } of ECDSA_ANSWERS) {
      expect(toHex(classicalPublicKey(curve, privateKey))).toBe(toHex(publicKey));
      const digest = createHash(hash.replace('-', '')).update(message).digest();
      // RFC 6979 is what noble signs by: the signature itself comes back.
      expect(toHex(signDigest(curve, privateKey, digest))).toBe(toHex(signature));
    }
    const { key, message, mac } = HMAC_SHA256_ANSWER;
    expect(createHmac('sha256', key).update(message).digest('hex')).toBe(toHex(mac));
    const gcm = AES_256_GCM_ANSWER;
    const cipher = createCipheriv('aes-256-gcm', gcm.key, gcm.nonce);
    cipher.setAAD(gcm.associatedData);
    const body = [cipher.update(gcm.plaintext), cipher.final(), cipher.getAuthTag()];
    expect(Buffer.concat(body).toString('hex')).toBe(toHex(gcm.ciphertext));
  });
});
