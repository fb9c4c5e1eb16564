/**
 * The envelope: the bytes of everything that `wrap` answers and `unwrap` takes.
 *
 *     header  = version u8 (1) ‖ mode u8 ‖ suite number u16 ‖ key id (16) ‖ key version u32
 *     KEM     = header ‖ enc ‖ ciphertext ‖ tag(16)                     mode 0 base, 1 psk
 *     AEAD    = header ‖ nonce length u8 ‖ nonce ‖ ciphertext ‖ tag(16)  mode 16 symmetric
 *
 * Integers are big-endian; the length of `enc` is the suite's. The text form is `tf1.` and the
 * canonical unpadded base64url of the bytes. Modes 0 and 1 are HPKE's own mode numbers.
 */
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { decodeBase64Url, encodeBase64Url } from './base64.ts';
import { concatBytes } from './bytes.ts';
import { findSuiteByNumber } from './suites.ts';
import type { AeadSuite, KemSuite, WrapSuite } from './suite.ts';
import { uuidBytes, uuidText } from './uuid.ts';

export const ENVELOPE_VERSION = 1;
export const HEADER_LENGTH = 24;
const KEY_REFERENCE_LENGTH = 20;
export const TAG_LENGTH = 16;
/** The largest plaintext of one wrap, bytes. */
export const MAX_WRAP_PLAINTEXT = 65_536;

/** `base`: anyone with the public key may have made it. `psk` and `symmetric`: the service did. */
export type EnvelopeMode = 'base' | 'psk' | 'symmetric';

const MODE_NUMBERS: Readonly<Record<EnvelopeMode, number>> = { base: 0, psk: 1, symmetric: 16 };
const MODES: ReadonlyMap<number, EnvelopeMode> = new Map(
  (Object.keys(MODE_NUMBERS) as EnvelopeMode[]).map((mode) => [MODE_NUMBERS[mode], mode]),
);

/** Which key version an envelope belongs to; `keyId` is a lower-case UUID. */
export interface KeyReference {
  readonly keyId: string;
  /** 1 to 2^32 - 1. */
  readonly keyVersion: number;
}

export interface EnvelopeHeader extends KeyReference {
  readonly mode: EnvelopeMode;
  readonly suite: WrapSuite;
}

export interface KemEnvelope extends EnvelopeHeader {
  readonly mode: 'base' | 'psk';
  readonly suite: KemSuite;
  /** KEM encapsulation, of the suite's exact length. */
  readonly encapsulation: Uint8Array;
  /** AEAD output with its tag. */
  readonly ciphertext: Uint8Array;
}

export interface AeadEnvelope extends EnvelopeHeader {
  readonly mode: 'symmetric';
  readonly suite: AeadSuite;
  readonly nonce: Uint8Array;
  readonly ciphertext: Uint8Array;
}

/** Discriminate by `mode`. */
export type Envelope = KemEnvelope | AeadEnvelope;

function keyIdBytes(keyId: string): Uint8Array {
  const bytes = uuidBytes(keyId);
  if (bytes === null) throw new TwofoldError('invalid_value', 'The key id is not a UUID.');
  return bytes;
}

/**
 * The 24 header bytes; an offline wrapper gets them from the key's public description.
 * @throws TwofoldError invalid_value for a key id or version outside its range
 */
export function encodeHeader({ mode, suite, keyId, keyVersion }: EnvelopeHeader): Uint8Array {
  const header = Buffer.alloc(HEADER_LENGTH);
  header[0] = ENVELOPE_VERSION;
  header[1] = MODE_NUMBERS[mode];
  header.writeUInt16BE(suite.number, 2);
  writeKeyReference(header, 4, { keyId, keyVersion });
  return header;
}

/** Key id (16 bytes) ‖ key version (u32): also HPKE's `psk_id`. */
export function encodeKeyReference(reference: KeyReference): Uint8Array {
  const bytes = Buffer.alloc(KEY_REFERENCE_LENGTH);
  writeKeyReference(bytes, 0, reference);
  return bytes;
}

function writeKeyReference(into: Buffer, at: number, { keyId, keyVersion }: KeyReference): void {
  if (!Number.isInteger(keyVersion) || keyVersion < 1 || keyVersion > 0xffff_ffff) {
    throw new TwofoldError('invalid_value', 'The key version is not between 1 and 2^32 - 1.');
  }
  into.set(keyIdBytes(keyId), at);
  into.writeUInt32BE(keyVersion, at + 16);
}

export function encodeEnvelope(envelope: Envelope): Uint8Array {
  const header = encodeHeader(envelope);
  if (envelope.mode !== 'symmetric') {
    return concatBytes(header, envelope.encapsulation, envelope.ciphertext);
  }
  const { nonce, ciphertext } = envelope;
  return concatBytes(header, Uint8Array.of(nonce.length), nonce, ciphertext);
}

