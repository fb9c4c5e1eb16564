/**
 * Replays the changes of keys. Entries of several lanes stand in the log in no order that follows from
 * the changes', so each key is replayed by the revisions that its entries name: from 1, without a gap.
 */
import type { KeyChange } from './key-changes.ts';
import type { Problems } from './problems.ts';

export interface VersionState {
  revision: number | null;
  state: string | null;
}

/** Undefined: not known, since the export begins after it was set. */
export interface KeyState {
  revision: number;
  namespace: string | undefined;
  name: string | undefined;
  suspended: boolean | undefined;
  awaitsDestruction: boolean | undefined;
  destroyed: boolean | undefined;
  primary: number | null | undefined;
  minUsableVersion: number | undefined;
  latestVersion: number | undefined;
  readonly versions: Map<number, VersionState>;
}

export interface KeyHistory {
  /** As of the revisions that were folded already. */
  readonly base: KeyState;
  /** By revision. */
  readonly open: Map<number, KeyChange>;
  /** Largest revision that was in the log before rows were read; 0 without one. */
  lower: number;
  /** Largest revision in the log, and the index of its entry. */
  upper: number;
  index: number;
}

export class KeyStates {
  readonly #problems: Problems;
  readonly #whole: boolean;
  readonly #keys = new Map<string, KeyHistory>();
  #changes = 0;

  constructor(problems: Problems, whole: boolean) {
    this.#problems = problems;
    this.#whole = whole;
  }

  /** By id, 32 hexadecimal digits. */
  get keys(): ReadonlyMap<string, KeyHistory> {
    return this.#keys;
  }

  get changes(): number {
    return this.#changes;
  }

  /** @param before whether it was in the log before rows were read */
  take(keyId: string, namespace: string, change: KeyChange, before: boolean): void {
    this.#changes += 1;
    const { index, revision } = change;
    let key = this.#keys.get(keyId);
    if (key === undefined) {
      key = { base: unknownState(namespace), open: new Map(), lower: 0, upper: 0, index };
      this.#keys.set(keyId, key);
    }
    if (revision <= key.base.revision || key.open.has(revision)) {
      this.#broken(index, keyId, `two entries make its revision ${revision}`);
      return;
    }
    if (key.base.namespace !== namespace) {
      this.#broken(
        index,
        keyId,
        `it is of namespace ${String(key.base.namespace)}, not ${namespace}`,
      );
    }
    key.open.set(revision, change);
    if (before) key.lower = Math.max(key.lower, revision);
    if (revision > key.upper) [key.upper, key.index] = [revision, index];
    // What rows that are read later can still be at has to stay open.
    if (before && this.#whole) this.#fold(keyId, key);
  }

  /**
   * Which revisions are missing among those of each key that the log has.
   * Call it once all entries were taken.
   */
  finish(): void {
    for (const [keyId, key] of this.#keys) {
      if (!this.#whole && key.base.revision === 0) {
        let first = key.upper;
        for (const revision of key.open.keys()) first = Math.min(first, revision);
        key.base.revision = first - 1;
      }
      for (let next = key.base.revision + 1; next <= key.upper; next += 1) {
        if (key.open.has(next)) continue;
        this.#broken(key.index, keyId, `no entry makes its revision ${next}`);
        break;
      }
    }
  }

  /** The state at a revision from `lower` to `upper`; null where one before it is missing. */
  at(keyId: string, revision: number): KeyState | null {
    const key = this.#keys.get(keyId);
    if (key === undefined || key.base.revision > revision) return null;
    const versions = [...key.base.versions].map(
      ([number, version]) => [number, { ...version }] as const,
    );
    const state = { ...key.base, versions: new Map(versions) };
    while (state.revision < revision) {
      const change = key.open.get(state.revision + 1);
      if (change === undefined) return null;
      for (const why of apply(state, change)) this.#broken(change.index, keyId, why);
    }
    return state;
  }

