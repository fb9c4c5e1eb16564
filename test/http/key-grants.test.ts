/** Delegated grants: uses of one key, lent for a time, by who may use it; never more than was lent. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { LENDABLE } from '../../src/access/delegation.ts';
import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { BUILT_IN_POLICIES, SCHEMA } from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';
import { LENDABLE_OPERATIONS } from '../../src/contract/key-grants.ts';
import { openService } from './service.ts';
import type { Called, Service } from './service.ts';

/** A clock that tests set forward. */
let later = 0;
const clock = () => new Date(Date.now() + later);
const HOUR = 3_600_000;

/** Beside the built-in policies: a lender without a role, and a denial. */
const POLICIES = `${BUILT_IN_POLICIES}
@id("lender")
permit (
  principal == User::"[\\"ISSUER\\",\\"lender\\"]",
  action in [Action::"wrap", Action::"grants.create"],
  resource
);
@id("closed")
forbid (principal, action == Action::"unwrap", resource)
when { context has encryptionContextNames && context.encryptionContextNames.contains("closed") };
`;

let service: Service;
let issuer: string;
beforeAll(async () => {
  const probe = await openService();
  issuer = String((await probe.call('admin', 'GET', '/v1/whoami')).json['issuer']);
  await probe.stop();
  service = await openService({
    clock,
    replace: ({ epoch }) => ({
      authorizer: PolicyAuthorizer.of({
        epoch,
        policies: PolicySet.load(SCHEMA, POLICIES.replace('ISSUER', issuer)),
      }),
    }),
  });
  for (const name of ['k', 'other']) {
    const json = { name, suite: 'MLKEM768-P256' };
    expect((await service.call('admin', 'POST', '/v1/admin/keys', { json })).status).toBe(201);
  }
});
afterAll(() => service.stop());

const as = async (subject: string, method: string, path: string, json?: unknown, role = 'nobody') =>
  service.call(null, method, path, {
    headers: { authorization: `Bearer ${await service.token(role, 3600, subject)}` },
    ...(json === undefined ? {} : { json }),
  });
const code = ({ json }: Called) => json['code'];
const plaintext = 'AAAA';
const wrap = (subject: string, key = 'k', encryptionContext?: Record<string, string>) =>
  as(subject, 'POST', `/v1/keys/${key}/wrap`, { plaintext, encryptionContext });

const PATH = '/v1/admin/keys/k/grants';
const wanted = (subject: string, more: object = {}) => ({
  grantee: { issuer, subject },
  operations: ['wrap'],
  expiresAt: new Date(clock().getTime() + HOUR).toISOString(),
  ...more,
});
const lend = (subject: string, more: object = {}, path = PATH) =>
  service.call('admin', 'POST', path, { json: wanted(subject, more) });

