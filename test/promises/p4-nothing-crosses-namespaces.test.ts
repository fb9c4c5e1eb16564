/**
 * Promise P4, generated from the table of routes: whoever names another namespace's thing in their own
 * gets the very answer that they get for what is nowhere: status, code, headers and body. A route with a
 * parameter or a body that this test has no value for fails it.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { isAnonymous, takesApproval } from '../../src/contract/route.ts';
import { ROUTES } from '../../src/contract/routes.ts';
import { makeKey } from '../access/issuer-fixture.ts';
import { EventReader } from '../http/event-reader.ts';
import { openService } from '../http/service.ts';
import type { CallInit, Called, Service } from '../http/service.ts';
import { testChain } from '../http/test-chain.ts';

const examples = JSON.parse(
  readFileSync(join(import.meta.dirname, '..', 'http', 'examples.json'), 'utf8'),
) as Readonly<Record<string, { readonly request?: object }>>;

const NOWHERE = '00000000-0000-4000-8000-000000000000';
/** What `id` is of, by how the path begins. */
const IDS = [
  ['/v1/admin/root/rotations', 'operation'],
  ['/v1/admin/backups', 'operation'],
  ['/v1/admin/operations/', 'operation'],
  ['/v1/admin/keys/{key}/grants/', 'grant'],
  ['/v1/audit/', 'entry'],
] as const;

/** Names in the other namespace, and names of nothing, by parameter. */
type Values = Readonly<Record<string, string>>;
let theirs: Values;
let nobodys: Values;
let bodies: Readonly<Record<string, object>>;
let service: Service;

const as = (namespace: string, method: string, path: string, init: CallInit = {}) =>
  service.call('admin', method, path, {
    ...init,
    headers: { 'twofold-namespace': namespace, ...init.headers },
  });
const post = async (namespace: string, path: string, json: object, method = 'POST') => {
  const answer = await as(namespace, method, path, { json });
  expect([path, answer.json['code']]).toEqual([path, undefined]);
  return answer;
};

/** One of everything, whose names end in the name of the namespace. */
async function furnish(namespace: string, mark: string): Promise<Values> {
  const key = `key-${mark}`;
  const made = await post(namespace, '/v1/admin/keys', { name: key, suite: 'MLKEM768-P256' });
  const signer = { name: `sig-${mark}`, suite: 'ECDSA-P256-SHA256', publish: true };
  await post(namespace, '/v1/admin/keys', signer);
  await post(namespace, `/v1/admin/keys/${key}/rotate`, {});
  await post(namespace, `/v1/admin/keys/${key}/aliases/ali-${mark}`, {}, 'PUT');
  const cedar = 'permit (principal, action, resource);';
  await post(namespace, `/v1/admin/policies/nam-${mark}`, { cedar }, 'PUT');
  await post(namespace, '/v1/admin/policies/other', { cedar }, 'PUT');
  const { jwk } = await makeKey('ES256', 'k');
  const issuer = { issuer: `https://${mark}.example`, audience: 'a', algorithms: ['ES256'] };
  await post(
    namespace,
    `/v1/admin/issuers/nam-${mark}`,
    { ...issuer, jwks: { keys: [jwk] } },
    'PUT',
  );
  const rotation = { selector: { a: 'b' }, priority: 1, interval: 'P30D' };
  await post(namespace, `/v1/admin/rotation-policies/nam-${mark}`, rotation, 'PUT');
  const denial = await post(namespace, '/v1/admin/denials', { tokenId: mark, reason: 'r' });
  const grant = await post(namespace, `/v1/admin/keys/${key}/grants`, bodies['createGrant'] ?? {});
  const job = await post(namespace, `/v1/admin/keys/${key}/rewrap-jobs`, {});
  const rule = { guards: ['keys.unprotect'], needed: 1, mayLockOut: true };
  await post(namespace, `/v1/admin/approval-rules/rul-${mark}`, rule, 'PUT');
  const asked = await as(namespace, 'PATCH', `/v1/admin/keys/${key}`, {
    json: { deletionProtection: false },
  });
  expect(asked.status).toBe(202);
  const json = { name: `idem-${mark}`, suite: 'HS256' };
  const headers = { 'idempotency-key': 'one-key' };
  expect((await as(namespace, 'POST', '/v1/admin/keys', { json, headers })).status).toBe(201);
  return {
    key,
    keyId: String(made.json['id']),
    version: '1',
    alias: `ali-${mark}`,
    name: `nam-${mark}`,
    denial: String(denial.json['id']),
    approval: String(asked.json['id']),
    rule: `rul-${mark}`,
    revision: '1',
    from: '1',
    to: '2',
    namespace,
    suite: 'A256GCM',
    operation: String(job.json['id']),
    grant: String(grant.json['id']),
    entry: made.headers.get('twofold-audit-id') ?? '',
    level: '0',
    tile: '000',
  };
}

