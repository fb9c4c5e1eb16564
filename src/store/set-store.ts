/** Sets of what governs access, and their history. */
import { KEY_SET_PREFIX } from '../keyring/set-ports.ts';
import type { Attested } from '../keyring/ports.ts';
import type {
  HistoryQuery,
  JsonObject,
  SetMember,
  SetSeal,
  SetSince,
  SetStore,
  StoredMember,
  StoredSet,
} from '../keyring/set-ports.ts';
import { refuse } from './failures.ts';
import type { set_history, set_seal } from './generated/client.ts';
import { DatabaseBehind } from './outcome.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGate } from './read-gate.ts';
import { RowReader, malformed } from './rows.ts';
import { COMMITTED, committedRead, committing } from './transaction.ts';
import type { Committing } from './transaction.ts';

/** The newest revision that the history, which only grows, has of `$1` and `$2`. */
const NEWEST_OF = `(select max(h.revision) from public.set_history h
      where h.kind = $1 and h.namespace = $2)`;

/** The seal's columns on each row, and those of one member, null where there is none. */
const SET = committing({
  name: 'governing_set',
  text: `select e.epoch, s.revision as seal_revision, s.hash, s.mac as seal_mac, ${NEWEST_OF} as newest,
      m.kind, m.namespace, m.name, m.revision, m.at, m.author, m.value, m.mac,
      sha256(convert_to(m::text, 'UTF8')) as digest
    from ${COMMITTED}, public.security_epoch e
    left join public.set_seal s on s.kind = $1 and s.namespace = $2
    left join public.set_member m on m.kind = $1 and m.namespace = $2
    order by m.name`,
});

/** Removals of one reading; who is further behind reads the whole set again. */
const REMOVALS = 1_000;

/** As `SET`, after revision `$3`; rows without a digest are removals. */
const SINCE = committing({
  name: 'governing_set_since',
  text: `select e.epoch, s.revision as seal_revision, s.hash, s.mac as seal_mac, ${NEWEST_OF} as newest,
      r.rest, m.*
    from ${COMMITTED}, public.security_epoch e
    left join public.set_seal s on s.kind = $1 and s.namespace = $2
    cross join (
      select sha256(coalesce(
        string_agg(sha256(convert_to(o::text, 'UTF8')), ''::bytea order by o.name), ''::bytea)) as rest
      from public.set_member o where o.kind = $1 and o.namespace = $2 and o.revision <= $3
    ) r
    left join (
      select w.kind, w.namespace, w.name, w.revision, w.at, w.author, w.value, w.mac,
        sha256(convert_to(w::text, 'UTF8')) as digest
      from public.set_member w where w.kind = $1 and w.namespace = $2 and w.revision > $3
      union all
      (select h.kind, h.namespace, h.name, h.revision, h.at, h.author, null, h.mac, null
      from public.set_history h
      where h.kind = $1 and h.namespace = $2 and h.revision > $3 and h.value is null
      order by h.revision desc limit ${String(REMOVALS)})
    ) m on true
    order by m.name`,
});

/** `$4` and `$5` are the place to go on from, `$3` the one member that is asked for. */
const HISTORY = committing({
  name: 'set_history',
  text: `select v.* from ${COMMITTED} left join (
      select kind, namespace, revision, name, at, author, value, mac from public.set_history
      where kind = $1 and namespace = $2 and (revision, name) < ($3, $4)
      order by kind desc, namespace desc, revision desc, name desc limit $5
    ) v on true order by v.revision desc, v.name desc`,
});
const HISTORY_OF = committing({
  name: 'set_history_of',
  text: `select v.* from ${COMMITTED} left join (
      select kind, namespace, revision, name, at, author, value, mac from public.set_history
      where kind = $1 and namespace = $2 and name = $3 and revision < $4
      order by kind desc, namespace desc, name desc, revision desc limit $5
    ) v on true order by v.revision desc`,
});

/** One look-up for each kind that there is, however many members it has. */
const KINDS = committing({
  name: 'set_kinds',
  text: `with recursive kinds(kind) as (
      (select kind from public.set_member where namespace = $1 order by kind limit 1)
      union all
      select (
        select m.kind from public.set_member m where m.namespace = $1 and m.kind > case
          when starts_with(kinds.kind, $2) then $3 else kinds.kind end
        order by m.kind limit 1
      ) from kinds where kinds.kind is not null
    )
    select v.kind from ${COMMITTED} left join (
      select kind from kinds where kind is not null and not starts_with(kind, $2)
    ) v on true order by v.kind`,
});

const MEMBERS_AT = committing({
  name: 'set_members_at',
  text: `select v.* from ${COMMITTED} left join (
      select * from (
        select distinct on (name) kind, namespace, revision, name, at, author, value, mac
        from public.set_history where kind = $1 and namespace = $2 and revision <= $3
        order by name, revision desc
      ) newest where value is not null
    ) v on true order by v.name`,
});

/** After every kind that begins with `KEY_SET_PREFIX`, which ends in `/`, and before all others. */
const PAST_KEY_SETS = KEY_SET_PREFIX.replace(/\/$/u, '0');

/** Above every revision. */
const NEWEST = 2_147_483_647;

type SetRow = set_history & {
  readonly epoch: string;
  readonly seal_revision: number | null;
  readonly newest: number | null;
  readonly hash: Uint8Array;
  readonly seal_mac: Uint8Array;
  readonly digest: Uint8Array;
};
/** A removal has no row among the members, so no digest; a value may be the `null` of JSON all the same. */
type SinceRow = Omit<SetRow, 'digest'> & {
  readonly rest: Uint8Array;
  readonly digest: Uint8Array | null;
};
type WrittenRow = SinceRow & { readonly digest: Uint8Array };
const isWritten = (row: SinceRow): row is WrittenRow => row.digest !== null;

