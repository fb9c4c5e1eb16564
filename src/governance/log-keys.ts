/** The keys of the log's checkpoints, as whoever administers the root namespace sees and rotates them. */
import type { Grant } from '../access/grant.ts';
import type { ListedLogKey, LogKeySet } from '../audit/key-ports.ts';
import { Changes } from '../keyring/changes.ts';
import type { ChangeParts, ChangeSubject, Plan } from '../keyring/changes.ts';
import type { ChangeDone, ChangeRun } from '../keyring/operations.ts';
import { requireRoot } from './namespaces.ts';

export interface LogKeyRotation {
  readonly reason: string;
  /** No key that is trusted can announce the new ones: everyone who verifies has to pin them. */
  readonly lost: boolean;
}

export interface PreparedRotation extends LogKeyRotation {
  /** Those that are made; none in a dry run. */
  readonly keys: readonly ListedLogKey[];
}

/** No key can have the name that is given for none. */
const SUBJECT: ChangeSubject<PreparedRotation> = {
  touched: () => ({ keyId: null, keyName: 'log/', also: [] }),
  facts: ({ keys, reason, lost }) => ({
    ...{ keyRef: null, keyId: null, keyVersion: null, suite: null },
    detail: { reason, lost, keys: keys.map(({ id }) => id).join(' ') },
  }),
  events: () => [],
};

export class LogKeys {
  readonly #set: LogKeySet;
  readonly #changes: Changes<PreparedRotation>;

  constructor(parts: ChangeParts, set: LogKeySet) {
    this.#set = set;
    this.#changes = new Changes(parts, SUBJECT);
  }

  async list(
    grant: Grant<'audit.log'>,
  ): Promise<{ readonly origin: string; readonly keys: readonly ListedLogKey[] }> {
    requireRoot(grant);
    return { origin: this.#set.origin, keys: await this.#set.list() };
  }

  /** @throws TwofoldError conflict when a pair waits already */
  rotate(
    grant: Grant<'audit.keys.rotate'>,
    wanted: LogKeyRotation,
    run: ChangeRun<PreparedRotation>,
  ): Promise<ChangeDone<PreparedRotation>> {
    requireRoot(grant);
    return this.#changes.run(grant, run, async (): Promise<Plan<PreparedRotation>> => {
      const nothing = { change: { ...wanted, keys: [] }, writes: [] };
      if (run.dryRun) return { ...nothing, discard: () => Promise.resolve() };
      const { keys, pair, discard } = await this.#set.next(wanted.lost);
      const change = { ...wanted, keys };
      return { change, writes: [{ kind: 'insert-log-keys', pair }], discard };
    });
  }
}
