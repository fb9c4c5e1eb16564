/**
 * Lists among very many rows: what a page takes over HTTP and in the store alone, by filter, the worst
 * ones too; what the indexes of audit entries cost an append; and what searches do to appends.
 *
 * All keys and entries are rows of their tables with all indexes. Only those that a measured page shows
 * have MACs and bodies that the service accepts, made by its own token; the others are never verified.
 */
import { createHash, randomUUID } from 'node:crypto';

import type pg from 'pg';

import type { AuditQuery } from '../src/audit/ports.ts';
import { utf8 } from '../src/crypto/bytes.ts';
import { findSuite } from '../src/crypto/suites.ts';
import { pageScope } from '../src/http/keys.ts';
import { PageTokens } from '../src/http/page-token.ts';
import type { KeyQuery } from '../src/keyring/ports.ts';
import { NAME } from '../src/name.ts';
import type { Store } from '../src/store/store.ts';
import type { TestService } from '../test/e2e/service.ts';
import { keyOfEntry, loadEntries, loadKeys, nameOfKey } from '../test/store/many-rows.ts';
import { auditQuery, keyQuery } from '../test/store/samples.ts';
import { Client } from './client.ts';
import { connected } from './connected.ts';
import { ServiceProcesses } from './cpu.ts';
import { measureAppends } from './list-appends.ts';
import type { AppendCost } from './list-appends.ts';
import { attestPage, completeEntries } from './list-rows.ts';

const PAGE = 50;
/** Pages of a form that are read in turn. */
const PAGES = 10;
const SUITES = ['A256GCM', 'MLKEM768-P256', 'MLKEM1024-P384'] as const;
const NAMESPACE = 'default';

interface Timing {
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
}

export interface ListTiming {
  readonly list: string;
  readonly items: number;
  /** Whether the page was short of its size before the end: it had looked at its candidates. */
  readonly short: boolean;
  readonly http: Timing;
  readonly store: Timing;
  /** Milliseconds of processor time of service and database for one request, whatever else runs. */
  readonly cpu: number;
}

export interface ListsReport extends ListsSize {
  readonly lists: readonly ListTiming[];
  readonly appends: readonly AppendCost[];
}

type Query = Readonly<Record<string, string>>;

interface KeyForm {
  readonly name: string;
  readonly query: Query;
  /** Numbers of the keys after which pages begin; null: the first page. */
  readonly after?: readonly number[];
  readonly pageSize?: number;
}

interface EntryForm {
  readonly name: string;
  readonly query: Query;
  readonly after?: readonly number[];
  readonly pageSize?: number;
}

const spread = (count: number): readonly number[] =>
  Array.from({ length: PAGES }, (_, at) => Math.floor((count * (at + 0.5)) / PAGES));

const keyForms = (keys: number): readonly KeyForm[] => [
  { name: 'first page', query: {} },
  { name: 'deep pages', query: {}, after: spread(keys) },
  { name: 'last pages', query: {}, after: [keys - 300, keys - 60] },
  { name: 'first page of 1,000', query: {}, pageSize: 1000 },
  { name: 'namePrefix', query: { namePrefix: 'svc-0042.' } },
  { name: 'namePrefix of none', query: { namePrefix: 'zzz' } },
  { name: 'label of 90 %', query: { 'label.env': 'prod' }, after: spread(keys) },
  { name: 'label of 1 %', query: { 'label.env': 'dev' }, after: spread(keys) },
  { name: 'label of 0.1 %', query: { 'label.owner': 'team-7' } },
  { name: 'label of the last 100', query: { 'label.last': 'yes' } },
  { name: 'label of none', query: { 'label.no': 'such' } },
  { name: 'suite of 90 %', query: { suite: SUITES[0] }, after: spread(keys) },
  { name: 'suite of 10 %', query: { suite: SUITES[1] }, after: spread(keys) },
  { name: 'suite of the last 100', query: { suite: SUITES[2] } },
  { name: 'state enabled', query: { state: 'enabled' }, after: spread(keys) },
  { name: 'state suspended (0.01 %)', query: { state: 'suspended' } },
  { name: 'state destroyed (last 500)', query: { state: 'destroyed' } },
  {
    name: 'enabled, label of the last 100: none',
    query: { state: 'enabled', 'label.last': 'yes' },
  },
  {
    name: 'two labels of 50 %, none both',
    query: { 'label.half': 'a', 'label.kind': 'x' },
    after: spread(keys),
  },
  {
    name: 'label, suite and state, all common',
    query: { 'label.env': 'prod', suite: SUITES[0], state: 'enabled' },
    after: spread(keys),
  },
  {
    name: 'label of 0.1 %, suite, state, prefix',
    query: { 'label.owner': 'team-8', suite: SUITES[0], state: 'enabled', namePrefix: 'svc-' },
  },
];

