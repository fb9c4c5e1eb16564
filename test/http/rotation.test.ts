/** Rotation policies over HTTP. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { aRun } from '../keyring/world.ts';
import { openService } from './service.ts';
import type { Called, Service } from './service.ts';

let service: Service;
beforeAll(async () => {
  service = await openService();
});
afterAll(() => service.stop());

const code = ({ status, json }: Called) => [status, json['code'] ?? null];
let made = 0;
const make = async (suite = 'A256GCM'): Promise<string> => {
  const name = `rotating-${String((made += 1))}`;
  await service.call('operator', 'POST', '/v1/admin/keys', { json: { name, suite } });
  return name;
};
const send = (method: string, path: string, json?: unknown, tag?: string, role = 'operator') =>
  service.call(role, method, `/v1/admin/${path}`, {
    ...(json === undefined ? {} : { json }),
    ...(tag === undefined ? {} : { headers: { 'if-match': tag } }),
  });

const PAUSE = { at: '2030-01-01T00:00:00.000Z', reason: 'mine' };
/** Each kind alone, and all together. */
const EVERY_KIND: readonly Readonly<Record<string, unknown>>[] = [
  {},
  { interval: 'P90D' },
  { maxUses: 9 },
  { upgrade: { suite: 'A256GCM', notBefore: '2050-01-01T00:00:00.000Z' } },
  { retire: { keepVersions: 3 } },
  { retire: { after: 'P30D' } },
  {
    interval: 'P90D',
    maxUses: 9,
    upgrade: { suite: 'A256GCM', notBefore: '2050-01-01T00:00:00.000Z' },
    retire: { keepVersions: 3, after: 'P30D' },
    notice: 'P7D',
  },
];

