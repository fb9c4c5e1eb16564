/** One message signed with several keys: each asked for by itself, all signatures or none. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import type { Operation } from '../../src/access/grant.ts';
import type { Resource } from '../../src/access/ports.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const message = Buffer.from('a message').toString('base64');

describe('signing in parallel', () => {
  let service: Service;
  let refuses: (operation: Operation, resource: Resource) => boolean;
  let signs: number;
  const ids = new Map<string, string>();
  const ask = (keys: unknown, more: object = {}) =>
    service.call('user', 'POST', '/v1/sign-parallel', { json: { keys, message, ...more } });

  beforeEach(async () => {
    refuses = () => false;
    signs = 0;
    service = await openService({
      replace: ({ authorizer, use }) => ({
        use: {
          ...use,
          signJws: (grant, input) => {
            signs += 1;
            return use.signJws(grant, input);
          },
        },
        authorizer: {
          ...authorizer,
          authorize: (principal, operation, resource) => {
            if (refuses(operation, resource)) throw new TwofoldError('forbidden');
            return authorizer.authorize(principal, operation, resource);
          },
          refine: (grant, facts) => authorizer.refine(grant, facts),
          may: (principal, operation, resource) =>
            !refuses(operation, resource) && authorizer.may(principal, operation, resource),
          decide: (principal, operation, resource, facts) =>
            refuses(operation, resource)
              ? { allowed: false, revision: 'test', policies: ['of-test'] }
              : authorizer.decide(principal, operation, resource, facts),
        },
      }),
    });
    const keys = {
      a: 'MLDSA65-ECDSA-P256-SHA512',
      b: 'MLDSA87-ECDSA-P384-SHA512',
      w: 'MLKEM768-P256',
    };
    for (const [name, suite] of Object.entries(keys)) {
      const init = { json: { name, suite } };
      const { json } = await service.call('admin', 'POST', '/v1/admin/keys', init);
      ids.set(name, String(json['id']));
    }
  });
  afterEach(() => service.stop());

  it('gives one JWS of which each signature verifies with its key alone', async () => {
    const { status, json } = await ask([{ key: 'b' }, { key: ids.get('a') }]);
    expect(status).toBe(200);
    expect(json['keys']).toMatchObject([
      { key: 'b', keyVersion: 1, quantumVulnerable: false },
      { key: 'a', keyId: ids.get('a'), quantumVulnerable: false },
    ]);
    const { payload, signatures } = json['jws'] as {
      payload: string;
      signatures: { protected: string; signature: string }[];
    };
    expect(Buffer.from(payload, 'base64url').toString()).toBe('a message');
    const verdicts = await Promise.all(
      ['b', 'a'].map(async (key, index) => {
        const { protected: head = '', signature = '' } = signatures[index] ?? {};
        const jws = [head, payload, signature].join('.');
        const verdict = await service.call('user', 'POST', `/v1/keys/${key}/verify`, {
          json: { jws },
        });
        return verdict.json['valid'];
      }),
    );
    expect(verdicts).toEqual([true, true]);
  });

  it('has one audit entry, which names all keys', async () => {
    await ask([{ key: 'a' }, { key: 'b' }]);
    const entries = service.drafts.filter(({ operation }) => operation === 'sign-parallel');
    expect(entries).toHaveLength(1);
    expect(entries[0]).toMatchObject({ outcome: 'ok', keyRef: 'a', keyId: ids.get('a') });
    expect(JSON.parse(String(entries[0]?.detail['signedBy']))).toEqual([
      [ids.get('a'), 1, 'MLDSA65-ECDSA-P256-SHA512'],
      [ids.get('b'), 1, 'MLDSA87-ECDSA-P384-SHA512'],
    ]);
  });

  it('takes sign on every key, before any signs', async () => {
    refuses = (operation, { key }) => operation === 'sign' && key === 'b';
    const { json } = await ask([{ key: 'a' }, { key: 'b' }]);
    expect([json['code'], signs]).toEqual(['forbidden', 0]);
    expect(service.drafts.at(-1)).toMatchObject({
      operation: 'sign-parallel',
      outcome: 'forbidden',
      decision: { policies: ['of-test'] },
      detail: { keys: '["a","b"]' },
    });
  });

  it('takes the permission to sign in parallel as well', async () => {
    refuses = (operation) => operation === 'sign-parallel';
    expect((await ask([{ key: 'a' }, { key: 'b' }])).json['code']).toBe('forbidden');
    const auditor = await service.call('auditor', 'POST', '/v1/sign-parallel', { json: {} });
    expect(auditor.json['code']).toBe('forbidden');
  });

  it.each<[string, number, string, unknown]>([
    ['one key', 400, 'invalid_value', [{ key: 'a' }]],
    ['five keys', 400, 'invalid_value', ['1', '2', '3', '4', '5'].map((key) => ({ key }))],
    ['a key twice', 400, 'invalid_value', [{ key: 'a' }, { key: 'a', keyVersion: 1 }]],
    ['a key that does not sign', 409, 'wrong_purpose', [{ key: 'a' }, { key: 'w' }]],
    [
      'a version that is not there',
      404,
      'version_not_found',
      [{ key: 'a' }, { key: 'b', keyVersion: 9 }],
    ],
    ['a key that is not there', 404, 'key_not_found', [{ key: 'a' }, { key: 'none' }]],
  ])('refuses %s as a whole', async (_name, status, code, keys) => {
    const { status: found, json } = await ask(keys);
    expect([found, json['code']]).toEqual([status, code]);
    expect(json).not.toHaveProperty('jws');
  });

  it('is not of classical keys alone', async () => {
    for (const name of ['c1', 'c2']) {
      const key = { json: { name, suite: 'ECDSA-P256-SHA256' } };
      expect((await service.call('admin', 'POST', '/v1/admin/keys', key)).status).toBe(201);
    }
    const { status, json } = await ask([{ key: 'c1' }, { key: 'c2' }]);
    expect([status, json['code']]).toEqual([400, 'invalid_value']);
    expect(json).not.toHaveProperty('jws');
    expect((await ask([{ key: 'c1' }, { key: 'a' }])).status).toBe(200);
  });

  it('knows a key by its name and its UUID as one', async () => {
    const { json } = await ask([{ key: 'a' }, { key: ids.get('a') }]);
    expect(json['code']).toBe('invalid_value');
  });

  it('tells of an absent key only to who may read it', async () => {
    refuses = (operation, { key }) => operation === 'keys.read' && key === 'none';
    expect((await ask([{ key: 'a' }, { key: 'none' }])).json['code']).toBe('forbidden');
  });

  it('of a key that is suspended meanwhile is refused, whichever it is', async () => {
    for (const key of ['a', 'b']) {
      const reason = { json: { reason: 'a drill' } };
      await service.call('admin', 'POST', `/v1/admin/keys/${key}/suspend`, reason);
      expect((await ask([{ key: 'a' }, { key: 'b' }])).json['code']).toBe('version_not_usable');
      await service.call('admin', 'POST', `/v1/admin/keys/${key}/resume`, reason);
    }
  });
});
