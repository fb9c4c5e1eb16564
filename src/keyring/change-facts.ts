/** What a change's audit entry says of the rows: revisions, and which fields went from what to what. */
import { destructionOf } from './lifecycle.ts';
import type { Key, KeyVersion } from './model.ts';
import type { KeyView, PreparedChange } from './operations.ts';
import { recordsOf } from './provider-record.ts';
import { holdJson } from './rotation-hold.ts';
import { policyJson } from './rotation-policy.ts';
import type { Affected } from './use-report.ts';

type Facts = PreparedChange['detail'];

/** Values of labels are a caller's and may be private: only their names are written, and the records among them. */
const KEY_FIELDS = {
  labels: ({ labels }: Key) => Object.keys(labels).sort(),
  providers: ({ labels }: Key) => Object.fromEntries(recordsOf(labels)),
  deletionProtection: (key: Key) => key.deletionProtection,
  publish: (key: Key) => key.publish,
  aliases: (key: Key) => key.aliases,
  exports: (key: Key) => key.exports.length,
  rotation: (key: Key) => key.rotation && policyJson(key.rotation),
  rotationHold: (key: Key) => key.rotationHold && holdJson(key.rotationHold),
  primary: (key: Key) => key.primary,
  minUsableVersion: (key: Key) => key.minUsableVersion,
  latestVersion: (key: Key) => key.latestVersion,
  suspension: (key: Key) => key.suspension,
  destruction: (key: Key) => key.destruction,
  destroyedAt: (key: Key) => key.destroyedAt,
} as const;

/** Facts of a create or of a change; none when the wanted state was there already. */
export function changeFacts({ before, after, used, changes }: PreparedChange): Facts {
  if (!changes) return {};
  const { key } = after;
  const version = after.versions[used.keyVersion - 1];
  const revisions = {
    keyRevision: key.revision,
    ...(version === undefined ? {} : { versionRevision: version.revision }),
  };
  if (before === null) return { ...revisions, ...createdFacts(key) };
  return { ...revisions, changed: JSON.stringify(differences(before, after, used.keyVersion)) };
}

/** What a change of a key that existed makes of its fields and of those of one version: [old, new]. */
export function differences(
  before: KeyView,
  after: KeyView,
  number: number,
): Readonly<Record<string, readonly unknown[]>> {
  const [earlier, later] = [before, after].map(({ versions }) => versions[number - 1]);
  return {
    ...changedFields(before.key, after.key),
    ...(earlier === undefined || later === undefined ? {} : changedState(earlier, later)),
  };
}

interface Views {
  readonly before: KeyView;
  readonly after: KeyView;
  /** The one that the change is about, where it is about one. */
  readonly version: number;
}

/**
 * Versions whose users a change of a key or version concerns: of the whole key all that it has, of
 * `minUsableVersion` those that it closes or opens, of the primary the old and the new one, also where a
 * version takes its place by being activated.
 */
export function affectedBy(operation: string, { before, after, version }: Views): Affected {
  const [old, now] = [before.key, after.key];
  if (operation.startsWith('versions.')) {
    const superseded = operation === 'versions.activate' && old.primary !== now.primary;
    if (!superseded || old.primary === null) return { version, users: [version] };
    return { version: null, users: [old.primary, version] };
  }
  const every = before.versions.map((each) => each.version);
  if (old.minUsableVersion !== now.minUsableVersion) {
    const [from, until] = [old.minUsableVersion, now.minUsableVersion].toSorted((a, b) => a - b);
    return {
      version: null,
      users: every.filter((each) => each >= Number(from) && each < Number(until)),
    };
  }
  if (operation === 'keys.set-primary') {
    return {
      version: null,
      users: every.filter((each) => [old.primary, now.primary].includes(each)),
    };
  }
  return { version: null, users: every };
}

const createdFacts = ({
  name,
  purpose,
  labels,
  deletionProtection,
  publish,
  exportable,
}: Key): Facts => ({
  name,
  purpose,
  labelNames: JSON.stringify(Object.keys(labels).sort()),
  deletionProtection,
  publish,
  ...(exportable ? { exportable } : {}),
});

function changedFields(before: Key, after: Key): Readonly<Record<string, readonly unknown[]>> {
  const differing = Object.entries(KEY_FIELDS)
    .map(([field, of]) => [field, [of(before), of(after)]] as const)
    .filter(
      ([field, [old, now]]) =>
        !same(old, now) || (field === 'labels' && !sameLabels(before, after)),
    );
  return Object.fromEntries(differing);
}

const changedState = (before: KeyVersion, after: KeyVersion) => {
  const chains = [chainOf(before), chainOf(after)];
  const destructions = [destructionOf(before), destructionOf(after)];
  return {
    ...(before.state === after.state ? {} : { state: [before.state, after.state] }),
    ...(chains[0] === chains[1] ? {} : { certificateChain: chains }),
    ...(same(destructions[0], destructions[1]) ? {} : { destruction: destructions }),
    ...changedTimes(before, after),
  };
};

/** What was set in advance. */
function changedTimes(before: KeyVersion, after: KeyVersion) {
  const times = (['activateAt', 'deactivateAt'] as const).map((field) => {
    const [old, now] = [before, after].map((version) => timeOf(version, field));
    return [field, [old, now]] as const;
  });
  return Object.fromEntries(times.filter(([, [old, now]]) => !same(old, now)));
}

const timeOf = (version: KeyVersion, field: 'activateAt' | 'deactivateAt'): Date | null =>
  (field in version && (version as { readonly [F in typeof field]?: Date | null })[field]) || null;

const chainOf = ({ certificateChain }: KeyVersion): string | null =>
  certificateChain === null ? null : Buffer.from(certificateChain).toString('hex');

const sameLabels = (a: Key, b: Key): boolean => same(sorted(a), sorted(b));
const sorted = ({ labels }: Key) => Object.entries(labels).sort();
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
