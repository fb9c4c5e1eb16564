/** Rewrap jobs through REST, over a real database and a real token. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { BUILT_IN_POLICIES, SCHEMA } from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';
import { MAX_LINE_BYTES } from '../../src/http/lines.ts';
import { TwofoldError } from '../../src/errors.ts';
import { wrapOffline } from '../keyring/offline.ts';
import type { Instance } from '../keyring/world.ts';
import { withClient } from '../store/owner.ts';
import type { Called, Service } from './service.ts';
import { Site } from './stored-service.ts';

let site: Site;
let service: Service<Instance>;
let other: Service<Instance>;
/** How far the services' clocks are ahead, ms. */
let now = 0;
let keys = 0;

const b64 = (text: string) => Buffer.from(text).toString('base64');
const tf1 = (bytes: Uint8Array) => `tf1.${Buffer.from(bytes).toString('base64url')}`;
const NDJSON = { 'content-type': 'application/x-ndjson' };

beforeAll(async () => {
  site = await Site.open();
  const clock = () => new Date(Date.now() + now);
  service = await site.service({}, clock);
  other = await site.service({}, clock);
}, 120_000);
afterAll(() => site.close());

const post = (path: string, json: object, role = 'admin') =>
  service.call(role, 'POST', path, { json });

/** A key with `count` ciphertexts of its first version, and a second version. */
async function aKey(count: number, suite = 'MLKEM768-P256') {
  keys += 1;
  const name = `k${keys}`;
  expect((await post('/v1/admin/keys', { name, suite })).status).toBe(201);
  const items = Array.from({ length: count }, (_, index) => ({ plaintext: b64(`p${index}`) }));
  const { json } = await post(`/v1/keys/${name}/wrap/batch`, { items });
  const ciphertexts = (json['results'] as { ciphertext: string }[]).map((one) => one.ciphertext);
  expect((await post(`/v1/admin/keys/${name}/rotate`, {})).status).toBe(200);
  return { name, ciphertexts };
}

async function aJob(key: string, input: object = {}, role = 'user') {
  const made = await post(`/v1/admin/keys/${key}/rewrap-jobs`, input, role);
  expect({ status: made.status, code: made.json['code'] }).toEqual({
    status: 202,
    code: undefined,
  });
  return made.json as unknown as Job;
}