describe('the policy of a key', () => {
  it('is put, paused, resumed and deleted, each with the tag of the key', async () => {
    const path = `keys/${await make()}/rotation-policy`;
    expect(code(await send('PUT', path, { interval: 'P90D' }))).toEqual([
      428,
      'precondition_required',
    ]);
    const put = await send('PUT', path, { interval: 'P90D', maxUses: 9 }, '"1"');
    expect([put.status, put.headers.get('etag')]).toEqual([200, '"2"']);
    expect(put.json['rotation']).toMatchObject({ interval: 'P90D', maxUses: 9, paused: null });
    expect(code(await send('PUT', path, { interval: 'P30D' }, '"1"'))).toEqual([
      412,
      'etag_mismatch',
    ]);
    expect(code(await send('DELETE', path))).toEqual([428, 'precondition_required']);
    const paused = await send('POST', `${path}/pause`, { reason: 'freeze' });
    expect(paused.json['rotation']).toMatchObject({ paused: { reason: 'freeze' } });
    await send('POST', `${path}/resume`, { reason: 'thaw' });
    expect((await send('DELETE', path, undefined, '"4"')).json['rotation']).toBeNull();
    expect(code(await send('POST', `${path}/pause`, { reason: 'none' }))).toEqual([
      404,
      'not_found',
    ]);
  });

  it('is refused when it could not be meant, and is left as it was by a dry run', async () => {
    const path = `keys/${await make()}/rotation-policy`;
    for (const terms of [
      { interval: 'PT1S' },
      { interval: '90 days' },
      { maxUses: 0 },
      { retire: {} },
      { interval: 'P1D', notice: 'P2D' },
      { upgrade: { suite: 'HS256', notBefore: '2030-01-01T00:00:00Z' } },
      { upgrade: { suite: 'A256GCM', notBefore: 'soon' } },
    ]) {
      expect([terms, code(await send('PUT', path, terms, '"1"'))]).toEqual([
        terms,
        [400, 'invalid_value'],
      ]);
    }
    const dry = await send('PUT', `${path}?dryRun=true`, { interval: 'P90D' }, '"1"');
    expect(dry.json).toMatchObject({ dryRun: true, changes: [{ field: 'rotation', from: null }] });
    expect((await send('DELETE', path, undefined, '"1"')).status).toBe(200);
  });

  it.each(EVERY_KIND)('is put back as it was read: %j', async (given) => {
    const key = await make();
    const path = `keys/${key}/rotation-policy`;
    await send('PUT', path, given, '"1"');
    for (const paused of [false, true]) {
      if (paused) await send('POST', `${path}/pause`, { reason: 'freeze' });
      const { json } = await service.call('operator', 'GET', `/v1/keys/${key}`);
      expect(json['rotation']).toMatchObject(given);
      const back = await send('PUT', path, json['rotation'], `"${String(json['revision'])}"`);
      expect([back.status, back.json['rotation']]).toEqual([200, json['rotation']]);
      const { json: shown } = await send('GET', path);
      const { policy } = shown['effective'] as { policy: object };
      const again = await send('PUT', path, policy, back.headers.get('etag') ?? '');
      expect([again.status, again.json['rotation']]).toEqual([200, policy]);
      // To pause and to resume are requests of their own.
      const wrong = { ...policy, paused: paused ? null : PAUSE };
      const refused = await send('PUT', path, wrong, back.headers.get('etag') ?? '');
      expect(code(refused)).toEqual([400, 'invalid_value']);
    }
  });

  it('says what comes next of the key, in the order of time', async () => {
    const key = `keys/${await make()}`;
    const terms = { interval: 'P90D', retire: { after: 'P10D' } };
    await send('PUT', `${key}/rotation-policy`, terms, '"1"');
    await send('POST', `${key}/rotate`);
    const deactivateAt = new Date(Date.now() + 200 * 86_400_000).toISOString();
    await send('PUT', `${key}/versions/2/schedule`, { deactivateAt });
    const { json } = await send('GET', `${key}/rotation-policy`);
    const coming = json['coming'] as { action: string; dueAt: string; version: number | null }[];
    expect(coming.map(({ action, version }) => [action, version])).toEqual([
      ['retire', 1],
      ['rotate', null],
      ['deactivate', 2],
    ]);
    expect(coming.map(({ dueAt }) => dueAt)).toEqual(coming.map(({ dueAt }) => dueAt).toSorted());
    expect([json['due'], json['nextAt'], coming[2]?.dueAt]).toEqual([
      [],
      coming[0]?.dueAt,
      deactivateAt,
    ]);
    // What waits is not said to come.
    await send('POST', `${key}/rotation-policy/pause`, { reason: 'freeze' });
    const paused = (await send('GET', `${key}/rotation-policy`)).json;
    expect(paused['coming']).toEqual([{ action: 'deactivate', dueAt: deactivateAt, version: 2 }]);
  });

  it('is held for a key whose rotation was undone, says so, and is resumed', async () => {
    const key = `keys/${await make()}`;
    await send('PUT', `${key}/rotation-policy`, { interval: 'P90D' }, '"1"');
    await send('POST', `${key}/rotate`);
    const back = { version: 1, reason: 'a consumer broke' };
    const held = { reason: back.reason, primary: 1, policy: null, policyRevision: 2 };
    const dry = await send('PUT', `${key}/primary?dryRun=true`, back, '"3"');
    const changes = dry.json['changes'] as readonly object[];
    expect(changes).toContainEqual(
      expect.objectContaining({
        field: 'rotationHold',
        from: null,
        to: expect.objectContaining(held) as object,
      }),
    );
    const undone = await send('PUT', `${key}/primary`, back, '"3"');
    expect(undone.json).toMatchObject({ primary: 1, rotationHold: held });
    const read = await service.call('operator', 'GET', `/v1/${key}`);
    expect(read.json).toMatchObject({ rotationHold: held });
    expect((await send('GET', `${key}/rotation-policy`)).json).toMatchObject({
      paused: { by: 'undo', reason: back.reason },
      nextAt: null,
    });
    const reason = { reason: 'mended' };
    expect((await send('POST', `${key}/rotation-policy/resume`, reason)).json).toMatchObject({
      rotationHold: null,
      rotation: { revision: 2, paused: null },
    });
    const { json } = await send('GET', `${key}/rotation-policy`);
    expect([json['paused'], json['nextAt']]).toEqual([null, expect.any(String)]);
  });

  it('is no business of users and auditors', async () => {
    const path = `keys/${await make()}/rotation-policy`;
    for (const role of ['user', 'auditor']) {
      const refused = await send('PUT', path, { interval: 'P90D' }, '"1"', role);
      expect(code(refused)).toEqual([403, 'forbidden']);
    }
  });
});

