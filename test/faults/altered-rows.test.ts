/**
 * Rows edited in the database by its owner, under a running service: 500 `integrity_failed`, audited,
 * health red, other keys untouched; and green again once the rows are as they were.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type pg from 'pg';

import { UsageCounters } from '../../src/keyring/usage.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import { transition } from '../../src/keyring/lifecycle.ts';
import type { VersionEvent } from '../../src/keyring/lifecycle.ts';
import type { KeyVersion } from '../../src/keyring/model.ts';
import { attestKey, attestVersion } from '../../src/keyring/row-mac.ts';
import { keyRow } from '../../src/store/key-rows.ts';
import { findEmbedded } from '../../src/store/embedded.ts';
import { openStore } from '../../src/store/store.ts';
import { versionRow } from '../../src/store/version-rows.ts';
import { openTokenOf, withDatabaseOf } from '../e2e/inspection.ts';
import { TestService } from '../e2e/service.ts';
import { eventually } from '../store/eventually.ts';

let service: TestService;

beforeAll(async () => {
  service = await TestService.start();
}, 120_000);
afterAll(async () => {
  await service.destroy();
}, 60_000);

const asOwner = <T>(use: (client: pg.Client) => Promise<T>) => withDatabaseOf(service.dataDir, use);

/** A rotated key with a label and a suspended first version, and a ciphertext of each version. */
async function makeKey(name: string): Promise<{ id: string; old: unknown; fresh: unknown }> {
  const made = await service.request('POST', '/v1/admin/keys', {
    name,
    suite: 'MLKEM768-P256',
    labels: { team: 'a' },
  });
  expect(made.status).toBe(201);
  const old = await service.request('POST', `/v1/keys/${name}/wrap`, { plaintext: 'AAAA' });
  await service.request('POST', `/v1/admin/keys/${name}/rotate`, {});
  const fresh = await service.request('POST', `/v1/keys/${name}/wrap`, { plaintext: 'AAAA' });
  const suspended = await service.request('POST', `/v1/admin/keys/${name}/versions/1/suspend`, {
    reason: 'x',
  });
  expect(suspended.status).toBe(200);
  // The suspension dropped every cached row of the key: the next use reads them.
  return {
    id: String(made.json['id']),
    old: old.json['ciphertext'],
    fresh: fresh.json['ciphertext'],
  };
}

interface Health {
  readonly status: number;
  readonly integrity: unknown;
}

async function health(): Promise<Health> {
  const { status, json } = await service.request('GET', '/readyz', undefined, { role: null });
  const checks = json['checks'] as readonly { name: string; ready: boolean; state: string }[];
  return { status, integrity: checks.find(({ name }) => name === 'integrity') };
}
const GREEN = { status: 200, integrity: { name: 'integrity', ready: true, state: 'ok' } };
const RED = { status: 503, integrity: { name: 'integrity', ready: false, state: 'rows-altered' } };

/** Changes rows of a key; returns what puts every one of them back. */
async function edit(id: string, sql: string): Promise<() => Promise<void>> {
  return asOwner(async (client) => {
    const keys = await client.query<pg.QueryResultRow>('select * from key where id = $1', [id]);
    const versions = await client.query<pg.QueryResultRow>(
      'select * from key_version where key_id = $1',
      [id],
    );
    const { rowCount } = await client.query(sql, [id]);
    expect(rowCount).toBeGreaterThan(0);
    return () =>
      restore('key', ['id'], keys).then(() =>
        restore('key_version', ['key_id', 'version'], versions),
      );
  });
}

/** An array would be sent as one of PostgreSQL's, which no jsonb is. */
const valueOf = (name: string, row: Record<string, unknown>): unknown =>
  ['labels', 'exports'].includes(name) ? JSON.stringify(row[name]) : row[name];

async function restore(
  table: string,
  identity: readonly string[],
  { rows, fields }: pg.QueryResult<pg.QueryResultRow>,
): Promise<void> {
  await asOwner(async (client) => {
    for (const row of rows) {
      const names = fields.map(({ name }) => name);
      const assignments = names.map((name, index) => `${name} = $${String(index + 1)}`);
      const where = identity.map((name) => `${name} = $${String(names.indexOf(name) + 1)}`);
      await client.query(
        `update ${table} set ${assignments.join(', ')} where ${where.join(' and ')}`,
        names.map((name) => valueOf(name, row)),
      );
    }
  });
}

const swapped = (columns: readonly string[]) =>
  `update key_version v set ${columns.map((name) => `${name} = o.${name}`).join(', ')}
     from key_version o where v.key_id = $1 and o.key_id = v.key_id and o.version = 3 - v.version`;