const bodyOf = (lines: readonly unknown[]) =>
  lines.map((line) => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`).join('');

const send = (
  { id }: Pick<Job, 'id'>,
  offset: number,
  lines: readonly unknown[],
  { role = 'user', at = service }: { role?: string; at?: Service<Instance> } = {},
): Promise<Called> =>
  at.call(role, 'POST', `/v1/admin/operations/${id}/items?offset=${offset}`, {
    body: bodyOf(lines),
    headers: NDJSON,
  });

interface Job {
  readonly id: string;
  readonly state: string;
  readonly createdBy: { readonly subject: string };
}

interface Answer {
  readonly ref?: string | null;
  readonly ciphertext?: string;
  readonly changed?: boolean;
  readonly keyVersion?: number;
  readonly error?: { readonly code: string };
  readonly offset?: number;
  readonly progress?: Readonly<Record<string, number | null>>;
}
const linesOf = ({ status, text }: Called): readonly Answer[] => {
  expect({ status, text: status === 200 ? '' : text }).toEqual({ status: 200, text: '' });
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Answer);
};
const codeOf = ({ status, json }: Called) => `${status} ${String(json['code'])}`;
const wrapped = (ciphertexts: readonly string[]) =>
  ciphertexts.map((ciphertext) => ({ ciphertext }));
const read = async ({ id }: Pick<Job, 'id'>, role = 'user') =>
  (await service.call(role, 'GET', `/v1/admin/operations/${id}`)).json;
const offsetOf = async (job: Job) => ((await read(job))['progress'] as { offset: number }).offset;
const lastEntry = async (operation: string) => {
  const { json } = await service.call(
    'admin',
    'GET',
    `/v1/audit/entries?operation=${operation}&pageSize=1`,
  );
  return (json['items'] as Record<string, unknown>[])[0];
};

describe('a thousand items', () => {
  it('go over in chunks, and on after a connection that broke', async () => {
    const { name, ciphertexts } = await aKey(1000);
    const job = await aJob(name, { total: 1000 });
    const moved = new Map<number, string>();
    const take = (offset: number, lines: readonly Answer[]) => {
      for (const [index, { ciphertext }] of lines.slice(0, -1).entries()) {
        moved.set(offset + index, ciphertext ?? '');
      }
    };
    take(0, linesOf(await send(job, 0, wrapped(ciphertexts.slice(0, 400)))));
    // Half of a chunk, and the client is gone: nothing of it counts.
    const body = bodyOf(wrapped(ciphertexts.slice(400, 800)));
    const socket = connect(service.port, '127.0.0.1');
    await once(socket, 'connect');
    const head = [
      `POST /v1/admin/operations/${job.id}/items?offset=400 HTTP/1.1`,
      'Host: x',
      `Authorization: Bearer ${await service.token('user')}`,
      'Content-Type: application/x-ndjson',
      `Content-Length: ${body.length}`,
    ];
    socket.write(`${head.join('\r\n')}\r\n\r\n${body.slice(0, body.length / 2)}`, () => {
      socket.destroy();
    });
    await once(socket, 'close');
    expect(await offsetOf(job)).toBe(400);
    const early = await post(`/v1/admin/operations/${job.id}/finish`, {}, 'user');
    expect(codeOf(early)).toBe('409 conflict');
    take(400, linesOf(await send(job, 400, wrapped(ciphertexts.slice(400, 800)))));
    const last = linesOf(await send(job, 800, wrapped(ciphertexts.slice(800))));
    take(800, last);
    expect(last.at(-1)).toMatchObject({
      offset: 1000,
      progress: { offset: 1000, total: 1000, succeeded: 1000, unchanged: 0, failed: 0 },
    });
    const items = [...moved.values()].map((ciphertext) => ({ ciphertext }));
    const { json } = await post(`/v1/keys/${name}/unwrap/batch`, { items });
    const opened = json['results'] as { plaintext: string; keyVersion: number; origin: string }[];
    expect(opened.map(({ plaintext }) => plaintext)).toEqual(
      ciphertexts.map((_, index) => b64(`p${index}`)),
    );
    expect(new Set(opened.map(({ keyVersion, origin }) => `${keyVersion} ${origin}`))).toEqual(
      new Set(['2 service']),
    );
    const finished = await post(`/v1/admin/operations/${job.id}/finish`, {}, 'user');
    expect(finished.json).toMatchObject({ state: 'succeeded' });
    expect(codeOf(await send(job, 1000, wrapped(ciphertexts.slice(0, 1))))).toBe(
      '409 operation_ended',
    );
  }, 60_000);
});

describe('offsets', () => {
  it('a chunk sent again is done again and counted once; a gap is refused', async () => {
    const { name, ciphertexts } = await aKey(6);
    const job = await aJob(name);
    const [first = '', second = ''] = ciphertexts;
    linesOf(await send(job, 0, wrapped([first, second])));
    expect(codeOf(await send(job, 3, wrapped([first])))).toBe('409 conflict');
    expect((await send(job, 3, wrapped([first]))).json['detail']).toContain('2');
    const again = linesOf(await send(job, 0, wrapped([first, second])));
    expect(again.map(({ changed }) => changed)).toEqual([true, true, undefined]);
    expect(again.at(-1)).toMatchObject({ offset: 2, progress: { succeeded: 2 } });
    // Half old, half new.
    const both = linesOf(await send(job, 1, wrapped(ciphertexts.slice(1, 4))));
    expect(both.at(-1)).toMatchObject({ offset: 4, progress: { succeeded: 4, offset: 4 } });
    const kept = linesOf(await send(job, 4, wrapped([both[0]?.ciphertext ?? ''])));
    expect(kept).toMatchObject([
      { changed: false },
      { offset: 5, progress: { succeeded: 4, unchanged: 1 } },
    ]);
    expect(await offsetOf(job)).toBe(5);
  });

  it('two instances at one offset: both are answered, one is counted', async () => {
    const { name, ciphertexts } = await aKey(8);
    const job = await aJob(name);
    for (const offset of [0, 4]) {
      const lines = wrapped(ciphertexts.slice(offset, offset + 4));
      const answers = await Promise.all(
        [service, other].map((at) => send(job, offset, lines, { at })),
      );
      for (const answer of answers) {
        const told = linesOf(answer);
        expect(told).toHaveLength(5);
        expect(told.at(-1)).toMatchObject({ offset: offset + 4 });
      }
    }
    expect((await read(job))['progress']).toMatchObject({ offset: 8, succeeded: 8 });
  });

  it('no more than were announced', async () => {
    const { name, ciphertexts } = await aKey(3);
    const job = await aJob(name, { total: 2 });
    expect(codeOf(await send(job, 0, wrapped(ciphertexts)))).toBe('400 invalid_value');
    expect(await offsetOf(job)).toBe(0);
  });
});

describe('a job is no permission', () => {
  it('is seen and continued by its creator, and seen by who oversees', async () => {
    const { name, ciphertexts } = await aKey(1);
    const job = await aJob(name, { note: 'mine' });
    const foreign = `Bearer ${await service.token('user', 3600, 'somebody else')}`;
    const place = `/v1/admin/operations/${job.id}`;
    for (const [method, path, init] of [
      ['GET', place, {}],
      ['POST', `${place}/cancel`, { json: { reason: 'x' } }],
      ['POST', `${place}/finish`, { json: {} }],
      ['POST', `${place}/items?offset=0`, { body: bodyOf(wrapped(ciphertexts)), headers: NDJSON }],
    ] as const) {
      const headers = { ...('headers' in init ? init.headers : {}), authorization: foreign };
      const answer = await service.call(null, method, path, { ...init, headers });
      expect([path, codeOf(answer)]).toEqual([path, '404 not_found']);
    }
    const own = await service.call(null, 'GET', '/v1/admin/operations', {
      headers: { authorization: foreign },
    });
    expect(own.json['items']).toEqual([]);
    for (const role of ['admin', 'operator', 'auditor']) {
      expect(await read(job, role)).toMatchObject({ id: job.id, note: 'mine', key: name });
    }
    // Who sees it does not continue it.
    expect(codeOf(await send(job, 0, wrapped(ciphertexts), { role: 'operator' }))).toBe(
      '403 forbidden',
    );
    expect(codeOf(await send(job, 0, wrapped(ciphertexts), { role: 'admin' }))).toBe(
      '404 not_found',
    );
    for (const id of ['nowhere', '00000000-0000-4000-8000-000000000000', `${job.id}0`]) {
      expect(codeOf(await send({ id }, 0, wrapped(ciphertexts)))).toBe('404 not_found');
    }
    const operator = await post(`${place}/cancel`, { reason: 'too fast' }, 'operator');
    expect(operator.json).toMatchObject({ state: 'cancelled', reason: 'too fast' });
    expect(codeOf(await send(job, 0, wrapped(ciphertexts)))).toBe('409 operation_ended');
    const again = await post(`${place}/cancel`, { reason: 'other' }, 'operator');
    expect(again.json).toMatchObject({ state: 'cancelled', reason: 'too fast' });
  });

  it('a right that was taken away between chunks ends it (on either key)', async () => {
    const { name, ciphertexts } = await aKey(3);
    const { name: target } = await aKey(1);
    const denied = new Set<string>();
    const narrowed = await site.service({
      replace: ({ authorizer }) => ({
        authorizer: {
          authorize: (principal, operation, resource) => {
            const gone = operation === 'rewrap' && denied.has(resource.key ?? '');
            // A role that may not.
            const as = gone ? { ...principal, roles: ['auditor'] } : principal;
            return authorizer.authorize(as, operation, resource);
          },
          refine: (grant, body) => authorizer.refine(grant, body),
          may: (...asked) => authorizer.may(...asked),
          decide: (...asked) => authorizer.decide(...asked),
        },
      }),
    });
    const job = await aJob(name, { to: target });
    const next = (offset: number) =>
      send(job, offset, wrapped(ciphertexts.slice(offset, offset + 1)), { at: narrowed });
    expect(linesOf(await next(0)).at(-1)).toMatchObject({ offset: 1 });
    for (const key of [name, target]) {
      denied.add(key);
      expect(codeOf(await next(1))).toBe('403 forbidden');
      denied.clear();
    }
    expect(linesOf(await next(1)).at(-1)).toMatchObject({ offset: 2 });
  }, 30_000);

  it('is not made without the right to rewrap, nor for what cannot be moved', async () => {
    const { name } = await aKey(1);
    const jobs = `/v1/admin/keys/${name}/rewrap-jobs`;
    expect(codeOf(await post(jobs, {}, 'operator'))).toBe('403 forbidden');
    expect(codeOf(await post(jobs, { to: 'nowhere' }))).toBe('404 key_not_found');
    await post('/v1/admin/keys', { name: `${name}-mac`, suite: 'HS256' });
    expect(codeOf(await post(jobs, { to: `${name}-mac` }))).toBe('409 wrong_purpose');
    expect(codeOf(await post(jobs, { itemsPerSecond: 99_999 }))).toBe('400 invalid_value');
    expect(codeOf(await post(jobs, { rate: 1 }))).toBe('400 unknown_field');
  });

  it('a key suspended between chunks ends it at once; nothing is counted', async () => {
    const { name, ciphertexts } = await aKey(4);
    const { name: target } = await aKey(1);
    const job = await aJob(name, { to: target });
    linesOf(await send(job, 0, wrapped(ciphertexts.slice(0, 1))));
    for (const key of [name, target]) {
      // By the other instance, which tells this one nothing.
      const suspended = await other.call('admin', 'POST', `/v1/admin/keys/${key}/suspend`, {
        json: { reason: 'a drill' },
      });
      expect(suspended.status).toBe(200);
      expect(codeOf(await send(job, 1, wrapped(ciphertexts.slice(1))))).toBe(
        '409 version_not_usable',
      );
      expect(await offsetOf(job)).toBe(1);
      await other.call('admin', 'POST', `/v1/admin/keys/${key}/resume`, {
        json: { reason: 'over' },
      });
    }
    const last = linesOf(await send(job, 1, wrapped(ciphertexts.slice(1)))).at(-1);
    expect(last).toMatchObject({ offset: 4, progress: { succeeded: 4 } });
  });

  it('a suspension that answers while a chunk is under way keeps its answer back', async () => {
    const { name, ciphertexts } = await aKey(200);
    const job = await aJob(name);
    const sending = send(job, 0, wrapped(ciphertexts));
    const stop = await other.call('admin', 'POST', `/v1/admin/keys/${name}/suspend`, {
      json: { reason: 'a drill' },
    });
    expect(stop.status).toBe(200);
    const answer = await sending;
    // Answered before the suspension was, or not at all; and counted just then.
    const done = answer.status === 200 ? 200 : 0;
    if (done === 0) expect(codeOf(answer)).toBe('409 version_not_usable');
    expect(await offsetOf(job)).toBe(done);
  });
});

describe('items', () => {
  it('each bad line is its own error, in its place', async () => {
    const { name, ciphertexts } = await aKey(2);
    const { name: foreign, ciphertexts: theirs } = await aKey(1);
    const job = await aJob(name);
    const [good = '', bound = ''] = ciphertexts;
    const lines = [
      { ref: 'good', ciphertext: good },
      'not json',
      '',
      { ref: 'field', ciphertext: good, keyVersion: 1 },
      { ref: 'envelope', ciphertext: 'tf2.AAAA' },
      { ref: 'bytes', ciphertext: good, aad: 'not base64!' },
      { ref: 'context', ciphertext: bound, encryptionContext: { a: 'b' } },
      { ref: 'other', ciphertext: theirs[0] },
      { ref: 'x'.repeat(129), ciphertext: good },
      { ref: 'array', ciphertext: [good] },
      `{"ciphertext":"${'A'.repeat(MAX_LINE_BYTES)}"}`,
      `{"ref":"many","encryptionContext":[${'0,'.repeat(100)}0]}`,
      { ref: 'last', ciphertext: good },
    ];
    const answer = await send(job, 0, lines);
    const told = linesOf(answer);
    expect(told.slice(0, -1).map(({ ref, error }) => [ref, error?.code ?? 'ok'])).toEqual([
      ['good', 'ok'],
      [null, 'malformed_json'],
      [null, 'malformed_json'],
      ['field', 'unknown_field'],
      ['envelope', 'invalid_envelope'],
      ['bytes', 'invalid_base64'],
      ['context', 'decryption_failed'],
      ['other', 'key_mismatch'],
      [null, 'invalid_value'],
      ['array', 'invalid_envelope'],
      [null, 'invalid_value'],
      [null, 'malformed_json'],
      ['last', 'ok'],
    ]);
    expect(told.at(-1)).toMatchObject({ progress: { offset: 13, succeeded: 2, failed: 11 } });
    expect(foreign).not.toBe(name);
    expect(await lastEntry('rewrap-jobs.continue')).toMatchObject({
      id: answer.headers.get('twofold-audit-id'),
      outcome: 'ok',
      key: { reference: name, suite: 0x0101 },
      detail: { operationId: job.id, offset: 0, kind: 'rewrap' },
      items: told.slice(0, -1).map(({ error }) => ({ outcome: error?.code ?? 'ok' })),
    });
  });

  it('only bad ones are counted too, so that a client gets past them', async () => {
    const { name } = await aKey(1);
    const job = await aJob(name);
    const told = linesOf(await send(job, 0, ['bad', 'worse']));
    expect(told.at(-1)).toMatchObject({ offset: 2, progress: { failed: 2 } });
  });

  it('never gain an origin', async () => {
    const { name } = await aKey(1);
    await post('/v1/admin/keys', { name: `${name}-box`, suite: 'A256GCM' });
    const ciphertext = tf1(await wrapOffline(service.world, name, 'anyone'));
    const box = await aJob(name, { to: `${name}-box` });
    const refused = linesOf(await send(box, 0, [{ ciphertext }]));
    expect(refused[0]?.error?.code).toBe('origin_would_rise');
    await post(`/v1/admin/keys/${name}/rotate`, {});
    const same = linesOf(await send(await aJob(name), 0, [{ ciphertext }]));
    expect(same[0]).toMatchObject({ changed: true, keyVersion: 3 });
    const opened = await post(`/v1/keys/${name}/unwrap`, { ciphertext: same[0]?.ciphertext });
    expect(opened.json).toMatchObject({ plaintext: b64('anyone'), origin: 'anyone' });
  });

  it('are asked about by their origin, with a context or without', async () => {
    const { name, ciphertexts } = await aKey(1);
    const anyones = tf1(await wrapOffline(service.world, name, 'anyone'));
    const forbid = `@id("ours-alone") forbid (principal, action == Action::"rewrap", resource)
      when { context has origin && context.origin == "anyone" };`;
    const policies = PolicySet.load(SCHEMA, `${BUILT_IN_POLICIES}${forbid}`);
    const strict = await site.service({
      replace: ({ epoch }) => ({ authorizer: PolicyAuthorizer.of({ epoch, policies }) }),
    });
    const job = await aJob(name);
    const lines = wrapped([anyones, ciphertexts[0] ?? '', anyones]);
    const told = linesOf(await send(job, 0, lines, { at: strict }));
    expect(told.slice(0, -1).map(({ changed, error }) => error?.code ?? changed)).toEqual([
      'forbidden',
      true,
      'forbidden',
    ]);
    expect(told.at(-1)).toMatchObject({ progress: { offset: 3, succeeded: 1, failed: 2 } });
  }, 30_000);

  it('have bounds: lines, bytes, media type, offset', async () => {
    const { name, ciphertexts } = await aKey(1);
    const job = await aJob(name);
    const line = wrapped(ciphertexts);
    const place = `/v1/admin/operations/${job.id}/items`;
    const many = Array.from({ length: 1001 }, () => 'x');
    expect(codeOf(await send(job, 0, many))).toBe('400 batch_too_large');
    expect(codeOf(await send(job, 0, []))).toBe('400 invalid_value');
    expect(codeOf(await send(job, 0, ['x'.repeat(8_388_608)]))).toBe('413 body_too_large');
    const json = await service.call('user', 'POST', `${place}?offset=0`, { json: line[0] });
    expect(codeOf(json)).toBe('415 unsupported_media_type');
    for (const query of ['', '?offset=', '?offset=-1', '?offset=1e3', '?offset=01']) {
      const init = { body: bodyOf(line), headers: NDJSON };
      const answer = await service.call('user', 'POST', place + query, init);
      expect([query, codeOf(answer)]).toEqual([query, '400 invalid_value']);
    }
    expect(await offsetOf(job)).toBe(0);
  });

  it('come no faster than the rate, over all instances', async () => {
    const { name, ciphertexts } = await aKey(3);
    // Three items are a minute and a half of its time.
    const job = await aJob(name, { itemsPerSecond: 1 });
    const lines = Array.from({ length: 90 }, () => ({ ciphertext: ciphertexts[0] }));
    linesOf(await send(job, 0, lines));
    for (const at of [service, other]) {
      const answer = await send(job, 90, wrapped(ciphertexts), { at });
      expect(codeOf(answer)).toBe('429 rate_limited');
      const after = Number(answer.headers.get('retry-after'));
      expect(after).toBeGreaterThan(1);
      expect(after).toBeLessThanOrEqual(90);
    }
    // What was lost is sent again at the same rate.
    expect(codeOf(await send(job, 0, wrapped(ciphertexts)))).toBe('429 rate_limited');
    expect(await offsetOf(job)).toBe(90);
  });

  it('that the token fails are nobody’s failure: nothing is counted', async () => {
    const { name, ciphertexts } = await aKey(3);
    const job = await aJob(name);
    const { use } = service.deps;
    const busy = await site.service({
      replace: () => ({
        use: Object.assign(Object.create(use) as typeof use, {
          rewrapMany: async (...call: Parameters<typeof use.rewrapMany>) => {
            const [first, ...rest] = await use.rewrapMany(...call);
            const error = new TwofoldError('hsm_busy');
            return first === undefined ? [] : [first, ...rest.slice(1), error];
          },
        }),
      }),
    });
    const answer = await send(job, 0, wrapped(ciphertexts), { at: busy });
    expect(codeOf(answer)).toBe('503 hsm_busy');
    expect(await offsetOf(job)).toBe(0);
  }, 30_000);
});

describe('the resource', () => {
  it('is made once for an idempotency key, and shown by a dry run', async () => {
    const { name } = await aKey(1);
    const path = `/v1/admin/keys/${name}/rewrap-jobs`;
    const dry = await service.call('user', 'POST', `${path}?dryRun=true`, { json: {} });
    expect([dry.status, dry.json['dryRun']]).toEqual([200, true]);
    expect(
      codeOf(await service.call('user', 'GET', `/v1/admin/operations/${String(dry.json['id'])}`)),
    ).toBe('404 not_found');
    const headers = { 'idempotency-key': 'once' };
    const asked = { json: { note: 'n' }, headers };
    const first = await service.call('user', 'POST', path, asked);
    const again = await service.call('user', 'POST', path, asked);
    expect([first.status, again.status, again.headers.get('idempotency-replayed')]).toEqual([
      202,
      202,
      'true',
    ]);
    expect(again.json).toEqual(first.json);
    expect(again.headers.get('location')).toBe(first.headers.get('location'));
    const changed = await service.call('user', 'POST', path, { json: {}, headers });
    expect(codeOf(changed)).toBe('422 idempotency_mismatch');
    const job = first.json as unknown as Job;
    const dryCancel = `/v1/admin/operations/${job.id}/cancel?dryRun=true`;
    expect((await post(dryCancel, { reason: 'x' }, 'user')).json).toMatchObject({
      state: 'cancelled',
      dryRun: true,
    });
    expect(await read(job)).toMatchObject({ state: 'running' });
  });

  it('is listed newest first, by kind and state, page by page', async () => {
    const { name } = await aKey(1);
    const made: string[] = [];
    for (let index = 0; index < 5; index += 1) made.unshift((await aJob(name)).id);
    const listed: string[] = [];
    let token = '';
    do {
      const path = `/v1/admin/operations?kind=rewrap&state=running&pageSize=2${token}`;
      const { json } = await service.call('user', 'GET', path);
      listed.push(...(json['items'] as { id: string }[]).map(({ id }) => id));
      const next = json['nextPageToken'];
      token = typeof next === 'string' ? `&pageToken=${next}` : '';
    } while (token !== '' && listed.length < 100);
    expect(listed.slice(0, 5)).toEqual(made);
    expect(new Set(listed).size).toBe(listed.length);
    for (const id of made) await post(`/v1/admin/operations/${id}/finish`, {}, 'user');
    const path = '/v1/admin/operations?state=running';
    const { json } = await service.call('user', 'GET', path);
    const left = (json['items'] as { id: string }[]).map(({ id }) => id);
    expect(left.filter((id) => made.includes(id))).toEqual([]);
  });

  it('ends by itself after a month of silence, and makes room for others', async () => {
    const { name, ciphertexts } = await aKey(1);
    const role = 'admin';
    const jobs: Job[] = [];
    while (jobs.length < 20) jobs.push(await aJob(name, {}, role));
    expect(codeOf(await post(`/v1/admin/keys/${name}/rewrap-jobs`, {}, role))).toBe(
      '429 quota_exceeded',
    );
    const [first] = jobs;
    if (first === undefined) throw new Error('no job');
    now = 31 * 86_400_000;
    try {
      expect(await read(first, role)).toMatchObject({ state: 'expired' });
      expect(codeOf(await send(first, 0, wrapped(ciphertexts), { role }))).toBe(
        '409 operation_ended',
      );
      const expired = await service.call(role, 'GET', '/v1/admin/operations?state=expired');
      expect((expired.json['items'] as unknown[]).length).toBeGreaterThanOrEqual(20);
    } finally {
      now = 0;
    }
    for (const { id } of jobs) {
      expect((await post(`/v1/admin/operations/${id}/cancel`, { reason: 'x' }, role)).status).toBe(
        200,
      );
    }
    expect((await aJob(name, {}, role)).state).toBe('running');
  }, 30_000);

  it('whose identity was altered in the database is not believed', async () => {
    const { name, ciphertexts } = await aKey(1);
    const job = await aJob(name);
    const alter = (sql: string) =>
      withClient(site.database.ownerUrl, (owner) =>
        owner.query(`update public.operation set ${sql} where id = $1`, [job.id]),
      );
    await alter(`subject = 'somebody'`);
    expect(codeOf(await service.call('admin', 'GET', `/v1/admin/operations/${job.id}`))).toBe(
      '500 integrity_failed',
    );
    await alter(`subject = '${job.createdBy.subject}'`);
    await alter(`rate = 100000`);
    expect(codeOf(await send(job, 0, wrapped(ciphertexts)))).toBe('500 integrity_failed');
    await alter(`rate = 2000`);
    linesOf(await send(job, 0, wrapped(ciphertexts)));
    await expect(alter(`position = 0`)).rejects.toMatchObject({ code: 'TF004' });
  });
});
