/**
 * `twofold kms-plugin verify-rotation`: what the values of etcd are under, by a snapshot or a dump of it; with
 * `--retire` the proof that none names the versions up to one is put into the record of the provider.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';

import { printableJson } from '../../audit/verify/printable.ts';
import { one, parseFlags, requireNothingMore } from '../../cli/arguments.ts';
import type { Flags, ParsedFlags } from '../../cli/arguments.ts';
import { TwofoldError } from '../../errors.ts';
import type { KeyReference } from '../../crypto/envelope.ts';
import { readDump } from '../../kubernetes/etcd-dump.ts';
import { EtcdSnapshot } from '../../kubernetes/etcd-snapshot.ts';
import { countStoredKeys, namingUpTo, referenceOf } from '../../kubernetes/stored-keys.ts';
import type { StoredKeys, StoredUnder } from '../../kubernetes/stored-keys.ts';
import { refuse } from './flags.ts';
import { RECORD_FLAGS, tell, withRecords } from './records.ts';

const FLAGS = {
  ...RECORD_FLAGS,
  snapshot: 'value',
  dump: 'value',
  'key-id': 'value',
  retire: 'switch',
  json: 'switch',
} as const satisfies Flags;

/** What a file said, and which file it was. */
export interface Verified {
  readonly stored: StoredKeys;
  /** SHA-256, base64url. */
  readonly proof: string;
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('base64url');
}

async function countIn(flags: ParsedFlags): Promise<{ stored: StoredKeys; path: string }> {
  const [snapshot, dump] = [one(flags, 'snapshot'), one(flags, 'dump')];
  if (snapshot !== undefined && dump === undefined) {
    const opened = new EtcdSnapshot(snapshot);
    try {
      return { stored: await countStoredKeys(opened.records()), path: snapshot };
    } finally {
      opened.close();
    }
  }
  if (dump === undefined || snapshot !== undefined) {
    throw refuse('--snapshot FILE or --dump FILE is needed.');
  }
  const stream = createReadStream(dump, 'latin1');
  return { stored: await countStoredKeys(readDump(stream as AsyncIterable<string>)), path: dump };
}

/** @throws TwofoldError invalid_value where it changed while it was read */
export async function verifyFile(flags: ParsedFlags): Promise<Verified> {
  const path = one(flags, 'snapshot') ?? one(flags, 'dump');
  const before = path === undefined ? '' : await hashOf(path).catch(unreadable(path));
  const { stored } = await countIn(flags);
  if (path !== undefined && (await hashOf(path)) !== before) {
    throw refuse(`${path} changed while it was read.`);
  }
  return { stored, proof: before };
}

const unreadable = (path: string) => (cause: unknown) => {
  throw new TwofoldError('invalid_value', `${path} cannot be read.`, { cause });
};

/** One line for values under one key. */
export function lineOf(under: StoredUnder): string {
  const { kind, name, keyId, reference, current, earlier } = under;
  const counted = `${String(current).padStart(8)} values, ${String(earlier).padStart(6)} earlier revisions`;
  const version =
    reference === null ? '' : `, version ${String(reference.keyVersion)} of ${reference.keyId}`;
  const where = kind === 'identity' ? 'in the clear' : `${kind} ${name}`;
  return `${counted}  ${where}${keyId === null ? '' : `, key_id ${keyId}`}${version}`;
}

function target(flags: ParsedFlags): KeyReference | null {
  const keyId = one(flags, 'key-id');
  if (keyId === undefined) return null;
  const reference = referenceOf(keyId);
  if (reference === null) throw refuse('--key-id is not a key_id of Twofold.');
  return reference;
}

/** What stands in the way of retiring, in words. */
export function hindrances(stored: StoredKeys, reference: KeyReference): string[] {
  const named = namingUpTo(stored, reference).map(
    ({ reference: its, current, earlier, examples }) => {
      const rest =
        current === 0
          ? ': compact etcd, and take the snapshot anew'
          : `, such as ${examples.join(', ')}`;
      return `version ${String(its?.keyVersion)}: ${String(current)} values and ${String(earlier)} earlier revisions${rest}`;
    },
  );
  return [...named, ...stored.unreadable.map(({ key, why }) => `${key} cannot be read: ${why}`)];
}

/** What keeps a file from speaking for a whole cluster: a dump of Secrets alone says nothing of ConfigMaps. */
export function incompleteness({ values, hasNamespaces }: StoredKeys): string[] {
  if (values === 0) return ['nothing at all: is this the etcd of the cluster?'];
  if (hasNamespaces) return [];
  return ['no namespace, and every cluster has some: is this the whole of its etcd?'];
}

/** What a snapshot of another cluster does not have. */
const hasLater = ({ under }: StoredKeys, { keyId, keyVersion }: KeyReference): boolean =>
  under.some(
    ({ reference, current }) =>
      reference?.keyId === keyId && reference.keyVersion > keyVersion && current > 0,
  );

/** @returns the exit code: 1 where something stands in the way of retiring */
export async function verifyRotation(
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const flags = parseFlags(argv, FLAGS);
  requireNothingMore(flags);
  const reference = target(flags);
  const retires = flags.values.has('retire');
  if (retires && reference === null)
    throw refuse('--retire needs --key-id, the last one that is retired.');
  const { stored, proof } = await verifyFile(flags);
  const against =
    reference === null ? stored.unreadable.map(({ key }) => key) : hindrances(stored, reference);
  if (retires && reference !== null) {
    against.push(...incompleteness(stored));
    if (!hasLater(stored, reference)) {
      against.push(
        'no value is under a later version of this key: is this the etcd of the cluster?',
      );
    }
  }
  if (flags.values.has('json')) {
    print(printableJson(JSON.stringify({ ...stored, proof, remaining: against })));
  } else {
    for (const each of stored.under) print(lineOf(each));
    for (const each of against) print(`REMAINS ${each}`);
    if (reference !== null && against.length === 0) {
      print(
        `no value names version ${String(reference.keyVersion)} of ${reference.keyId} or an earlier one`,
      );
      print(`proof (SHA-256 of the file): ${proof}`);
    }
  }
  if (against.length > 0) return 1;
  return retires && reference !== null ? retire(flags, reference, proof, print) : 0;
}

async function retire(
  flags: ParsedFlags,
  reference: KeyReference,
  proof: string,
  print: (line: string) => void,
): Promise<number> {
  const changed = await withRecords(flags, (records) => records.retire(reference, proof));
  const upTo = String(reference.keyVersion);
  return tell(
    changed,
    print,
    `versions up to ${upTo} are retired: they decrypt no more for this cluster`,
  );
}
