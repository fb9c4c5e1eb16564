/** Destruction in the service as it is started: pending ends use, is kept by a kill, and is cancelled. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { TestService } from './service.ts';

let service: TestService;
beforeAll(async () => {
  service = await TestService.start();
}, 90_000);
afterAll(() => service.destroy());

async function conditional(method: string, body?: object) {
  const { json } = await service.request('GET', '/v1/keys/doomed');
  const headers = { 'if-match': `"${String(json['revision'])}"` };
  return service.request(method, '/v1/admin/keys/doomed/destruction', body, { headers });
}

it('a pending destruction outlives a kill, and its cancellation brings the key back', async () => {
  const made = await service.request('POST', '/v1/admin/keys', {
    name: 'doomed',
    suite: 'MLKEM768-P256',
  });
  expect(made.status).toBe(201);
  const wrapped = await service.request('POST', '/v1/keys/doomed/wrap', { plaintext: 'AAAA' });
  const { ciphertext } = wrapped.json;
  const unwrap = async () => {
    const { status, json } = await service.request('POST', '/v1/keys/doomed/unwrap', {
      ciphertext,
    });
    return [status, json['code']];
  };
  const soon = await conditional('PUT', { after: 'P6D', reason: 'a drill' });
  expect([soon.status, soon.json['code']]).toEqual([400, 'invalid_value']);
  const pending = await conditional('PUT', { reason: 'a drill' });
  expect(pending.json).toMatchObject({ state: 'pending-destruction', copies: {} });
  expect(await unwrap()).toEqual([409, 'version_not_usable']);
  const { dataDir } = service;
  await service.kill();
  service = await TestService.start({ dataDir });
  expect(await unwrap()).toEqual([409, 'version_not_usable']);
  expect((await conditional('DELETE')).json).toMatchObject({ state: 'enabled' });
  expect(await unwrap()).toEqual([200, undefined]);
}, 120_000);
