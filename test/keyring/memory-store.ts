/**
 * Keys, roots and instances in memory: asserts the rules of the ports (compare-and-swap, unique
 * names, first wins, intents) and fails both ways, not applied and applied but told otherwise.
 * Audit entries and the epoch are those of the `MemoryAuditStore` that it shares them with.
 */
import type { StoredEvent } from '../../src/keyring/event-ports.ts';
import { rootGenerationOf } from '../../src/keyring/destruction.ts';
import type { Key, KeyVersion, Tombstone } from '../../src/keyring/model.ts';
import type { LiveInstances } from '../../src/keyring/instance-ports.ts';
import type {
  Attested,
  ChangeCommit,
  IdempotencyRecord,
  KeyPage,
  KeyQuery,
  KeyStore,
  KeyWrite,
  ListedKey,
  NamespacePolicy,
  PolicySetSeal,
  PolicyStore,
  RootGeneration,
  RootStore,
  StoredKey,
  TokenIntent,
} from '../../src/keyring/ports.ts';
import type { ApprovalWrite } from '../../src/keyring/approval-ports.ts';
import type { SetWrite } from '../../src/keyring/set-ports.ts';
import { TwofoldError } from '../../src/errors.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { MemoryAuditStore } from '../audit/memory-store.ts';
import { applyApproval, isApprovalWrite, memoryApprovals } from './memory-approvals.ts';
import type { ApprovalRows } from './memory-approvals.ts';
import { applySet, copyOfSets, isSetWrite, memorySets, noSets } from './memory-sets.ts';
import type { SetRows } from './memory-sets.ts';
import { MemoryUses } from './memory-uses.ts';
import { MemoryRootRotations } from './memory-root-rotations.ts';
import { MemoryOperationStore } from './memory-operations.ts';

export type StoreCall =
  | keyof KeyStore
  | keyof PolicyStore
  | 'generations'
  | 'intend'
  | 'complete'
  | 'hasKeys'
  | 'allRead';
export type StoreFault = 'none' | 'before' | 'after' | 'lost-before' | 'lost-after';

export interface Rows {
  readonly keys: Map<string, Attested<Key>>;
  readonly versions: Map<string, Attested<KeyVersion>>;
  readonly intents: Map<string, Attested<TokenIntent>>;
  readonly idempotency: Map<string, Attested<IdempotencyRecord>>;
  readonly chains: Map<string, string>;
  /** By key; written with the row, as the database's trigger does. */
  readonly tombstones: Map<string, readonly Tombstone[]>;
  readonly events: StoredEvent[];
  readonly policies: Map<string, Attested<NamespacePolicy>>;
  readonly policySets: Map<string, Attested<PolicySetSeal>>;
  readonly sets: SetRows;
  readonly approvals: ApprovalRows;
  readonly usedImports: Set<string>;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const versionSlot = ({ keyId, version }: KeyVersion) => `${keyId}/${version}`;
const policySlot = ({ namespace, name }: Pick<NamespacePolicy, 'namespace' | 'name'>) =>
  JSON.stringify([namespace, name]);
const idempotencySlot = (namespace: string, principal: Uint8Array, key: string) =>
  JSON.stringify([namespace, hex(principal), key]);

const copyOf = (rows: Rows): Rows => ({
  keys: new Map(rows.keys),
  versions: new Map(rows.versions),
  intents: new Map(rows.intents),
  idempotency: new Map(rows.idempotency),
  chains: new Map(rows.chains),
  tombstones: new Map(rows.tombstones),
  events: [...rows.events],
  policies: new Map(rows.policies),
  policySets: new Map(rows.policySets),
  sets: copyOfSets(rows.sets),
  approvals: new Map(rows.approvals),
  usedImports: new Set(rows.usedImports),
});

export class MemoryStore implements KeyStore, PolicyStore, RootStore, LiveInstances {
  fault: (call: StoreCall) => StoreFault = () => 'none';
  /** Runs inside a call, before it acts: what else happens meanwhile. */
  meanwhile: (call: StoreCall) => Promise<void> = () => Promise.resolve();
  readonly audit: MemoryAuditStore;
  rows: Rows = {
    keys: new Map(),
    versions: new Map(),
    intents: new Map(),
    idempotency: new Map(),
    chains: new Map(),
    tombstones: new Map(),
    events: [],
    policies: new Map(),
    policySets: new Map(),
    sets: noSets(),
    approvals: new Map(),
    usedImports: new Set(),
  };
  readonly operations = new MemoryOperationStore(this);
  readonly rotations = new MemoryRootRotations(this);
  roots: RootGeneration[] = [];
  readonly counters = new Map<string, number>();
  readonly uses = new MemoryUses(this.counters);
  readonly sets = memorySets(() => this.rows.sets);
  readonly approvals = memoryApprovals(() => this.rows.approvals);
  /** The database's clock; null: none of its own. */
  wall: Date | null = null;
  readonly dead = new Set<string>();
  readonly unread = new Set<number>();
  readonly calls: StoreCall[] = [];
  /** Commits that may still take effect, by the leaf of their entry. */
  readonly #sent = new Map<string, ChangeCommit>();

