import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { algorithmRows, renderAlgorithms } from '../../bench/algorithms.ts';
import type { AlgorithmRow } from '../../bench/algorithms.ts';
import { makeToken, ROOT } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';

const ONCE = { milliseconds: 0, least: 1, most: 1 };
const INSTALLED = 'software (native)';

describe('the table of algorithms', () => {
  let fixture: TokenFixture;
  let rows: readonly AlgorithmRow[] = [];
  beforeAll(async () => {
    fixture = await makeToken();
    const hsm = await fixture.open({ deadlineMs: 60_000 });
    await hsm.useRoot(ROOT);
    try {
      rows = await algorithmRows(hsm, ONCE);
    } finally {
      await hsm.close();
    }
  }, 300_000);
  afterAll(() => fixture.remove());

  const KEM = ['keygen', 'encrypt', 'decrypt'];
  const SIGNATURE = ['keygen', 'sign', 'verify'];

  // publicKey, privateKey, stored, signature, ciphertext: FIPS 203 to 205, Falcon 1.2, the drafts. A half
  // that the token wrapped is padded PKCS #8 (RFC 5649), whose length is the token's matter: `some`.
  it.each<[string, string, string[], (number | null | 'some')[]]>([
    ['RSA-2048', 'software', [...KEM, 'sign', 'verify'], [270, 'some', null, 256, 256]],
    ['RSA-2048', 'token', [...KEM, 'sign', 'verify'], [270, null, 'some', 256, 256]],
    ['ECDSA P-256', 'software', SIGNATURE, [65, 32, null, 72, null]],
    ['ECDSA P-256', 'token', SIGNATURE, [65, 32, 'some', 72, null]],
    ['ML-KEM-1024', INSTALLED, KEM, [1568, 3168, 64, null, 1568]],
    ['ML-DSA-87', INSTALLED, SIGNATURE, [2592, 4896, 32, 4627, null]],
    ['Falcon-1024', 'software (portable)', SIGNATURE, [1793, 2305, 48, 1280, null]],
    ['SLH-DSA-SHA2-128s', INSTALLED, SIGNATURE, [32, 64, 48, 7856, null]],
    ['SLH-DSA-SHA2-128f', INSTALLED, SIGNATURE, [32, 64, 48, 17088, null]],
    ['MLKEM768-P256', INSTALLED, KEM, [1249, 2432, 64, null, 1153]],
    ['MLKEM768-P256', `token and ${INSTALLED}`, KEM, [1249, 2432, 'some', null, 1153]],
    ['MLKEM768-X25519', INSTALLED, KEM, [1216, 2432, 64, null, 1120]],
    ['MLKEM768-X25519', `token and ${INSTALLED}`, KEM, [1216, 2432, 64, null, 1120]],
    ['MLKEM1024-P384', INSTALLED, KEM, [1665, 3216, 64, null, 1665]],
    ['MLKEM1024-P384', `token and ${INSTALLED}`, KEM, [1665, 3216, 'some', null, 1665]],
    ['MLKEM1024-X25519', INSTALLED, KEM, [1600, 3200, 64, null, 1600]],
    ['MLKEM1024-X25519', `token and ${INSTALLED}`, KEM, [1600, 3200, 64, null, 1600]],
    [
      'MLDSA44-ECDSA-P256-SHA256',
      `token and ${INSTALLED}`,
      SIGNATURE,
      [1377, 2592, 'some', 2492, null],
    ],
    [
      'MLDSA65-ECDSA-P256-SHA512',
      `token and ${INSTALLED}`,
      SIGNATURE,
      [2017, 4064, 'some', 3381, null],
    ],
    [
      'MLDSA87-ECDSA-P384-SHA512',
      `token and ${INSTALLED}`,
      SIGNATURE,
      [2689, 4944, 'some', 4731, null],
    ],
    ['MLDSA65-Ed25519-SHA512', `token and ${INSTALLED}`, SIGNATURE, [1984, 4064, 32, 3373, null]],
    [
      'MLDSA65-RSA3072-PSS-SHA512',
      `token and ${INSTALLED}`,
      SIGNATURE,
      [2350, null, 'some', 3693, null],
    ],
  ])('has %s (%s) with its operations and sizes', (algorithm, where, operations, sizes) => {
    const row = rows.find((one) => one.algorithm === algorithm && one.where === where);
    expect(Object.keys(row?.times ?? {}).sort()).toEqual([...operations].sort());
    for (const time of Object.values(row?.times ?? {})) expect(time).toBeGreaterThan(0);
    const { publicKey, privateKey, stored, signature, ciphertext } = row?.sizes ?? {};
    const shown = [publicKey, privateKey, stored, signature, ciphertext];
    const wanted = sizes.map((size) => (size === 'some' ? expect.any(Number) : size));
    expect(shown).toEqual(wanted);
  });

  it('has no other row, and prints each in a line beside what was published', () => {
    expect(rows).toHaveLength(22);
    const lines = renderAlgorithms(rows).split('\n');
    expect(lines).toHaveLength(24);
    expect(new Set(lines.map((line) => line.split(' | ').length))).toEqual(new Set([13]));
    const published = rows.filter(({ elsewhere }) => elsewhere !== null);
    expect(published.map(({ algorithm, elsewhere }) => [algorithm, elsewhere])).toEqual([
      ['RSA-2048', '45.2 / 0.8 / 23.1 / 25.3 / 0.9'],
      ['RSA-2048', '45.2 / 0.8 / 23.1 / 25.3 / 0.9'],
      ['ECDSA P-256', '2.1 / - / - / 1.8 / 3.2'],
      ['ECDSA P-256', '2.1 / - / - / 1.8 / 3.2'],
      ['ML-KEM-1024', '12.3 / 15.6 / 5.8 / - / -'],
      ['ML-DSA-87', '28.9 / - / - / 45.2 / 12.7'],
      ['Falcon-1024', '15.7 / - / - / 8.9 / 5.3'],
    ]);
  });
});
