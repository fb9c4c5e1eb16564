/**
 * Root generations. Rows are first-wins: of several instances that make a root at once, one does.
 */
import { TwofoldError } from '../errors.ts';
import type { HsmMaterial } from '../hsm/port.ts';
import type { RootGeneration, RootStore } from '../keyring/ports.ts';
import { bufferOf } from './entry-columns.ts';
import { refuse } from './failures.ts';
import type { root_generation } from './generated/client.ts';
import type { GuardedPool } from './pool.ts';
import { RowReader } from './rows.ts';
import { commitStatement, read } from './transaction.ts';

/** All of them: what a row cannot mean is noticed only in columns that are read. */
const COLUMNS = Object.keys({
  generation: true,
  installation: true,
  state: true,
  seal_blob: true,
  seal_check: true,
  mac_blob: true,
  mac_check: true,
  canary: true,
  kept_generation: true,
  kept_blob: true,
  kept_mac: true,
} satisfies Record<keyof root_generation, true>).join(', ');

const INTEND = `insert into public.root_generation (generation, installation, state)
  values ($1, $2, 'intended') on conflict do nothing`;

const COMPLETE = `update public.root_generation set state = $8,
    seal_blob = $3, seal_check = $4, mac_blob = $5, mac_check = $6, canary = $7
  where generation = $1 and installation = $2 and state = 'intended'`;

const GENERATIONS = {
  name: 'root_generations',
  text: `select ${COLUMNS} from public.root_generation order by generation`,
};

const GENERATION = {
  name: 'root_generation',
  text: `select ${COLUMNS} from public.root_generation where generation = $1`,
};

const ANY_KEY = { name: 'any_key', text: 'select from public.key limit 1' };

export const createRootStore = (pool: GuardedPool): RootStore => ({
  generations: async () => {
    const { rows } = await read(() => pool.query<root_generation>(GENERATIONS));
    return rows.map(fromRow);
  },

  intend: async (generation, installation) => {
    await commitStatement(pool, INTEND, [generation, installation]).catch(refuse);
    return winner(pool, generation);
  },

  complete: async (root) => {
    const { seal, mac, canary } = root;
    if (seal === null || mac === null || canary === null) throw new TwofoldError('internal');
    await commitStatement(pool, COMPLETE, [
      root.generation,
      root.installation,
      ...wrapped(root, seal),
      ...wrapped(root, mac),
      bufferOf(canary),
      root.state,
    ]).catch(refuse);
    return winner(pool, root.generation);
  },

  hasKeys: async () => (await read(() => pool.query(ANY_KEY))).rows.length > 0,
});

const winner = async (pool: GuardedPool, generation: number): Promise<RootGeneration> => {
  const query = { ...GENERATION, values: [generation] };
  const [row] = (await read(() => pool.query<root_generation>(query))).rows;
  if (row === undefined)
    throw new TwofoldError('internal', 'The root generation was never intended.');
  return fromRow(row);
};

/** Keys of a generation are wrapped under its own root and in no other way. */
const wrapped = ({ generation }: RootGeneration, key: HsmMaterial): readonly Buffer[] => {
  if (key.custody !== 'hsm-wrapped' || key.generation !== generation) {
    throw new TwofoldError('internal', 'A root key is wrapped under its own generation.');
  }
  return [bufferOf(key.blob), bufferOf(key.check)];
};

const fromRow = (row: root_generation): RootGeneration => {
  const columns = new RowReader<root_generation>('root_generation', row);
  const generation = columns.integer('generation');
  const root = {
    generation,
    installation: columns.text('installation'),
    state: columns.one('state', STATES),
    seal: material(generation, columns.maybeBytes('seal_blob'), columns.maybeBytes('seal_check')),
    mac: material(generation, columns.maybeBytes('mac_blob'), columns.maybeBytes('mac_check')),
    canary: columns.maybeBytes('canary'),
    kept: keptFrom(columns, row.mac_check),
  };
  columns.done();
  return root;
};

const STATES = [
  'intended',
  'complete',
  'in-force',
  'retiring',
  'retired',
] as const satisfies readonly RootGeneration['state'][];

/** It has the check value of the key that it is. */
const keptFrom = (
  columns: RowReader<root_generation>,
  check: Uint8Array | null,
): RootGeneration['kept'] => {
  if (!columns.any(['kept_generation']) || check === null) return null;
  const generation = columns.integer('kept_generation');
  const blob = columns.bytes('kept_blob');
  const value = {
    custody: 'hsm-wrapped',
    generation,
    blob,
    check: Uint8Array.from(check),
  } as const;
  return { value, mac: columns.bytes('kept_mac') };
};

const material = (
  generation: number,
  blob: Uint8Array | null,
  check: Uint8Array | null,
): HsmMaterial | null =>
  blob === null || check === null ? null : { custody: 'hsm-wrapped', generation, blob, check };
