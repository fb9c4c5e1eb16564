/** What the entry of a change says of the rows of a key and its versions: `docs/audit-log.md`, "Key states". */
import type { Detail } from './key-set.ts';

export interface KeyChange {
  readonly index: number;
  /** Of the key's row after the change. */
  readonly revision: number;
  /** The version that the entry names, and its revision after the change. */
  readonly version: number | null;
  readonly versionRevision: number | null;
  /** Name of a key that was created; null for a change of one that existed. */
  readonly created: string | null;
  /** Number and state of a version that was made. */
  readonly made: { readonly number: number; readonly state: string } | null;
  /** Field → [before, after], as the entry says it. */
  readonly fields: Readonly<Record<string, readonly unknown[]>>;
  /** Whether `destruction` in `fields` is the version's; else it is the key's. */
  readonly ofVersion: boolean;
}

/** A change and the key that it is of, 32 hexadecimal digits. */
export interface OfKey {
  readonly keyId: string;
  readonly change: KeyChange;
}

/** Changes of rows that the entry accounts for; null for one that says so in no known form. */
export function keyChanges(
  index: number,
  entry: { readonly operation: string; readonly keyId: string; readonly keyVersion: number | null },
  detail: Detail,
): readonly OfKey[] | null {
  if (!detail.has('keyRevision')) return [];
  const { operation, keyId, keyVersion } = entry;
  const change = keyChange(index, operation, keyVersion, detail);
  if (change === null) return null;
  const from = detail.get('fromKeyId');
  if (from === undefined) return [{ keyId, change }];
  // An alias that moved: the key that had it is at a new revision too.
  const revision = detail.get('fromRevision');
  if (typeof from !== 'string' || !UUID.test(from) || !isCount(revision)) return null;
  return [
    { keyId, change },
    { keyId: from.replaceAll('-', ''), change: { ...NO_FIELDS, index, revision } },
  ];
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const NO_FIELDS = {
  version: null,
  versionRevision: null,
  created: null,
  made: null,
  fields: {},
  ofVersion: false,
} as const;

function keyChange(
  index: number,
  operation: string,
  version: number | null,
  detail: Detail,
): KeyChange | null {
  const revision = detail.get('keyRevision');
  const versionRevision = detail.get('versionRevision') ?? null;
  if (!isCount(revision) || !(versionRevision === null || isCount(versionRevision))) return null;
  const changed = detail.get('changed');
  const name = detail.get('name');
  const created = changed === undefined && typeof name === 'string' ? name : null;
  const fields = changed === undefined ? {} : parseFields(changed);
  if (fields === null || (changed === undefined && created === null)) return null;
  const made = madeVersion(created !== null || 'latestVersion' in fields, detail);
  if (made === undefined) return null;
  const ofVersion = operation.startsWith('versions.');
  return { index, revision, version, versionRevision, created, made, fields, ofVersion };
}

const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 1;

function madeVersion(makes: boolean, detail: Detail): KeyChange['made'] | undefined {
  if (!makes) return null;
  const number = detail.get('replacement') ?? detail.get('version');
  if (!isCount(number)) return undefined;
  return { number, state: detail.has('activateAt') ? 'pre-active' : 'active' };
}

function parseFields(text: unknown): KeyChange['fields'] | null {
  try {
    const parsed: unknown = typeof text === 'string' ? JSON.parse(text) : null;
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return null;
    const pairs = Object.values(parsed).every((pair) => Array.isArray(pair) && pair.length === 2);
    return pairs ? (parsed as KeyChange['fields']) : null;
  } catch {
    return null;
  }
}
