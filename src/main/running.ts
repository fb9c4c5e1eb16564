/** What a start has found, for whoever announces it. */
import type { HsmStatus } from '../hsm/port.ts';

export interface RunningService {
  /** Where the main listener answers. */
  readonly url: string;
  /** Null without a listener of its own for `/v1/admin`. */
  readonly adminUrl: string | null;
  readonly metricsUrl: string | null;
  readonly suites: readonly SuiteStatus[];
  readonly hsm: HsmStatus;
  /** Known answers that passed. */
  readonly selfTests: number;
  readonly instance: string;
}

/** Whether this token can serve a suite; `reason` is null where it can. */
export interface SuiteStatus {
  readonly id: string;
  readonly reason: string | null;
}

/** Told once what keeps a start waiting. */
export type OnWaiting = (status: HsmStatus) => void;
