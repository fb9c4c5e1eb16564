/** The log as a whole over HTTP: in the forms of C2SP, strictly, and only in the root namespace. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { LogReader } from '../../src/audit/log-ports.ts';
import { parseSignedCheckpoint } from '../../src/audit/tree/checkpoint.ts';
import { leafHash } from '../../src/audit/tree/hashes.ts';
import { parseNote } from '../../src/audit/tree/note.ts';
import { verifyConsistency, verifyInclusion } from '../../src/audit/tree/proofs.ts';
import { verifyNote } from '../../src/audit/tree/signatures.ts';
import { parseTlogProof } from '../../src/audit/tree/tlog-proof.ts';
import { AuditLogClient } from '../../src/client/audit-log.ts';
import { ExportTarget } from '../../src/client/export-folder.ts';
import { HttpConnection } from '../../src/client/http-connection.ts';
import { exportLog } from '../../src/client/log-export.ts';
import type { logEntry } from '../../src/contract/log.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { TwofoldError } from '../../src/errors.ts';
import { EntryFeed } from '../../src/http/log-feed.ts';
import { EMPTY_LOG, LOG_VKEY } from './log-in-memory.ts';
import type { MemoryLog } from './log-in-memory.ts';
import type { z } from 'zod';
import { EventReader } from './event-reader.ts';
import { openService } from './service.ts';
import type { Called, Service } from './service.ts';

type LogEntry = z.output<typeof logEntry>;

let service: Service;
beforeEach(async () => {
  service = await openService();
});
afterEach(() => service.stop());

const get = (path: string, role = 'auditor', headers = {}) =>
  service.call(role, 'GET', `/v1/audit${path}`, { headers });
const codeOf = ({ status, json }: Called) => [status, json['code']];
const log = () => service.world.log as MemoryLog;
const create = (name: string, headers = {}) =>
  service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite: 'HS256' }, headers });
/** Enough for full tiles. */
async function fill(entries: number): Promise<void> {
  const token = await service.token('user');
  const headers = { authorization: `Bearer ${token}` };
  const one = () => fetch(`${service.url}/v1/whoami`, { headers }).then((answer) => answer.text());
  while ((await log().head()).size < entries) {
    await Promise.all(Array.from({ length: 32 }, one));
  }
}

describe('checkpoints', () => {
  it('are signed notes, whatever the client says that it accepts of text', async () => {
    await create('a');
    const { text } = await get('/checkpoint', 'auditor', { accept: '*/*' });
    expect(verifyNote(parseNote(text), [LOG_VKEY]).verified).toHaveLength(1);
    expect(codeOf(await get('/checkpoint', 'auditor', { accept: 'application/json' }))).toEqual([
      406,
      'not_acceptable',
    ]);
  });

  it('are listed by size, each once, over pages', async () => {
    for (const name of ['a', 'b', 'c']) {
      await create(name);
      await get('/checkpoint');
    }
    const all = (await get('/checkpoints')).json['items'] as { size: number; note: string }[];
    expect(all.length).toBeGreaterThanOrEqual(3);
    const sizes = all.map(({ size }) => size);
    expect(sizes).toEqual(sizes.toSorted((a, b) => a - b));
    expect(all.map(({ note }) => parseSignedCheckpoint(note).size)).toEqual(sizes);
    const first = (await get('/checkpoints?pageSize=1')).json;
    expect(first).toMatchObject({ items: [{ size: sizes[0] }], next: sizes[1] });
    const rest = (await get(`/checkpoints?size=${String(sizes[1])}&pageSize=1`)).json;
    expect(rest['items']).toMatchObject([{ size: sizes[1] }]);
  });

  it('are not found while there is none', async () => {
    log().taking = false;
    expect(codeOf(await get('/checkpoint'))).toEqual([404, 'not_found']);
  });
});

