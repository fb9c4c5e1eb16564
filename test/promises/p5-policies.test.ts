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

describe('a policy that one instance acknowledged', () => {
  it('is decided by at once at another, which remembers what it decided before', async () => {
    const [one, other] = [await service(), await service()];
    await writeInitialPolicies(one.deps.governance, one.deps.epoch);
    const random = () => other.call('user', 'POST', '/v1/random', { json: { bytes: 8 } });
    expect([(await random()).status, (await random()).status]).toEqual([200, 200]);
    const cedar = 'forbid (principal in Role::"user", action == Action::"random", resource);';
    const path = '/v1/admin/policies/no-random';
    expect((await one.call('admin', 'PUT', path, { json: { cedar } })).status).toBe(200);
    expect((await random()).status).toBe(403);
    const owner = new Client({ connectionString: site.database.ownerUrl });
    await owner.connect();
    await owner.query("delete from public.set_member where name = 'no-random'");
    await owner.end();
    const third = await service();
    const found = await third.call('user', 'POST', '/v1/random', { json: { bytes: 8 } });
    expect([found.status, found.json['code']]).toEqual([500, 'integrity_failed']);
  });
});
