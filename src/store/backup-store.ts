/** Rows about backups: escrowed roots, what was taken, and whether this database was restored. */
import { createHash } from 'node:crypto';
import type {
  BackupPlace,
  BackupRequest,
  BackupRow,
  EntriesKept,
  Restoration,
  StoredEscrow,
} from '../backup/ports.ts';
import { restorationOf } from './backup-load.ts';
import { escrowFrom, LOCK } from './backup-snapshot.ts';
import type { EscrowRow } from './backup-snapshot.ts';
import { bufferOf } from './entry-columns.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGates } from './read-gate.ts';
import { COMMITTED, commitStatement, committedRead, committing, read } from './transaction.ts';

const ADD_ESCROW = `insert into public.root_escrow
    (generation, recovery_key, installation, public_key, point, ciphertext, wrapped, transcript, mac)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (generation, recovery_key) do update
    set installation = excluded.installation, public_key = excluded.public_key, point = excluded.point,
      ciphertext = excluded.ciphertext, wrapped = excluded.wrapped, transcript = excluded.transcript,
      mac = excluded.mac, created_at = current_timestamp`;

const ESCROWED = `select generation, installation, public_key, point, ciphertext, wrapped, transcript, mac
  from public.root_escrow where recovery_key = $1 order by generation`;

const BEGIN = `insert into public.backup (id, state, issuer, subject, created_at, place, entries,
    request_key, request_hash)
  values ($1, 'running', $2, $3, $4, $5, $6, $7, $8)`;

/** Whoever holds the lock of backups is alone: what still runs was killed. */
const GIVE_UP = `update public.backup set state = 'failed', ended_at = clock_timestamp(), problem = 'interrupted'
  where state = 'running' and id <> $1`;

/**
 * The lock is held by whoever takes a backup, from before its row until after its folder has its name; what runs
 * by its row while nobody holds it was killed, or ends at this moment: that it is whole is then said all the same.
 */
const GIVE_UP_KILLED = `with free as materialized (
    select pg_try_advisory_xact_lock(${String(LOCK)}) as held
      where exists (select from public.backup where state = 'running'))
  update public.backup set state = 'failed', ended_at = clock_timestamp(), problem = 'interrupted'
  from free where free.held and state = 'running'`;

const END = `update public.backup set state = $2, ended_at = clock_timestamp(), bytes = $3, row_count = $4,
    keys = $5, log_size = $6, problem = $7,
    request_key = case when not $8 then request_key end, request_hash = case when not $8 then request_hash end
  where id = $1 and (state = 'running'
    or state = 'failed' and problem = 'interrupted' and $2 = 'complete')`;

const COLUMNS = `b.id, b.state, b.issuer, b.subject, b.created_at, b.ended_at, b.place, b.entries, b.bytes,
  b.row_count, b.keys, b.log_size, b.problem`;

const LIST = {
  name: 'backup_list',
  text: `select ${COLUMNS} from public.backup b
    where ($1::timestamptz is null or (b.created_at, b.id) < ($1, $2::uuid))
    order by b.created_at desc, b.id desc limit $3`,
};
const FIND = {
  name: 'backup_find',
  text: `select ${COLUMNS} from public.backup b where b.id = $1`,
};
const REQUESTED = {
  name: 'backup_requested',
  text: `select ${COLUMNS}, b.request_hash from public.backup b
    where b.issuer = $1 and b.subject = $2 and b.request_key = $3
      and b.created_at > clock_timestamp() - interval '1 day' and b.problem is distinct from 'interrupted'
    order by b.created_at desc limit 1`,
};
/** More than these have not been cut off between two looks. */
const UNSETTLED = {
  name: 'backup_unsettled',
  text: `select ${COLUMNS} from (select * from public.backup order by created_at desc, id desc limit 20) b
    where b.state = 'running' or b.problem = 'interrupted' order by b.created_at, b.id`,
};
const NEWEST = committing({
  name: 'backup_newest',
  text: `select ${COLUMNS} from ${COMMITTED} left join lateral (
    select * from public.backup where state = 'complete' order by created_at desc, id desc limit 1) b on true`,
});

interface Row {
  readonly id: string;
  readonly state: BackupRow['state'];
  readonly issuer: string | null;
  readonly subject: string | null;
  readonly created_at: Date;
  readonly ended_at: Date | null;
  readonly place: string;
  readonly entries: EntriesKept;
  readonly bytes: string | null;
  readonly row_count: string | null;
  readonly keys: string | null;
  readonly log_size: string | null;
  readonly problem: string | null;
}

const count = (text: string | null): number | null => (text === null ? null : Number(text));

const rowOf = (row: Row): BackupRow => ({
  id: row.id,
  state: row.state,
  requestedBy:
    row.issuer === null || row.subject === null
      ? null
      : { issuer: row.issuer, subject: row.subject },
  createdAt: row.created_at,
  endedAt: row.ended_at,
  place: row.place,
  entries: row.entries,
  bytes: count(row.bytes),
  rows: count(row.row_count),
  keys: count(row.keys),
  logSize: count(row.log_size),
  problem: row.problem,
});

