/**
 * What a change of policies would do, for its dry run: which keys get another policy, what rotates and
 * closes at once, and how much what closes was used. It looks at so many keys of the namespace and says
 * whether those are all. Rows are not verified: it is information.
 */
import { setImmediate as turn } from 'node:timers/promises';

import { TwofoldError } from '../errors.ts';
import type {
  ClosingKey,
  KeyPolicyEffects,
  PoliciesChange,
  PolicyEffects,
  PolicyPreviews,
  Uses,
} from '../keyring/policy-effects.ts';
import type { RotationPolicy } from '../keyring/rotation-policy.ts';
import { selects, winnerOf, winningPolicy } from '../keyring/selector-policy.ts';
import type { RankedPolicies } from '../keyring/selector-policy.ts';
import { courseOf } from './course.ts';
import { dueActions, nextDue } from './due.ts';
import type { DueAction } from './due.ts';
import { usesAsked } from './next-rotation.ts';
import type { ClosingUses, LightKey, OldestVersions, RotationScan } from './ports.ts';
import { closingOf, supersessionsOf } from './retirement-count.ts';
import { scheduledKey } from './scheduled-key.ts';
import type { ScheduleReads } from './scheduler-ports.ts';

/** Keys that one dry run looks at. */
const MOST_KEYS = 50_000;
/** Versions of which it sums the uses. */
const MOST_VERSIONS = 100_000;
/** Of these in one statement, which has to end before its deadline. */
const VERSIONS_A_STATEMENT = 200;
/** Keys that it names. */
const NAMED = 20;
const RETRY_AFTER = 2;

export interface PolicyEffectParts {
  readonly scan: RotationScan & ClosingUses;
  readonly schedule: Pick<ScheduleReads, 'notices' | 'usesOf'>;
  readonly policies: { of(namespace: string): Promise<RankedPolicies> };
  /** What this instance has counted is in the sums then. */
  readonly flush: () => Promise<void>;
  /** Rotations; null: any number. */
  readonly perMinute: number | null;
  readonly clock: () => Date;
  /** `MOST_KEYS` unless told. */
  readonly mostKeys?: number;
}

export class PolicyEffectPreviews implements PolicyPreviews {
  readonly #parts: PolicyEffectParts;
  #busy = false;

  constructor(parts: PolicyEffectParts) {
    this.#parts = parts;
  }

  async ofPolicies(change: PoliciesChange): Promise<PolicyEffects> {
    if (this.#busy) {
      throw new TwofoldError('rate_limited', 'Another dry run of policies is being made here.', {
        retryAfter: RETRY_AFTER,
      });
    }
    this.#busy = true;
    try {
      return await this.#ofPolicies(change);
    } finally {
      this.#busy = false;
    }
  }

  async #ofPolicies(change: PoliciesChange): Promise<PolicyEffects> {
    const { scan, flush, clock, mostKeys = MOST_KEYS } = this.#parts;
    const fold = new EffectFold(change, clock().getTime());
    const policies = [change.before, change.after].flatMap(({ ranked }) => ranked);
    const asked = usesAsked(policies.map(({ policy }) => policy));
    await flush().catch((cause: unknown) => {
      throw new TwofoldError('database_unavailable', undefined, { cause });
    });
    let [complete, summed] = [true, 0];
    for await (const batch of scan.keys(change.namespace, asked, labelsOf(change))) {
      const closing = new Map<string, Closing>();
      for (const key of batch) {
        if (fold.examined >= mostKeys) {
          complete = false;
          break;
        }
        const found = fold.add(key);
        if (found !== null) closing.set(key.id, found);
      }
      const wanted = [...closing.values()].filter(({ key: { versions } }) => {
        summed += versions;
        return summed <= MOST_VERSIONS;
      });
      const oldest = wanted.map(({ key, skipped }) => ({ ...key, skipped }));
      const uses: Sums = [];
      for (const some of statementsOf(oldest)) uses.push(...(await scan.usesOfOldest(some)));
      if (wanted.length > 0)
        fold.sum(
          wanted.map(({ key }) => key),
          uses,
        );
      if (!complete) break;
      await turn();
    }
    return fold.result(complete, summed <= MOST_VERSIONS, this.#parts.perMinute);
  }

