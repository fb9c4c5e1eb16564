/**
 * Whether an acknowledged commit is on a standby too: read before anything is served, and again every few
 * seconds, since a manager that is not strict gives its standbys up when they are gone.
 *
 * PostgreSQL shows whether its commits wait (`synchronous_standby_names`), not whether its manager would
 * ever end that: strictness is the manager's setting. Patroni tells it where `database.managers` names its
 * addresses; else it is seen by its never ending.
 */
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import type { ReadinessCheck } from '../http/dependencies.ts';
import { readReplication } from '../store/replication.ts';
import type { Replication } from '../store/replication.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';
import { askManagers } from './manager.ts';
import type { Strictness } from './manager.ts';
import { whenReachable } from './patience.ts';
import type { Unwinding } from './unwinding.ts';

const LOOK_MS = 5_000;
/** Every so many looks the managers are asked too: theirs is a setting that people change. */
const LOOKS_A_QUESTION = 6;
/** Of `synchronous_commit`: the standby has flushed it. */
const FLUSHED: readonly string[] = ['on', 'remote_apply'];

/**
 * One stable word. `strict`, `not-strict`: commits wait now, and the manager says whether they would also
 * without a standby; `synchronous`: nobody says; `unread`: only a standby has answered so far.
 */
export type ReplicationState =
  'strict' | 'synchronous' | 'not-strict' | 'asynchronous' | 'not-durable' | 'unread';

/** Those in which what is acknowledged outlives the zone of the primary, as far as anybody says. */
const WAITING: ReadonlySet<ReplicationState> = new Set(['strict', 'synchronous']);

export function stateOf(
  { primary, ...seen }: Replication,
  strictness: Strictness = 'unknown',
): ReplicationState {
  if (!primary) return 'unread';
  if (!seen.fsync) return 'not-durable';
  const waits = seen.standbyNames !== '' && FLUSHED.includes(seen.synchronousCommit);
  if (!waits) return 'asynchronous';
  return strictness === 'unknown' ? 'synchronous' : strictness;
}

/** Whether a state is as it has to be where replication is required. */
export const isWaiting = (state: ReplicationState): boolean => WAITING.has(state);

/** What is wrong, for an operator; null where commits wait for a standby, or nobody knows. */
export function complaintOf(seen: Replication, strictness: Strictness = 'unknown'): string | null {
  switch (stateOf(seen, strictness)) {
    case 'strict':
    case 'synchronous':
    case 'unread':
      return null;
    case 'not-strict':
      return (
        'The manager of the database is not strict: once no standby is left, commits wait for nobody, ' +
        'and what is acknowledged then is lost with the zone of the primary. Set synchronous_mode_strict ' +
        '(patronictl edit-config).'
      );
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
  #strictness: Strictness = 'unknown';

  constructor(config: Config, log: Log) {
    this.#required = isRequired(config);
    this.#several = config.zone.others.length > 0;
    this.#log = log;
  }

  get check(): ReadinessCheck {
    const ready = !this.#required || isWaiting(this.#state);
    return { name: 'replication', ready, state: this.#state };
  }

  /** @throws TwofoldError conflict where it is required, and is not there */
  begin(seen: Replication, strictness: Strictness = 'unknown'): void {
    const complaint = complaintOf(seen, strictness);
    if (complaint !== null && this.#required) throw new TwofoldError('conflict', complaint);
    this.see(seen, strictness);
  }

  /**
   * What a standby says changes nothing: a proxy may lead to one for a moment. Nor does a manager that
   * says nothing: its settings are what they were.
   */
  see(seen: Replication, strictness: Strictness = 'unknown'): void {
    if (strictness !== 'unknown') this.#strictness = strictness;
    const state = stateOf(seen, this.#strictness);
    if (state === 'unread' || state === this.#state) return;
    this.#state = state;
    const { standbyNames, synchronousStandbys } = seen;
    const facts = { state, required: this.#required, standbyNames, synchronousStandbys };
    const complaint = complaintOf(seen, this.#strictness);
    if (complaint === null) this.#log.info(facts, WAITS[state === 'strict' ? 'strict' : 'waiting']);
    else if (this.#required) this.#log.error(facts, complaint);
    else if (this.#several) this.#log.warn(facts, complaint);
    else this.#log.info(facts, 'commits wait for no standby');
  }
}

const WAITS = {
  strict: 'commits wait for a standby, and the manager keeps it so without one',
  waiting: 'commits wait for a standby; whether the manager keeps it so without one is not known',
} as const;

export interface LookParts {
  readonly read: () => Promise<Replication>;
  readonly ask: () => Promise<Strictness>;
  readonly watch: Pick<ReplicationWatch, 'see' | 'check'>;
}

/**
 * Looks at the database, of which one at a time is under way, so that none tells what was before another. The
 * managers are asked beside them, however long they take; what they said goes with the look that ends next.
 */
export class ReplicationLooks {
  readonly #parts: LookParts;
  #looks = 0;
  #looking: Promise<void> | null = null;
  #asking: Promise<void> | null = null;
  #strictness: Strictness = 'unknown';

  constructor(parts: LookParts) {
    this.#parts = parts;
  }

  /** Every so often. Never rejects. @returns when that look has ended, and the managers have answered if asked */
  async begin(): Promise<void> {
    this.#looks += 1;
    const due =
      this.#looks % LOOKS_A_QUESTION === 0 || this.#parts.watch.check.state === 'not-strict';
    if (due) {
      this.#asking ??= this.#ask().finally(() => {
        this.#asking = null;
      });
    }
    await Promise.all([this.#look(), due ? this.#asking : null]);
  }

  #look(): Promise<void> {
    this.#looking ??= this.#see().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  async #see(): Promise<void> {
    // What does not answer is the database's own check.
    const seen = await this.#parts.read().catch(() => null);
    if (seen === null) return;
    this.#parts.watch.see(seen, this.#strictness);
    this.#strictness = 'unknown';
  }

  async #ask(): Promise<void> {
    this.#strictness = await this.#parts.ask();
    await this.#look();
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
  const [seen, strictness] = await Promise.all([
    whenReachable(() => readReplication(store.pool), unwinding),
    askManagers(config.database),
  ]);
  watch.begin(seen, strictness);
  const looks = new ReplicationLooks({
    read: () => readReplication(store.pool),
    ask: () => askManagers(config.database),
    watch,
  });
  const timer = setInterval(() => void looks.begin(), LOOK_MS).unref();
  unwinding.add('look at the replication', () => clearInterval(timer));
  return watch;
}
