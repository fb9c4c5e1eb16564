import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ANY_SUITE } from '../keyring/world.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

describe('a service with a profile', () => {
  let service: Service;
  beforeAll(async () => {
    service = await openService({ suites: { ...ANY_SUITE, profile: 'cnsa2', allow: ['A256GCM'] } });
  });
  afterAll(() => service.stop());

  const create = (name: string, suite: string, query = '') =>
    service.call('operator', 'POST', `/v1/admin/keys${query}`, { json: { name, suite } });

  it.each(['', '?dryRun=true'])('refuses what it does not list on create%s', async (query) => {
    const { status, json } = await create('hybrid', 'MLKEM1024-P384', query);
    expect(status).toBe(409);
    expect(json).toMatchObject({
      code: 'suite_unavailable_here',
      detail: 'The profile cnsa2 of this service does not list MLKEM1024-P384.',
    });
    expect((await create('left-out', 'ML-DSA-87', query)).json).toMatchObject({
      code: 'suite_unavailable_here',
      detail: 'suites.allow of this service does not list ML-DSA-87.',
    });
  });

  it.each(['', '?dryRun=true'])('refuses it on rotate%s, and serves the key on', async (query) => {
    const name = `listed${query.length}`;
    expect((await create(name, 'A256GCM')).status).toBe(201);
    const { json } = await service.call(
      'operator',
      'POST',
      `/v1/admin/keys/${name}/rotate${query}`,
      { json: { suite: 'MLKEM768-P256' } },
    );
    expect(json).toMatchObject({
      code: 'suite_unavailable_here',
      detail: 'The profile cnsa2 of this service does not list MLKEM768-P256.',
    });
    const rotated = await service.call('operator', 'POST', `/v1/admin/keys/${name}/rotate${query}`);
    expect(rotated.status).toBe(200);
  });

  it('tells the times of what succeeded, by operation', async () => {
    expect((await create('timed', 'A256GCM')).status).toBe(201);
    const before = (await service.call('user', 'GET', '/v1/suites/A256GCM')).json['times'];
    const wrap = { json: { plaintext: 'bQ==' } };
    for (const status of [200, 200]) {
      expect((await service.call('user', 'POST', '/v1/keys/timed/wrap', wrap)).status).toBe(status);
    }
    const named = { json: { plaintext: 'bQ==', keyVersion: 9 } };
    expect((await service.call('user', 'POST', '/v1/keys/timed/wrap', named)).status).toBe(404);
    const { json } = await service.call('user', 'GET', '/v1/suites/A256GCM');
    type Times = readonly { operation: string; count: number; medianMs: number }[];
    const countOf = (times: unknown) =>
      (times as Times).find(({ operation }) => operation === 'wrap')?.count ?? 0;
    expect(countOf(json['times']) - countOf(before)).toBe(2);
    for (const { medianMs } of json['times'] as Times) expect(medianMs).toBeGreaterThan(0);
  });

  it('shows what it admits, and what each suite is', async () => {
    const get = async (id: string) => (await service.call('user', 'GET', `/v1/suites/${id}`)).json;
    expect(await get('A256GCM')).toMatchObject({
      admitted: true,
      notAdmittedReason: null,
      engine: null,
      standings: ['cnsa2', 'approved'],
      sizes: { publicKey: null, privateKey: null, seed: null, ciphertextOverhead: 53, mac: null },
      custody: { postQuantum: null, classical: 'hsm-wrapped' },
      takes: null,
    });
    expect(await get('MLKEM768-X25519')).toMatchObject({
      admitted: false,
      notAdmittedReason: 'The profile cnsa2 of this service does not list MLKEM768-X25519.',
      engine: 'native',
      sizes: { publicKey: 1216, privateKey: 2432, seed: 64, encapsulation: 1120 },
      parts: [
        { half: 'post-quantum', privateKeyLength: 2400, seedLength: 64 },
        { half: 'classical', privateKeyLength: 32, seedLength: null },
      ],
      muEngine: null,
      custody: { postQuantum: 'sealed', classical: 'hsm-token' },
    });
    expect(await get('ML-DSA-87')).toMatchObject({
      sizes: { publicKey: 2592, privateKey: 4896, seed: 32, signatureMax: 4627 },
      engine: 'native',
      encoding: { oid: '2.16.840.1.101.3.4.3.19', joseAlg: 'ML-DSA-87', joseAlgMissing: null },
      takes: { context: true, mu: true },
      custody: { postQuantum: 'sealed', classical: null },
    });
  });
});
