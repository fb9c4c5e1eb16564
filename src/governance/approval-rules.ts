/**
 * Approval rules: which requests of a namespace take the consent of how many others.
 *
 * A rule can be weakened only under its own approval: whoever would have to consent to what it guards
 * has to consent to its end. And where there is a rule, what decides whose consent counts is guarded too.
 */
import type { Grant } from '../access/grant.ts';
import { DECIDING_CONSENT, GUARD_NAMES, guardsOf, isGuardName } from '../contract/guards.ts';
import type { Guard, GuardName } from '../contract/guards.ts';
import { TwofoldError } from '../errors.ts';
import type { Json, JsonObject } from '../keyring/set-ports.ts';
import type { Approver } from '../keyring/approval-ports.ts';
import { SealedSet, requireMatch } from './sealed-set.ts';
import type {
  Member,
  PastMember,
  SealedSetParts,
  SetDone,
  SetKind,
  SetRun,
  SetView,
} from './sealed-set.ts';
import { readInteger, readText, readTexts } from './stored-json.ts';

const DAY_MS = 86_400_000;
/** How long a request waits unless the rule says otherwise, and at most. */
export const DEFAULT_EXPIRY_MS = 7 * DAY_MS;
export const MAX_EXPIRY_MS = 30 * DAY_MS;
const HOUR_MS = 3_600_000;
const MAX_RULES = 100;
const MAX_NEEDED = 20;
const MAX_APPROVERS = 100;
const PAST_AT_ONCE = 500;

/** A principal as rules name it. */
export interface Named {
  readonly issuer: string;
  readonly subject: string;
}

export interface ApprovalRule {
  readonly guards: readonly GuardName[];
  /** Distinct principals beside the requester. */
  readonly needed: number;
  /** Those of any of the roles, and those that are named; null: whoever may decide on approvals. */
  readonly approvers: {
    readonly roles: readonly string[];
    readonly principals: readonly Named[];
  } | null;
  /** How long a request waits. */
  readonly expiryMs: number;
}

type ReadGrant = Grant<'approvals.read'>;
type ConfigureGrant = Grant<'approvals.configure'>;

const RULE: SetKind<ApprovalRule> = {
  kind: 'approval-rule',
  most: MAX_RULES,
  reach: 'namespace',
  toJson: ({ guards, needed, approvers, expiryMs }) => ({
    guards,
    needed,
    approvers: approvers && {
      roles: approvers.roles,
      principals: approvers.principals.map(({ issuer, subject }) => ({ issuer, subject })),
    },
    expiryMs,
  }),
  fromJson: (json) => ({
    guards: readTexts(json, 'guards').map(guardNameFrom),
    needed: readInteger(json, 'needed'),
    approvers: approversFrom(json['approvers']),
    expiryMs: readInteger(json, 'expiryMs'),
  }),
};

const malformed = () =>
  new TwofoldError('integrity_failed', 'A stored approval rule is malformed.');

function guardNameFrom(name: string): GuardName {
  if (isGuardName(name)) return name;
  throw malformed();
}

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function approversFrom(value: Json | undefined): ApprovalRule['approvers'] {
  if (value === null) return null;
  if (!isObject(value)) throw malformed();
  const principals = value['principals'];
  if (!Array.isArray(principals)) throw malformed();
  return {
    roles: readTexts(value, 'roles'),
    principals: (principals as readonly Json[]).map((each) => {
      if (!isObject(each)) throw malformed();
      return { issuer: readText(each, 'issuer'), subject: readText(each, 'subject') };
    }),
  };
}

/** What a request asks approval for. */
export interface Question {
  readonly guards: readonly Guard[];
  /** The rule that it would weaken. */
  readonly rule: string | null;
}

const same = (a: Named, b: Named) => a.issuer === b.issuer && a.subject === b.subject;

/** Whether the rule takes this one's consent. */
export const isEligible = (
  { approvers }: ApprovalRule,
  who: Pick<Approver, 'issuer' | 'subject' | 'roles'>,
) =>
  approvers === null ||
  approvers.roles.some((role) => who.roles.includes(role)) ||
  approvers.principals.some((named) => same(named, who));

