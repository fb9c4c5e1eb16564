/**
 * Certification requests (PKCS #10, RFC 2986) around a signature that is made elsewhere: the bytes
 * to sign, then the whole. Subject alternative names go into an extensionRequest (RFC 2985 section
 * 5.4.2). A strict reader is beside it, for whoever checks a request before it is handed out.
 */
import { isIP } from 'node:net';

import { TwofoldError } from '../errors.ts';
import { concatBytes, utf8 } from './bytes.ts';
import {
  contextTag,
  derBitString,
  derObjectIdentifier,
  derOctetString,
  derSequence,
  derSetOf,
  derSmall,
  derValue,
  readDer,
  checkDer,
  TAG,
} from './der.ts';
import { writeName } from './distinguished-name.ts';
import { encodePem } from './pem.ts';
import {
  equalAlgorithms,
  parseSpki,
  readAlgorithmIdentifier,
  writeAlgorithmIdentifier,
  writeSpki,
} from './spki.ts';
import type { DistinguishedName } from './distinguished-name.ts';
import type { KeyEncoding } from './key-encoding.ts';

/** One GeneralName (RFC 5280 section 4.2.1.6) by its kind. */
export type AlternativeName =
  | { readonly dns: string }
  | { readonly uri: string }
  | { readonly email: string }
  /** IPv4 or IPv6 in text, without a zone or a prefix. */
  | { readonly ip: string };

export interface RequestContent {
  readonly subject: DistinguishedName;
  readonly alternativeNames: readonly AlternativeName[];
}

export interface ParsedRequest {
  /** DER of CertificationRequestInfo: what is signed. */
  readonly info: Uint8Array;
  /** DER of the Name. */
  readonly subject: Uint8Array;
  /** Raw, of the algorithm asked for. */
  readonly publicKey: Uint8Array;
  /** DER of Extensions, or null. */
  readonly extensions: Uint8Array | null;
  readonly signature: Uint8Array;
}

const FIELD = 'The certification request';
const EXTENSION_REQUEST = '1.2.840.113549.1.9.14';
const SUBJECT_ALT_NAME = '2.5.29.17';
const ATTRIBUTES = contextTag(0, 'constructed');
const MAX_ALTERNATIVE_NAMES = 100;
const MAX_NAME_LENGTH = 2048;

