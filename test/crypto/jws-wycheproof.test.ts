/** Wycheproof's JSON Web Signatures (C2SP, Apache-2.0): forged, confused and malformed ones. */
import { expect, it } from '@jest/globals';

import { TwofoldError } from '../../src/errors.ts';
import { parseJwk } from '../../src/crypto/jwk.ts';
import { parseCompactJws } from '../../src/crypto/jws.ts';
import { ecEncoding, rsaEncoding } from '../../src/crypto/key-encoding.ts';
import { writeSpki } from '../../src/crypto/spki.ts';
import { settleCounts } from '../vectors/wycheproof-cases.ts';
import { groupsOf } from '../vectors/wycheproof.ts';
import { fromSpki, verifyWith } from './key-encodings.ts';
import type { KeyEncoding } from '../../src/crypto/key-encoding.ts';

type Jwk = Readonly<Record<string, string>>;

const PUBLIC = ['kty', 'crv', 'x', 'y', 'n', 'e', 'alg', 'use', 'key_ops', 'kid'];
/**
 * Valid there and refused here: figures of RFC 7520 whose keys name another `alg` than the header,
 * PS256 against PS384, and ES521, which is none.
 */
const STRICTER = [346, 347, 350, 351];

/** The row that a key of these members would have, or undefined for HMAC and other sizes. */
function rowOf({ kty, crv, alg = 'RS256', n = '' }: Jwk): KeyEncoding | undefined {
  const rows: readonly KeyEncoding[] =
    kty === 'EC'
      ? (['P-256', 'P-384', 'P-521'] as const).map((curve) => ecEncoding(curve, 'sign'))
      : ([2048, 3072, 4096] as const)
          .filter((bits) => Buffer.from(n, 'base64url').length === bits / 8)
          .flatMap((bits) =>
            (['PSS', 'PKCS1'] as const).flatMap((scheme) =>
              (['SHA-256', 'SHA-384', 'SHA-512'] as const).map((hash) =>
                rsaEncoding(bits, scheme, hash),
              ),
            ),
          );
  return rows.find(({ jwk }) =>
    jwk?.kty === 'EC' ? jwk.crv === crv : jwk?.kty === kty && jwk?.alg === alg,
  );
}

function isAccepted(encoding: KeyEncoding, jwk: Jwk, jws: string): boolean {
  try {
    const key = parseJwk(encoding, jwk);
    const { signature, signingInput } = parseCompactJws(encoding, jws);
    const spki = writeSpki(encoding, key);
    if (signature === null || spki === null) return false;
    return verifyWith(encoding, fromSpki(spki), signingInput, signature);
  } catch (error) {
    if (TwofoldError.is(error, 'invalid_value')) return false;
    throw error;
  }
}

it('accepts the valid ones alone', () => {
  const counts: Record<string, number> = {};
  const count = (outcome: string) => {
    counts[outcome] = (counts[outcome] ?? 0) + 1;
  };
  const wrong: string[] = [];
  for (const group of groupsOf('json_web_signature')) {
    const members = Object.entries((group.public ?? group.private) as Jwk);
    const jwk = Object.fromEntries(members.filter(([name]) => PUBLIC.includes(name)));
    const encoding = rowOf(jwk);
    for (const { tcId, comment, jws, result } of group.tests) {
      if (encoding === undefined || typeof jws !== 'string') {
        count('skipped');
        continue;
      }
      const accepted = isAccepted(encoding, jwk, jws);
      count(accepted ? 'valid' : result === 'valid' ? 'stricter' : 'refused');
      const expected = result === 'valid' && !STRICTER.includes(Number(tcId));
      if (accepted !== expected) wrong.push(`${tcId ?? ''} ${comment ?? ''}: ${result}`);
    }
  }
  expect(wrong).toEqual([]);
  settleCounts('json_web_signature', counts);
});
