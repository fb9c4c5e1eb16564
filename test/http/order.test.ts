import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { mintGrant } from '../../src/access/grant.ts';
import { StaleAnswer } from '../../src/audit/ports.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { HttpDependencies } from '../../src/http/dependencies.ts';
import { ANONYMOUS_PATHS, ROUTES } from '../../src/contract/routes.ts';
import { openService } from './service.ts';
import type { CallInit, Service } from './service.ts';

const b64 = (text: string) => Buffer.from(text).toString('base64');
const UNKNOWN = '00000000-0000-4000-8000-000000000000';
const wrapBody = { plaintext: b64('secret') };

describe('the order of checks', () => {
  let service: Service;
  beforeAll(async () => {
    service = await openService();
    await service.call('admin', 'POST', '/v1/admin/keys', {
      json: { name: 'k', suite: 'A256GCM' },
    });
  });
  afterAll(() => service.stop());

  const codeOf = async (...call: Parameters<Service['call']>) => {
    const { status, json } = await service.call(...call);
    return `${status} ${String(json['code'])}`;
  };

  it('knows the route before the token', async () => {
    expect(await codeOf(null, 'GET', '/v1/nothing')).toBe('404 route_not_found');
    expect(await codeOf(null, 'DELETE', '/v1/keys/k')).toBe('405 method_not_allowed');
  });

  it.each([
    '/V1/keys',
    '/v1/keys/',
    '//v1/keys',
    '/v1/keys/k/wrap/',
    '/v1/keys/k/Wrap',
    '/v1/keys//wrap',
    '/v1',
    '/',
    '/metrics',
    '/v1/admin',
    '/v1/keys/a%2Fb/wrap/x',
  ])('has no route %s', async (path) => {
    expect(await codeOf('admin', 'GET', path)).toBe('404 route_not_found');
  });

  it('names the methods of a route', async () => {
    const { headers } = await service.call(null, 'PUT', '/v1/keys');
    expect(headers.get('allow')).toBe('GET, HEAD');
    const patch = await service.call(null, 'GET', '/v1/admin/keys/k');
    expect(patch.headers.get('allow')).toBe('PATCH');
    expect((await service.call(null, 'OPTIONS', '/v1/keys')).status).toBe(405);
  });

  it('wants a token on every route but the anonymous ones', async () => {
    for (const { method, path, plane } of ROUTES) {
      const place = path.replaceAll(/\{\w+\}/g, '1');
      const { status, json, headers } = await service.call(null, method, place);
      // A name that no published key has, and what is shown only where that is configured.
      const open = path.includes('{') || path === '/public/log/checkpoint' ? 404 : 200;
      if (plane === 'public') expect({ path, status }).toEqual({ path, status: open });
      else {
        expect({ path, code: json['code'] }).toEqual({ path, code: 'token_missing' });
        expect(headers.get('www-authenticate')).toBe('Bearer');
        expect(headers.get('twofold-audit-id')).toBeNull();
      }
    }
    expect(service.anonymous.filter(({ outcome }) => outcome === 'token_missing').length).toBe(
      ROUTES.length - ANONYMOUS_PATHS.length,
    );
  });

  it('asks permission before it looks at query, headers or body', async () => {
    const broken = { body: 'no json', headers: { 'content-type': 'application/json' } };
    expect(await codeOf('auditor', 'POST', '/v1/keys/k/wrap?x=1', broken)).toBe('403 forbidden');
    expect(await codeOf('auditor', 'POST', '/v1/keys/none/wrap', broken)).toBe('403 forbidden');
    expect(await codeOf('user', 'POST', '/v1/keys/none/wrap', broken)).toBe('400 malformed_json');
  });

  it('asks permission before existence, and input before existence', async () => {
    expect(await codeOf('nobody', 'GET', '/v1/keys/none')).toBe('403 forbidden');
    expect(await codeOf('user', 'GET', '/v1/keys/none?x=1')).toBe('400 unknown_parameter');
    expect(await codeOf('user', 'GET', '/v1/keys/none')).toBe('404 key_not_found');
    const bad = { json: { plaintext: '*' } };
    expect(await codeOf('user', 'POST', '/v1/keys/none/wrap', bad)).toBe('400 invalid_base64');
    expect(await codeOf('user', 'POST', `/v1/keys/${UNKNOWN}/wrap`, { json: wrapBody })).toBe(
      '404 key_not_found',
    );
  });

  it('finds existence before state', async () => {
    const message = { json: { message: b64('m') } };
    expect(await codeOf('user', 'POST', '/v1/keys/none/sign', message)).toBe('404 key_not_found');
    expect(await codeOf('user', 'POST', '/v1/keys/k/sign', message)).toBe('409 wrong_purpose');
  });

  it('knows one namespace; keys of another are unknown', async () => {
    const headers = { 'twofold-namespace': 'other' };
    expect(await codeOf('user', 'GET', '/v1/keys/k', { headers })).toBe('404 key_not_found');
    expect(await codeOf('user', 'GET', '/v1/keys', { headers })).toBe('404 not_found');
    const json = { name: 'x', suite: 'A256GCM' };
    expect(await codeOf('admin', 'POST', '/v1/admin/keys', { headers, json })).toBe(
      '404 not_found',
    );
    const own = { headers: { 'twofold-namespace': 'default' } };
    expect((await service.call('user', 'GET', '/v1/keys/k', own)).status).toBe(200);
    const bad = { headers: { 'twofold-namespace': 'Ä' } };
    expect(await codeOf('user', 'GET', '/v1/keys/k', bad)).toBe('400 invalid_value');
  });

  it('records a failed use with the key, version and suite that were selected', async () => {
    const { json } = await service.call('user', 'POST', '/v1/keys/k/wrap', { json: wrapBody });
    const other = { ciphertext: json['ciphertext'], encryptionContext: { not: 'this' } };
    const { json: key } = await service.call('user', 'GET', '/v1/keys/k');
    for (const operation of ['unwrap', 'rewrap']) {
      const failed = await service.call('user', 'POST', `/v1/keys/k/${operation}`, { json: other });
      expect(failed.json['code']).toBe('decryption_failed');
      const facts = { operation, outcome: 'decryption_failed', keyRef: 'k', keyVersion: 1 };
      expect(service.drafts.at(-1)).toMatchObject({ ...facts, keyId: key['id'] });
      expect(service.drafts.at(-1)?.suite).not.toBeNull();
    }
  });

  it('records every authenticated request once, with its outcome', async () => {
    const before = service.drafts.length;
    await service.call('auditor', 'POST', '/v1/keys/k/wrap', { json: wrapBody });
    await service.call('user', 'POST', '/v1/keys/k/wrap', { json: { plaintext: '*' } });
    await service.call('user', 'POST', '/v1/keys/K/wrap', { json: wrapBody });
    await service.call('user', 'POST', '/v1/keys/k/wrap', { json: wrapBody });
    await service.call('user', 'GET', '/v1/whoami');
    const facts = service.drafts
      .slice(before)
      .map(({ operation, outcome, keyRef }) => [operation, outcome, keyRef]);
    expect(facts).toEqual([
      ['wrap', 'forbidden', 'k'],
      ['wrap', 'invalid_base64', 'k'],
      ['wrap', 'key_not_found', null],
      ['wrap', 'ok', 'k'],
      ['whoami', 'ok', null],
    ]);
    expect(service.drafts[before]?.decision).toMatchObject({ policies: [] });
  });
});

