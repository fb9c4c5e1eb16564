/**
 * What a KMS v2 value in etcd is made of: key_id, ciphertext and annotations, to and from an envelope.
 *
 *     symmetric   ciphertext = the whole envelope                       no annotation
 *     KEM, psk    annotation = header ‖ enc      ciphertext = AEAD output with its tag
 *
 * A ciphertext may have 1,024 bytes, and the encapsulation of ML-KEM-768 alone has 1,088: hence the
 * annotation. Envelopes of mode `base` have no such form: anyone may have made them.
 *
 *     key_id = "tfk1." ‖ base64url(key id (16) ‖ key version u32)
 *
 * To Kubernetes a key_id says nothing but whether it is another; it is the same for a version for ever.
 */
import { decodeBase64Url, encodeBase64Url } from '../crypto/base64.ts';
import { concatBytes } from '../crypto/bytes.ts';
import { HEADER_LENGTH, encodeKeyReference, parseEnvelope } from '../crypto/envelope.ts';
import type { Envelope, KeyReference } from '../crypto/envelope.ts';
import { uuidText } from '../crypto/uuid.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';

/** Bytes of a key_id, UTF-8, and of a ciphertext. */
export const MAX_KEY_ID = 1_024;
export const MAX_CIPHERTEXT = 1_024;
/** Bytes of the names and values of all annotations. */
export const MAX_ANNOTATIONS = 32_768;

const REFERENCE_LENGTH = 20;
const LONGEST_DOMAIN = 253;
const DOMAIN = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)+$/u;

export interface StoredValue {
  readonly ciphertext: Uint8Array;
  /** Names are fully qualified domain names in lower case. */
  readonly annotations: Readonly<Record<string, Uint8Array>>;
}

const invalid = (detail: string) => new TwofoldError('invalid_value', detail);
const malformed = (detail: string) => new TwofoldError('invalid_envelope', detail);

export const keyIdOf = (reference: KeyReference): string =>
  NAME.kubernetesKeyId + encodeBase64Url(encodeKeyReference(reference));

/**
 * Under whatever other key_id it were answered, it could never be opened.
 * @param bytes of an envelope that was just sealed
 * @throws TwofoldError key_mismatch; invalid_envelope and the like for what is no envelope
 */
export function requireUnder(keyId: string, bytes: Uint8Array): void {
  if (keyIdOf(parseEnvelope(bytes)) === keyId) return;
  throw new TwofoldError(
    'key_mismatch',
    'The service sealed under another key or version than it tells of.',
  );
}

/**
 * Takes what `keyIdOf` makes and nothing else.
 * @throws TwofoldError invalid_value
 */
export function parseKeyId(text: string): KeyReference {
  const encoded = text.startsWith(NAME.kubernetesKeyId)
    ? decodeBase64Url(text.slice(NAME.kubernetesKeyId.length))
    : undefined;
  if (encoded?.length !== REFERENCE_LENGTH)
    throw invalid('The key_id is not one of this provider.');
  const bytes = Buffer.from(encoded);
  const keyVersion = bytes.readUInt32BE(REFERENCE_LENGTH - 4);
  if (keyVersion === 0) throw invalid('The key_id is not one of this provider.');
  return { keyId: uuidText(bytes.subarray(0, 16)), keyVersion };
}

/**
 * The limits that an API server holds values to; what breaks one is never sent.
 * @throws TwofoldError invalid_value
 */
export function checkLimits({ ciphertext, annotations }: StoredValue): void {
  if (ciphertext.length === 0) throw invalid('The ciphertext is empty.');
  if (ciphertext.length > MAX_CIPHERTEXT) {
    throw invalid(`The ciphertext is longer than ${String(MAX_CIPHERTEXT)} bytes.`);
  }
  let size = 0;
  for (const [name, value] of Object.entries(annotations)) {
    size += Buffer.byteLength(name) + value.length;
    if (size > MAX_ANNOTATIONS) {
      throw invalid(`The annotations are longer than ${String(MAX_ANNOTATIONS)} bytes.`);
    }
    if (name.length > LONGEST_DOMAIN || !DOMAIN.test(name)) {
      throw invalid('The name of an annotation is not a fully qualified domain name.');
    }
  }
}

/** How much of an envelope is header and encapsulation. */
const headLength = (envelope: Envelope): number => {
  if (envelope.mode === 'psk') return HEADER_LENGTH + envelope.encapsulation.length;
  if (envelope.mode === 'symmetric') return 0;
  throw malformed('Only what the service made can be stored.');
};

/**
 * Views of the envelope's bytes.
 * @throws TwofoldError invalid_envelope; invalid_value over a limit
 */
export function splitEnvelope(bytes: Uint8Array): StoredValue {
  const split = headLength(parseEnvelope(bytes));
  const annotations = split === 0 ? {} : { [NAME.kubernetesAnnotation]: bytes.subarray(0, split) };
  const value = { ciphertext: bytes.subarray(split), annotations };
  checkLimits(value);
  return value;
}

const headOf = (annotations: StoredValue['annotations']): Uint8Array => {
  const names = Object.keys(annotations);
  if (names.some((name) => name !== NAME.kubernetesAnnotation)) {
    throw invalid('There is an annotation that this provider does not make.');
  }
  return annotations[NAME.kubernetesAnnotation] ?? new Uint8Array(0);
};

export interface JoinedEnvelope {
  readonly bytes: Uint8Array;
  /** Views of `bytes`. */
  readonly envelope: Envelope;
}

/**
 * The envelope that `splitEnvelope` made this value from, and none but that value.
 * @throws TwofoldError invalid_value over a limit or for an annotation that is not ours;
 *   invalid_envelope, unsupported_envelope_version, unknown_suite
 */
export function joinEnvelope(value: StoredValue): JoinedEnvelope {
  checkLimits(value);
  const head = headOf(value.annotations);
  const bytes = concatBytes(head, value.ciphertext);
  const envelope = parseEnvelope(bytes);
  if (headLength(envelope) !== head.length) {
    throw malformed('The annotation and the ciphertext are not divided where this provider does.');
  }
  return { bytes, envelope };
}
