/** The compose file as Docker would take it: anchors merged, variables put in, unknown keys refused. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';

const named = z.record(z.string(), z.string());
const mount = z.strictObject({ source: z.string(), target: z.string() });
const dependency = z.strictObject({
  condition: z.enum(['service_healthy', 'service_completed_successfully']),
});

const service = z.strictObject({
  image: z.string(),
  build: z.strictObject({ context: z.string(), dockerfile: z.string() }).optional(),
  user: z.string(),
  profiles: z.array(z.string()).default([]),
  restart: z.enum(['no', 'unless-stopped']),
  read_only: z.boolean().default(false),
  cap_drop: z.array(z.string()).default([]),
  security_opt: z.array(z.string()).default([]),
  pids_limit: z.int().optional(),
  ulimits: z.record(z.string(), z.int()).default({}),
  logging: z.strictObject({ driver: z.string(), options: named }),
  tmpfs: z.array(z.string()).default([]),
  mem_limit: z.string(),
  memswap_limit: z.string(),
  cpus: z.number().optional(),
  shm_size: z.string().optional(),
  entrypoint: z.array(z.string()).optional(),
  command: z.array(z.string()),
  environment: named.default({}),
  secrets: z.array(z.string()).default([]),
  configs: z.array(mount).default([]),
  volumes: z.array(z.string().regex(/^[\w./-]+:\/[^:]+(?::ro)?$/u)).default([]),
  networks: z.array(z.string()).optional(),
  network_mode: z.enum(['none', 'bridge']).optional(),
  ports: z.array(z.string()).default([]),
  stop_signal: z.string().optional(),
  stop_grace_period: z.string().optional(),
  healthcheck: z
    .strictObject({
      test: z.tuple([z.literal('CMD')], z.string()),
      interval: z.string(),
      timeout: z.string(),
      retries: z.int(),
      start_period: z.string(),
    })
    .optional(),
  depends_on: z.record(z.string(), dependency).default({}),
});

const file = z.strictObject({ file: z.string() });

const compose = z.strictObject({
  name: z.string(),
  services: z.record(z.string(), service),
  volumes: z.record(z.string(), z.null()),
  networks: z.record(z.string(), z.strictObject({ internal: z.boolean() }).nullable()),
  secrets: z.record(z.string(), file),
  configs: z.record(z.string(), file),
});

export type Service = z.output<typeof service>;
export type Compose = z.output<typeof compose>;

/** `${NAME:-default}` alone; a `$` of any other use is an error. */
const interpolated = (text: string, variables: Readonly<Record<string, string>>): string => {
  const result = text.replaceAll(
    /\$\{(\w+):-([^}]*)\}/gu,
    (_, name: string, fallback: string) => variables[name] ?? fallback,
  );
  if (result.includes('$')) throw new Error('a variable in another form');
  return result;
};

/** Keys of `x-…` hold what anchors name. */
const withoutExtensions = (document: object): object =>
  Object.fromEntries(Object.entries(document).filter(([key]) => !key.startsWith('x-')));

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** As Docker merges a further file: maps by key, lists appended, commands and single values replaced. */
const merged = (base: unknown, over: unknown, key = ''): unknown => {
  if (isObject(base) && isObject(over)) {
    const names = new Set([...Object.keys(base), ...Object.keys(over)]);
    return Object.fromEntries(
      [...names].map((name) => [name, merged(base[name], over[name], name)]),
    );
  }
  if (over === undefined) return base;
  const replaces = ['command', 'entrypoint', 'test'].includes(key);
  if (Array.isArray(base) && Array.isArray(over) && !replaces) {
    return [...(base as unknown[]), ...(over as unknown[])];
  }
  return over;
};

/**
 * The file, and further ones over it.
 *
 * @throws where one has a key, a form or a reference that is not known; files of secrets and configs
 *   are absolute afterwards
 */
export const readCompose = (
  path: string,
  variables: Readonly<Record<string, string>> = {},
  ...overrides: readonly string[]
): Compose => {
  const documents = [path, ...overrides].map((name) => {
    const text = readFileSync(name, 'utf8').replaceAll(/^\s*#.*$/gmu, '');
    return parse(interpolated(text, variables), {
      merge: true,
      uniqueKeys: true,
      // Our own file, whose anchors name each other.
      maxAliasCount: -1,
    }) as object;
  });
  const read = compose.parse(
    documents.map(withoutExtensions).reduce((base, over) => merged(base, over) as object),
  );
  const absolute = (files: Compose['secrets']): Compose['secrets'] =>
    Object.fromEntries(
      Object.entries(files).map(([name, { file: at }]) => [
        name,
        { file: resolve(dirname(path), at) },
      ]),
    );
  return { ...read, secrets: absolute(read.secrets), configs: absolute(read.configs) };
};

/** The services that `up` or `run` of one starts, those that it depends on first. */
export const startOrder = ({ services }: Compose, target: string): string[] => {
  const order: string[] = [];
  const visit = (name: string, from: readonly string[]): void => {
    if (from.includes(name)) throw new Error(`a cycle: ${[...from, name].join(' -> ')}`);
    const found = services[name];
    if (found === undefined) throw new Error(`no service ${name}`);
    for (const before of Object.keys(found.depends_on)) visit(before, [...from, name]);
    if (!order.includes(name)) order.push(name);
  };
  visit(target, []);
  return order;
};