describe('the pause of the whole namespace', () => {
  const reason = { reason: 'end of year' };

  it('is shown by itself and beside each key, and ends', async () => {
    const key = await make();
    const dry = await send('POST', 'rotations/pause?dryRun=true', reason);
    expect(dry.json).toMatchObject({ dryRun: true, paused: reason });
    expect((await send('GET', 'rotations/pause')).json).toMatchObject({ paused: null });
    const paused = await send('POST', 'rotations/pause', reason);
    expect(code(paused)).toEqual([200, null]);
    const read = await send('GET', 'rotations/pause', undefined, undefined, 'auditor');
    expect(read.json).toEqual(paused.json);
    expect(read.headers.get('etag')).toBe(paused.headers.get('etag'));
    const { json } = await send('GET', `keys/${key}/rotation-policy`);
    expect(json).toMatchObject({ paused: { by: 'namespace', ...reason }, nextAt: null });
    expect(code(await send('POST', 'rotations/resume', reason, '"999"'))).toEqual([
      412,
      'etag_mismatch',
    ]);
    const resumed = await send('POST', 'rotations/resume', { reason: 'over' });
    expect(resumed.json).toMatchObject({ paused: null });
    expect((await send('GET', `keys/${key}/rotation-policy`)).json).toMatchObject({ paused: null });
  });

  it('is for those alone who may change policies, and needs a reason', async () => {
    for (const role of ['user', 'auditor']) {
      const refused = await send('POST', 'rotations/pause', reason, undefined, role);
      expect(code(refused)).toEqual([403, 'forbidden']);
    }
    for (const body of [{}, { reason: '' }, { reason: 7 }]) {
      expect(code(await send('POST', 'rotations/pause', body))).toEqual([400, 'invalid_value']);
    }
  });
});

describe('the list of what the scheduler did or could not do', () => {
  it('takes a state that it knows, and a page', async () => {
    for (const state of ['failing', 'late', 'done']) {
      const found = await send('GET', `rotations?state=${state}`, undefined, undefined, 'auditor');
      expect(found.json).toEqual({ items: [], nextPageToken: null });
    }
    for (const query of ['', '?state=lost', '?state=done&pageSize=0']) {
      expect([query, code(await send('GET', `rotations${query}`))]).toEqual([
        query,
        [400, 'invalid_value'],
      ]);
    }
    expect(code(await send('GET', 'rotations?state=done&more=1'))).toEqual([
      400,
      'unknown_parameter',
    ]);
  });
});

