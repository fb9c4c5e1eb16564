/**
 * What makes a request of a zone that joins one that may be answered, and an answer one that may be taken.
 * Who writes the database writes these rows too: nothing in them is believed that was not compared by
 * people, opened on a token, or MACed by the root.
 */
import { createHash } from 'node:crypto';

import { concatBytes, equalBytes, utf8 } from '../crypto/bytes.ts';
import { encodeCbor } from '../crypto/cbor.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { OutcomeUnknown } from '../outcome.ts';
import { EXPIRED, JOIN_LIFETIME_MS } from '../store/join-store.ts';
import type { JoinAnswer, JoinRequest, JoinStore } from '../store/join-store.ts';
import { fingerprintOfOffer, parseAnswer, parseOffer } from './join-text.ts';
import type { Answer, Offer } from './join-text.ts';

/** Characters of a `problem`. */
const MOST_SHOWN = 256;
const AGAIN = 'Begin again with `hsm join request`.';

/** Of the hash as people read it. */
export const fingerprintBytes = (offer: Offer): Uint8Array =>
  Uint8Array.from(Buffer.from(fingerprintOfOffer(offer).replaceAll(' ', ''), 'hex'));

/**
 * A person's name as the log will have it, 1 to 128 characters.
 * @throws TwofoldError invalid_value
 */
export function personOf(text: string): string {
  const name = text.normalize('NFC');
  if (/^\S(?:[^\p{C}\p{Zl}\p{Zp}]{0,126}\S)?$/u.test(name) && !/\p{C}/u.test(name)) return name;
  throw new TwofoldError(
    'invalid_value',
    'A person has a name of 1 to 128 characters without control characters or space around it.',
  );
}

/** A text of the database as one line that moves nothing on a terminal. */
export const visible = (text: string): string =>
  text.replaceAll(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );

const isPerson = (name: string): boolean => {
  try {
    return personOf(name) === name;
  } catch (error) {
    if (TwofoldError.is(error, 'invalid_value')) return false;
    throw error;
  }
};

const isZone = (name: string): boolean => /^[a-z0-9][a-z0-9-]{0,62}$/u.test(name);

/**
 * A row before anything of it is shown, logged or compared.
 * @throws TwofoldError integrity_failed for names that no command wrote, or an hour that is longer
 */
export function requirePlain(request: JoinRequest): JoinRequest {
  const { zone, requestedBy, requestedAt, expiresAt, answered } = request;
  const lifetimeMs = expiresAt.getTime() - requestedAt.getTime();
  const people = answered === null ? [requestedBy] : [requestedBy, answered.approvedBy];
  const zones = answered === null ? [zone] : [zone, answered.answeredFrom];
  const plain =
    people.every(isPerson) &&
    zones.every(isZone) &&
    lifetimeMs > 0 &&
    lifetimeMs <= JOIN_LIFETIME_MS;
  if (plain) return request;
  throw new TwofoldError('integrity_failed', `The request was altered. ${AGAIN}`);
}

const same = (one: string, other: string): boolean => {
  const plain = (name: string) => name.normalize('NFKC').replaceAll(/\s+/gu, ' ').toLowerCase();
  return plain(one) === plain(other);
};

/** @throws TwofoldError self_approval where one person, or one zone, would be both sides */
function requireTwo(request: JoinRequest, other: { person: string; zone: string }): void {
  if (other.zone === request.zone) {
    const detail = `Zone ${other.zone} asks: it is answered in another one, which has the root.`;
    throw new TwofoldError('self_approval', detail);
  }
  if (same(other.person, request.requestedBy)) {
    throw new TwofoldError('self_approval', 'Who asked for the root does not approve it.');
  }
}

/** @throws TwofoldError approval_ended, approval_expired */
function requireAlive({ state, expired, problem }: JoinRequest): void {
  if (state === 'ended' && problem !== EXPIRED) {
    const why = visible(problem ?? '').slice(0, MOST_SHOWN);
    throw new TwofoldError('approval_ended', `The request ended: ${why}. ${AGAIN}`);
  }
  if (expired || state === 'ended')
    throw new TwofoldError('approval_expired', `The request has expired. ${AGAIN}`);
}

/**
 * The offer of a request that may be answered by this person in this zone, or was already (`answered`).
 * @throws TwofoldError self_approval, approval_used for one that was accepted, approval_ended,
 *   approval_expired, integrity_failed for a row that is not what was posted
 */
export function requireApprovable(
  request: JoinRequest,
  by: { readonly person: string; readonly zone: string },
): Offer {
  requireTwo(request, by);
  if (request.state === 'accepted') {
    throw new TwofoldError('approval_used', 'The zone has taken its answer.');
  }
  requireAlive(request);
  return offerOf(request);
}

/**
 * A request of this zone, whatever state it is in.
 * @throws TwofoldError approval_mismatch for another zone's, integrity_failed
 */
export function requireOwn(request: JoinRequest, zone: string): Offer {
  if (request.zone !== zone) {
    throw new TwofoldError('approval_mismatch', `The request is of zone ${visible(request.zone)}.`);
  }
  return offerOf(request);
}

function offerOf(request: JoinRequest): Offer {
  const offer = strictly(() => parseOffer(request.offer));
  const whole =
    offer.zone === request.zone && equalBytes(fingerprintBytes(offer), request.fingerprint);
  if (whole) return offer;
  throw new TwofoldError('integrity_failed', `The request was altered. ${AGAIN}`);
}

