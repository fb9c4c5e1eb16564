/** Recorded decisions under changed policies, from entries that real requests left. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { StoredAccess } from '../../src/governance/access-control.ts';
import { writeInitialPolicies } from '../../src/main/access.ts';
import { openService } from './service.ts';
import type { Called, Service } from './service.ts';

const PATH = '/v1/audit/policy-replays';
const ISSUER_SUBJECT = /"(?<issuer>[^"]+)"/u;

let service: Service;
/** Id of the newest entry of the wraps that were permitted. */
let wrapped = '';
let refused = '';
let issuer = '';

const as = async (role: string, subject: string, method: string, path: string, json?: unknown) =>
  service.call(null, method, path, {
    ...(json === undefined ? {} : { json }),
    headers: { authorization: `Bearer ${await service.token(role, 3600, subject)}` },
  });
const wrap = (role: string, subject: string, encryptionContext?: object) =>
  as(role, subject, 'POST', '/v1/keys/k/wrap', {
    plaintext: 'AAAA',
    ...(encryptionContext && { encryptionContext }),
  });
const idOf = ({ headers }: Called) => headers.get('twofold-audit-id') ?? '';
const replay = (changes: readonly object[], more: object = {}, role = 'auditor') =>
  as(role, 'anna', 'POST', PATH, { changes, ...more });
/** Differences about wraps. */
const wraps = async (changes: readonly object[], more: object = {}) => {
  const { json } = await replay(changes, more);
  const items = json['items'] as readonly { operation: string; [name: string]: unknown }[];
  return items.filter(({ operation }) => operation === 'wrap');
};

beforeAll(async () => {
  service = await openService({
    replace: ({ governance, epoch }) => ({
      access: new StoredAccess({
        policies: governance.policies,
        namespaces: governance.namespaces,
        epoch,
        clock: () => new Date(),
      }),
    }),
  });
  await writeInitialPolicies(service.deps.governance, service.deps.epoch);
  const who = await as('admin', 'root', 'GET', '/v1/whoami');
  issuer = ISSUER_SUBJECT.exec(JSON.stringify(who.json).replace(/^.*"issuer":/u, ''))?.[1] ?? '';
  await as('admin', 'root', 'POST', '/v1/admin/keys', { name: 'k', suite: 'A256GCM' });
  await as('admin', 'root', 'PUT', '/v1/admin/policies/tenant-a', {
    cedar: `permit (principal in Role::"tenant", action == Action::"wrap", resource)
      when { context has encryptionContext && context.encryptionContext.hasTag("tenant")
        && context.encryptionContext.getTag("tenant") == "a" };`,
  });
  for (let n = 0; n < 3; n += 1) wrapped = idOf(await wrap('user', 'uma'));
  expect((await wrap('tenant', 'tess', { tenant: 'a' })).status).toBe(200);
  const denied = await wrap('operator', 'oscar');
  expect(denied.status).toBe(403);
  refused = idOf(denied);
});
afterAll(() => service.stop());

