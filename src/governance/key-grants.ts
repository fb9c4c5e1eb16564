/**
 * Delegated grants: who may do what on one key lends some of it to somebody else, for a time.
 *
 * The grants of a key are a sealed set of its own, so that one which was retired and is put back in the
 * database is found. What has expired takes no place: the next change of the set takes it away. A grant
 * is never altered. It ends with its key, as every use of that does; that its granter may do less than
 * before does not end it.
 */
import { randomUUID } from 'node:crypto';

import { CONTEXT_BOUND, LENDABLE, isDelegated, policyOfGrant } from '../access/delegation.ts';
import type {
  ContextConstraint,
  DelegatedGrant,
  DelegatedGrants,
  Lendable,
  Pairs,
} from '../access/delegation.ts';
import type { Grant } from '../access/grant.ts';
import { isOfPoliciesAlone } from '../epoch.ts';
import type { SecurityChange, SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import type { KeyView } from '../keyring/operations.ts';
import { KEY_SET_PREFIX } from '../keyring/set-ports.ts';
import type { Json, JsonObject } from '../keyring/set-ports.ts';
import { SealedSet } from './sealed-set.ts';
import type { Member, SealedSetParts, SetDone, SetKind, SetRun, SetView } from './sealed-set.ts';
import { readText, readTextOrNull, readTexts, readTime } from './stored-json.ts';

const MAX_GRANTS = 1000;
const MAX_SUBJECT = 512;
const DAY_MS = 86_400_000;
/** The longest that a grant may stand. */
export const MAX_GRANT_DAYS = 365;
/** Keys whose grants are remembered. */
const MAX_CACHED = 10_000;

export interface KeyGrant {
  readonly grantee: DelegatedGrant['grantee'];
  /** Sorted. */
  readonly operations: readonly Lendable[];
  readonly encryptionContext: ContextConstraint | null;
  readonly expiresAt: Date;
  /** What people call it; null for none. */
  readonly label: string | null;
}

/** A key by any of its names, verified; null where there is none. */
export type FindKey = (namespace: string, ref: string) => Promise<KeyView | null>;

export interface KeyGrantParts extends SealedSetParts {
  readonly findKey: FindKey;
}

type ReadGrant = Grant<'grants.read'>;
type CreateGrant = Grant<'grants.create'>;
type RetireGrant = Grant<'grants.retire'>;

function kindOf({ key }: KeyView): SetKind<KeyGrant> {
  return {
    kind: `${KEY_SET_PREFIX}${key.id}`,
    most: MAX_GRANTS,
    reach: { keyId: key.id, keyName: key.name, also: key.aliases },
    toJson: ({ grantee, operations, encryptionContext, expiresAt, label }) => ({
      issuer: grantee.issuer,
      subject: grantee.subject,
      operations,
      context: encryptionContext && contextJson(encryptionContext),
      expiresAt: expiresAt.toISOString(),
      label,
    }),
    fromJson: (json) => ({
      grantee: { issuer: readText(json, 'issuer'), subject: readText(json, 'subject') },
      operations: readTexts(json, 'operations').map(readOperation),
      encryptionContext: readContext(json['context']),
      expiresAt: readTime(json, 'expiresAt'),
      label: readTextOrNull(json, 'label'),
    }),
  };
}

const contextJson = ({ kind, pairs }: ContextConstraint): JsonObject => ({
  kind,
  names: Object.keys(pairs).sort(),
  values: Object.keys(pairs)
    .sort()
    .map((name) => pairs[name] ?? ''),
});

const malformed = () => new TwofoldError('integrity_failed', 'A stored grant is malformed.');

function readOperation(name: string): Lendable {
  const found = LENDABLE.find((each) => each === name);
  if (found === undefined) throw malformed();
  return found;
}

function readContext(json: Json | undefined): ContextConstraint | null {
  if (json === null) return null;
  if (typeof json !== 'object' || Array.isArray(json)) throw malformed();
  const object = json as JsonObject;
  const kind = readText(object, 'kind');
  const [names, values] = [readTexts(object, 'names'), readTexts(object, 'values')];
  if ((kind !== 'equals' && kind !== 'includes') || names.length !== values.length) {
    throw malformed();
  }
  return { kind, pairs: pairsOf(names.map((name, at) => [name, values[at] ?? ''])) };
}

/** Any name is a member of its own, `__proto__` too. */
const pairsOf = (entries: readonly (readonly [string, string])[]): Pairs =>
  Object.fromEntries(entries);

const viewOf = (id: string, { by, value }: Member<KeyGrant>): DelegatedGrant => ({
  ...value,
  id,
  granter: by,
});

export class KeyGrants implements DelegatedGrants {
  readonly #parts: KeyGrantParts;
  readonly #cache: GrantCache;

  constructor(parts: KeyGrantParts) {
    this.#parts = parts;
    this.#cache = new GrantCache(parts.epoch);
  }

  async ofKey(namespace: string, ref: string): Promise<readonly DelegatedGrant[]> {
    const view = await this.#parts.findKey(namespace, ref);
    if (view === null) return [];
    return this.#cache.get(namespace, view, async () => {
      const { members } = await this.#set(view).read(namespace);
      return [...members].map(([id, member]) => viewOf(id, member));
    });
  }

  /** Those that have not expired, by id. @throws TwofoldError key_not_found */
  async list(
    grant: ReadGrant,
  ): Promise<{ readonly key: KeyView['key']; readonly view: SetView<KeyGrant> }> {
    const view = await this.#key(grant);
    const { revision, members } = await this.#set(view).read(grant.namespace);
    const now = this.#parts.clock();
    const standing = new Map([...members].filter(inForce(now)));
    return { key: view.key, view: { revision, members: standing } };
  }

  /**
   * The caller has been permitted each of the operations on the key.
   * @throws TwofoldError key_not_found, version_not_usable, invalid_value, quota_exceeded
   */
  async create(
    grant: CreateGrant,
    wanted: KeyGrant,
    run: SetRun<KeyGrant>,
  ): Promise<SetDone<KeyGrant>> {
    const now = this.#parts.clock();
    checkWanted(wanted, now);
    const key = await this.#key(grant);
    if (key.key.destroyedAt !== null) throw new TwofoldError('version_not_usable');
    const operations = [...new Set(wanted.operations)].sort();
    const id = randomUUID();
    return this.#set(key).change(grant, run, ({ members }) => ({
      entries: new Map([...expired(members, now), [id, { ...wanted, operations }]]),
      detail: {
        grant: id,
        kind: 'create',
        granteeIssuer: wanted.grantee.issuer,
        granteeSubject: wanted.grantee.subject,
        operations: operations.join(' '),
        expiresAt: wanted.expiresAt.toISOString(),
      },
    }));
  }

  /**
   * Ends a grant at once: `retire` for its grantee and its granter, `revoke` for whom a policy permits.
   * @throws TwofoldError key_not_found, forbidden, not_found
   */
  async end(
    grant: RetireGrant,
    { id, how }: { readonly id: string; readonly how: 'retire' | 'revoke' },
    run: SetRun<KeyGrant>,
  ): Promise<SetDone<KeyGrant>> {
    requireEnding(grant, id, how);
    const now = this.#parts.clock();
    const key = await this.#key(grant);
    return this.#set(key).change(grant, run, ({ members }) => {
      const member = members.get(id);
      if (member === undefined || member.value.expiresAt <= now) {
        throw new TwofoldError('not_found');
      }
      if (how === 'retire' && !isParty(grant, member)) throw new TwofoldError('forbidden');
      return {
        entries: new Map([...expired(members, now), [id, null]]),
        detail: { grant: id, kind: how },
      };
    });
  }

  /** @throws TwofoldError key_not_found */
  async keyOf(grant: CreateGrant | RetireGrant): Promise<KeyView['key']> {
    return (await this.#key(grant)).key;
  }

  async #key({ namespace, key }: ReadGrant | CreateGrant | RetireGrant): Promise<KeyView> {
    const view = await this.#parts.findKey(namespace, key ?? '');
    if (view === null) throw new TwofoldError('key_not_found');
    return view;
  }

  #set(view: KeyView): SealedSet<KeyGrant> {
    return new SealedSet(this.#parts, kindOf(view));
  }
}