  async ofKey(...[before, after]: Parameters<PolicyPreviews['ofKey']>): Promise<KeyPolicyEffects> {
    const { schedule, policies, clock } = this.#parts;
    const { id, primary, namespace } = before.key;
    const set = await policies.of(namespace);
    const now = clock();
    const uses = primary === null ? 0 : await schedule.usesOf(id, primary);
    const facts = { uses, ran: await schedule.notices(id) };
    const [was, is] = [before, after].map(({ key, versions }) => {
      const policy = winningPolicy(key, set);
      const policyName = winnerOf(key.labels, key.rotation, set)?.name ?? null;
      const scheduled = scheduledKey(key, versions, { ...facts, policyName });
      return {
        due: dueActions(scheduled, policy, now),
        nextAt: nextDue(scheduled, policy, now),
      };
    });
    const rotation = (due: readonly DueAction[] = []) => due.find(isRotation) ?? null;
    const rotates = rotation(was?.due) === null ? rotation(is?.due) : null;
    const closed = closingsIn(was?.due ?? []).map(({ version }) => version);
    return {
      rotates: rotates && { cause: rotates.cause, suite: rotates.suite },
      holds: rotation(was?.due) !== null && rotation(is?.due) === null,
      closes: closingsIn(is?.due ?? []).filter(({ version }) => !closed.includes(version)),
      nextAt: is?.nextAt ?? null,
    };
  }
}

const isRotation = (action: DueAction) => action.kind === 'rotate';

/** Retirements that are due, or due to be announced. */
function closingsIn(due: readonly DueAction[]): KeyPolicyEffects['closes'] {
  return due.flatMap((action): KeyPolicyEffects['closes'] => {
    if (action.kind === 'retire') {
      return [{ version: action.version, at: action.dueAt, announced: false }];
    }
    if (action.kind !== 'notice' || action.of !== 'retirement') return [];
    return [{ version: action.version, at: action.for, announced: true }];
  });
}

/** What all keys that the change is about have: of the policy before, and as it will be. */
function labelsOf({ name, before, after }: PoliciesChange): Readonly<Record<string, string>> {
  const [a, b] = [before, after].map(({ ranked }) => ranked.find((each) => each.name === name));
  const [one, other] = [a ?? b, b ?? a];
  const pairs = (one?.pairs ?? []).filter(([label, value]) => other?.selector[label] === value);
  return Object.fromEntries(pairs);
}

/** Versions to close, with the moment of the first; those that the policy would announce are not due yet. */
interface Due {
  readonly rotates: boolean;
  readonly closes: number;
  readonly announced: boolean;
  readonly at: number;
}

/** What a change closes of a key: all but the oldest so many, which close in any case. */
interface Closing {
  readonly key: ClosingKey;
  readonly skipped: number;
}

type Sums = Awaited<ReturnType<ClosingUses['usesOfOldest']>>[number][];

/** The versions of these keys in parts of at most `most`; one key may be in several. */
export function statementsOf(
  keys: readonly OldestVersions[],
  most = VERSIONS_A_STATEMENT,
): readonly (readonly OldestVersions[])[] {
  const statements: OldestVersions[][] = [];
  let [current, left]: [OldestVersions[], number] = [[], 0];
  for (const { keyId, skipped, versions } of keys) {
    for (let done = 0; done < versions;) {
      if (left === 0) {
        [current, left] = [[], most];
        statements.push(current);
      }
      const some = Math.min(left, versions - done);
      current.push({ keyId, skipped: skipped + done, versions: some });
      done += some;
      left -= some;
    }
  }
  return statements;
}

const NO_USES: Uses = { uses: 0, lastAt: null };
const NOTHING: Due = { rotates: false, closes: 0, announced: false, at: Infinity };

/** What is due of a key at once under a policy, the rotation and what that pushes out included. */
function dueOf(key: LightKey, policy: RotationPolicy | null, now: number): Due {
  if (key.suspended || (key.primary === null && key.next === null)) return NOTHING;
  const { planned, activatedAt } = courseOf(key, policy, now);
  const rotates = planned !== null && planned.dueAt <= now;
  const isThere = key.primary !== null;
  const superseded = isThere
    ? supersessionsOf(key, policy, activatedAt !== null && activatedAt <= now ? activatedAt : null)
    : null;
  if (superseded === null) return { ...NOTHING, rotates };
  if (rotates) superseded.times.push(now);
  let [closes, at] = [0, Infinity];
  for (; closes < superseded.times.length; closes += 1) {
    const closing = closingOf(superseded, closes, now);
    if (closing.announcedAt > now) break;
    at = Math.min(at, closing.at);
  }
  return { rotates, closes, announced: superseded.notice !== null, at };
}

const added = (a: Uses, b: Uses): Uses => ({
  uses: a.uses + b.uses,
  lastAt: a.lastAt === null || (b.lastAt !== null && b.lastAt > a.lastAt) ? b.lastAt : a.lastAt,
});

