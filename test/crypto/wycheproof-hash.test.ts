/** Published cases of HKDF, HMAC, AES-256-GCM and Ed25519 that go beyond what `wycheproof.test.ts` reads. */
import { describe, expect, it } from '@jest/globals';

import { concatBytes } from '../../src/crypto/bytes.ts';
import { hkdf } from '../../src/crypto/hkdf.ts';
import { ed25519Scheme } from '../../src/crypto/classical-signature.ts';
import { nodeHash } from '../../src/crypto/digests.ts';
import { hasPublishedFolder, report, vectorsOf } from '../vectors/published.ts';
import { each } from '../vectors/wycheproof-cases.ts';
import { hex, toHex } from './software-halves.ts';
import { createHmac } from 'node:crypto';

describe('Wycheproof, hashes', () => {
  it.each([
    ['SHA-256', 'hkdf_sha256'],
    ['SHA-384', 'hkdf_sha384'],
  ] as const)('HKDF with %s, and no output beyond 255 blocks', (hash, name) =>
    each(name, (test) => {
      const kdf = hkdf(hash);
      const part = (field: string) => hex(test[field] ?? '');
      const key = kdf.extract(part('salt'), [part('ikm')]);
      const expand = () => kdf.expand(key, [part('info')], Number(test['size']));
      if (test.result === 'invalid') {
        expect(expand).toThrow(RangeError);
        return false;
      }
      return toHex(expand()) === test['okm'];
    }),
  );

  it.each([
    ['SHA-256', 'hmac_sha256'],
    ['SHA-512', 'hmac_sha512'],
  ] as const)('HMAC with %s, whole tags', (hash, name) =>
    each(name, (test, { tagSize }) => {
      // The service's MACs are never cut.
      if (tagSize !== hkdf(hash).hashLength * 8) return undefined;
      const [key, message] = [hex(test['key'] ?? ''), hex(test['msg'] ?? '')];
      const mac = toHex(hkdf(hash).extract(key, [message]));
      expect(createHmac(nodeHash(hash), key).update(message).digest('hex')).toBe(mac);
      return mac === test['tag'];
    }),
  );
});

/** What a strict verifier refuses; OpenSSL, as it is in Node, does. */
const REFUSED = ['low_order_A', 'low_order_R', 'low_order_residue', 'non_canonical_A'];
REFUSED.push('non_canonical_R');

describe('CCTV, Ed25519', () => {
  it('points of low order and encodings that are not canonical verify nothing', async () => {
    const counts = { accepted: 0, refused: 0 };
    for (const { key, sig, msg, flags, number } of vectorsOf('ed25519-points')) {
      const message = new TextEncoder().encode(msg);
      const valid = await ed25519Scheme.verify(hex(key), message, hex(sig));
      const expected = !flags.some((flag) => REFUSED.includes(flag));
      expect([number, flags, valid]).toEqual([number, flags, expected]);
      counts[valid ? 'accepted' : 'refused'] += 1;
      // Trailing bytes, on those that verify too.
      const longer = concatBytes(hex(sig), Uint8Array.of(0));
      expect(await ed25519Scheme.verify(hex(key), message, longer)).toBe(false);
    }
    report(`CCTV Ed25519: ${JSON.stringify(counts)}`);
    if (hasPublishedFolder()) expect(counts).toEqual({ accepted: 43, refused: 871 });
  });
});
