/**
 * Does what is due, one key after another, in the one instance that leads.
 *
 * What makes each action happen once is its own primary key (`scheduled_run`), written in the
 * transaction that does it, together with a beat of the leader's term: a scheduler that was paused
 * between reading and writing, or two at once, have one effect. A key whose look fails is looked at
 * again later and stops no other; why it failed stands beside it.
 */
import { randomUUID } from 'node:crypto';
import type { Grant, Operation, Principal } from '../access/grant.ts';
import type { Authorizer } from '../access/ports.ts';
import { TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { actInUse } from '../keyring/in-use.ts';
import type { NamespacesInUse } from '../keyring/in-use.ts';
import type { ChangeRun, KeyRead, KeyView } from '../keyring/operations.ts';
import type { KeyWrite } from '../keyring/ports.ts';
import type { RotationPolicy } from '../keyring/rotation-policy.ts';
import { GCM_ROTATION } from '../keyring/usage.ts';
import { winnerOf, winningPolicy } from '../keyring/selector-policy.ts';
import type { Act } from './acts.ts';
import { BringForward } from './bring-forward.ts';
import { Budget, Line } from './budget.ts';
import { dueActions, dueSince, identityOf, nextDue } from './due.ts';
import type { DueAction } from './due.ts';
import type { Leader } from '../leader.ts';
import type { OrderRunner } from './orders.ts';
import { failureOf, UNREACHABLE, waitAfter } from './retry.ts';
import { isDatedAhead } from './next-rotation.ts';
import { rotationFacts, scheduledKey } from './scheduled-key.ts';
import type { ScheduledKey } from './scheduled-key.ts';
import type { Look, Looked, NamespacePolicies, SchedulerStore } from './scheduler-ports.ts';
import { untilFresh } from './until-fresh.ts';

/** Keys taken up at a time. */
const PAGE = 100;
/** Keys of which it is remembered that a look met a conflict. */
const CONFLICTS_KEPT = 10_000;
/** Notices and retirements for each rotation of the budget: they make no key, but each is a change. */
const LESSER = 10;
/** Looks of one tick: what comes at once, such as every key after a change of policies, is spread. */
const LOOKS_A_TICK = 400;
/** Actions on one key in one look; more are left to the next. */
const ACTIONS_A_LOOK = 32;
/** Longest rest between two keys. */
const REST_MS = 250;
/** Longest time in a tick without a beat; far below what makes a leader silent. */
const BEAT_MS = 2_000;
const DAY_MS = 86_400_000;
/** What clocks may differ by. */
const CLOCKS_DIFFER_MS = 60_000;

export interface SchedulerOptions {
  readonly role: string;
  /** Instance id. */
  readonly instance: string;
  readonly principal: Principal;
  /** Rotations a minute. */
  readonly perMinute: number;
  /** Keys a tick that the daily round asks to be looked at; 0: no round. */
  readonly roundKeys: number;
}

export interface SchedulerParts {
  readonly store: SchedulerStore;
  readonly leader: Leader;
  readonly authorizer: Pick<Authorizer, 'authorize'>;
  readonly read: Pick<KeyRead, 'fresh'>;
  readonly policies: NamespacePolicies;
  readonly namespaces: NamespacesInUse;
  readonly act: Act;
  /** Runs in each tick of the leader before it looks for what is due. */
  readonly prepare?: () => Promise<void>;
  /** Carries out orders, with the budget that what is due has too. */
  readonly orders?: Pick<OrderRunner, 'run'>;
  readonly clock: () => Date;
  /** By the clock of the database; null where it does not say. What has not come by both is not done. */
  readonly wallClock: () => Promise<Date | null>;
  /**
   * Waits between two keys, so that what is due leaves the device, the database and this process to
   * those who wait for answers for half of the time at least. None: no rest.
   */
  readonly rest?: (ms: number) => Promise<void>;
  /** Told of what could not be done, and of nothing else. */
  readonly onFailure: (keyId: string, error: unknown) => void;
}

/** What one tick did. */
export interface Ticked {
  readonly leads: boolean;
  readonly looks: number;
  readonly actions: number;
  readonly failures: number;
  /** Keys of orders that were taken up. */
  readonly ordered: number;
}

const EARLY =
  "It is due by this server's clock, which is ahead of the database's: not before both.";

/** When a key of a suspended namespace is looked at again: so long a resumed one may wait. */
const HELD_MS = 600_000;

/** What was read of the key may not stand any more, either. */
const ENDS_A_LOOK: ReadonlySet<ErrorCode> = new Set([
  ...UNREACHABLE,
  'conflict',
  'etag_mismatch',
  'namespace_suspended',
]);

type Outcome =
  | { readonly kind: 'done'; readonly found: Looked; readonly actions: number }
  | { readonly kind: 'again' };

export class Scheduler {
  readonly #parts: SchedulerParts;
  readonly #options: SchedulerOptions;
  readonly #rotations: Line;
  readonly #lesser: Line;
  readonly #forward: BringForward;
  /** Marks of keys whose last look met a conflict. */
  readonly #conflicts = new Map<string, number>();
  #round: { readonly began: number; readonly after: string | null; readonly over: boolean } | null =
    null;
  /** Of the marked keys the last one that was taken up: the others have their turn before it has another. */
  #lastMarked: string | null = null;
  /** By how much this clock is ahead of the database's, beyond what clocks may differ by, ms. */
  #aheadMs = 0;
  /** Of rotations that cannot be halved, orders begin with every other one: 1 when it is their turn. */
  #turn = 0;
  #stopped = false;

  constructor(parts: SchedulerParts, options: SchedulerOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#rotations = new Line(new Budget(options.perMinute));
    this.#forward = new BringForward(parts.store, this.#rotations.budget);
    this.#lesser = new Line(new Budget(options.perMinute * LESSER));
  }

  /** Ends the tick under way after the key that it is at. */
  stop(): void {
    this.#stopped = true;
  }

  /**
   * Looks at every key whose time has come. Rejects where the database does not answer; then nothing
   * is lost but time.
   */
  async tick(): Promise<Ticked> {
    const term = await this.#parts.leader.tick();
    const none = { leads: false, looks: 0, actions: 0, failures: 0, ordered: 0 };
    if (term === null) return none;
    const theirs = await this.#parts.wallClock();
    const ahead = theirs === null ? 0 : this.#parts.clock().getTime() - theirs.getTime();
    this.#aheadMs = Math.max(0, ahead - CLOCKS_DIFFER_MS);
    await this.#goRound();
    await this.#parts.prepare?.();
    const first = await this.#carryOut(term, this.#halfOfBudget());
    // Lost under a key: what it did now would fail, one key after the other, at their commits.
    if (this.#parts.leader.term !== term) return { ...none, ordered: first };
    const done = await this.#lookAtDue(term);
    if (!done.leads || this.#stopped) return { ...done, ordered: first };
    const ordered = first + (await this.#carryOut(term, Infinity));
    await this.#forward.run(this.#parts.clock());
    return { ...done, ordered };
  }

  /** Neither orders nor policies keep the other from the budget: orders begin with half of what is left. */
  #halfOfBudget(): number {
    const left = this.#rotations.budget.left(this.#parts.clock().getTime());
    const half = Math.floor((left + this.#turn) / 2);
    if (left % 2 === 1) this.#turn = 1 - this.#turn;
    return half;
  }

  async #carryOut(term: number, most: number): Promise<number> {
    const { leader, orders } = this.#parts;
    const taken = await orders?.run({
      term,
      most,
      budget: this.#rotations.budget,
      isStopped: () => this.#stopped,
      leads: async () => (await leader.tick()) === term,
      beatDuring: (work) => leader.beatDuring(term, work),
    });
    return taken ?? 0;
  }

  async #lookAtDue(term: number): Promise<Ticked> {
    const done = { leads: true, looks: 0, actions: 0, failures: 0, ordered: 0 };
    const seen = new Set<string>();
    let beatAt = performance.now();
    for (;;) {
      const due = await this.#parts.store.due(this.#parts.clock(), PAGE, this.#lastMarked);
      this.#lastMarked = due.findLast(({ marked }) => marked)?.keyId ?? this.#lastMarked;
      const looks = due.filter(({ keyId }) => !seen.has(keyId));
      for (const look of looks) {
        if (this.#stopped) return done;
        seen.add(look.keyId);
        const began = performance.now();
        const outcome = await this.#look(look, term);
        await this.#rest(outcome, performance.now() - began);
        done.looks += 1;
        if (outcome.kind === 'again' || performance.now() - beatAt > BEAT_MS) {
          // A long tick beats too, and a leader whose term was taken finds it out before it goes on.
          if ((await this.#parts.leader.tick()) !== term) return { ...done, leads: false };
          beatAt = performance.now();
        }
        if (outcome.kind === 'again') continue;
        done.actions += outcome.actions;
        if (outcome.found.failure !== null) done.failures += 1;
      }
      if (looks.length === 0 || done.looks >= LOOKS_A_TICK) return done;
    }
  }

  /** As long as the look took, and after a rotation until the next one may be. */
  async #rest(outcome: Outcome, tookMs: number): Promise<void> {
    const acted = outcome.kind === 'done' && outcome.actions > 0;
    const restMs = Math.max(tookMs, acted ? this.#rotations.budget.apartMs - tookMs : 0);
    await this.#parts.rest?.(Math.min(restMs, REST_MS));
  }

  /** Once a day each key is looked at, whatever the list of times says of it. */
  async #goRound(): Promise<void> {
    const { roundKeys } = this.#options;
    if (roundKeys === 0) return;
    const now = this.#parts.clock().getTime();
    const since = this.#round === null ? DAY_MS : now - this.#round.began;
    // A clock that was set back has left looks at times that it had reached: those keys wait for a round.
    if (this.#round === null || (this.#round.over && (since >= DAY_MS || since < 0))) {
      this.#round = { began: now, after: null, over: false };
    }
    if (this.#round.over) return;
    const after = await this.#parts.store.markAfter(this.#round.after, roundKeys);
    this.#round = { ...this.#round, after, over: after === null };
  }

  async #look(look: Look, term: number): Promise<Outcome> {
    try {
      const held = !(await this.#parts.namespaces.isInUse(look.namespace));
      const outcome = held ? this.#held() : await this.#do(look, term);
      if (outcome.kind === 'done') await this.#parts.store.looked(look, outcome.found);
      return outcome;
    } catch (error) {
      const failure = TwofoldError.from(error);
      const { code } = failure;
      if (UNREACHABLE.has(code)) throw error;
      // Suspended meanwhile: the next look finds it held.
      if (code === 'namespace_suspended') return { kind: 'again' };
      // Somebody else changed the key meanwhile, or leads by now: the next look sees what stands.
      if ((code === 'conflict' || code === 'etag_mismatch') && this.#overtaken(look)) {
        return { kind: 'again' };
      }
      this.#parts.onFailure(look.keyId, error);
      const at = this.#parts.clock();
      const nextAt = new Date(at.getTime() + waitAfter(look.failures));
      const found = { nextAt, maxUses: null, dueAt: null, failure: failureOf(failure, at, null) };
      await this.#parts.store.looked(look, found);
      return { kind: 'done', found, actions: 0 };
    }
  }

  /** Of a key whose namespace is suspended: it is looked at again, and nothing of it is a failure. */
  #held(): Outcome {
    const nextAt = new Date(this.#parts.clock().getTime() + HELD_MS);
    return {
      kind: 'done',
      found: { nextAt, maxUses: null, dueAt: null, failure: null },
      actions: 0,
    };
  }

  /** Whether nothing but another change explains it: twice without one, it is a failure like any other. */
  #overtaken({ keyId, marks }: Look): boolean {
    const before = this.#conflicts.get(keyId);
    this.#conflicts.delete(keyId);
    if (before === marks) return false;
    if (this.#conflicts.size < CONFLICTS_KEPT) this.#conflicts.set(keyId, marks);
    return true;
  }

  /**
   * What fails, or waits for its turn, stands in the way of nothing else of the key: neither now
   * nor later, since the next look is when the first of the rest is due.
   */
  async #do(look: Look, term: number): Promise<Outcome> {
    const failed = new Map<string, TwofoldError | null>();
    let waitUntil: Date | null = null;
    for (let actions = 0; ;) {
      const { view, key, policy, policySet } = await this.#read(look);
      const now = this.#parts.clock();
      const due = dueActions(key, policy, now);
      const action = due.find((each) => !failed.has(kindOf(each)));
      for (const line of [this.#rotations, this.#lesser]) {
        if (!due.some((each) => this.#lineOf(each) === line)) line.leave(look.keyId);
      }
      if (action === undefined || actions + failed.size >= ACTIONS_A_LOOK) {
        const rest = nextDue(key, policy, now, (each) => !failed.has(kindOf(each)));
        const first = [...failed].find(([, error]) => error !== null);
        const [what = null, failure = null] = first ?? datedAhead(key, policy, now);
        if (failure !== null) this.#parts.onFailure(look.keyId, failure);
        const again = first === undefined ? null : later(now, waitAfter(look.failures));
        // What is overdue and was not tried waits with what failed.
        const onTime = first === undefined || (rest !== null && rest > now) ? rest : null;
        const nextAt = earliest([waitUntil, again, onTime].filter((time) => time !== null));
        const found: Looked = {
          nextAt,
          maxUses: watched(key, policy),
          dueAt: failure === null ? earliest(due.map(dueSince)) : null,
          failure: failure && failureOf(failure, now, what),
        };
        return { kind: 'done', found, actions };
      }
      if (this.#isEarly(action, now)) {
        failed.set(kindOf(action), new TwofoldError('conflict', EARLY));
        continue;
      }
      const line = this.#lineOf(action);
      if (line !== null && !line.budget.take(now.getTime())) {
        waitUntil = earliest([waitUntil, line.turnOf(look.keyId, now.getTime())]);
        failed.set(kindOf(action), null);
        continue;
      }
      try {
        await this.#run(view, action, { term, policySet });
        line?.leave(look.keyId);
        actions += 1;
      } catch (error) {
        const failure = TwofoldError.from(error);
        if (ENDS_A_LOOK.has(failure.code) && !this.#isStuck(look, action, failure)) throw error;
        failed.set(kindOf(action), failure);
        if (action.kind !== 'rotate' || failure.code !== 'suite_unavailable_here') continue;
        // A suite that cannot be had is no reason to stay with an old key: it stays visible as the failure.
        const inItsSuite = rotationWithoutUpgrade(key, policy, now);
        if (inItsSuite === undefined) continue;
        await this.#run(view, inItsSuite, { term, policySet });
        actions += 1;
      }
    }
  }

  /** A notice that meets a conflict again, on a key that nobody changed, keeps nothing else from being done. */
  #isStuck({ keyId, marks }: Look, { kind }: DueAction, { code }: TwofoldError): boolean {
    return kind === 'notice' && code === 'conflict' && this.#conflicts.get(keyId) === marks;
  }

  /** Whether it is due by this clock alone; of a destruction the database itself says so. */
  #isEarly(action: DueAction, now: Date): boolean {
    if (action.kind === 'destroy-key' || action.kind === 'destroy-version') return false;
    const since = dueSince(action);
    return since !== null && since.getTime() > now.getTime() - this.#aheadMs;
  }

  /** Whose budget it is of; null for what an operator set in advance, which comes in its time. */
  #lineOf({ kind }: DueAction): Line | null {
    if (kind === 'rotate') return this.#rotations;
    return kind === 'notice' || kind === 'retire' ? this.#lesser : null;
  }

  async #read({ namespace, keyId }: Look) {
    const { authorizer, read, policies, store } = this.#parts;
    const { principal } = this.#options;
    const grant = authorizer.authorize(principal, 'keys.read', { namespace, key: keyId });
    const view = await read.fresh(grant);
    const { primary } = view.key;
    const set = await policies.of(namespace);
    const policy = winningPolicy(view.key, set);
    const policyName = winnerOf(view.key.labels, view.key.rotation, set)?.name ?? null;
    // The set says too whether the namespace is paused, which holds for a key's own policy as well.
    const policySet = set.revision;
    const uses = primary === null ? 0 : await store.usesOf(keyId, primary);
    const ran = policy === null || policy.notice === null ? [] : await store.notices(keyId);
    return {
      view,
      policy,
      policySet,
      key: scheduledKey(view.key, view.versions, { uses, ran, policyName }),
    };
  }

  async #run({ key }: KeyView, action: DueAction, { term, policySet }: Standing): Promise<void> {
    const { act, authorizer, clock } = this.#parts;
    const { role, instance, principal } = this.#options;
    const resource = { namespace: key.namespace, key: key.id };
    const grant = <O extends Operation>(operation: O): Grant<O> =>
      authorizer.authorize(principal, operation, resource);
    const ended = Promise.withResolvers<undefined>();
    const run: ChangeRun = {
      dryRun: false,
      requestId: randomUUID(),
      ended: ended.promise,
      source: principal.subject,
      ifMatch: key.revision,
      idempotency: null,
      render: () => ({ status: 200, body: '' }),
      alongside: [
        { kind: 'hold-leadership', role, term, holder: instance },
        ...requirePolicySet(key.namespace, action, policySet),
        {
          kind: 'insert-run',
          keyId: key.id,
          policyRevision: 'policyRevision' in action ? action.policyRevision : 0,
          action: identityOf(action),
          dueAt: action.dueAt,
          cause: 'cause' in action ? action.cause : null,
          version: 'version' in action ? action.version : key.latestVersion + 1,
          doneAt: clock(),
          term,
        },
      ],
    };
    try {
      const { leader, namespaces } = this.#parts;
      // The device may take minutes for a key.
      await leader.beatDuring(term, () =>
        untilFresh(() =>
          actInUse(
            namespaces,
            key.namespace,
            () => grant('keys.read'),
            () => act(grant, action, run),
          ),
        ),
      );
    } finally {
      ended.resolve(undefined);
    }
  }
}

/** What an act stands on beside the key: the term, and the policies of the namespace. */
interface Standing {
  readonly term: number;
  readonly policySet: number;
}

/** An action that a policy asked for is refused once those of the namespace, or its pause, have changed. */
function requirePolicySet(
  namespace: string,
  action: DueAction,
  policySet: number,
): readonly KeyWrite[] {
  if (!('policyRevision' in action)) return [];
  return [{ kind: 'require-policy-set', namespace, revision: policySet }];
}

const earliest = (times: readonly (Date | null)[]): Date | null =>
  times.reduce(
    (first, time) => (first === null || (time !== null && time < first) ? time : first),
    null,
  );

/** Shown as any failure, once a day at least; what is due in time is done beside it. */
function datedAhead(
  key: ScheduledKey,
  policy: RotationPolicy | null,
  now: Date,
): readonly [] | readonly [string, TwofoldError] {
  const facts = rotationFacts(key);
  if (facts.primary === null || !isDatedAhead(facts, policy, now.getTime())) return [];
  const at = new Date(facts.primary.activatedAt).toISOString();
  const detail = `Its last rotation is dated ${at}, later than now: a clock ran ahead. It is due by age no sooner; rotate it by hand.`;
  return ['rotate', new TwofoldError('conflict', detail)];
}

/** The rotation that would be due if the policy asked for no other suite; undefined where none is. */
const rotationWithoutUpgrade = (key: ScheduledKey, policy: RotationPolicy | null, now: Date) =>
  dueActions(key, policy && { ...policy, upgrade: null }, now).find(
    ({ kind }) => kind === 'rotate',
  );

const later = (time: Date, ms: number): Date => new Date(time.getTime() + ms);

/** Names an action whatever the revision of its key is. */
const kindOf = (action: DueAction): string =>
  action.kind === 'notice' || action.kind === 'rotate' || action.kind === 'destroy-key'
    ? action.kind
    : `${action.kind}/${String(action.version)}`;

/** At how many uses the key is to be looked at, whatever the time. */
function watched(key: ScheduledKey, policy: RotationPolicy | null): number | null {
  const allowed = policy?.paused === null ? policy.maxUses : null;
  if (allowed === null) return null;
  // At a count that is there already nothing new is seen: the limit of AES-GCM has its own mark.
  return key.uses < allowed ? allowed : GCM_ROTATION;
}
