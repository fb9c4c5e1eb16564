/** The plan of rotations, over a real database and token. */
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { findSuite } from '../../src/crypto/suites.ts';
import type { LightKey, RotationScan } from '../../src/rotation/ports.ts';
import { versionBytes } from '../../src/rotation/version-size.ts';
import type { Instance } from '../keyring/world.ts';
import { openService } from './service.ts';
import type { Called, Service } from './service.ts';
import { Site } from './stored-service.ts';

jest.setTimeout(60_000);

const DAY = 86_400_000;
const PATH = '/v1/admin/rotation-plan';
const BYTES = versionBytes(findSuite('MLKEM768-P256'));
const KEYS = 7;

let site: Site;
/** By whose clock 200 days have passed for the plans of the second. */
let now: Service<Instance>;
let later: Service<Instance>;
const made: { readonly id: string; readonly name: string }[] = [];

const code = ({ status, json }: Called) => [status, json['code'] ?? null];
const plan = (of: Service<Instance>, query = '', role = 'auditor') =>
  of.call(role, 'GET', PATH + query);
interface Item {
  readonly key: string;
  readonly keyId: string;
  readonly dueAt: string;
}
const itemsOf = ({ json }: Called) => json['items'] as Item[];

beforeAll(async () => {
  site = await Site.open();
  now = await site.service();
  later = await site.service({
    clock: () => new Date(Date.now() + 200 * DAY),
    budgets: { perMinute: 2, storageBytes: KEYS * BYTES, hsmMsPerDay: 1 },
    refusal: (_suite, at) => (at.getTime() > Date.now() + 400 * DAY ? 'until then alone' : null),
  });
  const admin = (method: string, path: string, json: object, tag?: string) =>
    now.call('admin', method, `/v1/admin/${path}`, {
      json,
      ...(tag === undefined ? {} : { headers: { 'if-match': tag } }),
    });
  for (let n = 0; n < KEYS; n += 1) {
    const name = `planned-${String(n)}`;
    const { json } = await admin('POST', 'keys', { name, suite: 'MLKEM768-P256' });
    made.push({ id: json['id'] as string, name });
    await admin('PUT', `keys/${name}/rotation-policy`, { interval: 'P60D' }, '"1"');
  }
  await admin('POST', 'keys', { name: 'unplanned', suite: 'A256GCM' });
}, 120_000);
afterAll(() => site.close(), 60_000);