describe('a replay', () => {
  it('lists with count and example what a policy that is taken away would deny', async () => {
    const items = await wraps([{ name: 'role-user' }]);
    expect(items).toEqual([
      {
        principal: { issuer, subject: 'uma' },
        operation: 'wrap',
        key: 'k',
        before: 'allowed',
        after: 'denied',
        policies: ['role-user'],
        count: 3,
        firstAt: expect.any(String) as unknown,
        lastAt: expect.any(String) as unknown,
        exampleEntry: wrapped,
      },
    ]);
    const entry = await as('auditor', 'anna', 'GET', `/v1/audit/entries/${wrapped}`);
    expect(entry.json).toMatchObject({ at: items[0]?.['lastAt'], operation: 'wrap' });
    // Nothing of it was done.
    expect((await wrap('user', 'uma')).status).toBe(200);
  });

  it('lists what a policy that is added would allow, or deny', async () => {
    const uid = `User::${JSON.stringify(JSON.stringify([issuer, 'oscar']))}`;
    const permit = `permit (principal == ${uid}, action == Action::"wrap", resource == Key::"k");`;
    const expected = { principal: { subject: 'oscar' }, count: 1, exampleEntry: refused };
    expect(await wraps([{ name: 'for-oscar', cedar: permit }])).toMatchObject([
      { ...expected, before: 'denied', after: 'allowed', policies: [] },
    ]);
    const other = permit.replace('Key::"k"', 'Key::"other"');
    expect(await wraps([{ name: 'for-oscar', cedar: other }])).toEqual([]);
    const forbid = 'forbid (principal, action == Action::"wrap", resource);';
    const denied = await wraps([{ name: 'none', cedar: forbid }]);
    expect(denied.map(({ before, after }) => [before, after])).toEqual([
      ['allowed', 'denied'],
      ['allowed', 'denied'],
    ]);
    const named = `forbid (principal, action == Action::"wrap", resource)
      when { principal.subject == "tess" };`;
    expect(await wraps([{ name: 'not-tess', cedar: named }])).toMatchObject([
      { principal: { subject: 'tess' }, after: 'denied' },
    ]);
  });

  it('knows what a policy came to that stays, also where its condition read what no entry has', async () => {
    expect(await wraps([{ name: 'tenant-a' }])).toMatchObject([
      { principal: { subject: 'tess' }, before: 'allowed', after: 'denied' },
    ]);
    expect(await wraps([{ name: 'role-auditor' }])).toEqual([]);
  });

  it('knows roles, and says so where it cannot be known: of the body, of arithmetic that may fail', async () => {
    const outcomes = async (cedar: string) =>
      (await wraps([{ name: 'new', cedar }])).map(({ principal, after }) => [
        (principal as { subject: string }).subject,
        after,
      ]);
    const undetermined = [['oscar', 'undetermined']];
    const scope = 'action == Action::"wrap", resource';
    expect(await outcomes(`permit (principal in Role::"operator", ${scope});`)).toEqual([
      ['oscar', 'allowed'],
    ]);
    expect(await outcomes(`permit (principal in Role::"user", ${scope});`)).toEqual([]);
    const body = ' when { context has encryptionContext && context.encryptionContext.hasTag("t") }';
    expect(await outcomes(`permit (principal, ${scope})${body};`)).toEqual(undetermined);
    expect((await outcomes(`forbid (principal, ${scope})${body};`)).toSorted()).toEqual([
      ['tess', 'undetermined'],
      ['uma', 'undetermined'],
    ]);
    const group = 'context has tlsGroup && context.tlsGroup == "X25519MLKEM768"';
    expect(await outcomes(`permit (principal, ${scope}) when { ${group} };`)).toEqual(undetermined);
    const late = 'context.time.offset(duration("1h")) > datetime("2020-01-01")';
    expect(await outcomes(`permit (principal, ${scope}) when { ${late} };`)).toHaveLength(3);
  });

  it('goes through the log in pages that are bounded, and looks at each entry once', async () => {
    const until = new Date(Date.now() + 1).toISOString();
    const whole = await replay([{ name: 'role-user' }], { until });
    expect(whole.json['nextPageToken']).toBeNull();
    let [looked, count, pageToken] = [0, 0, undefined as unknown];
    do {
      const page = await replay([{ name: 'role-user' }], {
        until,
        pageSize: 4,
        ...(pageToken === undefined ? {} : { pageToken }),
      });
      const { json } = page;
      expect(json['looked']).toBeLessThanOrEqual(4);
      looked += json['looked'] as number;
      for (const item of json['items'] as { operation: string; count: number }[]) {
        if (item.operation === 'wrap') count += item.count;
      }
      pageToken = json['nextPageToken'];
    } while (pageToken !== null);
    expect(looked).toBe(whole.json['looked']);
    const all = (whole.json['items'] as { operation: string; count: number }[])
      .filter(({ operation }) => operation === 'wrap')
      .reduce((sum, item) => sum + item.count, 0);
    expect([count, count > 0]).toEqual([all, true]);
    const first = await replay([{ name: 'role-user' }], { until, pageSize: 1 });
    const token = first.json['nextPageToken'];
    const other = await replay([{ name: 'role-admin' }], { until, pageSize: 1, pageToken: token });
    expect(other.json['code']).toBe('invalid_value');
  });

  it('takes the permissions to read the log and the policies, and is in the log itself', async () => {
    for (const role of ['user', 'operator']) {
      expect([role, (await replay([], {}, role)).json['code']]).toEqual([role, 'forbidden']);
    }
    await as('admin', 'root', 'PUT', '/v1/admin/policies/log-reader', {
      cedar: 'permit (principal in Role::"log", action == Action::"audit.read", resource);',
    });
    expect((await replay([], {}, 'log')).json['code']).toBe('forbidden');
    const done = await replay([]);
    // Entries of requests that ask for two permissions do not say which policy gave which.
    const items = done.json['items'] as Record<string, unknown>[];
    expect(
      new Set(items.map(({ operation, before, after }) => [operation, before, after].join(' '))),
    ).toEqual(new Set(['audit.read undetermined undetermined']));
    const entry = await service.deps.audit.read(idOf(done));
    expect(entry?.draft).toMatchObject({
      operation: 'audit.read',
      outcome: 'ok',
      detail: { kind: 'policy-replay', looked: done.json['looked'] },
    });
  });

  it('refuses what could not be stored, with its place', async () => {
    const bad = await replay([{ name: 'x', cedar: 'permit (principal, action resource);' }]);
    expect([bad.status, bad.json['code']]).toEqual([422, 'policy_invalid']);
    expect(JSON.stringify(bad.json['errors'])).toContain('line 1, column');
    expect((await replay([{ name: 'nothing' }])).json['code']).toBe('not_found');
  });
});
