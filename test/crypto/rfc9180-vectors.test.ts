/** The vectors of RFC 9180 through our DHKEM and key schedule; sender authentication is not offered. */
import { describe, expect, it } from '@jest/globals';

import { extractAndExpand } from '../../src/crypto/dhkem.ts';
import { exportSecret, hpkeSuite, keySchedule } from '../../src/crypto/hpke.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { hasPublishedFolder, report, vectorsOf } from '../vectors/published.ts';
import { AEADS, DHKEMS, dhkemDecapsulate, TWO_STAGE_KDFS } from './hpke-recipes.ts';
import { hex, KEM_ROWS, kemKey, toHex } from './software-halves.ts';
import type { HpkeAead, HpkeSuite } from '../../src/crypto/suite.ts';
import type { Rfc9180Vector } from '../vectors/published.ts';

const EXPORT_ONLY = 0xffff;
/** KDF of each KEM (RFC 9180 section 7.1). */
const KEM_KDFS: Readonly<Record<number, number>> = { 16: 1, 18: 3, 32: 1, 33: 3 };

const rowOf = ({ kem_id }: Rfc9180Vector) =>
  KEM_ROWS.find(({ pq, hpke }) => pq === null && hpke.kem === kem_id);

/** By the row where there is one; the groups that we lack by noble, then our ExtractAndExpand. */
async function sharedSecretOf(vector: Rfc9180Vector): Promise<SecretBytes> {
  const suite = rowOf(vector);
  const [scalar, enc, pk] = [hex(vector.skRm), hex(vector.enc), hex(vector.pkRm)];
  if (suite !== undefined) {
    const key = kemKey(nativeEngine, suite, new Uint8Array(0), scalar);
    expect(toHex(key.publicKey)).toBe(vector.pkRm);
    return suite.kem.decapsulate(enc, key.publicKey, key.halves);
  }
  const group = DHKEMS[vector.kem_id];
  const kdf = TWO_STAGE_KDFS[KEM_KDFS[vector.kem_id] ?? 0];
  if (group === undefined || kdf === undefined) throw new Error('a vector of an unknown KEM');
  const secret = SecretBytes.own(group.derive(scalar, enc));
  return extractAndExpand(vector.kem_id, kdf)(secret, enc, pk);
}

function suiteOf(vector: Rfc9180Vector): HpkeSuite {
  const { kem_id: kem, kdf_id: kdf, aead_id: aead } = vector;
  const schedule = TWO_STAGE_KDFS[kdf];
  const none = { id: EXPORT_ONLY, keyLength: 0, nonceLength: 0 } as HpkeAead;
  const cipher = aead === EXPORT_ONLY ? none : AEADS[aead];
  if (schedule === undefined || cipher === undefined) throw new Error('a vector of another suite');
  const row = rowOf(vector)?.hpke;
  return row?.kdf === kdf && row.aead === aead ? row : hpkeSuite(kem, schedule, cipher);
}

function checkSchedule(vector: Rfc9180Vector, sharedSecret: SecretBytes): void {
  const suite = suiteOf(vector);
  const psk =
    vector.psk === undefined
      ? undefined
      : { secret: SecretBytes.own(hex(vector.psk)), id: hex(vector.psk_id ?? '') };
  const context = keySchedule(suite, sharedSecret, hex(vector.info), psk);
  expect(toHex(context.exporterSecret.reveal())).toBe(vector.exporter_secret);
  for (const { exporter_context: given, L, exported_value: value } of vector.exports) {
    expect(toHex(exportSecret(suite, context, hex(given), L).reveal())).toBe(value);
  }
  if (vector.aead_id === EXPORT_ONLY) return;
  expect(toHex(context.key.reveal())).toBe(vector.key);
  expect(toHex(context.baseNonce)).toBe(vector.base_nonce);
  for (const { aad, ct, nonce, pt } of vector.encryptions) {
    const sealed = suite.cipher.seal(context.key, hex(nonce), hex(aad), SecretBytes.own(hex(pt)));
    expect(toHex(sealed)).toBe(ct);
  }
}

describe('RFC 9180 vectors', () => {
  it('shared secret, key schedule, encryptions and exports, modes base and psk', async () => {
    const counts = { byRow: 0, byOtherGroups: 0, wholeRow: 0, senderAuthenticated: 0 };
    for (const vector of vectorsOf('hpke-rfc9180')) {
      if (vector.mode > 1) {
        counts.senderAuthenticated += 1;
        continue;
      }
      const sharedSecret = await sharedSecretOf(vector);
      expect(toHex(sharedSecret.reveal())).toBe(vector.shared_secret);
      const again = dhkemDecapsulate(vector.kem_id, hex(vector.skRm), hex(vector.enc));
      expect(toHex(again)).toBe(vector.shared_secret);
      checkSchedule(vector, sharedSecret);
      counts[rowOf(vector) === undefined ? 'byOtherGroups' : 'byRow'] += 1;
      if (KEM_ROWS.some(({ hpke }) => hpke === suiteOf(vector))) counts.wholeRow += 1;
    }
    report(`RFC 9180: ${JSON.stringify(counts)}`);
    if (!hasPublishedFolder()) return;
    // The RFC has none of P-384, nor of SHA-384.
    expect(counts).toEqual({
      byRow: 32,
      byOtherGroups: 32,
      wholeRow: 4,
      senderAuthenticated: 64,
    });
  });
});
