/**
 * Generated from the table of routes: whatever a rule can guard waits for approval under each name and
 * each group that guards it, does nothing meanwhile, runs once under the approval, and spends it. A route that is
 * guarded and has no request here fails; so does one whose handler passes the gate by.
 */
import { createECDH, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { DECIDING_CONSENT, GUARD_GROUPS, GUARDS, guardsOf } from '../../src/contract/guards.ts';
import type { Guard, GuardName } from '../../src/contract/guards.ts';
import { takesApproval } from '../../src/contract/route.ts';
import { ROUTES } from '../../src/contract/routes.ts';
import { sealImport, wrapForHsm } from '../../src/crypto/import-envelope.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { makeKey } from '../access/issuer-fixture.ts';
import type { TestKey } from '../access/issuer-fixture.ts';
import { placeGeneration } from '../keyring/place-generation.ts';
import { openService } from '../http/service.ts';
import type { Called, Service } from '../http/service.ts';

const GUARDED = ROUTES.filter(takesApproval);
const GROUPS = Object.keys(GUARD_GROUPS) as (keyof typeof GUARD_GROUPS)[];
/** Beside the operation's own name: parts of operations, and what they end. */
const PARTS: Readonly<Record<string, readonly Guard[]>> = {
  updateKey: ['keys.unprotect'],
  suspendNamespace: ['namespaces.end'],
  deleteNamespace: ['namespaces.end'],
};
const CASES = GUARDED.flatMap(({ id, operation }) => {
  const own = [operation as Guard, ...(PARTS[id] ?? [])];
  const groups = GROUPS.filter((group) => own.some((each) => guardsOf([group]).has(each)));
  return [...own, ...groups].map((guard) => [id, guard] as const);
});

interface Request {
  readonly json?: object;
  /** What stands for parameters of the path; `k`, `1` and `x` unless told. */
  readonly params?: Readonly<Record<string, string>>;
  /** Where the ETag that it demands is read. */
  readonly tag?: string;
}

const reason = { reason: 'a drill' };
const cedar = 'permit (principal, action, resource);';
const KEY = '/v1/keys/k';
const recipient = { suite: 'MLKEM768-P256', publicKey: '' };
let service: Service;
let key: TestKey;
let count = 0;

const issuer = () => ({
  issuer: 'https://issuer.example',
  audience: 'kms',
  algorithms: ['ES256'],
  jwks: { keys: [key.jwk] },
});

/** By route, what succeeds in a namespace that `furnish` has filled. */
const REQUESTS: Readonly<Record<string, (other: string) => Request | Promise<Request>>> = {
  exportKey: () => ({ json: { version: 1, recipient }, params: { key: 'leaving' } }),
  importKey: async (other) => ({ json: await sealedKey(other) }),
  updateKey: () => ({ json: { deletionProtection: false } }),
  setPrimary: () => ({ json: { version: 1, ...reason }, tag: KEY }),
  putAlias: () => ({ json: {}, params: { alias: 'new' } }),
  deleteAlias: () => ({ params: { alias: 'a' } }),
  putRotationPolicy: () => ({ json: { interval: 'P30D' }, tag: KEY }),
  deleteRotationPolicy: () => ({ tag: KEY }),
  pauseRotationPolicy: () => ({ json: reason }),
  resumeRotationPolicy: () => ({ json: reason }),
  putNamespacePolicy: () => ({
    json: { selector: { a: 'b' }, priority: 1, interval: 'P30D' },
    params: { name: 'new' },
  }),
  deleteNamespacePolicy: () => ({ tag: '/v1/admin/rotation-policies/x' }),
  pauseNamespacePolicy: () => ({ json: reason }),
  resumeNamespacePolicy: () => ({ json: reason }),
  pauseRotations: () => ({ json: reason }),
  resumeRotations: () => ({ json: reason }),
  putKeyDestruction: () => ({ json: reason, params: { key: 'open' }, tag: '/v1/keys/open' }),
  putVersionDestruction: () => ({ json: reason, params: { key: 'open' }, tag: '/v1/keys/open' }),
  compromiseVersion: () => ({ json: reason, params: { key: 'open' } }),
  createNamespace: (other) => ({ json: { name: `${other}-new` } }),
  deleteNamespace: (other) => ({ params: { namespace: other } }),
  suspendNamespace: (other) => ({ json: reason, params: { namespace: other } }),
  resumeNamespace: (other) => ({ json: reason, params: { namespace: `${other}-held` } }),
  createDenial: () => ({ json: { tokenId: 'known', reason: 'shorter', expiresAt: tomorrow() } }),
  deleteDenial: () => ({ params: { denial: denied } }),
  putIssuer: () => ({ json: { ...issuer(), issuer: 'https://b.example' }, params: { name: 'n' } }),
  deleteIssuer: () => ({}),
  createGrant: () => ({
    json: {
      grantee: { issuer: 'https://issuer.example', subject: 'guest' },
      operations: ['wrap'],
      expiresAt: tomorrow(),
    },
  }),
  putLimits: () => ({ json: {}, tag: '/v1/admin/limits' }),
  putApprovalRule: () => ({ json: { guards: ['root.rotate'], needed: 1 }, params: { rule: 'n' } }),
  deleteApprovalRule: () => ({ tag: '/v1/admin/approval-rules/x' }),
  putLoggableContext: () => ({
    json: { names: ['tenant'] },
    tag: '/v1/admin/audit/loggable-context',
  }),
  putPolicy: () => ({ json: { cedar }, params: { name: 'new' } }),
  deletePolicy: () => ({ tag: '/v1/admin/policies/x' }),
  rotateLogKeys: () => ({ json: reason }),
  rotateRoot: () => {
    cancelRotations();
    return { json: reason };
  },
  rollBackPolicies: () => ({ params: { revision: '1' }, tag: '/v1/admin/policies' }),
};

/** A secret key, sealed to parameters of the namespace. */
async function sealedKey(namespace: string): Promise<object> {
  const suite = findSuite('A256GCM');
  const path = `/v1/admin/imports/parameters?suite=${suite.id}`;
  const { json } = await as('founder', namespace, 'GET', path);
  const given = json as { id: string; parameters: string; importingKey: string };
  const { publicKey } = json['envelope'] as { publicKey: string };
  const binding = { id: given.id, namespace, suite, publicKey: null };
  const importing = Buffer.from(given.importingKey, 'base64');
  const secret = SecretBytes.own(Uint8Array.from(randomBytes(32)));
  const content = SecretBytes.own(wrapForHsm(binding, importing, secret));
  const target = Buffer.from(publicKey, 'base64');
  const envelope = Buffer.from(await sealImport(nativeEngine, target, binding, content));
  const { parameters } = given;
  return { name: 'brought', suite: suite.id, parameters, envelope: envelope.toString('base64') };
}

/** One runs at a time, and here nobody carries it out. */
function cancelRotations(): void {
  const { rows } = service.world.store.operations;
  for (const [id, row] of rows) {
    if (row.identity.value.kind !== 'root-rotation') continue;
    rows.set(id, { ...row, progress: { ...row.progress, state: 'cancelled' } });
  }
}

let denied = '';
let decided: string | undefined;
const tomorrow = () => new Date(Date.now() + 86_400_000).toISOString();

async function as(
  subject: string,
  namespace: string,
  method: string,
  path: string,
  { json, headers = {} }: { json?: object | undefined; headers?: Record<string, string> } = {},
): Promise<Called> {
  const token = await service.token('admin', 3600, subject);
  const all = { authorization: `Bearer ${token}`, 'twofold-namespace': namespace, ...headers };
  return service.call(null, method, path, {
    headers: all,
    ...(json === undefined ? {} : { json }),
  });
}

beforeAll(async () => {
  key = await makeKey('ES256', 'k');
  const pq = await nativeEngine.mlKem.generate('ML-KEM-768');
  const ecdh = createECDH('prime256v1');
  const publicKey = Buffer.concat([pq.publicKey, ecdh.generateKeys()]);
  recipient.publicKey = publicKey.toString('base64');
  service = await openService();
  await placeGeneration(service.world, 2);
}, 60_000);
afterAll(() => service.stop());

/** A namespace with one of everything, each of the name `x` or as the requests above say. */
async function furnish(): Promise<string> {
  count += 1;
  const other = `n${String(count)}`;
  const root = (method: string, path: string, json: object) =>
    as('founder', 'default', method, path, { json });
  const here = async (method: string, path: string, json: object, match?: string) => {
    const headers = match === undefined ? {} : { 'if-match': match };
    const answer = await as('founder', other, method, path, { json, headers });
    expect([path, answer.status < 300]).toEqual([path, true]);
    return answer;
  };
  await root('POST', '/v1/admin/namespaces', { name: other });
  await root('POST', '/v1/admin/namespaces', { name: `${other}-held` });
  await root('POST', `/v1/admin/namespaces/${other}-held/suspend`, reason);
  await here('POST', '/v1/admin/keys', { name: 'k', suite: 'A256GCM', deletionProtection: true });
  await here('POST', '/v1/admin/keys', { name: 'open', suite: 'A256GCM' });
  await here('POST', '/v1/admin/keys', { name: 'leaving', suite: 'ML-DSA-44', exportable: true });
  await here('PUT', '/v1/admin/limits', { quotas: { keys: 100 } });
  await here('POST', '/v1/admin/keys/k/rotate', {});
  await here('POST', '/v1/admin/keys/open/rotate', {});
  await here('POST', '/v1/admin/keys/open/versions/1/deactivate', reason);
  const { headers } = await as('founder', other, 'GET', KEY);
  const match = headers.get('etag') ?? '';
  await here('PUT', '/v1/admin/keys/k/rotation-policy', { interval: 'P90D' }, match);
  await here('PUT', '/v1/admin/keys/k/aliases/a', {});
  await here('PUT', '/v1/admin/rotation-policies/x', {
    selector: { c: 'd' },
    priority: 1,
    interval: 'P90D',
  });
  await here('PUT', '/v1/admin/policies/x', { cedar });
  await here('PUT', '/v1/admin/policies/y', { cedar });
  await here('PUT', '/v1/admin/issuers/x', issuer());
  await here('PUT', '/v1/admin/approval-rules/x', {
    guards: ['keys.export'],
    needed: 1,
    mayLockOut: true,
  });
  const denial = await here('POST', '/v1/admin/denials', { tokenId: 'known', reason: 'r' });
  denied = String(denial.json['id']);
  return other;
}

/** What namespaces are changed under is the root. */
const placeOf = (path: string, other: string) =>
  /^\/v1\/admin\/(?:namespaces|audit|root)/u.test(path) ? 'default' : other;

/** The request of a route in a furnished namespace. */
async function prepared(id: string, other: string) {
  const route = GUARDED.find((each) => each.id === id);
  const request = await REQUESTS[id]?.(other);
  if (route === undefined || request === undefined) throw new Error(`no request for ${id}`);
  const { json, tag, params = {} } = request;
  const place = placeOf(route.path, other);
  const path = route.path.replaceAll(
    /\{(\w+)\}/gu,
    (_, name: string) => params[name] ?? usual[name] ?? 'x',
  );
  const tagged = tag === undefined ? undefined : await as('founder', place, 'GET', tag);
  const match = tagged?.headers.get('etag');
  // What was never written has no tag yet, and is written without one.
  const isNew = match === null && tagged?.json['revision'] === 0;
  const ifMatch = tag === undefined || isNew ? {} : { 'if-match': match ?? revisionOf(tagged) };
  const send = (subject: string, more: Record<string, string> = {}) =>
    as(subject, place, route.method, path, { json, headers: { ...ifMatch, ...more } });

  return { place, send };
}

/** By the founder; another agrees where a rule asks for that. */
async function makeRule(place: string, name: string, guard: GuardName): Promise<Called> {
  const path = `/v1/admin/approval-rules/${name}`;
  const json = { guards: [guard], needed: 1, mayLockOut: true };
  const made = await as('founder', place, 'PUT', path, { json });
  if (made.status !== 202) return made;
  const approval = String(made.json['id']);
  await as('bob', place, 'POST', `/v1/admin/approvals/${approval}/approve`);
  return as('founder', place, 'PUT', path, { json, headers: { 'twofold-approval': approval } });
}

describe('what a rule can guard', () => {
  it('are operations that routes have', () => {
    const guarded = new Set(CASES.map(([, guard]) => guard));
    expect(GUARDS.filter((guard) => !guarded.has(guard))).toEqual([]);
  });

  it('is no new denial', async () => {
    const other = await furnish();
    await makeRule(other, 'rule', 'govern');
    const denial = { json: { tokenId: 'new', reason: 'leaked' } };
    expect((await as('alice', other, 'POST', '/v1/admin/denials', denial)).status).toBe(201);
    expect((await as('alice', other, 'POST', '/v1/admin/denials', denial)).status).toBe(202);
  });
});

describe('what decides whose consent counts', () => {
  it.each(
    GUARDED.filter(({ operation }) => DECIDING_CONSENT.has(operation as Guard)).map(({ id }) => id),
  )('waits under a rule of anything else: %s', async (id) => {
    decided ??= await furnish();
    const { send } = await prepared(id, decided);
    const asked = await send('alice');
    expect([asked.status, asked.json['code']]).toEqual([202, undefined]);
    expect(asked.json['needed']).toEqual([{ rule: 'x', needed: 1, approved: 0 }]);
  });
});

describe.each(CASES)('%s under %s', (id, guard) => {
  /** A namespace that is to be removed has no keys; what there is in it goes. */
  async function bare(): Promise<string> {
    count += 1;
    const name = `n${String(count)}`;
    await as('founder', 'default', 'POST', '/v1/admin/namespaces', { json: { name } });
    return name;
  }

  it('waits, runs once it was approved, and spends the approval', async () => {
    const other = id === 'deleteNamespace' ? await bare() : await furnish();
    const { place, send } = await prepared(id, other);
    const rule = `r${String(count)}`;
    const rulePath = `/v1/admin/approval-rules/${rule}`;
    const made = await makeRule(place, rule, guard);
    expect([made.status, made.json['code']]).toEqual([200, undefined]);
    try {
      const asked = await send('alice');
      expect([asked.status, asked.json['state'], asked.json['code']]).toEqual([
        202,
        'pending',
        undefined,
      ]);
      const approval = String(asked.json['id']);
      const under = { 'twofold-approval': approval };
      const early = await send('alice', under);
      expect([early.status, early.json['code']]).toEqual([409, 'approval_pending']);
      const at = `/v1/admin/approvals/${approval}`;
      const given = await as('bob', place, 'POST', `${at}/approve`);
      expect(given.json['state']).toBe('approved');
      const done = await send('alice', under);
      expect([done.status < 300, done.status === 202, done.json['code']]).toEqual([
        true,
        false,
        undefined,
      ]);
      const after = await as('founder', place, 'GET', at);
      expect(after.json['state']).toBe('executed');
    } finally {
      if (place === 'default') await unrule(rulePath, place);
    }
  });
});

const usual: Readonly<Record<string, string>> = { key: 'k', version: '1', name: 'x' };

const revisionOf = (answer: Called | undefined) => `"${JSON.stringify(answer?.json['revision'])}"`;

/** Rules of the root would guard what the next cases need: each goes, under its own approval. */
async function unrule(path: string, place: string): Promise<void> {
  const rule = await as('founder', place, 'GET', path);
  const headers = { 'if-match': rule.headers.get('etag') ?? '' };
  const asked = await as('founder', place, 'DELETE', path, { headers });
  const approval = String(asked.json['id']);
  await as('bob', place, 'POST', `/v1/admin/approvals/${approval}/approve`);
  const under = { ...headers, 'twofold-approval': approval };
  const gone = await as('founder', place, 'DELETE', path, { headers: under });
  expect(gone.status).toBe(200);
}
