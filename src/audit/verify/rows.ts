/** Holds the rows that the service reported (`state.ndjson`, `lanes.ndjson`) against what the log says. */
import { MalformedFile } from './folder.ts';
import type { ExportFolder } from './folder.ts';
import { uuid } from './key-states.ts';
import type { KeyState, KeyStates } from './key-states.ts';
import type { LaneFacts, Lanes } from './lanes.ts';
import type { Problems } from './problems.ts';

export const STATE_FILE = 'state.ndjson';
export const LANES_FILE = 'lanes.ndjson';

type Row = Readonly<Record<string, unknown>>;

/** What a service says of a key whose rows do not verify, in place of its state. */
const ALTERED = 'altered';

const KEY_MEMBERS: readonly string[] = [
  ...['keyId', 'namespace', 'name', 'revision', 'state', 'primary', 'minUsableVersion'],
  ...['latestVersion', 'versions'],
];
const VERSION_MEMBERS: readonly string[] = ['version', 'revision', 'state'];
const LANE_MEMBERS: readonly string[] = ['lane', 'kind', 'instance', 'closed', 'next'];

/** @param whole whether the export begins with the log, so that it knows every key */
export function checkStates(
  folder: ExportFolder,
  keys: KeyStates,
  problems: Problems,
  whole: boolean,
): number {
  const seen = new Set<string>();
  eachRow(folder, STATE_FILE, problems, (row) => {
    requireMembers(row, KEY_MEMBERS);
    const keyId = requireText(row, 'keyId').replaceAll('-', '');
    if (uuid(keyId) !== row['keyId'] || seen.has(keyId)) throw new MalformedFile('a key id');
    seen.add(keyId);
    checkKey(keyId, row, keys, problems, whole);
  });
  for (const [keyId, { lower, index }] of keys.keys) {
    if (lower === 0 || seen.has(keyId)) continue;
    problems.add('state_missing', index, `key ${uuid(keyId)}`, 'the log has it, the rows do not');
  }
  return seen.size;
}

function checkKey(
  keyId: string,
  row: Row,
  keys: KeyStates,
  problems: Problems,
  whole: boolean,
): void {
  const where = `key ${uuid(keyId)}`;
  const key = keys.keys.get(keyId);
  if (row['state'] === ALTERED) {
    const why = 'its rows were altered: the service says that their MACs do not attest them';
    problems.add('state_altered', key?.index ?? null, where, why);
    return;
  }
  const revision = requireCount(row, 'revision');
  if (key === undefined) {
    if (whole) problems.add('state_unlogged', null, where, 'the log knows nothing of it');
    return;
  }
  const { lower, upper, index } = key;
  if (revision < lower) {
    const why = `its row is at revision ${revision}, which the log has as replaced: it is at ${upper}`;
    problems.add('state_outdated', index, where, why);
  } else if (revision > upper) {
    const why = `its row is at revision ${revision}, of which the log has no entry: it is at ${upper}`;
    problems.add('state_unlogged', index, where, why);
  } else {
    const state = keys.at(keyId, revision);
    const differing = state === null ? [] : differences(state, row);
    if (differing.length === 0) return;
    problems.add('state_altered', index, where, `at revision ${revision}: ${differing.join(', ')}`);
  }
}

function differences(state: KeyState, row: Row): string[] {
  const expected = {
    ...{ namespace: state.namespace, name: state.name, state: stateText(state) },
    ...{ primary: state.primary, minUsableVersion: state.minUsableVersion },
    latestVersion: state.latestVersion,
  };
  const fields = Object.entries(expected)
    .filter(([name, value]) => value !== undefined && row[name] !== value)
    .map(([name, value]) => `${name} is ${String(row[name])}, not ${String(value)}`);
  return [...fields, ...versionDifferences(state, row)];
}

function versionDifferences({ versions, latestVersion }: KeyState, row: Row): string[] {
  const rows = new Map(requireVersions(row).map((version) => [version['version'], version]));
  const differing: string[] = [];
  for (const [number, { revision, state }] of versions) {
    const found = rows.get(number);
    if (found === undefined) {
      differing.push(`version ${number} is missing`);
    } else if (revision !== null && found['revision'] !== revision) {
      differing.push(
        `version ${number} is at revision ${String(found['revision'])}, not ${revision}`,
      );
    } else if (state !== null && found['state'] !== state) {
      differing.push(`version ${number} is ${String(found['state'])}, not ${state}`);
    }
  }
  if (latestVersion !== undefined && rows.size !== latestVersion) {
    differing.push(`it has ${rows.size} versions, not ${latestVersion}`);
  }
  return differing;
}

