/** A status in which every text that comes from elsewhere can be replaced. */
import { SUITES } from '../../src/crypto/suites.ts';
import type { Status } from '../../src/contract/status.ts';

/** `count` steps with values that repeat after a few; some steps have none. */
export const sampleHistory = (count: number): Status['history'] => {
  const series = (value: number) =>
    Array.from({ length: count }, (_, n) => (n % 17 === 5 ? null : value * (1 + (n % 7))));
  return {
    stepSeconds: 5,
    steps: 180,
    requests: {
      wrap: series(90),
      sign: series(20.5),
      mac: series(0),
      admin: series(0.2),
      other: series(3),
    },
    refused: series(1.4),
    failed: series(0),
    p50: series(0.431),
    p99: series(3.2),
    queued: series(2),
  };
};

export const sampleStatus = (changes: Partial<Status> = {}): Status => ({
  time: '2026-11-28T08:41:07.123Z',
  product: 'Twofold KMS',
  version: '1.2.3',
  mode: 'production',
  zone: 'zone-a',
  instance: '0efb621a-db33-4df1-9a8a-ffe8eab52390',
  uptimeSeconds: 8_045,
  runtime: { node: '26.1.0', openssl: '3.5.0' },
  readiness: {
    ready: true,
    checks: ['hsm', 'database', 'audit', 'integrity', 'service'].map((name) => ({
      name,
      ready: true,
      state: 'ok',
    })),
  },
  hsm: {
    state: 'ok',
    model: 'Model One',
    manufacturer: 'Maker',
    firmware: '4.5',
    custody: 'non-extractable',
    mechanisms: [
      { name: 'ecdh:P-256', available: true },
      { name: 'x25519', available: false },
    ],
    queued: 3,
    queueLimit: 512,
  },
  uses: { underWay: 80, waiting: 1_204, refused: 31 },
  database: { kind: 'external', version: '18.4', tls: 'verify-full', state: 'ok' },
  audit: {
    state: 'ok',
    uses: { number: 7, durable: 12_345 },
    changes: { number: 8, durable: 6 },
    waiting: 0,
    failures: 0,
    log: { state: 'ok', entries: 12_400, unsequenced: 3, lanesAtFault: 0 },
    sinks: [
      { name: 'here', state: 'serving', behind: 0 },
      { name: 'lake', state: 'waiting', behind: null },
    ],
  },
  selfTests: ['SHA3-256', 'ML-KEM-768'],
  suites: Object.keys(SUITES).map((id) => ({ id, available: id !== 'MLKEM768-X25519' })),
  history: sampleHistory(100),
  ...changes,
});
