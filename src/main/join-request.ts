/**
 * What makes a request of a zone that joins one that may be answered, and an answer one that may be taken.
 * Who writes the database writes these rows too: nothing in them is believed that was not compared by
 * people, opened on a token, or MACed by the root.
 */
import { concatBytes, equalBytes, utf8 } from '../crypto/bytes.ts';
import { encodeCbor } from '../crypto/cbor.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import type { JoinAnswer, JoinRequest } from '../store/join-store.ts';
import { fingerprintOfOffer, parseAnswer, parseOffer } from './join-text.ts';
import type { Answer, Offer } from './join-text.ts';

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
  if (state === 'ended') {
    throw new TwofoldError('approval_ended', `The request ended: ${problem ?? ''}. ${AGAIN}`);
  }
  if (expired) throw new TwofoldError('approval_expired', `The request has expired. ${AGAIN}`);
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
    throw new TwofoldError('approval_mismatch', `The request is of zone ${request.zone}.`);
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

const macInput = (
  request: JoinRequest,
  { approvedBy, answeredFrom, answer }: Omit<JoinAnswer, 'mac'>,
): Uint8Array =>
  concatBytes(
    utf8(NAME.joinRequest),
    encodeCbor([
      ...[request.id, request.zone, request.offer, request.requestedBy],
      ...[request.requestedAt.toISOString(), request.expiresAt.toISOString()],
      ...[approvedBy, answeredFrom, answer ?? ''],
    ]),
  );

/** The answer with the MAC that says that a zone which has the root gave it to this request. */
export async function attested<T extends Omit<JoinAnswer, 'mac'>>(
  request: JoinRequest,
  answer: T,
  mac: LastingMac,
): Promise<T & { readonly mac: Uint8Array }> {
  return { ...answer, mac: await mac(macInput(request, answer)) };
}

/** @throws TwofoldError integrity_failed where anything in the row is another than when it was answered */
export async function requireAttested(request: JoinRequest, by: LastingMac): Promise<void> {
  const { answered } = request;
  const whole =
    answered !== null &&
    equalBytes(await by(macInput(request, answered), answered.mac), answered.mac);
  if (whole) return;
  const detail = `What the database holds is not what was answered. ${AGAIN}`;
  throw new TwofoldError('integrity_failed', detail);
}
