import { createPrivateKey, decapsulate } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import { ml_kem1024, ml_kem512, ml_kem768 } from '@noble/post-quantum/ml-kem.js';

import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { hasPublishedFolder, report, vectorsOf } from '../vectors/published.ts';
import { hex, toHex } from './software-halves.ts';
import type { Engine, Implementation, MlKemParameterSet } from '../../src/crypto/engine.ts';
import type { MlKemVector } from '../vectors/published.ts';

const NOBLE = { 'ML-KEM-512': ml_kem512, 'ML-KEM-768': ml_kem768, 'ML-KEM-1024': ml_kem1024 };

/** Last arc of the OID (RFC 9935) and length of the expanded private key. */
const EXPANDED: Readonly<Record<MlKemParameterSet, { arc: number; length: number }>> = {
  'ML-KEM-512': { arc: 1, length: 1632 },
  'ML-KEM-768': { arc: 2, length: 2400 },
  'ML-KEM-1024': { arc: 3, length: 3168 },
};

const u16 = (n: number) => n.toString(16).padStart(4, '0');

/** The library under an engine with an expanded private key, which no engine of ours takes. */
type ExpandedDecapsulation = (set: MlKemParameterSet, dk: Uint8Array, c: Uint8Array) => Uint8Array;

/** PKCS#8 with the expandedKey choice (RFC 9935 section 6). */
const nativeDecapsulation: ExpandedDecapsulation = (set, dk, c) => {
  const { arc, length } = EXPANDED[set];
  const algorithm = `300b060960864801650304040${String(arc)}`;
  const octets = `0482${u16(length + 4)}0482${u16(length)}${toHex(dk)}`;
  const body = `020100${algorithm}${octets}`;
  const key = Buffer.from(`3082${u16(body.length / 2)}${body}`, 'hex');
  return decapsulate(createPrivateKey({ key, format: 'der', type: 'pkcs8' }), c);
};

const portableDecapsulation: ExpandedDecapsulation = (set, dk, c) => NOBLE[set].decapsulate(c, dk);

/** How each case of encapDecap ran, or why it could not; asserted below. */
type Outcome =
  | 'through the engine'
  | 'expanded key, composed by the test'
  | 'given randomness, composed by the test'
  | 'given randomness, left to the other engine';

function run(engine: Engine, vector: MlKemVector): Outcome {
  const { set, ek = '', dk = '', c = '', k, m = '' } = vector;
  const decapsulateExpanded =
    engine.name === 'native' ? nativeDecapsulation : portableDecapsulation;
  switch (vector.function) {
    case 'encapsulation': {
      engine.mlKem.checkPublicKey(set, hex(ek));
      if (engine.name === 'native') return 'given randomness, left to the other engine';
      const { cipherText, sharedSecret } = NOBLE[set].encapsulate(hex(ek), hex(m));
      expect({ c: toHex(cipherText), k: toHex(sharedSecret) }).toEqual({ c, k });
      return 'given randomness, composed by the test';
    }
    case 'decapsulation':
      expect(toHex(decapsulateExpanded(set, hex(dk), hex(c)))).toBe(k);
      return 'expanded key, composed by the test';
    case 'encapsulationKeyCheck': {
      const check = () => engine.mlKem.checkPublicKey(set, hex(ek));
      if (vector.testPassed === true) expect(check).not.toThrow();
      else expect(check).toThrow(expect.objectContaining({ code: 'invalid_value' }));
      return 'through the engine';
    }
    case 'decapsulationKeyCheck': {
      const ciphertext = new Uint8Array({ 1: 768, 2: 1088, 3: 1568 }[EXPANDED[set].arc] ?? 0);
      const use = () => decapsulateExpanded(set, hex(dk), ciphertext);
      if (vector.testPassed === true) expect(use()).toHaveLength(32);
      else expect(use).toThrow();
      return 'expanded key, composed by the test';
    }
  }
}

const EXPECTED: Readonly<Record<Implementation, Partial<Record<Outcome, number>>>> = {
  native: {
    'through the engine': 30,
    'expanded key, composed by the test': 60,
    'given randomness, left to the other engine': 75,
  },
  portable: {
    'through the engine': 30,
    'expanded key, composed by the test': 60,
    'given randomness, composed by the test': 75,
  },
};

describe.each([nativeEngine, portableEngine])('ACVP ML-KEM, $name engine', (engine) => {
  it('key generation from d and z', async () => {
    for (const { set, d, z, ek, dk } of vectorsOf('ml-kem-keygen')) {
      const seed = SecretBytes.own(hex(d + z));
      expect(toHex(engine.mlKem.publicKey(set, seed))).toBe(ek);
      // The engines keep the expanded key to themselves: their secret is compared with dk's.
      const { ciphertext, sharedSecret } = await engine.mlKem.encapsulate(set, hex(ek));
      const secret = await engine.mlKem.importSeed(set, seed).decapsulate(ciphertext);
      expect(secret.reveal()).toEqual(sharedSecret.reveal());
      expect(toHex(portableDecapsulation(set, hex(dk), ciphertext))).toBe(toHex(secret.reveal()));
      const rejected = await engine.mlKem.importSeed(set, seed).decapsulate(ciphertext.fill(7));
      expect(toHex(portableDecapsulation(set, hex(dk), ciphertext))).toBe(toHex(rejected.reveal()));
    }
  });

  it('encapsulation, decapsulation and key checks', () => {
    const counts: Partial<Record<Outcome, number>> = {};
    for (const vector of vectorsOf('ml-kem-encapdecap')) {
      const outcome = run(engine, vector);
      counts[outcome] = (counts[outcome] ?? 0) + 1;
    }
    report(`ML-KEM encapDecap ${engine.name}: ${JSON.stringify(counts)}`);
    if (hasPublishedFolder()) expect(counts).toEqual(EXPECTED[engine.name as Implementation]);
  });
});
