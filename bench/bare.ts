/**
 * What the parts of one hybrid unwrap cost with nothing between them: Express, one ECDH in the token by
 * way of the worker threads, one ML-KEM decapsulation and one durable row in a group commit. No
 * authentication, policy, key schedule, audit chain or checks. It bounds what the service can reach on
 * this machine; a process of its own, which prints its port and serves until SIGTERM.
 */
import { createECDH, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import express from 'express';
import pg from 'pg';

import { nativeEngine } from '../src/crypto/native-engine.ts';
import { isHybridKem } from '../src/crypto/suite.ts';
import { findSuite } from '../src/crypto/suites.ts';
import { startEmbedded } from '../src/store/embedded.ts';
import { openToken } from './token-connection.ts';

const ENTRY_BYTES = 400;
const [dataDir = '.twofold'] = process.argv.slice(2);
const hsm = await openToken(dataDir);

const suite = findSuite('MLKEM768-P256');
if (!isHybridKem(suite)) throw new Error('not a hybrid KEM');
const spec = { kind: 'ec', curve: 'P-256', use: 'derive' } as const;
const key = { id: 'bare', spec, material: await hsm.generate(spec, { custody: 'hsm-wrapped' }) };
const peer = createECDH('prime256v1').generateKeys();
const { seed, publicKey } = await nativeEngine.mlKem.generate(suite.pq);
const decapsulating = nativeEngine.mlKem.importSeed(suite.pq, seed);
const { ciphertext } = await nativeEngine.mlKem.encapsulate(suite.pq, publicKey);

const folder = mkdtempSync(join(tmpdir(), 'twofold-bare-'));
const database = await startEmbedded({ dataDir: folder });
const client = new pg.Client({ connectionString: database.ownerUrl });
await client.connect();
await client.query('create table bare (n bigserial primary key, body bytea not null)');
const entry = randomBytes(ENTRY_BYTES);
const insert = { name: 'bare', text: 'insert into bare (body) select unnest($1::bytea[])' };

let waiting: (() => void)[] = [];
let committing = false;

async function commit(): Promise<void> {
  committing = true;
  while (waiting.length > 0) {
    const batch = waiting;
    waiting = [];
    await client.query({ ...insert, values: [batch.map(() => entry)] });
    for (const durable of batch) durable();
  }
  committing = false;
}

function durableEntry(): Promise<undefined> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  waiting.push(() => resolve(undefined));
  if (!committing) void commit();
  return promise;
}

const app = express();
app.post('/v1/keys/:key/unwrap', (request, response) => {
  request.resume().on('end', () => {
    void Promise.all([hsm.ecdh(key, peer), decapsulating.decapsulate(ciphertext)])
      .then(durableEntry)
      .then(() => {
        response.writeHead(200, { 'Content-Length': 32 }).end(Buffer.alloc(32));
      });
  });
});
const server = app.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${String((server.address() as AddressInfo).port)}\n`);
});
process.once('SIGTERM', () => {
  void (async () => {
    server.close();
    server.closeAllConnections();
    await client.end();
    await database.stop();
    await hsm.close();
    rmSync(folder, { recursive: true, force: true });
  })();
});
