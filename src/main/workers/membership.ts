/** What a service that is one of several workers does otherwise than one that is alone. */
import type { Status } from '../../contract/status.ts';
import type { ConnectionSource } from '../../http/listener.ts';
import type { Readiness } from '../../http/dependencies.ts';
import type { Figures, Rendered } from '../../telemetry/metrics.ts';
import type { Begin, ListenerName } from './protocol.ts';

/** What a worker tells of itself. */
export interface OwnFacts {
  readonly instance: string;
  readonly readiness: () => Readiness;
  readonly figures: () => Promise<Figures>;
  readonly status: () => Status;
}

export interface Membership extends Begin {
  /** Connections that the supervisor accepted. */
  source(listener: ListenerName): ConnectionSource;
  /** From now on the supervisor learns and asks these; returns what ends it. */
  share(own: OwnFacts): () => void;
  /** Readiness of the whole: ready where one worker is. */
  readiness(own: Readiness): Readiness;
  /** Whether another worker is ready and this one is not. */
  readonly parting: () => boolean;
  /** Of all workers together. */
  metrics(): Promise<Rendered>;
  status(): Promise<Status>;
}