/** Before the other namespace had anything, and afterwards. */
let before: ReadonlyMap<string, unknown>;
let after: ReadonlyMap<string, unknown>;
/** Lists whose answers the asking itself makes longer; each row of them names its namespace. */
const GROWING = new Set(['listAuditEntries']);
const LISTS = ROUTES.filter(
  (route) => !isAnonymous(route) && route.method === 'GET' && !route.path.includes('{'),
);
const QUERY: Readonly<Record<string, string>> = {
  listNamespaceRotations: '?state=done',
  getConsistencyProof: '?from=0&to=0',
  importParameters: '?suite=A256GCM',
};
/** Of the installation, a stream, or made anew each time and kept nowhere. */
const ELSEWHERE = new Set([
  'listNamespaces',
  'listSuites',
  'getPolicySchema',
  'streamEvents',
  'streamAuditEntries',
  'importParameters',
]);

const ofRootAlone = (operation: string | null) =>
  operation === 'audit.log' || operation === 'root.read' || operation === 'backups.read';

const TIME = /[0-9-]{10}T[0-9:.]{12}Z/gu;

async function listed(): Promise<ReadonlyMap<string, unknown>> {
  const answers = new Map<string, unknown>();
  for (const { id, path, operation } of LISTS) {
    if (ELSEWHERE.has(id) || GROWING.has(id) || ofRootAlone(operation)) continue;
    const { status, json } = await as('team-a', 'GET', path + (QUERY[id] ?? ''));
    // The plan begins when it is asked for. Places of events count the changes of the installation.
    const text = JSON.stringify(json);
    if (id === 'listEvents') delete json['next'];
    answers.set(id, [status, id === 'getRotationPlan' ? text.replaceAll(TIME, 'at') : json]);
  }
  return answers;
}

beforeAll(async () => {
  service = await openService();
  for (const name of ['team-a', 'team-b']) {
    await post('default', '/v1/admin/namespaces', { name });
  }
  const own = { name: 'own', suite: 'MLKEM768-P256' };
  const key = await post('team-a', '/v1/admin/keys', own);
  const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
  const grantee = { issuer: 'https://i.example', subject: 's' };
  bodies = { createGrant: { grantee, operations: ['wrap'], expiresAt: tomorrow } };
  before = await listed();
  theirs = await furnish('team-b', 'bbb');
  after = await listed();
  const wrapped = await post('team-b', '/v1/keys/key-bbb/wrap', { plaintext: 'AAAA' });
  const { ciphertext } = wrapped.json;
  const shown = await as('team-b', 'GET', '/v1/keys/sig-bbb/public-key?format=raw');
  const pem = testChain('ECDSA-P256-SHA256', String(shown.json['raw'])).join('');
  const signature = Buffer.alloc(64, 1).toString('base64');
  const items = (json: object) => ({ items: [json] });
  bodies = {
    exportKey: { version: 1, recipient: { suite: 'MLKEM768-P256', publicKey: 'AAAA' } },
    importKey: { name: 'in', suite: 'A256GCM', parameters: 'AAAA', envelope: 'AAAA' },
    ...bodies,
    unwrap: { ciphertext },
    unwrapBatch: items({ ciphertext }),
    rewrap: { ciphertext },
    rewrapBatch: items({ ciphertext }),
    verify: { message: 'AAAA', signature },
    verifyBatch: items({ message: 'AAAA', signature }),
    decapsulate: { encapsulation: Buffer.alloc(1_153, 1).toString('base64'), keyVersion: 1 },
    putCertificateChain: { pem },
    createRewrapJob: {},
  };
  nobodys = {
    ...theirs,
    key: 'key-xxx',
    keyId: NOWHERE,
    alias: 'ali-xxx',
    name: 'nam-xxx',
    denial: theirs['denial']?.replaceAll(/./gu, '0') ?? '',
    approval: NOWHERE,
    rule: 'rul-xxx',
    revision: '77',
    from: '77',
    to: '78',
    namespace: 'team-x',
    operation: NOWHERE,
    grant: NOWHERE,
    entry: '999-999',
  };
  expect(String(key.json['id'])).not.toBe(theirs['keyId']);
}, 60_000);
afterAll(() => service.stop());

