/** CKR_DEVICE_MEMORY, as the port tells it, through REST: 503, nothing half made, and over once there is room. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';

import { FAULTS } from '../hsm/software-hsm.ts';
import type { HsmCall } from '../keyring/watched-hsm.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

let service: Service;

beforeAll(async () => {
  service = await openService();
  for (const [name, suite] of Object.entries({
    hybrid: 'MLKEM768-P256',
    symmetric: 'A256GCM',
    signer: 'MLDSA65-ECDSA-P256-SHA512',
    mac: 'HS256',
  })) {
    await service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite } });
  }
});
afterAll(() => service.stop());
beforeEach(() => {
  service.world.device.fault = () => 'none';
});

const fill = (full: HsmCall): void => {
  service.world.device.fault = (call) => (call === full ? FAULTS.deviceMemory : 'none');
};
const post = (path: string, json: object) =>
  service.call(path.startsWith('/v1/admin/') ? 'admin' : 'user', 'POST', path, { json });
const message = Buffer.from('a message').toString('base64');

describe('a token without room', () => {
  it.each(['MLKEM768-P256', 'MLKEM768-X25519', 'A256GCM', 'HS256'])(
    'makes no %s key, and makes it once there is room',
    async (suite) => {
      const name = `later-${suite.toLowerCase()}`;
      fill('generate');
      const refused = await post('/v1/admin/keys', { name, suite });
      expect(refused).toMatchObject({ status: 503, json: { code: 'hsm_full', status: 503 } });
      expect(service.drafts.at(-1)).toMatchObject({
        operation: 'keys.create',
        outcome: 'hsm_full',
      });
      expect((await service.call('user', 'GET', `/v1/keys/${name}`)).status).toBe(404);
      service.world.device.fault = () => 'none';
      expect((await post('/v1/admin/keys', { name, suite })).status).toBe(201);
    },
  );

  it('gives no random bytes', async () => {
    fill('random');
    const refused = await post('/v1/random', { bytes: 32 });
    expect(refused).toMatchObject({ status: 503, json: { code: 'hsm_full' } });
  });

  it('rotates nothing, and the version before serves on', async () => {
    fill('generate');
    const refused = await post('/v1/admin/keys/hybrid/rotate', {});
    expect(refused).toMatchObject({ status: 503, json: { code: 'hsm_full' } });
    const wrapped = await post('/v1/keys/hybrid/wrap', { plaintext: message });
    expect(wrapped).toMatchObject({ status: 200, json: { keyVersion: 1 } });
  });

  it.each([
    ['ecdh', '/v1/keys/hybrid/unwrap'],
    ['decrypt', '/v1/keys/symmetric/unwrap'],
    ['encrypt', '/v1/keys/symmetric/wrap'],
    ['sign', '/v1/keys/signer/sign'],
    ['mac', '/v1/keys/mac/mac'],
  ] as const)('fails %s of %s alone, which works again at once', async (call, path) => {
    const body = path.endsWith('/unwrap')
      ? {
          ciphertext: (await post(path.replace('unwrap', 'wrap'), { plaintext: message })).json[
            'ciphertext'
          ],
        }
      : path.endsWith('/wrap')
        ? { plaintext: message }
        : { message };
    fill(call);
    expect(await post(path, body)).toMatchObject({ status: 503, json: { code: 'hsm_full' } });
    service.world.device.fault = () => 'none';
    expect((await post(path, body)).status).toBe(200);
  });
});
