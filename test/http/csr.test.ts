/** Certification requests by the service. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { relativeName } from '../../src/contract/csr.ts';
import { ATTRIBUTE_NAMES } from '../../src/crypto/distinguished-name.ts';
import { SUITES } from '../../src/crypto/suites.ts';
import { expectRequest, isRequestable } from './requested.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';
import { isSlow } from './suite-life.ts';

/** The others are asked for in `every-suite.slow.test.ts`. */
const REQUESTABLE = Object.values(SUITES)
  .filter(isRequestable)
  .filter((suite) => !isSlow(suite));
const subject = [{ C: 'FI' }, { O: 'Esimerkki' }, { CN: 'release' }];

it('the contract knows the attributes that the encoder knows', () => {
  expect(Object.keys(relativeName.shape)).toEqual(ATTRIBUTE_NAMES);
});

describe('a certification request', () => {
  let service: Service;
  const ask = (key: string, json: unknown, role = 'user') =>
    service.call(role, 'POST', `/v1/keys/${key}/csr`, { json });

  beforeAll(async () => {
    service = await openService();
    const keys = { k: 'MLDSA65-ECDSA-P256-SHA512', w: 'MLKEM768-P256', m: 'HS256' };
    for (const [name, suite] of Object.entries(keys)) {
      await service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite } });
    }
  });
  afterAll(() => service.stop());

  it.each(REQUESTABLE.map((suite) => [suite.id, suite] as const))(
    'of %s holds its key and is signed by it',
    async (id, suite) => {
      const key = `of-${id.toLowerCase()}`;
      await service.call('admin', 'POST', '/v1/admin/keys', { json: { name: key, suite: id } });
      await expectRequest(service, key, suite);
    },
  );

  it('is audited with the kinds of its names and not with them', async () => {
    await ask('k', { subject, alternativeNames: [{ email: 'secret@example.org' }] });
    const draft = service.drafts.at(-1);
    expect(draft).toMatchObject({
      operation: 'csr',
      outcome: 'ok',
      keyVersion: 1,
      detail: { subjectAttributes: '["C","CN","O"]', alternativeNames: 1 },
    });
    expect(JSON.stringify(draft?.detail)).not.toContain('Esimerkki');
    expect(draft).toMatchObject({ contextValues: null, aad: expect.any(Uint8Array) });
  });

  it('takes a permission of its own', async () => {
    for (const role of ['operator', 'auditor']) {
      expect((await ask('k', { subject }, role)).json['code']).toBe('forbidden');
    }
  });

  it.each<[string, number, string, object]>([
    ['no subject', 400, 'invalid_value', {}],
    ['no name at all', 400, 'invalid_value', { subject: [] }],
    ['an unknown attribute', 400, 'unknown_field', { subject: [{ XX: 'a' }] }],
    [
      'a member of the prototype',
      400,
      'unknown_field',
      JSON.parse('{"subject":[{"__proto__":{}}]}'),
    ],
    ['an empty relative name', 400, 'invalid_value', { subject: [{}] }],
    ['a long country', 400, 'invalid_value', { subject: [{ C: 'FIN' }] }],
    ['a control character', 400, 'invalid_value', { subject: [{ CN: 'a\nb' }] }],
    ['a lone surrogate', 400, 'malformed_json', { subject: [{ CN: 'a\ud800' }] }],
    ['a number', 400, 'invalid_value', { subject: [{ CN: 7 }] }],
    [
      'two kinds in one',
      400,
      'invalid_value',
      { subject, alternativeNames: [{ dns: 'a', ip: '::1' }] },
    ],
    ['a kind that is none', 400, 'unknown_field', { subject, alternativeNames: [{ rid: '1.2' }] }],
    ['a host that is none', 400, 'invalid_value', { subject, alternativeNames: [{ dns: 'a b' }] }],
    [
      'an address that is none',
      400,
      'invalid_value',
      { subject, alternativeNames: [{ ip: '1.2.3' }] },
    ],
    ['a version that is not there', 404, 'version_not_found', { subject, keyVersion: 9 }],
  ])('with %s is refused', async (_name, status, code, body) => {
    const answer = await ask('k', body);
    expect([answer.status, answer.json['code']]).toEqual([status, code]);
  });

  it('of a key that does not sign is refused', async () => {
    for (const key of ['w', 'm']) {
      expect((await ask(key, { subject })).json['code']).toBe('wrong_purpose');
    }
  });

  it('of a suspended key is refused', async () => {
    const reason = { json: { reason: 'a drill' } };
    await service.call('admin', 'POST', '/v1/admin/keys/k/suspend', reason);
    expect((await ask('k', { subject })).json['code']).toBe('version_not_usable');
    await service.call('admin', 'POST', '/v1/admin/keys/k/resume', reason);
  });
});