describe('a grant', () => {
  it('lends the operations that it names, on its key, by any name of that, to its grantee', async () => {
    expect((await wrap('a')).status).toBe(403);
    const made = await lend('a');
    expect(made.status).toBe(201);
    const alias = '/v1/admin/keys/k/aliases/k-alias';
    expect((await service.call('admin', 'PUT', alias, { json: {} })).status).toBe(200);
    for (const ref of ['k', 'k-alias', String(made.json['keyId'])]) {
      expect([ref, (await wrap('a', ref)).status]).toEqual([ref, 200]);
    }
    expect((await wrap('b')).status).toBe(403);
    expect((await wrap('a', 'other')).status).toBe(403);
    expect((await wrap('a', 'absent')).status).toBe(403);
    const unwrap = await as('a', 'POST', '/v1/keys/k/unwrap', { ciphertext: 'tf1.AAAA' });
    expect(unwrap.status).toBe(403);
    expect((await as('a', 'GET', '/v1/keys/k')).status).toBe(403);
  });

  it('is named by the decision in the audit entry, and so is a denial that nothing was lent for', async () => {
    const id = String((await lend('named')).json['id']);
    await wrap('named');
    expect(service.drafts.at(-1)).toMatchObject({
      outcome: 'ok',
      decision: { policies: [`grant/${id}`] },
    });
    await as('named', 'POST', '/v1/keys/k/mac', { message: 'AAAA' });
    expect(service.drafts.at(-1)).toMatchObject({
      outcome: 'forbidden',
      decision: { policies: [] },
    });
  });

  it('serves for contexts that meet its constraint', async () => {
    await lend('eq', { encryptionContext: { kind: 'equals', pairs: { run: '1' } } });
    await lend('in', { encryptionContext: { kind: 'includes', pairs: { run: '1' } } });
    const statuses = async (subject: string) => [
      (await wrap(subject, 'k', { run: '1' })).status,
      (await wrap(subject, 'k', { run: '1', step: '2' })).status,
      (await wrap(subject, 'k', { run: '2' })).status,
      (await wrap(subject, 'k', { step: '1' })).status,
      (await wrap(subject, 'k', {})).status,
      (await wrap(subject)).status,
    ];
    expect(await statuses('eq')).toEqual([200, 403, 403, 403, 403, 403]);
    expect(await statuses('in')).toEqual([200, 200, 403, 403, 403, 403]);
  });

  it('serves no batch of which one item, or one without a context, is not what was lent', async () => {
    await lend('batch', { encryptionContext: { kind: 'equals', pairs: { run: '1' } } });
    const batch = async (...contexts: (Record<string, string> | undefined)[]) => {
      const items = contexts.map((encryptionContext) => ({ plaintext, encryptionContext }));
      return (await as('batch', 'POST', '/v1/keys/k/wrap/batch', { items })).status;
    };
    expect(await batch({ run: '1' }, { run: '1' })).toBe(200);
    expect(await batch({ run: '1' }, { run: '2' })).toBe(403);
    expect(await batch({ run: '1' }, undefined)).toBe(403);
    expect(await batch(undefined)).toBe(403);
  });

  it('is what the question of access is answered by, as the request would be', async () => {
    const pairs = { run: '1' };
    const id = String(
      (await lend('asks', { encryptionContext: { kind: 'includes', pairs } })).json['id'],
    );
    const ask = (subject: string, json: object, role?: string) =>
      as(subject, 'POST', '/v1/authorize', { key: 'k', ...json }, role);
    const wrapping = { operation: 'wrap', context: { encryptionContext: pairs } };
    const allowed = {
      allowed: true,
      policies: [`grant/${id}`],
      permits: [`grant/${id}`],
      forbids: [],
    };
    expect((await ask('asks', wrapping)).json).toMatchObject(allowed);
    const denied = [
      ['asks', { operation: 'wrap' }],
      ['asks', { operation: 'wrap', context: { encryptionContext: { run: '2' } } }],
      ['asks', { ...wrapping, operation: 'unwrap' }],
      ['asks', { ...wrapping, key: 'other' }],
      ['asks', { ...wrapping, key: 'absent' }],
      ['b', wrapping],
    ] as const;
    for (const [subject, json] of denied) {
      const { json: said } = await ask(subject, json);
      expect([json, said]).toMatchObject([json, { allowed: false, policies: [], permits: [] }]);
    }
    const principal = { issuer, subject: 'asks' };
    expect((await ask('admin', { ...wrapping, principal }, 'admin')).json).toMatchObject(allowed);
    const closed = { run: '1', closed: 'yes' };
    const about = { operation: 'unwrap', context: { encryptionContext: closed } };
    await lend('asks', { operations: ['unwrap'] });
    expect((await ask('asks', about)).json).toMatchObject({
      allowed: false,
      policies: ['closed'],
      permits: [],
    });
  });

  it('gives way to a policy that forbids', async () => {
    await lend('forbidden', { operations: ['wrap', 'unwrap'] });
    const encryptionContext = { closed: 'yes' };
    const { json } = await wrap('forbidden', 'k', encryptionContext);
    const { ciphertext } = json;
    const unwrap = (context: object) =>
      as('forbidden', 'POST', '/v1/keys/k/unwrap', { ciphertext, ...context });
    expect(code(await unwrap({ encryptionContext }))).toBe('forbidden');
    expect(service.drafts.at(-1)).toMatchObject({ decision: { policies: ['closed'] } });
    // Without it nothing forbids; the ciphertext is bound to it.
    expect(code(await unwrap({}))).toBe('decryption_failed');
  });

  it('ends by itself', async () => {
    await lend('expiring');
    expect((await wrap('expiring')).status).toBe(200);
    later += HOUR;
    try {
      expect((await wrap('expiring')).status).toBe(403);
      const listed = await service.call('admin', 'GET', PATH);
      expect(listed.json['items']).toEqual([]);
      // The next change takes what has expired away for good.
      await lend('fresh');
    } finally {
      later -= HOUR;
    }
    expect((await wrap('expiring')).status).toBe(403);
  });

  it('ends with its key', async () => {
    const json = { name: 'short-lived', suite: 'MLKEM768-P256' };
    const made = await service.call('admin', 'POST', '/v1/admin/keys', { json });
    await lend('outliving', {}, '/v1/admin/keys/short-lived/grants');
    expect((await wrap('outliving', 'short-lived')).status).toBe(200);
    const tag = { 'if-match': made.headers.get('etag') ?? '' };
    const path = '/v1/admin/keys/short-lived/destruction';
    const reason = { reason: 'over' };
    const gone = await service.call('admin', 'PUT', path, { json: reason, headers: tag });
    expect(gone.status).toBe(200);
    expect(code(await wrap('outliving', 'short-lived'))).toBe('version_not_usable');
  });

  it('is suspended with its key', async () => {
    await lend('waiting', {}, '/v1/admin/keys/other/grants');
    const at = (what: string) =>
      service.call('admin', 'POST', `/v1/admin/keys/other/${what}`, { json: { reason: 'r' } });
    await at('suspend');
    expect(code(await wrap('waiting', 'other'))).toBe('version_not_usable');
    await at('resume');
    expect((await wrap('waiting', 'other')).status).toBe(200);
  });
});