export type BackupEnd =
  | (Pick<BackupRow, 'bytes' | 'rows' | 'keys' | 'logSize'> & { readonly state: 'complete' })
  | {
      readonly state: 'failed';
      readonly problem: string;
      /** Whoever asked was told that nothing was done: the same key may begin another. */
      readonly unanswered?: boolean;
    };

export interface BackupStore {
  /** In the place of one that was there. */
  addEscrow(escrow: StoredEscrow): Promise<void>;
  /** What is said to be wrapped for this recovery key, as it stands. */
  escrowed(publicKey: Uint8Array): Promise<readonly StoredEscrow[]>;
  begin(
    row: Pick<BackupRow, 'id' | 'requestedBy' | 'createdAt' | 'place' | 'entries'>,
    request: BackupRequest | null,
  ): Promise<void>;
  /** What was begun under an idempotency key of whoever asks, for a day; null also where it was cut off. */
  requested(
    by: NonNullable<BackupRow['requestedBy']>,
    key: string,
  ): Promise<{ readonly row: BackupRow; readonly hash: Uint8Array } | null>;
  /** Of the newest, those that run by their rows, or were given up as killed. */
  unsettled(): Promise<readonly BackupRow[]>;
  /** Those that a killed process left; only for who holds a snapshot. */
  giveUpOthers(id: string): Promise<void>;
  /** The same for who holds none: nothing while one is taken. @returns how many */
  giveUpKilled(): Promise<number>;
  end(id: string, end: BackupEnd): Promise<void>;
  find(id: string): Promise<BackupRow | null>;
  /** Newest first. */
  list(after: BackupPlace | null, limit: number): Promise<readonly BackupRow[]>;
  newest(): Promise<BackupRow | null>;
  restoration(): Promise<Restoration | null>;
  /** The log says that it was restored. */
  announced(): Promise<void>;
}

const fingerprint = (publicKey: Uint8Array): Buffer =>
  createHash('sha256').update(publicKey).digest();

export const createBackupStore = (pool: GuardedPool, { lookups }: ReadGates): BackupStore => {
  const select = <R extends Row>(
    statement: { readonly name: string; readonly text: string },
    values: readonly unknown[],
  ): Promise<readonly R[]> =>
    lookups.run(async () => {
      const query = { ...statement, values: [...values] };
      return (await read(() => pool.query<R>(query)).catch(refuse)).rows;
    });
  const rows = async (...query: Parameters<typeof select>): Promise<readonly BackupRow[]> =>
    (await select<Row>(...query)).map(rowOf);
  const write = async (statement: string, values: readonly unknown[]): Promise<void> => {
    await commitStatement(pool, statement, values).catch(refuse);
  };

  return {
    addEscrow: ({ generation, installation, publicKey, mac, ...sent }) => {
      const bytes = [publicKey, sent.point, sent.ciphertext, sent.wrapped, sent.transcript];
      const blobs = [...bytes.map(bufferOf), mac === null ? null : bufferOf(mac)];
      const values = [generation, fingerprint(publicKey), installation, ...blobs];
      return write(ADD_ESCROW, values);
    },
    escrowed: async (publicKey) => {
      const found = await read(() =>
        pool.query<EscrowRow>(ESCROWED, [fingerprint(publicKey)]),
      ).catch(refuse);
      return found.rows.map(escrowFrom);
    },
    begin: ({ id, requestedBy, createdAt, place, entries }, request) => {
      const { issuer = null, subject = null } = requestedBy ?? {};
      const { key = null, hash = null } = request ?? {};
      const asked = [key, hash === null ? null : bufferOf(hash)];
      return write(BEGIN, [id, issuer, subject, createdAt, place, entries, ...asked]);
    },
    requested: async ({ issuer, subject }, key) => {
      const [found] = await select<Row & { readonly request_hash: Buffer }>(REQUESTED, [
        ...[issuer, subject, key],
      ]);
      return found === undefined
        ? null
        : { row: rowOf(found), hash: Uint8Array.from(found.request_hash) };
    },
    unsettled: () => rows(UNSETTLED, []),
    giveUpOthers: (id) => write(GIVE_UP, [id]),
    giveUpKilled: async () => {
      const { rowCount } = await commitStatement(pool, GIVE_UP_KILLED).catch(refuse);
      return rowCount ?? 0;
    },
    end: (id, end) =>
      write(
        END,
        end.state === 'complete'
          ? [id, end.state, end.bytes, end.rows, end.keys, end.logSize, null, false]
          : [id, end.state, null, null, null, null, end.problem, end.unanswered ?? false],
      ),
    find: async (id) => (await rows(FIND, [id]))[0] ?? null,
    list: (after, limit) => rows(LIST, [after?.createdAt ?? null, after?.id ?? null, limit]),
    newest: async () => {
      const [row] = await committedRead<Row & Record<string, unknown>>(pool, NEWEST, []).catch(
        refuse,
      );
      // Where there is none, what the outer join adds is committed all the same.
      return row === undefined || (row.id as string | null) === null ? null : rowOf(row);
    },
    restoration: () =>
      read(() =>
        restorationOf({
          query: (statement, values = []) => pool.query(statement as string, [...values]),
        }),
      ),
    announced: () =>
      write(`update public.restoration set state = 'announced' where state = 'verified'`, []),
  };
};