  #fold(keyId: string, { base, open }: KeyHistory): void {
    for (let next = open.get(base.revision + 1); next !== undefined;) {
      open.delete(next.revision);
      for (const why of apply(base, next)) this.#broken(next.index, keyId, why);
      next = open.get(base.revision + 1);
    }
  }

  #broken(index: number, keyId: string, why: string): void {
    this.#problems.add('transition_broken', index, `key ${uuid(keyId)}`, why);
  }
}

/** 32 hexadecimal digits as the text of a UUID. */
export const uuid = (hex: string): string =>
  [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join(
    '-',
  );

const unknownState = (namespace: string): KeyState => ({
  revision: 0,
  namespace,
  name: undefined,
  suspended: undefined,
  awaitsDestruction: undefined,
  destroyed: undefined,
  primary: undefined,
  minUsableVersion: undefined,
  latestVersion: undefined,
  versions: new Map(),
});

/** @returns what of the change does not follow from the state before */
function* apply(state: KeyState, change: KeyChange): Generator<string> {
  const { revision, created, made } = change;
  if (created !== null) {
    if (revision !== 1) yield `it is created at revision ${revision}`;
    const active = made?.state === 'active';
    Object.assign(state, {
      ...{ name: created, suspended: false, awaitsDestruction: false, destroyed: false },
      ...{ primary: active ? 1 : null, minUsableVersion: 1, latestVersion: 1 },
    });
  } else if (revision === 1) {
    yield 'revision 1 is no creation';
  }
  state.revision = revision;
  if (made !== null) state.versions.set(made.number, { revision: 1, state: made.state });
  yield* applyNumbers(state, change);
  yield* applyKey(state, change);
  yield* applyVersion(state, change);
}

function* applyNumbers(state: KeyState, { fields }: KeyChange): Generator<string> {
  for (const field of ['primary', 'minUsableVersion', 'latestVersion'] as const) {
    const pair = fields[field];
    if (pair === undefined) continue;
    const [before, after] = pair;
    if (state[field] !== undefined && state[field] !== before) {
      yield `${field} was ${String(state[field])}, not ${String(before)}`;
    }
    Object.assign(state, { [field]: after });
  }
}

function* applyKey(state: KeyState, change: KeyChange): Generator<string> {
  const { fields, ofVersion } = change;
  const { suspension, destruction, destroyedAt } = fields;
  if (state.destroyed === true && !givesUpAliases(change)) yield 'it changes after its destruction';
  if (suspension !== undefined) state.suspended = suspension[1] !== null;
  if (destruction !== undefined && !ofVersion) state.awaitsDestruction = destruction[1] !== null;
  if (destroyedAt === undefined || destroyedAt[1] === null) return;
  state.destroyed = true;
  state.awaitsDestruction = false;
  for (const version of state.versions.values()) {
    if (version.state === 'destroyed') continue;
    version.state = 'destroyed';
    if (version.revision !== null) version.revision += 1;
  }
}

/** All that may change of a destroyed key: its aliases are kept for it until they are taken back. */
function givesUpAliases({ fields, version }: KeyChange): boolean {
  const names = Object.keys(fields);
  // Without any, and about no version: one that moved to another key, whose entry it is.
  return names.length === 0 ? version === null : names.every((name) => name === 'aliases');
}

function* applyVersion(state: KeyState, change: KeyChange): Generator<string> {
  const { version: number, versionRevision, fields, made } = change;
  if (number === null) return;
  const known = state.versions.get(number);
  const version = known ?? { revision: null, state: null };
  if (known === undefined) state.versions.set(number, version);
  const [before, after] = fields['state'] ?? [];
  if (typeof after === 'string' && made?.number !== number && state.destroyed !== true) {
    if (version.state !== null && version.state !== before) {
      yield `version ${number} was ${version.state}, not ${String(before)}`;
    }
    version.state = after;
  } else if (typeof after === 'string') {
    version.state = after;
  }
  if (versionRevision === null) return;
  if (version.revision !== null && versionRevision < version.revision) {
    yield `version ${number} falls from revision ${version.revision} to ${versionRevision}`;
  }
  version.revision = versionRevision;
}
