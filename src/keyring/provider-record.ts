/**
 * What is kept of a Kubernetes provider: a label of its key, so that it is under the key's MAC, changes
 * as the key does, and is seen by whoever reads the key.
 *
 *     kubernetes/<cluster> = provider=<name> announced=<version> [retired=<version> proof=<SHA-256>]
 *
 * `retired` closes every version up to it; its proof is the hash (base64url) of the snapshot in which
 * `verify-rotation` found no value of them. Both numbers only rise: a key_id that was left never comes
 * back. A key with a record is under deletion protection, and a version may not go before it is retired:
 * one Secret that cannot be opened keeps a restarted API server from ever becoming ready.
 *
 * A record is never taken away. One whose announced version is retired too has *ended*: it holds nothing,
 * seals nothing, and remembers what the provider must not come back to. A provider that begins anew does
 * so with a version that was never announced.
 */
import { isProviderSuite } from '../crypto/suite.ts';
import type { Suite } from '../crypto/suite.ts';
import { TwofoldError } from '../errors.ts';
import type { Key, Labels } from './model.ts';

export const PROVIDER_LABEL = 'kubernetes/';

export interface ProviderRecord {
  readonly provider: string;
  readonly announced: number;
  /** 0: none. */
  readonly retired: number;
  /** Of the snapshot that showed it; null where nothing is retired. */
  readonly proof: string | null;
}

const CLUSTER = /^[a-zA-Z0-9](?:[-_.a-zA-Z0-9]{0,48}[a-zA-Z0-9])?$/u;
const RECORD =
  /^provider=([-_.a-zA-Z0-9]{1,63}) announced=([1-9]\d{0,9})(?: retired=([1-9]\d{0,9}) proof=([-_a-zA-Z0-9]{43}))?$/u;

const refused = (detail: string) => new TwofoldError('invalid_value', detail);

export const providerLabel = (cluster: string): string => PROVIDER_LABEL + cluster;

export const formatRecord = ({ provider, announced, retired, proof }: ProviderRecord): string =>
  `provider=${provider} announced=${String(announced)}` +
  (proof === null ? '' : ` retired=${String(retired)} proof=${proof}`);

/** @throws TwofoldError invalid_value */
export function parseRecord(text: string): ProviderRecord {
  const record = readRecord(text);
  if (record === null) throw refused('The label is not the record of a Kubernetes provider.');
  if (record.retired <= record.announced) return record;
  throw refused('Only versions that were announced can be retired.');
}

/** Null for what has not the form of one. */
function readRecord(text: string): ProviderRecord | null {
  const [, provider, announced, retired, proof] = RECORD.exec(text) ?? [];
  if (provider === undefined) return null;
  return {
    provider,
    announced: Number(announced),
    retired: Number(retired ?? 0),
    proof: proof ?? null,
  };
}

/** Whether it holds nothing any more, and seals nothing. */
export const hasEnded = ({ announced, retired }: ProviderRecord): boolean => retired === announced;

/**
 * The record of a provider that seals and opens.
 * @throws TwofoldError invalid_value for a provider of another name, not_found for one that ended
 */
export function requireServing(
  record: ProviderRecord,
  { cluster, provider }: { readonly cluster: string; readonly provider: string },
): ProviderRecord {
  if (record.provider !== provider) {
    throw new TwofoldError(
      'invalid_value',
      `The provider of cluster ${cluster} is called ${record.provider}.`,
    );
  }
  if (!hasEnded(record)) return record;
  throw new TwofoldError(
    'not_found',
    `The provider of cluster ${cluster} has ended: rotate the key, and twofold kms-plugin register begins it anew.`,
  );
}

/**
 * Whether a change of labels (null takes one away) says of versions that nothing is under them: what takes
 * their protection off, for which a rule may ask others.
 */
export const unprotectsByLabels = (changes: Readonly<Record<string, string | null>>): boolean =>
  Object.entries(changes).some(
    ([name, text]) => name.startsWith(PROVIDER_LABEL) && text?.includes(' retired=') === true,
  );

/**
 * Of each cluster that has one, by its name. A label from before there were records is none. Never throws, so
 * that no label keeps a key from being suspended: one that retires what it never announced retires nothing.
 */
export function recordsOf(labels: Labels): ReadonlyMap<string, ProviderRecord> {
  const records = new Map<string, ProviderRecord>();
  for (const [name, text] of Object.entries(labels)) {
    const record = name.startsWith(PROVIDER_LABEL) ? readRecord(text) : null;
    if (record === null) continue;
    const sound = record.retired <= record.announced;
    const cluster = name.slice(PROVIDER_LABEL.length);
    records.set(cluster, sound ? record : { ...record, retired: 0, proof: null });
  }
  return records;
}

/**
 * Of a key that is being made: its providers come to it later, by changes that are checked.
 * @throws TwofoldError invalid_value
 */
