/**
 * One known answer per algorithm, for start-up self-tests (FIPS 140-3 conditional algorithm
 * self-tests) and for the probe of an HSM.
 */
import type { Engine } from './engine.ts';

export interface KnownAnswerResult {
  readonly algorithm: string;
  readonly passed: boolean;
  /** What threw, for the log. */
  readonly cause?: unknown;
}

/** Runs every known answer; a process with one that did not pass must not serve. */
export async function runKnownAnswers(_engine: Engine): Promise<readonly KnownAnswerResult[]> {
  throw new Error('not built yet');
}
