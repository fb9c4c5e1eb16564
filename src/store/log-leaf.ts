/** Leaves of entries whose rows are in cold storage: those that went are in whole tiles. */
import { HASH_BYTES } from '../audit/tree/hashes.ts';
import { TILE_WIDTH } from '../audit/tree/tiles.ts';

/** An expression in SQL; null for an entry that has no index, or none in a full tile. */
export const leafInLog = (lane: string, n: string): string =>
  `(select substring(t.hashes from (${HASH_BYTES} * (r.index % ${TILE_WIDTH}) + 1)::integer for ${HASH_BYTES})
    from (select first + ${n} - from_n as index, from_n + count as until from public.log_run
      where lane = ${lane} and from_n <= ${n} order by from_n desc limit 1) r
    join public.log_tile t on t.level = 0 and t.index = r.index / ${TILE_WIDTH}
    where ${n} < r.until)`;
