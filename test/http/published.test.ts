/** Published keys: shown without a token, to everybody alike, for as long as they are published. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createHash } from 'node:crypto';
import { request } from 'node:http';
import { once } from 'node:events';
import { calculateJwkThumbprint } from 'jose';
import { openService } from './service.ts';
import type { CallInit, Called, Service } from './service.ts';

const JWKS = '/public/default/k/jwks.json';
const PEM = '/public/default/k/key.pem';
const reason = { json: { reason: 'a drill' } };

describe('a published key', () => {
  let service: Service;
  let id: string;
  let ready: boolean;
  const look = (path: string, init: CallInit = {}) => service.call(null, 'GET', path, init);
  const admin = async (method: string, path: string, json: unknown = {}): Promise<Called> => {
    const answer = await service.call('admin', method, `/v1/admin/keys${path}`, { json });
    expect(answer.json['code']).toBeUndefined();
    return answer;
  };
  const absentFor = ({ status, json, headers }: Called) => {
    const { requestId, ...problem } = json;
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('etag')).toBeNull();
    return [status, requestId === undefined, JSON.stringify(problem)];
  };
  const finds = () => service.world.store.calls.filter((call) => call === 'find').length;

  beforeEach(async () => {
    ready = true;
    service = await openService({
      replace: () => ({
        readiness: () => ({
          ready,
          checks: [{ name: 'database', ready, state: ready ? 'ok' : 'lost' }],
        }),
      }),
    });
    const made = await admin('POST', '', {
      name: 'k',
      suite: 'MLDSA65-ECDSA-P256-SHA512',
      publish: true,
    });
    id = String(made.json['id']);
    expect(made.json['publish']).toBe(true);
    await admin('POST', '', { name: 'hidden', suite: 'MLDSA65-ECDSA-P256-SHA512' });
  });
  afterEach(() => service.stop());

  it('is the key set that its readers see, by name and by id', async () => {
    const shown = await look(JWKS);
    expect(shown.status).toBe(200);
    expect(shown.headers.get('content-type')).toBe('application/jwk-set+json');
    expect(shown.headers.get('cache-control')).toBe('public, max-age=300');
    expect(shown.headers.get('twofold-audit-id')).toBeNull();
    const read = await service.call('user', 'GET', '/v1/keys/k/jwks');
    expect(JSON.parse(shown.text)).toEqual(read.json);
    const byId = await look(`/public/default/${id.toUpperCase()}/jwks.json`);
    expect(byId.text).toBe(shown.text);
  });

  it('is the PEM that its readers see, of the primary or a version', async () => {
    const read = async (version: number) =>
      (await service.call('user', 'GET', `/v1/keys/k/public-key?version=${String(version)}`)).json;
    const first = await look(PEM);
    expect(first.headers.get('content-type')).toBe('application/x-pem-file');
    expect(first.text).toBe((await read(1))['pem']);
    await admin('POST', '/k/rotate');
    expect((await look(PEM)).text).toBe((await read(2))['pem']);
    expect((await look(`${PEM}?version=1`)).text).toBe(first.text);
    expect((await look(`${PEM}?version=3`)).json['code']).toBe('key_not_found');
    expect((await look(`${PEM}?version=0`)).json['code']).toBe('invalid_value');
    expect((await look(`${PEM}?v=1`)).json['code']).toBe('unknown_parameter');
  });

  it('is of a key that others wrap to the primary alone, as PEM as in the key set', async () => {
    await admin('POST', '', { name: 'w', suite: 'DHKEM-P256', publish: true });
    const pinned = '/public/default/w/key.pem?version=1';
    expect((await look(pinned)).status).toBe(200);
    await admin('POST', '/w/rotate', { suite: 'MLKEM768-P256' });
    expect((await look(pinned)).json['code']).toBe('key_not_found');
    expect((await look('/public/default/w/key.pem')).status).toBe(200);
  });

  it('answers 304 to who has it, and a HEAD without a body', async () => {
    const { headers, bytes } = await look(JWKS);
    const etag = headers.get('etag') ?? '';
    expect(etag).toMatch(/^"[\w-]{22}"$/);
    for (const tag of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
      const again = await look(JWKS, { headers: { 'if-none-match': tag } });
      expect([again.status, again.bytes.length]).toEqual([304, 0]);
      expect(again.headers.get('etag')).toBe(etag);
      expect(again.headers.get('cache-control')).toBe('public, max-age=300');
    }
    expect((await look(JWKS, { headers: { 'if-none-match': '"x"' } })).status).toBe(200);
    const head = await service.call(null, 'HEAD', JWKS);
    expect([head.status, head.bytes.length]).toEqual([200, 0]);
    expect(head.headers.get('content-length')).toBe(String(bytes.length));
    await admin('POST', '/k/rotate');
    const rotated = await look(JWKS, { headers: { 'if-none-match': etag } });
    expect([rotated.status, rotated.headers.get('etag') === etag]).toEqual([200, false]);
  });

  it('is one of which nothing tells that others exist', async () => {
    const asked = [
      '/public/default/hidden/jwks.json',
      '/public/default/none/jwks.json',
      '/public/elsewhere/k/jwks.json',
      '/public/default/K/jwks.json',
      '/public/default/%00/jwks.json',
      '/public/default/__proto__/jwks.json',
      `/public/default/${'0'.repeat(8)}-0000-4000-8000-${'0'.repeat(12)}/jwks.json`,
      '/public/default/hidden/key.pem',
      '/public/default/hidden/key.pem?version=1',
      `${PEM}?version=9`,
    ];
    const before = finds();
    const answers = await Promise.all(asked.map(async (path) => absentFor(await look(path))));
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(answers[0]?.[0]).toBe(404);
    // No name but that of the published key was looked for.
    expect(finds() - before).toBeLessThanOrEqual(1);
  });

  it.each<[string, () => Promise<unknown>, () => Promise<unknown>]>([
    [
      'suspended',
      () => admin('POST', '/k/suspend', reason.json),
      () => admin('POST', '/k/resume', reason.json),
    ],
    [
      'no longer published',
      () => admin('PATCH', '/k', { publish: false }),
      () => admin('PATCH', '/k', { publish: true }),
    ],
  ])('that is %s is gone at once, and back as soon', async (_name, end, undo) => {
    const shown = await look(JWKS);
    await look(PEM);
    await end();
    const etag = shown.headers.get('etag') ?? '';
    const hidden = await look('/public/default/hidden/jwks.json');
    for (const path of [JWKS, PEM, `/public/default/${id}/jwks.json`]) {
      const gone = await look(path, { headers: { 'if-none-match': etag } });
      expect(absentFor(gone)).toEqual(absentFor(hidden));
    }
    await undo();
    expect((await look(JWKS)).text).toBe(shown.text);
  });

  it('loses the versions that are suspended', async () => {
    await admin('POST', '/k/rotate');
    const kids = async () =>
      (JSON.parse((await look(JWKS)).text) as { keys: { kid: string }[] }).keys.map(
        ({ kid }) => kid.split('.')[1],
      );
    expect(await kids()).toEqual(['1', '2']);
    expect((await look(`${PEM}?version=1`)).status).toBe(200);
    await admin('POST', '/k/versions/1/suspend', reason.json);
    expect(await kids()).toEqual(['2']);
    expect((await look(`${PEM}?version=1`)).json['code']).toBe('key_not_found');
  });

  it('that changes while it is read is neither kept nor answered as it was', async () => {
    let changed = false;
    service.world.store.meanwhile = async (call) => {
      if (call !== 'find' || changed) return;
      changed = true;
      await admin('POST', '/k/suspend', reason.json);
    };
    expect((await look(JWKS)).status).toBe(404);
    expect(changed).toBe(true);
    service.world.store.meanwhile = () => Promise.resolve();
    expect((await look(JWKS)).status).toBe(404);
  });

  it('of which the names change while they are read is not missed', async () => {
    let changed = false;
    service.world.store.meanwhile = async (call) => {
      if (call !== 'published' || changed) return;
      changed = true;
      await admin('PATCH', '/hidden', { publish: true });
    };
    expect((await look('/public/default/hidden/jwks.json')).status).toBe(200);
    expect(changed).toBe(true);
  });

  it('is read again after a failure', async () => {
    service.world.store.fault = (call) => (call === 'published' ? 'before' : 'none');
    expect((await look(JWKS)).json['code']).toBe('database_unavailable');
    service.world.store.fault = () => 'none';
    expect((await look(JWKS)).status).toBe(200);
  });

  it('is not shown while the database is away, kept or not', async () => {
    expect((await look(JWKS)).status).toBe(200);
    ready = false;
    const away = await look(JWKS);
    expect([away.status, away.json['code']]).toEqual([503, 'database_unavailable']);
  });

  it('is verified: a row that says that it is published and is not so attested is not shown', async () => {
    const { keys } = service.world.store.rows;
    const [slot, row] = [...keys].find(([, { value }]) => value.name === 'hidden') ?? [];
    if (slot === undefined || row === undefined) throw new Error('no such row');
    keys.set(slot, { ...row, value: { ...row.value, publish: true } });
    const shown = await look('/public/default/hidden/jwks.json');
    expect([shown.status, shown.json['code']]).toEqual([500, 'integrity_failed']);
  });

  it('is counted like other requests without a token, and has no audit entry', async () => {
    const entries = service.drafts.length;
    await look(JWKS);
    await look('/public/default/none/jwks.json');
    expect(service.anonymous.slice(-2).map(({ outcome }) => outcome)).toEqual([
      'ok',
      'key_not_found',
    ]);
    expect(service.drafts.length).toBe(entries);
  });

  it('takes no other method, header or body for another meaning', async () => {
    const posted = await service.call(null, 'POST', JWKS, { json: {} });
    expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    const named = await look(JWKS, { headers: { 'twofold-namespace': 'default' } });
    expect(named.json['code']).toBe('unknown_parameter');
    const sent = request(`${service.url}${JWKS}`, {
      method: 'GET',
      headers: { 'content-length': '2', host: 'x' },
    });
    sent.end('{}');
    const [answer] = (await once(sent, 'response')) as [{ statusCode: number; resume(): void }];
    answer.resume();
    expect(answer.statusCode).toBe(200);
  });
});

describe('publication', () => {
  let service: Service;
  const admin = (method: string, path: string, json: unknown) =>
    service.call('admin', method, `/v1/admin/keys${path}`, { json });
  beforeEach(async () => {
    service = await openService({ options: { limits: { unauthenticatedPerMinute: 5 } } });
  });
  afterEach(() => service.stop());

  it('is audited as a change', async () => {
    await admin('POST', '', { name: 'k', suite: 'MLKEM768-P256' });
    const { json } = await admin('PATCH', '/k', { publish: true });
    expect(json).toMatchObject({ publish: true, revision: 2 });
    const { items } = (
      await service.call('admin', 'GET', '/v1/audit/entries?operation=keys.update')
    ).json as { items: { detail: Record<string, unknown> }[] };
    const [entry] = items;
    expect(JSON.parse(String(entry?.detail['changed']))).toEqual({ publish: [false, true] });
    const shown = await service.call(null, 'GET', '/public/default/k/jwks.json');
    expect(JSON.parse(shown.text)).toMatchObject({ keys: [{ kty: 'AKP', alg: 'HPKE-8' }] });
  });

  it('is refused to keys without a public key in a form of a standard, however they come by it', async () => {
    for (const suite of ['A256GCM', 'HS256', 'Falcon-512']) {
      const made = await admin('POST', '', { name: 'no', suite, publish: true });
      expect(made.json['code']).toBe('wrong_purpose');
    }
    await admin('POST', '', { name: 'box', suite: 'A256GCM', publish: false });
    expect((await admin('PATCH', '/box', { publish: true })).json['code']).toBe('wrong_purpose');
    expect((await admin('PATCH', '/box', { publish: false })).status).toBe(200);
    await admin('POST', '', { name: 'k', suite: 'MLKEM768-P256', publish: true });
    const rotated = await admin('POST', '/k/rotate', { suite: 'A256GCM' });
    expect(rotated.json['code']).toBe('wrong_purpose');
    expect((await admin('PATCH', '/k', { publish: 'yes' })).json['code']).toBe('invalid_value');
  });

  it('bounds how many names a source may try, and keeps tokens out of it', async () => {
    await admin('POST', '', { name: 'k', suite: 'MLKEM768-P256', publish: true });
    const codes: unknown[] = [];
    for (let n = 0; n < 7; n += 1) {
      const path = `/public/default/none-${String(n)}/key.pem`;
      codes.push((await service.call(null, 'GET', path)).json['code']);
    }
    expect(codes.slice(4)).toEqual(['key_not_found', 'rate_limited', 'rate_limited']);
    const known = await service.call(null, 'GET', '/public/default/k/key.pem');
    expect(known.json['code']).toBe('rate_limited');
    expect((await service.call('user', 'GET', '/v1/keys/k')).status).toBe(200);
  });

  it('answers as many as ask for what is there', async () => {
    await admin('POST', '', { name: 'k', suite: 'MLKEM768-P256', publish: true });
    for (let n = 0; n < 12; n += 1) {
      expect((await service.call(null, 'GET', '/public/default/k/key.pem')).status).toBe(200);
    }
  });
});

describe('public-key answers', () => {
  it('carry the thumbprint of the JWK and the hash of the SPKI', async () => {
    const service = await openService();
    try {
      const json = { name: 'k', suite: 'MLDSA65-ECDSA-P256-SHA512' };
      await service.call('admin', 'POST', '/v1/admin/keys', { json });
      const read = async (format: string) =>
        (await service.call('user', 'GET', `/v1/keys/k/public-key?format=${format}`)).json;
      const { jwk, thumbprint, sha256 } = await read('jwk');
      expect(thumbprint).toBe(await calculateJwkThumbprint(jwk as object));
      const pem = String((await read('pem'))['pem']);
      const der = Buffer.from(pem.split('\n').slice(1, -2).join(''), 'base64');
      expect(sha256).toBe(createHash('sha256').update(der).digest('hex'));
    } finally {
      await service.stop();
    }
  });
});
