/**
 * P5 for delegated grants: once their end has answered, no other process serves by them, and no answer
 * that was made by them leaves. What was ended is not brought back by whoever writes the database.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Site } from '../http/stored-service.ts';
import { withClient } from '../store/owner.ts';
import type { Service } from '../http/service.ts';
import type { Instance } from '../keyring/world.ts';

let site: Site;
let first: Service<Instance>;
let second: Service<Instance>;
let issuer: string;
let count = 0;
/** What the second service does when it has wrapped, before its answer may leave. */
let meanwhile = (): Promise<unknown> => Promise.resolve();

beforeAll(async () => {
  site = await Site.open();
  first = await site.service();
  second = await site.service({
    replace: ({ use }) => ({
      use: Object.assign(Object.create(use) as typeof use, {
        wrap: async (...call: Parameters<typeof use.wrap>) => {
          const wrapped = await use.wrap(...call);
          await meanwhile();
          return wrapped;
        },
      }),
    }),
  });
  issuer = String((await first.call('admin', 'GET', '/v1/whoami')).json['issuer']);
}, 120_000);
afterAll(() => site.close());

/** A key and a grant on it to somebody without a role. */
async function lent() {
  count += 1;
  const [key, subject] = [`k${String(count)}`, `s${String(count)}`];
  const json = { name: key, suite: 'A256GCM' };
  const made = await first.call('admin', 'POST', '/v1/admin/keys', { json });
  const path = `/v1/admin/keys/${key}/grants`;
  const grant = await first.call('admin', 'POST', path, {
    json: {
      grantee: { issuer, subject },
      operations: ['wrap'],
      expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
    },
  });
  expect(grant.status).toBe(201);
  const as = async (service: Service<Instance>, method: string, at: string, body?: object) =>
    service.call(null, method, at, {
      headers: { authorization: `Bearer ${await service.token('nobody', 600, subject)}` },
      ...(body === undefined ? {} : { json: body }),
    });
  const id = String(grant.json['id']);
  return {
    id,
    keyId: String(made.json['id']),
    wrap: () => as(second, 'POST', `/v1/keys/${key}/wrap`, { plaintext: 'AAAA' }),
    retire: () => as(first, 'POST', `${path}/${id}/retire`),
    revoke: () => first.call('admin', 'DELETE', `${path}/${id}`),
  };
}

describe('P5: a grant', () => {
  it.each(['retire', 'revoke'] as const)('that was ended (%s) serves nowhere', async (how) => {
    const grant = await lent();
    expect((await grant.wrap()).status).toBe(200);
    expect((await grant[how]()).status).toBe(200);
    expect((await grant.wrap()).json['code']).toBe('forbidden');
  });

  it.each(['retire', 'revoke'] as const)(
    'ended (%s) lets no answer under way leave',
    async (how) => {
      const grant = await lent();
      let ended = 0;
      meanwhile = async () => {
        meanwhile = () => Promise.resolve();
        ended = (await grant[how]()).status;
      };
      const answer = await grant.wrap();
      expect(ended).toBe(200);
      expect([answer.status, answer.json['code']]).toEqual([403, 'forbidden']);
      expect(answer.json['ciphertext']).toBeUndefined();
    },
  );

  it('that was ended and is put back in the database is found', async () => {
    const grant = await lent();
    const asOwner = (sql: string) =>
      withClient(site.database.ownerUrl, async (client) => {
        await client.query(sql, [`grant/${grant.keyId}`]);
      });
    await withClient(site.database.ownerUrl, (client) =>
      client.query('create table public.kept as table public.set_member with no data'),
    );
    await asOwner('insert into public.kept select * from public.set_member where kind = $1');
    await grant.retire();
    await asOwner('insert into public.set_member select * from public.kept where kind = $1');
    const third = await site.service();
    const read = await third.call('admin', 'GET', `/v1/admin/keys/${grant.keyId}/grants`);
    expect(read.json['code']).toBe('integrity_failed');
    expect((await grant.wrap()).json['code']).toBe('integrity_failed');
  });
});