const entryForms = (entries: number, rareKey: string): readonly EntryForm[] => [
  { name: 'first page', query: {} },
  { name: 'deep pages', query: {}, after: spread(entries) },
  { name: 'first page of 1,000', query: {}, pageSize: 1000 },
  { name: 'subject of 90 %', query: { subject: 'busy' }, after: spread(entries) },
  { name: 'subject of 0.01 %', query: { subject: 'user-7' } },
  { name: 'subject of the 10 oldest', query: { subject: 'gone' } },
  { name: 'subject of none', query: { subject: 'nobody' } },
  { name: 'keyId of 0.2 %', query: { keyId: keyOfEntry(7) }, after: spread(entries) },
  { name: 'keyId of the 10 oldest', query: { keyId: rareKey } },
  { name: 'keyId of none', query: { keyId: randomUUID() } },
  { name: 'key of 0.2 %', query: { key: 'key-7' } },
  { name: 'operation of 50 %', query: { operation: 'wrap' }, after: spread(entries) },
  { name: 'operation of the 100 oldest', query: { operation: 'keys.suspend' } },
  { name: 'outcome ok', query: { outcome: 'ok' }, after: spread(entries) },
  { name: 'outcome of 1 %', query: { outcome: 'forbidden' }, after: spread(entries) },
  { name: 'outcome of the 10 oldest', query: { outcome: 'integrity_failed' } },
  { name: 'until the 50 oldest, outcome ok', query: { outcome: 'ok' }, after: [60] },
  {
    name: 'operation of 50 % and outcome of 1 %, none both',
    query: { operation: 'wrap', outcome: 'forbidden' },
    after: spread(entries),
  },
  {
    name: 'subject of 90 % and keyId of 0.2 %',
    query: { subject: 'busy', keyId: keyOfEntry(7) },
    after: spread(entries),
  },
];

const quantile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;

/** Requests of a form before it is measured: each of its pages, and enough that V8 has compiled its path. */
const warmUpOf = (requests: number): number => Math.max(PAGES, Math.ceil(requests / 4));