/** What cannot be read in a row was altered there. */
function strictly<T>(parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    if (!TwofoldError.is(cause, 'invalid_value')) throw cause;
    throw new TwofoldError('integrity_failed', `${cause.message} ${AGAIN}`, { cause });
  }
}

export interface Taken extends Answer {
  readonly approvedBy: string;
}

/**
 * The answer to a request of this zone; `null` while there is none.
 * @throws TwofoldError as `requireOwn`, and self_approval, approval_ended, approval_expired,
 *   integrity_failed for an answer to another offer, or of another zone than the row says
 */
export function answerTo(
  request: JoinRequest,
  { person, zone }: { readonly person: string; readonly zone: string },
): Taken | null {
  const offer = requireOwn(request, zone);
  requireAlive(request);
  const { answered } = request;
  const text = answered?.answer ?? null;
  if (answered === null || text === null) return null;
  const { approvedBy, answeredFrom } = answered;
  if (same(person, approvedBy)) {
    throw new TwofoldError('self_approval', 'Who approved the request does not take the answer.');
  }
  const answer = strictly(() => parseAnswer(text));
  const ours = answer.roots.every(({ publicKey }) => equalBytes(publicKey, offer.publicKey));
  if (!ours || answer.zone !== answeredFrom || answer.zone === zone) {
    throw new TwofoldError('integrity_failed', `The answer is for another offer. ${AGAIN}`);
  }
  return { ...answer, approvedBy };
}

/** As `Root.auditMac`. */
export type LastingMac = (data: Uint8Array, like?: Uint8Array) => Promise<Uint8Array>;

/** Stands in the column before the MAC, for the answer goes when it was taken, and the MAC stays. */
const DIGEST_BYTES = 48;

const digestOf = (answer: string): Uint8Array =>
  Uint8Array.from(createHash('sha384').update(answer, 'utf8').digest());

const macInput = (
  request: JoinRequest,
  { approvedBy, answeredFrom }: Pick<JoinAnswer, 'approvedBy' | 'answeredFrom'>,
  digest: Uint8Array,
): Uint8Array =>
  concatBytes(
    utf8(NAME.joinRequest),
    encodeCbor([
      ...[request.id, request.zone, request.offer, request.requestedBy],
      ...[request.requestedAt.toISOString(), request.expiresAt.toISOString()],
      ...[approvedBy, answeredFrom, digest],
    ]),
  );

/** The answer with the MAC that says that a zone which has the root gave it to this request. */
export async function attested<T extends Omit<JoinAnswer, 'mac'> & { readonly answer: string }>(
  request: JoinRequest,
  answer: T,
  mac: LastingMac,
): Promise<T & { readonly mac: Uint8Array }> {
  const digest = digestOf(answer.answer);
  return { ...answer, mac: concatBytes(digest, await mac(macInput(request, answer, digest))) };
}

/**
 * Also of a request whose answer was taken.
 * @throws TwofoldError integrity_failed where anything in the row is another than when it was answered
 */
export async function requireAttested(request: JoinRequest, by: LastingMac): Promise<void> {
  const { answered } = request;
  if (answered !== null && (await isAttested(request, answered, by))) return;
  const detail = `What the database holds is not what was answered. ${AGAIN}`;
  throw new TwofoldError('integrity_failed', detail);
}

async function isAttested(
  request: JoinRequest,
  answered: JoinAnswer,
  by: LastingMac,
): Promise<boolean> {
  const digest = answered.mac.subarray(0, DIGEST_BYTES);
  const mac = answered.mac.subarray(DIGEST_BYTES);
  const { answer } = answered;
  if (mac.length === 0 || (answer !== null && !equalBytes(digestOf(answer), digest))) return false;
  const ours = await by(macInput(request, answered, digest), mac).catch((error: unknown) => {
    // It says that it is of a generation of the root that is not in use.
    if (TwofoldError.is(error, 'zone_lacks_material')) return null;
    throw error;
  });
  return ours !== null && equalBytes(ours, mac);
}

/** Of the offer in a row; undefined where the row was altered. */
export function publicKeyOf(request: JoinRequest): Uint8Array | undefined {
  try {
    return offerOf(request).publicKey;
  } catch (error) {
    if (TwofoldError.is(error, 'integrity_failed')) return undefined;
    throw error;
  }
}

/** Whether an error leaves open what became of an answer: not even the row says. */
export const isUnknown = (error: unknown): boolean => error instanceof OutcomeUnknown;

/**
 * Whether the database has this answer now. Where nobody knows what became of the statement, the row says.
 * @throws OutcomeUnknown where the row says nothing either: the answer may be there, or come
 */
export async function answeredBy(
  joins: Pick<JoinStore, 'answer' | 'find'>,
  id: string,
  answer: JoinAnswer & { readonly answer: string },
): Promise<boolean> {
  try {
    return await joins.answer(id, answer);
  } catch (error) {
    if (!(error instanceof OutcomeUnknown)) throw error;
    const row = await joins.find(id).catch(() => null);
    // One that is open may still become answered, by the statement that is under way.
    if (row === null || row.state === 'open') throw error;
    return row.answered !== null && equalBytes(row.answered.mac, answer.mac);
  }
}