  constructor(audit = new MemoryAuditStore()) {
    this.audit = audit;
  }

  find(
    namespace: string,
    ref: { readonly name: string } | { readonly id: string },
    epoch: number,
  ): Promise<StoredKey | null> {
    return this.#do('find', () => {
      if (this.audit.epoch < epoch) throw new TwofoldError('database_unavailable');
      const found = [...this.rows.keys.values()].find(
        ({ value }) =>
          value.namespace === namespace &&
          ('id' in ref ? value.id === ref.id : [value.name, ...value.aliases].includes(ref.name)),
      );
      return found === undefined ? null : this.#stored(found);
    });
  }

  list(query: KeyQuery): Promise<KeyPage> {
    return this.#do('list', () => {
      const matching = [...this.rows.keys.values()]
        .filter(
          ({ value }) =>
            value.namespace === query.namespace &&
            value.name.startsWith(query.namePrefix ?? '') &&
            value.name > (query.afterName ?? ''),
        )
        .toSorted((a, b) => (a.value.name < b.value.name ? -1 : 1));
      const keys = matching.slice(0, query.pageSize).map((key) => this.#listed(key));
      const last = keys.at(-1)?.key.value.name ?? null;
      return { keys, next: matching.length > keys.length ? last : null };
    });
  }

  #listed(row: Attested<Key>): ListedKey {
    const { key, versions } = this.#stored(row);
    return { key, versions: versions.filter(({ value }) => value.version === key.value.primary) };
  }

  hasLivingKeys(namespace: string): Promise<boolean> {
    return this.#do('hasLivingKeys', () => hasLivingKeys(this.rows, namespace));
  }

  policies(namespace: string) {
    return this.#do('policies', () => ({
      seal: this.rows.policySets.get(namespace) ?? null,
      policies: [...this.rows.policies.values()]
        .filter(({ value }) => value.namespace === namespace)
        .toSorted((a, b) => (a.value.name < b.value.name ? -1 : 1)),
    }));
  }

  wallClock() {
    return Promise.resolve(this.wall);
  }

  tombstones(keyId: string) {
    return Promise.resolve(this.rows.tombstones.get(keyId) ?? []);
  }

  certificateChain(keyId: string, version: number) {
    return this.#do('certificateChain', () => this.rows.chains.get(`${keyId}/${version}`) ?? null);
  }

  places(after: string | null, limit: number) {
    return this.#do('places', () =>
      [...this.rows.keys.values()]
        .map(({ value: { id, namespace } }) => ({ id, namespace }))
        .filter(({ id }) => after === null || id > after)
        .toSorted((a, b) => (a.id < b.id ? -1 : 1))
        .slice(0, limit),
    );
  }

  published(of: string, epoch: number, limit: number) {
    return this.#do('published', () => {
      if (this.audit.epoch < epoch) throw new TwofoldError('database_unavailable');
      return [...this.rows.keys.values()]
        .filter(({ value }) => value.namespace === of && value.publish)
        .map(({ value: { id, namespace, name } }) => ({ id, namespace, name }))
        .slice(0, limit);
    });
  }

  countPublished(namespace: string, limit: number) {
    return this.#do('countPublished', () => {
      const published = [...this.rows.keys.values()].filter(
        ({ value }) => value.namespace === namespace && value.publish && value.destroyedAt === null,
      );
      return Math.min(limit, published.length);
    });
  }

  async commit(change: ChangeCommit) {
    this.calls.push('commit');
    const fault = this.fault('commit');
    await this.meanwhile('commit');
    if (fault === 'before') throw new TwofoldError('database_unavailable');
    if (fault === 'lost-before') throw new OutcomeUnknown();
    // What the rules refuse is refused before anything is written.
    if (change.epoch === this.audit.epoch) {
      applyAll(copyOf(this.rows), change);
      this.#checkRoot(change);
    }
    const leaf = hex(change.entry.leaf);
    this.#sent.set(leaf, change);
    const outcome = await this.audit.commit(change.entry, change.epoch, change.scope);
    this.settle();
    if (fault === 'lost-after' || fault === 'after') throw new OutcomeUnknown();
    return outcome;
  }

  /** Rows stand where their audit entry stands, also when that landed while nobody waited for it. */
  settle(): void {
    for (const [leaf, change] of this.#sent) {
      if (!this.audit.effects.includes(leaf)) continue;
      this.#sent.delete(leaf);
      applyAll(this.rows, change);
      this.#applyRoot(change);
    }
  }

  /** One rotation of the root at a time, to a generation that is complete or in force. */
  #checkRoot({ writes }: ChangeCommit): void {
    for (const write of writes) {
      if (write.kind === 'retire-root-generation') throw new TypeError('not in memory');
      if (write.kind === 'end-root-rotation') {
        const { id, expected } = write.write;
        const standing = this.operations.rows.get(id)?.progress;
        if (standing?.revision !== expected) throw new TwofoldError('conflict');
      }
      if (write.kind !== 'begin-root-rotation') continue;
      const state = this.roots.find((row) => row.generation === write.generation)?.state;
      const runs = [...this.operations.rows.values()].some(
        ({ identity, progress }) =>
          identity.value.kind === 'root-rotation' && progress.state === 'running',
      );
      if (runs || (state !== 'complete' && state !== 'in-force')) {
        throw new TwofoldError('conflict');
      }
    }
  }

  #applyRoot({ writes }: ChangeCommit): void {
    for (const write of writes) {
      if (write.kind === 'end-root-rotation') {
        const { id, progress } = write.write;
        const standing = this.operations.rows.get(id);
        if (standing !== undefined) this.operations.rows.set(id, { ...standing, progress });
      }
      if (write.kind !== 'begin-root-rotation') continue;
      const { generation, operation } = write;
      this.roots = this.roots.map((row) => {
        if (row.generation === generation) return { ...row, state: 'in-force' };
        return row.state === 'in-force' ? { ...row, state: 'retiring' } : row;
      });
      this.operations.rows.set(operation.identity.value.id, operation);
    }
  }

  findIdempotent(namespace: string, principal: Uint8Array, key: string) {
    return this.#do(
      'findIdempotent',
      () => this.rows.idempotency.get(idempotencySlot(namespace, principal, key)) ?? null,
    );
  }

  reserveUses(counter: string, block: number) {
    return this.#do('reserveUses', () => {
      const first = this.counters.get(counter) ?? 0;
      this.counters.set(counter, first + block);
      return [first, block] as const;
    });
  }

  countersAbove(limit: number, most: number) {
    return this.#do('countersAbove', () =>
      [...this.counters]
        .map(([counter, used]) => ({ counter, used }))
        .filter(({ used }) => used > limit)
        .toSorted((a, b) => b.used - a.used)
        .slice(0, most),
    );
  }

  intendTokenObject(intent: Attested<TokenIntent>): Promise<void> {
    return this.#do('intendTokenObject', () => {
      const slot = hex(intent.value.objectId);
      if (this.rows.intents.has(slot)) throw new TypeError('the object was intended before');
      this.rows.intents.set(slot, intent);
    });
  }

  abandonIntents(
    installation: string,
    tokenSerial: string,
  ): Promise<readonly Attested<TokenIntent>[]> {
    return this.#do('abandonIntents', () =>
      [...this.rows.intents.values()].filter(
        ({ value }) =>
          value.installation === installation &&
          value.tokenSerial === tokenSerial &&
          this.dead.has(value.instance),
      ),
    );
  }

  isImportUsed(id: string): Promise<boolean> {
    return this.#do('isImportUsed', () => this.rows.usedImports.has(id));
  }

  dropIntent(objectId: Uint8Array): Promise<void> {
    return this.#do('dropIntent', () => {
      this.rows.intents.delete(hex(objectId));
    });
  }

  generations(): Promise<readonly RootGeneration[]> {
    return this.#do('generations', () =>
      this.roots.toSorted((a, b) => a.generation - b.generation),
    );
  }

  intend(generation: number, installation: string): Promise<RootGeneration> {
    return this.#do('intend', () => {
      const existing = this.roots.find((row) => row.generation === generation);
      if (existing !== undefined) return existing;
      const row = {
        generation,
        installation,
        seal: null,
        mac: null,
        canary: null,
        kept: null,
      } as const;
      this.roots.push({ ...row, state: 'intended' });
      return { ...row, state: 'intended' };
    });
  }

  complete(root: RootGeneration): Promise<RootGeneration> {
    return this.#do('complete', () => {
      const index = this.roots.findIndex((row) => row.generation === root.generation);
      const row = this.roots[index];
      if (row === undefined) throw new TypeError('the generation was never intended');
      if (row.state !== 'intended' || row.installation !== root.installation) return row;
      this.roots[index] = root;
      return root;
    });
  }

  hasKeys(): Promise<boolean> {
    return this.#do('hasKeys', () => this.rows.keys.size > 0);
  }

  allRead(suite: number): Promise<boolean> {
    return this.#do('allRead', () => !this.unread.has(suite));
  }

  #stored(key: Attested<Key>): StoredKey {
    const versions = [...this.rows.versions.values()]
      .filter(({ value }) => value.keyId === key.value.id)
      .toSorted((a, b) => a.value.version - b.value.version);
    return { key, versions };
  }

  async #do<T>(call: StoreCall, act: () => T): Promise<T> {
    this.calls.push(call);
    const fault = this.fault(call);
    await this.meanwhile(call);
    if (fault === 'before') throw new TwofoldError('database_unavailable');
    if (fault === 'lost-before') throw new OutcomeUnknown();
    this.settle();
    const result = act();
    if (fault === 'after' || fault === 'lost-after') throw new OutcomeUnknown();
    return result;
  }
}

