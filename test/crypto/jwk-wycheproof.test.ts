/** Wycheproof's JSON Web Keys (C2SP, Apache-2.0): keys that must not be used as they ask. */
import { expect, it } from '@jest/globals';

import { TwofoldError } from '../../src/errors.ts';
import { parseJwk } from '../../src/crypto/jwk.ts';
import { parseCompactJws } from '../../src/crypto/jws.ts';
import { ecEncoding, rsaEncoding } from '../../src/crypto/key-encoding.ts';
import { writeSpki } from '../../src/crypto/spki.ts';
import { settleCounts } from '../vectors/wycheproof-cases.ts';
import { groupsOf } from '../vectors/wycheproof.ts';
import { fromSpki, verifyWith } from './key-encodings.ts';

type Jwk = Readonly<Record<string, unknown>>;

const ROWS = [ecEncoding('P-256', 'sign'), rsaEncoding(2048, 'PKCS1', 'SHA-256')];
const PRIVATE = ['d', 'p', 'q', 'dp', 'dq', 'qi'];

/** Whether any of our rows reads the key and verifies the signature with it. */
function isAccepted(jwk: Jwk, jws: string): boolean {
  return ROWS.some((row) => {
    try {
      const spki = writeSpki(row, parseJwk(row, jwk));
      const { signature, signingInput } = parseCompactJws(row, jws);
      if (signature === null || spki === null) return false;
      return verifyWith(row, fromSpki(spki), signingInput, signature);
    } catch (error) {
      if (TwofoldError.is(error, 'invalid_value')) return false;
      throw error;
    }
  });
}

/** Of the sets of keys, the public members of each; this service reads one key at a time. */
function keysOf(set: unknown): readonly Jwk[] {
  const { keys } = set as { readonly keys: readonly Jwk[] };
  return keys.map((jwk) =>
    Object.fromEntries(Object.entries(jwk).filter(([name]) => !PRIVATE.includes(name))),
  );
}

it('accepts no invalid key, no symmetric one, and no key of another use, size or curve', () => {
  const counts: Record<string, number> = {};
  const wrong: string[] = [];
  for (const group of groupsOf('json_web_key')) {
    const keys = keysOf(group.public ?? group.private);
    const isSymmetric = keys.every(({ kty }) => kty === 'oct');
    for (const { tcId, comment, jws, result } of group.tests) {
      const accepted = keys.some((jwk) => isAccepted(jwk, jws ?? ''));
      // HMAC by JWK is not offered, so that its valid ones are refused too.
      const outcome = accepted ? 'valid' : result === 'valid' ? 'stricter' : 'refused';
      counts[outcome] = (counts[outcome] ?? 0) + 1;
      if (accepted !== (result === 'valid' && !isSymmetric))
        wrong.push(`${tcId ?? ''} ${comment ?? ''}`);
    }
  }
  expect(wrong).toEqual([]);
  settleCounts('json_web_key', counts);
});
