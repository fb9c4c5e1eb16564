/**
 * The recipients' area of a sealed file: its data key, wrapped once for each recipient. It is outside
 * the fixed header, the chunks and the manifest, so that a rewrap replaces it and nothing else.
 *
 *     number u16 (1 to 64) ‖ for each: length u16 ‖ envelope ‖ zeros up to the length of the area
 */
import { concatBytes, equalBytes, lengthPrefixed, uint16 } from '../crypto/bytes.ts';
import { parseEnvelope } from '../crypto/envelope.ts';
import { ClientError, parsedAs } from './client-error.ts';
import type { AeadSuite, KemSuite } from '../crypto/suite.ts';

export const MAX_RECIPIENTS = 64;
/** More than an envelope of any suite with a data key takes, its length included. */
const ROOM_EACH = 4_096;
const ROOM_AT_LEAST = 4 * ROOM_EACH;
const BLOCK = 4_096;

export interface Recipient {
  /** UUID of the key that opens the envelope. */
  readonly keyId: string;
  readonly keyVersion: number;
  readonly suite: KemSuite | AeadSuite;
  readonly envelope: Uint8Array;
}

const malformed = (detail: string) => new ClientError('invalid_sealed_file', detail);

/** Room for the recipients of a new file; with it the chunks begin at a multiple of 4,096. */
export function recipientsArea(fixedHeaderLength: number, recipients: number): number {
  const wanted = Math.max(ROOM_AT_LEAST, recipients * ROOM_EACH);
  return Math.ceil((fixedHeaderLength + wanted) / BLOCK) * BLOCK - fixedHeaderLength;
}

/**
 * Exactly `area` bytes.
 * @throws ClientError invalid_value when the envelopes do not fit
 */
export function encodeRecipients(envelopes: readonly Uint8Array[], area: number): Uint8Array {
  const listed = concatBytes(uint16(envelopes.length), ...envelopes.map(lengthPrefixed));
  if (envelopes.length === 0 || envelopes.length > MAX_RECIPIENTS || listed.length > area) {
    throw new ClientError('invalid_value', 'The recipients do not fit: 1 to 64, in their area.');
  }
  return concatBytes(listed, new Uint8Array(area - listed.length));
}

/**
 * Parses strictly: well-formed envelopes and nothing but zeros behind them.
 * @throws ClientError invalid_sealed_file
 */
export function parseRecipients(area: Uint8Array): readonly Recipient[] {
  const view = new DataView(area.buffer, area.byteOffset, area.byteLength);
  const number = area.length < 2 ? 0 : view.getUint16(0);
  if (number < 1 || number > MAX_RECIPIENTS) throw malformed('It has not 1 to 64 recipients.');
  const recipients: Recipient[] = [];
  let offset = 2;
  for (let left = number; left > 0; left -= 1) {
    if (offset + 2 > area.length) throw malformed('The recipients are cut short.');
    const end = offset + 2 + view.getUint16(offset);
    const envelope = area.slice(offset + 2, end);
    if (end > area.length) throw malformed('The recipients are cut short.');
    const { keyId, keyVersion, suite } = parsedAs('invalid_sealed_file', () =>
      parseEnvelope(envelope),
    );
    recipients.push({ keyId, keyVersion, suite, envelope });
    offset = end;
  }
  if (!equalBytes(area.subarray(offset), new Uint8Array(area.length - offset))) {
    throw malformed('Something stands behind the recipients.');
  }
  return recipients;
}
