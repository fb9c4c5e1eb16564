/** Domain values for the store's tests; MACs are random, since the store does not check them. */
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import type { AppendBatch, AppendEntry, AuditQuery, PreparedEntry } from '../../src/audit/ports.ts';
import type { Active, Destruction, Key, Material } from '../../src/keyring/model.ts';
import type { Attested, ChangeCommit, KeyQuery, KeyWrite } from '../../src/keyring/ports.ts';
import type { Store } from '../../src/store/store.ts';

export const bytes = (length: number): Uint8Array => Uint8Array.from(randomBytes(length));

export const attested = <T>(value: T): Attested<T> => ({ value, mac: bytes(32) });

export const entry = (
  body: Uint8Array = bytes(40),
  index: Partial<AppendEntry['index']> = {},
): AppendEntry => ({
  leaf: Uint8Array.from(createHash('sha256').update(Uint8Array.of(0)).update(body).digest()),
  body,
  index: {
    at: new Date(),
    namespace: 'default',
    operation: 'wrap',
    keyId: null,
    keyRef: null,
    subject: 'someone',
    outcome: 'ok',
    ...index,
  },
});

export const batch = (
  lane: number,
  first: number,
  over: Partial<AppendBatch> = {},
): AppendBatch => ({
  lane,
  first,
  epoch: 1,
  entries: [entry()],
  hmac: bytes(32),
  ...over,
});

export const prepared = (lane: number, n: number, epoch: number): PreparedEntry => ({
  ...entry(bytes(40), { operation: 'keys.create' }),
  lane,
  n,
  epoch,
  hmac: bytes(32),
});

export const key = (over: Partial<Key> = {}): Key => ({
  id: randomUUID(),
  namespace: 'default',
  name: `k${randomUUID().slice(0, 13)}`,
  aliases: [],
  purpose: 'wrap',
  labels: {},
  rotation: null,
  rotationHold: null,
  deletionProtection: false,
  origin: 'generated',
  exportable: false,
  exports: [],
  publish: false,
  primary: 1,
  minUsableVersion: 1,
  latestVersion: 1,
  suspension: null,
  destruction: null,
  destroyedAt: null,
  createdAt: new Date('2026-11-22T12:34:56.789Z'),
  revision: 1,
  ...over,
});

/** A destruction whose wait is over by any clock. */
export const due: Destruction = {
  at: new Date('2026-01-08T00:00:00.000Z'),
  requestedAt: new Date('2026-01-01T00:00:00.000Z'),
  reason: 'asked for',
};

export const material = (): Material => ({
  classical: {
    public: bytes(65),
    hsm: { custody: 'hsm-wrapped', generation: 1, blob: bytes(168), check: bytes(65) },
  },
  pq: { public: bytes(1184), half: { custody: 'sealed', generation: 1, sealed: bytes(93) } },
  psk: { custody: 'sealed', generation: 1, sealed: bytes(61) },
});

export const active = (keyId: string, over: Partial<Active> = {}): Active => ({
  keyId,
  version: 1,
  suite: 0x0101,
  origin: 'generated',
  createdAt: new Date('2026-11-22T12:34:56.789Z'),
  certificateChain: null,
  revision: 1,
  state: 'active',
  material: material(),
  activatedAt: new Date('2026-11-22T12:34:56.790Z'),
  deactivateAt: null,
  ...over,
});

export const keyQuery = (over: Partial<KeyQuery> = {}): KeyQuery => ({
  namespace: 'default',
  pageSize: 100,
  afterName: null,
  namePrefix: null,
  labels: {},
  suite: null,
  state: null,
  ...over,
});

export const auditQuery = (over: Partial<AuditQuery> = {}): AuditQuery => ({
  pageSize: 100,
  after: null,
  namespace: 'default',
  operation: null,
  keyId: null,
  keyRef: null,
  subject: null,
  outcome: null,
  from: null,
  until: null,
  ...over,
});

export const openInstance = async (store: Store): Promise<string> => {
  const id = randomUUID();
  await store.instances.open({ id, zone: 'local', suites: [0x0101], envelopes: [1], graceMs: 0 });
  return id;
};

/** An instance's change lane with the numbering that the audit log would do. */
export interface Changer {
  readonly instance: string;
  readonly lane: number;
  /** The change that `commit` would write next. */
  change(writes: readonly KeyWrite[], over?: Partial<ChangeCommit>): Promise<ChangeCommit>;
  /** Commits at the database's epoch and returns the new one. */
  commit(writes: readonly KeyWrite[], over?: Partial<ChangeCommit>): Promise<number>;
}

export const changer = async (store: Store): Promise<Changer> => {
  const instance = await openInstance(store);
  const lane = await store.audit.openLane(instance, 'change');
  let n = 1;
  const change: Changer['change'] = async (writes, over = {}) => {
    const { epoch } = await store.instances.beat(instance, 0);
    return {
      epoch,
      writes,
      entry: prepared(lane, n, epoch),
      scope: { scope: 'key', namespace: 'default', keyId: null, keyName: null },
      idempotency: null,
      ...over,
    };
  };
  return {
    instance,
    lane,
    change,
    commit: async (writes, over) => {
      const outcome = await store.keys.commit(await change(writes, over));
      if ('stale' in outcome) throw new Error('stale');
      n += 1;
      return outcome.epoch;
    },
  };
};

/** Inserts a key with one active version. */
export const insert = (row: Key): KeyWrite[] => [
  { kind: 'insert-key', row: attested(row) },
  { kind: 'insert-version', row: attested(active(row.id)) },
];

/** Destroys a key of which nothing but the row is to go, whose destruction is due. */
export const destroy = (row: Key): KeyWrite[] => {
  const { revision: expected } = row;
  const gone = { ...row, destruction: null, destroyedAt: new Date(), primary: null };
  return [{ kind: 'update-key', row: attested({ ...gone, revision: expected + 1 }), expected }];
};

/** The rejection of a promise, which must not resolve. */
export const rejection = async (promise: Promise<unknown>): Promise<unknown> => {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('expected a rejection');
};
