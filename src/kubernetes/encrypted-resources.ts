/**
 * Which lists of resources an API server takes in an EncryptionConfiguration: it does not start with others
 * (k8s.io/apiserver, `validation_encryption.go`; masked entries in `encryptionconfig/config.go`).
 */

interface GroupResource {
  /** The core group is the empty one. */
  readonly group: string;
  readonly resource: string;
}

/** Resources that no API serves. */
const WITHOUT_API = ['apiserveripinfo', 'serviceipallocations', 'servicenodeportallocations'];
const EVERY = '*';

function parsed(name: string): GroupResource {
  const at = name.indexOf('.');
  if (at < 0) return { group: '', resource: name };
  return { group: name.slice(at + 1), resource: name.slice(0, at) };
}

const same = (a: GroupResource, b: GroupResource): boolean =>
  a.group === b.group && a.resource === b.resource;

const isEverything = ({ group, resource }: GroupResource): boolean =>
  group === EVERY && resource === EVERY;

/** Whether a wildcard takes in what another names. */
const takesIn = (wildcard: GroupResource, other: GroupResource): boolean =>
  isEverything(wildcard) || (wildcard.resource === EVERY && wildcard.group === other.group);

/** What is wrong about one name, in words; null where nothing is. */
function wrongName(name: string): string | null {
  if (name.toLowerCase() !== name) return 'has capital letters';
  if (name === EVERY) return 'is neither "*." (the core group) nor "*.*" (everything)';
  if (WITHOUT_API.includes(name)) return 'is a resource without an API';
  const { group, resource } = parsed(name);
  if (group === 'events.k8s.io') return 'is stored as "events": name that';
  if (group === 'extensions') return 'is of a group that is no more';
  if (group === EVERY && resource !== EVERY) return 'names one resource across groups';
  return null;
}

/**
 * What an API server would refuse about the lists of all entries, in their order: where, and why. Null where it
 * takes them. One resource may stand in several entries: their providers come one behind the other.
 */
export function wrongResources(
  lists: readonly (readonly string[])[],
): { readonly name: string; readonly why: string } | null {
  const before: GroupResource[] = [];
  for (const list of lists) {
    const here: GroupResource[] = [];
    for (const name of list) {
      const why = wrongName(name) ?? wrongBeside(parsed(name), here) ?? wrongBehind(name, before);
      if (why !== null) return { name, why };
      here.push(parsed(name));
    }
    before.push(...here);
  }
  return null;
}

function wrongBeside(one: GroupResource, others: readonly GroupResource[]): string | null {
  if (others.some((other) => same(one, other))) return 'is there twice in one list';
  const overlaps = others.some((other) => takesIn(one, other) || takesIn(other, one));
  return overlaps ? 'overlaps with another of the same list' : null;
}

function wrongBehind(name: string, before: readonly GroupResource[]): string | null {
  const one = parsed(name);
  const masked = before.some((earlier) => takesIn(earlier, one));
  return masked ? 'is masked by a wildcard of an earlier entry' : null;
}
