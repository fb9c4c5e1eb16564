/**
 * Namespaces: who they are and whether they are in use.
 *
 * They are members of one set in the root namespace, `default`, which is not among them: it is there from
 * the beginning, and cannot be suspended or removed. Who may change them is said by the root namespace's
 * policies. A namespace's name is for ever, as the names of its keys are: the name of one that was removed
 * never stands for another.
 */
import type { Grant, Operation } from '../access/grant.ts';
import { TwofoldError } from '../errors.ts';
import { checkReason } from '../keyring/names.ts';
import type { KeyWrite } from '../keyring/ports.ts';
import type { JsonObject } from '../keyring/set-ports.ts';
import { emptySets } from './emptied-sets.ts';
import { SealedSet, requireMatch } from './sealed-set.ts';
import type { Member, SealedSetParts, SetDone, SetKind, SetRun, SetView } from './sealed-set.ts';
import { readText, readTextOrNull, readTime } from './stored-json.ts';

/** Whose policies decide about namespaces. */
export const ROOT_NAMESPACE = 'default';
const MAX_NAMESPACES = 10_000;
const MAX_DESCRIPTION = 256;

export interface Namespace {
  readonly description: string;
  readonly createdAt: Date;
  /** Null while it is in use. */
  readonly suspension: { readonly at: Date; readonly reason: string } | null;
}

export type NamespaceStanding = 'active' | 'suspended' | 'absent';

/** What a new namespace begins with. */
interface InitialWrites {
  readonly initial: (grant: NamespaceGrant, namespace: string) => Promise<readonly KeyWrite[]>;
}

type NamespaceGrant = Grant<'namespaces.change'>;
type ReadGrant = Grant<'namespaces.read'> | NamespaceGrant;

const NAMESPACE: SetKind<Namespace> = {
  kind: 'namespace',
  most: MAX_NAMESPACES,
  reach: 'installation',
  toJson: ({ description, createdAt, suspension }) => ({
    description,
    createdAt: createdAt.toISOString(),
    suspendedAt: suspension?.at.toISOString() ?? null,
    suspensionReason: suspension?.reason ?? null,
  }),
  fromJson: (json) => ({
    description: readText(json, 'description'),
    createdAt: readTime(json, 'createdAt'),
    suspension: suspensionFrom(json),
  }),
};

function suspensionFrom(json: JsonObject): Namespace['suspension'] {
  const reason = readTextOrNull(json, 'suspensionReason');
  return reason === null ? null : { at: readTime(json, 'suspendedAt'), reason };
}

/** In the detail of a removal, before the kinds of what went with the namespace. */
export const REMOVED_PREFIX = 'removed/';

export class Namespaces {
  readonly #parts: SealedSetParts;
  readonly #set: SealedSet<Namespace>;
  readonly #clock: () => Date;
  readonly #initial: InitialWrites | null;

  /** `initial` writes what a new namespace begins with; null: nothing. */
  constructor(parts: SealedSetParts, initial: InitialWrites | null = null) {
    this.#parts = parts;
    this.#initial = initial;
    this.#set = new SealedSet(parts, NAMESPACE);
    this.#clock = parts.clock;
  }

  /** All but the root, in byte order of their names. @throws TwofoldError forbidden elsewhere */
  async list(grant: ReadGrant): Promise<SetView<Namespace>> {
    requireRoot(grant);
    return this.#all();
  }

