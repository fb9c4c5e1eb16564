/** Wycheproof's JSON Web Signatures (C2SP, Apache-2.0): forged, confused and malformed ones. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { expect, it } from '@jest/globals';

import { TwofoldError } from '../../src/errors.ts';
import { parseJwk } from '../../src/crypto/jwk.ts';
import { parseCompactJws } from '../../src/crypto/jws.ts';
import { ecEncoding, rsaEncoding } from '../../src/crypto/key-encoding.ts';
import { writeSpki } from '../../src/crypto/spki.ts';
import { FOLDER, hasPublishedFolder, report } from '../vectors/published.ts';
import { fromSpki, verifyWith } from './key-encodings.ts';
import type { KeyEncoding } from '../../src/crypto/key-encoding.ts';

type Jwk = Readonly<Record<string, string>>;
interface Group {
  readonly comment: string;
  readonly private: Jwk;
  readonly public?: Jwk;
  readonly tests: readonly {
    readonly tcId: number;
    readonly comment: string;
    readonly jws: unknown;
    readonly result: string;
  }[];
}

const FILE = 'wycheproof/testvectors_v1/json_web_signature_test.json.gz';
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
  if (!hasPublishedFolder()) {
    report(`Wycheproof json_web_signature: NOT run, there is no ${FOLDER}`);
    return;
  }
  const text = gunzipSync(readFileSync(join(FOLDER, FILE))).toString('utf8');
  const { testGroups } = JSON.parse(text) as { testGroups: readonly Group[] };
  const counts = { valid: 0, refused: 0, skipped: 0 };
  const wrong: string[] = [];
  for (const group of testGroups) {
    const members = Object.entries(group.public ?? group.private);
    const jwk = Object.fromEntries(members.filter(([name]) => PUBLIC.includes(name)));
    const encoding = rowOf(jwk);
    for (const { tcId, comment, jws, result } of group.tests) {
      if (encoding === undefined || typeof jws !== 'string') {
        counts.skipped += 1;
        continue;
      }
      const accepted = isAccepted(encoding, jwk, jws);
      counts[accepted ? 'valid' : 'refused'] += 1;
      const expected = result === 'valid' && !STRICTER.includes(tcId);
      if (accepted !== expected) wrong.push(`${tcId} ${comment}: ${result}`);
    }
  }
  report(`Wycheproof json_web_signature: ${JSON.stringify(counts)}`);
  expect(wrong).toEqual([]);
});
