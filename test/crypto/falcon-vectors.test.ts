import { describe, expect, it, jest } from '@jest/globals';
import { rngAesCtrDrbg256 } from '@noble/ciphers/aes.js';
import { falcon1024, falcon512 } from '@noble/post-quantum/falcon.js';

import { concatBytes } from '../../src/crypto/bytes.ts';
import { SIGNATURE_LENGTHS } from '../../src/crypto/engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { hasPublishedFolder, report, vectorsOf } from '../vectors/published.ts';
import { hex, toHex } from './software-halves.ts';
import type { FalconParameterSet } from '../../src/crypto/engine.ts';
import type { FalconVector } from '../vectors/published.ts';

jest.setTimeout(240_000);

const { signatures } = portableEngine;
const NONE = new Uint8Array(0);
const UNPADDED = { 'Falcon-512': falcon512, 'Falcon-1024': falcon1024 };
const HEADER = { 'Falcon-512': 0x39, 'Falcon-1024': 0x3a };

/** Header ‖ nonce ‖ s2, as long as s2 makes it. */
const unpadded = ({ set, nonce, s2 }: FalconVector) =>
  concatBytes(Uint8Array.of(HEADER[set]), hex(nonce), hex(s2));

/** The same with zeros up to the length of the degree; undefined for one that is longer. */
function padded(vector: FalconVector): Uint8Array | undefined {
  const short = unpadded(vector);
  const { signature } = SIGNATURE_LENGTHS[vector.set];
  if (short.length > signature) return undefined;
  return concatBytes(short, new Uint8Array(signature - short.length));
}

const verify = (set: FalconParameterSet, pk: Uint8Array, message: Uint8Array, sig: Uint8Array) =>
  signatures.verify(set, pk, message, sig, NONE);

describe('Falcon round-3 known answers', () => {
  // The file's signatures are of the form without padding, which the engine refuses as such.
  it('verify by the engine once padded, and by the library as they are', async () => {
    const counts = { padded: 0, long: 0 };
    for (const vector of vectorsOf('falcon')) {
      const { set } = vector;
      const [pk, message, short] = [hex(vector.pk), hex(vector.message), unpadded(vector)];
      expect(UNPADDED[set].verify(short, message, pk)).toBe(true);
      expect(await verify(set, pk, message, short)).toBe(false);
      const signature = padded(vector);
      counts[signature === undefined ? 'long' : 'padded'] += 1;
      if (signature === undefined) continue;
      expect(await verify(set, pk, message, signature)).toBe(true);
      expect(await verify(set, pk, concatBytes(message, NONE, hex('00')), signature)).toBe(false);
    }
    report(`Falcon: ${JSON.stringify(counts)}`);
    if (hasPublishedFolder()) expect(counts).toEqual({ padded: 199, long: 1 });
  });

  it('key generation from the 48 bytes of the generator that the seed starts', async () => {
    const sets = Map.groupBy(vectorsOf('falcon'), ({ set }) => set);
    let count = 0;
    for (const { set, seed, pk } of [...sets.values()].flatMap((rows) => rows.slice(0, 3))) {
      const drawn = SecretBytes.own(rngAesCtrDrbg256(hex(seed)).randomBytes(48));
      expect(toHex(await signatures.publicKey(set, drawn))).toBe(pk);
      count += 1;
    }
    expect(count).toBe(6);
  });
});

describe('PQClean, Falcon', () => {
  it('padded records verify as they are, and short ones as round 3 has them', async () => {
    const counts = { padded: 0, short: 0 };
    for (const vector of vectorsOf('falcon-pqclean')) {
      const { set, seed } = vector;
      const [pk, message, signature] = [vector.pk, vector.message, vector.signature].map(hex);
      if (pk === undefined || message === undefined || signature === undefined) throw new Error();
      const drawn = SecretBytes.own(rngAesCtrDrbg256(hex(seed)).randomBytes(48));
      expect(toHex(await signatures.publicKey(set, drawn))).toBe(vector.pk);
      const longer = concatBytes(signature, hex('00'));
      expect(await verify(set, pk, message, signature)).toBe(vector.padded);
      expect(await verify(set, pk, message, longer)).toBe(false);
      expect(await verify(set, pk, concatBytes(message, hex('00')), signature)).toBe(false);
      if (!vector.padded) expect(UNPADDED[set].verify(signature, message, pk)).toBe(true);
      counts[vector.padded ? 'padded' : 'short'] += 1;
    }
    report(`Falcon of PQClean: ${JSON.stringify(counts)}`);
    expect(counts).toEqual({ padded: 2, short: 2 });
  });
});

describe.each(['Falcon-512', 'Falcon-1024'] as const)('%s signatures', (set) => {
  const vector = vectorsOf('falcon').find((row) => row.set === set);
  if (vector === undefined) throw new Error(`no vector of ${set}`);
  const [pk, message] = [hex(vector.pk), hex(vector.message)];
  const signature = padded(vector) ?? NONE;

  it('have one length, header and form', async () => {
    const other = set === 'Falcon-512' ? 'Falcon-1024' : 'Falcon-512';
    const changed = (at: number, value: number) => signature.with(at, value);
    const refused = {
      longer: concatBytes(signature, Uint8Array.of(0)),
      shorter: signature.subarray(0, -1),
      compressedForm: changed(0, HEADER[set] - 0x10),
      otherDegree: changed(0, HEADER[other]),
      bitAfterPadding: changed(signature.length - 1, 1),
      otherNonce: changed(1, (signature[1] ?? 0) ^ 1),
    };
    expect(await verify(set, pk, message, signature)).toBe(true);
    for (const [name, wrong] of Object.entries(refused)) {
      expect([name, await verify(set, pk, message, wrong)]).toEqual([name, false]);
    }
    expect(await verify(other, pk, message, signature)).toBe(false);
    expect(await verify(set, pk.with(0, (pk[0] ?? 0) ^ 3), message, signature)).toBe(false);
    expect(await signatures.verify(set, pk, message, signature, hex('00'))).toBe(false);
  });

  it('take no context and no mu, and are salted anew each time', async () => {
    const { seed, publicKey } = await signatures.generate(set);
    const key = signatures.importSeed(set, seed);
    const made = [await key.sign(message, NONE), await key.sign(message, NONE)];
    expect(new Set(made.map(toHex)).size).toBe(2);
    for (const one of made) {
      expect(one).toHaveLength(SIGNATURE_LENGTHS[set].signature);
      expect(await verify(set, publicKey, message, one)).toBe(true);
    }
    const invalid = { code: 'invalid_value' };
    await expect(key.sign(message, hex('00'))).rejects.toMatchObject(invalid);
    await expect(key.signMu(new Uint8Array(64))).rejects.toMatchObject(invalid);
    key.release();
    await expect(key.sign(message, NONE)).rejects.toThrow('release');
  });
});
