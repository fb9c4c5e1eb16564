/** What a rotation of the root reads and writes: see `keyring/root-ports.ts`. */
import type {
  RemadeRow,
  RootHolder,
  RootPage,
  RootReference,
  RootRetirementReads,
  RootRotationStore,
  RootRow,
  RootTable,
} from '../keyring/root-ports.ts';
import { ROOT_ROTATION } from '../keyring/root-ports.ts';
import { TwofoldError } from '../errors.ts';
import { commitOutcome } from './audit-store.ts';
import { approvalFromRow } from './approval-rows.ts';
import { refuse } from './failures.ts';
import { IS_LIVE } from './instance-store.ts';
import { IDEMPOTENCY_COLUMNS, idempotencyFromRow, intentFromRow } from './key-store.ts';
import { KEY_COLUMNS, keyFromRow } from './key-rows.ts';
import { logKeyFromRow, logNameFromRow } from './log-key-store.ts';
import { operationParameters } from './operation-store.ts';
import { OPERATION_COLUMNS, operationFromRow } from './operation-rows.ts';
import { policyFromRow, policySealFromRow } from './policy-store.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGate } from './read-gate.ts';
import { byteaText } from './rows.ts';
import { memberFromRow, setSealFromRow } from './set-store.ts';
import { COMMITTED, commitStatement, committedRead, committing, read } from './transaction.ts';
import type { Committing } from './transaction.ts';
import { VERSION_COLUMNS, versionFromRow } from './version-rows.ts';

/** Rows that one page looks at, however few of them it finds. */
const WINDOW = 2_000;

/**
 * The newest entry that parameters were asked for, from when the generation came in force up to a minute after the generation was replaced: an
 * answer that was under way then may have been made before.
 */
const IMPORTS_GIVEN = committing({
  name: 'root_imports_given',
  text: `select v.at from ${COMMITTED} left join (
    select max(e.at) as at from public.namespace n
    cross join lateral (
      select e.at from public.entry e
      where e.namespace = n.name and e.operation = 'keys.import-parameters' and e.outcome = 'ok'
        and e.at > greatest(clock_timestamp() - $2::bigint * interval '1 ms', (
          select min(o.created_at) from public.operation o
          where o.kind = $3 and (o.request ->> 'generation')::integer = $1
        ))
        and e.at < coalesce((
          select min(o.created_at) from public.operation o
          where o.kind = $3 and (o.request ->> 'generation')::integer > $1
        ), clock_timestamp()) + interval '1 minute'
      order by e.at desc limit 1) e
    ) v on true`,
});

/** An object is destroyed where nobody has it open, which no old primary is to say. */
const HOLDERS = committing({
  name: 'root_holders',
  text: `select i.id, i.zone, i.generations, i.epoch_seen from ${COMMITTED} left join (
      select * from public.instance where ${IS_LIVE}
    ) i on true order by i.opened_at, i.id`,
});

/** Rows outlive their instances by weeks: a zone that was silent for a day counts as one that lacks it. */
const ZONES_HOLDING = committing({
  name: 'root_zones_holding',
  text: `select i.zone from ${COMMITTED} left join (
      select distinct zone from public.instance where $1::integer = any (generations)
        and beat_at > clock_timestamp() - interval '1 day'
    ) i on true order by i.zone`,
});

type HolderRow = Omit<RootHolder, 'epochSeen' | 'id'> & {
  /** Null in the row that says that there is none. */
  readonly id: string | null;
  readonly epoch_seen: string;
};

/** How the rows of a table are found, read and named in a batch. */
interface Table {
  readonly name: string;
  /** Its primary key, with the types of its columns. */
  readonly key: readonly (readonly [column: string, type: string])[];
  readonly columns: readonly string[];
  /** Columns of generations beside that of the MAC. */
  readonly generations?: readonly string[];
  /** Reads a row that has the columns. */
  readonly from: (row: never) => { readonly value: unknown; readonly mac: Uint8Array };
}

const SET_COLUMNS = ['kind', 'namespace', 'revision', 'name', 'at', 'author', 'value', 'mac'];

