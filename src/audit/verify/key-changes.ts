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

/** Null for an entry that changed no row; undefined for one that says so in no known form. */
export function keyChange(
  index: number,
  operation: string,
  version: number | null,
  detail: Detail,
): KeyChange | null | undefined {
  const revision = detail.get('keyRevision');
  if (revision === undefined) return null;
  const versionRevision = detail.get('versionRevision') ?? null;
  if (!isCount(revision) || !(versionRevision === null || isCount(versionRevision)))
    return undefined;
  const changed = detail.get('changed');
  const name = detail.get('name');
  const created = changed === undefined && typeof name === 'string' ? name : null;
  const fields = changed === undefined ? {} : parseFields(changed);
  if (fields === null || (changed === undefined && created === null)) return undefined;
  const made = madeVersion(created !== null || 'latestVersion' in fields, detail);
  if (made === undefined) return undefined;
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
