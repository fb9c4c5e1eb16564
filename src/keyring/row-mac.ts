/**
 * Row MACs: what a decision reads was written by a holder of `root-mac` (design: someone with the
 * database cannot swap halves, replace a public key, or turn `suspended` back).
 *
 * Input of the HMAC: format version u8 (1) ‖ CBOR array, deterministic, starting with the label and
 * the table. It holds every column of the row, `null` where a state has none; byte columns larger
 * than a hash go in by their SHA-256. A new column means a new format version, never a silent gap.
 *
 *     key     = [label, "key", id, namespace, name, purpose, labels{}, rotation, deletionProtection,
 *                primary, minUsableVersion, latestVersion, suspension, destroyedAt, createdAt, revision]
 *     version = [label, "version", keyId, version, suite, createdAt, revision, state, activateAt,
 *                activatedAt, deactivateAt, deactivatedAt, compromisedAt, destroyAt, destroyedAt,
 *                reason, suspension, classical, pq, psk]
 *     intent  = [label, "intent", objectId, installation, tokenSerial, instance, createdAt]
 *     answer  = [label, "idempotency", namespace, principal, key, requestHash, status, body, auditId]
 *     operation = [label, "operation", id, kind, namespace, keyId, request{}, issuer, subject, rate,
 *                  createdAt]
 *     policy  = [label, "rotation-policy", namespace, name, selector{}, priority, policy]
 *     set     = [label, "rotation-policy-set", namespace, revision, hash]
 *     kept    = [label, "root-kept", generation, under, blob, check]
 *
 * Times are integer milliseconds since the epoch; a suspension is [at, reason].
 *
 * Columns that came later stand at the end, in groups that came together; format n + 1 has the first n:
 *
 *     key     = … | publish | aliases, destruction | origin | exportable, exports | rotationHold
 *     version = … | certificateChain | destruction | origin
 *     set     = … | paused
 *
 * A row has the lowest format that says all of it: a group whose columns are what they would have been
 * in every row before it (false, null, an empty list, `generated`) is left out at the end. So each value has one
 * form, and the MACs of earlier rows stand. The destruction of a key is [at, requestedAt, reason], that
 * of a version [requestedAt, reason]; an export [version, at, suite, recipient, issuer, subject, approval];
 * a hold [at, reason, primary, policy, policyRevision].
 */
import { hash as digestOf } from 'node:crypto';

import { concatBytes, equalBytes } from '../crypto/bytes.ts';
import { encodeCbor } from '../crypto/cbor.ts';
import type { CborValue } from '../crypto/cbor.ts';
import { TwofoldError } from '../errors.ts';
import type { HsmMaterial, WrappedMaterial } from '../hsm/port.ts';
import { NAME } from '../name.ts';
import { inTurns } from './in-turns.ts';
import { destructionOf } from './lifecycle.ts';
import type { Key, KeyVersion, Material, SealedHalf, Suspension } from './model.ts';
import type { RootMac } from './root-mac.ts';
import { holdCbor } from './rotation-hold.ts';
import { policyCbor } from './rotation-policy.ts';
import type {
  Attested,
  IdempotencyRecord,
  ListedKey,
  OperationIdentity,
  NamespacePolicy,
  PolicySetSeal,
  StoredKey,
  StoredPolicySet,
  TokenIntent,
} from './ports.ts';

const FORMAT = 1;
/** So that a key with many versions leaves the HSM's queue to others. */
const MACS_AT_ONCE = 16;
const NO_BYTES = new Uint8Array(0);

const time = (date: Date | null): number | null => date?.getTime() ?? null;
const hash = (bytes: Uint8Array): Uint8Array => digestOf('sha256', bytes, 'buffer');
const suspended = (value: Suspension | null): CborValue =>
  value === null ? null : [value.at.getTime(), value.reason];

function canonical(columns: readonly CborValue[], format = FORMAT): Uint8Array {
  return concatBytes(Uint8Array.of(format), encodeCbor([NAME.rowMac, ...columns]));
}

