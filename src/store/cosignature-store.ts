/** Lines of witnesses; the newest checkpoints keep theirs. */
import type { Cosignature, CosignatureStore } from '../audit/cosignature-ports.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import { commitStatement, read } from './transaction.ts';

/** A line is up to 3.5 kB; with more of them, those of the smallest checkpoints go. */
const MOST_LINES = 4_096;

const ADD = {
  name: 'add_cosignatures',
  text: `insert into public.log_cosignature (size, name, key_id, line)
    select $1, * from unnest($2::text[], $3::text[], $4::text[]) on conflict do nothing`,
};
const EXPIRE = {
  name: 'expire_cosignatures',
  text: `delete from public.log_cosignature where size < (
    select size from public.log_cosignature order by size desc, name desc, key_id desc
    offset $1 limit 1)`,
};
const OF = {
  name: 'cosignatures_of',
  text: `select size, name, key_id, line from public.log_cosignature where size = $1
    order by name, key_id`,
};
const NEWEST = {
  name: 'newest_cosignatures',
  text: `select size, name, key_id, line from public.log_cosignature
    where size = (select size from public.log_cosignature order by size desc limit 1)
    order by name, key_id`,
};

interface Row {
  readonly size: string;
  readonly name: string;
  readonly key_id: string;
  readonly line: string;
}

export const createCosignatureStore = (pool: GuardedPool): CosignatureStore => {
  const rowsOf = async (statement: { name: string; text: string }, values: unknown[]) => {
    const { rows } = await read(() => pool.query<Row>({ ...statement, values })).catch(refuse);
    return rows;
  };
  return {
    add: async (size, lines) => {
      const columns = [
        lines.map(({ name }) => name),
        lines.map(({ keyId }) => keyId),
        lines.map(({ line }) => line),
      ];
      await commitStatement(pool, ADD, [size, ...columns]).catch(refuse);
      await commitStatement(pool, EXPIRE, [MOST_LINES]).catch(refuse);
    },
    of: async (size) => (await rowsOf(OF, [size])).map(lineFrom),
    newest: async () => {
      const rows = await rowsOf(NEWEST, []);
      const [first] = rows;
      return first === undefined ? null : { size: Number(first.size), lines: rows.map(lineFrom) };
    },
  };
};

const lineFrom = ({ name, key_id, line }: Row): Cosignature => ({ name, keyId: key_id, line });
