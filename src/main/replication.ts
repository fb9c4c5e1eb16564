/**
 * Whether an acknowledged commit is on a standby too: read before anything is served, and again every few
 * seconds, since a manager that is not strict gives its standbys up when they are gone.
 *
 * PostgreSQL shows whether its commits wait (`synchronous_standby_names`), not whether its manager would
 * ever end that: strictness is the manager's setting, and seen here by its never ending.
 */
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import type { ReadinessCheck } from '../http/dependencies.ts';
import { readReplication } from '../store/replication.ts';
import type { Replication } from '../store/replication.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';
import { whenReachable } from './patience.ts';
import type { Unwinding } from './unwinding.ts';

const LOOK_MS = 5_000;
/** Of `synchronous_commit`: the standby has flushed it. */
const FLUSHED: readonly string[] = ['on', 'remote_apply'];

/** One stable word; `unread`: only a standby has answered so far. */
export type ReplicationState = 'synchronous' | 'asynchronous' | 'not-durable' | 'unread';

export function stateOf({ primary, ...seen }: Replication): ReplicationState {
  if (!primary) return 'unread';
  if (!seen.fsync) return 'not-durable';
  const waits = seen.standbyNames !== '' && FLUSHED.includes(seen.synchronousCommit);
  return waits ? 'synchronous' : 'asynchronous';
}

/** What is wrong, for an operator; null where commits wait for a standby, or nobody knows. */
export function complaintOf(seen: Replication): string | null {
  switch (stateOf(seen)) {
    case 'synchronous':
    case 'unread':
      return null;
    case 'not-durable':
      return 'The database runs with fsync = off: what it acknowledges is lost with its power.';
    case 'asynchronous':
      return (
        'No commit of the database waits for a standby (synchronous_standby_names is ' +
        `"${seen.standbyNames}", synchronous_commit is ${seen.synchronousCommit}): what it ` +
        'acknowledges is lost with the zone of the primary. Set synchronous_mode and ' +
        'synchronous_mode_strict (Patroni), or synchronous with dataDurability required (CloudNativePG).'
      );
  }
}

export const isRequired = ({ database: { replication }, zone }: Config): boolean =>
  (replication ?? (zone.others.length > 0 ? 'required' : 'reported')) === 'required';

export class ReplicationWatch {
  readonly #required: boolean;
  readonly #several: boolean;
  readonly #log: Log;
  #state: ReplicationState = 'unread';

  constructor(config: Config, log: Log) {
    this.#required = isRequired(config);
    this.#several = config.zone.others.length > 0;
    this.#log = log;
  }

  get check(): ReadinessCheck {
    const ready = !this.#required || this.#state === 'synchronous';
    return { name: 'replication', ready, state: this.#state };
  }

  /** @throws TwofoldError conflict where it is required, and is not there */
  begin(seen: Replication): void {
    const complaint = complaintOf(seen);
    if (complaint !== null && this.#required) throw new TwofoldError('conflict', complaint);
    this.see(seen);
  }

  /** What a standby says changes nothing: a proxy may lead to one for a moment. */
  see(seen: Replication): void {
    const state = stateOf(seen);
    if (state === 'unread' || state === this.#state) return;
    this.#state = state;
    const { standbyNames, synchronousStandbys } = seen;
    const facts = { state, required: this.#required, standbyNames, synchronousStandbys };
    if (state === 'synchronous') this.#log.info(facts, 'commits wait for a standby');
    else if (this.#required) this.#log.error(facts, complaintOf(seen) ?? state);
    else if (this.#several) this.#log.warn(facts, complaintOf(seen) ?? state);
    else this.#log.info(facts, 'commits wait for no standby');
  }
}

/**
 * Looks until unwound.
 * @throws TwofoldError conflict where replication is required, and is not synchronous
 */
export async function watchReplication(
  config: Config,
  store: Pick<Store, 'pool'>,
  log: Log,
  unwinding: Unwinding,
): Promise<ReplicationWatch> {
  const watch = new ReplicationWatch(config, log);
  watch.begin(await whenReachable(() => readReplication(store.pool), unwinding));
  const look = (): void => {
    // What does not answer is the database's own check.
    readReplication(store.pool).then(
      (seen) => watch.see(seen),
      () => undefined,
    );
  };
  const timer = setInterval(look, LOOK_MS).unref();
  unwinding.add('look at the replication', () => clearInterval(timer));
  return watch;
}
