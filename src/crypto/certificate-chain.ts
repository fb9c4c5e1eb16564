/**
 * Certificate chains (RFC 5280) that are stored beside a key: that the leaf is of this key and that
 * each certificate is issued by the next. Whether anybody trusts the last one, what the leaf may be
 * used for and whether it is valid today are questions of whoever relies on it.
 */
import { X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import { equalBytes } from './bytes.ts';
import { checkDer, contextTag, readDer, TAG } from './der.ts';
import { decodePemBlocks } from './pem.ts';
import { equalAlgorithms, readAlgorithmIdentifier, writeSpki } from './spki.ts';
import type { DerReader } from './der.ts';
import type { KeyEncoding } from './key-encoding.ts';

/**
 * What is known of a certificate's signature: `verified` by the issuer in the chain (or by itself),
 * `unsupported` where OpenSSL has no such algorithm, `issuer-absent` for a last one that is not
 * self-signed.
 */
export type SignatureCheck = 'verified' | 'unsupported' | 'issuer-absent';

export interface ChainCertificate {
  readonly der: Uint8Array;
  /** As OpenSSL prints names, one attribute a line. */
  readonly subject: string;
  readonly issuer: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly signature: SignatureCheck;
}

/** From the leaf upwards; at least one. */
export interface CertificateChain {
  readonly certificates: readonly ChainCertificate[];
  /** Whether the last certificate is self-signed. */
  readonly endsInRoot: boolean;
  /** Whether every signature but that of an absent issuer was verified. */
  readonly fullyVerified: boolean;
}

export const MAX_CHAIN_LENGTH = 10;
/** Characters of PEM: room for ten certificates of SLH-DSA. */
export const MAX_CHAIN_TEXT = 1_048_576;

const FIELD = 'The certificate chain';
const VERSION = contextTag(0, 'constructed');
/** issuerUniqueID, subjectUniqueID and extensions (section 4.1). */
const TRAILERS = [
  contextTag(1, 'primitive'),
  contextTag(2, 'primitive'),
  contextTag(3, 'constructed'),
];
const MAX_SERIAL_LENGTH = 20;

interface Fields {
  readonly der: Uint8Array;
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly spki: Uint8Array;
  readonly parsed: X509Certificate;
}

function refuse(what: string): never {
  throw new TwofoldError('invalid_value', `${FIELD} is not valid: ${what}.`);
}

/**
 * Checks PEM of one to ten certificates, leaf first, against a key.
 * @throws TwofoldError invalid_value when the text is not strict, the leaf is of another key, an
 * issuer does not follow its certificate or is no CA, or a signature that can be checked is wrong
 */
export function parseCertificateChain(
  encoding: KeyEncoding,
  publicKey: Uint8Array,
  pem: string,
): CertificateChain {
  if (pem.length > MAX_CHAIN_TEXT) return refuse(`it has over ${MAX_CHAIN_TEXT} characters`);
  const blocks = decodePemBlocks('CERTIFICATE', pem, FIELD, MAX_CHAIN_LENGTH);
  const fields = blocks.map(readCertificate);
  checkLeaf(encoding, publicKey, fields);
  const certificates = fields.map((certificate, index) =>
    checkedCertificate(certificate, fields[index + 1]),
  );
  const last = fields.at(-1);
  return {
    certificates,
    endsInRoot: last !== undefined && isSelfSigned(last),
    fullyVerified: certificates.every(({ signature }) => signature !== 'unsupported'),
  };
}

function checkLeaf(encoding: KeyEncoding, publicKey: Uint8Array, fields: readonly Fields[]): void {
  const expected = writeSpki(encoding, publicKey);
  const [leaf] = fields;
  if (leaf === undefined) return refuse('it has no certificate');
  if (expected === null || !equalBytes(leaf.spki, expected)) {
    refuse('its first certificate is not of this key');
  }
}

/** DER to the last level, and the fields of TBSCertificate in their order. */
function readCertificate(der: Uint8Array): Fields {
  checkDer(der, FIELD);
  const fields = readDer(der, FIELD, (outer) => {
    const reader = outer.enter();
    const tbs = reader.enter();
    const read = readTbs(tbs);
    tbs.end();
    if (!equalAlgorithms(readAlgorithmIdentifier(reader), read.algorithm)) {
      refuse('a certificate names two signature algorithms');
    }
    reader.bitString();
    reader.end();
    return read;
  });
  return { ...fields, der, parsed: opensslCertificate(der) };
}

function readTbs(tbs: DerReader) {
  // Version 1 leaves the member out: what OpenSSL's `x509 -req` writes without extensions.
  if (tbs.peek() !== VERSION) refuse('a certificate is not of version 3');
  const version = tbs.enter(VERSION);
  if (version.small() !== 2) refuse('a certificate is not of version 3');
  version.end();
  if (tbs.unsigned().length > MAX_SERIAL_LENGTH) refuse('a serial number is too long');
  const algorithm = readAlgorithmIdentifier(tbs);
  const issuer = sequenceOf(tbs);
  sequenceOf(tbs);
  const read = { algorithm, issuer, subject: sequenceOf(tbs), spki: sequenceOf(tbs) };
  for (const tag of TRAILERS) tbs.optional(tag);
  return read;
}

function sequenceOf(reader: DerReader): Uint8Array {
  const { tag, encoded } = reader.element();
  return tag === TAG.sequence ? encoded : refuse('a certificate has another structure');
}

function opensslCertificate(der: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch (cause) {
    throw new TwofoldError('invalid_value', `${FIELD} has a certificate that OpenSSL refuses.`, {
      cause,
    });
  }
}

/** Keys that sign nothing: their certificates are another's even when both have one name. */
const AGREEMENT_KEYS = /^(?:ml-kem-|x25519$|x448$|dh$)/;

/** By its names and its key; the signature itself is checked apart. */
function isSelfSigned({ issuer, subject, parsed }: Fields): boolean {
  const type = publicKeyOf(parsed)?.asymmetricKeyType ?? 'unknown';
  return equalBytes(issuer, subject) && !AGREEMENT_KEYS.test(type);
}

function checkedCertificate(certificate: Fields, next: Fields | undefined): ChainCertificate {
  const { der, parsed } = certificate;
  return {
    der,
    subject: parsed.subject,
    issuer: parsed.issuer,
    notBefore: parsed.validFromDate,
    notAfter: parsed.validToDate,
    signature: checkSignature(certificate, next),
  };
}

function checkSignature(certificate: Fields, next: Fields | undefined): SignatureCheck {
  if (next === undefined) {
    return isSelfSigned(certificate) ? verifyBy(certificate, certificate) : 'issuer-absent';
  }
  if (isSelfSigned(certificate)) return refuse('a self-signed certificate is followed by another');
  if (!equalBytes(certificate.issuer, next.subject)) {
    return refuse('a certificate is not followed by its issuer');
  }
  // A leaf that issues further certificates is the oldest of forgeries (section 6.1.4 (k)).
  if (!next.parsed.ca) return refuse('an issuer is not a CA');
  return verifyBy(certificate, next);
}

function verifyBy(certificate: Fields, issuer: Fields): SignatureCheck {
  const key = publicKeyOf(issuer.parsed);
  if (key === undefined) return 'unsupported';
  return certificate.parsed.verify(key)
    ? 'verified'
    : refuse('a signature is not of the issuer that follows');
}

/** Undefined for algorithms that OpenSSL does not have, e.g. composites. */
function publicKeyOf(certificate: X509Certificate): KeyObject | undefined {
  try {
    return certificate.publicKey;
  } catch {
    return undefined;
  }
}