const NAMING = ROUTES.filter((route) => !isAnonymous(route) && route.path.includes('{'));
/** By name, by id, and within a key of one's own. */
const STYLES = ['key', 'keyId', 'own'] as const;
const CASES = NAMING.flatMap((route) => {
  const withKey = route.path.includes('{key}');
  const more = route.path.replaceAll(/\{(?:key|version)\}/gu, '').includes('{');
  const styles = STYLES.filter((style) => (withKey ? style !== 'own' || more : style === 'key'));
  return styles.map((style) => [route.id, style, route] as const);
});

function pathOf(path: string, style: (typeof STYLES)[number], values: Values): string {
  const id = IDS.find(([begin]) => path.startsWith(begin))?.[1] ?? '';
  return path.replaceAll(/\{(\w+)\}/gu, (_, name: string) => {
    const value = values[name === 'id' ? id : name === 'key' ? style : name];
    if (name === 'key' && style === 'own') return 'own';
    if (value === undefined) throw new Error(`no value for ${name} of ${path}`);
    return value;
  });
}

/** All of an answer but for what names the request, and what was asked for. */
function seen({ status, headers, json, text }: Called, values: Values) {
  const plain = Object.entries(json).filter(([name]) => name !== 'requestId' && name !== 'auditId');
  let body = Object.keys(json).length === 0 ? text : JSON.stringify(Object.fromEntries(plain));
  for (const value of Object.values(values)) body = body.replaceAll(JSON.stringify(value), '"?"');
  const names = [...headers.keys()].sort();
  return { status, names, body };
}

/** The request with what it needs to be one; within one's own key it leaves no trace. */
function asked(
  namespace: string,
  route: (typeof ROUTES)[number],
  style: (typeof STYLES)[number],
  values: Values,
): Promise<Called> {
  const { id, method, path, body, query, headers } = route;
  const json = bodies[id] ?? examples[id]?.request;
  const lines = body !== null && route.json[0] === 'application/x-ndjson';
  const dry = style === 'own' && 'dryRun' in query.shape ? '?dryRun=true' : '';
  return as(
    namespace,
    method,
    pathOf(path, style, values) + (lines ? '?offset=0' : dry + (QUERY[id] ?? '')),
    {
      ...(body === null || json === undefined
        ? {}
        : { body: JSON.stringify(json) + (lines ? '\n' : '') }),
      headers: {
        ...('if-match' in headers.shape ? { 'if-match': '"1"' } : {}),
        ...(body === null ? {} : { 'content-type': route.json[0] ?? 'application/json' }),
      },
    },
  );
}

describe.each(CASES)('%s by %s', (id, style, route) => {
  it('answers of another namespace’s what it answers of nothing', async () => {
    const ask = (values: Values) => asked('team-a', route, style, values);
    const first = service.drafts.length;
    const nothing = seen(await ask(nobodys), nobodys);
    const another = seen(await ask(theirs), theirs);
    expect(another).toEqual(nothing);
    // It is the thing that is not there, not the question that is bad.
    expect([id, another.status]).not.toEqual([id, 400]);
    const entries = service.drafts.slice(first);
    expect(new Set(entries.map(({ namespace }) => namespace))).toEqual(new Set(['team-a']));
  });
});