const EDITS: readonly (readonly [string, string])[] = [
  [
    'a suspension lifted',
    `update key_version set state = 'active', suspended_at = null, reason = null
       where key_id = $1 and version = 1`,
  ],
  ['halves of two versions exchanged', swapped(['pq_public', 'pq_sealed'])],
  [
    'classical halves of two versions exchanged',
    swapped(['classical_public', 'classical_blob', 'classical_check']),
  ],
  [
    'a public key replaced',
    `update key_version set classical_public = overlay(classical_public placing '\\x00'::bytea from 9)
       where key_id = $1 and version = 2`,
  ],
  ['a label changed', `update key set labels = '{"team":"b"}' where id = $1`],
  ['a MAC of zeros', `update key set mac = decode(repeat('00', 32), 'hex') where id = $1`],
  ['another primary', `update key set primary_version = 1 where id = $1`],
  ['another purpose', `update key set purpose = 'kem' where id = $1`],
];

/** A list shows the key and its primary version, and verifies what it shows. */
const OF_NO_PRIMARY = ['a suspension lifted'];

describe('a row edited under a running service', () => {
  it('is integrity_failed and audited, turns health red, and is healed by what restores it', async () => {
    const untouched = await makeKey('untouched');
    const body = { ciphertext: untouched.fresh };
    for (const [index, [what, sql]] of EDITS.entries()) {
      const name = `edited-${String(index)}`;
      const { id, old, fresh } = await makeKey(name);
      expect([what, await health()]).toEqual([what, GREEN]);
      const putBack = await edit(id, sql);

      const uses = [
        await service.request('POST', `/v1/keys/${name}/unwrap`, { ciphertext: old }),
        await service.request('POST', `/v1/keys/${id}/unwrap`, { ciphertext: fresh }),
        await service.request('POST', `/v1/keys/${name}/wrap`, { plaintext: 'AAAA' }),
        await service.request('GET', `/v1/keys/${name}/public-key`),
        await service.request('PATCH', `/v1/admin/keys/${name}`, { labels: { team: 'c' } }),
      ];
      const list = await service.request('GET', '/v1/keys?namePrefix=edited-');
      if (OF_NO_PRIMARY.includes(what)) expect([what, list.status]).toEqual([what, 200]);
      else uses.push(list);
      for (const { status, json, headers } of uses) {
        expect([what, status, json.code, json['detail']]).toEqual([
          what,
          500,
          'integrity_failed',
          undefined,
        ]);
        const audited = headers.get('twofold-audit-id') ?? '';
        const entry = await service.request('GET', `/v1/audit/entries/${audited}`);
        expect(entry.json).toMatchObject({ outcome: 'integrity_failed' });
      }
      expect([what, await health()]).toEqual([what, RED]);
      const other = await service.request('POST', '/v1/keys/untouched/unwrap', body);
      expect(other.json).toMatchObject({ plaintext: 'AAAA' });

      await putBack();
      const last = index === EDITS.length - 1;
      const again = last
        ? []
        : [
            await service.request('POST', `/v1/keys/${name}/unwrap`, { ciphertext: fresh }),
            await service.request('POST', `/v1/keys/${id}/unwrap`, { ciphertext: fresh }),
            await service.request('GET', '/v1/keys?namePrefix=edited-'),
          ];
      expect([what, again.map(({ status }) => status)]).toEqual([what, again.map(() => 200)]);
      // Of what nobody asks for any more, the service finds by itself that it is whole.
      if (last) await eventually(async () => (await health()).status === 200, 30_000);
    }
  }, 240_000);

  it('in another namespace is not found where it was, and a namespace slipped in knows it not', async () => {
    const { id, fresh } = await makeKey('moved');
    await asOwner(async (client) => {
      await client.query(`insert into namespace (name, mac) values ('slipped-in', '\\x00')`);
    });
    const putBack = await edit(id, `update key set namespace = 'slipped-in' where id = $1`);
    const unwrap = (headers: Record<string, string>) =>
      service.request('POST', `/v1/keys/moved/unwrap`, { ciphertext: fresh }, { headers });
    expect((await unwrap({})).json.code).toBe('key_not_found');
    expect((await unwrap({ 'Twofold-Namespace': 'slipped-in' })).json.code).toBe('forbidden');
    await putBack();
    await asOwner((client) => client.query(`delete from namespace where name = 'slipped-in'`));
    expect((await unwrap({})).json).toMatchObject({ plaintext: 'AAAA' });
  }, 60_000);
});

