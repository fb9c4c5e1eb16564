/** Consents under policies that ask how somebody was authenticated, or by which group they connect. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { StoredAccess } from '../../src/governance/access-control.ts';
import { writeInitialPolicies } from '../../src/main/access.ts';
import { openService } from './service.ts';
import type { CallInit, Called, Service } from './service.ts';

let service: Service;
/** Subjects whose tokens say that they showed a second factor. */
const strong = new Set<string>();

beforeEach(async () => {
  strong.clear();
  service = await openService({
    replace: ({ governance, epoch, authenticator }) => ({
      access: new StoredAccess({
        policies: governance.policies,
        namespaces: governance.namespaces,
        epoch,
        clock: () => new Date(),
      }),
      authenticator: {
        authenticate: async (...asked) => {
          const principal = await authenticator.authenticate(...asked);
          return strong.has(principal.subject) ? { ...principal, acr: 'mfa' } : principal;
        },
      },
    }),
  });
  await writeInitialPolicies(service.deps.governance, service.deps.epoch);
  const json = { guards: ['govern'], needed: 1, mayLockOut: true };
  const made = await as('alice', 'PUT', '/v1/admin/approval-rules/two-people', { json });
  expect(made.status).toBe(200);
});
afterEach(() => service.stop());

async function as(subject: string, method: string, path: string, init: CallInit = {}) {
  const token = await service.token('admin', 3600, subject);
  const headers = { authorization: `Bearer ${token}`, ...init.headers };
  return service.call(null, method, path, { ...init, headers });
}
const outcome = ({ status, json }: Called) => [status, json['code'] ?? json['state'] ?? 'done'];
const under = (id: unknown) => ({ 'twofold-approval': String(id) });
const approve = (by: string, id: unknown) =>
  as(by, 'POST', `/v1/admin/approvals/${String(id)}/approve`);

const put = (name: string, cedar: string, headers = {}) =>
  as('alice', 'PUT', `/v1/admin/policies/${name}`, { json: { cedar }, headers });
const SECOND_FACTOR = `forbid (principal, action in Action::"govern", resource)
  unless { context.authentication has acr && context.authentication.acr == "mfa" };`;
const HARMLESS = 'permit (principal in Role::"guest", action == Action::"whoami", resource);';

/** From here on whoever governs shows a second factor. */
async function demandSecondFactor(): Promise<void> {
  for (const subject of ['alice', 'bob']) strong.add(subject);
  const { id } = (await put('second-factor', SECOND_FACTOR)).json;
  expect(outcome(await approve('bob', id))).toEqual([200, 'approved']);
  expect((await put('second-factor', SECOND_FACTOR, under(id))).status).toBe(200);
}

describe('a consent', () => {
  it('counts by the authentication that it was given with: nothing is frozen', async () => {
    await demandSecondFactor();
    const { headers } = await as('alice', 'GET', '/v1/admin/policies/second-factor');
    const remove = (more = {}) =>
      as('alice', 'DELETE', '/v1/admin/policies/second-factor', {
        headers: { 'if-match': headers.get('etag') ?? '', ...more },
      });
    const { id } = (await remove()).json;
    expect(outcome(await approve('carol', id))).toEqual([403, 'forbidden']);
    expect(outcome(await approve('bob', id))).toEqual([200, 'approved']);
    // However Bob is authenticated later.
    strong.delete('bob');
    expect((await remove(under(id))).status).toBe(200);
  });

  it('is taken anew where policies come to ask for more than it stood on', async () => {
    const { id } = (await put('harmless', HARMLESS)).json;
    expect(outcome(await approve('bob', id))).toEqual([200, 'approved']);
    await demandSecondFactor();
    const execute = () => put('harmless', HARMLESS, under(id));
    expect(outcome(await execute())).toEqual([409, 'approval_pending']);
    expect(outcome(await approve('bob', id))).toEqual([200, 'approved']);
    expect((await execute()).status).toBe(200);
  });
});