describe('making a grant', () => {
  it('lends no more than policies permit to who makes it', async () => {
    const by = (json: object) => as('lender', 'POST', PATH, json);
    expect((await by(wanted('c'))).status).toBe(201);
    expect((await wrap('c')).status).toBe(200);
    expect(code(await by(wanted('c', { operations: ['wrap', 'unwrap'] })))).toBe('forbidden');
  });

  it('lends nothing on that was lent', async () => {
    await lend('lender', { operations: ['unwrap'] });
    const again = await as('lender', 'POST', PATH, wanted('d', { operations: ['unwrap'] }));
    expect(code(again)).toBe('forbidden');
    await lend('borrower');
    expect(code(await as('borrower', 'POST', PATH, wanted('d')))).toBe('forbidden');
  });

  it('lends uses alone, and the contract names what access control lends', async () => {
    expect(LENDABLE_OPERATIONS).toEqual(LENDABLE);
    for (const operation of ['grants.create', 'keys.rotate', 'keys.suspend', 'audit.read', 'all']) {
      expect(code(await lend('e', { operations: [operation] }))).toBe('invalid_value');
    }
  });

  it('refuses what could not be meant', async () => {
    const at = (ms: number) => new Date(clock().getTime() + ms).toISOString();
    const context = (pairs: object) => ({ encryptionContext: { kind: 'equals', pairs } });
    for (const more of [
      { expiresAt: at(-1000) },
      { expiresAt: at(366 * 24 * HOUR) },
      { expiresAt: undefined },
      { operations: [] },
      { operations: ['sign'], ...context({ a: 'b' }) },
      context({}),
      context({ a: 1 }),
      { encryptionContext: { kind: 'any', pairs: { a: 'b' } } },
    ]) {
      expect([more, code(await lend('f', more))]).toEqual([more, 'invalid_value']);
    }
    expect(code(await lend('f', { more: 1 }))).toBe('unknown_field');
    expect(code(await lend('f', {}, '/v1/admin/keys/absent/grants'))).toBe('key_not_found');
  });

  it('makes nothing on a dry run, and one grant for one idempotency key', async () => {
    const listed = async () => (await service.call('admin', 'GET', PATH)).json['items'];
    const before = await listed();
    const dry = await lend('dry', {}, `${PATH}?dryRun=true`);
    expect([dry.status, dry.json['dryRun']]).toEqual([200, true]);
    expect(await listed()).toEqual(before);
    const json = wanted('once');
    const headers = { 'idempotency-key': 'grant-once' };
    const [first, again] = [
      await service.call('admin', 'POST', PATH, { json, headers }),
      await service.call('admin', 'POST', PATH, { json, headers }),
    ];
    expect(again.json).toEqual(first.json);
  });
});