  /** Whether it is there, and in use. */
  async standing(name: string): Promise<NamespaceStanding> {
    if (name === ROOT_NAMESPACE) return 'active';
    const member = (await this.#all()).members.get(name);
    if (member === undefined) return 'absent';
    return member.value.suspension === null ? 'active' : 'suspended';
  }

  /** Whether anything may be done in it. */
  async isInUse(name: string): Promise<boolean> {
    return (await this.standing(name)) === 'active';
  }

  /** @throws TwofoldError already_exists, name_retired, invalid_value, quota_exceeded */
  create(
    grant: NamespaceGrant,
    { name, description }: { readonly name: string; readonly description: string },
    run: SetRun<Namespace>,
  ): Promise<SetDone<Namespace>> {
    if (description.length > MAX_DESCRIPTION) {
      throw new TwofoldError('invalid_value', 'A description has at most 256 characters.');
    }
    requireRoot(grant);
    return this.#set.change(grant, run, async ({ members }) => {
      if (name === ROOT_NAMESPACE || members.has(name)) {
        throw new TwofoldError('already_exists', 'There is a namespace of this name.');
      }
      if (await this.#wasThere(name)) throw new TwofoldError('name_retired');
      const value = { description, createdAt: this.#clock(), suspension: null };
      return {
        entries: new Map([[name, value]]),
        detail: { name, kind: 'create' },
        writes: [
          { kind: 'insert-namespace', name },
          ...((await this.#initial?.initial(grant, name)) ?? []),
        ],
      };
    });
  }

  suspend(
    grant: NamespaceGrant,
    { name, reason }: { readonly name: string; readonly reason: string },
    run: SetRun<Namespace>,
  ): Promise<SetDone<Namespace>> {
    checkReason(reason);
    return this.#update(grant, name, run, { kind: 'suspend', reason }, (value) => ({
      ...value,
      suspension: value.suspension ?? { at: this.#clock(), reason },
    }));
  }

  resume(
    grant: NamespaceGrant,
    { name, reason }: { readonly name: string; readonly reason: string },
    run: SetRun<Namespace>,
  ): Promise<SetDone<Namespace>> {
    checkReason(reason);
    return this.#update(grant, name, run, { kind: 'resume', reason }, (value) => ({
      ...value,
      suspension: null,
    }));
  }

  /**
   * Ends it, with all that governs access in it; its history and its entries stay in the database.
   * @throws TwofoldError namespace_not_empty while it has a key that is not destroyed, not_found,
   *   etag_mismatch
   */
  remove(grant: NamespaceGrant, name: string, run: SetRun<Namespace>): Promise<SetDone<Namespace>> {
    requireRoot(grant);
    return this.#set.change(grant, run, async ({ members }) => {
      const before = existing(members.get(name));
      if (run.ifMatch !== null) requireMatch(run, before);
      if (await this.#parts.store.hasLivingKeys(name)) {
        throw new TwofoldError('namespace_not_empty');
      }
      const { writes, counts } = await emptySets(this.#parts, grant, name);
      const removed = [...counts].map(([kind, count]) => [REMOVED_PREFIX + kind, count] as const);
      return {
        entries: new Map([[name, null]]),
        detail: { name, kind: 'remove', ...Object.fromEntries(removed) },
        writes: [...writes, { kind: 'require-empty-namespace', name }],
      };
    });
  }

  /** Whether there ever was one of this name. */
  async #wasThere(name: string): Promise<boolean> {
    const query = { namespace: ROOT_NAMESPACE, name, before: null, pageSize: 1 };
    return (await this.#set.history(query)).length > 0;
  }

  #all(): Promise<SetView<Namespace>> {
    return this.#set.of(ROOT_NAMESPACE);
  }

  #update(
    grant: NamespaceGrant,
    name: string,
    run: SetRun<Namespace>,
    what: { readonly kind: string; readonly reason: string },
    next: (value: Namespace) => Namespace,
  ): Promise<SetDone<Namespace>> {
    requireRoot(grant);
    return this.#set.change(grant, run, ({ members }) => {
      const before = existing(members.get(name));
      if (run.ifMatch !== null) requireMatch(run, before);
      return { entries: new Map([[name, next(before.value)]]), detail: { name, ...what } };
    });
  }
}

/** What another namespace's policies permit is nothing that they could give. */
export function requireRoot({ namespace }: Pick<Grant<Operation>, 'namespace'>): void {
  if (namespace === ROOT_NAMESPACE) return;
  throw new TwofoldError('forbidden', `This is asked for in ${ROOT_NAMESPACE}.`);
}

function existing(member: Member<Namespace> | undefined): Member<Namespace> {
  if (member !== undefined) return member;
  throw new TwofoldError('not_found', 'There is no namespace of this name that can be changed.');
}
