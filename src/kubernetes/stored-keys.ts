/** Which keys the values of etcd are under: what tells whether a version may be retired. */
import type { KeyReference } from '../crypto/envelope.ts';
import { TwofoldError } from '../errors.ts';
import { parseEtcdValue } from './etcd-value.ts';
import type { EtcdRecord } from './etcd-record.ts';
import { parseKeyId } from './stored-value.ts';

/** Keys of etcd that are kept in mind, each with what its newest revision is under. */
const MOST_KEYS = 5_000_000;
/** Of keys that are shown for a person to look at. */
const MOST_EXAMPLES = 3;

/** Values under one key. */
export interface StoredUnder {
  /** As an EncryptionConfiguration names it: `kms-v2`, `aescbc`, …; `identity` is in the clear. */
  readonly kind: string;
  /** Of the provider or its key; empty for `identity`. */
  readonly name: string;
  readonly keyId: string | null;
  /** Null where the key_id is none of ours. */
  readonly reference: KeyReference | null;
  /** Values that are read now. */
  current: number;
  /** Earlier revisions of values, which etcd still has. */
  earlier: number;
  /** Names of some current values. */
  readonly examples: string[];
}

export interface Unreadable {
  readonly key: string;
  readonly why: string;
}

export interface StoredKeys {
  readonly values: number;
  /** Whether namespaces are among them, which every cluster has: without them it is a part of an etcd. */
  readonly hasNamespaces: boolean;
  readonly under: readonly StoredUnder[];
  /** Values that no API server can have written; no version may be retired while there is one. */
  readonly unreadable: readonly Unreadable[];
}

const MOST_UNREADABLE = 20;
/** Below whatever prefix the API server has (`--etcd-prefix`). */
const NAMESPACE = /^\/(?:[^/]+\/)+namespaces\/[^/]+$/u;

/** @throws TwofoldError invalid_value for more keys than can be kept in mind; what reading throws */
export async function countStoredKeys(
  records: AsyncIterable<EtcdRecord> | Iterable<EtcdRecord>,
): Promise<StoredKeys> {
  const under = new Map<string, StoredUnder>();
  const newest = new Map<string, StoredUnder>();
  const unreadable: Unreadable[] = [];
  for await (const { key, value } of records) {
    const before = newest.get(key);
    if (before !== undefined) {
      before.current -= 1;
      before.earlier += 1;
      newest.delete(key);
    }
    if (value === null) continue;
    try {
      const found = placeOf(under, value);
      found.current += 1;
      newest.set(key, found);
    } catch (error) {
      const why = TwofoldError.from(error).detail ?? 'unreadable';
      if (unreadable.length < MOST_UNREADABLE) unreadable.push({ key, why });
    }
    if (newest.size > MOST_KEYS)
      throw new TwofoldError('invalid_value', 'There are too many keys.');
  }
  let hasNamespaces = false;
  for (const [key, { examples }] of newest) {
    if (examples.length < MOST_EXAMPLES) examples.push(key);
    hasNamespaces ||= NAMESPACE.test(key);
  }
  const places = [...under.values()].toSorted(byPlace);
  return { values: newest.size, hasNamespaces, under: places, unreadable };
}

function placeOf(under: Map<string, StoredUnder>, value: Uint8Array): StoredUnder {
  const parsed = parseEtcdValue(value);
  const { kind } = parsed;
  const name = kind === 'identity' ? '' : parsed.name;
  const keyId = kind === 'kms-v2' ? parsed.object.keyId : null;
  const id = JSON.stringify([kind, name, keyId]);
  const known = under.get(id);
  if (known !== undefined) return known;
  const reference = keyId === null ? null : referenceOf(keyId);
  const fresh = { kind, name, keyId, reference, current: 0, earlier: 0, examples: [] };
  under.set(id, fresh);
  return fresh;
}

/** Null for a key_id of another plugin. */
export function referenceOf(keyId: string): KeyReference | null {
  try {
    return parseKeyId(keyId);
  } catch {
    return null;
  }
}

const byPlace = (a: StoredUnder, b: StoredUnder): number =>
  a.kind.localeCompare(b.kind) ||
  a.name.localeCompare(b.name) ||
  (a.reference?.keyVersion ?? 0) - (b.reference?.keyVersion ?? 0);

/** Values of a key's versions up to one, current and earlier revisions: what is in the way of retiring them. */
export function namingUpTo(
  { under }: StoredKeys,
  { keyId, keyVersion }: KeyReference,
): readonly StoredUnder[] {
  return under.filter(
    ({ reference, current, earlier }) =>
      reference?.keyId === keyId && reference.keyVersion <= keyVersion && current + earlier > 0,
  );
}
