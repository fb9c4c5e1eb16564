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
 */
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
  const [, provider, announced, retired, proof] = RECORD.exec(text) ?? [];
  if (provider === undefined) {
    throw refused('The label is not the record of a Kubernetes provider.');
  }
  const record = {
    provider,
    announced: Number(announced),
    retired: Number(retired ?? 0),
    proof: proof ?? null,
  };
  if (record.retired < record.announced) return record;
  throw refused('Only versions before the announced one can be retired.');
}

/** Of each cluster that has one, by its name. A label from before there were records is none. */
export function recordsOf(labels: Labels): ReadonlyMap<string, ProviderRecord> {
  const records = Object.entries(labels)
    .filter(([name, text]) => name.startsWith(PROVIDER_LABEL) && RECORD.test(text))
    .map(([name, text]) => [name.slice(PROVIDER_LABEL.length), parseRecord(text)] as const);
  return new Map(records);
}

/** @throws TwofoldError invalid_value */
function checkChange(before: ProviderRecord, after: ProviderRecord, announcing: boolean): void {
  if (after.provider !== before.provider) throw refused('A provider keeps its name.');
  if (after.announced < before.announced || (!announcing && after.announced > before.announced)) {
    throw refused('A version is announced by the service, and never taken back.');
  }
  if (after.retired < before.retired) throw refused('What is retired stays retired.');
  if (after.retired === before.retired && after.proof !== before.proof) {
    throw refused('The proof belongs to what it retired.');
  }
}

/**
 * What a change of labels may do to the records: make one, retire versions with a proof, end one.
 * To announce is the service's own, once every instance has confirmed the version.
 * @throws TwofoldError invalid_value
 */
export function checkRecords(
  before: Labels,
  key: Pick<Key, 'labels' | 'latestVersion' | 'primary'>,
  announcing = false,
): void {
  const known = recordsOf(before);
  for (const [name, text] of Object.entries(key.labels)) {
    if (name.startsWith(PROVIDER_LABEL) && before[name] !== text) parseRecord(text);
  }
  for (const [cluster, record] of recordsOf(key.labels)) {
    const former = known.get(cluster);
    if (former !== undefined) checkChange(former, record, announcing);
    else if (!CLUSTER.test(cluster)) throw refused('The id of a cluster has up to 50 characters.');
    else if (record.retired > 0 || record.announced !== key.primary) {
      throw refused('A new provider begins with the primary version, and with nothing retired.');
    }
    if (record.announced > key.latestVersion)
      throw refused('There is no such version to announce.');
  }
}

/**
 * @param version the latest that is to go; null: the whole key
 * @throws TwofoldError deletion_protected
 */
export function requireNotHeld({ labels }: Pick<Key, 'labels'>, version: number | null): void {
  for (const [cluster, { retired }] of recordsOf(labels)) {
    if (version !== null && version <= retired) continue;
    throw new TwofoldError(
      'deletion_protected',
      `Secrets of the Kubernetes cluster ${cluster} may be under it: ` +
        (version === null
          ? `end its record first (label ${providerLabel(cluster)}).`
          : `retire version ${String(version)} with the proof of verify-rotation first.`),
    );
  }
}
