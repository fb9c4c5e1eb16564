/** P5 for policies: what one instance acknowledged, another one refuses at once; altered rows too. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Client } from 'pg';
import { StoredAccess } from '../../src/governance/access-control.ts';
import { writeInitialPolicies } from '../../src/main/access.ts';
import { Site } from '../http/stored-service.ts';

let site: Site;
beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site.close());

const service = () =>
  site.service({
    replace: ({ governance, epoch }) => ({
      access: new StoredAccess({ ...governance, epoch, clock: () => new Date() }),
    }),
  });

/** The policies with their seal as they stand; what puts them back. */
async function kept(owner: Client, name: string): Promise<() => Promise<void>> {
  const tables = ['set_member', 'set_seal'];
  for (const table of tables) {
    await owner.query(
      `create table public.${name}_${table} as select * from public.${table} where kind = 'policy'`,
    );
  }
  return async () => {
    for (const table of tables) {
      await owner.query(`delete from public.${table} where kind = 'policy'`);
      await owner.query(`insert into public.${table} select * from public.${name}_${table}`);
    }
  };
}

describe('a policy that one instance acknowledged', () => {
  it('is decided by at once at another, which remembers what it decided before', async () => {
    const [one, other] = [await service(), await service()];
    await writeInitialPolicies(one.deps.governance, one.deps.epoch);
    const random = () => other.call('user', 'POST', '/v1/random', { json: { bytes: 8 } });
    expect([(await random()).status, (await random()).status]).toEqual([200, 200]);
    const owner = new Client({ connectionString: site.database.ownerUrl });
    await owner.connect();
    const before = await kept(owner, 'before');
    const cedar = 'forbid (principal in Role::"user", action == Action::"random", resource);';
    const path = '/v1/admin/policies/no-random';
    expect((await one.call('admin', 'PUT', path, { json: { cedar } })).status).toBe(200);
    expect((await random()).status).toBe(403);
    // All of the earlier set with its seal, genuine as it is, gives nobody back what was taken.
    const now = await kept(owner, 'now');
    await before();
    // Who has verified the later one goes on by it, and whoever reads finds it.
    expect((await random()).status).toBe(403);
    for (const running of [one, await service()]) {
      const refused = await running.call('user', 'POST', '/v1/random', { json: { bytes: 8 } });
      expect([refused.status, refused.json['code']]).toEqual([500, 'integrity_failed']);
      expect(running.world.keyring.integrity.altered).toBe(1);
    }
    await now();
    const again = await one.call('user', 'POST', '/v1/random', { json: { bytes: 8 } });
    expect([again.status, one.world.keyring.integrity.altered]).toEqual([403, 0]);
    await owner.query("delete from public.set_member where name = 'no-random'");
    await owner.end();
    const third = await service();
    const found = await third.call('user', 'POST', '/v1/random', { json: { bytes: 8 } });
    expect([found.status, found.json['code']]).toEqual([500, 'integrity_failed']);
  });
});
