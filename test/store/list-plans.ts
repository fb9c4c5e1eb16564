/**
 * Every list, and the statements that it sends, for `list-plans.test.ts`: whoever adds a list adds it
 * here. `routes` are ids of the contract's routes whose answers are pages.
 */
import { randomUUID } from 'node:crypto';
import type { Store } from '../../src/store/store.ts';
import { keyOfEntry, nameOfKey } from './many-rows.ts';
import { auditQuery, bytes, keyQuery, openInstance } from './samples.ts';

/** What was loaded, for lists to be asked about. */
export interface Loaded {
  readonly store: Store;
  readonly namespace: string;
  readonly keys: number;
  readonly entries: number;
  readonly lane: number;
  readonly rareKey: string;
  /** An order of all keys, most of which are rotated. */
  readonly order: string;
  /** Suite of the last hundred keys. */
  readonly rareSuite: number;
  readonly commonSuite: number;
}

export interface List {
  readonly name: string;
  /** Ids of the routes that it answers; none where it is no route's. */
  readonly routes: readonly string[];
  readonly run: (loaded: Loaded) => Promise<unknown>;
  /**
   * Rows that a statement may read and not give back. A page looks at so many candidates and no more;
   * a table of few rows may say why it is read whole.
   */
  readonly rowsBeside?: number;
  /** Tables that hold few rows by their nature. */
  readonly small?: readonly string[];
}

const PAGE = 50;

const keyLists = (): readonly List[] => {
  const of = (name: string, over: (loaded: Loaded) => Parameters<typeof keyQuery>[0]): List => ({
    name: `keys ${name}`,
    routes: ['listKeys'],
    run: (loaded) =>
      loaded.store.keys.list(
        keyQuery({ namespace: loaded.namespace, pageSize: PAGE, ...over(loaded) }),
      ),
  });
  return [
    of('', () => ({})),
    of('from deep inside', ({ keys }) => ({ afterName: nameOfKey(keys - 700) })),
    of('by prefix', () => ({ namePrefix: 'svc-0003.' })),
    of('by a prefix of none', () => ({ namePrefix: 'zzz' })),
    of('by a common label', () => ({ labels: { env: 'prod' } })),
    of('by a rare label', () => ({ labels: { owner: 'team-7' } })),
    of('by a label of the last alone', () => ({ labels: { last: 'yes' } })),
    of('by a label of none', () => ({ labels: { no: 'such' } })),
    of('by a common suite', ({ commonSuite }) => ({ suite: commonSuite })),
    of('by a suite of the last alone', ({ rareSuite }) => ({ suite: rareSuite })),
    of('by a suite of none', () => ({ suite: 0x7fff })),
    of('enabled', () => ({ state: 'enabled' })),
    of('suspended', () => ({ state: 'suspended' })),
    of('destroyed', () => ({ state: 'destroyed' })),
    {
      ...of('by two labels that half of all have, and none both', () => ({
        labels: { half: 'a', kind: 'x' },
      })),
      // The candidates of each are counted.
      rowsBeside: 2_000,
    },
    of('by everything', ({ keys, rareSuite }) => ({
      labels: { half: 'a', env: 'prod', last: 'yes' },
      state: 'destroyed',
      suite: rareSuite,
      namePrefix: 'svc-',
      afterName: nameOfKey(keys - 90),
    })),
  ];
};

