/**
 * What is known of a request for its audit entry. A handler notes facts as they become known: the
 * entry of a use that fails after its version was selected names key, version and suite like that of
 * one that succeeds.
 */
import { hash } from 'node:crypto';

import { couldNameKey } from '../contract/scalars.ts';
import { isUuid } from '../crypto/uuid.ts';
import { canonicalContext } from '../crypto/context.ts';
import { grantIdOf } from '../access/delegation.ts';
import { DEFAULT_NAMESPACE } from './dependencies.ts';
import type { Decision, Operation, Principal } from '../access/grant.ts';
import { actorOf } from '../audit/ports.ts';
import type { AuditDraft, AuditEngine, AuditItem, RequestFacts } from '../audit/ports.ts';
import type { EpochStanding } from '../epoch.ts';
import type { Selecting, Used } from '../keyring/operations.ts';

type Detail = AuditDraft['detail'];

/** What binds an operation: `aad` also stands for a signature's context. */
export interface NotedContext {
  readonly encryptionContext?: Readonly<Record<string, string>> | undefined;
  readonly aad?: Uint8Array | undefined;
}

const HASH_LENGTH = 16;
const LONGEST_NAMESPACE = 128;

export function contextBytes({ encryptionContext = {}, aad }: NotedContext): Uint8Array {
  return canonicalContext({ encryptionContext, ...(aad === undefined ? {} : { aad }) });
}

/**
 * First 16 bytes of SHA-256(u16 length of ref ‖ ref ‖ canonical context). Entries have the HMAC of it
 * (`audit/batch.ts`), so that nobody finds out a context by trying.
 */
export function itemHash(ref: string, context: Uint8Array): Uint8Array {
  const name = Buffer.from(ref);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(name.length);
  const input = Buffer.concat([length, name, context]);
  return hash('sha256', input, 'buffer').subarray(0, HASH_LENGTH);
}

/** Hashes the items of a batch; one that is like the one before it is not hashed again. */
export class ItemHasher {
  #ref = '';
  #context: Uint8Array | undefined;
  #hash: Uint8Array = new Uint8Array(HASH_LENGTH);

  hash(ref: string | undefined, noted: NotedContext): Uint8Array {
    const name = ref ?? '';
    const context = contextBytes(noted);
    const known = this.#context !== undefined && Buffer.compare(this.#context, context) === 0;
    if (known && name === this.#ref) return this.#hash;
    this.#hash = itemHash(name, context);
    this.#ref = name;
    this.#context = context;
    return this.#hash;
  }
}

/** Facts that are fixed when the request has been authenticated. */
export interface NotedRequest {
  readonly requestId: string;
  readonly source: string;
  readonly principal: Principal;
  readonly operation: Operation;
  readonly namespace: string;
  /** Whether there is such a namespace: an entry under another could be read by nobody. */
  readonly namespaceKnown: boolean;
  /** As the path names it. */
  readonly key: string | null;
  /** Security epoch when the request began to read. */
  readonly epoch: number;
  /** Of the connection's key agreement. */
  readonly tlsGroup?: string | null | undefined;
  /** Monotonic time (`performance.now`) of its head. */
  readonly started: number;
  /** Names of the encryption context whose values the entry has in clear. */
  readonly loggable: readonly string[];
  /** Who computes a suite here. */
  readonly engineOf: (suite: string) => AuditEngine | null;
}

export class AuditNotes {
  readonly #request: NotedRequest;
  #reference: string | null;
  #decision: Decision | null = null;
  #denied: Decision | null = null;
  readonly #alsoPolicies = new Set<string>();
  #used: Used | null = null;
  #keyId: string | null = null;
  readonly #alsoKeys = new Set<string>();
  #context: NotedContext | null = null;
  #names: readonly string[] = [];
  #items: readonly AuditItem[] = [];
  /** Pairs that the contexts of all items have. */
  #shared: Readonly<Record<string, string>> = {};
  #detail: Detail = {};
  #approval: string | null = null;
  #origin: AuditDraft['origin'] = null;

  constructor(request: NotedRequest) {
    this.#request = request;
    this.#reference = request.key;
    const { namespace, namespaceKnown } = request;
    if (!namespaceKnown) this.detail({ namespace: namespace.slice(0, LONGEST_NAMESPACE) });
  }

  decided(decision: Decision): void {
    this.#decision = decision;
  }

  /** What permitted the use of a second key counts with what permitted the first. */
  alsoDecided({ policies }: Decision): void {
    for (const policy of policies) this.#alsoPolicies.add(policy);
  }

  /** The refusal of a second key: it explains a request that fails for it, and no other. */
  denied(decision: Decision): void {
    this.#denied = decision;
  }

  used(used: Used): void {
    this.#used = used;
  }