export function requireNoRecords(labels: Labels): void {
  if (!Object.keys(labels).some((name) => name.startsWith(PROVIDER_LABEL))) return;
  throw refused('A new key has no Kubernetes provider yet.');
}

const sameRetired = (before: ProviderRecord, after: ProviderRecord): boolean =>
  after.retired === before.retired && after.proof === before.proof;

/** @throws TwofoldError invalid_value */
function checkChange(before: ProviderRecord, after: ProviderRecord, announcing: boolean): void {
  if (after.provider !== before.provider) throw refused('A provider keeps its name.');
  if (after.announced < before.announced || (!announcing && after.announced > before.announced)) {
    throw refused('A version is announced by the service, and never taken back.');
  }
  if (after.retired < before.retired) throw refused('What is retired stays retired.');
  if (announcing ? !sameRetired(before, after) : !proves(before, after)) {
    throw refused('The proof belongs to what it retired.');
  }
}

const proves = (before: ProviderRecord, after: ProviderRecord): boolean =>
  after.retired > before.retired || sameRetired(before, after);

/** @throws TwofoldError invalid_value */
function checkBeginning(
  former: ProviderRecord | undefined,
  record: ProviderRecord,
  primary: number | null,
): void {
  if (former !== undefined && former.provider !== record.provider) {
    throw refused('A provider keeps its name.');
  }
  const told = former ?? { ...record, announced: 0, retired: 0, proof: null };
  if (record.announced === primary && primary > told.announced && sameRetired(told, record)) return;
  throw refused(
    former === undefined
      ? 'A new provider begins with the primary version, and with nothing retired.'
      : 'A provider that ended begins anew with a primary version that was never announced, and keeps what it retired.',
  );
}

/** @throws TwofoldError deletion_protected, where a record is not there any more */
function requireKept(before: Labels, after: Labels): void {
  for (const cluster of recordsOf(before).keys()) {
    if (providerLabel(cluster) in after) continue;
    throw new TwofoldError(
      'deletion_protected',
      `The record of the Kubernetes cluster ${cluster} stays: twofold kms-plugin unregister ends it.`,
    );
  }
}

/** @throws TwofoldError wrong_purpose for a suite that no provider seals with */
export function requireProviderSuite(suite: Suite): void {
  if (isProviderSuite(suite)) return;
  throw new TwofoldError(
    'wrong_purpose',
    `A Kubernetes provider takes no key of suite ${suite.id}: A256GCM, or a hybrid KEM.`,
  );
}

/**
 * Of a version that is to become the primary: providers would have to announce it, and an announcement is never
 * taken back.
 * @throws TwofoldError wrong_purpose
 */
export function requireAnnounceable({ labels }: Pick<Key, 'labels'>, suite: Suite): void {
  const serves = [...recordsOf(labels).values()].some((record) => !hasEnded(record));
  if (serves) requireProviderSuite(suite);
}

export interface RecordChange {
  /** Whether it is the service that announces. */
  readonly announcing: boolean;
  /** Of a version that there is. */
  readonly suiteOf: (version: number) => Suite;
}

/**
 * What a change of labels may do to the records: make one, retire versions with a proof, end one by the
 * proof of its announced version, begin one that ended anew.
 * To announce is the service's own, once every instance has confirmed the version.
 * @throws TwofoldError invalid_value, deletion_protected; wrong_purpose where what is announced is of a suite
 *   that no provider seals with
 */
export function checkRecords(
  before: Labels,
  key: Pick<Key, 'labels' | 'latestVersion' | 'primary'>,
  { announcing, suiteOf }: RecordChange,
): void {
  requireKept(before, key.labels);
  const known = recordsOf(before);
  for (const [name, text] of Object.entries(key.labels)) {
    if (!name.startsWith(PROVIDER_LABEL) || before[name] === text) continue;
    const record = parseRecord(text);
    const cluster = name.slice(PROVIDER_LABEL.length);
    if (!CLUSTER.test(cluster)) throw refused('The id of a cluster has up to 50 characters.');
    const former = known.get(cluster);
    if (former === undefined || hasEnded(former)) checkBeginning(former, record, key.primary);
    else checkChange(former, record, announcing);
    if (record.announced > key.latestVersion)
      throw refused('There is no such version to announce.');
    if (record.announced > (former?.announced ?? 0))
      requireProviderSuite(suiteOf(record.announced));
  }
}

/**
 * @param version the latest that is to go; null: the whole key
 * @throws TwofoldError deletion_protected
 */
export function requireNotHeld({ labels }: Pick<Key, 'labels'>, version: number | null): void {
  for (const [cluster, record] of recordsOf(labels)) {
    if (hasEnded(record) || (version !== null && version <= record.retired)) continue;
    throw new TwofoldError(
      'deletion_protected',
      `Secrets of the Kubernetes cluster ${cluster} may be under it: ` +
        (version === null
          ? 'end its record first (twofold kms-plugin unregister).'
          : `retire version ${String(version)} with the proof of verify-rotation first.`),
    );
  }
}