const entryLists = (): readonly List[] => {
  // A replay of decisions reads the same pages, in one namespace and since a time.
  const of = (name: string, over: (loaded: Loaded) => Parameters<typeof auditQuery>[0]): List => ({
    name: `entries ${name}`,
    routes: ['listAuditEntries', 'replayPolicies'],
    run: (loaded) =>
      loaded.store.audit.entries(
        auditQuery({ namespace: loaded.namespace, pageSize: PAGE, ...over(loaded) }),
      ),
  });
  return [
    of('', () => ({})),
    of('from deep inside', ({ lane }) => ({ after: { lane, n: 200 } })),
    of('of a namespace of none', () => ({ namespace: 'nowhere' })),
    of('since and until', () => ({ from: new Date(1_700_000_000_000), until: new Date() })),
    of('by a common subject', () => ({ subject: 'busy' })),
    of('by a rare subject', () => ({ subject: 'user-7' })),
    of('by a subject of the oldest', () => ({ subject: 'gone' })),
    of('by a subject of none', () => ({ subject: 'nobody' })),
    of('by key id', () => ({ keyId: keyOfEntry(7) })),
    of('by a key id of the oldest', ({ rareKey }) => ({ keyId: rareKey })),
    of('by a key id of none', () => ({ keyId: randomUUID() })),
    of('by key reference', () => ({ keyRef: 'key-7' })),
    of('by a key reference of none', () => ({ keyRef: 'none' })),
    of('by a common operation', () => ({ operation: 'wrap' })),
    of('by an operation of the oldest', () => ({ operation: 'keys.suspend' })),
    of('by success', () => ({ outcome: 'ok' })),
    of('by a failure', () => ({ outcome: 'forbidden' })),
    of('by a failure of the oldest', () => ({ outcome: 'integrity_failed' })),
    of('by two that are common, and none both', () => ({
      operation: 'wrap',
      outcome: 'forbidden',
    })),
    of('by everything', ({ rareKey, lane }) => ({
      keyId: rareKey,
      keyRef: 'rare-key',
      subject: 'gone',
      operation: 'keys.suspend',
      outcome: 'integrity_failed',
      from: new Date(0),
      until: new Date(),
      after: { lane, n: 9 },
    })),
  ];
};

const operationLists = (): readonly List[] => {
  const of = (
    name: string,
    over: (loaded: Loaded) => Partial<Parameters<Store['operations']['list']>[0]>,
  ): List => ({
    name: `operations ${name}`,
    routes: ['listOperations'],
    run: (loaded) =>
      loaded.store.operations.list({
        namespace: loaded.namespace,
        kind: null,
        state: null,
        now: new Date(),
        creator: null,
        pageSize: PAGE,
        after: null,
        ...over(loaded),
      }),
  });
  return [
    of('', () => ({})),
    {
      ...of('that rotate the root', () => ({ kind: 'root-rotation' })),
      routes: ['listRootRotations'],
    },
    of('from deep inside', () => ({
      after: { createdAt: new Date(1_750_000_000_000), id: randomUUID() },
    })),
    of('of one principal', () => ({ creator: { issuer: 'urn:i', subject: 'user-7' } })),
    of('of a principal of none', () => ({ creator: { issuer: 'urn:i', subject: 'nobody' } })),
  ];
};

const watchLists = (): readonly List[] => {
  const at = new Date(Date.now() - 3_600_000);
  const after = { at, keyId: randomUUID(), action: 'rotate/1/1' };
  const of = (name: 'failing' | 'done' | 'late', empty = false): List => ({
    name: `rotations of a namespace${empty ? ' without any' : ''}: ${name}`,
    routes: ['listNamespaceRotations'],
    run: async ({ store: { scheduler }, ...loaded }) => {
      const until = new Date();
      const namespace = empty ? 'no-rotations' : loaded.namespace;
      for (const place of [null, after]) {
        await scheduler[name]({ namespace, after: place, limit: PAGE, until });
      }
    },
  });
  return [
    ...[of('failing'), of('late'), of('done')],
    ...[of('failing', true), of('late', true), of('done', true)],
  ];
};

const approvalLists = (): readonly List[] => {
  const of = (
    name: string,
    over: Partial<Parameters<Store['approvals']['list']>[0]> = {},
  ): List => ({
    name: `approvals ${name}`,
    routes: ['listApprovals'],
    run: (loaded) =>
      loaded.store.approvals.list({
        namespace: loaded.namespace,
        state: null,
        now: new Date(),
        pageSize: PAGE,
        after: null,
        ...over,
      }),
  });
  return [
    of(''),
    of('from deep inside', {
      after: { createdAt: new Date(1_750_000_000_000), id: randomUUID() },
    }),
    of('that wait', { state: 'pending' }),
    of('that are approved', { state: 'approved' }),
    of('that expired', { state: 'expired' }),
    of('that were executed', { state: 'executed' }),
    of('that were denied, of none', { state: 'denied' }),
    {
      name: 'the open approval of a request',
      routes: [],
      run: ({ store, namespace }) =>
        store.approvals.findOpen(
          namespace,
          { issuer: 'urn:i', subject: 's' },
          bytes(32),
          new Date(),
        ),
    },
  ];
};

