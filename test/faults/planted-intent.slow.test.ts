/**
 * A writer of the database plants an intent that names the token object of a living key. The next
 * start must not take it for an orphan: no restore of the database would bring the object back. That
 * the key's row is altered, so that no row names the object any more, changes nothing.
 */
import { randomBytes } from 'node:crypto';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { findEmbedded } from '../../src/store/embedded.ts';
import { TestService } from '../e2e/service.ts';
import { withClient } from '../store/owner.ts';

const PLANT = `insert into token_intent
    (object_id, installation, token_serial, instance, created_at, mac)
  select classical_object_id, classical_installation, classical_token_serial,
         '00000000-0000-4000-8000-000000000001', now(), mac
  from key_version where classical_custody = 'hsm-token'`;
const HIDE = `update key_version set classical_object_id = sha256(classical_object_id)
  where classical_custody = 'hsm-token'`;
const RESTORE = `update key_version set classical_object_id = (select object_id from token_intent)
  where classical_custody = 'hsm-token'`;

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
  const alter = (...statements: readonly string[]) =>
    withClient(findEmbedded(dataDir)?.appUrl ?? '', async (client) => {
      for (const statement of statements) expect((await client.query(statement)).rowCount).toBe(1);
    });
  await alter(PLANT);
  await service.stop();
  service = await TestService.start({ dataDir });
  await alter(HIDE);
  await service.stop();
  service = await TestService.start({ dataDir });
  expect(service.log).toContain('intents of token objects were altered or planted');
  await alter(RESTORE);
  const { ciphertext } = wrapped.json;
  const opened = await service.request('POST', '/v1/keys/token-key/unwrap', { ciphertext });
  expect([opened.status, opened.json['plaintext']]).toEqual([200, plaintext]);
}, 90_000);
