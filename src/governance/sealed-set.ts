/**
 * A kind of what governs access, as a set under one seal in each namespace.
 *
 * The seal's revision rises with each change, and is the revision of the members that were changed; so
 * revisions never come again, also not for a member of a name that was deleted. What each revision
 * changed is kept for ever. A namespace that never had a member of a kind has no seal of it.
 *
 * Changes run as those of keys do (`keyring/changes.ts`), and every answer of the namespace stands on
 * what they change (promise P5).
 */
import { createHash } from 'node:crypto';

import { BoundedCache } from '../access/bounded-cache.ts';
import type { Grant, Operation } from '../access/grant.ts';
import { encodeCbor } from '../crypto/cbor.ts';
import { nameOfSetChange } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { Changes, plainPlan } from '../keyring/changes.ts';
import type { ChangeParts, ChangeSubject, Plan } from '../keyring/changes.ts';
import type { ChangeEvent } from '../keyring/events.ts';
import type { ChangeDone, ChangeRun } from '../keyring/operations.ts';
import type { KeyWrite } from '../keyring/ports.ts';
import type { HistoryQuery, JsonObject, SetMember, SetStore } from '../keyring/set-ports.ts';
import { altered, attestMember, attestSeal, hashOfHashes, hashOfMember } from './set-mac.ts';
import { verifyHistory, verifySet } from './set-mac.ts';
import { ViewCache, byBytes, continued } from './set-views.ts';
import type { Member, RowProof, SetView, VerifiedSet } from './set-views.ts';

export type { Member, SetView } from './set-views.ts';

/** Namespaces of which the newest revision is remembered. */
const REMEMBERED = 20_000;

/** What a kind is. */
export interface SetKind<T> {
  /** In the rows, for ever. */
  readonly kind: string;
  /** Members of one namespace. */
  readonly most: number;
  /** Whose answers stand on a change of the set. */
  readonly reach: 'namespace' | 'installation' | OneKey;
  /** What followers are told of a change; nothing unless told. */
  readonly events?: (change: PreparedSetChange<T>) => readonly ChangeEvent[];
  readonly toJson: (value: T) => JsonObject;
  /** @throws TwofoldError integrity_failed for what it never wrote */
  readonly fromJson: (json: JsonObject, name: string) => T;
}

/** A key with all names by which requests know it. */
export interface OneKey {
  readonly keyId: string;
  readonly keyName: string;
  readonly also: readonly string[];
}

/** What a revision made of a member; `value` is null where it took the member away. */
export interface PastMember<T> extends Omit<Member<T>, 'value'> {
  readonly value: T | null;
}

/** Of one member; null where it is not there before or after. */
export interface MemberChange<T> {
  readonly name: string;
  readonly before: Member<T> | null;
  readonly after: Member<T> | null;
}

export interface PreparedSetChange<T> {
  /** Revision of the set after it. */
  readonly revision: number;
  readonly changes: readonly MemberChange<T>[];
  readonly detail: AuditDetail;
}

type AuditDetail = Readonly<Record<string, string | number | boolean | null>>;

export type SetRun<T> = ChangeRun<PreparedSetChange<T>>;
export type SetDone<T> = ChangeDone<PreparedSetChange<T>>;

/** What a change wants: a value for each name, null to take it away. */
export interface SetEdit<T> {
  readonly entries: ReadonlyMap<string, T | null>;
  readonly detail: AuditDetail;
  /** Further rows of the same transaction. */
  readonly writes?: readonly KeyWrite[];
}

export interface SealedSetParts extends ChangeParts {
  readonly sets: SetStore;
  readonly clock: () => Date;
}

export class SealedSet<T> {
  readonly #parts: SealedSetParts;
  readonly #kind: SetKind<T>;
  readonly #changes: Changes<PreparedSetChange<T>>;
  #cache: ViewCache<T> | undefined;
  /** The newest revision that was verified, by namespace: what stands in the database never goes below it. */
  readonly #least = new BoundedCache<string, number>(REMEMBERED);
  /** Of the views that this set gave out. */
  readonly #proofs = new WeakMap<SetView<T>, ReadonlyMap<string, RowProof>>();

  constructor(parts: SealedSetParts, kind: SetKind<T>) {
    this.#parts = parts;
    this.#kind = kind;
    this.#changes = new Changes(parts, subjectOf(kind));
  }

