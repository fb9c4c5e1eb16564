/**
 * THE table of suites: id -> everything the rest needs. A name or number is resolved here once and
 * the row is passed on; nothing else compares names. The rows stand in `kem-suites.ts`,
 * `signature-suites.ts` and `symmetric-suites.ts`; a new one is a line there and nothing elsewhere.
 *
 * Numbers are u16 in blocks by purpose (0x01xx wrap hybrid, 0x02xx wrap single, 0x03xx symmetric,
 * 0x04xx sign hybrid, 0x05xx sign single, 0x06xx mac). A number means one construction of one
 * document revision for ever and is never reused: a draft that changes bytes gets a new row.
 */
import { TwofoldError } from '../errors.ts';
import { KEM_SUITES } from './kem-suites.ts';
import { SIGNATURE_SUITES } from './signature-suites.ts';
import { AEAD_SUITES, MAC_SUITES } from './symmetric-suites.ts';
import type { Suite } from './suite.ts';

const ROWS: readonly Suite[] = [...KEM_SUITES, ...AEAD_SUITES, ...SIGNATURE_SUITES, ...MAC_SUITES];

/** Recursive, so that no consumer can change a row for another. */
function deepFreeze(value: unknown): void {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return;
  Object.values(value).forEach(deepFreeze);
  Object.freeze(value);
}
ROWS.forEach(deepFreeze);

/** By id; no prototype, so that no inherited name is a suite. */
export const SUITES: Readonly<Record<string, Suite>> = Object.freeze(
  Object.assign(
    Object.create(null) as Record<string, Suite>,
    Object.fromEntries(ROWS.map((suite) => [suite.id, suite])),
  ),
);

const BY_NUMBER: ReadonlyMap<number, Suite> = new Map(ROWS.map((suite) => [suite.number, suite]));

/** @throws TwofoldError unknown_suite */
export function findSuite(id: string): Suite {
  const suite = SUITES[id];
  if (suite !== undefined) return suite;
  const left = NOT_OFFERED.find(({ ids }) => ids.test(id));
  throw new TwofoldError(
    'unknown_suite',
    left === undefined
      ? `Known suites: ${Object.keys(SUITES).join(', ')}.`
      : `${left.name} is not offered: ${left.reason}`,
  );
}

/** @throws TwofoldError unknown_suite */
export function findSuiteByNumber(number: number): Suite {
  const suite = BY_NUMBER.get(number);
  if (suite === undefined)
    throw new TwofoldError('unknown_suite', 'The suite number is not known.');
  return suite;
}

interface NotOffered {
  readonly name: string;
  readonly reason: string;
  /** How someone who looks for it may write its id. */
  readonly ids: RegExp;
}

/** What is left out on purpose, for `/v1/suites` and for whoever asks for it. */
export const NOT_OFFERED: readonly NotOffered[] = Object.freeze([
  {
    name: 'Classic McEliece',
    ids: /mceliece/iu,
    reason:
      'Not a NIST standard (ISO/IEC work goes on) and public keys of 261 kB to 1.4 MB do not fit rows, answers or envelopes.',
  },
  {
    name: 'HQC',
    ids: /hqc/iu,
    reason: 'Chosen by NIST in March 2025 as a backup to ML-KEM; its standard is not published.',
  },
  {
    name: 'FrodoKEM',
    ids: /frodo/iu,
    reason: 'Not a NIST standard; its ISO/IEC text is not final, and it has no HPKE code point.',
  },
  {
    name: 'Multivariate signatures (UOV, MAYO, QR-UOV, SNOVA)',
    ids: /uov|mayo|snova|rainbow/iu,
    reason: 'Still candidates of the NIST additional-signatures process; parameters still move.',
  },
  {
    name: 'LAMPS composites with brainpool curves, Ed448 or X448',
    ids: /brainpool|ed448|x448/iu,
    reason:
      'Tokens can make such keys (SoftHSM does), but few HSMs and verifiers know these curves, and P-256, P-384, P-521 and Ed25519 serve the same strengths.',
  },
  {
    name: 'Composite ML-KEM with RSA or P-521',
    ids: /^ml-?kem.*(?:rsa|p-?521)/iu,
    reason:
      'An RSA or P-521 half adds size and time to what P-256, P-384 and X25519 give; no HPKE code point names them.',
  },
  {
    name: 'HashML-DSA and HashSLH-DSA',
    ids: /^hash-?(?:ml|slh)-?dsa|^(?:ml|slh)-?dsa-.*-with-/iu,
    reason:
      'Pre-hashed forms with other bytes; ML-DSA takes an external mu instead, and the composites hash first.',
  },
  {
    name: 'LMS and XMSS',
    ids: /^(?:lms|hss|xmss)/iu,
    reason:
      'Stateful: a one-time key used twice forges signatures, and replicas, backups and fail-over make reuse a matter of time.',
  },
  {
    name: 'Kyber (round 3)',
    ids: /kyber/iu,
    reason: 'Superseded by ML-KEM (FIPS 203), whose bytes differ; no reason to keep the draft.',
  },
  {
    name: 'Dilithium and SPHINCS+ (round 3)',
    ids: /dilithium|sphincs/iu,
    reason:
      'Superseded by ML-DSA (FIPS 204) and SLH-DSA (FIPS 205), whose bytes differ; no reason to keep the drafts.',
  },
]);
