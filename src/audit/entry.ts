/**
 * The canonical bytes of an audit entry, version 2. The bytes of a version never change: what an entry
 * needs beyond them takes a new version, and the versions before stay readable.
 *
 * Deterministic CBOR (RFC 8949 section 4.2.1): one array of exactly 33 members. Version 1 is positions 0
 * to 22 of this table, 23 members, but for position 20.
 *
 * | position | member            | CBOR type                                                            |
 * | -------- | ----------------- | -------------------------------------------------------------------- |
 * | 0        | version           | unsigned, 2                                                          |
 * | 1        | lane              | unsigned                                                             |
 * | 2        | n                 | unsigned, from 1 without gaps in its lane                            |
 * | 3        | previous          | bytes 32: leaf of (lane, n - 1); 32 zero bytes for n = 1             |
 * | 4        | epoch             | unsigned: security epoch under which it was appended                 |
 * | 5        | time              | unsigned: milliseconds since 1970-01-01T00:00:00Z                    |
 * | 6        | zone              | text                                                                 |
 * | 7        | instance          | bytes 16 (UUID)                                                      |
 * | 8        | request id        | text                                                                 |
 * | 9        | actor             | array 4: issuer text, subject text, method text, session bytes 16 or null |
 * | 10       | operation         | text                                                                 |
 * | 11       | namespace         | text                                                                 |
 * | 12       | key, as named     | text or null                                                         |
 * | 13       | key id            | bytes 16 (UUID) or null                                              |
 * | 14       | key version       | unsigned or null                                                     |
 * | 15       | suite number      | unsigned or null                                                     |
 * | 16       | outcome           | text: `ok` or an error code                                          |
 * | 17       | decision          | null or array 2: revision text, array of policy id text              |
 * | 18       | source            | text: address as seen by the listener                                |
 * | 19       | context keys      | array of text                                                        |
 * | 20       | context HMAC      | bytes 32 or null: of the encryption context without aad (version 1: of both together); see `contextMacInput` |
 * | 21       | items             | array of array 3: key version unsigned or null, outcome text, hash bytes 16 |
 * | 22       | detail            | map of text to text, integer, true, false or null                    |
 * | 23       | strength          | array 2: authentication context class (`acr`) text or null, array of authentication methods (`amr`, RFC 8176) text, sorted |
 * | 24       | roles             | array of text, sorted: the principal's when it was decided; null: not known |
 * | 25       | TLS group         | text or null: of the connection's key agreement, as IANA names it    |
 * | 26       | grant id          | bytes 16 (UUID) or null: what was lent, if that permitted it         |
 * | 27       | approval id       | bytes 16 (UUID) or null: the approval that it was carried out under  |
 * | 28       | engine            | text or null: `native` or `portable`, which computed the post-quantum half; `token`: the suite has none |
 * | 29       | origin            | text or null: `anyone` or `service`, of what was opened              |
 * | 30       | duration          | unsigned or null: microseconds from the request's head to the making of this entry; what it takes to make it durable and to send the answer comes on top |
 * | 31       | context values    | map of text to text: those of the context whose names the namespace declares loggable |
 * | 32       | aad HMAC          | bytes 32 or null                                                     |
 *
 * method is `jwt`, `mtls`, `system`, `bootstrap` or `break-glass`. Lone surrogates in text are written as
 * U+FFFD. leaf = SHA-256(0x00 ‖ entry) (RFC 6962 section 2.1).
 */
import { hash } from 'node:crypto';
import { concatBytes } from '../crypto/bytes.ts';
import { encodeCbor } from '../crypto/cbor.ts';
import type { CborValue } from '../crypto/cbor.ts';
import { uuidBytes } from '../crypto/uuid.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import type { AuditDraft } from './ports.ts';

export const ENTRY_VERSION = 2;
export const MAX_ENTRY_BYTES = 65_535;
export const LEAF_BYTES = 32;

/** `previous` of the first entry of a lane. */
export const NO_PREVIOUS: Uint8Array = new Uint8Array(LEAF_BYTES);

/** Where an entry stands: positions 1 to 4. */
export interface Place {
  readonly lane: number;
  readonly n: number;
  readonly previous: Uint8Array;
  readonly epoch: number;
}

/** What does not depend on the place: positions 5 to 32. */
export interface Facts extends Omit<AuditDraft, 'contextValues' | 'aad'> {
  readonly at: Date;
  readonly zone: string;
  /** UUID. */
  readonly instance: string;
  readonly contextHmac: Uint8Array | null;
  readonly aadHmac: Uint8Array | null;
}

export type Entry = Place & Facts;

/** Members of an entry of each version. */
export const MEMBERS_OF: Readonly<Record<number, number>> = { 1: 23, 2: 33 };
const MEMBERS = 33;
const PLACE_MEMBERS = 5;
/** Major type 4 (array) with a length of 24 to 255: 0x98, then the length. */
const ARRAY_HEADER = Uint8Array.of(0x98, MEMBERS);
/** Length of the header of the array of facts, which has 24 members or more too. */
const FACTS_HEADER = 2;

/**
 * Positions 5 to 32, encoded once when the entry is made; its place may change until it is appended.
 * The encoding of an array is its header followed by those of its members, so these bytes are joined
 * to those of the place as they are.
 * @throws TwofoldError `internal` when the entry would be over 65,535 bytes, or holds a value that
 *   has no canonical form (a fraction, an id that is no UUID)
 */