describe('the plan of rotations', () => {
  it('says what rotates when, what that adds, and what it takes as measured', async () => {
    const { status, json } = await plan(now, '?days=100');
    expect(status).toBe(200);
    const from = Date.parse(json['from'] as string);
    expect(Date.parse(json['until'] as string) - from).toBe(100 * DAY);
    expect(json).toMatchObject({
      keys: KEYS + 1,
      paused: null,
      unplanned: 1,
      byUseAlone: 0,
      ending: { count: 0, first: null },
      retirements: { count: 0, due: 0 },
      late: { count: 0, oldest: null, byUse: 0 },
      total: { rotations: KEYS, bytes: KEYS * BYTES },
      warnings: [],
      nextPageToken: null,
      suites: [{ suite: 'MLKEM768-P256', rotations: KEYS, bytesPerVersion: BYTES }],
    });
    const [suite] = json['suites'] as {
      hsmMs: number;
      cpuMs: number;
      measured: { versions: number; hsmMs: number; cpuMs: number };
    }[];
    // This service made them itself.
    expect(suite?.measured.versions).toBe(KEYS);
    expect(suite?.measured.hsmMs).toBeGreaterThan(0);
    expect(suite?.measured.cpuMs).toBeGreaterThan(0);
    expect(suite?.hsmMs).toBeCloseTo(KEYS * (suite?.measured.hsmMs ?? 0), 6);
    expect(suite?.cpuMs).toBeCloseTo(KEYS * (suite?.measured.cpuMs ?? 0), 6);
    const days = json['days'] as { from: string; rotations: number; bytes: number }[];
    expect(days.reduce((sum, { rotations }) => sum + rotations, 0)).toBe(KEYS);
    for (const { rotations, bytes } of days)
      expect([rotations > 0, bytes]).toEqual([true, rotations * BYTES]);
  });

  it('has the times at which the keys say they are due, in order', async () => {
    const items = itemsOf(await plan(now));
    expect(items.map(({ keyId }) => keyId).sort()).toEqual(made.map(({ id }) => id).sort());
    expect(items.map(({ dueAt }) => dueAt)).toEqual(items.map(({ dueAt }) => dueAt).sort());
    for (const { key, dueAt } of items) {
      const { json } = await now.call('auditor', 'GET', `/v1/admin/keys/${key}/rotation-policy`);
      expect([key, json['nextAt']]).toEqual([key, dueAt]);
    }
  });

  it('is 90 days long unless told, of 1 to 3650', async () => {
    const lengthOf = async (query: string) => {
      const { json } = await plan(now, query);
      return (Date.parse(json['until'] as string) - Date.parse(json['from'] as string)) / DAY;
    };
    expect(await lengthOf('')).toBe(90);
    expect(await lengthOf('?days=1')).toBe(1);
    expect(await lengthOf('?days=3650')).toBe(3650);
    for (const days of ['0', '3651', '-1', '1.5', '1e2', '090', ' 9', '', 'many', '99999']) {
      const answer = await plan(now, `?days=${encodeURIComponent(days)}`);
      expect([days, ...code(answer)]).toEqual([days, 400, 'invalid_value']);
    }
    expect(code(await plan(now, '?days=1&days=2'))[0]).toBe(400);
    expect(code(await plan(now, '?horizon=9'))).toEqual([400, 'unknown_parameter']);
    expect(code(await plan(now, '?pageSize=1001'))).toEqual([400, 'invalid_value']);
  });

  it('shows each key once, page by page', async () => {
    const whole = itemsOf(await plan(now));
    const found: Item[] = [];
    let token = '';
    for (let page = 1; ; page += 1) {
      const answer = await plan(now, `?pageSize=3${token && `&pageToken=${token}`}`);
      expect(itemsOf(answer).length).toBe(page < 3 ? 3 : 1);
      // What is summed up is the same on each.
      expect(answer.json['total']).toMatchObject({ rotations: KEYS });
      found.push(...itemsOf(answer));
      const next = answer.json['nextPageToken'] as string | null;
      if (next === null) break;
      token = next;
    }
    expect(found).toEqual(whole);
    // A token belongs to its horizon.
    const alone = await plan(now, `?days=80&pageToken=${token}`);
    expect(code(alone)).toEqual([400, 'invalid_value']);
    expect(code(await plan(now, '?pageToken=AAAA'))).toEqual([400, 'invalid_value']);
  });

  it('warns of each budget that would be broken, and measures what it never made', async () => {
    const { json } = await plan(later, '?days=365');
    const { from } = json as { from: string };
    expect(json).toMatchObject({
      late: { count: KEYS },
      budgets: { perMinute: 2, storageBytes: KEYS * BYTES },
      peakMinute: { at: from, rotations: KEYS },
    });
    const [minute, storage, hsm, refused] = json['warnings'] as Record<string, unknown>[];
    // Seven at once, two a minute: five are left after the first, and done within three more.
    expect(minute).toMatchObject({ kind: 'per-minute', from, worstAt: from, lateMinutes: 3 });
    expect(storage).toMatchObject({ kind: 'storage' });
    expect(storage?.['bytes']).toBeGreaterThan(KEYS * BYTES);
    // The overdue ones fill the budget, and the next breaks it.
    expect(Date.parse(storage?.['from'] as string)).toBeGreaterThan(Date.parse(from) + 40 * DAY);
    expect(hsm).toMatchObject({ kind: 'hsm-time', from });
    const detail = 'until then alone';
    expect(refused).toMatchObject({ kind: 'suite', suite: 'MLKEM768-P256', detail });
    expect(refused?.['rotations']).toBeGreaterThanOrEqual(KEYS);
    const [suite] = json['suites'] as { measured: { versions: number; hsmMs: number } | null }[];
    expect(suite?.measured?.versions).toBe(3);
    expect(suite?.measured?.hsmMs).toBeGreaterThan(0);
    // Trials leave nothing behind.
    expect(itemsOf(await plan(now)).length).toBe(KEYS);
  });

  it('says that the namespace is paused, and expects no rotation until it is resumed', async () => {
    const order = (verb: string) =>
      now.call('admin', 'POST', `/v1/admin/rotations/${verb}`, { json: { reason: 'freeze' } });
    expect((await order('pause')).status).toBe(200);
    const { json } = await plan(now, '?days=100');
    expect(json).toMatchObject({
      paused: { reason: 'freeze' },
      total: { rotations: 0 },
      waiting: { paused: KEYS },
      items: [],
    });
    expect((await order('resume')).status).toBe(200);
    expect((await plan(now, '?days=100')).json).toMatchObject({ paused: null });
  });

  it('moves with what was set in advance', async () => {
    const at = new Date(Date.now() + 5 * DAY).toISOString();
    const change = { json: { deactivateAt: at } };
    const path = '/v1/admin/keys/unplanned/versions/1/schedule';
    const { status } = await now.call('admin', 'PUT', path, change);
    expect(status).toBe(200);
    expect((await plan(now)).json).toMatchObject({ ending: { count: 1, first: at }, unplanned: 1 });
  });

  it('has beside it what a dry run says of a change of policies', async () => {
    const call = (path: string, json: object, headers = {}) =>
      now.call('admin', 'PUT', `/v1/admin/${path}?dryRun=true`, { json, headers });
    const terms = { interval: 'P30D', retire: { keepVersions: 1 }, notice: 'P7D' };
    const { json } = await call('rotation-policies/all', { selector: {}, ...terms });
    expect(json).toMatchObject({
      dryRun: true,
      effects: {
        keys: { examined: KEYS + 1, complete: true, selected: KEYS + 1, governed: 1 },
        moved: [{ from: null, to: 'all', keys: 1 }],
        rotations: { atOnce: 0, held: 0, minutes: 0 },
        retirements: { atOnce: 0, announced: 0, recent: [] },
      },
    });
    const tag = { 'if-match': '"2"' };
    const ofKey = await call('keys/planned-0/rotation-policy', terms, tag);
    expect(ofKey.json).toMatchObject({
      dryRun: true,
      effects: { rotates: null, holds: false, closes: [] },
    });
    const pause = await now.call('admin', 'POST', '/v1/admin/rotations/pause?dryRun=true', {
      json: { reason: 'freeze' },
    });
    expect(pause.json).toMatchObject({ effects: { keys: { governed: KEYS }, moved: [] } });
  });

  it('is for who may read rotations, and for the namespace that is asked for', async () => {
    for (const role of ['admin', 'operator', 'user', 'auditor']) {
      expect([role, (await plan(now, '', role)).status]).toEqual([role, 200]);
    }
    expect(code(await plan(now, '', 'nobody'))).toEqual([403, 'forbidden']);
    expect((await now.call(null, 'GET', PATH)).status).toBe(401);
    const elsewhere = await now.call('auditor', 'GET', PATH, {
      headers: { 'twofold-namespace': 'elsewhere' },
    });
    expect([404, 403]).toContain(elsewhere.status);
    expect(elsewhere.text).not.toContain('planned-');
  });
});

