/** How far the sinks of the audit log are. */
import type { SinkPositions } from '../audit/sinks/ports.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import { COMMITTED, commitStatement, committedRead } from './transaction.ts';

const NEXT = {
  name: 'sink_next',
  text: `select s.next from ${COMMITTED} left join public.audit_sink s on s.name = $1`,
};

const BEGIN = `insert into public.audit_sink (name, next) values ($1, $2)
  on conflict do nothing returning next`;

const ADVANCE = `update public.audit_sink set next = $3, changed_at = clock_timestamp()
  where name = $1 and next = $2 returning next`;

/** A committed read: what an old primary says was delivered, the new one may not know. */
export const createSinkStore = (pool: GuardedPool): SinkPositions => ({
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
  }),
});