describe('ending a grant', () => {
  const made = async (subject: string) => String((await lend(subject)).json['id']);
  const retire = (subject: string, id: string) => as(subject, 'POST', `${PATH}/${id}/retire`);

  it('is for its grantee, at once', async () => {
    const id = await made('leaver');
    expect((await wrap('leaver')).status).toBe(200);
    const retired = await retire('leaver', id);
    expect(retired.json).toMatchObject({ id, ended: true });
    expect((await wrap('leaver')).status).toBe(403);
    expect((await retire('leaver', id)).status).toBe(403);
  });

  it('is for its granter, who may do nothing else to the grants of the key', async () => {
    const { json } = await as('lender', 'POST', PATH, wanted('g'));
    const foreign = await made('h');
    expect(code(await retire('lender', foreign))).toBe('forbidden');
    expect(code(await as('lender', 'DELETE', `${PATH}/${String(json['id'])}`))).toBe('forbidden');
    expect((await retire('lender', String(json['id']))).status).toBe(200);
    expect((await wrap('g')).status).toBe(403);
  });

  it('is for nobody who holds another grant', async () => {
    const [own, foreign] = [await made('i'), await made('j')];
    expect(code(await retire('i', foreign))).toBe('forbidden');
    expect(code(await as('i', 'DELETE', `${PATH}/${own}`))).toBe('forbidden');
    expect((await wrap('j')).status).toBe(200);
  });

  it('is for whom a policy permits to revoke it, and is over with it', async () => {
    const id = await made('revoked');
    // It is not the administrator's to retire when somebody else made it.
    const { json } = await as('lender', 'POST', PATH, wanted('revoked-too'));
    const foreign = `${PATH}/${String(json['id'])}`;
    expect(code(await service.call('admin', 'POST', `${foreign}/retire`))).toBe('forbidden');
    for (const path of [`${PATH}/${id}`, foreign]) {
      expect((await service.call('admin', 'DELETE', path)).json).toMatchObject({ ended: true });
      expect(code(await service.call('admin', 'DELETE', path))).toBe('not_found');
    }
    expect((await wrap('revoked')).status).toBe(403);
    expect((await wrap('revoked-too')).status).toBe(403);
    expect((await service.call('user', 'DELETE', foreign)).status).toBe(403);
  });
});

describe('grants of a key', () => {
  it('are listed a page at a time, to who may read them', async () => {
    const path = '/v1/admin/keys/other/grants';
    for (const subject of ['p', 'q', 'r']) await lend(subject, {}, path);
    const all = (await service.call('auditor', 'GET', path)).json['items'] as { id: string }[];
    const ids: string[] = [];
    let token: unknown;
    do {
      const from = typeof token === 'string' ? `&pageToken=${token}` : '';
      const page = await service.call('auditor', 'GET', `${path}?pageSize=2${from}`);
      ids.push(...(page.json['items'] as { id: string }[]).map(({ id }) => id));
      token = page.json['nextPageToken'];
    } while (token !== null);
    expect(ids).toEqual(all.map(({ id }) => id));
    expect(ids.length).toBeGreaterThanOrEqual(3);
    expect((await service.call('user', 'GET', path)).status).toBe(403);
    const elsewhere = await service.call('admin', 'GET', `${PATH}/${ids[0] ?? ''}`);
    expect(code(elsewhere)).toBe('not_found');
  });
});
