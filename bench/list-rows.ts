/**
 * Makes the rows that measured pages read what the service believes: MACs of its root over keys and
 * versions, entries in their canonical bytes. All other rows were made by SQL alone.
 */
import { NO_CIRCUMSTANCES } from '../src/audit/ports.ts';
import type pg from 'pg';

import { NO_PREVIOUS, encodeEntry, encodeFacts, leafHash } from '../src/audit/entry.ts';
import type { EntryPage } from '../src/audit/ports.ts';
import { inTurns } from '../src/keyring/in-turns.ts';
import { attestKey, attestVersion } from '../src/keyring/row-mac.ts';
import type { RowMac } from '../src/keyring/row-mac.ts';
import type { KeyPage } from '../src/keyring/ports.ts';

/** MACs asked of the token at a time. */
const AT_ONCE = 16;

export async function attestPage(owner: pg.Client, mac: RowMac, { keys }: KeyPage): Promise<void> {
  const rows = await inTurns(keys, AT_ONCE, ({ key }) => attestKey(mac, key.value));
  const shown = keys.flatMap((each) => each.versions);
  const versions = await inTurns(shown, AT_ONCE, ({ value }) => attestVersion(mac, value));
  await owner.query(
    `update public.key k set mac = u.mac from unnest($1::uuid[], $2::bytea[]) u(id, mac)
     where k.id = u.id and k.mac <> u.mac`,
    [rows.map(({ value }) => value.id), rows.map((row) => Buffer.from(row.mac))],
  );
  await owner.query(
    `update public.key_version v set mac = u.mac
     from unnest($1::uuid[], $2::integer[], $3::bytea[]) u(id, version, mac)
     where v.key_id = u.id and v.version = u.version and v.mac <> u.mac`,
    [
      versions.map(({ value }) => value.keyId),
      versions.map(({ value }) => value.version),
      versions.map((row) => Buffer.from(row.mac)),
    ],
  );
}

interface Columns {
  readonly lane: number;
  readonly n: string;
  readonly at: Date;
  readonly namespace: string;
  readonly operation: string;
  readonly key_id: string | null;
  readonly key_ref: string | null;
  readonly subject: string;
  readonly outcome: string;
}

const INSTANCE = '00000000-0000-4000-8000-000000000000';

/** A body as the service writes it for such an operation. */
export function bodyOf(columns: Columns): Uint8Array {
  const { lane, n, at, namespace, operation, subject, outcome } = columns;
  const facts = encodeFacts({
    ...{ at, namespace, operation, outcome, zone: 'local', instance: INSTANCE },
    ...{ requestId: INSTANCE, keyRef: columns.key_ref, keyId: columns.key_id },
    actor: {
      issuer: 'urn:bench',
      subject,
      method: 'jwt',
      session: new Uint8Array(16),
      ...{ acr: null, amr: ['pwd'], roles: ['user'] },
    },
    ...NO_CIRCUMSTANCES,
    aadHmac: null,
    loggedContext: {},
    ...{ keyVersion: 1, suite: 0x0101, source: '127.0.0.1', contextKeys: [], contextHmac: null },
    decision: { revision: '00'.repeat(16), policies: ['role.user'] },
    ...{ items: [], detail: {} },
  });
  return encodeEntry({ lane, n: Number(n), previous: NO_PREVIOUS, epoch: 1 }, facts);
}

/** Writes those that `lane` holds; the service's own are whole. */
export async function completeEntries(
  owner: pg.Client,
  lane: number,
  { entries }: EntryPage,
): Promise<void> {
  const { rows } = await owner.query<Columns>(
    `select lane, n, at, namespace, operation, key_id, key_ref, subject, outcome
     from public.entry where lane = $1 and n = any ($2::bigint[])`,
    [lane, entries.filter((each) => each.lane === lane).map(({ n }) => n)],
  );
  const bodies = rows.map(bodyOf);
  await owner.query(
    `update public.entry e set body = u.body, leaf = u.leaf
     from unnest($2::bigint[], $3::bytea[], $4::bytea[]) u(n, body, leaf)
     where e.lane = $1 and e.n = u.n`,
    [
      lane,
      rows.map(({ n }) => n),
      bodies.map((body) => Buffer.from(body)),
      bodies.map((body) => Buffer.from(leafHash(body))),
    ],
  );
}