describe('the record of an idempotency key', () => {
  it('whose answer was replaced is not answered, and is again once it is restored', async () => {
    const create = () =>
      service.request(
        'POST',
        '/v1/admin/keys',
        { name: 'recorded', suite: 'A256GCM' },
        { headers: { 'Idempotency-Key': 'once' } },
      );
    const first = await create();
    expect([first.status, (await create()).json]).toEqual([201, first.json]);
    const replace = (body: string) =>
      asOwner((client) => client.query('update idempotency set body = $1', [body]));
    await replace(JSON.stringify({ ...first.json, id: '00000000-0000-4000-8000-000000000000' }));
    const altered = await create();
    expect([altered.status, altered.json.code]).toEqual([500, 'integrity_failed']);
    expect(await health()).toEqual(RED);
    await replace(first.bytes.toString('utf8'));
    expect([(await create()).json, await health()]).toEqual([first.json, GREEN]);
  }, 60_000);
});

describe('a name of a destroyed key', () => {
  it('is retired, and the key serves nothing', async () => {
    const { id, fresh } = await makeKey('gone');
    await destroyByHand(id);
    const again = await service.request('POST', '/v1/admin/keys', {
      name: 'gone',
      suite: 'A256GCM',
    });
    expect([again.status, again.json.code]).toEqual([409, 'name_retired']);
    const read = await service.request('GET', '/v1/keys/gone');
    expect(read.json).toMatchObject({ state: 'destroyed', primary: null });
    const unwrap = await service.request('POST', '/v1/keys/gone/unwrap', { ciphertext: fresh });
    expect([unwrap.status, unwrap.json.code]).toEqual([409, 'version_not_usable']);
    const wrap = await service.request('POST', '/v1/keys/gone/wrap', { plaintext: '' });
    expect([wrap.status, wrap.json.code]).toEqual([409, 'version_not_usable']);
    expect(await health()).toEqual(GREEN);
  }, 60_000);

  /** No route destroys without a wait: the rows that a destruction leaves, attested by the token's root-mac. */
  async function destroyByHand(id: string): Promise<void> {
    const urls = findEmbedded(service.dataDir);
    const store = openStore({ url: urls?.appUrl ?? '' });
    const hsm = await openTokenOf(service.dataDir);
    try {
      const root = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
      const stored = await store.keys.find('default', { id }, 0);
      const at = new Date();
      const reason = 'x';
      const destruction = { at, requestedAt: at, reason };
      const events: readonly VersionEvent[] = [
        { kind: 'deactivate', at, reason },
        { kind: 'schedule-destruction', destruction },
        { kind: 'destroy', at },
      ];
      const versions = (stored?.versions ?? []).map(({ value }) =>
        // A suspended one is destroyed as it is.
        events
          .filter(({ kind }) => kind !== 'deactivate' || value.state === 'active')
          .reduce<KeyVersion>(transition, value),
      );
      expect(versions).toHaveLength(2);
      if (stored === null) return;
      const { value } = stored.key;
      // The database destroys nothing whose destruction was not due.
      const awaiting = { ...value, destruction, revision: value.revision + 1 };
      const gone = { ...value, primary: null, destroyedAt: at, revision: value.revision + 2 };
      const rows = [
        ['key', keyRow(await attestKey(root.mac, awaiting))] as const,
        ['key', keyRow(await attestKey(root.mac, gone))] as const,
        ...(await Promise.all(
          versions.map(
            async (version) =>
              ['key_version', versionRow(await attestVersion(root.mac, version))] as const,
          ),
        )),
      ];
      await asOwner(async (client) => {
        // Without the wait, which the database would hold even us to.
        for (const [table, row] of rows) {
          await client.query(`alter table public.${table} disable trigger user`);
          await update(client, table, { ...row });
          await client.query(`alter table public.${table} enable trigger user`);
        }
      });
    } finally {
      await hsm.close();
      await store.close();
    }
  }

  const update = (client: pg.Client, table: string, row: Record<string, unknown>) => {
    const names = Object.keys(row);
    const sets = names.map((name, index) => `${name} = $${String(index + 1)}`).join(', ');
    const where = table === 'key' ? ['id'] : ['key_id', 'version'];
    const is = where.map((name) => `${name} = $${String(names.indexOf(name) + 1)}`).join(' and ');
    const values = names.map((name) => valueOf(name, row));
    return client.query(`update ${table} set ${sets} where ${is}`, values);
  };
});