  /** As this instance knows it; a change of another one is learnt with the epoch. */
  async of(namespace: string): Promise<SetView<T>> {
    this.#cache ??= new ViewCache(this.#parts.epoch, this.#kind.kind);
    return (await this.#cache.get(namespace, () => this.#read(namespace))).view;
  }

  /** What `of` would answer at once; undefined where it would have to read. */
  known(namespace: string): SetView<T> | undefined {
    return this.#cache?.known(namespace)?.view;
  }

  /** @throws TwofoldError integrity_failed, database_unavailable */
  async read(namespace: string): Promise<SetView<T>> {
    return (await this.#read(namespace)).view;
  }

  async #read(namespace: string): Promise<VerifiedSet<T>> {
    const what = JSON.stringify([this.#kind.kind, namespace]);
    // Known before it reads: what is read at the same time may be newer, and is no reproach to this one.
    const least = this.#least.get(namespace) ?? 0;
    const set = await this.#parts.integrity.over(what, async () => {
      const read = (await this.#readOn(namespace)) ?? (await this.#readWhole(namespace));
      if (read.view.revision < least) throw altered(this.#kind.kind, namespace);
      return read;
    });
    const { revision } = set.view;
    if (revision > (this.#least.get(namespace) ?? 0)) this.#least.set(namespace, revision);
    this.#proofs.set(set.view, set.proofs);
    return set;
  }

  /** From what was verified last; null where there is nothing, or the rows do not go on from there. */
  async #readOn(namespace: string): Promise<VerifiedSet<T> | null> {
    const known = this.#cache?.last(namespace);
    if (known === undefined || known.view.revision === 0) return null;
    const { sets, epoch, mac } = this.#parts;
    const { kind, fromJson } = this.#kind;
    const since = await sets.since(kind, namespace, epoch.current, known.view.revision);
    return continued(mac, known, since, (row) => present(row, fromJson));
  }

  async #readWhole(namespace: string): Promise<VerifiedSet<T>> {
    const { sets, epoch, mac } = this.#parts;
    const { kind, fromJson } = this.#kind;
    const stored = await sets.set(kind, namespace, epoch.current);
    const hashes = await verifySet(mac, kind, namespace, stored);
    const revision = stored.seal?.value.revision ?? 0;
    const members = stored.members.map(({ value }) => present(value, fromJson));
    const proofs = stored.members.map(
      ({ value, digest }, n) => [value.name, { hash: hashes[n] ?? digest, digest }] as const,
    );
    const view = { revision, members: new Map(members.map((member) => [member.name, member])) };
    return { view, proofs: new Map(proofs) };
  }

  /** Newest first. @throws TwofoldError integrity_failed */
  async history(query: Omit<HistoryQuery, 'kind'>): Promise<readonly PastMember<T>[]> {
    const { kind, fromJson } = this.#kind;
    const rows = await this.#parts.sets.history({ ...query, kind });
    await this.#verify(query.namespace, rows);
    return rows.map(({ value }) => past(value, fromJson));
  }

  /** The members as they stood at a revision. @throws TwofoldError integrity_failed */
  async at(namespace: string, revision: number): Promise<SetView<T>> {
    const { kind, fromJson } = this.#kind;
    const rows = await this.#parts.sets.membersAt(kind, namespace, revision);
    await this.#verify(namespace, rows);
    const members = rows.map(({ value }) => present(value, fromJson));
    return { revision, members: new Map(members.map((member) => [member.name, member])) };
  }

  /**
   * Runs a change of the set of the grant's namespace, or of `namespace`; `next` sees the set as it is.
   * What stays as it was keeps its revision; where nothing changes, nothing is written.
   * @throws TwofoldError what `next` throws, quota_exceeded
   */
  change(
    grant: Grant<Operation>,
    run: SetRun<T>,
    next: (view: SetView<T>) => SetEdit<T> | Promise<SetEdit<T>>,
    namespace = grant.namespace,
  ): Promise<SetDone<T>> {
    return this.#changes.run(grant, run, async () => {
      const view = await this.read(namespace);
      return this.#plan(grant, namespace, view, await next(view));
    });
  }

  /**
   * The writes of a change that another one takes along in its transaction.
   * @throws TwofoldError quota_exceeded
   */
  async writes(
    grant: Grant<Operation>,
    namespace: string,
    view: SetView<T>,
    entries: SetEdit<T>['entries'],
  ): Promise<readonly KeyWrite[]> {
    return (await this.#plan(grant, namespace, view, { entries, detail: {} })).writes;
  }

  #verify(namespace: string, rows: Parameters<typeof verifyHistory>[3]): Promise<void> {
    const { mac, integrity } = this.#parts;
    const { kind } = this.#kind;
    const what = JSON.stringify([kind, namespace, 'history']);
    return integrity.over(what, () => verifyHistory(mac, kind, namespace, rows));
  }

  async #plan(
    grant: Grant<Operation>,
    namespace: string,
    view: SetView<T>,
    { entries, detail, writes = [] }: SetEdit<T>,
  ): Promise<Plan<PreparedSetChange<T>>> {
    const { mac } = this.#parts;
    const { kind, most } = this.#kind;
    const changes = this.#changesOf(grant, view, entries);
    if (changes.length === 0) {
      return plainPlan({ revision: view.revision, changes, detail }, writes);
    }
    const members = membersAfter(view, changes);
    if (members.length > most) {
      const detail = `A namespace has at most ${String(most)} members of the ${kind} set.`;
      throw new TwofoldError('quota_exceeded', detail);
    }
    const row = (member: PastMember<T>) => this.#row(namespace, member);
    const proofs = this.#proofs.get(view);
    // Members that stay are those that were verified, and need no canonical form again.
    const hashOf = (member: Member<T>) =>
      (view.members.get(member.name) === member ? proofs?.get(member.name)?.hash : undefined) ??
      hashOfMember(row(member));
    const revision = view.revision + 1;
    const author = authorOf(grant);
    const at = this.#parts.clock();
    const written = await Promise.all(
      changes.map(({ name, after }) =>
        attestMember(mac, row(after ?? { name, revision, at, by: author, value: null })),
      ),
    );
    const hash = hashOfHashes(members.map(hashOf));
    const seal = await attestSeal(mac, { kind, namespace, revision, hash });
    const said = { ...detail, setRevision: revision, changed: this.#digest(changes) };
    return plainPlan({ revision, changes, detail: said }, [
      ...writes,
      ...written.map((each) => ({ kind: 'put-member', row: each }) as const),
      { kind: 'put-seal', row: seal, expected: view.revision },
    ]);
  }

  /** What differs, in byte order of the names. */
  #changesOf(
    grant: Grant<Operation>,
    view: SetView<T>,
    entries: SetEdit<T>['entries'],
  ): readonly MemberChange<T>[] {
    const { toJson } = this.#kind;
    const form = (value: T | null) => Buffer.from(encodeCbor(value && toJson(value)));
    const [revision, at, by] = [view.revision + 1, this.#parts.clock(), authorOf(grant)];
    return [...entries]
      .sort(([a], [b]) => byBytes(a, b))
      .flatMap(([name, value]) => {
        const before = view.members.get(name) ?? null;
        if (form(before && before.value).equals(form(value))) return [];
        const after = value === null ? null : { name, revision, at, by, value };
        return [{ name, before, after }];
      });
  }

  #row(namespace: string, { value, ...member }: PastMember<T>): SetMember {
    const { kind, toJson } = this.#kind;
    return { kind, namespace, ...member, value: value && toJson(value) };
  }