const hasLivingKeys = ({ keys }: Rows, namespace: string): boolean =>
  [...keys.values()].some(
    ({ value }) => value.namespace === namespace && value.destroyedAt === null,
  );

function applyAll(rows: Rows, change: ChangeCommit): void {
  if (change.idempotency !== null) insertOnce(rows, change.idempotency);
  for (const write of change.writes) {
    if (write.kind === 'require-empty-namespace' && hasLivingKeys(rows, write.name)) {
      throw new TwofoldError('namespace_not_empty');
    }
    if (isSetWrite(write)) applySet(rows.sets, write);
    else if (isApprovalWrite(write)) applyApproval(rows.approvals, write);
    else if (isRootWrite(write)) continue;
    else if (write.kind !== 'insert-event') apply(rows, write);
    else rows.events.push({ ...write.event, epoch: change.epoch + 1, at: new Date() });
  }
}

export function insertOnce(rows: Rows, record: Attested<IdempotencyRecord>): void {
  const { namespace, principal, key } = record.value;
  const slot = idempotencySlot(namespace, principal, key);
  if (rows.idempotency.has(slot)) throw new TwofoldError('idempotency_in_progress');
  rows.idempotency.set(slot, record);
}

type RootWrite = Extract<
  KeyWrite,
  { readonly kind: 'begin-root-rotation' | 'end-root-rotation' | 'retire-root-generation' }