const inForce =
  (now: Date) =>
  ([, { value }]: readonly [string, Member<KeyGrant>]) =>
    value.expiresAt > now;

/** Entries that take away what has expired. */
const expired = (
  members: ReadonlyMap<string, Member<KeyGrant>>,
  now: Date,
): readonly (readonly [string, null])[] =>
  [...members].filter(([, { value }]) => value.expiresAt <= now).map(([id]) => [id, null] as const);

/** Who stands on what was lent ends that alone, and revokes nothing. */
function requireEnding(grant: RetireGrant, id: string, how: 'retire' | 'revoke'): void {
  if (!isDelegated(grant)) return;
  const own = grant.decision.policies.includes(policyOfGrant(id));
  if (how === 'revoke' || !own) throw new TwofoldError('forbidden');
}

function isParty({ principal }: RetireGrant, { by, value: { grantee } }: Member<KeyGrant>) {
  const { issuer, subject } = principal;
  return [by, grantee].some((party) => party.issuer === issuer && party.subject === subject);
}

function checkWanted({ grantee, operations, encryptionContext, expiresAt }: KeyGrant, now: Date) {
  const refuse = (detail: string): never => {
    throw new TwofoldError('invalid_value', detail);
  };
  if (Math.max(grantee.issuer.length, grantee.subject.length) > MAX_SUBJECT) {
    refuse('Issuer and subject have at most 512 characters.');
  }
  if (operations.length === 0) refuse('A grant names at least one operation.');
  const lasts = expiresAt.getTime() - now.getTime();
  if (lasts <= 0 || lasts > MAX_GRANT_DAYS * DAY_MS) {
    refuse(`expiresAt is to come, at most ${String(MAX_GRANT_DAYS)} days away.`);
  }
  if (encryptionContext === null) return;
  if (Object.keys(encryptionContext.pairs).length === 0) refuse('The constraint names no pair.');
  if (operations.some((each) => !CONTEXT_BOUND.includes(each))) {
    refuse(`A constraint of the encryption context fits ${CONTEXT_BOUND.join(', ')} alone.`);
  }
}

/** By key id, until the key, its grants or the access of its namespace change. */
class GrantCache {
  readonly #epoch: SecurityEpoch;
  readonly #grants = new Map<string, readonly DelegatedGrant[]>();

  constructor(epoch: SecurityEpoch) {
    this.#epoch = epoch;
    epoch.onChange((change) => this.#drop(change));
  }

  async get(
    namespace: string,
    { key: { id, name } }: KeyView,
    read: () => Promise<readonly DelegatedGrant[]>,
  ): Promise<readonly DelegatedGrant[]> {
    const known = this.#grants.get(id);
    if (known !== undefined) return known;
    const standing = { epoch: this.#epoch.current, namespace, keyId: id, keyName: name };
    const grants = await read();
    if (this.#epoch.touches(standing)) return grants;
    if (this.#grants.size >= MAX_CACHED) this.#grants.clear();
    this.#grants.set(id, grants);
    return grants;
  }

  #drop(change: SecurityChange): void {
    const { scope, keyId } = change;
    if (isOfPoliciesAlone(change)) return;
    if (scope === 'access' || keyId === null) this.#grants.clear();
    else this.#grants.delete(keyId);
  }
}
