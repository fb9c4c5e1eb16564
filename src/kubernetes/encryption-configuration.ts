/**
 * EncryptionConfiguration of Kubernetes (`apiserver.config.k8s.io/v1`): read strictly, and written for this
 * provider with the one that the values in etcd are under now.
 *
 * The first provider of an entry writes; all of them read.
 */
import { parse, stringify } from 'yaml';

import { TwofoldError } from '../errors.ts';
import { wrongResources } from './encrypted-resources.ts';

const API_VERSION = 'apiserver.config.k8s.io/v1';
const KIND = 'EncryptionConfiguration';
/** Bytes: a configuration has one or two kilobytes. */
const MAX_CONFIGURATION = 262_144;
/** Times that an alias may be followed; of a configuration that a person wrote, none is. */
const MAX_ALIASES = 16;

/** Providers that hold their keys in the file itself. */
const LOCAL = ['aescbc', 'aesgcm', 'secretbox'] as const;
type Local = (typeof LOCAL)[number];
/** Bytes of a key. */
const KEY_BYTES: Readonly<Record<Local, readonly number[]>> = {
  aescbc: [16, 24, 32],
  aesgcm: [16, 24, 32],
  secretbox: [32],
};
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/u;

export type Provider =
  | { readonly kind: 'identity' }
  | { readonly kind: Local; readonly keys: readonly string[] }
  | {
      readonly kind: 'kms';
      readonly apiVersion: 'v1' | 'v2';
      readonly name: string;
      readonly endpoint: string;
      /** Of a call, ms; 3 s where the file does not say. */
      readonly timeoutMs: number;
    };

export interface Entry {
  readonly resources: readonly string[];
  readonly providers: readonly Provider[];
}

export interface EncryptionConfiguration {
  readonly entries: readonly Entry[];
}

type Members = Readonly<Record<string, unknown>>;

const refuse = (where: string, why: string) =>
  new TwofoldError('invalid_value', `EncryptionConfiguration: ${where} ${why}.`);

function members(value: unknown, where: string, known: readonly string[]): Members {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refuse(where, 'is not a mapping');
  }
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined) throw refuse(`${where}.${unknown}`, 'is not a field of it');
  return value as Members;
}

function list(value: unknown, where: string): readonly unknown[] {
  if (Array.isArray(value) && value.length > 0) return value as unknown[];
  throw refuse(where, 'is not a list of one at least');
}

function text(value: unknown, where: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw refuse(where, 'is not a text');
}

/** Of base64 as Go reads it, which passes over line breaks; null for what is none. */
function bytesIn(secret: string): number | null {
  const written = secret.replaceAll(/[\r\n]/gu, '');
  if (!BASE64.test(written)) return null;
  return (written.length / 4) * 3 - (written.length - written.replace(/=+$/u, '').length);
}

