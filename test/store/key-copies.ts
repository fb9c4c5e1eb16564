/**
 * Copies of a key that the service takes for its own: rows by SQL, with MACs of the root. Their material is
 * bound to the key that was copied, so nothing is opened with them; they are looked at and rotated.
 */
import type pg from 'pg';
import { attestPage } from '../../bench/list-rows.ts';
import type { RowMac } from '../../src/keyring/row-mac.ts';
import type { Store } from '../../src/store/store.ts';
import { keyQuery } from './samples.ts';

const PAGE = 1_000;

export interface Copies {
  /** Id of a key of the namespace `default` with one version. */
  readonly of: string;
  readonly count: number;
  /** Names are this and a number. */
  readonly prefix: string;
  /** Of each first version. */
  readonly activatedAt: Date;
}

async function columnsOf(
  owner: pg.Client,
  table: string,
  changed: Readonly<Record<string, string>>,
): Promise<string> {
  const { rows } = await owner.query<{ name: string }>(
    `select attname as name from pg_attribute
      where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum`,
    [`public.${table}`],
  );
  return rows.map(({ name }) => changed[name] ?? `t.${name}`).join(', ');
}

const WITHOUT = [
  ['key', 'key_changed'],
  ['key', 'key_counted'],
  ['key_version', 'key_version_counted'],
] as const;

/** Nothing asks the scheduler to look at them; a change of policies does. */
export async function copyKey(
  owner: pg.Client,
  { keys }: Pick<Store, 'keys'>,
  mac: RowMac,
  { of, count, prefix, activatedAt }: Copies,
): Promise<void> {
  const triggers = (what: 'enable' | 'disable') =>
    owner.query(
      WITHOUT.map(([table, name]) => `alter table public.${table} ${what} trigger ${name}`).join(
        '; ',
      ),
    );
  await triggers('disable');
  const key = await columnsOf(owner, 'key', { id: 'gen_random_uuid()', name: '$2 || i' });
  await owner.query(
    `insert into public.key select ${key} from public.key t, generate_series(1, $3::integer) i
      where t.id = $1`,
    [of, prefix, count],
  );
  const time = '$3::timestamptz';
  const version = await columnsOf(owner, 'key_version', {
    key_id: 'k.id',
    created_at: time,
    activated_at: time,
  });
  await owner.query(
    `insert into public.key_version select ${version}
      from public.key_version t, public.key k
      where t.key_id = $1 and k.namespace = 'default' and k.name like $2 || '%' and k.id <> $1`,
    [of, prefix, activatedAt],
  );
  await owner.query(`select public.count_usage('default', $1, $1)`, [count]);
  await owner.query('analyze public.key, public.key_version');
  for (let afterName: string | null = null; ;) {
    const page = await keys.list(keyQuery({ namePrefix: prefix, pageSize: PAGE, afterName }));
    await attestPage(owner, mac, page);
    if (page.next === null) break;
    afterName = page.next;
  }
  await triggers('enable');
}