export const LISTS: readonly List[] = [
  ...approvalLists(),
  ...keyLists(),
  ...entryLists(),
  ...operationLists(),
  {
    name: 'uses of the versions of a key',
    routes: ['listVersionUses'],
    run: async ({ store, rareKey }) => {
      await store.uses.usesOf(rareKey, { from: 1, until: 50 });
      await store.uses.countersOf(`${rareKey}/`);
    },
    // A row for each migration; some hundreds of principals of a version are told apart.
    small: ['twofold_migration', 'version_use'],
  },
  {
    name: 'keys of every namespace by id',
    routes: ['listKeyStates'],
    run: async ({ store }) => {
      await store.keys.places(null, PAGE);
      await store.keys.places(randomUUID(), PAGE);
    },
  },
  {
    name: 'lanes',
    routes: ['listLanes'],
    run: ({ store }) => store.lanes.lanes(700, PAGE),
  },
  {
    name: 'what the log consists of',
    routes: [],
    run: async ({ store, lane }) => {
      await store.log.entries(12_345, 12_345 + PAGE);
      await store.log.checkpoints(12_345, PAGE);
      await store.log.tile(0, 40, 100);
      await store.log.tile(0, 140, 256);
      await store.log.tiles([
        { level: 0, index: 41, width: 100 },
        { level: 0, index: 141, width: 256 },
        { level: 1, index: 0, width: 256 },
      ]);
      await store.log.indexOf(lane, 12_345);
    },
    rowsBeside: 256,
  },
  {
    name: 'keys that an order could not rotate',
    routes: ['listOrderFailures'],
    run: async ({ store, order }) => {
      await store.operations.orderFailures(order, null, PAGE);
      await store.operations.orderFailures(order, randomUUID(), PAGE);
    },
  },
  {
    name: 'keys of an order whose turn it is',
    routes: [],
    run: ({ store, order }) => store.orders.waiting(order, new Date(), PAGE),
  },
  {
    name: 'orders that run',
    routes: [],
    run: async ({ store }) => {
      await store.orders.running(new Date(), PAGE, null);
      await store.orders.running(new Date(), PAGE, {
        at: new Date(1_750_000_000_000),
        id: randomUUID(),
      });
    },
  },
  ...watchLists(),
  {
    name: 'rotations of a key',
    routes: ['listRotations'],
    run: async ({ store, rareKey }) => {
      await store.scheduler.runsOf(rareKey, null, PAGE);
      await store.scheduler.runsOf(rareKey, { doneAt: new Date(), action: 'rotate/7' }, PAGE);
    },
  },
  {
    name: 'keys to look at',
    routes: [],
    run: async ({ store }) => {
      await store.scheduler.due(new Date(), PAGE, null);
      await store.scheduler.due(new Date(), PAGE, '80000000-0000-4000-8000-000000000000');
      const all = { after: new Date(0), until: new Date() };
      await store.scheduler.bringForward(new Date(0), all, 4);
    },
  },
  {
    name: 'steps of the rounds that look at every key',
    routes: [],
    run: async ({ store }) => {
      await store.scheduler.markAfter(null, PAGE);
      await store.scheduler.markAfter('f0000000-0000-4000-8000-000000000000', PAGE);
      await store.policies.markNext(PAGE);
    },
    // Each namespace has one row, of which the first with work is taken.
    small: ['rotation_policy_set', 'rotation_policy_round'],
  },
  {
    name: 'keys for a plan of rotations',
    routes: ['getRotationPlan'],
    run: async ({ store, namespace }) => {
      let batches = 0;
      const uses = { ofAll: true, suites: [], superseded: true };
      for await (const keys of store.rotationScan.keys(namespace, uses)) {
        if (keys.length > 0 && (batches += 1) === 2) break;
      }
    },
    // Batches are larger than pages.
    rowsBeside: 4_000,
  },
  {
    name: 'keys and closing versions for the dry run of a rotation policy',
    routes: [],
    run: async ({ store, namespace }) => {
      const uses = { ofAll: false, suites: [], superseded: true };
      const labels = { env: 'prod', half: 'a' };
      for await (const keys of store.rotationScan.keys(namespace, uses, labels)) {
        await store.rotationScan.usesOfOldest(
          keys.map(({ id: keyId }) => ({ keyId, skipped: 1, versions: 3 })),
        );
        break;
      }
    },
    // Batches are larger than pages, and labels are counted before.
    rowsBeside: 9_000,
  },
  {
    name: 'rotation policies',
    routes: ['listRotationPolicies'],
    run: ({ store, namespace }) => store.policies.policies(namespace, 0),
    // 200 of a namespace, and they are proven as one set.
    small: ['security_epoch', 'rotation_policy', 'rotation_policy_set'],
  },
  {
    name: 'members of a sealed set',
    routes: [
      'listNamespaces',
      'listDenials',
      'listIssuers',
      'listApprovalRules',
      'listLocalTokens',
      'listPolicies',
      'listGrants',
    ],
    run: ({ store, namespace }) => store.sets.set('policy', namespace, 0),
    // The whole set is proven at once, so it is read whole.
    small: ['security_epoch', 'set_member', 'set_seal'],
  },
  {
    name: 'kinds of sets of a namespace, and whether it has keys that live',
    routes: [],
    run: async ({ store, namespace }) => {
      await store.sets.kinds(namespace);
      await store.keys.hasLivingKeys(namespace);
    },
    small: ['security_epoch'],
  },
  {
    name: 'backups',
    routes: ['listBackups'],
    run: async ({ store }) => {
      await store.backups.list(null, PAGE);
      await store.backups.list({ createdAt: new Date(), id: randomUUID() }, PAGE);
      await store.backups.unsettled();
      await store.backups.requested({ issuer: 'i', subject: 's' }, 'k');
    },
    // A row for each that was taken: some a day.
    small: ['backup'],
  },
  {
    name: 'history of a sealed set',
    routes: ['listPolicyRevisions'],
    run: async ({ store, namespace }) => {
      const query = { kind: 'policy', namespace, name: null, pageSize: PAGE };
      await store.sets.history({ ...query, before: null });
      await store.sets.history({ ...query, before: { revision: 700, name: 'm7' } });
      await store.sets.history({ ...query, name: 'm7', before: null });
    },
  },
  {
    name: 'users of a version',
    routes: ['listVersionUsers'],
    run: ({ store, rareKey }) => store.uses.usersOf(rareKey, 1, { limit: PAGE, after: null }),
  },
  {
    // Versions of one key are read with it, and paged from the view that is cached.
    name: 'versions of a key',
    routes: ['listVersions'],
    run: ({ store, namespace }) => store.keys.find(namespace, { name: nameOfKey(7) }, 0),
    small: ['security_epoch'],
  },
  {
    name: 'published keys',
    routes: [],
    run: ({ store, namespace }) => store.keys.published(namespace, 0, 1000),
    small: ['security_epoch'],
  },
  {
    name: 'count of published keys',
    routes: [],
    run: ({ store, namespace }) => store.keys.countPublished(namespace, 1000),
    // One row says how many there are.
    rowsBeside: 1000,
  },
  {
    name: 'intents to abandon',
    routes: [],
    run: ({ store }) => store.keys.abandonIntents(randomUUID(), 'serial'),
    // The intents are of objects that are being made just now.
    small: ['token_intent', 'instance'],
  },
  {
    name: 'records of repeats that expire',
    routes: [],
    run: ({ store }) => store.expireIdempotency(new Date()),
    small: [],
  },
  {
    name: 'a record of repeats',
    routes: [],
    run: ({ store, namespace }) => store.keys.findIdempotent(namespace, bytes(32), 'k'),
  },
  {
    name: 'instances that cannot read a suite',
    routes: [],
    run: async ({ store }) => {
      const by = { id: await openInstance(store), silentMs: 0 };
      return store.instances.allRead({ suite: 1, envelope: 1 }, by);
    },
    // A row for each start of a process.
    small: ['instance'],
  },
  {
    name: 'changes since an epoch',
    routes: [],
    run: ({ store }) => store.audit.changesSince(10_000_000),
  },
];
