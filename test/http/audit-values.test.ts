/** Encryption contexts in audit entries: in clear where declared, as HMACs otherwise, and how to look for both. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { decodeJwt } from 'jose';
import { contextBytes, itemHash } from '../../src/http/notes.ts';
import { openService } from './service.ts';
import type { Called, Service } from './service.ts';

const LOGGABLE = '/v1/admin/audit/loggable-context';
const plaintext = Buffer.from('secret').toString('base64');
let service: Service;

beforeAll(async () => {
  service = await openService();
  const json = { name: 'k', suite: 'MLKEM768-P256' };
  await service.call('admin', 'POST', '/v1/admin/keys', { json });
}, 60_000);
afterAll(() => service.stop());

const declare = (names: readonly string[], headers: Record<string, string> = {}, query = '') =>
  service.call('admin', 'PUT', LOGGABLE + query, { json: { names }, headers });
const tag = async () =>
  (await service.call('admin', 'GET', LOGGABLE)).headers.get('etag') ?? undefined;
const wrap = (encryptionContext: Record<string, string>, aad?: string) =>
  service.call('admin', 'POST', '/v1/keys/k/wrap', {
    json: { plaintext, encryptionContext, ...(aad === undefined ? {} : { aad }) },
  });
const entryOf = async (answer: Called) => {
  const id = answer.headers.get('twofold-audit-id') ?? '';
  return (await service.call('auditor', 'GET', `/v1/audit/entries/${id}`)).json;
};
const list = async (query: string) => {
  const { json, status } = await service.call('auditor', 'GET', `/v1/audit/entries?${query}`);
  expect([query, status]).toEqual([query, 200]);
  return (json['items'] as { id: string }[]).map(({ id }) => id);
};

describe('values of encryption contexts in entries', () => {
  it('stand in clear only where their names are declared, from then on', async () => {
    const before = await wrap({ tenant: 'a', object: 'o' });
    expect(await entryOf(before)).toMatchObject({
      version: 2,
      contextKeys: ['object', 'tenant'],
      contextValues: {},
    });
    const dry = await declare(['tenant'], {}, '?dryRun=true');
    expect(dry.json).toMatchObject({ names: ['tenant'], dryRun: true });
    expect((await entryOf(await wrap({ tenant: 'a' })))['contextValues']).toEqual({});
    const done = await declare(['tenant']);
    expect([done.status, done.json['names']]).toEqual([200, ['tenant']]);
    const after = await wrap({ tenant: 'a', object: 'o' });
    expect((await entryOf(after))['contextValues']).toEqual({ tenant: 'a' });
    // What was made before stays.
    expect((await entryOf(before))['contextValues']).toEqual({});
    const [draft] = service.drafts.filter(({ operation }) => operation === 'audit.configure');
    expect(draft).toBeDefined();
  });

  it('are declared by who has seen what is declared, each name once', async () => {
    expect((await declare([])).json['code']).toBe('precondition_required');
    expect((await declare([], { 'if-match': '"99"' })).json['code']).toBe('etag_mismatch');
    const match = { 'if-match': (await tag()) ?? '' };
    expect((await declare(['a', 'a'], match)).json['code']).toBe('invalid_value');
    const many = Array.from({ length: 65 }, (_, n) => `n${String(n)}`);
    expect((await declare(many, match)).json['code']).toBe('invalid_value');
    expect((await declare(['tenant', '__proto__'], match)).json['names']).toEqual([
      '__proto__',
      'tenant',
    ]);
    for (const role of ['operator', 'user', 'auditor']) {
      const answer = await service.call(role, 'PUT', LOGGABLE, { json: { names: [] } });
      expect([role, answer.json['code']]).toEqual([role, 'forbidden']);
    }
  });

  it('are those of other namespaces nowhere', async () => {
    await service.call('admin', 'POST', '/v1/admin/namespaces', { json: { name: 'team' } });
    const headers = { 'twofold-namespace': 'team' };
    const json = { name: 'k', suite: 'A256GCM' };
    await service.call('admin', 'POST', '/v1/admin/keys', { json, headers });
    const wrapped = await service.call('admin', 'POST', '/v1/keys/k/wrap', {
      json: { plaintext, encryptionContext: { tenant: 'a' } },
      headers,
    });
    expect(wrapped.status).toBe(200);
    const { loggedContext } =
      service.drafts.findLast(({ namespace }) => namespace === 'team') ?? {};
    expect(loggedContext).toEqual({});
  });

  it('of a batch stand there where all items have them', async () => {
    const item = (object: string) => ({ plaintext, encryptionContext: { tenant: 'a', object } });
    await declare(['tenant', 'object'], { 'if-match': (await tag()) ?? '' });
    const answer = await service.call('admin', 'POST', '/v1/keys/k/wrap/batch', {
      json: { items: [item('1'), item('2')] },
    });
    expect((await entryOf(answer))['contextValues']).toEqual({ tenant: 'a' });
  });

  it('of an item of a batch stand there under the audit key alone', async () => {
    const item = { ref: 'r1', plaintext, encryptionContext: { patient: '4711' } };
    const answer = await service.call('admin', 'POST', '/v1/keys/k/wrap/batch', {
      json: { items: [item, { plaintext }] },
    });
    const { items } = (await entryOf(answer)) as { items: { hash: string }[] };
    // Whoever has the entry and tries values without the key finds nothing.
    const { encryptionContext } = item;
    const plain = [
      itemHash('r1', contextBytes({ encryptionContext })),
      itemHash('', contextBytes({})),
    ].map((hash) => Buffer.from(hash).toString('base64'));
    const hashes = items.map(({ hash }) => hash);
    expect(hashes.filter((hash) => plain.includes(hash))).toEqual([]);
    const looked = async (json: object) =>
      (await service.call('auditor', 'POST', '/v1/audit/hash', { json })).json['itemHash'];
    expect(await looked({ ref: 'r1', encryptionContext })).toBe(hashes[0]);
    expect(await looked({ encryptionContext: {} })).toBe(hashes[1]);
    expect(await looked({ ref: 'r2', encryptionContext })).not.toBe(hashes[0]);
  });

  it('are found by value where in clear, by HMAC where not', async () => {
    const wanted = await wrap({ tenant: 'wanted', case: '7' }, 'AAEC');
    const id = wanted.headers.get('twofold-audit-id');
    await wrap({ tenant: 'other', case: '7' });
    expect(await list('context.tenant=wanted')).toEqual([id]);
    expect(await list('context.tenant=wanted&operation=unwrap')).toEqual([]);
    expect(await list('context.case=7')).toEqual([]);
    const { json, headers } = await service.call('auditor', 'POST', '/v1/audit/hash', {
      json: { encryptionContext: { case: '7', tenant: 'wanted' }, aad: 'AAEC' },
    });
    const query = (name: string, value: unknown) =>
      list(`${name}=${encodeURIComponent(String(value))}&operation=wrap`);
    expect(await query('contextHmac', json['contextHmac'])).toEqual([id]);
    expect(await query('aadHmac', json['aadHmac'])).toEqual([id]);
    expect(await query('contextHmac', json['version1'])).toEqual([]);
    // What was asked for is in the log as it is looked for.
    const asked = headers.get('twofold-audit-id') ?? '';
    const entry = (await service.call('auditor', 'GET', `/v1/audit/entries/${asked}`)).json;
    expect(entry).toMatchObject({
      operation: 'audit.hash',
      contextHmac: json['contextHmac'],
      aadHmac: json['aadHmac'],
    });
  });

  it('are looked for in pages that end though nothing is found', async () => {
    const { json } = await service.call(
      'auditor',
      'GET',
      '/v1/audit/entries?context.tenant=nobody&pageSize=1',
    );
    expect(json).toMatchObject({ items: [], nextPageToken: null });
    let [token, found] = [null as string | null, 0];
    do {
      const more: string = token === null ? '' : `&pageToken=${encodeURIComponent(token)}`;
      const page = await service.call(
        'auditor',
        'GET',
        `/v1/audit/entries?context.tenant=a&pageSize=1${more}`,
      );
      found += (page.json['items'] as unknown[]).length;
      expect((page.json['items'] as unknown[]).length).toBeLessThanOrEqual(1);
      token = page.json['nextPageToken'] as string | null;
    } while (token !== null);
    expect(found).toBeGreaterThan(1);
  });

  it('are hashed for who may alone, and refused where they could not be in an entry', async () => {
    for (const role of ['operator', 'user']) {
      const answer = await service.call(role, 'POST', '/v1/audit/hash', { json: {} });
      expect([role, answer.json['code']]).toEqual([role, 'forbidden']);
    }
    const nothing = await service.call('auditor', 'POST', '/v1/audit/hash', { json: {} });
    expect(nothing.json['code']).toBe('invalid_value');
    const json = { encryptionContext: {} };
    const empty = await service.call('auditor', 'POST', '/v1/audit/hash', { json });
    const itemHash = expect.stringMatching(/^[\w+/]{22}==$/u) as unknown;
    expect(empty.json).toEqual({ contextHmac: null, aadHmac: null, version1: null, itemHash });
    for (const query of ['contextHmac=AAEC', 'context.=x', 'context=x', 'contextHmac=%20']) {
      const answer = await service.call('auditor', 'GET', `/v1/audit/entries?${query}`);
      expect([query, answer.status]).toEqual([query, 400]);
    }
  });
});

describe('reading the log', () => {
  it('makes one entry for a session of reading, whose id later answers have', async () => {
    const token = await service.token('auditor', 600, 'reader');
    const read = async (path: string, headers: Record<string, string> = {}) => {
      const all = { authorization: `Bearer ${token}`, ...headers };
      return service.call(null, 'GET', path, { headers: all });
    };
    const first = await read('/v1/audit/entries?pageSize=1');
    const id = first.headers.get('twofold-audit-id') ?? '';
    expect(id).toMatch(/^\d+-\d+$/u);
    const second = await read('/v1/audit/entries?pageSize=2');
    const one = await read(`/v1/audit/entries/${id}`);
    expect([second, one].map(({ headers }) => headers.get('twofold-audit-id'))).toEqual([id, id]);
    expect((await list('subject=reader')).length).toBe(1);
    // Failures, other namespaces and other sessions have their own.
    const missing = await read('/v1/audit/entries/99-99');
    const other = await read('/v1/audit/entries', { 'twofold-namespace': 'team' });
    const again = await service.token('auditor', 601, 'reader');
    const headers = { authorization: `Bearer ${again}` };
    const anew = await service.call(null, 'GET', '/v1/audit/entries', { headers });
    const ids = [missing, other, anew].map((each) => each.headers.get('twofold-audit-id'));
    expect(new Set([id, ...ids]).size).toBe(4);
  });

  it('ends with the permission, also in a session', async () => {
    const token = await service.token('auditor', 600, 'revoked');
    const headers = { authorization: `Bearer ${token}` };
    const read = () => service.call(null, 'GET', '/v1/audit/entries?pageSize=1', { headers });
    expect((await read()).status).toBe(200);
    const json = { tokenId: decodeJwt(token).jti, reason: 'lost' };
    expect((await service.call('admin', 'POST', '/v1/admin/denials', { json })).status).toBe(201);
    expect((await read()).json['code']).toBe('token_denied');
  });
});