const TABLES: Readonly<Record<RootTable, Table>> = {
  version: {
    name: 'key_version',
    key: [
      ['key_id', 'uuid'],
      ['version', 'integer'],
    ],
    columns: VERSION_COLUMNS,
    generations: ['classical_generation', 'pq_generation', 'psk_generation'],
    from: versionFromRow,
  },
  key: { name: 'key', key: [['id', 'uuid']], columns: KEY_COLUMNS, from: keyFromRow },
  intent: {
    name: 'token_intent',
    key: [['object_id', 'bytea']],
    columns: ['object_id', 'installation', 'token_serial', 'instance', 'created_at', 'mac'],
    from: intentFromRow,
  },
  idempotency: {
    name: 'idempotency',
    key: [
      ['namespace', 'text'],
      ['principal', 'bytea'],
      ['key', 'text'],
    ],
    columns: IDEMPOTENCY_COLUMNS,
    from: idempotencyFromRow,
  },
  operation: {
    name: 'operation',
    key: [['id', 'uuid']],
    columns: OPERATION_COLUMNS,
    from: (row: Parameters<typeof operationFromRow>[0]) => operationFromRow(row).identity,
  },
  policy: {
    name: 'rotation_policy',
    key: [
      ['namespace', 'text'],
      ['name', 'text'],
    ],
    columns: ['namespace', 'name', 'selector', 'priority', 'policy', 'mac'],
    from: policyFromRow,
  },
  'policy-set': {
    name: 'rotation_policy_set',
    key: [['namespace', 'text']],
    columns: ['namespace', 'revision', 'hash', 'paused', 'mac'],
    from: policySealFromRow,
  },
  member: {
    name: 'set_member',
    key: [
      ['kind', 'text'],
      ['namespace', 'text'],
      ['name', 'text'],
    ],
    columns: SET_COLUMNS,
    from: memberFromRow,
  },
  history: {
    name: 'set_history',
    key: [
      ['kind', 'text'],
      ['namespace', 'text'],
      ['revision', 'integer'],
      ['name', 'text'],
    ],
    columns: SET_COLUMNS,
    from: memberFromRow,
  },
  seal: {
    name: 'set_seal',
    key: [
      ['kind', 'text'],
      ['namespace', 'text'],
    ],
    columns: ['kind', 'namespace', 'revision', 'hash', 'mac'],
    from: setSealFromRow,
  },
  approval: {
    name: 'approval',
    key: [['id', 'uuid']],
    columns: ['*'],
    from: approvalFromRow,
  },
  'log-name': {
    name: 'log_name',
    key: [['one', 'boolean']],
    columns: ['origin', 'created_at', 'mac'],
    from: logNameFromRow,
  },
  'log-key': {
    name: 'log_key',
    key: [['id', 'uuid']],
    columns: ['*'],
    generations: ['generation'],
    from: logKeyFromRow,
  },
};

/** `$1`: the generation that all is to be under; `$2`: the first one. */
const needs = ({ generations = [] }: Table): string =>
  [
    'public.mac_generation(t.mac, $2) <> $1',
    ...generations.map((column) => `t.${column} <> $1`),
  ].join(' or ');

const placeOf = ({ key }: Table): string =>
  `jsonb_build_array(${key.map(([column]) => `t.${column}::text`).join(', ')})`;

const columnsOfKey = ({ key }: Table): string => key.map(([column]) => `t.${column}`).join(', ');

/** Condition on the primary key, with its values from the parameter `from` on. */
const bound = ({ key }: Table, from: number): string => {
  const values = key.map(([, type], index) => `$${String(from + index)}::text::${type}`);
  return `(${key.map(([column]) => `t.${column}`).join(', ')}) > (${values.join(', ')})`;
};

type Place = readonly string[];

const parsedPlace = (text: string | null): Place | null =>
  text === null ? null : (JSON.parse(text) as Place);

const COMMIT = {
  name: 'commit_root_batch',
  text: `select public.commit_root_batch(
    $1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15) as epoch`,
};

