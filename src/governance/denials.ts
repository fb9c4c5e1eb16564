/**
 * Credentials that are worth nothing although they verify: by token, by subject, by issuer or by
 * certificate. Denials of the root namespace hold in all; those of another in it alone.
 *
 * Nobody can deny themselves: so there is always somebody left who may take a denial back.
 */
import { createHash } from 'node:crypto';

import type { CredentialFacts } from '../access/trust.ts';
import type { Grant, Principal } from '../access/grant.ts';
import { TwofoldError } from '../errors.ts';
import { checkReason } from '../keyring/names.ts';
import type { JsonObject } from '../keyring/set-ports.ts';
import { ROOT_NAMESPACE } from './namespaces.ts';
import { RootedSet } from './rooted-set.ts';
import { requireMatch } from './sealed-set.ts';
import type { Member, SealedSetParts, SetDone, SetRun, SetView } from './sealed-set.ts';
import { readText, readTimeOrNull } from './stored-json.ts';

const MAX_DENIALS = 10_000;
/** Denials that ended this long ago are taken away with the next change, ms. */
const KEPT_AFTER_END = 86_400_000;
/** How far a clock of ours may be behind that of who names a time, ms. */
const CLOCK_TOLERANCE = 60_000;

/** What is denied: exactly one of these. */
export type DenialTarget =
  | { readonly kind: 'token'; readonly tokenId: string }
  | { readonly kind: 'subject'; readonly issuer: string; readonly subject: string }
  | { readonly kind: 'issuer'; readonly issuer: string }
  /** SHA-256, lower-case hex. */
  | { readonly kind: 'certificate'; readonly fingerprint: string }
  /** Lower-case hex without leading zeros; of whichever authority of the issuer. */
  | { readonly kind: 'serial'; readonly issuer: string; readonly serial: string };

export interface Denial {
  readonly target: DenialTarget;
  readonly reason: string;
  /** Null: until it is taken away. */
  readonly expiresAt: Date | null;
  /** Of a subject or an issuer, only what was issued before this, or does not say when; null: all of it. */
  readonly issuedBefore: Date | null;
}

/** One for each kind of target, in which it is written in the rows. */
const FIELDS: Readonly<Record<DenialTarget['kind'], readonly string[]>> = {
  token: ['tokenId'],
  subject: ['issuer', 'subject'],
  issuer: ['issuer'],
  certificate: ['fingerprint'],
  serial: ['issuer', 'serial'],
};

const fieldsOf = (target: DenialTarget): readonly string[] =>
  FIELDS[target.kind].map((field) => String((target as Readonly<Record<string, string>>)[field]));

const slotOf = (target: DenialTarget): string => JSON.stringify([target.kind, ...fieldsOf(target)]);

/** The same for the same target, so that nothing is denied twice. */
export const denialName = (target: DenialTarget): string =>
  createHash('sha256').update(slotOf(target)).digest('hex').slice(0, 32);

function targetFrom(json: JsonObject): DenialTarget {
  const kind = readText(json, 'kind');
  if (!Object.hasOwn(FIELDS, kind)) throw new TwofoldError('integrity_failed');
  const fields = FIELDS[kind as DenialTarget['kind']].map((field) => [
    field,
    readText(json, field),
  ]);
  return { kind, ...Object.fromEntries(fields) } as DenialTarget;
}

const DENIAL = {
  kind: 'denial',
  most: MAX_DENIALS,
  toJson: ({ target, reason, expiresAt, issuedBefore }: Denial): JsonObject => ({
    ...target,
    reason,
    expiresAt: expiresAt?.toISOString() ?? null,
    issuedBefore: issuedBefore?.toISOString() ?? null,
  }),
  fromJson: (json: JsonObject): Denial => ({
    target: targetFrom(json),
    reason: readText(json, 'reason'),
    expiresAt: readTimeOrNull(json, 'expiresAt'),
    issuedBefore: readTimeOrNull(json, 'issuedBefore'),
  }),
};

type ChangeGrant = Grant<'denials.change'>;
type Index = ReadonlyMap<string, Denial>;

export class Denials {
  readonly #sets: RootedSet<Denial>;
  readonly #clock: () => Date;
  readonly #indexes = new WeakMap<SetView<Denial>, Index>();

  constructor(parts: SealedSetParts) {
    this.#sets = new RootedSet(parts, DENIAL);
    this.#clock = parts.clock;
  }

  /** Of the grant's namespace, those that have ended among them. */
  list({ namespace }: Grant<'denials.read'> | ChangeGrant): Promise<SetView<Denial>> {
    return this.#sets.in(namespace).of(namespace);
  }

