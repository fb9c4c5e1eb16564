/**
 * Promise P4, generated from the table of routes: each of them is denied to who may not ask it, with the
 * right code, and the denial is audited. A route that is added is asked without an edit here.
 */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { decodeJwt } from 'jose';
import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { SCHEMA } from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';
import { isAnonymous } from '../../src/contract/route.ts';
import { ROUTES } from '../../src/contract/routes.ts';
import type { RouteContract } from '../../src/contract/route.ts';
import { openService } from '../http/service.ts';
import type { Called, Service } from '../http/service.ts';

const GUARDED = ROUTES.filter((route) => !isAnonymous(route));
const OPERATIONS = [...new Set(GUARDED.map(({ operation }) => String(operation)))];

/** Everybody with the role `but <operation>` may do everything else, also in namespaces. */
const POLICIES = [
  ...OPERATIONS.map(
    (operation) => `@id("but-${operation}")
permit (principal in Role::"but ${operation}", action, resource) unless { action == Action::"${operation}" };`,
  ),
  `@id("all-here") permit (principal in Role::"here", action, resource in Namespace::"default");`,
].join('\n');

const TIMERS = [
  'hrtime',
  'nextTick',
  'performance',
  'queueMicrotask',
  'setImmediate',
  'clearImmediate',
  'setInterval',
  'clearInterval',
  'setTimeout',
  'clearTimeout',
] as const;

let service: Service;
let expired: string;
let denied: string;

/** Runs with a calendar of an hour ago; timers are those of today. */
async function longAgo<T>(work: () => Promise<T>): Promise<T> {
  jest.useFakeTimers({ now: Date.now() - 3_600_000, doNotFake: [...TIMERS] });
  try {
    return await work();
  } finally {
    jest.useRealTimers();
  }
}

beforeAll(async () => {
  service = await openService({
    replace: ({ epoch }) => ({
      authorizer: PolicyAuthorizer.of({ epoch, policies: PolicySet.load(SCHEMA, POLICIES) }),
    }),
  });
  expired = await longAgo(() => service.token('here', 1));
  for (const [name, suite] of Object.entries({ k: 'MLKEM768-P256', s: 'HS256' })) {
    const made = await service.call('here', 'POST', '/v1/admin/keys', { json: { name, suite } });
    expect(made.status).toBe(201);
  }
  denied = await service.token('here', 600, 'of-a-denied-token');
  const denial = { tokenId: decodeJwt(denied).jti, reason: 'lost' };
  const made = await service.call('here', 'POST', '/v1/admin/denials', { json: denial });
  expect(made.status).toBe(201);
  const json = { name: 'elsewhere' };
  await service.call('here', 'POST', '/v1/admin/namespaces', { json });
}, 60_000);
afterAll(() => service.stop());

/** Any text stands where the path has a parameter; a key is one that is there. */
const pathOf = ({ path }: RouteContract, key = 'k') =>
  path.replace('{key}', key).replaceAll(/\{\w+\}/gu, '1');
const ask = (route: RouteContract, role: string | null, headers: Record<string, string> = {}) =>
  service.call(role, route.method, pathOf(route), { headers });
const seen = ({ status, json }: Called) => [status, json['code']];

describe.each(GUARDED.map((route) => [route.id, route] as const))('%s', (_id, route) => {
  const operation = String(route.operation);

  async function expectDenied(answering: Promise<Called>, namespace = 'default') {
    const before = service.drafts.length;
    const answer = await answering;
    expect(seen(answer)).toEqual([403, 'forbidden']);
    expect(answer.headers.get('twofold-audit-id')).not.toBeNull();
    expect(service.drafts.slice(before)).toMatchObject([
      { operation, outcome: 'forbidden', namespace },
    ]);
  }

  it('is denied to who names nobody, and counted', async () => {
    const before = [service.drafts.length, service.anonymous.length];
    expect(seen(await ask(route, null))).toEqual([401, 'token_missing']);
    expect([service.drafts.length, service.anonymous.length - 1]).toEqual(before);
  });

  it('is denied to a token of nobody that is known', async () => {
    const headers = { authorization: `Bearer ${expired.slice(0, -4)}AAAA` };
    expect(seen(await ask(route, null, headers))).toEqual([401, 'token_invalid']);
  });

  it('is denied to a token whose id is denied, under the name of who brought it', async () => {
    const before = service.drafts.length;
    const answer = await ask(route, null, { authorization: `Bearer ${denied}` });
    expect(seen(answer)).toEqual([401, 'token_denied']);
    expect(answer.headers.get('twofold-audit-id')).not.toBeNull();
    expect(service.drafts.slice(before)).toMatchObject([
      { operation, outcome: 'token_denied', actor: { subject: 'of-a-denied-token' } },
    ]);
  });

  it('is denied to who has another role', () => expectDenied(ask(route, 'nobody')));

  it('is denied to who may do everything else', () => expectDenied(ask(route, `but ${operation}`)));

  it('is denied in another namespace than the one that the policies are about', () =>
    expectDenied(ask(route, 'here', { 'twofold-namespace': 'elsewhere' }), 'elsewhere'));

  it('tells nothing of a namespace that is not there', () =>
    expectDenied(ask(route, 'here', { 'twofold-namespace': 'absent' })));
});

describe('every route', () => {
  it('is denied to a token that has expired', async () => {
    const headers = { authorization: `Bearer ${expired}` };
    for (const route of GUARDED) {
      const [status, code] = seen(await ask(route, null, headers));
      expect([route.id, status, code]).toEqual([route.id, 401, 'token_expired']);
    }
  });
});
