/** The log's name and the keys of its checkpoints. */
import type {
  LogKey,
  LogKeyStore,
  LogName,
  NewLogKeys,
  TokenRemoval,
  WithMac,
} from '../audit/key-ports.ts';
import { refuse } from './failures.ts';
import type { log_key } from './generated/client.ts';
import type { GuardedPool } from './pool.ts';
import { RowReader, byteaText, rowJson } from './rows.ts';
import { COMMITTED, commitStatement, committedRead, committing } from './transaction.ts';

/** The name's columns on each row, and those of one key, null where there is none. */
const READ = committing({
  name: 'log_keys',
  text: `select n.origin, n.created_at as name_created_at, n.mac as name_mac, k.*
    from ${COMMITTED} left join public.log_name n on true left join public.log_key k on true
    order by k.created_at, k.kind, k.id`,
});

const OF_NAME: readonly string[] = ['origin', 'name_created_at', 'name_mac'];

const MAKE = { name: 'make_log_keys', text: 'select public.make_log_keys($1, $2)' };
const UPDATE = { name: 'update_log_keys', text: 'select public.update_log_keys($1, $2)' };

type Row = log_key & {
  readonly origin: string | null;
  readonly name_created_at: Date;
  readonly name_mac: Uint8Array;
};

export const createLogKeyStore = (pool: GuardedPool): LogKeyStore => ({
  read: async () => {
    const rows = await committedRead<Row>(pool, READ, []).catch(refuse);
    const [first] = rows;
    const keys = rows
      .filter(({ id }) => (id as string | null) !== null)
      .map((row) => logKeyFromRow(keyRowOf(row)));
    return { name: first === undefined ? null : nameFrom(first), keys };
  },

  make: async (name, pair) => {
    const parameters = [name && JSON.stringify(nameRow(name)), JSON.stringify(logKeysJson(pair))];
    await commitStatement(pool, MAKE, parameters).catch(refuse);
  },

  update: async (updates, removals) => {
    const rows = updates.map(({ row, expected }) => ({ ...rowJson(keyRow(row)), expected }));
    const intents = removals.map((intent) => rowJson(intentRow(intent)));
    const parameters = [JSON.stringify(rows), JSON.stringify(intents)];
    await commitStatement(pool, UPDATE, parameters).catch(refuse);
  },
});

/** As `write_insert_log_keys` takes it. */
export const logKeysJson = ({ rows, objectId }: NewLogKeys) => ({
  rows: rows.map((row) => rowJson(keyRow(row))),
  object_id: objectId === null ? null : byteaText(objectId),
});

const nameRow = ({ value, mac }: WithMac<LogName>) =>
  rowJson({ origin: value.origin, created_at: value.createdAt, mac });

const nameFrom = ({ origin, name_created_at, name_mac }: Row): WithMac<LogName> | null =>
  origin === null ? null : logNameFromRow({ origin, created_at: name_created_at, mac: name_mac });

export const logNameFromRow = (row: {
  readonly origin: string;
  readonly created_at: Date;
  readonly mac: Uint8Array;
}): WithMac<LogName> => ({
  value: { origin: row.origin, createdAt: row.created_at },
  mac: Uint8Array.from(row.mac),
});

/** The columns of the key alone. */
const keyRowOf = (row: Row): log_key =>
  Object.fromEntries(
    Object.entries(row).filter(([column]) => !OF_NAME.includes(column)),
  ) as log_key;

/** @throws TwofoldError integrity_failed */
export const logKeyFromRow = (row: log_key): WithMac<LogKey> => {
  const columns = new RowReader<log_key>('log_key', row);
  const value = {
    id: columns.text('id'),
    zone: columns.text('zone'),
    kind: columns.one('kind', ['ed25519', 'ml-dsa-44']),
    publicKey: columns.bytes('public_key'),
    state: columns.one('state', ['pending', 'active', 'retiring', 'retired']),
    pinned: columns.boolean('pinned'),
    material: materialFrom(columns),
    announced: columns.maybeText('announced'),
    createdAt: columns.time('created_at'),
    activatedAt: columns.maybeTime('activated_at'),
    retiredAt: columns.maybeTime('retired_at'),
    revision: columns.integer('revision'),
  };
  const mac = columns.bytes('mac');
  columns.done();
  return { value, mac };
};

const materialFrom = (columns: RowReader<log_key>): LogKey['material'] => {
  if (!columns.any(['custody'])) return null;
  if (columns.one('custody', ['sealed', 'hsm-token']) === 'sealed') {
    const [generation, sealed] = [columns.integer('generation'), columns.bytes('sealed')];
    return { custody: 'sealed', generation, sealed };
  }
  return {
    custody: 'hsm-token',
    tokenSerial: columns.text('token_serial'),
    installation: columns.text('installation'),
    objectId: columns.bytes('object_id'),
  };
};

const NO_MATERIAL = {
  custody: null,
  token_serial: null,
  installation: null,
  object_id: null,
  generation: null,
  sealed: null,
};

const materialRow = (material: LogKey['material']) => {
  if (material === null) return NO_MATERIAL;
  if (material.custody === 'sealed') {
    const { custody, generation, sealed } = material;
    return { ...NO_MATERIAL, custody, generation, sealed };
  }
  const { custody, tokenSerial, installation, objectId } = material;
  return {
    ...NO_MATERIAL,
    ...{ custody, installation, token_serial: tokenSerial, object_id: objectId },
  };
};

const keyRow = ({ value: key, mac }: WithMac<LogKey>) => ({
  id: key.id,
  zone: key.zone,
  kind: key.kind,
  public_key: key.publicKey,
  state: key.state,
  pinned: key.pinned,
  ...materialRow(key.material),
  announced: key.announced,
  created_at: key.createdAt,
  activated_at: key.activatedAt,
  retired_at: key.retiredAt,
  revision: key.revision,
  mac,
});

const intentRow = ({ value: intent, mac }: TokenRemoval) => ({
  object_id: intent.objectId,
  installation: intent.installation,
  token_serial: intent.tokenSerial,
  instance: intent.instance,
  created_at: intent.createdAt,
  mac,
});