>;

const isRootWrite = (write: KeyWrite): write is RootWrite =>
  /^(?:begin|end)-root-rotation$|^retire-root-generation$/u.test(write.kind);

function apply(rows: Rows, write: Exclude<KeyWrite, SetWrite | ApprovalWrite | RootWrite>): void {
  switch (write.kind) {
    case 'insert-key':
      insertKey(rows, write.row);
      return;
    case 'update-key': {
      const { value } = write.row;
      const standing = rows.keys.get(value.id)?.value;
      if (standing?.revision !== write.expected) throw new TwofoldError('conflict');
      if (value.revision !== write.expected + 1) throw new TypeError('revisions rise by one');
      if (standing.name !== value.name || standing.namespace !== value.namespace) {
        throw new TypeError('a key keeps its name');
      }
      const added = value.aliases.filter((alias) => !standing.aliases.includes(alias));
      for (const alias of added) requireFreeName(rows, value, alias);
      rows.keys.set(value.id, write.row);
      return;
    }
    case 'insert-version': {
      const slot = versionSlot(write.row.value);
      if (rows.versions.has(slot)) throw new TwofoldError('conflict');
      rows.versions.set(slot, write.row);
      return;
    }
    case 'update-version': {
      const slot = versionSlot(write.row.value);
      const before = rows.versions.get(slot)?.value;
      if (before?.revision !== write.expected) throw new TwofoldError('conflict');
      rows.versions.set(slot, write.row);
      if (write.row.value.state === 'destroyed') keepTombstone(rows, before);
      return;
    }
    case 'put-certificate-chain':
      rows.chains.set(`${write.keyId}/${write.version}`, write.pem);
      return;
    case 'delete-certificate-chain':
      rows.chains.delete(`${write.keyId}/${write.version}`);
      return;
    case 'hold-leadership':
    case 'insert-run':
    case 'rotate-by-order':
      throw new TypeError('the scheduler is tried on a real database');
    case 'intend-removal':
      rows.intents.set(hex(write.row.value.objectId), write.row);
      return;
    // Events take their epoch from the change.
    case 'insert-event':
      return;
    case 'put-rotation-policy':
      rows.policies.set(policySlot(write.row.value), write.row);
      return;
    case 'delete-rotation-policy':
      rows.policies.delete(policySlot(write));
      return;
    case 'put-policy-set': {
      const { namespace } = write.row.value;
      if ((rows.policySets.get(namespace)?.value.revision ?? 0) !== write.expected) {
        throw new TwofoldError('conflict');
      }
      rows.policySets.set(namespace, write.row);
      return;
    }
    case 'require-policy-set':
      if ((rows.policySets.get(write.namespace)?.value.revision ?? 0) === write.revision) return;
      throw new TwofoldError('conflict');
    case 'use-import':
      if (rows.usedImports.has(write.id)) throw new TwofoldError('import_parameters_used');
      rows.usedImports.add(write.id);
      return;
    case 'insert-log-keys':
      // Kept by the test that has keys of a log: nothing here reads them.
      return;
    case 'complete-intent':
      if (!rows.intents.delete(hex(write.objectId))) throw new TwofoldError('conflict');
  }
}

function keepTombstone(rows: Rows, before: KeyVersion): void {
  const tombstone = {
    version: before.version,
    activatedAt: 'activatedAt' in before ? before.activatedAt : null,
    deactivatedAt: 'deactivatedAt' in before ? before.deactivatedAt : null,
    rootGeneration: rootGenerationOf([before]),
  };
  const others = rows.tombstones.get(before.keyId) ?? [];
  rows.tombstones.set(before.keyId, [...others, tombstone]);
}

function insertKey(rows: Rows, row: Attested<Key>): void {
  const { id, name } = row.value;
  if (rows.keys.has(id)) throw new TypeError('the id exists');
  requireFreeName(rows, row.value, name);
  rows.keys.set(id, row);
}

/** Names of destroyed keys stay taken, and aliases are names. */
function requireFreeName(rows: Rows, { id, namespace }: Key, name: string): void {
  for (const { value } of rows.keys.values()) {
    if (value.namespace !== namespace) continue;
    if (value.name === name) {
      throw new TwofoldError(value.destroyedAt === null ? 'key_exists' : 'name_retired');
    }
    if (value.id !== id && value.aliases.includes(name)) throw new TwofoldError('key_exists');
  }
}