export const createRootRotationStore = (
  pool: GuardedPool,
  searches: ReadGate,
): RootRotationStore & RootRetirementReads => {
  const query = async <R extends object>(text: string, values: readonly unknown[]) => {
    const { rows } = await searches.run(() =>
      read(() => pool.query<R>(text, [...values])).catch(refuse),
    );
    return rows;
  };

  const certain = <R extends object>(statement: Committing, values: readonly unknown[]) =>
    searches.run(() => committedRead<R>(pool, statement, values).catch(refuse));

  /** The last place of the window after `after`; null when the window reaches the end. */
  const windowEnd = async (table: Table, after: Place | null): Promise<Place | null> => {
    const where = after === null ? '' : `where ${bound(table, 1)}`;
    const rows = await query<{ readonly place: Place }>(
      `select ${placeOf(table)} as place from public.${table.name} t ${where}
       order by ${columnsOfKey(table)} offset ${String(WINDOW - 1)} limit 1`,
      after ?? [],
    );
    return rows[0]?.place ?? null;
  };

  return {
    page: async (of, { generation, first }, after, limit): Promise<RootPage> => {
      const table = TABLES[of];
      const from = parsedPlace(after);
      const values: unknown[] = [generation, first, limit, ...(from ?? [])];
      const window = `select * from public.${table.name} t
        ${from === null ? '' : `where ${bound(table, 4)}`}
        order by ${columnsOfKey(table)} limit ${String(WINDOW)}`;
      const columns = table.columns.map((column) => `t.${column}`).join(', ');
      const found = await query<{ readonly root_place: Place }>(
        `select ${placeOf(table)} as root_place, ${columns} from (${window}) t
         where ${needs(table)} order by ${columnsOfKey(table)} limit $3`,
        values,
      );
      const full = found.length === limit;
      const last = full ? found.at(-1)?.root_place : await windowEnd(table, from);
      const rows = found.map((row) => readable(of, withoutPlace(row)));
      return {
        rows: rows.filter((row) => row !== null),
        malformed: rows.filter((row) => row === null).length,
        next: last === null || last === undefined ? null : JSON.stringify(last),
      };
    },

    commitBatch: async (step, rows) => {
      const [epoch, write, , ...entry] = operationParameters(step);
      const parameters = [JSON.stringify(rows.map(rowJson)), epoch, write, ...entry];
      const answered = await commitStatement<{ epoch: string }>(pool, COMMIT, parameters).catch(
        refuse,
      );
      // It raises no epoch: nobody has to hear of it.
      return { ...commitOutcome(answered.rows), held: false };
    },

    references: async () => {
      const rows = await query<{ generation: number; what: string; rows: string }>(
        'select generation, what, rows from public.root_references() order by generation, what',
        [],
      );
      return rows.map(({ generation, what, rows: many }): RootReference => ({
        generation,
        what: what as RootReference['what'],
        rows: Number(many),
      }));
    },

    holders: async () => {
      const rows = await certain<HolderRow>(HOLDERS, []);
      return rows.flatMap(({ id, epoch_seen, ...rest }) =>
        id === null ? [] : [{ id, ...rest, epochSeen: Number(epoch_seen) }],
      );
    },

    zonesHolding: async (generation) => {
      const rows = await certain<{ readonly zone: string | null }>(ZONES_HOLDING, [generation]);
      return rows.flatMap(({ zone }) => (zone === null ? [] : [zone]));
    },

    importsGivenAt: async (generation, withinMs) => {
      const rows = await certain<{ readonly at: Date | null }>(IMPORTS_GIVEN, [
        generation,
        withinMs,
        ROOT_ROTATION,
      ]);
      return rows[0]?.at ?? null;
    },

    running: async () => {
      const rows = await query<{ readonly id: string }>(
        `select id from public.operation where kind = $1 and state = 'running'`,
        [ROOT_ROTATION],
      );
      return rows[0]?.id ?? null;
    },
  };
};

const withoutPlace = (row: object): object =>
  Object.fromEntries(Object.entries(row).filter(([column]) => column !== 'root_place'));

/** Null for a row that none of ours could be. */
function readable(table: RootTable, row: object): RootRow | null {
  try {
    return { table, ...TABLES[table].from(row as never) } as RootRow;
  } catch (error) {
    if (TwofoldError.is(error, 'integrity_failed')) return null;
    throw error;
  }
}

/** As `remake_root_rows` takes it: the primary key, both MACs, and the material that is new. */
function rowJson(row: RemadeRow): object {
  const macs = {
    table: row.table,
    old: row.old === null ? null : byteaText(row.old),
    mac: byteaText(row.mac),
  };
  switch (row.table) {
    case 'version':
      return { ...macs, ...versionJson(row.value) };
    case 'key':
    case 'operation':
    case 'approval':
      return { ...macs, id: row.value.id };
    case 'intent':
      return { ...macs, object_id: byteaText(row.value.objectId) };
    case 'idempotency': {
      const { namespace, principal, key } = row.value;
      return { ...macs, namespace, principal: byteaText(principal), key };
    }
    case 'policy':
      return { ...macs, namespace: row.value.namespace, name: row.value.name };
    case 'policy-set':
      return { ...macs, namespace: row.value.namespace };
    case 'member':
    case 'history': {
      const { kind, namespace, name, revision } = row.value;
      return { ...macs, kind, namespace, name, revision };
    }
    case 'seal':
      return { ...macs, kind: row.value.kind, namespace: row.value.namespace };
    case 'log-name':
      return macs;
    case 'log-key': {
      const { id, material } = row.value;
      const sealed = material?.custody === 'sealed' ? material : null;
      return {
        ...macs,
        id,
        generation: sealed?.generation ?? null,
        sealed: sealed === null ? null : byteaText(sealed.sealed),
      };
    }
    case 'kept':
      return {
        ...macs,
        generation: row.generation,
        kept_generation: row.value.generation,
        kept_blob: byteaText(row.value.blob),
      };
  }
}

function versionJson(version: Extract<RootRow, { table: 'version' }>['value']): object {
  const { keyId, version: number } = version;
  const { classical, pq, psk } =
    'material' in version ? version.material : { classical: null, pq: null, psk: null };
  const wrapped = classical?.hsm.custody === 'hsm-wrapped' ? classical.hsm : null;
  const bytes = (value: Uint8Array | undefined) => (value === undefined ? null : byteaText(value));
  return {
    id: keyId,
    version: number,
    classical_generation: wrapped?.generation ?? null,
    classical_blob: bytes(wrapped?.blob),
    pq_generation: pq?.half.generation ?? null,
    pq_sealed: bytes(pq?.half.sealed),
    psk_generation: psk?.generation ?? null,
    psk_sealed: bytes(psk?.sealed),
  };
}
