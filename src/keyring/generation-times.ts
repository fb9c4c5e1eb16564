/**
 * What making the material of one version took in this process, by suite: time of the HSM apart from
 * that of this process's processors, which make the post-quantum half. Means, since sums are asked for.
 */
import type { Suite } from '../crypto/suite.ts';

/** Milliseconds of one version. */
export interface GenerationTime {
  readonly hsmMs: number;
  readonly cpuMs: number;
}

export interface MeasuredGeneration extends GenerationTime {
  /** Of how many versions these are the means. */
  readonly versions: number;
}

export interface GenerationMeasures {
  /**
   * Of the versions that were made here; of trials where none was yet. Null where nothing is known and
   * none may be tried: RSA keys take a token too long, keys that live on it alone would be written to it.
   */
  measured(suite: Suite): Promise<MeasuredGeneration | null>;
}

/** Bounded by the table of suites. */
export class GenerationTimes {
  readonly #sums = new Map<number, MeasuredGeneration>();

  record(suite: number, { hsmMs, cpuMs }: GenerationTime): void {
    const sum = this.#sums.get(suite) ?? { versions: 0, hsmMs: 0, cpuMs: 0 };
    this.#sums.set(suite, {
      versions: sum.versions + 1,
      hsmMs: sum.hsmMs + hsmMs,
      cpuMs: sum.cpuMs + cpuMs,
    });
  }

  /** Means; null where none was recorded. */
  of(suite: number): MeasuredGeneration | null {
    const sum = this.#sums.get(suite);
    if (sum === undefined) return null;
    const { versions, hsmMs, cpuMs } = sum;
    return { versions, hsmMs: hsmMs / versions, cpuMs: cpuMs / versions };
  }
}
