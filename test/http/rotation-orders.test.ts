/** Orders of rotations over HTTP; what carries them out is shown in test/rotation. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openService } from './service.ts';
import type { Called, CallInit, Service } from './service.ts';

let service: Service;
beforeAll(async () => {
  service = await openService();
  for (const [name, tier] of [
    ['a', 'gold'],
    ['b', 'gold'],
    ['c', 'iron'],
  ]) {
    const json = { name, suite: 'HS256', labels: { tier } };
    await service.call('operator', 'POST', '/v1/admin/keys', { json });
  }
});
afterAll(() => service.stop());

const code = ({ status, json }: Called) => [status, json['code'] ?? null];
const PATH = '/v1/admin/rotations';
const GOLD = { selector: { labels: { tier: 'gold' } }, reason: 'a leak' };
const order = (json: unknown, query = '', role = 'operator', init: CallInit = {}) =>
  service.call(role, 'POST', `${PATH}${query}`, { json, ...init });
const operation = (id: unknown, role = 'operator') =>
  service.call(role, 'GET', `/v1/admin/operations/${String(id)}`);

describe('an order', () => {
  it('is an operation that waits for the scheduler', async () => {
    const made = await order({ ...GOLD, suite: 'HS512' });
    expect(code(made)).toEqual([202, null]);
    expect(made.headers.get('location')).toBe(`/v1/admin/operations/${String(made.json['id'])}`);
    expect(made.json).toMatchObject({
      kind: 'rotation',
      state: 'running',
      key: null,
      itemsPerSecond: null,
      note: 'a leak',
      rotation: { labels: { tier: 'gold' }, suite: 'HS512' },
      progress: { offset: 0, total: null, matched: 0, succeeded: 0, unchanged: 0, failed: 0 },
    });
    expect((await operation(made.json['id'])).json).toEqual(made.json);
    const { json } = await service.call('auditor', 'GET', '/v1/admin/operations?kind=rotation');
    expect((json['items'] as { id: string }[]).map(({ id }) => id)).toContain(made.json['id']);
  });

  it('of all keys says so', async () => {
    const made = await order({ selector: { all: true }, reason: 'a drill' });
    expect(made.json).toMatchObject({ rotation: { labels: null, suite: null } });
  });

  it('with a wrong selector says where it is wrong, and repeats no name of the caller', async () => {
    const labels = { tier: 'gold', 'bad name': 'x' };
    const cases: readonly (readonly [unknown, string, string])[] = [
      [{ labels }, '/selector/labels', 'entry 2: has a bad label name'],
      [{ labels: { tier: 5 } }, '/selector/labels', 'entry 1: '],
      [{ labels: {} }, '/selector/labels', 'names a label'],
      [{ all: false }, '/selector/all', 'expected true'],
      [{}, '/selector', 'one of these: labels; all'],
      [5, '/selector', 'one of these: labels; all'],
      [{ all: true, ...GOLD.selector }, '/selector', 'one of these: labels; all'],
    ];
    for (const [selector, path, message] of cases) {
      const refused = await order({ selector, reason: 'x' });
      expect(code(refused)).toEqual([400, 'invalid_value']);
      const told = expect.stringContaining(message) as unknown;
      expect(refused.json['errors']).toMatchObject([{ path, message: told }]);
      expect(refused.text).not.toContain('bad name');
    }
    const unknown = await order({ selector: { ...GOLD.selector, more: 1 }, reason: 'x' });
    expect(unknown.json).toMatchObject({
      code: 'unknown_field',
      errors: [{ path: '/selector', message: 'has only: labels, all' }],
    });
  });

  it('as a dry run tells how many keys it is of, and is none', async () => {
    const dry = await order(GOLD, '?dryRun=true');
    expect(code(dry)).toEqual([200, null]);
    expect(dry.json).toMatchObject({ dryRun: true, progress: { total: 2, succeeded: 0 } });
    expect(code(await operation(dry.json['id']))).toEqual([404, 'not_found']);
    const all = await order({ selector: { all: true }, reason: 'x' }, '?dryRun=true');
    expect(all.json).toMatchObject({ progress: { total: 3 } });
  });

  it('that is sent again under its key is the same one', async () => {
    const headers = { 'idempotency-key': 'once', 'content-type': 'application/json' };
    const send = (json: unknown) => order(json, '', 'operator', { headers });
    const made = await send(GOLD);
    const again = await send(GOLD);
    expect([again.status, again.json['id']]).toEqual([202, made.json['id']]);
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect(code(await send({ ...GOLD, reason: 'other' }))).toEqual([422, 'idempotency_mismatch']);
  });

  it('is cancelled as any operation', async () => {
    const { json } = await order(GOLD);
    const path = `/v1/admin/operations/${String(json['id'])}/cancel`;
    const cancelled = await service.call('operator', 'POST', path, { json: { reason: 'no' } });
    expect(cancelled.json).toMatchObject({ state: 'cancelled', reason: 'no' });
  });

  it('is for those alone who may change keys', async () => {
    for (const role of ['user', 'auditor']) {
      expect(code(await order(GOLD, '', role))).toEqual([403, 'forbidden']);
      expect(code(await order(GOLD, '?dryRun=true', role))).toEqual([403, 'forbidden']);
    }
  });

  it.each([
    [{ reason: 'x' }, 'invalid_value'],
    [{ selector: {}, reason: 'x' }, 'invalid_value'],
    [{ selector: { labels: {} }, reason: 'x' }, 'invalid_value'],
    [{ selector: { all: false }, reason: 'x' }, 'invalid_value'],
    [{ selector: { all: true, labels: { a: 'b' } }, reason: 'x' }, 'invalid_value'],
    [{ selector: { labels: { ä: 'b' } }, reason: 'x' }, 'invalid_value'],
    [{ selector: { all: true } }, 'invalid_value'],
    [{ selector: { all: true }, reason: '' }, 'invalid_value'],
    [{ ...GOLD, suite: 'ROT13' }, 'unknown_suite'],
    [{ ...GOLD, more: 1 }, 'unknown_field'],
  ])('is refused when it cannot be meant: %j', async (json, expected) => {
    expect(code(await order(json))).toEqual([400, expected]);
  });

  it('writes to the audit log which labels it selects by, and no value of them', async () => {
    const made = await order({
      selector: { labels: { customer: 'a-private-value' } },
      reason: 'x',
    });
    const id = made.headers.get('twofold-audit-id') ?? '';
    const { text } = await service.call('auditor', 'GET', `/v1/audit/entries/${id}`);
    expect(text).toContain('customer');
    expect(text).toContain('rotations.order');
    expect(text).not.toContain('a-private-value');
  });

  it('has failures to ask for, and another operation has none', async () => {
    const { json } = await order(GOLD);
    const ask = (id: unknown, role = 'operator') =>
      service.call(role, 'GET', `/v1/admin/operations/${String(id)}/failures`);
    expect((await ask(json['id'])).json).toEqual({ items: [], nextPageToken: null });
    expect(code(await ask('nothing'))).toEqual([404, 'not_found']);
    await service.call('operator', 'POST', '/v1/admin/keys', {
      json: { name: 'w', suite: 'A256GCM' },
    });
    const job = await service.call('admin', 'POST', '/v1/admin/keys/w/rewrap-jobs', { json: {} });
    expect(code(await ask(job.json['id']))).toEqual([409, 'conflict']);
  });

  it('is one of so many that run', async () => {
    const codes = [];
    for (let made = 0; made < 25; made += 1) codes.push(code(await order(GOLD))[1]);
    expect(codes).toContain('quota_exceeded');
  });
});
