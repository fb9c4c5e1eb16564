/** What an adversary with a token tried against a running service, each by its name. */
import { once } from 'node:events';
import { connect } from 'node:net';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { TestService } from './service.ts';

let service: TestService;

beforeAll(async () => {
  service = await TestService.start();
  await service.request('POST', '/v1/admin/keys', { name: 'k', suite: 'A256GCM' });
}, 90_000);

afterAll(() => service.destroy());

/** Everything that is answered until the service closes the connection, or for two seconds. */
async function raw(bytes: string): Promise<string> {
  const { hostname, port } = new URL(service.url);
  const socket = connect(Number(port), hostname);
  const timer = setTimeout(() => socket.destroySoon(), 2_000);
  const answers: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => answers.push(chunk));
  socket.write(bytes);
  await once(socket, 'close');
  clearTimeout(timer);
  return Buffer.concat(answers).toString('latin1');
}

async function head(method: string, path: string, ...headers: string[]): Promise<string> {
  const lines = ['Host: x', `Authorization: Bearer ${await service.token('admin')}`, ...headers];
  return [`${method} ${path} HTTP/1.1`, ...lines, '', ''].join('\r\n');
}

describe('an adversary with a token', () => {
  it('cannot hide a request from auditors in a namespace that does not exist', async () => {
    const headers = { 'Twofold-Namespace': 'hidden' };
    const hidden = await service.request(
      'POST',
      '/v1/admin/keys/k/rotate',
      {},
      { role: 'user', headers },
    );
    expect([hidden.status, hidden.json.code]).toEqual([403, 'forbidden']);
    const id = hidden.headers.get('Twofold-Audit-Id') ?? '';
    const entry = await service.request('GET', `/v1/audit/entries/${id}`, undefined, {
      role: 'auditor',
    });
    expect(entry.json).toMatchObject({ namespace: 'default', detail: { namespace: 'hidden' } });
  });

  it('cannot hold the event loop with many small values', async () => {
    const body = { items: Array.from({ length: 500_000 }, () => 0) };
    const answer = await service.request('POST', '/v1/keys/k/wrap/batch', body);
    expect([answer.status, answer.json.code]).toEqual([400, 'malformed_json']);
  });

  it.each([
    '/v1/keys?namePrefix=%00',
    '/v1/audit/entries?keyId=x',
    '/v1/audit/entries/2147483648-1',
    '/v1/audit/entries/99999999999-1',
  ])('is told of its mistake in %s', async (path) => {
    const { status } = await service.request('GET', path);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
  });

  it('is told that a change was made though garbage follows it', async () => {
    const body = JSON.stringify({ name: 'made', suite: 'A256GCM' });
    const length = `Content-Length: ${String(body.length)}`;
    const create = await head('POST', '/v1/admin/keys', 'Content-Type: application/json', length);
    const answers = await raw(`${create}${body}GARBAGE\r\n\r\n`);
    expect(answers).toMatch(/^HTTP\/1\.1 201 /);
    expect(answers).toContain('HTTP/1.1 400 ');
  });

  it('cannot bring a transfer coding that nobody decodes', async () => {
    const headers = ['Content-Type: application/json', 'Transfer-Encoding: gzip, chunked'];
    const request = await head('POST', '/v1/random', ...headers);
    expect(await raw(`${request}c\r\n{"bytes":16}\r\n0\r\n\r\n`)).toMatch(/^HTTP\/1\.1 400 /);
  });
});