async function timed(requests: number, once: (index: number) => Promise<unknown>): Promise<Timing> {
  const warmUp = warmUpOf(requests);
  for (let index = 0; index < warmUp; index += 1) await once(index);
  const times: number[] = [];
  for (let index = 0; index < requests; index += 1) {
    const began = performance.now();
    await once(index);
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
}

/** The store's query of a form. */
function keyQueryOf(query: Query, afterName: string | null, pageSize: number): KeyQuery {
  const labels = Object.entries(query).flatMap(([name, value]) =>
    name.startsWith('label.') ? [[name.slice('label.'.length), value]] : [],
  );
  const { suite, namePrefix = null, state = null } = query;
  return keyQuery({
    namespace: NAMESPACE,
    pageSize,
    afterName,
    namePrefix,
    labels: Object.fromEntries(labels) as Record<string, string>,
    suite: suite === undefined ? null : findSuite(suite).number,
    state: state as KeyQuery['state'],
  });
}

function auditQueryOf(query: Query, after: AuditQuery['after'], pageSize: number): AuditQuery {
  const { key = null, keyId = null, subject = null, operation = null, outcome = null } = query;
  return auditQuery({
    ...{ namespace: NAMESPACE, pageSize, after, keyRef: key, keyId, subject, operation, outcome },
  });
}

interface Bench {
  readonly requests: number;
  readonly processes: ServiceProcesses;
  readonly service: TestService;
  readonly owner: pg.Client;
  readonly store: Store;
  readonly mac: (data: Uint8Array) => Promise<Uint8Array>;
  readonly lane: number;
  readonly tokens: PageTokens;
}

/** What the route's schema makes of a query. */
const parsed = (query: Query): Record<string, unknown> => {
  const plain = Object.entries(query).filter(([name]) => !name.startsWith('label.'));
  const { labels } = keyQueryOf(query, null, PAGE);
  return {
    ...Object.fromEntries(plain),
    ...(Object.keys(labels).length === 0 ? {} : { labels }),
  };
};

interface Place {
  readonly list: 'listKeys' | 'listAuditEntries';
  readonly path: string;
  readonly role: 'user' | 'auditor';
}

const KEYS_AT = { list: 'listKeys', path: '/v1/keys', role: 'user' } as const;
const ENTRIES_AT = {
  list: 'listAuditEntries',
  path: '/v1/audit/entries',
  role: 'auditor',
} as const;

async function requestOf(
  { service, tokens }: Bench,
  { list, path, role }: Place,
  query: Query,
  after: string | null,
  pageSize: number,
): Promise<Buffer> {
  const bearer = await service.token(role);
  const claims = JSON.parse(
    Buffer.from(bearer.split('.')[1] ?? '', 'base64url').toString('utf8'),
  ) as { readonly iss: string; readonly sub: string };
  const principal = { issuer: claims.iss, subject: claims.sub };
  const grant = { namespace: NAMESPACE, principal } as Parameters<typeof pageScope>[1];
  const token = tokens.seal(pageScope(list, grant, parsed(query)), after);
  const search = new URLSearchParams({
    ...query,
    pageSize: String(pageSize),
    ...(token === null ? {} : { pageToken: token }),
  });
  return Buffer.from(
    [
      `GET ${path}?${search.toString()} HTTP/1.1`,
      'Host: 127.0.0.1',
      `Authorization: Bearer ${bearer}`,
      '',
      '',
    ].join('\r\n'),
    'latin1',
  );
}

/** One page, over HTTP and in the store. */
interface Page {
  readonly request: Buffer;
  readonly items: number;
  readonly short: boolean;
  readonly read: () => Promise<unknown>;
}

async function keyPage(bench: Bench, form: KeyForm, after: number | null): Promise<Page> {
  const pageSize = form.pageSize ?? PAGE;
  const afterName = after === null ? null : nameOfKey(after);
  const query = keyQueryOf(form.query, afterName, pageSize);
  const page = await bench.store.keys.list(query);
  await attestPage(bench.owner, bench.mac, page);
  return {
    request: await requestOf(bench, KEYS_AT, form.query, afterName, pageSize),
    items: page.keys.length,
    short: page.next !== null && page.keys.length < pageSize,
    read: () => bench.store.keys.list(query),
  };
}

async function entryPage(bench: Bench, form: EntryForm, after: number | null): Promise<Page> {
  const pageSize = form.pageSize ?? PAGE;
  const { lane } = bench;
  const cursor = after === null ? null : { lane, n: after };
  const query = auditQueryOf(form.query, cursor, pageSize);
  const page = await bench.store.audit.entries(query);
  await completeEntries(bench.owner, lane, page);
  const text = after === null ? null : `${String(lane)}-${String(after)}`;
  return {
    request: await requestOf(bench, ENTRIES_AT, form.query, text, pageSize),
    items: page.entries.length,
    short: page.next !== null && page.entries.length < pageSize,
    read: () => bench.store.audit.entries(query),
  };
}

async function measureForm(
  bench: Bench,
  list: string,
  pages: readonly Page[],
): Promise<ListTiming> {
  const [first] = pages;
  if (first === undefined) throw new Error('no pages');
  const pageAt = (index: number): Page => pages[index % pages.length] ?? first;
  const client = await Client.open({ url: new URL(bench.service.url) });
  try {
    const before = bench.processes.cpu();
    const http = await timed(bench.requests, async (index) => {
      const page = pageAt(index);
      const { status, body } = await client.send(page.request);
      if (status !== 200) throw new Error(`${list}: ${String(status)} ${body.toString('utf8')}`);
      const { items } = JSON.parse(body.toString('utf8')) as { readonly items: unknown[] };
      // The service's own entries come before those that were loaded.
      if (items.length !== page.items) throw new Error(`${list}: ${String(items.length)} items`);
    });
    const after = bench.processes.cpu();
    const used = after.server + after.database - before.server - before.database;
    const cpu = (used * 1000) / (bench.requests + warmUpOf(bench.requests));
    const store = await timed(bench.requests, (index) => pageAt(index).read());
    const timing = {
      list,
      items: first.items,
      short: pages.some(({ short }) => short),
      http,
      store,
      cpu,
    };
    process.stderr.write(`${JSON.stringify(timing)}\n`);
    return timing;
  } finally {
    client.close();
  }
}

async function measurePages(
  bench: Bench,
  { keys, entries, rareKey, only }: Omit<ListsSize, 'requests'> & { readonly rareKey: string },
): Promise<readonly ListTiming[]> {
  const timings: ListTiming[] = [];
  const isMeasured = (list: string): boolean => list.startsWith(only ?? '');
  for (const form of keyForms(keys)) {
    if (!isMeasured(`keys: ${form.name}`)) continue;
    const pages: Page[] = [];
    for (const after of form.after ?? [null]) pages.push(await keyPage(bench, form, after));
    timings.push(await measureForm(bench, `keys: ${form.name}`, pages));
  }
  await bench.owner.query('alter table public.entry disable trigger entry_append_only');
  for (const form of entryForms(entries, rareKey)) {
    if (!isMeasured(`entries: ${form.name}`)) continue;
    const pages: Page[] = [];
    for (const after of form.after ?? [null]) pages.push(await entryPage(bench, form, after));
    timings.push(await measureForm(bench, `entries: ${form.name}`, pages));
  }
  await bench.owner.query('alter table public.entry enable trigger entry_append_only');
  return timings;
}

async function templateOf(service: TestService, suite: string): Promise<string> {
  const name = `template-${createHash('sha256').update(suite).digest('hex').slice(0, 8)}`;
  const made = await service.request('POST', '/v1/admin/keys', { name, suite });
  if (made.status !== 201) throw new Error(made.bytes.toString('utf8'));
  return String(made.json['id']);
}

export interface ListsSize {
  readonly keys: number;
  readonly entries: number;
  /** Of each list, one after another. */
  readonly requests: number;
  /** How the lists that are measured begin, such as `keys: first page`; appends are left out then. */
  readonly only: string | null;
}

/** Against a service that runs; `keys` and `entries` are made first. */
export async function measureLists(
  service: TestService,
  { keys, entries, requests, only }: ListsSize,
): Promise<ListsReport> {
  const templates = [
    await templateOf(service, SUITES[0]),
    await templateOf(service, SUITES[1]),
    await templateOf(service, SUITES[2]),
  ] as const;
  return connected(service, async ({ owner, store, root }) => {
    const instance = randomUUID();
    await store.instances.open({
      id: instance,
      zone: 'local',
      suites: [],
      envelopes: [],
      graceMs: 0,
    });
    const lane = await store.audit.openLane(instance, 'use');
    const rareKey = randomUUID();
    process.stderr.write(`${String(keys)} keys, ${String(entries)} entries\n`);
    await loadKeys(owner, { namespace: NAMESPACE, keys, templates });
    const until = new Date(Date.now() + 3_600_000);
    await loadEntries(owner, { namespace: NAMESPACE, lane, entries, until, rareKey });
    const tokens = new PageTokens(await root.mac(utf8(NAME.pageToken)));
    const bench: Bench = {
      requests,
      processes: new ServiceProcesses(service.pid, service.dataDir),
      service,
      owner,
      store,
      mac: (data) => root.mac(data),
      lane,
      tokens,
    };
    const lists = await measurePages(bench, { keys, entries, rareKey, only });
    const worst = auditQueryOf({ operation: 'wrap', outcome: 'forbidden' }, null, PAGE);
    const appends =
      only === null ? await measureAppends({ owner, store, instance, search: worst }) : [];
    return { keys, entries, requests, only, lists, appends };
  });
}

const ms = (value: number): string => value.toFixed(1).padStart(8);

export function renderLists({ keys, entries, requests, lists, appends }: ListsReport): string {
  return [
    `${String(keys)} keys, ${String(entries)} audit entries; milliseconds, ${String(requests)} requests one after another`,
    `${'list'.padEnd(62)}items  http p50  http p99 store p50 store p99 processor`,
    ...lists.map(
      ({ list, items, short, http, store, cpu }) =>
        `${list.padEnd(62)}${String(items).padStart(5)}${short ? '*' : ' '} ${ms(http.p50)}  ${ms(http.p99)}  ${ms(store.p50)}  ${ms(store.p99)} ${ms(cpu)}`,
    ),
    '* short of its size before the end: the page looked at its candidates and says where to go on',
    '',
    `${'appends, batches of 16 in 4 lanes'.padEnd(62)}entries/s      p50      p99  bytes of WAL each`,
    ...appends.map(
      ({ what, perSecond, p50, p99, walBytes }) =>
        `${what.padEnd(62)}${perSecond.toFixed(0).padStart(9)} ${ms(p50)} ${ms(p99)} ${walBytes.toFixed(0).padStart(8)}`,
    ),
  ].join('\n');
}