describe('what another namespace has', () => {
  it('is in the log and under the root, which are shown in the root namespace alone', async () => {
    const whole = LISTS.filter(({ operation }) => ofRootAlone(operation));
    expect(whole.length).toBeGreaterThanOrEqual(6);
    for (const { id, path } of whole) {
      const { status, json } = await as('team-a', 'GET', path + (QUERY[id] ?? ''));
      expect([id, status, json['code']]).toEqual([id, 403, 'forbidden']);
    }
  });

  it('is in no list', async () => {
    expect(after).toEqual(before);
    const { json } = await as('team-a', 'GET', '/v1/audit/entries?pageSize=500');
    const items = json['items'] as readonly { readonly namespace: string }[];
    expect(new Set(items.map(({ namespace }) => namespace))).toEqual(new Set(['team-a']));
  });

  it('is no approval of a request here, and no alias’s former key', async () => {
    const json = { deletionProtection: false };
    for (const { id } of ROUTES.filter(
      (route) => takesApproval(route) && route.id === 'updateKey',
    )) {
      const under = async (approval = '') => {
        const headers = { 'twofold-approval': approval };
        const answer = await as('team-a', 'PATCH', '/v1/admin/keys/own', { json, headers });
        return seen(answer, {});
      };
      expect([id, await under(theirs['approval'])]).toEqual([id, await under(NOWHERE)]);
    }
    const moved = async (from = '') => {
      const path = '/v1/admin/keys/own/aliases/moved';
      return seen(await as('team-a', 'PUT', path, { json: { from } }), { from });
    };
    expect(await moved(theirs['keyId'])).toEqual(await moved(NOWHERE));
    expect(await moved('key-bbb')).toEqual(await moved('key-xxx'));
  });

  it('is no record of an idempotency key here', async () => {
    const json = { name: 'first', suite: 'HS256' };
    const headers = { 'idempotency-key': 'one-key' };
    const made = await as('team-a', 'POST', '/v1/admin/keys', { json, headers });
    expect([made.status, made.json['name']]).toEqual([201, 'first']);
  });

  it('is no page to go on from here', async () => {
    const { json } = await as('team-b', 'GET', '/v1/keys?pageSize=1');
    const token = String(json['nextPageToken']);
    const other = await as('team-a', 'GET', `/v1/keys?pageSize=1&pageToken=${token}`);
    const none = await as(
      'team-a',
      'GET',
      `/v1/keys?pageSize=1&pageToken=${'A'.repeat(token.length)}`,
    );
    expect(seen(other, {})).toEqual(seen(none, {}));
    expect(other.json['code']).toBe('invalid_value');
  });

  it('is not followed from its events, in pages or in a stream', async () => {
    const { json } = await as('team-b', 'GET', '/v1/admin/events?pageSize=1');
    const [{ id }] = json['items'] as readonly [{ readonly id: string }];
    const made = { name: 'followed', suite: 'HS256' };
    expect((await as('team-a', 'POST', '/v1/admin/keys', { json: made })).status).toBe(201);
    const page = await as('team-a', 'GET', `/v1/admin/events?after=${id}`);
    const items = page.json['items'] as readonly { readonly twofoldnamespace: string }[];
    const place = { 'twofold-namespace': 'team-a', 'last-event-id': id };
    const url = `${service.url}/v1/admin/events/stream`;
    const reader = await EventReader.open(url, await service.token('operator'), place);
    await reader.until(({ events }) => events.length === items.length);
    reader.close();
    const told = [...items, ...reader.events.map(({ json: event }) => event)];
    expect(new Set(told.map((event) => event['twofoldnamespace']))).toEqual(new Set(['team-a']));
  });

  it('is nothing that a job or a question can name', async () => {
    const place = (key = '') => ({ operation: 'wrap', key });
    const ask = async (key = '') => {
      const answer = await as('team-a', 'POST', '/v1/authorize', { json: place(key) });
      return seen(answer, { key });
    };
    expect(await ask(theirs['keyId'])).toEqual(await ask(NOWHERE));
    expect(await ask('key-bbb')).toEqual(await ask('key-xxx'));
  });

  it('is shown by no published route under this namespace', async () => {
    const get = async (key: string) =>
      seen(await service.call(null, 'GET', `/public/team-a/${key}/jwks.json`), { key });
    expect((await service.call(null, 'GET', '/public/team-b/sig-bbb/jwks.json')).status).toBe(200);
    expect(await get('sig-bbb')).toEqual(await get('sig-xxx'));
  });
});

describe('a suspended namespace', () => {
  it('answers every request alike, whatever is there', async () => {
    const held = '/v1/admin/namespaces/team-b';
    await post('default', `${held}/suspend`, { reason: 'a drill' });
    for (const route of ROUTES.filter((each) => !isAnonymous(each))) {
      for (const values of [theirs, nobodys]) {
        const { status, json } = await asked('team-b', route, 'key', values);
        expect([route.id, status, json['code']]).toEqual([route.id, 409, 'namespace_suspended']);
      }
    }
    await post('default', `${held}/resume`, { reason: 'it is over' });
    expect((await as('team-b', 'GET', '/v1/keys/key-bbb')).status).toBe(200);
  });
});