/**
 * Whether `after` asks for less than `before` in any respect; null: the rule is gone. Another list of
 * approvers counts as less whichever way it differs: a shorter one keeps out who would have refused,
 * a longer one lets in who would not.
 */
export function isWeaker(before: ApprovalRule, after: ApprovalRule | null): boolean {
  if (after === null) return true;
  const guarded = guardsOf(after.guards);
  const list = ({ approvers }: ApprovalRule) => JSON.stringify(approvers && sorted(approvers));
  return (
    after.needed < before.needed ||
    after.expiryMs > before.expiryMs ||
    [...guardsOf(before.guards)].some((guard) => !guarded.has(guard)) ||
    list(after) !== list(before)
  );
}

const sorted = ({ roles, principals }: NonNullable<ApprovalRule['approvers']>) => [
  roles.toSorted(),
  principals.map(({ issuer, subject }) => JSON.stringify([issuer, subject])).toSorted(),
];

/** @throws TwofoldError invalid_value */
function checkRule({ guards, needed, approvers, expiryMs }: ApprovalRule): void {
  const refuse = (detail: string) => new TwofoldError('invalid_value', detail);
  if (guards.length === 0 || new Set(guards).size !== guards.length) {
    throw refuse(`A rule guards some of ${GUARD_NAMES.join(', ')}, each once.`);
  }
  if (!(needed >= 1 && needed <= MAX_NEEDED)) {
    throw refuse(`A rule needs 1 to ${String(MAX_NEEDED)} approvals.`);
  }
  if (!(expiryMs >= HOUR_MS && expiryMs <= MAX_EXPIRY_MS)) {
    throw refuse('A request waits for an hour to 30 days.');
  }
  if (approvers === null) return;
  const { roles, principals } = approvers;
  if (roles.length + principals.length > MAX_APPROVERS) {
    throw refuse(`A rule names at most ${String(MAX_APPROVERS)} approvers.`);
  }
  const distinct = new Set(
    principals.map(({ issuer, subject }) => JSON.stringify([issuer, subject])),
  );
  if (distinct.size !== principals.length) throw refuse('A rule names each approver once.');
  if (roles.length === 0 && distinct.size < needed) {
    throw refuse('A rule names at least as many approvers as it needs approvals.');
  }
}

/** What can be told of a rule before it is made. */
export interface Foreseen {
  /** Of the principals that it names, those whose consent can count. */
  readonly counting: readonly Named[];
  /** Whether any policy permits anybody to decide on approvals. */
  readonly decidable: boolean;
}

/** How a rule is made beside what it says. */
export interface RuleMaking {
  readonly foresee: (rule: ApprovalRule) => Promise<Foreseen>;
  /** Others have agreed to it, or its author has said that nobody may be able to meet it. */
  readonly confirmed: boolean;
}

/**
 * A rule that nobody can meet would freeze all that it guards, and itself: what can be told to be such is
 * refused, and what cannot be told takes a confirmation.
 * @throws TwofoldError invalid_value, would_lock_out
 */
async function checkMeetable(
  { principal }: ConfigureGrant,
  rule: ApprovalRule,
  { foresee, confirmed }: RuleMaking,
): Promise<void> {
  const { needed, approvers } = rule;
  const { counting, decidable } = await foresee(rule);
  if (!decidable) {
    throw new TwofoldError('invalid_value', 'No policy permits anybody to decide on approvals.');
  }
  if (approvers?.roles.length === 0 && counting.length < needed) {
    throw new TwofoldError(
      'invalid_value',
      'It needs more approvals than it names principals whose issuers count here.',
    );
  }
  const others = counting.filter((named) => !same(named, principal));
  if (confirmed || others.length >= needed) return;
  throw new TwofoldError(
    'would_lock_out',
    `It does not name ${String(needed)} others, so whether so many can consent cannot be told; mayLockOut says that you know.`,
  );
}

export class ApprovalRules {
  readonly #set: SealedSet<ApprovalRule>;
  readonly #since = new WeakMap<SetView<ApprovalRule>, Date | null>();

  constructor(parts: SealedSetParts) {
    this.#set = new SealedSet(parts, RULE);
  }

  /** Of the namespace of the grant, by name. */
  list({ namespace }: ReadGrant): Promise<SetView<ApprovalRule>> {
    return this.#set.of(namespace);
  }

