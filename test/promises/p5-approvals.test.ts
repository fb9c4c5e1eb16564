/**
 * Promise P5 for approvals: what one instance ends, no other executes, also not a request under way;
 * and rows that somebody altered in the database are refused.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Site } from '../http/stored-service.ts';
import type { Called, Service } from '../http/service.ts';
import type { Instance } from '../keyring/world.ts';
import { withOwner } from '../store/owner.ts';

let site: Site;
let first: Service<Instance>;
let second: Service<Instance>;
/** Runs once within the next execution on `second`, after it has read its approval. */
let meanwhile: (() => Promise<unknown>) | null = null;

beforeAll(async () => {
  site = await Site.open();
  first = await site.service();
  second = await site.service({
    replace: ({ manage }) => ({
      manage: Object.assign(Object.create(manage) as typeof manage, {
        update: async (...given: Parameters<typeof manage.update>) => {
          const act = meanwhile;
          meanwhile = null;
          await act?.();
          return manage.update(...given);
        },
      }),
    }),
  });
  const json = { guards: ['keys.unprotect'], needed: 1, mayLockOut: true };
  const path = '/v1/admin/approval-rules/protection';
  expect((await as(first, 'founder', 'PUT', path, json)).status).toBe(200);
}, 60_000);
afterAll(() => site.close(), 60_000);

async function as(
  service: Service<Instance>,
  subject: string,
  method: string,
  path: string,
  json?: object,
  headers: Readonly<Record<string, string>> = {},
): Promise<Called> {
  const authorization = `Bearer ${await service.token('admin', 3600, subject)}`;
  const init = json === undefined ? {} : { json };
  return service.call(null, method, path, { ...init, headers: { authorization, ...headers } });
}

let keys = 0;
/** A key that is protected, and the approved request to end that. */
async function approved() {
  keys += 1;
  const path = `/v1/admin/keys/k${String(keys)}`;
  const key = { name: `k${String(keys)}`, suite: 'A256GCM', deletionProtection: true };
  await as(first, 'founder', 'POST', '/v1/admin/keys', key);
  const change = { deletionProtection: false };
  const asked = await as(second, 'alice', 'PATCH', path, change);
  const id = String(asked.json['id']);
  const at = `/v1/admin/approvals/${id}`;
  const given = await as(first, 'bob', 'POST', `${at}/approve`);
  expect(given.json['state']).toBe('approved');
  const execute = (on = second) =>
    as(on, 'alice', 'PATCH', path, change, { 'twofold-approval': id });
  const isProtected = async () =>
    (await as(second, 'alice', 'GET', `/v1/keys/k${String(keys)}`)).json['deletionProtection'];
  return { id, at, execute, isProtected };
}
const outcome = ({ status, json }: Called) => [status, json['code']];
const reason = { reason: 'no' };

describe('P5: an approval', () => {
  it('that one instance gives is executed on another', async () => {
    const { execute, isProtected } = await approved();
    expect((await execute()).status).toBe(200);
    expect(await isProtected()).toBe(false);
    expect(outcome(await execute(first))).toEqual([409, 'approval_used']);
  });

  it.each([
    ['denied', 'bob', 'deny'],
    ['withdrawn', 'alice', 'withdraw'],
  ] as const)('that is %s ends at once on another', async (_state, by, how) => {
    const { at, execute, isProtected } = await approved();
    expect((await as(first, by, 'POST', `${at}/${how}`, reason)).status).toBe(200);
    expect(outcome(await execute())).toEqual([409, 'approval_ended']);
    expect(await isProtected()).toBe(true);
  });

  it.each([
    ['denied', 'bob', 'deny', 'approval_ended'],
    ['withdrawn', 'alice', 'withdraw', 'approval_ended'],
  ] as const)('that is %s while it is executed changes nothing', async (_state, by, how, code) => {
    const { at, execute, isProtected } = await approved();
    meanwhile = () => as(first, by, 'POST', `${at}/${how}`, reason);
    expect(outcome(await execute())).toEqual([409, code]);
    expect(await isProtected()).toBe(true);
  });

  it('is executed once, also by two instances at the same time', async () => {
    const { execute } = await approved();
    meanwhile = () => execute(first).then(({ status }) => expect(status).toBe(200));
    expect(outcome(await execute())).toEqual([409, 'approval_used']);
  });
});

describe('an approval in the database', () => {
  const altering = (sql: string) =>
    withOwner(site.database, async (owner) => {
      await owner.query(sql);
    });
  it.each([
    `approvers = '[]'`,
    `state = 'approved', revision = revision + 1`,
    `expires_at = expires_at + interval '1 day', revision = revision + 1`,
    `request_hash = sha256('another'), revision = revision + 1`,
    `subject = 'mallory', revision = revision + 1`,
    `preview = '{}', revision = revision + 1`,
  ])('is refused where somebody altered it: %s', async (change) => {
    const { id, execute, isProtected } = await approved();
    const set = change.includes('revision') ? change : `${change}, revision = revision + 1`;
    await altering(`update public.approval set ${set} where id = '${id}'`);
    expect(outcome(await execute())).toEqual([500, 'integrity_failed']);
    expect(await isProtected()).toBe(true);
  });
});

describe('P5: a rule', () => {
  it('that asks for more meanwhile is met at once', async () => {
    const { execute, isProtected } = await approved();
    const more = { guards: ['keys.unprotect'], needed: 2 };
    const path = '/v1/admin/approval-rules/more';
    const { id } = (await as(first, 'founder', 'PUT', path, more)).json;
    await as(second, 'bob', 'POST', `/v1/admin/approvals/${String(id)}/approve`);
    const under = { 'twofold-approval': String(id) };
    meanwhile = () => as(first, 'founder', 'PUT', path, more, under);
    expect(outcome(await execute())).toEqual([409, 'approval_pending']);
    expect(await isProtected()).toBe(true);
  });
});
