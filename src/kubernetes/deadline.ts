/** A call of the API server waits 3 s; what is not there before that is refused in time to be heard. */
import { TwofoldError } from '../errors.ts';

const late = () => new TwofoldError('deadline_exceeded', 'The service did not answer in time.');

/**
 * What `work` gives, unless it takes longer than `milliseconds`; what it gives later is handed to `drop`.
 * @throws TwofoldError deadline_exceeded
 */
export async function within<T>(
  milliseconds: number,
  work: (signal: AbortSignal) => Promise<T>,
  drop: (late: T) => void = () => undefined,
): Promise<T> {
  if (milliseconds <= 0) throw late();
  const giving = new AbortController();
  const { promise: over, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    reject(late());
    giving.abort(late());
  }, milliseconds);
  const working = work(giving.signal);
  try {
    return await Promise.race([working, over]);
  } catch (error) {
    // Whether it failed or goes on: nobody takes what it gives.
    void working.then(drop, () => undefined);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