  /** SHA-256 of what the change made, hex: the audit log binds it whatever its size. */
  #digest(changes: readonly MemberChange<T>[]): string {
    const { toJson } = this.#kind;
    const made = changes.map(({ name, after }) => [name, after && toJson(after.value)] as const);
    return createHash('sha256').update(encodeCbor(made)).digest('hex');
  }
}

function subjectOf<T>({ kind, reach, events }: SetKind<T>): ChangeSubject<PreparedSetChange<T>> {
  return {
    // No key can have the name that is given for none.
    touched: () =>
      typeof reach === 'object'
        ? reach
        : { keyId: null, keyName: nameOfSetChange(kind), also: [], reach },
    facts: ({ detail }) => {
      const keyId = typeof reach === 'object' ? reach.keyId : null;
      return { keyRef: null, keyId, keyVersion: null, suite: null, detail };
    },
    events: (_operation, change) => events?.(change) ?? [],
  };
}

function membersAfter<T>(
  { members }: SetView<T>,
  changes: readonly MemberChange<T>[],
): readonly Member<T>[] {
  const after = new Map(members);
  for (const change of changes) {
    if (change.after === null) after.delete(change.name);
    else after.set(change.name, change.after);
  }
  return [...after.values()].sort((a, b) => byBytes(a.name, b.name));
}

const authorOf = ({ principal: { issuer, subject } }: Grant<Operation>) => ({ issuer, subject });

function past<T>(row: SetMember, fromJson: SetKind<T>['fromJson']): PastMember<T> {
  const { name, revision, at, by, value } = row;
  return { name, revision, at, by, value: value && fromJson(value, name) };
}

function present<T>(row: SetMember, fromJson: SetKind<T>['fromJson']): Member<T> {
  const member = past(row, fromJson);
  const { value } = member;
  if (value !== null) return { ...member, value };
  throw new TwofoldError('integrity_failed', `A member of the ${row.kind} set says nothing.`);
}

/**
 * What a change of an existing member must name: its revision, so that nobody overwrites what they
 * have not seen.
 * @throws TwofoldError precondition_required, etag_mismatch
 */
export function requireMatch(
  run: { readonly ifMatch: number | null },
  before: Member<unknown> | null,
) {
  if (run.ifMatch === null) {
    if (before !== null) throw new TwofoldError('precondition_required');
    return;
  }
  if (run.ifMatch !== before?.revision) throw new TwofoldError('etag_mismatch');
}