const malformed = (detail: string) => new TwofoldError('invalid_envelope', detail);

function parseHeader(bytes: Uint8Array): EnvelopeHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint8(0) !== ENVELOPE_VERSION) {
    throw new TwofoldError('unsupported_envelope_version', 'This service reads version 1.');
  }
  const mode = MODES.get(view.getUint8(1));
  if (mode === undefined) throw malformed('The mode is not known.');
  const suite = findSuiteByNumber(view.getUint16(2));
  if (suite.class !== 'wrap') throw malformed('The suite does not wrap.');
  const keyVersion = view.getUint32(20);
  if (keyVersion === 0) throw malformed('The key version is 0.');
  return { mode, suite, keyId: uuidText(bytes.subarray(4, 20)), keyVersion };
}

function checkCiphertext(ciphertext: Uint8Array): Uint8Array {
  if (ciphertext.length < TAG_LENGTH) throw malformed('The envelope is too short.');
  if (ciphertext.length > MAX_WRAP_PLAINTEXT + TAG_LENGTH) {
    throw malformed('The envelope is too long.');
  }
  return ciphertext;
}

function parseKemBody(
  header: EnvelopeHeader & { suite: KemSuite },
  mode: 'base' | 'psk',
  body: Uint8Array,
): KemEnvelope {
  const split = header.suite.kem.lengths.encapsulation;
  const ciphertext = checkCiphertext(body.subarray(split));
  return { ...header, mode, encapsulation: body.subarray(0, split), ciphertext };
}

function parseAeadBody(
  { suite, keyId, keyVersion }: KeyReference & { readonly suite: AeadSuite },
  body: Uint8Array,
): AeadEnvelope {
  const { nonceLength } = suite.aead;
  if (body[0] !== nonceLength) throw malformed('The nonce length is not that of the suite.');
  const nonce = body.subarray(1, 1 + nonceLength);
  const ciphertext = checkCiphertext(body.subarray(1 + nonceLength));
  return { mode: 'symmetric', suite, keyId, keyVersion, nonce, ciphertext };
}

/**
 * Parses strictly: version, mode, suite and every length before anything else happens, so that
 * `encodeEnvelope(parseEnvelope(x))` equals x. The result's byte fields are views of `bytes`.
 * @throws TwofoldError invalid_envelope, unsupported_envelope_version, unknown_suite
 */
export function parseEnvelope(bytes: Uint8Array): Envelope {
  return new EnvelopeParser().parse(bytes);
}

/**
 * What the second byte says, for who decides before anything is parsed; null where it is no mode. An
 * envelope that is opened has this mode: the mode is in the header, which is bound.
 */
export function statedMode(bytes: Uint8Array): EnvelopeMode | null {
  return MODES.get(bytes[1] ?? -1) ?? null;
}

/** `parseEnvelope` for many envelopes: most have the header of the one before them. */
export class EnvelopeParser {
  #bytes: Uint8Array = new Uint8Array(0);
  #header: EnvelopeHeader | undefined;

  parse(bytes: Uint8Array): Envelope {
    if (bytes.length < HEADER_LENGTH + TAG_LENGTH) throw malformed('The envelope is too short.');
    return parseBody(this.#headerOf(bytes), bytes.subarray(HEADER_LENGTH));
  }

  #headerOf(bytes: Uint8Array): EnvelopeHeader {
    if (this.#header !== undefined && sameHeader(bytes, this.#bytes)) return this.#header;
    this.#header = parseHeader(bytes);
    this.#bytes = bytes.slice(0, HEADER_LENGTH);
    return this.#header;
  }
}

function sameHeader(a: Uint8Array, b: Uint8Array): boolean {
  for (let at = 0; at < HEADER_LENGTH; at += 1) if (a[at] !== b[at]) return false;
  return true;
}

function parseBody({ suite, mode, keyId, keyVersion }: EnvelopeHeader, body: Uint8Array): Envelope {
  if (suite.kind === 'kem' && mode !== 'symmetric') {
    return parseKemBody({ keyId, keyVersion, mode, suite }, mode, body);
  }
  if (suite.kind === 'aead' && mode === 'symmetric') {
    return parseAeadBody({ keyId, keyVersion, suite }, body);
  }
  throw malformed('The mode is not one of the suite.');
}

export function encodeEnvelopeText(bytes: Uint8Array): string {
  return NAME.envelopeText + encodeBase64Url(bytes);
}

/**
 * The bytes of the text form; parse them with `parseEnvelope`.
 * @throws TwofoldError invalid_envelope
 */
export function decodeEnvelopeText(text: string): Uint8Array {
  if (!text.startsWith(NAME.envelopeText)) {
    throw malformed(`The text form begins with "${NAME.envelopeText}".`);
  }
  const bytes = decodeBase64Url(text.slice(NAME.envelopeText.length));
  if (bytes === undefined) throw malformed('The text form is not canonical unpadded base64url.');
  return bytes;
}
