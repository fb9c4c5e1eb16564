/**
 * Which events a change is: one table over all operations, so that one that changes keys and has no
 * event does not compile.
 */
import type { Operation } from '../access/grant.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { differences } from './change-facts.ts';
import type { NewEvent } from './event-ports.ts';
import type { PreparedChange } from './operations.ts';

/**
 * Types without the product's prefix, which the event's readers see it with. The contract names them too,
 * since neither imports the other; a test holds the two together.
 */
export const EVENT_TYPES = [
  'key.created',
  'key.updated',
  'key.rotated',
  'key.primary-changed',
  'key.alias-changed',
  'key.exported',
  'key.suspended',
  'key.resumed',
  'key.rotation-policy-changed',
  'key.rotation-due',
  'key.expiring',
  'key.destruction-due',
  'key.destruction-scheduled',
  'key.destruction-cancelled',
  'key.destroyed',
  'version.activated',
  'version.deactivated',
  'version.compromised',
  'version.suspended',
  'version.resumed',
  'version.retirement-due',
  'version.retired',
  'version.scheduled',
  'version.destruction-scheduled',
  'version.destruction-cancelled',
  'version.destroyed',
  'version.certificates-changed',
  'rotation-policy.created',
  'rotation-policy.changed',
  'rotation-policy.deleted',
  'rotation-policy.paused',
  'rotation-policy.resumed',
  'rotations.paused',
  'rotations.resumed',
  'access.bootstrap-opened',
  'access.break-glass-opened',
] as const;

export type EventType = (typeof EVENT_TYPES)[number];

/** Changes that have their event before they have their route. */
type LaterOperation =
  | 'keys.schedule-destruction'
  | 'keys.cancel-destruction'
  | 'keys.destroy'
  | 'versions.activate'
  | 'versions.deactivate'
  | 'versions.compromise'
  | 'versions.schedule'
  | 'versions.schedule-destruction'
  | 'versions.cancel-destruction'
  | 'versions.destroy';

/** Null: it changes no key. A function where the type hangs on what the change says. */
type Meaning = EventType | ((change: PreparedChange) => EventType) | null;

/** What an announcement is about (`Announcement.of`). */
const ANNOUNCED: Readonly<Record<string, EventType>> = {
  rotation: 'key.rotation-due',
  deactivation: 'key.expiring',
  destruction: 'key.destruction-due',
  retirement: 'version.retirement-due',
};

function announced({ detail }: PreparedChange): EventType {
  const type = ANNOUNCED[String(detail['of'])];
  if (type === undefined) throw new TypeError('an announcement says what it is of');
  return type;
}

const MEANINGS: Readonly<Record<Operation | LaterOperation, Meaning>> = {
  whoami: null,
  'suites.read': null,
  random: null,
  'keys.read': null,
  'keys.list': null,
  wrap: null,
  unwrap: null,
  rewrap: null,
  'data-keys.create': null,
  'data-keys.create-wrapped': null,
  encapsulate: null,
  decapsulate: null,
  sign: null,
  verify: null,
  csr: null,
  'sign-parallel': null,
  mac: null,
  'verify-mac': null,
  'rotations.read': null,
  'rotation-policies.change': null,
  'rotations.order': null,
  'rotations.carry-out': null,
  'root.read': null,
  'root.rotate': null,
  'root.carry-out': null,
  'root.retire': null,
  'backups.read': null,
  'backups.take': null,
  'versions.uses': null,
  'rewrap-jobs.create': null,
  'rewrap-jobs.continue': null,
  'operations.read': null,
  'operations.cancel': null,
  'operations.oversee': null,
  'policies.read': null,
  'policies.change': null,
  'access.ask': null,
  'namespaces.read': null,
  'namespaces.change': null,
  'issuers.read': null,
  'issuers.change': null,
  'denials.read': null,
  'denials.change': null,
  'limits.read': null,
  'limits.change': null,
  'approvals.read': null,
  'approvals.request': null,
  'approvals.decide': null,
  'approvals.withdraw': null,
  'approvals.configure': null,
  'local-tokens.read': null,
  'bootstrap.open': null,
  'break-glass.open': null,
  'grants.read': null,
  'grants.create': null,
  'grants.retire': null,
  'audit.read': null,
  'audit.log': null,
  'audit.hash': null,
  'audit.configure': null,
  'audit.keys.rotate': null,
  'events.read': null,
  'keys.create': 'key.created',
  'keys.import-parameters': null,
  'keys.import': 'key.created',
  'keys.export': 'key.exported',
  'keys.update': 'key.updated',
  'keys.rotate': 'key.rotated',
  'keys.set-primary': 'key.primary-changed',
  'keys.put-alias': 'key.alias-changed',
  'keys.delete-alias': 'key.alias-changed',
  'keys.suspend': 'key.suspended',
  'keys.resume': 'key.resumed',
  'keys.set-rotation': 'key.rotation-policy-changed',
  'keys.announce': announced,
  'keys.schedule-destruction': 'key.destruction-scheduled',
  'keys.cancel-destruction': 'key.destruction-cancelled',
  'keys.destroy': 'key.destroyed',
  'versions.activate': 'version.activated',
  'versions.deactivate': 'version.deactivated',
  'versions.compromise': 'version.compromised',
  'versions.suspend': 'version.suspended',
  'versions.resume': 'version.resumed',
  'versions.retire': 'version.retired',
  'versions.schedule': 'version.scheduled',
  'versions.schedule-destruction': 'version.destruction-scheduled',
  'versions.cancel-destruction': 'version.destruction-cancelled',
  'versions.destroy': 'version.destroyed',
  'versions.put-certificates': 'version.certificates-changed',
  'versions.delete-certificates': 'version.certificates-changed',
};