describe('tiles', () => {
  beforeEach(() => fill(257));

  it('have the hashes and entries of the log', async () => {
    const hashes = await get('/tile/0/000');
    expect(hashes.headers.get('content-type')).toBe('application/octet-stream');
    const { sequenced } = log();
    expect(hashes.bytes).toEqual(Buffer.concat(sequenced.slice(0, 256).map(({ leaf }) => leaf)));
    const bundle = (await get('/tile/entries/000')).bytes;
    const bodies: Buffer[] = [];
    for (let at = 0; at < bundle.length;) {
      const length = bundle.readUInt16BE(at);
      bodies.push(bundle.subarray(at + 2, at + 2 + length));
      at += 2 + length;
    }
    expect(Buffer.concat(bodies.map(leafHash))).toEqual(hashes.bytes);
    expect((await get('/tile/0/001.p/1')).bytes).toEqual(Buffer.from(sequenced[256]?.leaf ?? []));
    expect((await get('/tile/1/000.p/1')).bytes).toHaveLength(32);
  });

  it.each([
    '0/0',
    '0/00',
    '0/0000',
    '0/x000/000',
    '0/X001/000',
    '0/000/',
    '0//000',
    '0/000.p/0',
    '0/000.p/256',
    '0/000.p/01',
    '0/000.p/',
    '0/000.p',
    '0/000.P/1',
    '0/000/.p/1',
    '00/000',
    '7/000',
    '-1/000',
    'Entries/000',
    '0/x001%2F000',
    '0/..%2F000',
    '0/%30%30%30%30',
    '0/x999/x999/x999/x999/x999/999',
  ])('of the name %s do not exist', async (name) => {
    const { status } = await get(`/tile/${name}`);
    expect([400, 404]).toContain(status);
  });

  it('that are not there yet are not found', async () => {
    for (const name of ['0/002.p/1', '0/001', '1/001.p/1', 'entries/x001/000', 'entries/001']) {
      expect([name, ...codeOf(await get(`/tile/${name}`))]).toEqual([name, 404, 'not_found']);
    }
  });

  it('have an empty entry for one that is gone or too long, and what stands there for one that was altered', async () => {
    const { sequenced } = log();
    const whole = (await get('/tile/entries/000.p/5')).bytes;
    const [gone] = sequenced.splice(3, 1);
    const without = (await get('/tile/entries/000.p/5')).bytes;
    if (gone === undefined) throw new Error('there was one');
    expect(without).toHaveLength(whole.length - gone.body.length);
    expect(codeOf(await get('/log?from=3'))).toEqual([500, 'integrity_failed']);
    sequenced.splice(3, 0, { ...gone, body: Buffer.alloc(0x10000) });
    expect((await get('/tile/entries/000.p/5')).bytes).toEqual(without);
    sequenced.splice(3, 1, { ...gone, body: Buffer.from('other') });
    expect((await get('/tile/entries/000.p/5')).bytes.includes('other')).toBe(true);
    expect(codeOf(await get('/log?from=3'))).toEqual([500, 'integrity_failed']);
    // Bytes that are right, and index columns by which no list would find them.
    sequenced.splice(3, 1, { ...gone, columns: { ...gone.columns, subject: 'nobody' } });
    const hidden = (await get('/tile/entries/000.p/5')).bytes;
    expect(hidden).toHaveLength(whole.length + 1);
    expect(hidden.includes(Buffer.concat([Buffer.of(0xff), gone.body]))).toBe(true);
    expect((await get('/log?from=3')).status).toBe(200);
  });

  it('of hashes that are taken from rows have zeros for a row that is gone', async () => {
    const tile = (await get('/tile/0/000.p/5')).bytes;
    const { sequenced } = log();
    log().tile = async () => null;
    sequenced.splice(3, 1);
    const expected = Buffer.from(tile);
    expected.fill(0, 96, 128);
    expect((await get('/tile/0/000.p/5')).bytes).toEqual(expected);
    expect(codeOf(await get('/tile/0/002.p/1'))).toEqual([404, 'not_found']);
  });
});