/** What the columns of each later group were in every row before them. */
const BEFORE_LATER = {
  key: [[false], [[], null], ['generated'], [false, []], [null]],
  version: [[null], [null], ['generated']],
  'rotation-policy-set': [[null]],
} as const satisfies Readonly<Record<string, readonly (readonly CborValue[])[]>>;

/** Of null, booleans, texts, numbers and lists of these; what is of another kind is not the same. */
const same = (a: CborValue, b: CborValue): boolean =>
  Array.isArray(a) && Array.isArray(b)
    ? a.length === b.length &&
      a.every((item: CborValue, index) => same(item, (b as readonly CborValue[])[index] ?? null))
    : a === b;

function canonicalWithLater(
  table: keyof typeof BEFORE_LATER,
  columns: readonly CborValue[],
  later: readonly (readonly CborValue[])[],
): Uint8Array {
  const before: readonly (readonly CborValue[])[] = BEFORE_LATER[table];
  const says = (group: readonly CborValue[], index: number) => !same(group, before[index] ?? []);
  const groups = later.slice(0, later.findLastIndex(says) + 1);
  return canonical([...columns, ...groups.flat()], FORMAT + groups.length);
}

export function canonicalKey(key: Key): Uint8Array {
  const columns: readonly CborValue[] = [
    'key',
    key.id,
    key.namespace,
    key.name,
    key.purpose,
    key.labels,
    key.rotation && policyCbor(key.rotation),
    key.deletionProtection,
    key.primary,
    key.minUsableVersion,
    key.latestVersion,
    suspended(key.suspension),
    time(key.destroyedAt),
    key.createdAt.getTime(),
    key.revision,
  ];
  const { publish, aliases, destruction } = key;
  const scheduled = destruction && [
    destruction.at.getTime(),
    destruction.requestedAt.getTime(),
    destruction.reason,
  ];
  const exports = key.exports.map(({ version, at, suite, recipient, by, approval }) => [
    ...[version, at.getTime(), suite, recipient],
    ...[by.issuer, by.subject, approval],
  ]);
  return canonicalWithLater('key', columns, [
    [publish],
    [aliases, scheduled],
    [key.origin],
    [key.exportable, exports],
    [key.rotationHold && holdCbor(key.rotationHold)],
  ]);
}

function canonicalHsm(material: HsmMaterial): CborValue {
  return material.custody === 'hsm-wrapped'
    ? [material.custody, material.generation, hash(material.blob), hash(material.check)]
    : [
        material.custody,
        material.tokenSerial,
        material.installation,
        material.objectId,
        hash(material.check),
      ];
}

const canonicalSealed = (half: SealedHalf): CborValue => [
  half.custody,
  half.generation,
  hash(half.sealed),
];

function canonicalMaterial(material: Material | null): CborValue[] {
  const { classical, pq, psk } = material ?? { classical: null, pq: null, psk: null };
  return [
    classical && [
      classical.public === null ? null : hash(classical.public),
      canonicalHsm(classical.hsm),
    ],
    pq && [hash(pq.public), canonicalSealed(pq.half)],
    psk && canonicalSealed(psk),
  ];
}

/** The fields that only some states have, in the order of the table above. */
function stateColumns(version: KeyVersion): CborValue[] {
  const fields = version as unknown as Readonly<Record<string, Date | null | undefined>>;
  const has = (name: string): Date | null => fields[name] ?? null;
  return [
    time(has('activateAt')),
    time(has('activatedAt')),
    time(has('deactivateAt')),
    time(has('deactivatedAt')),
    time(has('compromisedAt')),
    time(destructionOf(version)?.at ?? null),
    time(has('destroyedAt')),
    'reason' in version ? version.reason : null,
    suspended('suspension' in version ? version.suspension : null),
  ];
}

export function canonicalVersion(version: KeyVersion): Uint8Array {
  const columns = [
    'version',
    version.keyId,
    version.version,
    version.suite,
    version.createdAt.getTime(),
    version.revision,
    version.state,
    ...stateColumns(version),
    ...canonicalMaterial('material' in version ? version.material : null),
  ];
  const { certificateChain } = version;
  const destruction = destructionOf(version);
  const scheduled = destruction && [destruction.requestedAt.getTime(), destruction.reason];
  return canonicalWithLater('version', columns, [
    [certificateChain],
    [scheduled],
    [version.origin],
  ]);
}

