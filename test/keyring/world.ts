/** A keyring over the memory HSM, store and audit log; grants and runs as the routes make them. */
import { randomUUID } from 'node:crypto';
import { mintGrant } from '../../src/access/grant.ts';
import type { Grant, Operation } from '../../src/access/grant.ts';
import { createAuditLog } from '../../src/audit/log.ts';
import type { LaneReader, LogReader } from '../../src/audit/log-ports.ts';
import type { RunningAuditLog } from '../../src/audit/log.ts';
import type { Engine } from '../../src/crypto/engine.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { Hsm } from '../../src/hsm/port.ts';
import { DEFAULT_DESTRUCTION_RULES } from '../../src/keyring/destruction.ts';
import type { DestructionRules } from '../../src/keyring/destruction.ts';
import type { EventFeed } from '../../src/http/dependencies.ts';
import type { GovernanceParts } from '../../src/governance/governance.ts';
import { RootRotations } from '../../src/governance/root-rotations.ts';
import { openKeyring } from '../../src/keyring/keyring.ts';
import type { Keyring } from '../../src/keyring/keyring.ts';
import type { Binding, ChangeRun, CreateKey } from '../../src/keyring/operations.ts';
import type { KeyStore } from '../../src/keyring/ports.ts';
import { NamespaceRotationPolicies } from '../../src/keyring/namespace-policies.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import { rootChange } from '../../src/keyring/root-ports.ts';
import { POLICY_LIMITS } from '../../src/keyring/rotation-policy.ts';
import type { Root } from '../../src/keyring/root.ts';
import type { SuitePolicy } from '../../src/keyring/suite-policy.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { MemoryLog, memoryLanes } from '../http/log-in-memory.ts';
import { softwareMac } from '../audit/memory-store.ts';
import { memoryEvents } from './memory-events.ts';
import { MemoryStore } from './memory-store.ts';
import { watchedHsm } from './watched-hsm.ts';
import type { WatchedHsm } from './watched-hsm.ts';

export const INSTALLATION = '5e1f8b1c-98a4-4b5e-9d5d-1d2f6a3b4c5d';
export const PRINCIPAL = {
  issuer: 'urn:example:issuer',
  subject: 'alice',
  method: 'jwt',
  roles: ['admin'],
  acr: null,
  amr: [],
  session: new Uint8Array(16),
  expiresAt: new Date('2100-01-01T00:00:00Z'),
  namespace: null,
} as const;

export const NO_BINDING: Binding = { encryptionContext: {}, aad: new Uint8Array(0) };

export const WRAP_SUITES = [
  'MLKEM768-P256',
  'MLKEM768-X25519',
  'MLKEM1024-P384',
  'A256GCM',
] as const;
export const SIGN_SUITES = ['MLDSA65-ECDSA-P256-SHA512', 'MLDSA87-ECDSA-P384-SHA512'] as const;

export const secret = (text: string): SecretBytes => SecretBytes.own(Buffer.from(text));

/** The code of a `TwofoldError` that `promise` rejects with; another rejection fails the test. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (TwofoldError.is(error)) return error.code;
    throw error;
  }
  return 'no error';
}

export const aRun = (changes: Partial<ChangeRun> = {}): ChangeRun => ({
  dryRun: false,
  requestId: randomUUID(),
  ended: Promise.resolve(),
  source: '192.0.2.7',
  ifMatch: null,
  idempotency: null,
  render: ({ after }) => ({
    status: 200,
    body: JSON.stringify({ id: after.key.id, revision: after.key.revision }),
  }),
  ...changes,
});

/** `CreateKey` with the suite by its id. */
export type KeyWanted = Omit<CreateKey, 'suite'> & { readonly suite: string };

export const aKey = (changes: Partial<KeyWanted> = {}): CreateKey => ({
  name: `key-${randomUUID().slice(0, 13)}`,
  labels: {},
  deletionProtection: false,
  ...changes,
  suite: findSuite(changes.suite ?? 'MLKEM768-P256'),
});

/** What `rotate` takes: to the suite of that id, or within the key's own. */
export const toSuite = (id?: string) => (id === undefined ? {} : { suite: findSuite(id) });

export interface Instance {
  readonly id: string;
  readonly hsm: Hsm;
  readonly keyring: Keyring;
  readonly policies: NamespaceRotationPolicies;
  /** What stored sets are made of. */
  readonly governing: GovernanceParts;
  readonly epoch: SecurityEpoch;
  readonly uses: UsageCounters;
  readonly audit: RunningAuditLog;
  readonly rootRotations: RootRotations;
  /** None unless told. */
  readonly events?: EventFeed;
  /** Of the sequenced log; empty unless told. */
  readonly log?: LogReader;
  readonly lanes?: LaneReader;
  grant<O extends Operation>(operation: O, key: string | null, namespace?: string): Grant<O>;
  /** Creates a key and answers its id. */
  create(input?: Partial<KeyWanted>): Promise<string>;
  wrap(key: string, text: string, binding?: Binding): Promise<Uint8Array>;
  unwrap(key: string, ciphertext: Uint8Array, binding?: Binding): Promise<string>;
  stop(): Promise<void>;
}

export interface World extends Instance {
  readonly device: WatchedHsm;
  readonly store: MemoryStore;
  readonly root: Root;
  /** A second instance over the same HSM, database and root. */
  second(): Promise<Instance>;
}

/** What the configuration's defaults admit, and experimental suites too. */
export const ANY_SUITE: SuitePolicy = {
  profile: 'default',
  allow: [],
  classicalUntil: null,
  experimental: true,
  tokenKeysNamed: false,
};

