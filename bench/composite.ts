/** One composite signature and each of its halves, through the same engine and HSM, median µs. */
import { randomBytes } from 'node:crypto';

import { nativeEngine } from '../src/crypto/native-engine.ts';
import { isComposite } from '../src/crypto/suite.ts';
import { findSuite } from '../src/crypto/suites.ts';
import { openToken } from './token-connection.ts';

const [dataDir = '.twofold'] = process.argv.slice(2);
const hsm = await openToken(dataDir);

const suite = findSuite('MLDSA65-ECDSA-P256-SHA512');
if (!isComposite(suite)) throw new Error('not a composite');
const spec = { kind: 'ec', curve: 'P-256', use: 'sign' } as const;
const key = { id: 'bench', spec, material: await hsm.generate(spec, { custody: 'hsm-wrapped' }) };
const { seed } = await nativeEngine.signatures.generate(suite.pq);
const signing = nativeEngine.signatures.importSeed(suite.pq, seed);
const message = randomBytes(128);
const digest = randomBytes(32);
const empty = new Uint8Array(0);

async function median(call: () => Promise<unknown>): Promise<number> {
  for (let warm = 0; warm < 300; warm++) await call();
  const times: number[] = [];
  for (let round = 0; round < 2_000; round++) {
    const start = performance.now();
    await call();
    times.push((performance.now() - start) * 1000);
  }
  return times.sort((a, b) => a - b)[1_000] ?? 0;
}

const pq = await median(() => signing.sign(message, empty));
const classical = await median(() => hsm.sign(key, digest));
const composite = await median(() =>
  suite.signer.sign({ message }, empty, {
    pq: (prepared, context) => signing.sign(prepared, context),
    mu: (mu) => signing.signMu(mu),
    classical: (hash) => hsm.sign(key, hash),
  }),
);
await hsm.close();
process.stdout.write(JSON.stringify({ composite, pq, classical }));
