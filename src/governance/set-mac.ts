/**
 * Canonical forms of sets and their MACs under `root-mac`, as those of `keyring/row-mac.ts`: format
 * version u8 (1) ‖ deterministic CBOR.
 *
 *     member = [label, "member", kind, namespace, name, revision, at, issuer, subject, value]
 *     seal   = [label, "seal", kind, namespace, revision, hash]
 *
 * `at` is in integer milliseconds; `value` is null where the change took the member away; `hash` is
 * SHA-256 over the CBOR array of the SHA-256 of each member's form, in byte order of their names. So the
 * seal's MAC alone stands for the whole set; a member's own is for the history.
 */
import { createHash } from 'node:crypto';

import { BoundedCache } from '../access/bounded-cache.ts';
import { concatBytes, equalBytes } from '../crypto/bytes.ts';
import { encodeCbor } from '../crypto/cbor.ts';
import type { CborValue } from '../crypto/cbor.ts';
import { TwofoldError } from '../errors.ts';
import { inTurns } from '../keyring/in-turns.ts';
import type { RowMac } from '../keyring/row-mac.ts';
import { NAME } from '../name.ts';
import type { Attested } from '../keyring/ports.ts';
import type { SetMember, SetSeal, StoredSet } from '../keyring/set-ports.ts';

const FORMAT = 1;
/** So that a long history leaves the HSM's queue to others. */
const MACS_AT_ONCE = 16;

const hash = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();

const canonical = (columns: readonly CborValue[]): Uint8Array =>
  concatBytes(Uint8Array.of(FORMAT), encodeCbor([NAME.rowMac, ...columns]));

export function canonicalMember(member: SetMember): Uint8Array {
  const { kind, namespace, name, revision, at, by, value } = member;
  const columns = [kind, namespace, name, revision, at.getTime(), by.issuer, by.subject, value];
  return canonical(['member', ...columns]);
}

export const canonicalSeal = ({ kind, namespace, revision, hash: of }: SetSeal): Uint8Array =>
  canonical(['seal', kind, namespace, revision, of]);

/** Members of which the hash is remembered, by all that they say. */
const REMEMBERED = 20_000;
const hashes = new BoundedCache<string, Uint8Array>(REMEMBERED);

const hasOddNumber = (value: unknown): boolean =>
  typeof value === 'number'
    ? !Number.isSafeInteger(value) || Object.is(value, -0)
    : typeof value === 'object' && value !== null && Object.values(value).some(hasOddNumber);

/**
 * SHA-256 of a member's canonical form. A change of one member encodes that one and none of the others, of
 * which a set may have thousands.
 */
export function hashOfMember(member: SetMember): Uint8Array {
  // JSON has no way to say these, and would remember them as the null that they are not.
  if (hasOddNumber(member.value)) return hash(canonicalMember(member));
  const said = createHash('sha256').update(JSON.stringify(member)).digest('base64');
  const known = hashes.get(said);
  if (known !== undefined) return known;
  const made = hash(canonicalMember(member));
  hashes.set(said, made);
  return made;
}

/** Of `hashOfMember` of each member, in byte order of their names: what the seal says. */
export const hashOfHashes = (members: readonly Uint8Array[]): Uint8Array =>
  hash(encodeCbor(members));

/** Of digests of rows, one after the other (`SetSince.rest`). */
export const digestOfRows = (digests: readonly Uint8Array[]): Uint8Array =>
  hash(concatBytes(...digests));

export async function attestMember(mac: RowMac, value: SetMember): Promise<Attested<SetMember>> {
  return { value, mac: await mac(canonicalMember(value)) };
}

export async function attestSeal(mac: RowMac, value: SetSeal): Promise<Attested<SetSeal>> {
  return { value, mac: await mac(canonicalSeal(value)) };
}

export const altered = (kind: string, namespace: string) =>
  new TwofoldError('integrity_failed', `The ${kind} set of namespace ${namespace} was altered.`);

/** A row may hold what no row of ours could, such as a fraction. */
function orAltered<T>(kind: string, namespace: string, form: () => T): T {
  try {
    return form();
  } catch {
    throw altered(kind, namespace);
  }
}

/** Whether the seal is ours, and stands for these members (`hashOfHashes`). */
export async function isSealOf(
  mac: RowMac,
  seal: Attested<SetSeal>,
  members: Uint8Array,
): Promise<boolean> {
  const genuine = equalBytes(await mac(canonicalSeal(seal.value), seal.mac), seal.mac);
  return genuine && equalBytes(seal.value.hash, members);
}

/** Whether the history, which only grows, has a later revision than the seal: an older set was put back. */
export const isBehind = ({ seal, newest }: Pick<StoredSet, 'seal' | 'newest'>): boolean =>
  newest > (seal?.value.revision ?? 0);

/**
 * Verifies that these are the members, that they are all there are, and that none came later.
 * @returns `hashOfMember` of each
 * @throws TwofoldError integrity_failed
 */
export async function verifySet(
  mac: RowMac,
  kind: string,
  namespace: string,
  { seal, newest, members }: StoredSet,
): Promise<readonly Uint8Array[]> {
  if (isBehind({ seal, newest })) throw altered(kind, namespace);
  const values = members.map(({ value }) => value);
  if (seal === null) {
    if (values.length > 0) throw altered(kind, namespace);
    return [];
  }
  const owned = [seal.value, ...values].every(
    (row) => row.kind === kind && row.namespace === namespace,
  );
  const of = orAltered(kind, namespace, () => values.map(hashOfMember));
  if (!owned || !(await isSealOf(mac, seal, hashOfHashes(of)))) throw altered(kind, namespace);
  return of;
}

/**
 * Verifies rows of the history one by one.
 * @throws TwofoldError integrity_failed
 */
export async function verifyHistory(
  mac: RowMac,
  kind: string,
  namespace: string,
  rows: readonly Attested<SetMember>[],
): Promise<void> {
  await inTurns(rows, MACS_AT_ONCE, async ({ value, mac: stated }) => {
    const owned = value.kind === kind && value.namespace === namespace;
    const form = orAltered(kind, namespace, () => canonicalMember(value));
    if (!owned || !equalBytes(await mac(form, stated), stated)) throw altered(kind, namespace);
  });
}