const LABEL = '(?!-)[A-Za-z0-9_-]{1,63}(?<!-)';
/** RFC 1034 section 3.5 with underscores, and one wildcard as the whole first label. */
const DNS = new RegExp(`^(?:\\*\\.)?${LABEL}(?:\\.${LABEL})*$`);
const EMAIL = /^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([^@]+)$/;
/** An absolute URI in its visible ASCII (RFC 3986 section 3). */
const URI = /^[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+$/;

function refuse(what: string): never {
  throw new TwofoldError('invalid_value', `${FIELD} is not valid: ${what}.`);
}

function isDns(name: unknown): name is string {
  return typeof name === 'string' && name.length <= 253 && DNS.test(name);
}

function isUri(text: unknown): text is string {
  return (
    typeof text === 'string' &&
    text.length <= MAX_NAME_LENGTH &&
    URI.test(text) &&
    URL.canParse(text)
  );
}

function isEmail(text: unknown): text is string {
  return typeof text === 'string' && isDns(EMAIL.exec(text)?.[1]) && !text.includes('*.');
}

/** Four or sixteen bytes, or undefined. */
function ipBytes(text: unknown): Uint8Array | undefined {
  if (typeof text !== 'string' || text.includes('%')) return undefined;
  const version = isIP(text);
  if (version === 4) return Uint8Array.from(text.split('.').map(Number));
  return version === 6 ? ipv6Bytes(text) : undefined;
}

function ipv6Bytes(text: string): Uint8Array {
  // The URL parser writes an IPv4 tail as two groups and shortens one run of zeros.
  const shortest = new URL(`http://[${text}]/`).hostname.slice(1, -1);
  const [head = '', tail = ''] = shortest.split('::');
  const groups = (part: string) => part.split(':').filter((group) => group !== '');
  const [left, right] = [groups(head), groups(tail)];
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  const all = [...left, ...zeros, ...right].map((group) => Number.parseInt(group, 16));
  return Uint8Array.from(all.flatMap((group) => [group >>> 8, group & 0xff]));
}

/** GeneralName: rfc822Name [1], dNSName [2], uniformResourceIdentifier [6], iPAddress [7]. */
function generalName(name: AlternativeName): Uint8Array {
  if (Object.keys(name).length !== 1) return refuse('an alternative name has exactly one kind');
  const tagged = (number: number, bytes: Uint8Array) =>
    derValue(contextTag(number, 'primitive'), bytes);
  if ('dns' in name && isDns(name.dns)) return tagged(2, utf8(name.dns));
  if ('uri' in name && isUri(name.uri)) return tagged(6, utf8(name.uri));
  if ('email' in name && isEmail(name.email)) return tagged(1, utf8(name.email));
  const address = 'ip' in name ? ipBytes(name.ip) : undefined;
  if (address !== undefined) return tagged(7, address);
  return refuse('an alternative name is not a DNS name, absolute URI, e-mail or IP address');
}

/** The attributes: none, or the one extensionRequest. */
function attributes({ subject, alternativeNames }: RequestContent): Uint8Array {
  if (alternativeNames.length > MAX_ALTERNATIVE_NAMES) {
    return refuse(`it has more than ${MAX_ALTERNATIVE_NAMES} alternative names`);
  }
  if (alternativeNames.length === 0) {
    if (subject.length === 0) return refuse('it has neither a subject nor an alternative name');
    return derValue(ATTRIBUTES);
  }
  const names = derSequence(...alternativeNames.map(generalName));
  // Critical where there is no other name (RFC 5280 section 4.2.1.6).
  const critical = subject.length === 0 ? [derValue(TAG.boolean, Uint8Array.of(0xff))] : [];
  const extension = derSequence(
    derObjectIdentifier(SUBJECT_ALT_NAME),
    ...critical,
    derOctetString(names),
  );
  return derValue(
    ATTRIBUTES,
    derSequence(derObjectIdentifier(EXTENSION_REQUEST), derSetOf(derSequence(extension))),
  );
}

/**
 * DER of CertificationRequestInfo, the bytes to sign, or null where X.509 has no identifier of the
 * algorithm or it does not sign (`unavailable.x509` says why).
 * @throws TwofoldError invalid_value
 */
export function requestInfo(
  encoding: KeyEncoding,
  publicKey: Uint8Array,
  content: RequestContent,
): Uint8Array | null {
  const spki = writeSpki(encoding, publicKey);
  if (spki === null || (encoding.signature?.x509 ?? null) === null) return null;
  return derSequence(derSmall(0), writeName(content.subject), spki, attributes(content));
}

/** DER of the request, or null as `requestInfo`; `signature` is the suite's, over `info`. */
export function assembleRequest(
  encoding: KeyEncoding,
  info: Uint8Array,
  signature: Uint8Array,
): Uint8Array | null {
  const algorithm = encoding.signature?.x509 ?? null;
  if (algorithm === null) return null;
  return derSequence(info, writeAlgorithmIdentifier(algorithm), derBitString(signature));
}

/** RFC 7468 section 7. */
export function requestPem(der: Uint8Array): string {
  return encodePem('CERTIFICATE REQUEST', der);
}

/**
 * The parts of a request for a key of exactly this algorithm, signed with it; the signature is not
 * verified here. Attributes other than one extensionRequest are refused.
 * @throws TwofoldError invalid_value
 */
export function parseRequest(encoding: KeyEncoding, der: Uint8Array): ParsedRequest {
  checkDer(der, FIELD);
  return readDer(der, FIELD, (outer) => {
    const reader = outer.enter();
    const info = reader.element();
    const algorithm = readAlgorithmIdentifier(reader);
    const expected = encoding.signature?.x509 ?? null;
    if (expected === null || !equalAlgorithms(algorithm, expected)) {
      refuse(`it is not signed with ${encoding.algorithm}`);
    }
    const signature = Uint8Array.from(reader.bitString());
    reader.end();
    return { ...readInfo(encoding, info.encoded), signature };
  });
}

function readInfo(encoding: KeyEncoding, info: Uint8Array): Omit<ParsedRequest, 'signature'> {
  return readDer(info, FIELD, (outer) => {
    const reader = outer.enter();
    if (reader.small() !== 0) refuse('its version is another');
    const subject = reader.element();
    if (subject.tag !== TAG.sequence) refuse('its subject is no name');
    const publicKey = parseSpki(encoding, reader.element().encoded);
    const extensions = readAttributes(reader.take(ATTRIBUTES));
    reader.end();
    return {
      info: Uint8Array.from(info),
      subject: Uint8Array.from(subject.encoded),
      publicKey,
      extensions,
    };
  });
}

function readAttributes(content: Uint8Array): Uint8Array | null {
  if (content.length === 0) return null;
  return readDer(content, FIELD, (outer) => {
    const reader = outer.enter();
    if (reader.objectIdentifier() !== EXTENSION_REQUEST) refuse('it has another attribute');
    const values = reader.enter(TAG.set);
    const extensions = values.element();
    values.end();
    reader.end();
    if (extensions.tag !== TAG.sequence) refuse('its extensions are none');
    return concatBytes(extensions.encoded);
  });
}
