/** Rewraps to another key, and batches: each key is asked for by itself, and each item told by itself. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import type { BodyFacts, Resource } from '../../src/access/ports.ts';
import type { Operation } from '../../src/access/grant.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const b64 = (text: string) => Buffer.from(text).toString('base64');
const TARGET = { revision: 'target', policies: ['of-target'] };

describe('another key', () => {
  let service: Service;
  let ciphertext: unknown;
  /** What the policy of the test refuses, beside the real one. */
  let refuses: (operation: Operation, resource: Resource, facts?: BodyFacts) => boolean;

  beforeEach(async () => {
    refuses = () => false;
    service = await openService({
      replace: ({ authorizer }) => ({
        authorizer: {
          authorize: (principal, operation, resource) => {
            if (refuses(operation, resource)) throw new TwofoldError('forbidden');
            return authorizer.authorize(principal, operation, resource);
          },
          refine: (grant, facts) => {
            const { operation, namespace, key } = grant;
            if (refuses(operation, { namespace, key }, facts)) throw new TwofoldError('forbidden');
            return authorizer.refine(grant, facts);
          },
          may: (principal, operation, resource) =>
            !refuses(operation, resource) && authorizer.may(principal, operation, resource),
          decide: (principal, operation, resource, facts) => {
            if (refuses(operation, resource, facts)) return { allowed: false, ...TARGET };
            return authorizer.decide(principal, operation, resource, facts);
          },
        },
      }),
    });
    for (const name of ['from', 'to']) {
      await service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite: 'A256GCM' } });
    }
    const json = { plaintext: b64('data key'), encryptionContext: { tenant: 'a' } };
    ciphertext = (await service.call('user', 'POST', '/v1/keys/from/wrap', { json })).json[
      'ciphertext'
    ];
  });
  afterEach(() => service.stop());

  const bound = () => ({ ciphertext, encryptionContext: { tenant: 'a' } });
  const rewrap = (json: object, batch = '') =>
    service.call('user', 'POST', `/v1/keys/from/rewrap${batch}`, { json });
  const codesOf = (results: unknown) =>
    (results as { error?: { code: string } }[]).map(({ error }) => error?.code ?? 'ok');

  it('is asked for with the same facts of the body', async () => {
    refuses = (_operation, { key }, facts) =>
      key === 'to' && facts?.encryptionContext?.['tenant'] === 'a';
    const single = await rewrap({ ...bound(), to: 'to' });
    expect([single.status, single.json['code']]).toEqual([403, 'forbidden']);
    expect(service.drafts.at(-1)).toMatchObject({ outcome: 'forbidden', decision: TARGET });
  });

  it('that is denied to one item leaves the decision of the batch as it was', async () => {
    refuses = (_operation, { key }) => key === 'to';
    const { status, json } = await rewrap({ items: [bound(), { ...bound(), to: 'to' }] }, '/batch');
    expect([status, codesOf(json['results'])]).toEqual([200, ['ok', 'forbidden']]);
    const draft = service.drafts.at(-1);
    expect(draft?.outcome).toBe('ok');
    expect(draft?.decision?.policies).not.toContain('of-target');
    expect(draft?.decision?.policies.length).toBeGreaterThan(0);
    const all = await rewrap({ items: [{ ...bound(), to: 'to' }] }, '/batch');
    expect([all.status, all.json['code']]).toEqual([403, 'forbidden']);
    expect(service.drafts.at(-1)?.decision).toMatchObject(TARGET);
  });

  it('that does not exist looks like a denial to who may not read it', async () => {
    const ask = async () => {
      const single = await rewrap({ ...bound(), to: 'none' });
      const { json } = await rewrap({ items: [bound(), { ...bound(), to: 'none' }] }, '/batch');
      return [single.json['code'], ...codesOf(json['results'])];
    };
    expect(await ask()).toEqual(['key_not_found', 'ok', 'key_not_found']);
    refuses = (operation, { key }) => operation === 'keys.read' && key === 'none';
    expect(await ask()).toEqual(['forbidden', 'ok', 'forbidden']);
  });

  it('versions that do not exist are told item by item to readers alone', async () => {
    const items = [{ plaintext: b64('x') }, { plaintext: b64('x'), keyVersion: 9 }];
    const ask = async () => {
      const init = { json: { items } };
      const { json } = await service.call('user', 'POST', '/v1/keys/from/wrap/batch', init);
      return codesOf(json['results']);
    };
    expect(await ask()).toEqual(['ok', 'version_not_found']);
    refuses = (operation) => operation === 'keys.read';
    expect(await ask()).toEqual(['ok', 'forbidden']);
  });
});

it('a batch of verifications records how many said no', async () => {
  const service = await openService();
  try {
    const keys = { m: 'HS256', s: 'MLDSA65-ECDSA-P256-SHA512' };
    for (const [name, suite] of Object.entries(keys)) {
      await service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite } });
    }
    const verdicts = async (key: string, make: string, check: string, member: string) => {
      const json = { message: b64('m') };
      const made = await service.call('user', 'POST', `/v1/keys/${key}/${make}`, { json });
      const good = { ...json, [member]: made.json[member] };
      const items = [good, { ...good, message: b64('forged') }, { ...good, keyVersion: 9 }, good];
      const path = `/v1/keys/${key}/${check}/batch`;
      expect((await service.call('user', 'POST', path, { json: { items } })).status).toBe(200);
      return service.drafts.at(-1)?.detail;
    };
    const counts = { validItems: 2, invalidItems: 1 };
    expect(await verdicts('m', 'mac', 'verify-mac', 'mac')).toEqual(counts);
    expect(await verdicts('s', 'sign', 'verify', 'signature')).toEqual(counts);
  } finally {
    await service.stop();
  }
});