describe('entries by index', () => {
  it('come in order, with a place to go on', async () => {
    await fill(20);
    const first = (await get('/log?pageSize=7')).json;
    const items = first['items'] as { index: number; id: string; body: string }[];
    expect(items.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(first['next']).toBe(7);
    expect(items.map(({ body }) => body)).toEqual(
      log()
        .sequenced.slice(0, 7)
        .map(({ body }) => Buffer.from(body).toString('base64')),
    );
    const beyond = (await get('/log?from=100000')).json;
    expect(beyond).toEqual({ items: [], next: null });
  });

  it.each(['-1', '01', '1e3', '1.0', '+1', '', '9'.repeat(16)])(
    'refuse the index "%s"',
    async (i) => {
      expect(codeOf(await get(`/log?from=${i}`))).toEqual([400, 'invalid_value']);
    },
  );
});

describe('proofs', () => {
  it('show that an entry is in the tree of the checkpoint', async () => {
    const { headers } = await create('a');
    await fill(300);
    const id = headers.get('twofold-audit-id') ?? '';
    const { text } = await get(`/entries/${id}/proof`);
    const proof = parseTlogProof(text);
    const { size, root } = parseSignedCheckpoint(proof.checkpoint);
    const { leafHash: leaf } = (await get(`/entries/${id}`)).json;
    const claim = { index: proof.index, leaf: Buffer.from(String(leaf), 'base64'), size, root };
    expect(verifyInclusion(claim, proof.hashes)).toBe(true);
    expect(verifyInclusion({ ...claim, index: proof.index + 1 }, proof.hashes)).toBe(false);
  });

  it('are for later while the entry is in no tree', async () => {
    log().taking = false;
    const { headers } = await create('a');
    const answer = await get(`/entries/${headers.get('twofold-audit-id') ?? ''}/proof`);
    expect(codeOf(answer)).toEqual([409, 'not_integrated_yet']);
    expect(answer.headers.get('retry-after')).toBe('2');
  });

  it('are given in the namespace of the entry alone', async () => {
    const { headers } = await create('a');
    const path = `/entries/${headers.get('twofold-audit-id') ?? ''}/proof`;
    await service.call('admin', 'POST', '/v1/admin/namespaces', { json: { name: 'team' } });
    const elsewhere = await get(path, 'auditor', { 'twofold-namespace': 'team' });
    const nowhere = await get('/entries/999-1/proof', 'auditor', { 'twofold-namespace': 'team' });
    expect(codeOf(elsewhere)).toEqual(codeOf(nowhere));
    expect(codeOf(await get(path, 'user'))).toEqual([403, 'forbidden']);
  });

  it('are not given for an entry whose leaf the tree has not', async () => {
    const { headers } = await create('a');
    const id = headers.get('twofold-audit-id') ?? '';
    const [lane, n] = id.split('-').map(Number);
    await log().head();
    const own = log().sequenced.find((entry) => entry.lane === lane && entry.n === n);
    const other = log().sequenced.find((entry) => entry !== own);
    if (own === undefined || other === undefined) throw new Error('no entries');
    const indexOf = (l: number, m: number) =>
      Promise.resolve(l === lane && m === n ? other.index : null);
    log().indexOf = indexOf;
    expect(codeOf(await get(`/entries/${id}/proof`))).toEqual([500, 'integrity_failed']);
  });

  it('show that the log has only grown', async () => {
    await fill(40);
    const items = (await get('/checkpoints')).json['items'] as { note: string }[];
    const [older, newer] = [items[0], items.at(-1)].map((item) =>
      parseSignedCheckpoint(item?.note ?? ''),
    );
    if (older === undefined || newer === undefined) throw new Error('no checkpoints');
    const { json } = await get(`/consistency?from=${older.size}&to=${newer.size}`);
    const proof = (json['proof'] as string[]).map((hash) => Buffer.from(hash, 'base64'));
    expect(verifyConsistency(older, newer, proof)).toBe(true);
    expect(codeOf(await get('/consistency?from=2&to=1'))).toEqual([400, 'invalid_value']);
    expect(codeOf(await get('/consistency?from=1&to=100000'))).toEqual([404, 'not_found']);
  });
});

describe('what a verifier compares the log with', () => {
  it('are keys of every namespace, with the states of their versions', async () => {
    await service.call('admin', 'POST', '/v1/admin/namespaces', { json: { name: 'team' } });
    await create('mine');
    const { json } = await create('theirs', { 'twofold-namespace': 'team' });
    const items = (await get('/key-states')).json['items'] as Record<string, unknown>[];
    expect(items.map((item) => [item['namespace'], item['name']]).toSorted()).toEqual([
      ['default', 'mine'],
      ['team', 'theirs'],
    ]);
    expect(items.find(({ keyId }) => keyId === json['id'])).toMatchObject({
      revision: 1,
      state: 'enabled',
      versions: [{ version: 1, revision: 1, state: 'active' }],
    });
    const first = (await get('/key-states?pageSize=1')).json;
    const token = String(first['nextPageToken']);
    const second = (await get(`/key-states?pageSize=1&pageToken=${token}`)).json;
    expect([first, second].flatMap((page) => page['items'] as object[])).toEqual(items);
    expect(second['nextPageToken']).toBeNull();
  });

  it('are lanes with their cursors', async () => {
    const { lanes } = service.world.store.audit;
    const items = (await get('/lanes')).json['items'] as Record<string, unknown>[];
    expect(items.map(({ lane }) => lane)).toEqual([...lanes.keys()]);
    expect(items[0]).toMatchObject({ kind: 'change', closed: false, instance: service.world.id });
  });

  it('names a key whose row was altered, and shows the others', async () => {
    const { json } = await create('mine');
    await create('other');
    const { keys } = service.world.store.rows;
    const stored = keys.get(String(json['id']));
    if (stored === undefined) throw new Error('no key');
    keys.set(String(json['id']), { ...stored, value: { ...stored.value, publish: true } });
    const items = (await get('/key-states')).json['items'] as Record<string, unknown>[];
    const altered = items.find(({ keyId }) => keyId === json['id']);
    expect(altered).toMatchObject({ state: 'altered', name: '', revision: 0, versions: [] });
    expect(items.find(({ name }) => name === 'other')).toMatchObject({ state: 'enabled' });
  });
});

describe('the stream of entries', () => {
  const readers: EventReader[] = [];
  afterEach(() => {
    for (const reader of readers.splice(0)) reader.close();
  });
  const follow = async (query: string, headers = {}) => {
    const url = `${service.url}/v1/audit/stream${query}`;
    const reader = await EventReader.open(url, await service.token('auditor'), headers);
    readers.push(reader);
    return reader;
  };
  const operations = (reader: EventReader) => reader.events.map(({ json }) => json['operation']);

  it('shows the namespace alone, in order, by index', async () => {
    await service.call('admin', 'POST', '/v1/admin/namespaces', { json: { name: 'team' } });
    await create('a');
    await create('theirs', { 'twofold-namespace': 'team' });
    const reader = await follow('?from=0&operation=keys.create');
    await reader.until(({ events }) => events.length === 1);
    await create('b');
    await reader.until(({ events }) => events.length === 2);
    expect(operations(reader)).toEqual(['keys.create', 'keys.create']);
    expect(reader.events.map(({ json }) => json['namespace'])).toEqual(['default', 'default']);
    const indexes = reader.events.map(({ json }) => Number(json['index']));
    expect(reader.events.map(({ id }) => Number(id))).toEqual(indexes);
    const again = await follow('?from=0&operation=keys.create', {
      'last-event-id': String(indexes[0]),
    });
    await again.until(({ events }) => events.length === 1);
    expect(again.events[0]?.json['index']).toBe(indexes[1]);
  });

  it('begins now where no place is named, and is one entry itself', async () => {
    await create('a');
    const reader = await follow('');
    await create('b');
    await reader.until(({ events }) => events.length === 2);
    expect(operations(reader)).toEqual(['audit.read', 'keys.create']);
    const id = String(reader.response.headers['twofold-audit-id']);
    expect(reader.events[0]?.json['id']).toBe(id);
  });

  it('ends with what there is, when told to, and finds a time', async () => {
    await create('a');
    await create('b');
    const all = await follow('?from=0&follow=false&operation=keys.create');
    await all.until(({ ended }) => ended);
    expect(operations(all)).toEqual(['keys.create', 'keys.create']);
    expect(all.received).toHaveLength(2);
    const [first] = all.events;
    const since = encodeURIComponent(String(first?.json['at']));
    const later = await follow(`?since=${since}&follow=false&operation=keys.create`);
    await later.until(({ ended }) => ended);
    expect(later.received.map(({ id }) => id)).toEqual(all.received.map(({ id }) => id));
    const none = await follow('?since=2999-01-01T00:00:00Z&follow=false');
    await none.until(({ ended }) => ended);
    expect(none.received).toEqual([]);
  });

  it('finds a time among what is not in cold storage, and says where the rest is', async () => {
    for (const name of ['a', 'b', 'c', 'd']) await create(name);
    const { size } = await log().head();
    const removed = size - 1;
    const cold: Pick<LogReader, 'head' | 'entries' | 'archived' | 'sizeAt'> = {
      head: () => log().head(),
      sizeAt: (time) => log().sizeAt(time),
      archived: () => Promise.resolve({ until: removed, removed, place: 'the shelf' }),
      entries: (from, until) => {
        if (from < removed) return Promise.reject(new TwofoldError('entry_archived'));
        return log().entries(from, until);
      },
    };
    const grant = service.world.grant('audit.read', null);
    const any = { operation: null, keyRef: null, keyId: null, subject: null, outcome: null };
    const feedSince = async (since: Date) => {
      const parts = { log: { ...EMPTY_LOG, ...cold }, epoch: new SecurityEpoch(1_000) };
      const feed = new EntryFeed(parts, grant, { from: null, since, follow: false }, any);
      await feed.check();
      return feed.next();
    };
    expect(await feedSince(new Date('2999-01-01'))).toMatchObject({ items: [], end: true });
    await expect(feedSince(new Date(0))).rejects.toMatchObject({ code: 'entry_archived' });
  });

  it('waits for an entry of an epoch that is not known here yet', async () => {
    await create('a');
    await create('b');
    const grant = service.world.grant('audit.read', null);
    const known = new SecurityEpoch(1);
    const place = { from: 0, since: null, follow: true };
    const filter = {
      operation: 'keys.create',
      keyRef: null,
      keyId: null,
      subject: null,
      outcome: null,
    };
    const feed = new EntryFeed({ log: log(), epoch: known }, grant, place, filter);
    const names = async () =>
      (await feed.next()).items.map(({ data }) => (JSON.parse(data) as LogEntry).key.reference);
    expect(await names()).toEqual(['a']);
    expect(await names()).toEqual([]);
    known.advance([{ epoch: 2, scope: 'key', namespace: '', keyId: null, keyName: null }]);
    expect(await names()).toEqual(['b']);
  });
});

describe('an export that grows on', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-export-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const exporting = async (onProgress?: () => void) => {
    const token = `Bearer ${await service.token('auditor')}`;
    const url = new URL(service.url);
    const connection = new HttpConnection({ url, authorization: () => token });
    const options = { from: null, until: null, settlingMs: 0, onProgress };
    try {
      return await exportLog(new AuditLogClient(connection), new ExportTarget(folder), options);
    } finally {
      connection.close();
    }
  };
  const killed = () => {
    throw new Error('killed');
  };
  const NAMES = ['checkpoint', 'checkpoints', 'export.json', 'lanes.ndjson', 'state.ndjson'];
  const files = (names: readonly string[] = NAMES) =>
    names.map((name) => readFileSync(join(folder, name), 'utf8'));
  const lastListed = () => files(['checkpoints'])[0]?.split('--\n').at(-1);

  it('stays what it was until all of the new one is there, and is the new one then', async () => {
    await create('a');
    const { until } = await exporting();
    const before = files();
    for (let tries = 0; tries < 2; tries += 1) {
      await create(`b${String(tries)}`);
      await expect(exporting(killed)).rejects.toThrow('killed');
      expect(files()).toEqual(before);
      expect(existsSync(join(folder, `tile/entries/000.p/${String(until)}`))).toBe(true);
    }
    const grown = await exporting();
    expect(grown.until).toBeGreaterThan(until);
    const [newest, , , , state] = files();
    expect([newest, lastListed()]).toEqual([grown.note, grown.note]);
    expect(state?.trim().split('\n')).toHaveLength(2);
    expect(readdirSync(folder).toSorted()).toEqual([...NAMES, 'tile']);
  });

  it('has its own checkpoint though the log has thinned it out meanwhile', async () => {
    await create('a');
    await expect(exporting(killed)).rejects.toThrow('killed');
    const { size } = await log().head();
    const all = log().checkpoints.bind(log());
    log().checkpoints = async (...page) => (await all(...page)).filter((each) => each.size > size);
    for (const name of ['b', 'c']) await create(name);
    const { note } = await exporting();
    expect([files(['checkpoint'])[0], lastListed()]).toEqual([note, note]);
  });
});

it('gives digests that others compute alike', async () => {
  await create('a');
  const [entry] = (await get('/log?pageSize=1')).json['items'] as {
    body: string;
    leafHash: string;
  }[];
  const body = Buffer.from(entry?.body ?? '', 'base64');
  const digest = createHash('sha256').update(Buffer.of(0)).update(body).digest('base64');
  expect(entry?.leafHash).toBe(digest);
});
