/**
 * A writer of the database plants an intent that names the token object of a living key. The next
 * start must not take it for an orphan: no restore of the database would bring the object back.
 */
import { randomBytes } from 'node:crypto';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { findEmbedded } from '../../src/store/embedded.ts';
import { TestService } from '../e2e/service.ts';
import { withClient } from '../store/owner.ts';

const PLANT = `insert into token_intent(object_id, installation, token_serial, instance)
  select classical_object_id, classical_installation, classical_token_serial,
         '00000000-0000-4000-8000-000000000001'
  from key_version where classical_custody = 'hsm-token'`;

let service: TestService;

beforeAll(async () => {
  service = await TestService.start();
}, 90_000);

afterAll(() => service.destroy());

it('a planted intent destroys no key', async () => {
  const { dataDir } = service;
  const created = await service.request('POST', '/v1/admin/keys', {
    name: 'token-key',
    suite: 'MLKEM768-X25519',
  });
  expect(created.status).toBe(201);
  const plaintext = randomBytes(32).toString('base64');
  const wrapped = await service.request('POST', '/v1/keys/token-key/wrap', { plaintext });
  await withClient(findEmbedded(dataDir)?.appUrl ?? '', async (client) => {
    const { rowCount } = await client.query(PLANT);
    expect(rowCount).toBe(1);
  });
  await service.stop();
  service = await TestService.start({ dataDir });
  const { ciphertext } = wrapped.json;
  const opened = await service.request('POST', '/v1/keys/token-key/unwrap', { ciphertext });
  expect([opened.status, opened.json['plaintext']]).toEqual([200, plaintext]);
}, 90_000);