  /** Id of the suite that was used, of a request that is one operation. */
  get suite(): string | null {
    return this.#items.length > 0 ? null : (this.#used?.suite ?? null);
  }

  /** The key that it is about, by id, as far as it was found. */
  get foundKey(): string | null {
    const key = this.#reference;
    return this.#used?.keyId ?? this.#keyId ?? (key !== null && isUuid(key) ? key : null);
  }

  /** The key that was read, where no version of it was used. */
  keyId(id: string): void {
    this.#keyId = id;
  }

  /** The key that the body names, where the path names none. */
  named(reference: string): void {
    this.#reference = reference;
  }

  /** Another key of the namespace, by name or id, that the answer stands on. */
  alsoKey(reference: string): void {
    this.#alsoKeys.add(reference);
  }

  /** The key that a rewrap goes to. */
  target(reference: string): void {
    this.alsoKey(reference);
    if (couldNameKey(reference)) this.detail({ to: reference });
  }

  context(context: NotedContext): void {
    this.#context = context;
    this.#names = Object.keys(context.encryptionContext ?? {});
  }

  /** Items of a batch, the names of all their contexts and the pairs that all have; values are in each item's hash. */
  items(
    items: readonly AuditItem[],
    contextNames: readonly string[],
    shared: Readonly<Record<string, string>> = {},
  ): void {
    this.#items = items;
    this.#names = contextNames;
    this.#shared = shared;
  }

  /** The approval that it is carried out under. */
  approved(id: string): void {
    this.#approval = id;
    this.detail({ approval: id });
  }

  /** Of what was opened. */
  origin(origin: 'anyone' | 'service'): void {
    this.#origin = origin;
  }

  /** What entries of changes say too, which the keyring writes. */
  request(): RequestFacts {
    const { tlsGroup = null, started } = this.#request;
    return { tlsGroup, durationUs: Math.max(0, Math.round((performance.now() - started) * 1e3)) };
  }

  detail(detail: Detail): void {
    this.#detail = { ...this.#detail, ...detail };
  }

  draft(outcome: string): AuditDraft {
    const { requestId, source, principal, operation, namespace, namespaceKnown } = this.#request;
    const key = this.#reference;
    const decision = this.#decisionOf(outcome);
    return {
      ...this.request(),
      requestId,
      actor: actorOf(principal),
      operation,
      namespace: namespaceKnown ? namespace : DEFAULT_NAMESPACE,
      keyRef: key !== null && couldNameKey(key) ? key : null,
      keyId: this.foundKey,
      keyVersion: this.#items.length > 0 ? null : (this.#used?.keyVersion ?? null),
      suite: this.#used?.suiteNumber ?? null,
      outcome,
      decision,
      grantId: decision === null ? null : grantIdOf(decision),
      approvalId: this.#approval,
      engine: this.#used === null ? null : this.#request.engineOf(this.#used.suite),
      origin: this.#origin,
      source,
      contextKeys: this.#names.toSorted(),
      ...this.#values(),
      items: this.#items,
      detail: this.#detail,
    };
  }

  standing(): EpochStanding {
    const { epoch, namespace } = this.#request;
    const key = this.#reference;
    return {
      epoch,
      namespace,
      keyId: key !== null && isUuid(key) ? key : null,
      keyName: key !== null && isUuid(key) ? null : key,
      alsoKeys: [...this.#alsoKeys],
    };
  }

  #decisionOf(outcome: string): Decision | null {
    if (outcome === 'forbidden' && this.#denied !== null) return this.#denied;
    if (this.#decision === null || this.#alsoPolicies.size === 0) return this.#decision;
    const policies = new Set([...this.#decision.policies, ...this.#alsoPolicies]);
    return { ...this.#decision, policies: [...policies].toSorted() };
  }

  /** What is not there is not MACed. */
  #values(): Pick<AuditDraft, 'contextValues' | 'aad' | 'loggedContext'> {
    const { encryptionContext = {}, aad } = this.#context ?? {};
    const named = Object.keys(encryptionContext).length > 0;
    return {
      contextValues: named ? contextBytes({ encryptionContext }) : null,
      aad: aad === undefined ? null : contextBytes({ aad }),
      loggedContext: this.logged({ ...this.#shared, ...encryptionContext }),
    };
  }

  /** Of these, what the entry says in clear. */
  logged(pairs: Readonly<Record<string, string>>): AuditDraft['loggedContext'] {
    const { loggable } = this.#request;
    const logged = loggable.filter((name) => Object.hasOwn(pairs, name));
    return Object.fromEntries(logged.map((name) => [name, pairs[name] ?? '']));
  }
}

/** A use that fails is recorded with what was known of it by then. */
export const notedBy = (notes: AuditNotes): Selecting => ({
  onKey: (id) => notes.keyId(id),
  onSelected: (used) => notes.used(used),
});
