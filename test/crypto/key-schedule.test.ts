/** HKDF beside node's own, and what the two stages of HPKE leave for later. */
import { createHmac, hkdfSync } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { hkdf } from '../../src/crypto/hkdf.ts';
import { exportSecret, keySchedule } from '../../src/crypto/hpke.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import type { KemSuite } from '../../src/crypto/suite.ts';

const HASHES = ['SHA-256', 'SHA-384', 'SHA-512'] as const;
/** A counterexample is not made smaller: that takes minutes for arrays of this length. */
const QUICK_TO_FAIL = { endOnFailure: true };
const NOTHING = new Uint8Array(0);
/** From nothing to more than a block, and to more than the buffer that short messages share. */
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 200, size: 'max' }),
  fc.uint8Array({ maxLength: 1_500, size: 'max' }),
);
const toHex = (each: Uint8Array): string => Buffer.from(each).toString('hex');

describe.each(HASHES)('HKDF with %s', (hash) => {
  const kdf = hkdf(hash);

  it('extracts as node does, whatever the lengths of salt and parts', () => {
    fc.assert(
      fc.property(bytes, fc.array(bytes, { maxLength: 4 }), (salt, parts) => {
        const mac = createHmac(hash.replace('-', ''), salt);
        for (const part of parts) mac.update(part);
        expect(toHex(kdf.extract(salt, parts))).toBe(mac.digest('hex'));
      }),
      QUICK_TO_FAIL,
    );
  });

  it('expands as node does, over one block or several', () => {
    const info = fc.array(fc.uint8Array({ maxLength: 250, size: 'max' }), { maxLength: 4 });
    fc.assert(
      fc.property(bytes, bytes, info, fc.integer({ min: 1, max: 400 }), (salt, key, of, length) => {
        const node = hkdfSync(hash.replace('-', ''), key, salt, Buffer.concat(of), length);
        const ours = kdf.expand(kdf.extract(salt, [key]), of, length);
        expect(toHex(ours)).toBe(toHex(new Uint8Array(node)));
      }),
      QUICK_TO_FAIL,
    );
  });

  it('gives each caller bytes of its own', () => {
    const first = kdf.extract(NOTHING, [Uint8Array.of(1)]);
    const before = toHex(first);
    expect(toHex(kdf.extract(NOTHING, [Uint8Array.of(2)]))).not.toBe(before);
    expect(toHex(first)).toBe(before);
  });
});

describe('the key schedule of two stages', () => {
  const { hpke } = findSuite('ML-KEM-1024-HKDF-SHA384') as KemSuite;
  const schedule = (pskId: number) =>
    keySchedule(hpke, SecretBytes.copyOf(new Uint8Array(32).fill(1)), NOTHING, {
      secret: SecretBytes.copyOf(new Uint8Array(32).fill(2)),
      id: new Uint8Array(20).fill(pskId),
    });

  it('gives the same in any order of asking, and binds the psk_id each time', () => {
    const [one, other] = [schedule(7), schedule(7)];
    const exported = toHex(exportSecret(hpke, one, NOTHING, 32).reveal());
    expect(toHex(other.baseNonce)).toBe(toHex(one.baseNonce));
    expect(toHex(other.key.reveal())).toBe(toHex(one.key.reveal()));
    expect(toHex(exportSecret(hpke, other, NOTHING, 32).reveal())).toBe(exported);
    expect(toHex(schedule(8).key.reveal())).not.toBe(toHex(one.key.reveal()));
    expect(toHex(schedule(7).key.reveal())).toBe(toHex(one.key.reveal()));
  });

  it('derives nothing once it was wiped, and leaves nothing of what it had derived', () => {
    const asked = schedule(7);
    const [key, nonce] = [asked.key.reveal(), asked.baseNonce];
    asked.wipe();
    expect([...key, ...nonce].every((byte) => byte === 0)).toBe(true);
    expect(() => asked.key.reveal()).toThrow('after being wiped');
    const unasked = schedule(7);
    unasked.wipe();
    expect(() => unasked.key).toThrow('after being wiped');
    expect(() => unasked.exporterSecret).toThrow('after being wiped');
  });
});