/** As the API says it of a key; undefined where the export does not tell. */
function stateText(state: KeyState): string | undefined {
  const { destroyed, awaitsDestruction, suspended } = state;
  if (destroyed === true) return 'destroyed';
  if (destroyed === undefined) return undefined;
  if (awaitsDestruction === true) return 'pending-destruction';
  if (awaitsDestruction === undefined || suspended === undefined) return undefined;
  return suspended ? 'suspended' : 'enabled';
}

export function checkLanes(
  folder: ExportFolder,
  lanes: Lanes,
  problems: Problems,
  whole: boolean,
): number {
  const seen = new Set<number>();
  eachRow(folder, LANES_FILE, problems, (row) => {
    requireMembers(row, LANE_MEMBERS);
    const [lane, next] = [requireCount(row, 'lane'), requireCount(row, 'next')];
    const [kind, instance] = [requireText(row, 'kind'), requireText(row, 'instance')];
    const { closed } = row;
    if (typeof closed !== 'boolean' || seen.has(lane)) throw new MalformedFile('a lane');
    if (kind !== 'use' && kind !== 'change') throw new MalformedFile('the kind of a lane');
    if (uuid(instance.replaceAll('-', '')) !== instance) throw new MalformedFile('an instance');
    seen.add(lane);
    const why = laneProblem(lanes.seen.get(lane), { next, kind, instance, closed }, whole);
    const index = lanes.seen.get(lane)?.end ?? null;
    if (why !== null) problems.add('lane_incomplete', index, `lane ${lane}`, why);
  });
  for (const [lane, { nBefore }] of lanes.seen) {
    if (nBefore === 0 || seen.has(lane)) continue;
    problems.add('lane_incomplete', null, `lane ${lane}`, 'the log has it, the rows do not');
  }
  return seen.size;
}

function laneProblem(
  facts: LaneFacts | undefined,
  row: { next: number; kind: string; instance: string; closed: boolean },
  whole: boolean,
): string | null {
  const last = row.next - 1;
  if (facts === undefined) {
    return last === 0 || !whole ? null : `the log had ${last} entries of it, and has none`;
  }
  if (last > facts.n) return `the log had ${last} entries of it, and has ${facts.n}`;
  if (last < facts.nBefore) return `its row says ${last} entries, the log had ${facts.nBefore}`;
  if (row.instance !== uuid(facts.instance)) return `it is of instance ${uuid(facts.instance)}`;
  if (facts.kind !== null && row.kind !== facts.kind) return `it is of kind ${facts.kind}`;
  if (facts.end !== null && facts.n === facts.nBefore && !row.closed) return 'it is closed';
  return null;
}

function eachRow(
  folder: ExportFolder,
  name: string,
  problems: Problems,
  check: (row: Row) => void,
): void {
  let line = 0;
  try {
    for (const text of folder.pieces(name, '\n')) {
      line += 1;
      if (text === '') throw new MalformedFile('an empty line');
      check(parseRow(text));
    }
  } catch (error) {
    if (!(error instanceof MalformedFile)) throw error;
    problems.add('file_malformed', null, name, `line ${line}: ${error.message}`);
  }
}

/** JSON in the one form that `JSON.stringify` writes. */
export function parseRow(text: string): Row {
  let parsed: unknown;
  let written: string;
  try {
    parsed = JSON.parse(text);
    // Nested deeply enough it can be read, and not be written.
    written = JSON.stringify(parsed);
  } catch (error) {
    throw new MalformedFile('no JSON', { cause: error });
  }
  if (!isRow(parsed) || written !== text) {
    throw new MalformedFile('no object in the form in which it is written');
  }
  return parsed;
}

const isRow = (value: unknown): value is Row =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** All of them, in this order, and no other. */
export function requireMembers(row: Row, members: readonly string[]): void {
  const names = Object.keys(row);
  if (names.length !== members.length || names.some((name, at) => name !== members[at])) {
    throw new MalformedFile(`its members are not ${members.join(', ')}`);
  }
}

export function requireText(row: Row, name: string): string {
  const value = row[name];
  if (typeof value !== 'string') throw new MalformedFile(`${name} is no text`);
  return value;
}

export function requireCount(row: Row, name: string, least = 1): number {
  const value = row[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least) {
    throw new MalformedFile(`${name} is no number from ${least}`);
  }
  return value;
}

function requireVersions(row: Row): readonly Row[] {
  const versions = row['versions'];
  if (!Array.isArray(versions) || !versions.every(isRow)) throw new MalformedFile('versions');
  versions.forEach((version, at) => {
    requireMembers(version, VERSION_MEMBERS);
    if (requireCount(version, 'version') !== at + 1) throw new MalformedFile('versions');
    requireCount(version, 'revision');
    requireText(version, 'state');
  });
  return versions;
}
