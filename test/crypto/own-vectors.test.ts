/** The KEMs that no other document has, against vectors of an independent recipe. */
import { readFileSync } from 'node:fs';

import { describe, expect, it } from '@jest/globals';

import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { findSuite, SUITES } from '../../src/crypto/suites.ts';
import { openIndependently, OWN_KEMS } from './own-recipes.ts';
import { hex, kemKey, toHex } from './software-halves.ts';
import type { KemSuite } from '../../src/crypto/suite.ts';
import type { OwnKemVector } from './own-recipes.ts';

const file = JSON.parse(readFileSync(OWN_KEMS, 'utf8')) as { readonly vectors: OwnKemVector[] };

describe('the KEMs of this project', () => {
  it.each(file.vectors)('$suite: key, decapsulation, and what it encapsulates', async (vector) => {
    const suite = findSuite(vector.suite) as KemSuite;
    expect(suite.standard.status).toBe('own');
    const key = kemKey(nativeEngine, suite, hex(vector.seed), hex(vector.classical));
    expect(toHex(key.publicKey)).toBe(vector.publicKey);
    const encapsulation = hex(vector.encapsulation);
    const secret = await suite.kem.decapsulate(encapsulation, key.publicKey, key.halves);
    expect(toHex(secret.reveal())).toBe(vector.sharedSecret);
    expect(openIndependently(vector)).toBe(vector.sharedSecret);

    const made = await suite.kem.encapsulate(nativeEngine, key.publicKey);
    const again = openIndependently({ ...vector, encapsulation: toHex(made.encapsulation) });
    expect(again).toBe(toHex(made.sharedSecret.reveal()));
  });

  it('are all there', () => {
    const own = Object.values(SUITES).filter(({ standard }) => standard.status === 'own');
    expect(file.vectors.map(({ suite }) => suite)).toEqual(own.map(({ id }) => id));
  });
});
