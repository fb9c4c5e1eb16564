/**
 * Asks a service's readiness endpoint and prints its answer: exit code 0 when it is ready.
 *
 *     ready.ts https://localhost:8370/readyz ca.pem
 *
 * Trusts the authorities of the named file alone, so that a health check proves the certificate too.
 */
import { readFileSync } from 'node:fs';
import { get } from 'node:https';

const DEADLINE_MS = 4_000;
const [url = '', caFile = ''] = process.argv.slice(2);

// Said outright: where NODE_TLS_REJECT_UNAUTHORIZED is 0, Node verifies nothing unless told to.
const trusted = { ca: readFileSync(caFile), rejectUnauthorized: true };

const request = get(url, { ...trusted, timeout: DEADLINE_MS }, (answer) => {
  process.exitCode = answer.statusCode === 200 ? 0 : 1;
  answer.pipe(process.stdout);
});
request.on('timeout', () => request.destroy(new Error('no answer')));
request.on('error', ({ message }) => {
  process.stderr.write(`${message}\n`);
  process.exitCode = 1;
});
