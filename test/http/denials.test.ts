/** Denied credentials: refused although they verify, under their own name in the audit log. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { decodeJwt } from 'jose';
import { NAME } from '../../src/name.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const PATH = '/v1/admin/denials';
const ISSUER = NAME.developmentIssuer;
const WHO = '/v1/whoami';

let service: Service;
let now = Date.now();
beforeAll(async () => {
  service = await openService({ clock: () => new Date(now) });
  for (const name of ['team', 'other']) {
    await service.call('admin', 'POST', '/v1/admin/namespaces', { json: { name } });
  }
});
afterAll(() => service.stop());

const deny = (json: object, query = '', headers = {}) =>
  service.call('admin', 'POST', PATH + query, { json: { reason: 'lost', ...json }, headers });
const admit = (id: unknown, headers = {}) =>
  service.call('admin', 'DELETE', `${PATH}/${String(id)}`, { headers });
const code = ({ json }: { readonly json: Record<string, unknown> }) => json['code'];
/** How a token fares. */
const ask = async (token: string, namespace = 'default') => {
  const headers = { authorization: `Bearer ${token}`, 'twofold-namespace': namespace };
  const { status, json } = await service.call(null, 'GET', WHO, { headers });
  return status === 200 ? 200 : json['code'];
};
const tokenOf = (subject: string) => service.token('user', 600, subject);

describe('a denial', () => {
  it('of a token ends that token alone, also where it was verified before', async () => {
    const [first, second] = [await tokenOf('t1'), await tokenOf('t1')];
    expect([await ask(first), await ask(second)]).toEqual([200, 200]);
    const made = await deny({ tokenId: decodeJwt(first).jti });
    expect(made.status).toBe(201);
    expect(made.json).toMatchObject({ kind: 'token', reason: 'lost', state: 'active' });
    expect([await ask(first), await ask(second)]).toEqual(['token_denied', 200]);
    expect((await admit(made.json['id'])).json).toMatchObject({ deleted: true });
    expect(await ask(first)).toBe(200);
  });

  it('of a subject ends its tokens, old and new, and no other’s', async () => {
    const [token, other] = [await tokenOf('s1'), await tokenOf('s2')];
    await deny({ issuer: ISSUER, subject: 's1' });
    expect([await ask(token), await ask(await tokenOf('s1')), await ask(other)]).toEqual([
      'token_denied',
      'token_denied',
      200,
    ]);
  });

  it('is audited as a refusal of who brought the credential', async () => {
    await deny({ issuer: ISSUER, subject: 's3' });
    const headers = { authorization: `Bearer ${await tokenOf('s3')}` };
    const answer = await service.call(null, 'GET', '/v1/keys/k', { headers });
    expect([answer.status, code(answer)]).toEqual([401, 'token_denied']);
    expect(answer.headers.get('twofold-audit-id')).toMatch(/^\d+-\d+$/);
    expect(service.drafts.at(-1)).toMatchObject({
      operation: 'keys.read',
      outcome: 'token_denied',
      actor: { issuer: ISSUER, subject: 's3', method: 'jwt' },
    });
  });

  it('of a namespace holds in it alone, one of the root everywhere', async () => {
    const headers = { 'twofold-namespace': 'team' };
    const token = await tokenOf('n1');
    await deny({ issuer: ISSUER, subject: 'n1' }, '', headers);
    expect([await ask(token, 'team'), await ask(token, 'other'), await ask(token)]).toEqual([
      'token_denied',
      200,
      200,
    ]);
    await deny({ issuer: ISSUER, subject: 'n1' });
    expect([await ask(token, 'other'), await ask(token, 'absent'), await ask(token)]).toEqual([
      'token_denied',
      'token_denied',
      'token_denied',
    ]);
  });

  it('of an issuer is refused to its own principals, and of what is older admits newer', async () => {
    expect(code(await deny({ issuer: ISSUER }))).toBe('would_lock_out');
    const own = { issuer: ISSUER, subject: 'development-admin' };
    expect(code(await deny(own))).toBe('would_lock_out');
    const old = await tokenOf('i1');
    // `iat` counts whole seconds.
    const issuedBefore = new Date((decodeJwt(old).iat ?? 0) * 1000 + 1).toISOString();
    const made = await deny({ issuer: ISSUER, subject: 'i1', issuedBefore });
    expect(await ask(old)).toBe('token_denied');
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(await ask(await tokenOf('i1'))).toBe(200);
    expect((await admit(made.json['id'])).status).toBe(200);
    expect(await ask(old)).toBe(200);
  });

  it('ends by itself, is said anew by the same target, and goes with a later change', async () => {
    const token = await tokenOf('e1');
    const target = { issuer: ISSUER, subject: 'e1' };
    const expiresAt = new Date(now + 60_000).toISOString();
    const first = await deny({ ...target, expiresAt });
    expect(await ask(token)).toBe('token_denied');
    now += 61_000;
    expect(await ask(token)).toBe(200);
    const again = await deny({ ...target, expiresAt: new Date(now + 60_000).toISOString() });
    expect(again.json['id']).toBe(first.json['id']);
    expect(await ask(token)).toBe('token_denied');
    now += 2 * 86_400_000;
    await deny({ tokenId: 'later' });
    expect(code(await service.call('admin', 'GET', `${PATH}/${String(first.json['id'])}`))).toBe(
      'not_found',
    );
  });

  it('names exactly one thing, at times that can be', async () => {
    const past = new Date(now - 1000).toISOString();
    const future = new Date(now + 3_600_000).toISOString();
    for (const body of [
      {},
      { subject: 's' },
      { tokenId: 'a', issuer: ISSUER },
      { tokenId: 'a', subject: 's' },
      { issuer: 'i', subject: 's', serial: '1' },
      { certificate: 'ab' },
      { certificate: 'a'.repeat(64), serial: '1' },
      { issuer: 'i', serial: '0F' },
      { tokenId: 'a', expiresAt: past },
      { tokenId: 'a', issuedBefore: past },
      { issuer: 'i', issuedBefore: future },
      { tokenId: 'a\n' },
      { tokenId: 'a', reason: '' },
    ]) {
      expect([body, code(await deny(body))]).toEqual([body, 'invalid_value']);
    }
    expect((await deny({ certificate: 'a'.repeat(64) })).json).toMatchObject({
      kind: 'certificate',
      certificate: 'a'.repeat(64),
    });
    expect((await deny({ issuer: 'i', serial: '1f' })).json).toMatchObject({ kind: 'serial' });
  });

  it('is shown on a dry run and not made, is listed, and is changed by admins alone', async () => {
    const dry = await deny({ tokenId: 'dry' }, '?dryRun=true');
    expect([dry.status, dry.json['dryRun']]).toEqual([200, true]);
    expect(code(await admit(dry.json['id']))).toBe('not_found');
    const made = await deny({ tokenId: 'listed' });
    const { json } = await service.call('auditor', 'GET', PATH);
    expect(json['items']).toContainEqual(made.json);
    for (const role of ['operator', 'user', 'auditor']) {
      const answer = await service.call(role, 'POST', PATH, {
        json: { tokenId: 'x', reason: 'r' },
      });
      expect([role, answer.status]).toEqual([role, 403]);
    }
    expect((await service.call('user', 'GET', PATH)).status).toBe(403);
    expect(code(await admit(made.json['id'], { 'if-match': '"1"' }))).toBe('etag_mismatch');
    expect(
      (await admit(made.json['id'], { 'if-match': `"${String(made.json['revision'])}"` })).status,
    ).toBe(200);
  });
});