/** An event of a change, before it has its place in the namespace. */
export type ChangeEvent = Pick<NewEvent, 'n' | 'keyId' | 'keyName' | 'data'> & {
  readonly type: EventType;
};

/**
 * In the order of their numbers. None where the wanted state was there already, but for an
 * announcement, which says that something will happen and changes nothing.
 */
export function eventsOf(
  operation: Operation | LaterOperation,
  change: PreparedChange,
): readonly ChangeEvent[] {
  const meaning = MEANINGS[operation];
  if (meaning === null) return [];
  if (!change.changes && operation !== 'keys.announce') return [];
  const type = typeof meaning === 'function' ? meaning(change) : meaning;
  const { id: keyId, name: keyName } = change.after.key;
  const data = { ...factsOf(change), ...(OF_THE_ADDED.has(type) ? addedFacts(change) : {}) };
  return [
    { n: 1, type, keyId, keyName, data },
    ...givenUp(type, change),
    ...replaced(type, change),
  ];
}

/** Those that are about the version which they add. */
const OF_THE_ADDED: ReadonlySet<EventType> = new Set(['key.created', 'key.rotated']);

/**
 * Names of labels are a list in every event, though one text in audit entries, which have no lists; events that
 * were stored as such are shown so too.
 */
export function withListedLabels(data: NewEvent['data']): NewEvent['data'] {
  const { labelNames } = data;
  if (typeof labelNames !== 'string') return data;
  try {
    return { ...data, labelNames: JSON.parse(labelNames) as unknown };
  } catch {
    // Nothing that was written as a list; it is shown as it stands.
    return data;
  }
}

function factsOf(change: PreparedChange): NewEvent['data'] {
  const { before, after, used, detail } = change;
  return {
    ...withListedLabels(detail),
    keyRevision: after.key.revision,
    version: used.keyVersion,
    suite: used.suite,
    ...(before === null ? createdFacts(change) : {}),
    ...(before === null || !change.changes ? {} : { changed: changed(change, before) }),
  };
}

const createdFacts = ({ after: { key } }: PreparedChange) => ({
  purpose: key.purpose,
  labelNames: Object.keys(key.labels).sort(),
});

/** Field -> from what to what; of labels the names. */
function changed(
  { after, used }: PreparedChange,
  before: NonNullable<PreparedChange['before']>,
): object {
  const fields = Object.entries(differences(before, after, used.keyVersion));
  return Object.fromEntries(fields.map(([field, [from, to]]) => [field, { from, to }]));
}

/** A version that was added, which is not yet the primary where its activation is in the future. */
function addedFacts({ before, after }: PreparedChange): NewEvent['data'] {
  const added = after.versions[before?.versions.length ?? 0];
  if (added === undefined) return {};
  return { version: added.version, suite: findSuiteByNumber(added.suite).id };
}

/** The key that loses an alias to another in the same change. */
function givenUp(type: EventType, { detail, after }: PreparedChange): readonly ChangeEvent[] {
  const { fromKeyId: keyId, from: keyName, alias } = detail;
  if (type !== 'key.alias-changed') return [];
  if (typeof keyId !== 'string' || typeof keyName !== 'string') return [];
  const data = { alias, to: after.key.name, toKeyId: after.key.id };
  return [{ n: 2, type, keyId, keyName, data }];
}

/** The version that a compromise made in place of the one that fell: followers of rotations learn of it too. */
function replaced(type: EventType, change: PreparedChange): readonly ChangeEvent[] {
  const added = addedFacts(change);
  if (type !== 'version.compromised' || !('version' in added)) return [];
  const { id: keyId, name: keyName, revision: keyRevision } = change.after.key;
  const data = { keyRevision, ...added, replaces: change.used.keyVersion };
  return [{ n: 2, type: 'key.rotated', keyId, keyName, data }];
}
