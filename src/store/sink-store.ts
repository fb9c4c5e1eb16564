/** How far the sinks of the audit log are. */
import type { SinkPositions } from '../audit/sinks/ports.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import { COMMITTED, commitStatement, committedRead, committing, read } from './transaction.ts';

/** Nobody has so many; whoever writes to the database could. */
const MOST_SINKS = 256;

const NEXT = committing({
  name: 'sink_next',
  text: `select s.next from ${COMMITTED} left join public.audit_sink s on s.name = $1`,
});

const ALL = {
  name: 'sinks',
  text: `select name, next, extract(epoch from clock_timestamp() - changed_at) * 1000 as quiet
    from public.audit_sink order by next, name limit ${String(MOST_SINKS)}`,
};

/** Not before what was marked as archived since it was asked: the rows of that go. */
const BEGIN = `insert into public.audit_sink (name, next)
  select $1::text, $2::bigint from public.log_archive where until <= $2::bigint
  on conflict do nothing returning next`;

const ADVANCE = `update public.audit_sink set next = $3, changed_at = clock_timestamp()
  where name = $1 and next = $2 returning next`;

/** A committed read: what an old primary says was delivered, the new one may not know. */
export const createSinkStore = (pool: GuardedPool): SinkPositions => ({
  all: async () => {
    const found = () => pool.query<Record<'name' | 'next' | 'quiet', string>>(ALL);
    const { rows } = await read(found).catch(refuse);
    return rows.map(({ name, next, quiet }) => ({
      ...{ name, next: Number(next), quietMs: Number(quiet) },
    }));
  },

  position: (sink) => ({
    next: async () => {
      const [row] = await committedRead<{ next: string | null }>(pool, NEXT, [sink]).catch(refuse);
      const next = row?.next ?? null;
      return next === null ? null : Number(next);
    },

    advance: async (from, to) => {
      const { rows } = await (
        from === null
          ? commitStatement(pool, BEGIN, [sink, to])
          : commitStatement(pool, ADVANCE, [sink, from, to])
      ).catch(refuse);
      return rows.length === 1;
    },

    stay: async (at) => {
      await commitStatement(pool, ADVANCE, [sink, at, at]).catch(refuse);
    },
  }),
});