describe('no audit, no answer', () => {
  const failing = async (
    record: HttpDependencies['audit']['record'],
    leaving: HttpDependencies['audit']['leaving'] = () => 'durable',
  ) => {
    const service = await openService({
      replace: ({ audit }) => ({
        audit: {
          change: (draft, commit) => audit.change(draft, commit),
          countAnonymous: () => undefined,
          refusal: () => null,
          confirmed: () => Promise.resolve(),
          read: (id) => audit.read(id),
          list: (query) => audit.list(query),
          hash: (values) => audit.hash(values),
          reading: (draft, standing) => audit.reading(draft, standing),
          record,
          leaving,
        },
      }),
    });
    await service.call('admin', 'POST', '/v1/admin/keys', {
      json: { name: 'k', suite: 'A256GCM' },
    });
    return service;
  };

  it.each([
    ['audit_unavailable', () => new TwofoldError('audit_unavailable', 'inner detail')],
    ['something else', () => new Error('inner detail')],
  ])('answers 503 alone when the entry fails with %s', async (_name, error) => {
    const service = await failing(() => Promise.reject(error()));
    try {
      const calls = [
        service.call('user', 'POST', '/v1/keys/k/wrap', { json: wrapBody }),
        service.call('auditor', 'POST', '/v1/keys/k/wrap', { json: wrapBody }),
        service.call('user', 'GET', '/v1/keys/none'),
        service.call('user', 'GET', '/v1/whoami'),
      ];
      for (const { status, json, text, headers } of await Promise.all(calls)) {
        expect(status).toBe(503);
        expect(json).toMatchObject({ code: 'audit_unavailable' });
        expect(Object.keys(json).toSorted()).toEqual(
          ['code', 'requestId', 'status', 'title', 'type'].toSorted(),
        );
        expect(text).not.toContain('inner detail');
        expect(headers.get('retry-after')).toBe('1');
        expect(headers.get('twofold-audit-id')).toBeNull();
      }
    } finally {
      await service.stop();
    }
  });

  it('leaves no plaintext behind in an answer that may not leave', async () => {
    const allocated = jest.spyOn(Buffer, 'allocUnsafe');
    const rendered = () =>
      allocated.mock.results
        .map(({ value }) => value as Buffer)
        .filter((bytes) => bytes.includes('"plaintext"'));
    const found: number[] = [];
    let leaves = true;
    const service = await failing(
      () => Promise.resolve('1-1'),
      () => {
        if (leaves) return 'durable';
        found.push(rendered().length);
        throw new TwofoldError('audit_unavailable');
      },
    );
    try {
      const { json } = await service.call('user', 'POST', '/v1/keys/k/wrap', { json: wrapBody });
      leaves = false;
      const opened = await service.call('user', 'POST', '/v1/keys/k/unwrap', {
        json: { ciphertext: json['ciphertext'] },
      });
      expect([opened.status, found, rendered().length]).toEqual([503, [1], 0]);
    } finally {
      allocated.mockRestore();
      await service.stop();
    }
  });

  it('runs an overtaken request again from its authorization, but not for ever', async () => {
    let [stale, records] = [2, 0];
    const service = await failing(() => {
      records += 1;
      stale -= 1;
      return stale >= 0 ? Promise.reject(new StaleAnswer()) : Promise.resolve('1-1');
    });
    try {
      const wrapped = await service.call('user', 'POST', '/v1/keys/k/wrap', { json: wrapBody });
      expect([wrapped.status, records]).toEqual([200, 3]);
      const opened = await service.call('user', 'POST', '/v1/keys/k/unwrap', {
        json: { ciphertext: wrapped.json['ciphertext'] },
      });
      // The plaintext of the first run was still there for the third.
      expect(opened.json['plaintext']).toBe(wrapBody.plaintext);
      // One more record than attempts: that of the refusal.
      [stale, records] = [40, 0];
      const given = await service.call('user', 'POST', '/v1/keys/k/wrap', { json: wrapBody });
      expect([given.status, given.json['code'], records]).toEqual([409, 'conflict', 41]);
      expect(given.headers.get('twofold-audit-id')).toBe('1-1');
      [stale, records] = [99, 0];
      const lost = await service.call('user', 'POST', '/v1/keys/k/wrap', { json: wrapBody });
      expect([lost.status, lost.json['code'], records]).toEqual([503, 'audit_unavailable', 41]);
    } finally {
      await service.stop();
    }
  });

  it.each<[string, CallInit, string]>([
    ['that is not JSON', { body: '{"x' }, '400 malformed_json'],
    ['of an unknown field', { json: { ...wrapBody, x: 1 } }, '400 unknown_field'],
    ['that is too large', { body: ' '.repeat(1_048_577) }, '413 body_too_large'],
  ])('refuses a body %s for the same each time that it is overtaken', async (_what, body, code) => {
    let [stale, records] = [3, 0];
    const outcomes = new Set<string>();
    const service = await failing((draft) => {
      outcomes.add(draft.outcome);
      records += 1;
      stale -= 1;
      return stale >= 0 ? Promise.reject(new StaleAnswer()) : Promise.resolve('1-1');
    });
    const headers = { 'content-type': 'application/json' };
    try {
      const began = performance.now();
      const answer = await service.call('user', 'POST', '/v1/keys/k/wrap', { headers, ...body });
      expect(`${answer.status} ${String(answer.json['code'])}`).toBe(code);
      expect([records, ...outcomes]).toEqual([4, code.slice(4)]);
      // A body that is waited for once more is given up after 10 s.
      expect(performance.now() - began).toBeLessThan(5_000);
    } finally {
      await service.stop();
    }
  });

  it('runs a request again whose authentication a change of access overtook', async () => {
    let [authentications, overtake] = [0, false];
    const standings: number[] = [];
    const service = await openService({
      replace: ({ audit, authenticator, epoch }) => ({
        authenticator: {
          authenticate: async (credentials) => {
            const principal = await authenticator.authenticate(credentials);
            authentications += 1;
            if (!overtake) return principal;
            overtake = false;
            const change = { epoch: epoch.current + 1, scope: 'access' } as const;
            epoch.advance([{ ...change, namespace: 'default', keyId: null, keyName: null }]);
            return principal;
          },
        },
        audit: {
          change: (draft, commit) => audit.change(draft, commit),
          countAnonymous: () => undefined,
          refusal: () => null,
          confirmed: () => Promise.resolve(),
          leaving: () => 'durable',
          read: (id) => audit.read(id),
          list: (query) => audit.list(query),
          hash: (values) => audit.hash(values),
          reading: (draft, standing) => audit.reading(draft, standing),
          record: async (_draft, standing) => {
            standings.push(standing.epoch);
            if (epoch.touches(standing)) throw new StaleAnswer();
            return '1-1';
          },
        },
      }),
    });
    try {
      overtake = true;
      expect((await service.call('user', 'GET', '/v1/whoami')).status).toBe(200);
      const [first, second] = standings;
      expect([authentications, standings.length]).toEqual([2, 2]);
      expect(second).toBe((first ?? 0) + 1);
    } finally {
      await service.stop();
    }
  });

  it('denies on the second run what was permitted on the first', async () => {
    let revoked = false;
    const service = await openService({
      replace: ({ audit, authorizer, epoch }) => ({
        audit: {
          change: (draft, commit) => audit.change(draft, commit),
          countAnonymous: () => undefined,
          refusal: () => null,
          confirmed: () => Promise.resolve(),
          leaving: () => 'durable',
          read: (id) => audit.read(id),
          list: (query) => audit.list(query),
          hash: (values) => audit.hash(values),
          reading: (draft, standing) => audit.reading(draft, standing),
          record: (draft, standing) => {
            if (draft.operation === 'wrap' && !revoked) {
              revoked = true;
              return Promise.reject(new StaleAnswer());
            }
            return audit.record(draft, standing);
          },
        },
        authorizer: {
          authorize: (principal, operation, resource) => {
            if (revoked) throw new TwofoldError('forbidden');
            const decision = authorizer.decide(principal, operation, resource);
            return mintGrant({ operation, principal, decision, epoch: epoch.current, ...resource });
          },
          refine: (grant, body) => authorizer.refine(grant, body),
          may: (principal, operation, resource) => authorizer.may(principal, operation, resource),
          decide: (principal, operation, resource) =>
            authorizer.decide(principal, operation, resource),
        },
      }),
    });
    try {
      const json = { name: 'k', suite: 'A256GCM' };
      await service.call('admin', 'POST', '/v1/admin/keys', { json });
      const answer = await service.call('user', 'POST', '/v1/keys/k/wrap', { json: wrapBody });
      expect([answer.status, answer.json['code']]).toEqual([403, 'forbidden']);
      expect(answer.text).not.toContain('tf1.');
    } finally {
      await service.stop();
    }
  });
});

describe('absence', () => {
  it('is told to those who may read, and looks like a denial to others', async () => {
    const service = await openService({
      replace: ({ authorizer }) => ({
        authorizer: {
          authorize: (principal, operation, resource) =>
            authorizer.authorize(principal, operation, resource),
          refine: (grant, body) => authorizer.refine(grant, body),
          may: (principal, operation, resource) =>
            operation !== 'keys.read' && authorizer.may(principal, operation, resource),
          decide: (principal, operation, resource) =>
            authorizer.decide(principal, operation, resource),
        },
      }),
    });
    try {
      const answer = await service.call('user', 'POST', '/v1/keys/none/wrap', { json: wrapBody });
      expect([answer.status, answer.json['code']]).toEqual([403, 'forbidden']);
    } finally {
      await service.stop();
    }
  });
});