  /** Whether it denies more than the namespace's own set does, and nothing less: in time, and in what is older. */
  async deniesMore(namespace: string, denial: Denial): Promise<boolean> {
    const { members } = await this.#sets.in(namespace).of(namespace);
    const before = members.get(denialName(denial.target))?.value;
    if (before === undefined || hasEnded(before, this.#clock())) return true;
    const [were, are] = [reachOf(before), reachOf(denial)];
    return are.every((at, n) => at >= (were[n] ?? 0)) && are.some((at, n) => at > (were[n] ?? 0));
  }

  /**
   * Denies, or says anew how long and why.
   * @throws TwofoldError would_lock_out for who asks; invalid_value, quota_exceeded
   */
  add(grant: ChangeGrant, denial: Denial, run: SetRun<Denial>): Promise<SetDone<Denial>> {
    checkReason(denial.reason);
    this.#checkTimes(denial);
    checkAuthor(grant.principal, denial);
    const { target, reason } = denial;
    return this.#sets.in(grant.namespace).change(grant, run, ({ members }) => ({
      entries: new Map<string, Denial | null>([
        ...this.#ended(members),
        [denialName(target), denial],
      ]),
      detail: { kind: 'deny', of: target.kind, denial: denialName(target), reason },
    }));
  }

  /** @throws TwofoldError not_found, etag_mismatch */
  remove(grant: ChangeGrant, name: string, run: SetRun<Denial>): Promise<SetDone<Denial>> {
    return this.#sets.in(grant.namespace).change(grant, run, ({ members }) => {
      const before = members.get(name);
      if (before === undefined) throw new TwofoldError('not_found');
      if (run.ifMatch !== null) requireMatch(run, before);
      const { kind: of } = before.value.target;
      return { entries: new Map([[name, null]]), detail: { kind: 'admit', of, denial: name } };
    });
  }

  /** Whether the root or the namespace denies it, now. @throws TwofoldError integrity_failed */
  async denies(namespace: string, facts: CredentialFacts): Promise<boolean> {
    const places = new Set([ROOT_NAMESPACE, namespace]);
    for (const place of places) {
      const sets = this.#sets.in(place);
      const view = sets.known(place) ?? (await sets.of(place));
      if (view.members.size > 0 && this.#isIn(view, facts)) return true;
    }
    return false;
  }

  #isIn(view: SetView<Denial>, facts: CredentialFacts): boolean {
    const index = this.#indexes.get(view) ?? indexOf(view);
    this.#indexes.set(view, index);
    const now = this.#clock();
    return targetsOf(facts).some((target) => {
      const denial = index.get(slotOf(target));
      return denial !== undefined && holds(denial, facts, now);
    });
  }

  #checkTimes({ target, expiresAt, issuedBefore }: Denial): void {
    const now = this.#clock().getTime();
    if (expiresAt !== null && expiresAt.getTime() <= now) {
      throw new TwofoldError('invalid_value', 'expiresAt is a time to come.');
    }
    if (issuedBefore === null) return;
    if (target.kind !== 'subject' && target.kind !== 'issuer') {
      throw new TwofoldError('invalid_value', 'issuedBefore is for a subject or an issuer.');
    }
    if (issuedBefore.getTime() > now + CLOCK_TOLERANCE) {
      throw new TwofoldError('invalid_value', 'issuedBefore is a time that has been.');
    }
  }

  #ended(members: SetView<Denial>['members']): readonly (readonly [string, null])[] {
    const last = this.#clock().getTime() - KEPT_AFTER_END;
    return [...members.values()]
      .filter(({ value }) => value.expiresAt !== null && value.expiresAt.getTime() < last)
      .map(({ name }) => [name, null]);
  }
}

const indexOf = ({ members }: SetView<Denial>): Index =>
  new Map([...members.values()].map(({ value }: Member<Denial>) => [slotOf(value.target), value]));

function targetsOf(facts: CredentialFacts): readonly DenialTarget[] {
  const { issuer, subject, tokenId, certificate } = facts;
  return [
    { kind: 'subject', issuer, subject },
    { kind: 'issuer', issuer },
    ...(tokenId === null ? [] : [{ kind: 'token', tokenId } as const]),
    ...(certificate === null
      ? []
      : [
          { kind: 'certificate', fingerprint: certificate.fingerprint } as const,
          { kind: 'serial', issuer, serial: certificate.serial } as const,
        ]),
  ];
}

const hasEnded = ({ expiresAt }: Pick<Denial, 'expiresAt'>, now: Date): boolean =>
  expiresAt !== null && now >= expiresAt;

/** Until when it holds, and for what was issued until when: ms. */
const reachOf = ({ expiresAt, issuedBefore }: Denial): readonly number[] =>
  [expiresAt, issuedBefore].map((time) => time?.getTime() ?? Infinity);

function holds(denial: Denial, { issuedAt }: CredentialFacts, now: Date) {
  const { issuedBefore } = denial;
  if (hasEnded(denial, now)) return false;
  return issuedBefore === null || issuedAt === null || issuedAt < issuedBefore;
}

/**
 * Whoever denies is never among those denied. A new credential of the same issuer gets its author in
 * where only older ones are denied.
 * @throws TwofoldError would_lock_out
 */
function checkAuthor({ issuer, subject, session }: Principal, { target, issuedBefore }: Denial) {
  if (issuedBefore !== null) return;
  const own = {
    token: () => false,
    subject: () => 'subject' in target && target.issuer === issuer && target.subject === subject,
    issuer: () => 'issuer' in target && target.issuer === issuer,
    certificate: () => 'fingerprint' in target && isSession(session, target.fingerprint),
    serial: () => false,
  }[target.kind]();
  if (own) throw new TwofoldError('would_lock_out', 'It would deny who asks for it.');
}

const isSession = (session: Uint8Array | null, fingerprint: string): boolean =>
  session !== null && fingerprint.startsWith(Buffer.from(session).toString('hex'));
