/**
 * What separates a migrated database from `prisma/schema.prisma`, as SQL. For development and tests
 * only; the server never loads the engine.
 *
 * The engine compares a live database with the schema. It cannot replay our migrations itself (it
 * splits files at every `;`), so the caller migrates an empty database first.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { PrismaPg } from '@prisma/adapter-pg';
import { ColumnTypeEnum, bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils';
import type { SqlMigrationAwareDriverAdapterFactory } from '@prisma/driver-adapter-utils';
import pg from 'pg';
import type * as Engine from '@prisma/schema-engine-wasm/schema_engine_bg';

interface EngineModule {
  readonly SchemaEngine: typeof Engine.SchemaEngine;
  __wbg_set_wasm(exports: object): void;
}

/** The part of the global that is used here; Node's types have no `WebAssembly`. */
interface WasmLoader {
  instantiate(
    bytes: Uint8Array,
    imports: object,
  ): Promise<{ instance: { exports: Record<string, unknown> } }>;
}

const SCHEMA = join(import.meta.dirname, '../prisma/schema.prisma');
const SPECIFIER = '@prisma/schema-engine-wasm/schema_engine_bg';

const throwPanic = (message: string): never => {
  throw new Error(`the schema engine panicked: ${message}`);
};

/** The package imports its wasm file as a module, which Node does only behind a flag. */
const instantiate = async (): Promise<EngineModule> => {
  // The engine reports a panic here before it gives up; without the hook it hangs.
  Object.assign(globalThis, { PRISMA_WASM_PANIC_REGISTRY: { set_message: throwPanic } });
  const bindings = (await import(SPECIFIER)) as EngineModule;
  const folder = dirname(createRequire(import.meta.url).resolve(SPECIFIER));
  const bytes = readFileSync(join(folder, 'schema_engine_bg.wasm'));
  const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WasmLoader };
  const { instance } = await WebAssembly.instantiate(bytes, { './schema_engine_bg.js': bindings });
  bindings.__wbg_set_wasm(instance.exports);
  (instance.exports['__wbindgen_start'] as () => void)();
  return bindings;
};

let loaded: Promise<EngineModule> | undefined;

/** Once per process: a second instance would break the first. */
const loadEngine = (): Promise<EngineModule> => (loaded ??= instantiate());

const CHAR = 18;
const TEXT = 25;

/**
 * Prisma's adapter, taught the catalog's type "char": the adapter refuses it, the engine wants it.
 * The engine runs one query at a time, so the columns noted are those of the answer in hand.
 */
const catalogAdapter = (pool: pg.Pool): SqlMigrationAwareDriverAdapterFactory => {
  let characters: number[] = [];
  const query = pool.query.bind(pool) as (...args: unknown[]) => Promise<pg.QueryResult>;
  const noting = async (...args: unknown[]) => {
    const result = await query(...args);
    characters = [...result.fields.keys()].filter((at) => result.fields[at]?.dataTypeID === CHAR);
    for (const field of result.fields) if (field.dataTypeID === CHAR) field.dataTypeID = TEXT;
    return result;
  };
  pool.query = noting;
  const factory = new PrismaPg(pool);
  const connect = factory.connect.bind(factory);
  factory.connect = async () => {
    const adapter = await connect();
    const queryRaw = adapter.queryRaw.bind(adapter);
    adapter.queryRaw = async (request) => {
      const result = await queryRaw(request);
      for (const at of characters) result.columnTypes[at] = ColumnTypeEnum.Character;
      return result;
    };
    return adapter;
  };
  return factory;
};

export interface SchemaDiff {
  /** Nothing to do: both agree. */
  readonly empty: boolean;
  /** The SQL that would bring the database to the schema. */
  readonly sql: string;
}

/**
 * @param url a database that the migrations have been applied to, as its owner
 * @param schema text of the Prisma schema; the repository's by default
 * @throws Error when the engine says nothing, which would otherwise look like agreement.
 */
export const schemaDiff = async (
  url: string,
  schema: string = readFileSync(SCHEMA, 'utf8'),
): Promise<SchemaDiff> => {
  const { SchemaEngine } = await loadEngine();
  const pool = new pg.Pool({ connectionString: url });
  const adapter = bindMigrationAwareSqlAdapterFactory(catalogAdapter(pool));
  const files = [{ path: 'schema.prisma', content: schema }];
  let engine: Engine.SchemaEngine | undefined;
  try {
    engine = await SchemaEngine.new(
      { datamodels: [['schema.prisma', schema]] },
      () => undefined,
      adapter,
    );
    const result = await engine.diff({
      from: { tag: 'schemaDatasource', files, configDir: '.' },
      to: { tag: 'schemaDatamodel', files },
      script: true,
      exitCode: true,
      filters: { externalTables: ['public.twofold_migration'], externalEnums: [] },
    });
    if (result.stdout === null || result.stdout.trim() === '')
      throw new Error('the engine said nothing');
    return { empty: result.exitCode === 0, sql: result.stdout };
  } finally {
    engine?.free();
    await pool.end();
  }
};