export function encodeFacts(facts: Facts): Uint8Array {
  const encoded = asInternal(() => encodeCbor(factMembers(facts))).subarray(FACTS_HEADER);
  if (encoded.length > MAX_ENTRY_BYTES - PLACE_BYTES) {
    throw new TwofoldError('internal', 'The audit entry is too large.');
  }
  return encoded;
}

/** The entry's bytes. */
export function encodeEntry(place: Place, facts: Uint8Array): Uint8Array {
  const members = [ENTRY_VERSION, place.lane, place.n, place.previous, place.epoch];
  return concatBytes(ARRAY_HEADER, encodeCbor(members).subarray(1), facts);
}

/** RFC 6962 leaf hash. */
export function leafHash(entry: Uint8Array): Uint8Array {
  return hash('sha256', concatBytes(LEAF_PREFIX, entry), 'buffer');
}

/**
 * What the audit key MACs for positions 20 and 32: format version u8 (1) ‖ CBOR [label, values], where
 * values is the canonical context (crypto/context.ts) of the encryption context alone, or of the aad
 * alone.
 */
export function contextMacInput(values: Uint8Array): Uint8Array {
  return concatBytes(Uint8Array.of(1), encodeCbor([NAME.auditValue, values]));
}

/** What the audit key MACs to give the key of the hashes at position 21: format version u8 (1) ‖ CBOR [label]. */
export const itemKeyInput = (): Uint8Array =>
  concatBytes(Uint8Array.of(1), encodeCbor([NAME.auditItem]));

/**
 * What the audit key MACs for a batch: format version u8 (1) ‖ CBOR [label, lane, first n, count,
 * leaf of the last entry]. The last leaf holds all before it through `previous`.
 */
export function batchMacInput(batch: {
  readonly lane: number;
  readonly first: number;
  readonly count: number;
  readonly last: Uint8Array;
}): Uint8Array {
  const { lane, first, count, last } = batch;
  return concatBytes(Uint8Array.of(1), encodeCbor([NAME.auditBatch, lane, first, count, last]));
}

const LEAF_PREFIX = Uint8Array.of(0);
/** Upper bound of array header, version, lane, n, previous and epoch: 2 + 1 + 3 x 9 + 34. */
export const PLACE_BYTES = 64;

function factMembers(facts: Facts): CborValue[] {
  const members: CborValue[] = [
    facts.at.getTime(),
    text(facts.zone),
    requireUuid(facts.instance),
    text(facts.requestId),
    actor(facts.actor),
    text(facts.operation),
    text(facts.namespace),
    facts.keyRef === null ? null : text(facts.keyRef),
    facts.keyId === null ? null : requireUuid(facts.keyId),
    facts.keyVersion,
    facts.suite,
    text(facts.outcome),
    decision(facts.decision),
    text(facts.source),
    facts.contextKeys.map(text),
    facts.contextHmac === null ? null : exactly(32, facts.contextHmac),
    facts.items.map((item) => [item.keyVersion, text(item.outcome), exactly(16, item.hash)]),
    detail(facts.detail),
    ...factsSinceVersion2(facts),
  ];
  if (members.length !== MEMBERS - PLACE_MEMBERS) throw new TypeError('members miscounted');
  return members;
}

function factsSinceVersion2(facts: Facts): CborValue[] {
  const { acr, amr, roles } = facts.actor;
  return [
    [acr === null ? null : text(acr), amr.map(text)],
    roles === null ? null : roles.map(text),
    facts.tlsGroup === null ? null : text(facts.tlsGroup),
    facts.grantId === null ? null : requireUuid(facts.grantId),
    facts.approvalId === null ? null : requireUuid(facts.approvalId),
    facts.engine,
    facts.origin,
    facts.durationUs,
    detail(facts.loggedContext),
    facts.aadHmac === null ? null : exactly(32, facts.aadHmac),
  ];
}

const text = (value: string): string => value.toWellFormed();

function actor(value: Facts['actor']): CborValue {
  const session = value.session === null ? null : exactly(16, value.session);
  return [text(value.issuer), text(value.subject), value.method, session];
}

const decision = (value: Facts['decision']): CborValue =>
  value === null ? null : [text(value.revision), value.policies.map(text)];

const NO_PAIRS: CborValue = new Map();

function detail(value: Facts['detail']): CborValue {
  const facts = Object.entries(value);
  if (facts.length === 0) return NO_PAIRS;
  const pairs = facts.map(([name, fact]): [string, CborValue] => [
    text(name),
    typeof fact === 'string' ? text(fact) : fact,
  ]);
  return new Map(pairs);
}

function exactly(length: number, bytes: Uint8Array): Uint8Array {
  if (bytes.length !== length) throw new TypeError(`expected ${length} bytes`);
  return bytes;
}

function requireUuid(value: string): Uint8Array {
  const bytes = uuidBytes(value);
  if (bytes === null) throw new TypeError('not a lower-case UUID');
  return bytes;
}

function asInternal<T>(encode: () => T): T {
  try {
    return encode();
  } catch (error) {
    throw TwofoldError.from(error);
  }
}
