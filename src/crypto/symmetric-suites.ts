/** Rows of the table for keys that are whole in the HSM (0x03xx wraps, 0x06xx MACs). */
import type { HsmHash } from './hsm-key.ts';
import type { AeadSuite, MacSuite, Standing } from './suite.ts';

export const AEAD_SUITES: readonly AeadSuite[] = [
  {
    id: 'A256GCM',
    number: 0x0301,
    class: 'wrap',
    kind: 'aead',
    status: 'offered',
    standard: { document: 'NIST SP 800-38D', revision: 'November 2007', status: 'final' },
    strength: { category: 5, quantumVulnerable: false },
    standings: ['cnsa2', 'approved'],
    parts: [],
    pq: null,
    hsm: { kind: 'aes', bits: 256 },
    aead: { keyLength: 32, nonceLength: 12, tagLength: 16 },
  },
];

interface MacRow {
  readonly number: number;
  readonly hash: HsmHash;
  readonly bytes: 32 | 48 | 64;
  readonly standings: readonly Standing[];
}

function hmac({ number, hash, bytes, standings }: MacRow): MacSuite {
  return {
    // RFC 7518 section 3.2.
    id: `HS${hash.slice(4)}`,
    number,
    class: 'mac',
    kind: 'mac',
    status: 'offered',
    standard: {
      document: `RFC 2104 with ${hash} (FIPS 180-4)`,
      revision: 'February 1997',
      status: 'final',
    },
    strength: { category: 5, quantumVulnerable: false },
    standings: [...standings, 'approved'],
    parts: [],
    pq: null,
    hsm: { kind: 'hmac', hash, bytes },
    mac: { hash, keyLength: bytes, macLength: bytes },
  };
}

export const MAC_SUITES: readonly MacSuite[] = [
  hmac({ number: 0x0601, hash: 'SHA-256', bytes: 32, standings: [] }),
  hmac({ number: 0x0602, hash: 'SHA-384', bytes: 48, standings: ['cnsa2'] }),
  hmac({ number: 0x0603, hash: 'SHA-512', bytes: 64, standings: ['cnsa2'] }),
];
