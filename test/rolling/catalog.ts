/**
 * What a program finds in the database, and what a migration took from it: expand and contract, compared in
 * the catalogue of a real server, so that no way to write a statement escapes.
 */
import type pg from 'pg';

/** An object's name, with its kind first, and what is true of it. */
export type Catalog = ReadonlyMap<string, string>;

/** One query for each kind; `name` is unique among all. */
const QUERIES = [
  `select 'table ' || c.relname as name, c.relkind::text as facts
   from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'S', 'p')`,
  `select 'column ' || c.relname || '.' || a.attname as name,
     format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end
       || case when a.atthasdef or a.attidentity <> '' then ' default' else '' end as facts
   from pg_class c join pg_attribute a on a.attrelid = c.oid
   where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'p')
     and a.attnum > 0 and not a.attisdropped`,
  `select 'function ' || p.oid::regprocedure::text as name,
     coalesce(pg_get_function_result(p.oid), '') as facts
   from pg_proc p where p.pronamespace = 'public'::regnamespace`,
  `select 'constraint ' || c.relname || '.' || k.conname as name, pg_get_constraintdef(k.oid) as facts
   from pg_constraint k join pg_class c on c.oid = k.conrelid
   where c.relnamespace = 'public'::regnamespace and k.contype in ('c', 'f', 'p', 'u', 'x')`,
  `select 'unique ' || c.relname || '.' || i.relname as name,
     regexp_replace(pg_get_indexdef(i.oid), '^.* USING', '') as facts
   from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class c on c.oid = x.indrelid
   where c.relnamespace = 'public'::regnamespace and x.indisunique`,
  `select 'trigger ' || c.relname || '.' || t.tgname as name, pg_get_triggerdef(t.oid) as facts
   from pg_trigger t join pg_class c on c.oid = t.tgrelid
   where c.relnamespace = 'public'::regnamespace and not t.tgisinternal`,
  `select distinct 'right ' || lower(privilege_type) || ' ' || table_name || '.' || column_name as name,
     '' as facts
   from information_schema.column_privileges where grantee = 'twofold_app' and table_schema = 'public'`,
  `select 'right delete ' || table_name as name, '' as facts
   from information_schema.role_table_grants
   where grantee = 'twofold_app' and table_schema = 'public' and privilege_type = 'DELETE'`,
  `select 'right execute ' || p.oid::regprocedure::text as name, '' as facts
   from pg_proc p where p.pronamespace = 'public'::regnamespace
     and has_function_privilege('twofold_app', p.oid, 'execute')`,
] as const;

export async function catalogOf(client: pg.Client): Promise<Catalog> {
  const found = new Map<string, string>();
  for (const query of QUERIES) {
    const { rows } = await client.query<{ name: string; facts: string }>(query);
    for (const { name, facts } of rows) found.set(name, facts);
  }
  return found;
}

/** What narrows what a table takes: a program that does not know it may be refused. */
const NARROWING = /^(?:constraint|unique|trigger) /u;

const tableOf = (name: string): string => / ([^. (]+)/u.exec(name)?.[1] ?? '';

/** A program that names no such column in an insert leaves it out. */
const mustBeGiven = (facts: string): boolean => / not null$/u.test(facts);

/** `f(integer, text)` without what it takes. */
const withoutArguments = (name: string): string => name.replace(/\(.*$/su, '');

/**
 * The objects for which a program of `before` may fail on `after`: gone, changed, or new and narrowing what
 * its tables take; of functions also one more of the same name, with which calls may become ambiguous.
 */
export function changesFor(before: Catalog, after: Catalog): string[] {
  const changed = [...before].filter(([name, facts]) => {
    const now = after.get(name);
    if (name.startsWith('trigger ')) return now !== undefined && now !== facts;
    // Without a check a table takes all that it took.
    if (now === undefined && facts.startsWith('CHECK ')) return false;
    return now !== facts && !widened(name, facts, now);
  });
  const functions = new Set([...before.keys()].map(withoutArguments));
  const added = [...after].filter(([name, facts]) => {
    if (before.has(name)) return false;
    if (name.startsWith('function ')) return functions.has(withoutArguments(name));
    if (!before.has(`table ${tableOf(name)}`)) return false;
    return NARROWING.test(name) || (name.startsWith('column ') && mustBeGiven(facts));
  });
  return [...changed, ...added].map(([name]) => name).toSorted();
}

/**
 * The tables there before that the SQL reads from end to end: to check a constraint, to build an index, to
 * write the table or its rows anew. It does so in the one transaction of all migrations, whose locks stand
 * until its end: nobody appends or changes meanwhile, however many rows there are.
 */
export async function readsWhole(client: pg.Client, sql: string): Promise<string[]> {
  const scans = async (): Promise<Map<string, number>> => {
    const { rows } = await client.query<{ relname: string; n: string }>(
      "select relname, seq_scan as n from pg_stat_xact_user_tables where schemaname = 'public'",
    );
    return new Map(rows.map(({ relname, n }) => [relname, Number(n)]));
  };
  const before = await scans();
  await client.query(sql);
  const after = await scans();
  return [...before].filter(([name, n]) => (after.get(name) ?? n) > n).map(([name]) => name);
}

/** A column that takes what it took and more, or a check that is gone. */
const widened = (name: string, before: string, now: string | undefined): boolean =>
  (name.startsWith('column ') && now === `${before} default`) ||
  (name.startsWith('constraint ') && before.startsWith('CHECK ') && now === undefined);
