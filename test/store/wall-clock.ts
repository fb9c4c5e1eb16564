/** The time by which a database judges destructions, where a test does not live by the real one. */
import type { TestDatabase } from './database.ts';
import { withOwner } from './owner.ts';

/**
 * As the owner alone may.
 * @param time milliseconds since the epoch; Infinity where the servers' clocks are to decide
 */
export const setWallClock = async (database: TestDatabase, time: number): Promise<void> => {
  const literal = time === Infinity ? 'infinity' : new Date(time).toISOString();
  await withOwner(database, (owner) =>
    owner.query(`create or replace function public.wall_clock() returns timestamptz
      language sql volatile as $$ select timestamptz '${literal}' $$`),
  );
};
