/** One command at a time in the installation, for steps on a token that no commit can compare. */
import { TwofoldError } from '../errors.ts';
import type { GuardedPool } from './pool.ts';

/** Of `hsm generation add`: what one places another would take for what a killed run left. */
export const ADD_GENERATION = 7_431;

/**
 * Holds the lock of the session for as long as `work` takes. A connection that is lost, or one to an old primary,
 * holds nobody: what cannot be undone is judged again right before it.
 * @throws TwofoldError conflict while another command holds it
 */
export async function alone<T>(
  pool: GuardedPool,
  lock: number,
  work: () => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  try {
    const { rows } = await client.query<{ held: boolean }>(
      'select pg_try_advisory_lock($1) as held',
      [lock],
    );
    if (rows[0]?.held !== true) {
      throw new TwofoldError(
        'conflict',
        'The same command runs elsewhere: run it again afterwards.',
      );
    }
    return await work();
  } finally {
    const isFree = await client.query('select pg_advisory_unlock_all()').then(
      () => true,
      () => false,
    );
    // Where it could not be given back it ends with the session.
    client.release(!isFree);
  }
}