describe('a policy of the namespace', () => {
  const path = 'rotation-policies/gold';
  const terms = { selector: { tier: 'gold' }, interval: 'P90D' };

  it('is made without a tag, and changed and deleted with its own alone', async () => {
    const made = await send('PUT', path, terms);
    const tag = made.headers.get('etag') ?? '';
    expect(made.json).toMatchObject({ name: 'gold', priority: 0, policy: { interval: 'P90D' } });
    expect(code(await send('PUT', path, terms))).toEqual([428, 'precondition_required']);
    const changed = await send('PUT', path, { ...terms, interval: 'P30D' }, tag);
    expect(changed.json).toMatchObject({ policy: { interval: 'P30D' } });
    expect(code(await send('PUT', path, terms, tag))).toEqual([412, 'etag_mismatch']);
    expect(code(await send('DELETE', path))).toEqual([428, 'precondition_required']);
    const dry = await send(
      'DELETE',
      `${path}?dryRun=true`,
      undefined,
      changed.headers.get('etag') ?? '',
    );
    expect(dry.json).toMatchObject({ deleted: true, dryRun: true });
    expect((await send('GET', path)).json).toEqual(changed.json);
    await send('DELETE', path, undefined, changed.headers.get('etag') ?? '');
    expect(code(await send('GET', path))).toEqual([404, 'not_found']);
  });

  it.each(EVERY_KIND)('is put back as it was read: %j', async (given) => {
    const own = 'rotation-policies/kept';
    const made = await send('PUT', own, { selector: { tier: 'kept' }, priority: 5, ...given });
    expect(made.status).toBe(200);
    for (const paused of [false, true]) {
      if (paused) await send('POST', `${own}/pause`, { reason: 'freeze' });
      const read = await send('GET', own);
      const etag = read.headers.get('etag') ?? '';
      const back = await send('PUT', own, read.json, etag);
      expect([back.status, back.json]).toEqual([200, read.json]);
      const { selector, priority, policy } = read.json;
      const flat = await send('PUT', own, { selector, priority, ...(policy as object) }, etag);
      expect([flat.status, flat.json]).toEqual([200, read.json]);
      for (const wrong of [
        { ...read.json, name: 'other' },
        { ...read.json, namespace: 'other' },
        { ...read.json, interval: 'P9D' },
        { ...read.json, policy: { ...(policy as object), paused: paused ? null : PAUSE } },
      ]) {
        expect(code(await send('PUT', own, wrong, etag))).toEqual([400, 'invalid_value']);
      }
    }
    const { headers } = await send('GET', own);
    expect((await send('DELETE', own, undefined, headers.get('etag') ?? '')).status).toBe(200);
  });

  it('writes to the audit log which labels it selects by, and no value of them', async () => {
    const made = await send('PUT', 'rotation-policies/private', {
      selector: { customer: 'a-private-value' },
      interval: 'P90D',
    });
    const id = made.headers.get('twofold-audit-id') ?? '';
    const { text } = await service.call('auditor', 'GET', `/v1/audit/entries/${id}`);
    expect(text).toContain('customer');
    expect(text).toContain('rotation-policies.change');
    expect(text).not.toContain('a-private-value');
  });

  it('is read by all roles, page by page, and changed by operators alone', async () => {
    for (const name of ['p1', 'p2', 'p3']) await send('PUT', `rotation-policies/${name}`, terms);
    const names: string[] = [];
    for (let token: string | null = ''; token !== null;) {
      const next = token === '' ? '' : `&pageToken=${token}`;
      const { json }: Called = await send(
        'GET',
        `rotation-policies?pageSize=2${next}`,
        undefined,
        undefined,
        'auditor',
      );
      names.push(...(json['items'] as { name: string }[]).map(({ name }) => name));
      token = json['nextPageToken'] as string | null;
    }
    expect(names).toEqual(['p1', 'p2', 'p3', 'private']);
    for (const role of ['user', 'auditor']) {
      expect(code(await send('PUT', path, terms, undefined, role))).toEqual([403, 'forbidden']);
    }
  });

  it('is one of at most 200', async () => {
    const { policies } = service.world;
    const grant = () => service.world.grant('rotation-policies.change', null);
    const run = () => ({ ...aRun(), render: () => ({ status: 200, body: '{}' }) });
    const left = 200 - (await policies.of('default')).policies.length;
    const all = { interval: 'P90D', maxUses: null, upgrade: null, retire: null, notice: null };
    const input = { selector: {}, priority: 0, terms: all };
    for (let at = 0; at < left; at += 1) {
      await policies.put(grant(), { name: `many-${String(at)}`, ...input }, run());
    }
    expect(code(await send('PUT', path, terms))).toEqual([429, 'quota_exceeded']);
  });
});
