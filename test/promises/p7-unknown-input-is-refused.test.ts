/**
 * Promise P7: unknown field, query parameter, `Twofold-*` header, suite, envelope version, state: a
 * clear error, never a default. Every route is asked, and nothing may have changed afterwards.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ROUTES } from '../../src/contract/routes.ts';
import type { RouteContract } from '../../src/contract/route.ts';
import { openService } from '../http/service.ts';
import type { CallInit, Service } from '../http/service.ts';

/** Of the query, what a route insists on, so that nothing else is wrong with it. */
function requiredQuery({ id, query }: (typeof ROUTES)[number]): string {
  if (id === 'listNamespaceRotations') return '?state=late';
  if (id === 'getConsistencyProof') return '?from=0&to=0';
  if (id === 'importParameters') return '?suite=A256GCM';
  return 'offset' in query.shape ? '?offset=0' : '';
}

describe('P7: unknown input is refused', () => {
  let service: Service;
  beforeAll(async () => {
    service = await openService();
    for (const [name, suite] of Object.entries({ k: 'MLKEM768-P256', s: 'HS256' })) {
      await service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite } });
    }
  });
  afterAll(() => service.stop());

  const pathOf = ({ path }: RouteContract) =>
    path
      .replace('{key}', 'k')
      .replace('{version}', '1')
      .replace('{alias}', 'a')
      .replace('{name}', 'p')
      .replace('{suite}', 'A256GCM')
      .replace('{namespace}', 'n')
      .replace('{denial}', '0'.repeat(32))
      .replace('{rule}', 'r')
      .replace('{approval}', '8c2a4a0e-5f0f-4c5e-9d5d-1d2f6a3b4c5d')
      .replace('{id}', '1-1')
      .replace(/\{(?:revision|from|to)\}/gu, '0');
  /** Routes that take no request without If-Match. */
  const needsTag = ({ headers }: RouteContract) => !headers.safeParse({}).success;
  const ask = async (route: RouteContract, query: string, given: CallInit = {}) => {
    const role = route.plane === 'public' ? null : 'admin';
    const tag = needsTag(route) ? { 'if-match': '"1"' } : {};
    const init = { ...given, headers: { ...tag, ...given.headers } };
    const { status, json } = await service.call(role, route.method, pathOf(route) + query, init);
    return `${status} ${String(json['code'])}`;
  };
  const revisions = async () => {
    const { json } = await service.call('admin', 'GET', '/v1/keys');
    return (json['items'] as { revision: number }[]).map(({ revision }) => revision);
  };

  const routes = ROUTES.map((route) => [`${route.method} ${route.path}`, route] as const);
  // A line is refused for itself: test/http/rewrap-jobs.test.ts.
  const withBody = routes.filter(([, { body, lines }]) => body !== null && !lines);

  it.each(routes)('%s: query parameters', async (_name, route) => {
    for (const query of ['?unknown=1', '?unknown', '?', '?DryRun=true', '?dryrun=true', '?x=%00']) {
      expect([query, await ask(route, query)]).toEqual([query, '400 unknown_parameter']);
    }
  });

  it.each(routes)('%s: headers of ours', async (_name, route) => {
    for (const name of [
      'Twofold-Unknown',
      'Twofold-Request-Id',
      'Twofold-Audit-Id',
      'twofold-dry-run',
    ]) {
      const required = requiredQuery(route);
      const code = await ask(route, required, { headers: { [name]: '1' } });
      expect([name, code]).toEqual([name, '400 unknown_parameter']);
    }
  });

  it('names that JavaScript gives a meaning are no labels', async () => {
    const list = ROUTES.filter(({ id }) => id === 'listKeys');
    for (const route of list) {
      expect(await ask(route, '?label.__proto__=x')).toBe('400 unknown_parameter');
      expect(await ask(route, '?label.%5F_proto__=x')).toBe('400 unknown_parameter');
    }
    const labels = '{"labels":{"__proto__":"x"},"name":"l","suite":"A256GCM"}';
    const headers = { 'content-type': 'application/json' };
    for (const [method, path] of [
      ['POST', '/v1/admin/keys'],
      ['PATCH', '/v1/admin/keys/k'],
    ] as const) {
      const { json } = await service.call('admin', method, path, { body: labels, headers });
      expect(json['code']).toBe('unknown_field');
    }
  });

  it.each(withBody)('%s: fields', async (_name, route) => {
    for (const field of [
      'unknown',
      '',
      'constructor',
      'toString',
      '__proto__',
      'Plaintext',
      'keyversion',
    ]) {
      const body = `{${JSON.stringify(field)}:1}`;
      const type = route.json[0] ?? '';
      const code = await ask(route, '', { body, headers: { 'content-type': type } });
      expect([field, code]).toEqual([field, '400 unknown_field']);
    }
  });

  it('values: suites, states, formats, purposes, custodies, versions, namespaces', async () => {
    const cases: [string, string, object | undefined, string][] = [
      ['POST', '/v1/admin/keys', { name: 'x', suite: 'mlkem768-p256' }, 'unknown_suite'],
      ['POST', '/v1/admin/keys', { name: 'x', suite: 'toString' }, 'unknown_suite'],
      ['POST', '/v1/admin/keys', { name: 'x', suite: 'A256GCM', purpose: 'Wrap' }, 'invalid_value'],
      ['POST', '/v1/admin/keys', { name: 'x', suite: 'A256GCM', custody: 'hsm' }, 'invalid_value'],
      ['POST', '/v1/admin/keys/k/rotate', { suite: 'AES' }, 'unknown_suite'],
      ['GET', '/v1/suites/constructor', undefined, 'not_found'],
      ['GET', '/v1/keys?suite=__proto__', undefined, 'unknown_suite'],
      ['GET', '/v1/keys?state=active', undefined, 'invalid_value'],
      ['GET', '/v1/keys/k/public-key?format=der', undefined, 'invalid_value'],
      ['GET', '/v1/keys/k/public-key?version=latest', undefined, 'invalid_value'],
      ['GET', '/v1/audit/entries?from=yesterday', undefined, 'invalid_value'],
      [
        'POST',
        '/v1/keys/k/unwrap',
        { ciphertext: `tf1.${'A'.repeat(80)}` },
        'unsupported_envelope_version',
      ],
      ['POST', '/v1/keys/k/unwrap', { ciphertext: `tf2.${'A'.repeat(80)}` }, 'invalid_envelope'],
    ];
    for (const [method, path, json, code] of cases) {
      const answer = await service.call('admin', method, path, json === undefined ? {} : { json });
      expect([path, answer.json['code']]).toEqual([path, code]);
    }
  });

  const lists = ROUTES.filter(
    ({ query }) =>
      'pageToken' in query.shape || ['size', 'from'].some((name) => name in query.shape),
  ).map((route) => [route.id, route] as const);

  it.each(lists)('places of %s: those that no page gave', async (_name, route) => {
    expect(lists.length).toBeGreaterThan(20);
    const required = requiredQuery(route);
    const names = ['pageToken', 'size', 'from'].filter((name) => name in route.query.shape);
    const word = fc.constantFrom(
      ...['infinity', '-infinity', 'NaN', '-1', '1e999', '0x10', '1.5', '9'.repeat(400), '1-', '-'],
      ...['2026-13-01', '\0', '\ud800', 'null', '[object Object]', "'", '%', '+1', ' 1'],
    );
    const token = fc
      .uint8Array({ maxLength: 80 })
      .map((bytes) => Buffer.from(bytes).toString('base64url'));
    // Of the right length, around words that some list goes on from.
    const forged = word.map((text) =>
      Buffer.from(`${'m'.repeat(16)}${text}`).toString('base64url'),
    );
    const value = fc.oneof(word, token, forged, fc.string({ unit: 'binary', maxLength: 60 }));
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), value, async (name, text) => {
        fc.pre(name === 'pageToken' || !/^\d{1,15}$/u.test(text));
        const others = required.includes(`${name}=`) ? '' : required;
        const query = `${others === '' ? '?' : `${others}&`}${name}=${encodeURIComponent(text.toWellFormed())}`;
        expect([query, await ask(route, query)]).toEqual([query, '400 invalid_value']);
      }),
      { numRuns: 25, interruptAfterTimeLimit: 3_000 },
    );
  });

  it('nothing has changed, and every refusal is on record', async () => {
    expect(await revisions()).toEqual([1, 1]);
    const changes = service.drafts.filter(({ operation }) => /^(keys|versions)\./.test(operation));
    expect(changes.length).toBeGreaterThan(50);
    const done = changes.filter(
      ({ outcome, operation }) => outcome === 'ok' && operation !== 'keys.list',
    );
    expect(done).toEqual([]);
  });
});
