/**
 * What asks the service and is started without the launcher, which refuses NODE_TLS_REJECT_UNAUTHORIZED=0:
 * it verifies the certificate under that as well, and sends no token to whoever answers.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { makeCertificate } from '../config/certificate.ts';

const root = join(import.meta.dirname, '../..');
const seen: unknown[] = [];
let folder: string;
let server: Server;
let url: string;

const put = (name: string, content: string): string => {
  writeFileSync(join(folder, name), content, { mode: 0o600 });
  return join(folder, name);
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-unverified-'));
  const { certificate: cert, key } = makeCertificate();
  server = createServer({ cert, key }, ({ headers }, response) => {
    seen.push(headers);
    response.end('{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `https://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
});
afterAll(() => {
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true, force: true });
});

async function run(program: string, argv: readonly string[]) {
  const child = spawn(join(root, program), argv, {
    env: { ...process.env, NODE_OPTIONS: '', NODE_TLS_REJECT_UNAUTHORIZED: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  return { code, stderr };
}

describe('under NODE_TLS_REJECT_UNAUTHORIZED=0', () => {
  it('protect-checkpoint takes no certificate that nobody vouches for', async () => {
    const header = put('header', 'Authorization: Bearer t\n');
    const argv = ['signer', 'k', '--out', join(folder, 'pinned'), '--url', url];
    const program = 'examples/protect-checkpoint/protect-checkpoint';
    const { code, stderr } = await run(program, [...argv, '--authorization', header]);
    expect(stderr).toContain('(service_unreachable)');
    expect([code, seen]).toEqual([1, []]);
  }, 30_000);

  it('the health check takes none but what descends from its authority', async () => {
    const other = put('other.pem', makeCertificate().certificate);
    const { code } = await run('scripts/ready', [`${url}/readyz`, other]);
    expect([code, seen]).toEqual([1, []]);
  }, 30_000);
});