/** Of keys only the length is looked at; none is ever in an answer. */
function localProvider(kind: Local, value: unknown, where: string): Provider {
  const { keys } = members(value, where, ['keys']);
  const names = list(keys, `${where}.keys`).map((key, at) => {
    const place = `${where}.keys[${at}]`;
    const { name, secret } = members(key, place, ['name', 'secret']);
    const length = bytesIn(text(secret, `${place}.secret`));
    if (length === null) throw refuse(`${place}.secret`, 'is not base64');
    if (!KEY_BYTES[kind].includes(length)) {
      throw refuse(`${place}.secret`, `is not of ${KEY_BYTES[kind].join(' or ')} bytes`);
    }
    return text(name, `${place}.name`);
  });
  return { kind, keys: names };
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** A duration of Go, like `3s` or `1m30s`. */
function duration(value: unknown, where: string): number {
  if (value === undefined) return 3_000;
  const written = text(value, where);
  const parts = [...written.matchAll(/(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)/gu)];
  const total = parts.reduce(
    (sum, [, count, unit]) => sum + Number(count) * (UNITS[unit ?? ''] ?? 0),
    0,
  );
  if (parts.map(([part]) => part).join('') === written && total > 0) return total;
  throw refuse(where, 'is not a duration like 3s');
}

function kmsProvider(value: unknown, where: string): Provider {
  const known = ['apiVersion', 'name', 'endpoint', 'timeout', 'cachesize'];
  const found = members(value, where, known);
  const apiVersion = found['apiVersion'] ?? 'v1';
  if (apiVersion !== 'v1' && apiVersion !== 'v2') throw refuse(`${where}.apiVersion`, 'is not v2');
  const { cachesize } = found;
  if (apiVersion === 'v2' && cachesize !== undefined) {
    throw refuse(`${where}.cachesize`, 'is not a field of v2');
  }
  if (cachesize === 0) throw refuse(`${where}.cachesize`, 'is 0');
  const name = text(found['name'], `${where}.name`);
  if (name.includes(':')) throw refuse(`${where}.name`, 'has a ":"');
  const endpoint = text(found['endpoint'], `${where}.endpoint`);
  if (!/^unix:\/\/.?\/|^unix:\/\/@/u.test(endpoint))
    throw refuse(`${where}.endpoint`, 'is not unix:///…');
  return {
    kind: 'kms',
    apiVersion,
    name,
    endpoint,
    timeoutMs: duration(found['timeout'], `${where}.timeout`),
  };
}

function provider(value: unknown, where: string): Provider {
  const found = members(value, where, ['identity', 'kms', ...LOCAL]);
  const [kind, ...others] = Object.keys(found);
  if (kind === undefined || others.length > 0) throw refuse(where, 'is not one provider');
  if (kind === 'kms') return kmsProvider(found[kind], `${where}.kms`);
  if (kind !== 'identity') return localProvider(kind as Local, found[kind], `${where}.${kind}`);
  members(found[kind] ?? {}, `${where}.identity`, []);
  return { kind };
}

/**
 * @throws TwofoldError invalid_value for what an API server would refuse, and for what it would understand
 *   otherwise; never quotes a key
 */
export function parseEncryptionConfiguration(source: string): EncryptionConfiguration {
  if (Buffer.byteLength(source) > MAX_CONFIGURATION) throw refuse('the file', 'is too large');
  let parsed: unknown;
  try {
    parsed = parse(source, { maxAliasCount: MAX_ALIASES, uniqueKeys: true, prettyErrors: false });
  } catch {
    // The parser's words may quote a line with a key.
    throw refuse('the file', 'is not one document of YAML');
  }
  const file = members(parsed, 'the file', ['apiVersion', 'kind', 'metadata', 'resources']);
  if (file['apiVersion'] !== API_VERSION) throw refuse('apiVersion', `is not ${API_VERSION}`);
  if (file['kind'] !== KIND) throw refuse('kind', `is not ${KIND}`);
  const entries = list(file['resources'], 'resources').map((entry, at) => {
    const where = `resources[${at}]`;
    const { resources, providers } = members(entry, where, ['resources', 'providers']);
    return {
      resources: list(resources, `${where}.resources`).map((name, n) =>
        text(name, `${where}.resources[${n}]`),
      ),
      providers: list(providers, `${where}.providers`).map((each, n) =>
        provider(each, `${where}.providers[${n}]`),
      ),
    };
  });
  const wrong = wrongResources(entries.map(({ resources }) => resources));
  if (wrong !== null) throw refuse(wrong.name, wrong.why);
  checkNames(entries);
  return { entries };
}

/** An API server does not start where a provider of v2 has the name of one before it, of v1 or v2, in whatever entry. */
function checkNames(entries: readonly Entry[]): void {
  const seen = new Map<string, readonly string[]>();
  for (const { resources, providers } of entries) {
    for (const each of providers) {
      if (each.kind !== 'kms') continue;
      const before = seen.get(each.name);
      if (before !== undefined && each.apiVersion === 'v2') {
        throw refuse(
          `kms provider ${each.name}`,
          `is there twice, for ${before.join(', ')} and for ${resources.join(', ')}, and an API server refuses ` +
            'that: put the resources into one entry, or give each entry a provider of its own name',
        );
      }
      seen.set(each.name, resources);
    }
  }
}

/**
 * The entry whose first provider an API server has write a resource: the first that names it. Those of later entries
 * that name it too come behind its own.
 */
export function entryFor(
  { entries }: EncryptionConfiguration,
  resource: string,
): Entry | undefined {
  const every = resource.includes('.')
    ? ['*.*', `*.${resource.slice(resource.indexOf('.') + 1)}`]
    : ['*.*', '*.'];
  return entries.find(({ resources }) =>
    resources.some((name) => name === resource || every.includes(name)),
  );
}

export interface Wanted {
  readonly name: string;
  readonly socket: string;
  readonly resources: readonly string[];
  /** An earlier configuration, whose providers go on reading: what they wrote is in etcd. */
  readonly before: string | null;
  /** The new provider only reads as yet: for the first step where there are several API servers. */
  readonly readOnly: boolean;
  /** The former providers of the entry go: for the last step, when nothing is under them any more. */
  readonly only?: boolean;
}

/** What was there before, its keys included: so that the result is a file like it, for the same eyes. */
function rawEntries(before: string): readonly { resources: string[]; providers: unknown[] }[] {
  const { resources } = parse(before) as {
    resources: { resources: string[]; providers: unknown[] }[];
  };
  return resources;
}

/**
 * The former entry that an API server goes by for the resources, and whether it names them itself: else a
 * wildcard of it has them.
 * @throws TwofoldError invalid_value where it is not one for all of them, or names others beside them
 */
function standingEntry(before: string, resources: readonly string[]) {
  const configuration = parseEncryptionConfiguration(before);
  const places = new Set(
    resources.map((name) => {
      const entry = entryFor(configuration, name);
      return entry === undefined ? -1 : configuration.entries.indexOf(entry);
    }),
  );
  const [at = -1, ...others] = places;
  if (others.length > 0)
    throw refuse(
      resources.join(', '),
      'are in several entries: put them into one, or give each a provider of its own name',
    );
  const { resources: named = [] } = configuration.entries[at] ?? {};
  const isNamed = named.some((each) => resources.includes(each));
  if (isNamed && named.toSorted().join() !== resources.toSorted().join()) {
    throw refuse('an entry', `is for ${named.join(', ')} together: name all of them`);
  }
  return { at, isNamed };
}

/**
 * A configuration with this provider first (or second, `readOnly`) for the resources, and the former
 * providers behind it; `identity` where there is no former one, for values that are in the clear. Where a
 * wildcard has the resources, they get an entry of their own before it: the first that has a resource counts.
 * With `only` it is alone in the entry, in which it has to stand first; other entries stay.
 *
 * @throws TwofoldError invalid_value as `parseEncryptionConfiguration` and `standingEntry`
 */
export function writeEncryptionConfiguration(wanted: Wanted): string {
  const { name, socket, resources, before, readOnly } = wanted;
  const ours = {
    kms: { apiVersion: 'v2', name, endpoint: `unix://${socket}`, timeout: '3s' },
  };
  const { at, isNamed } =
    before === null ? { at: -1, isNamed: false } : standingEntry(before, resources);
  const former = before === null ? [] : rawEntries(before);
  const standing = former[at]?.providers ?? [{ identity: {} }];
  const behind = standing.filter((each) => !isOf(each, name, 'v2'));
  if (former.some(({ providers }) => providers.some((each) => isOf(each, name, 'v1')))) {
    throw refuse(
      `kms provider ${name}`,
      'is there as v1, and an API server that reads its configuration anew refuses one name for both: give this one ' +
        'another',
    );
  }
  if (wanted.only === true && (!isNamed || standing[0] === behind[0])) {
    throw refuse(resources.join(', '), `is not written by ${name} there: no provider goes yet`);
  }
  const [first, ...rest] = behind;
  const providers =
    wanted.only === true ? [ours] : readOnly ? [first, ours, ...rest] : [ours, ...behind];
  const entry = { resources: [...resources], providers };
  const place = at < 0 ? former.length : at;
  const entries = former.toSpliced(place, isNamed ? 1 : 0, entry);
  const written = stringify(
    { apiVersion: API_VERSION, kind: KIND, resources: entries },
    // What YAML 1.1 takes for something else, such as a key called `on`: the API server's parser does.
    { lineWidth: 0, aliasDuplicateObjects: false, compat: 'yaml-1.1' },
  );
  parseEncryptionConfiguration(written);
  return written;
}

/** A second run changes the place of the provider, not their number. */
const isOf = (provider: unknown, name: string, version: 'v1' | 'v2'): boolean => {
  const { kms } = provider as { kms?: { name?: string; apiVersion?: string } };
  return kms?.name === name && (kms.apiVersion ?? 'v1') === version;
};