describe('a plan over many keys', () => {
  let service: Service;
  /** Batches that were asked for; each waits to be let through. */
  let asked = 0;
  let letThrough: () => void = () => undefined;
  let ended = Promise.withResolvers<undefined>();
  const endless: RotationScan = {
    async *keys(): AsyncGenerator<readonly LightKey[]> {
      try {
        for (;;) {
          const { promise, resolve } = Promise.withResolvers<undefined>();
          letThrough = () => resolve(undefined);
          asked += 1;
          await promise;
          yield [];
        }
      } finally {
        ended.resolve(undefined);
      }
    },
  };
  beforeAll(async () => {
    service = await openService({ scan: endless });
  });
  afterAll(() => service.stop());

  it('is made alone, and ends with the connection that asked for it', async () => {
    const authorization = `Bearer ${await service.token('auditor')}`;
    const first = request(service.url + PATH, { headers: { authorization } });
    const cut = new Promise((resolve) => first.once('error', resolve));
    first.end();
    while (asked === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const second = await service.call('auditor', 'GET', PATH);
    expect(code(second)).toEqual([429, 'rate_limited']);
    expect(Number(second.headers.get('retry-after'))).toBeGreaterThan(0);
    first.destroy();
    await cut;
    while (service.drafts.length < 2) {
      letThrough();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await ended.promise;
    expect(service.drafts.map(({ outcome }) => outcome)).toEqual([
      'rate_limited',
      'malformed_request',
    ]);
    // There is room again.
    ended = Promise.withResolvers();
    asked = 0;
    const third = request(service.url + PATH, { headers: { authorization } });
    third.on('error', () => undefined).end();
    while (asked === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    third.destroy();
    while (service.drafts.length < 3) {
      letThrough();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await ended.promise;
  });
});
