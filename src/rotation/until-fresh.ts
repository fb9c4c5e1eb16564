/** Begins again, from the grant, what an unrelated change overtook. */
import { StaleAnswer } from '../audit/ports.ts';
import { TwofoldError } from '../errors.ts';

/** How often an act is begun again that other changes overtook. */
const ATTEMPTS = 5;

/** @throws TwofoldError conflict when changes kept overtaking it */
export async function untilFresh<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof StaleAnswer)) throw error;
      if (attempt === ATTEMPTS) throw new TwofoldError('conflict', undefined, { cause: error });
    }
  }
}