/** `root-mac` of an old generation, wrapped under a later one for the audit log alone. */
export const canonicalKept = (generation: number, kept: WrappedMaterial): Uint8Array =>
  canonical(['root-kept', generation, kept.generation, hash(kept.blob), hash(kept.check)]);

/** All but `abandoned`, which is set in the database, and whose worth the MAC decides. */
export function canonicalIntent(intent: TokenIntent): Uint8Array {
  return canonical([
    'intent',
    intent.objectId,
    intent.installation,
    intent.tokenSerial,
    intent.instance,
    intent.createdAt.getTime(),
  ]);
}

/** All but `created_at`, which says no more than when the record may go. */
export function canonicalIdempotency(record: IdempotencyRecord): Uint8Array {
  return canonical([
    'idempotency',
    record.namespace,
    record.principal,
    record.key,
    record.requestHash,
    record.status,
    hash(Buffer.from(record.body, 'utf8')),
    record.auditId,
  ]);
}

/** What an operation is. How far it is (`OperationProgress`, and its pace) is outside: see there. */
export function canonicalOperation(operation: OperationIdentity): Uint8Array {
  return canonical([
    'operation',
    operation.id,
    operation.kind,
    operation.namespace,
    operation.keyId,
    operation.request,
    operation.issuer,
    operation.subject,
    operation.rate,
    operation.createdAt.getTime(),
  ]);
}

/** The policy's revision is that of the set in which it was written. */
export function canonicalPolicy(row: NamespacePolicy): Uint8Array {
  const { namespace, name, selector, priority, policy } = row;
  return canonical(['rotation-policy', namespace, name, selector, priority, policyCbor(policy)]);
}

export function canonicalPolicySet(seal: PolicySetSeal): Uint8Array {
  const { namespace, revision, hash: of, paused } = seal;
  const columns = ['rotation-policy-set', namespace, revision, of];
  return canonicalWithLater('rotation-policy-set', columns, [[suspended(paused)]]);
}

/** Of policies in byte order of their names. */
export const hashOfPolicies = (policies: readonly NamespacePolicy[]): Uint8Array =>
  hash(encodeCbor(policies.map((policy) => hash(canonicalPolicy(policy)))));

/** HMAC-SHA-256 under `root-mac`, in the HSM. */
export type RowMac = RootMac;

export async function attestKey(mac: RowMac, value: Key): Promise<Attested<Key>> {
  return { value, mac: await mac(canonicalKey(value)) };
}

export async function attestVersion(mac: RowMac, value: KeyVersion): Promise<Attested<KeyVersion>> {
  return { value, mac: await mac(canonicalVersion(value)) };
}

export async function attestIntent(
  mac: RowMac,
  value: TokenIntent,
): Promise<Attested<TokenIntent>> {
  return { value, mac: await mac(canonicalIntent(value)) };
}

export async function attestIdempotency(
  mac: RowMac,
  value: IdempotencyRecord,
): Promise<Attested<IdempotencyRecord>> {
  return { value, mac: await mac(canonicalIdempotency(value)) };
}

export async function attestOperation(
  mac: RowMac,
  value: OperationIdentity,
): Promise<Attested<OperationIdentity>> {
  return { value, mac: await mac(canonicalOperation(value)) };
}

/** @throws TwofoldError integrity_failed */
export async function verifyOperation(
  mac: RowMac,
  stored: Attested<OperationIdentity>,
): Promise<void> {
  if (equalBytes(await mac(canonicalOperation(stored.value), stored.mac), stored.mac)) return;
  throw new TwofoldError('integrity_failed', 'The record of an operation was altered.');
}

