/** Lanes as they are stored, in pages. */
import type { LaneReader, LaneState } from '../audit/log-ports.ts';
import { refuse } from './failures.ts';
import type { lane } from './generated/client.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGates } from './read-gate.ts';
import { read } from './transaction.ts';

type Row = Pick<lane, 'id' | 'instance' | 'kind' | 'closed'> & { readonly next: string };

const PAGE = `select id, instance, kind, closed, next from public.lane
  where id > $1 order by id limit $2`;

const laneOf = ({ id, instance, kind, closed, next }: Row): LaneState => ({
  lane: id,
  kind: kind === 'use' ? 'use' : 'change',
  instance,
  closed,
  next: Number(next),
});

export const createLaneReader = (pool: GuardedPool, { lookups }: ReadGates): LaneReader => ({
  lanes: async (after, limit) => {
    const { rows } = await lookups.run(() =>
      read(() => pool.query<Row>(PAGE, [after, limit])).catch(refuse),
    );
    return rows.map(laneOf);
  },
});