export const createSetStore = (pool: GuardedPool, lookups: ReadGate): SetStore => {
  const rowsOf = async (statement: Committing, values: readonly unknown[]) => {
    const rows = await lookups.run(() =>
      committedRead<set_history>(pool, statement, values).catch(refuse),
    );
    return rows.filter(isThere).map(memberFromRow);
  };
  const snapshot = <Row extends Pick<SetRow, 'epoch'>>(
    statement: Committing,
    values: readonly unknown[],
    epoch: number,
  ) =>
    lookups.run(() =>
      committedRead<Row>(pool, statement, values, ([first]) => {
        if (Number(first?.epoch) < epoch) {
          throw new DatabaseBehind('the read stands at an old epoch');
        }
      }).catch(refuse),
    );
  return {
    set: async (kind, namespace, epoch) =>
      storedSet(kind, namespace, await snapshot<SetRow>(SET, [kind, namespace], epoch)),

    since: async (kind, namespace, epoch, revision) => {
      const rows = await snapshot<SinceRow>(SINCE, [kind, namespace, revision], epoch);
      return setSince(kind, namespace, rows);
    },

    kinds: async (namespace) => {
      const values = [namespace, KEY_SET_PREFIX, PAST_KEY_SETS];
      const rows = await lookups.run(() =>
        committedRead<{ readonly kind: string | null }>(pool, KINDS, values).catch(refuse),
      );
      return rows.map(({ kind }) => kind).filter((kind) => kind !== null);
    },

    history: ({ kind, namespace, name, before, pageSize }: HistoryQuery) =>
      name === null
        ? rowsOf(HISTORY, [
            kind,
            namespace,
            before?.revision ?? NEWEST,
            before?.name ?? '',
            pageSize,
          ])
        : rowsOf(HISTORY_OF, [kind, namespace, name, before?.revision ?? NEWEST, pageSize]),

    membersAt: (kind, namespace, revision) => rowsOf(MEMBERS_AT, [kind, namespace, revision]),
  };
};

function storedSet(kind: string, namespace: string, rows: readonly SetRow[]): StoredSet {
  const [first] = rows;
  const members = rows.filter(isThere).map(storedMember);
  return { seal: sealOf(kind, namespace, first), newest: first?.newest ?? 0, members };
}

function setSince(kind: string, namespace: string, rows: readonly SinceRow[]): SetSince {
  const [first] = rows;
  const there = rows.filter(isThere);
  const written = there.filter(isWritten).map(storedMember);
  const removed = there.filter((row) => !isWritten(row)).map(({ name }) => name);
  const rest = Uint8Array.from(first?.rest ?? []);
  const newest = first?.newest ?? 0;
  return { seal: sealOf(kind, namespace, first), newest, written, removed, rest };
}

/** Of a join that found none, the columns are null. */
const isThere = ({ name }: Pick<set_history, 'name'>): boolean => (name as string | null) !== null;

function storedMember(row: SetRow): StoredMember {
  const { kind, namespace, name, revision, at, author, value, mac, digest } = row;
  const columns = { kind, namespace, name, revision, at, author, value, mac };
  return { ...memberFromRow(columns), digest: Uint8Array.from(digest) };
}

function sealOf(
  kind: string,
  namespace: string,
  row: Pick<SetRow, 'seal_revision' | 'hash' | 'seal_mac'> | undefined,
) {
  if (row === undefined || row.seal_revision === null) return null;
  const { seal_revision: revision, hash, seal_mac: mac } = row;
  return setSealFromRow({ kind, namespace, revision, hash, mac });
}

/** A copy: pg's buffers are views of what came over the socket. */
export const setSealFromRow = ({ mac, ...row }: Columns<set_seal>): Attested<SetSeal> => ({
  value: { ...row, hash: Uint8Array.from(row.hash) },
  mac: Uint8Array.from(mac),
});

type Columns<R> = { readonly [C in keyof R]: R[C] extends Uint8Array ? Uint8Array : R[C] };

/** Of `set_member` and `set_history`, whose columns are the same. @throws TwofoldError integrity_failed */
export function memberFromRow(row: set_history): Attested<SetMember> {
  const reader = new RowReader<set_history>('set_history', row);
  const value: SetMember = {
    kind: reader.text('kind'),
    namespace: reader.text('namespace'),
    name: reader.text('name'),
    revision: reader.integer('revision'),
    at: reader.time('at'),
    by: authorFrom(reader.text('author')),
    value: objectFrom(reader.json('value')),
  };
  const attested = { value, mac: reader.bytes('mac') };
  reader.done();
  return attested;
}

function authorFrom(text: string): SetMember['by'] {
  const author = parsed(text);
  if (!Array.isArray(author) || author.length !== 2) throw malformed('set_history.author');
  const [issuer, subject] = author as readonly unknown[];
  if (typeof issuer !== 'string' || typeof subject !== 'string')
    throw malformed('set_history.author');
  return { issuer, subject };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw malformed('set_history.author');
  }
}

function objectFrom(value: unknown): JsonObject | null {
  if (value === null) return null;
  if (typeof value !== 'object' || Array.isArray(value)) throw malformed('set_history.value');
  return value as JsonObject;
}

export const memberRow = ({ value: member, mac }: Attested<SetMember>) => ({
  kind: member.kind,
  namespace: member.namespace,
  name: member.name,
  revision: member.revision,
  at: member.at,
  author: JSON.stringify([member.by.issuer, member.by.subject]),
  value: member.value,
  mac,
});