  of(namespace: string): Promise<SetView<ApprovalRule>> {
    return this.#set.of(namespace);
  }

  /** The rules in force that ask for approval, in byte order of their names. */
  async requiredBy(namespace: string, { guards, rule }: Question) {
    const rules = [...(await this.#set.of(namespace)).members.values()];
    const asking = new Set(guards.flatMap((guard) => rulesOn(guard, rules)));
    return rules.filter((each) => each.name === rule || asking.has(each));
  }

  /**
   * Since when the namespace has had a rule at any time; null while it has none. Read from its history,
   * which is as long as rules were changed, each under the approval of others.
   */
  async guardedSince(namespace: string): Promise<Date | null> {
    const view = await this.#set.of(namespace);
    const known = this.#since.get(view);
    if (known !== undefined) return known;
    const since = view.members.size === 0 ? null : sinceOf(await this.#past(namespace));
    this.#since.set(view, since);
    return since;
  }

  /** All that ever was, newest first. */
  async #past(namespace: string): Promise<readonly PastMember<ApprovalRule>[]> {
    const all: PastMember<ApprovalRule>[] = [];
    for (;;) {
      const last = all.at(-1);
      const before = last === undefined ? null : { revision: last.revision, name: last.name };
      const query = { namespace, name: null, before, pageSize: PAST_AT_ONCE };
      const page = await this.#set.history(query);
      all.push(...page);
      if (page.length < PAST_AT_ONCE) return all;
    }
  }

  /** Whether the rule in force would be weakened; not where there is none of that name. */
  async wouldWeaken(namespace: string, name: string, after: ApprovalRule | null): Promise<boolean> {
    const before = (await this.#set.of(namespace)).members.get(name);
    return before !== undefined && isWeaker(before.value, after);
  }

  /** @throws TwofoldError invalid_value, would_lock_out, precondition_required, etag_mismatch, quota_exceeded */
  put(
    grant: ConfigureGrant,
    { name, rule }: { readonly name: string; readonly rule: ApprovalRule },
    run: SetRun<ApprovalRule>,
    making: RuleMaking,
  ): Promise<SetDone<ApprovalRule>> {
    checkRule(rule);
    return this.#set.change(grant, run, async ({ members }) => {
      requireMatch(run, members.get(name) ?? null);
      await checkMeetable(grant, rule, making);
      return { entries: new Map([[name, rule]]), detail: { name, kind: 'put' } };
    });
  }

  /** @throws TwofoldError not_found, precondition_required, etag_mismatch */
  delete(
    grant: ConfigureGrant,
    name: string,
    run: SetRun<ApprovalRule>,
  ): Promise<SetDone<ApprovalRule>> {
    return this.#set.change(grant, run, ({ members }) => {
      const before = members.get(name);
      if (before === undefined) throw new TwofoldError('not_found');
      requireMatch(run, before);
      return { entries: new Map([[name, null]]), detail: { name, kind: 'delete' } };
    });
  }
}

export type StandingRule = Member<ApprovalRule>;

/** Those that name the guard; for what decides whose consent counts, all where none does. */
function rulesOn(guard: Guard, rules: readonly StandingRule[]): readonly StandingRule[] {
  const naming = rules.filter(({ value }) => guardsOf(value.guards).has(guard));
  return naming.length === 0 && DECIDING_CONSENT.has(guard) ? rules : naming;
}

function sinceOf(past: readonly PastMember<ApprovalRule>[]): Date | null {
  const there = new Set<string>();
  let since: Date | null = null;
  for (const { name, value, at } of past.toReversed()) {
    if (there.size === 0) since = at;
    if (value === null) there.delete(name);
    else there.add(name);
  }
  return since;
}

/** How many of the approvers each rule takes, of those that it needs. */
export const tallyOf = (rules: readonly StandingRule[], approvers: readonly Approver[]) =>
  rules.map(({ name, value }) => ({
    rule: name,
    needed: value.needed,
    approved: approvers.filter((each) => isEligible(value, each)).length,
  }));

export const isSatisfied = (tally: ReturnType<typeof tallyOf>): boolean =>
  tally.every(({ needed, approved }) => approved >= needed);