export interface WorldOptions {
  /** Capabilities that the token lacks. */
  readonly lacks?: readonly string[];
  readonly engine?: Engine;
  readonly suites?: SuitePolicy;
  readonly destruction?: DestructionRules;
  /** The system's clock unless told. */
  readonly clock?: () => Date;
  /** Published keys of a namespace; those of production unless told. */
  readonly mostPublished?: number;
}

export async function openWorld({
  lacks = [],
  engine = nativeEngine,
  suites = ANY_SUITE,
  destruction = DEFAULT_DESTRUCTION_RULES,
  clock = () => new Date(),
  mostPublished,
}: WorldOptions = {}): Promise<World> {
  const device = watchedHsm(undefined, { lacks });
  const { hsm } = device;
  const store = new MemoryStore();
  device.token.makeRoot({ generation: 1, installation: INSTALLATION });
  const uses = new UsageCounters(store);
  const root = await openRoot(hsm, store, uses, null);
  const bounds = mostPublished === undefined ? {} : { mostPublished };
  const first = await openInstance({
    hsm,
    engine,
    store,
    root,
    uses,
    suites,
    destruction,
    clock,
    ...bounds,
  });
  const others: Instance[] = [];
  return {
    ...first,
    device,
    store,
    root,
    second: async () => {
      const counters = new UsageCounters(store);
      const opened = await openRoot(hsm, store, counters, null);
      const instance = await openInstance({
        hsm,
        engine,
        store,
        root: opened,
        uses: counters,
        suites,
        destruction,
        clock,
        ...bounds,
      });
      others.push(instance);
      return instance;
    },
    stop: async () => {
      for (const instance of [first, ...others]) await instance.stop();
    },
  };
}

interface InstanceParts {
  readonly hsm: Hsm;
  readonly engine: Engine;
  readonly store: MemoryStore;
  readonly root: Root;
  readonly uses: UsageCounters;
  readonly suites?: SuitePolicy;
  readonly destruction?: DestructionRules;
  readonly clock?: () => Date;
  readonly mostPublished?: number;
}

export async function openInstance({
  hsm,
  engine,
  store,
  root,
  uses,
  suites = ANY_SUITE,
  destruction = DEFAULT_DESTRUCTION_RULES,
  clock = () => new Date(),
  mostPublished,
}: InstanceParts): Promise<Instance> {
  const id = randomUUID();
  const epoch = new SecurityEpoch(store.audit.epoch);
  const audit = createAuditLog({
    store: store.audit,
    mac: softwareMac,
    epoch,
    instance: id,
    zone: 'z1',
    changeDeadlineMs: 2000,
  });
  await audit.start();
  epoch.onChange(({ keyName }) => {
    const change = rootChange(keyName);
    if (change?.act === 'in-force') root.enforce(change.generation);
  });
  const refreshEpoch = async () => epoch.advance(await store.audit.changesSince(epoch.current));
  const keys: KeyStore = store;
  const keyring = openKeyring({
    store: keys,
    operations: store.operations,
    instances: store,
    hsm,
    engine,
    root,
    uses,
    audit,
    epoch,
    refreshEpoch,
    instance: id,
    versionUses: store.uses,
    rotationPolicies: (name) => policies.current(name),
    suites,
    destruction,
    clock,
    ...(mostPublished === undefined ? {} : { mostPublished }),
  });
  const { integrity } = keyring;
  const changing = { store: keys, audit, epoch, refreshEpoch, mac: root.mac, integrity, clock };
  const governing = {
    ...changing,
    sets: store.sets,
    approvals: store.approvals,
    findKey: keyring.find,
  };
  const policies = new NamespaceRotationPolicies({
    ...changing,
    policies: store,
    policyLimits: POLICY_LIMITS,
  });
  return {
    id,
    hsm,
    keyring,
    policies,
    governing,
    epoch,
    uses,
    audit,
    rootRotations: new RootRotations({
      ...changing,
      operations: store.operations,
      root,
      roots: store,
      rotations: store.rotations,
    }),
    events: memoryEvents(store),
    log: new MemoryLog(() => store.audit.all()),
    lanes: memoryLanes(store.audit),
    ...requests(keyring, epoch),
    stop: stopOf(keyring, audit),
  };
}

function stopOf(keyring: Keyring, audit: RunningAuditLog) {
  return async () => {
    keyring.close();
    await audit.stop(1000);
  };
}

/** What tests ask of a keyring, with grants minted at the current epoch. */
export function requests(keyring: Keyring, epoch: SecurityEpoch) {
  const grant = <O extends Operation>(operation: O, key: string | null, namespace = 'default') =>
    mintGrant({
      operation,
      namespace,
      key,
      principal: PRINCIPAL,
      decision: { allowed: true, revision: 'test', policies: ['p'] },
      epoch: epoch.current,
    });
  return {
    grant,
    create: async (input: Partial<KeyWanted> = {}) => {
      const key = aKey(input);
      const done = await keyring.manage.create(grant('keys.create', key.name), key, aRun());
      return done.change?.after.key.id ?? '';
    },
    wrap: async (key: string, text: string, binding = NO_BINDING) => {
      const input = { plaintext: secret(text), binding };
      return (await keyring.use.wrap(grant('wrap', key), input)).ciphertext;
    },
    unwrap: async (key: string, ciphertext: Uint8Array, binding = NO_BINDING) => {
      const { plaintext } = await keyring.use.unwrap(grant('unwrap', key), { ciphertext, binding });
      return Buffer.from(plaintext.reveal()).toString();
    },
  };
}