const lastOf = ({ protect, process }: ClosingKey): number =>
  Math.max(protect.lastAt?.getTime() ?? 0, process.lastAt?.getTime() ?? 0);

class EffectFold {
  readonly #change: PoliciesChange;
  readonly #now: number;
  /** The policy that is changed, as it will be, or as it was where it is dropped. */
  readonly #named: RankedPolicies['ranked'][number] | null;
  readonly #isDropped: boolean;
  readonly #moved = new Map<string, PolicyEffects['moved'][number]>();
  #recent: readonly ClosingKey[] = [];
  #counts = { selected: 0, governed: 0, atOnce: 0, held: 0, closing: 0, announced: 0, keys: 0 };
  #uses = { protect: NO_USES, process: NO_USES };
  #from = Infinity;
  examined = 0;

  constructor(change: PoliciesChange, now: number) {
    const { before, after, name } = change;
    const named = (set: RankedPolicies) => set.ranked.find((each) => each.name === name) ?? null;
    this.#change = change;
    this.#now = now;
    this.#isDropped = named(after) === null;
    this.#named = named(after) ?? named(before);
  }

  /** What of the key would be closed; null where the change closes nothing of it. */
  add(key: LightKey): Closing | null {
    const { before, after, name } = this.#change;
    const counts = this.#counts;
    this.examined += 1;
    const [was, is] = [before, after].map((set) => winnerOf(key.labels, key.rotation, set));
    const governing = this.#isDropped && name !== null ? was : is;
    if (governing && (name === null || governing.name === name)) counts.governed += 1;
    if (name === null || (this.#named && selects(this.#named, key.labels))) counts.selected += 1;
    if (was?.name !== is?.name) this.#move(was?.name ?? null, is?.name ?? null);
    if (was?.policy === is?.policy && before.paused === after.paused) return null;
    return this.#due(key);
  }

  #move(from: string | null, to: string | null): void {
    const place = JSON.stringify([from, to]);
    this.#moved.set(place, { from, to, keys: (this.#moved.get(place)?.keys ?? 0) + 1 });
  }

  #due(key: LightKey): Closing | null {
    const { before, after } = this.#change;
    const primary = key.rotationHold?.primary ?? null;
    const [was = NOTHING, is = NOTHING] = [before, after].map((set) =>
      dueOf(key, winningPolicy({ ...key, primary }, set), this.#now),
    );
    const counts = this.#counts;
    if (is.rotates && !was.rotates) counts.atOnce += 1;
    if (was.rotates && !is.rotates) counts.held += 1;
    // What closes sooner than it would have counts among what the change closes.
    const isSooner = Math.max(is.at, this.#now) < Math.max(was.at, this.#now);
    const skipped = isSooner ? 0 : was.closes;
    const more = is.closes - skipped;
    if (more <= 0) return null;
    counts.keys += 1;
    if (is.announced) {
      counts.announced += more;
      this.#from = Math.min(this.#from, is.at);
    } else counts.closing += more;
    const { id: keyId, name } = key;
    return { key: { keyId, name, versions: more, protect: NO_USES, process: NO_USES }, skipped };
  }

  /** @param found sums over the versions of these keys that close */
  sum(keys: readonly ClosingKey[], found: Awaited<ReturnType<ClosingUses['usesOfOldest']>>): void {
    const by = new Map(keys.map((key) => [key.keyId, key]));
    for (const { keyId, usage, uses, lastAt } of found) {
      const key = by.get(keyId);
      const more = { uses, lastAt };
      if (key !== undefined) by.set(keyId, { ...key, [usage]: added(key[usage], more) });
      this.#uses = { ...this.#uses, [usage]: added(this.#uses[usage], more) };
    }
    this.#recent = [...this.#recent, ...by.values()]
      .sort((a, b) => lastOf(b) - lastOf(a))
      .slice(0, NAMED);
  }

  result(complete: boolean, summed: boolean, perMinute: number | null): PolicyEffects {
    const { selected, governed, atOnce, held, closing, announced, keys } = this.#counts;
    return {
      keys: { examined: this.examined, complete, selected, governed },
      moved: [...this.#moved.values()],
      rotations: { atOnce, held, minutes: perMinute === null ? 0 : Math.ceil(atOnce / perMinute) },
      retirements: {
        atOnce: closing,
        announced,
        from: this.#from === Infinity ? null : new Date(this.#from),
        keys,
        ...this.#uses,
        summed,
        recent: this.#recent,
      },
    };
  }
}