/** @throws TwofoldError integrity_failed */
export async function verifyIdempotency(
  mac: RowMac,
  stored: Attested<IdempotencyRecord>,
): Promise<void> {
  if (equalBytes(await mac(canonicalIdempotency(stored.value), stored.mac), stored.mac)) return;
  throw new TwofoldError('integrity_failed', 'The record of an idempotency key was altered.');
}

const altered = (id: string) =>
  new TwofoldError('integrity_failed', `Rows of key ${id} were altered.`);

/** A row may hold what no row of ours could, such as a time outside the range of `Date`. */
function canonicalRows({ key, versions }: StoredKey | ListedKey): Uint8Array[] {
  try {
    return [canonicalKey(key.value), ...versions.map(({ value }) => canonicalVersion(value))];
  } catch {
    throw altered(key.value.id);
  }
}

/**
 * Verifies a key with all its versions, and that they belong together.
 * @throws TwofoldError integrity_failed
 */
export async function verifyStored(mac: RowMac, stored: StoredKey): Promise<void> {
  const { key, versions } = stored;
  const together =
    versions.length === key.value.latestVersion &&
    versions.every(
      ({ value }, index) => value.keyId === key.value.id && value.version === index + 1,
    );
  if (!together) throw altered(key.value.id);
  await verifyRows(mac, stored);
}

/**
 * Verifies what a list shows of a key: the key, its primary version, and where the list is of one
 * suite that a version has it.
 * @throws TwofoldError integrity_failed
 */
export async function verifyListed(
  mac: RowMac,
  listed: ListedKey,
  suite: number | null,
): Promise<void> {
  const { id, primary } = listed.key.value;
  const versions = listed.versions.map(({ value }) => value);
  const sound =
    versions.every(({ keyId }) => keyId === id) &&
    (primary === null || versions.some(({ version }) => version === primary)) &&
    (suite === null || versions.some((each) => each.suite === suite && each.state !== 'destroyed'));
  if (!sound) throw altered(id);
  await verifyRows(mac, listed);
}

/** Whether each MAC is the one of its row, under whichever generation made it. */
async function areGenuine(
  mac: RowMac,
  rows: readonly Uint8Array[],
  stated: readonly Uint8Array[],
): Promise<boolean> {
  const pairs = rows.map((row, index) => ({ row, said: stated[index] ?? NO_BYTES }));
  const genuine = await inTurns(pairs, MACS_AT_ONCE, async ({ row, said }) =>
    equalBytes(await mac(row, said), said),
  );
  return genuine.every((each) => each);
}

async function verifyRows(mac: RowMac, stored: StoredKey | ListedKey): Promise<void> {
  const { key, versions } = stored;
  const stated = [key.mac, ...versions.map((version) => version.mac)];
  if (!(await areGenuine(mac, canonicalRows(stored), stated))) throw altered(key.value.id);
}

export async function attestPolicy(
  mac: RowMac,
  value: NamespacePolicy,
): Promise<Attested<NamespacePolicy>> {
  return { value, mac: await mac(canonicalPolicy(value)) };
}

export async function attestPolicySet(
  mac: RowMac,
  value: PolicySetSeal,
): Promise<Attested<PolicySetSeal>> {
  return { value, mac: await mac(canonicalPolicySet(value)) };
}

/**
 * Verifies every policy of a namespace, and that they are all there are.
 * @throws TwofoldError integrity_failed
 */
export async function verifyPolicySet(
  mac: RowMac,
  namespace: string,
  { seal, policies }: StoredPolicySet,
): Promise<void> {
  const fault = new TwofoldError(
    'integrity_failed',
    `Rotation policies of namespace ${namespace} were altered.`,
  );
  const values = policies.map(({ value }) => value);
  if (seal === null) {
    if (values.length > 0) throw fault;
    return;
  }
  const owned = [seal.value, ...values].every((row) => row.namespace === namespace);
  if (!owned || !equalBytes(seal.value.hash, hashOfPolicies(values))) throw fault;
  const stated = [seal.mac, ...policies.map((row) => row.mac)];
  const inputs = [canonicalPolicySet(seal.value), ...values.map(canonicalPolicy)];
  if (!(await areGenuine(mac, inputs, stated))) throw fault;
}
