/**
 * Authorities of client certificates as a namespace brings them: each is an anchor by itself, and what it
 * signs is taken without looking further up. So each has to be fit to sign for clients, and its key of a
 * size whose check costs little.
 */
import { X509Certificate, createHash } from 'node:crypto';

import { EXTENSION, mayBeUsedFor, readExtensions } from '../crypto/certificate-extensions.ts';
import { decodePemBlocks } from '../crypto/pem.ts';
import { TwofoldError } from '../errors.ts';

/** Of one issuer. */
export const MAX_AUTHORITIES = 10;

/** id-kp-clientAuth and anyExtendedKeyUsage (RFC 5280 section 4.2.1.12). */
export const CLIENT_AUTHENTICATION = '1.3.6.1.5.5.7.3.2';
const ANY_USE = '2.5.29.37.0';
const FIELD = 'authorities';
const CURVES = ['prime256v1', 'secp384r1', 'secp521r1'];
const RSA_BITS = { least: 2048, most: 4096 } as const;
/** A larger one makes every check dear. */
const MAX_RSA_EXPONENT = 65_537n;
const PLAIN_KEYS = ['ed25519', 'ml-dsa-44', 'ml-dsa-65', 'ml-dsa-87'];
/** What these extensions say is looked at; any other critical one may say what we do not do. */
const UNDERSTOOD: readonly string[] = [
  EXTENSION.keyUsage,
  EXTENSION.subjectAltName,
  EXTENSION.basicConstraints,
  EXTENSION.extendedKeyUsage,
];

const refuse = (what: string): TwofoldError =>
  new TwofoldError(
    'invalid_value',
    `${FIELD} is PEM of authorities of client certificates: ${what}.`,
  );

/**
 * One to ten certificates, in any order.
 * @throws TwofoldError invalid_value, which says what is wrong with which of them
 */
export function parseAuthorities(pem: string): readonly X509Certificate[] {
  const blocks = decodePemBlocks('CERTIFICATE', pem, FIELD, MAX_AUTHORITIES);
  if (blocks.length === 0) throw refuse('it has none');
  const authorities = blocks.map((der, index) => readAuthority(der, `number ${String(index + 1)}`));
  const keys = new Set(authorities.map(keyOf));
  if (keys.size < authorities.length) throw refuse('two have the same key');
  return authorities;
}

/** That none of them has come to its end. @throws TwofoldError invalid_value */
export function checkNotExpired(authorities: readonly X509Certificate[], now: Date): void {
  const index = authorities.findIndex(({ validToDate }) => now > validToDate);
  if (index >= 0) throw refuse(`number ${String(index + 1)} has expired`);
}

/** SHA-256 of the SubjectPublicKeyInfo, hex: what tells authorities apart, whatever they are called. */
export const keyOf = ({ publicKey }: X509Certificate): string =>
  createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex');

/** The first critical extension whose meaning is not looked at; undefined where all are. */
export const notUnderstood = (extensions: ReturnType<typeof readExtensions>): string | undefined =>
  [...extensions].find(([id, { critical }]) => critical && !UNDERSTOOD.includes(id))?.[0];

function readAuthority(der: Uint8Array, which: string): X509Certificate {
  const extensions = readExtensions(der, FIELD);
  const certificate = opened(der, which);
  if (!certificate.ca) throw refuse(`${which} is no authority`);
  if (!mayBeUsedFor(extensions, 'keyCertSign', FIELD))
    throw refuse(`${which} may not sign certificates`);
  const uses = certificate.keyUsage as readonly string[] | undefined;
  if (uses?.some((use) => use === CLIENT_AUTHENTICATION || use === ANY_USE) === false) {
    throw refuse(`${which} is not for client authentication`);
  }
  // Critical or not, they would have to be held against every name that it signs.
  if (extensions.has(EXTENSION.nameConstraints)) throw refuse(`${which} has constraints on names`);
  const unknown = notUnderstood(extensions);
  if (unknown !== undefined) throw refuse(`${which} has the critical extension ${unknown}`);
  if (!hasPlainKey(certificate)) {
    throw refuse(
      `the key of ${which} is not RSA of 2048 to 4096 bits with an exponent to 65537, ECDSA of P-256, P-384 or P-521, Ed25519 or ML-DSA`,
    );
  }
  return certificate;
}

function opened(der: Uint8Array, which: string): X509Certificate {
  try {
    const certificate = new X509Certificate(der);
    // It throws for a key that OpenSSL does not have.
    keyOf(certificate);
    return certificate;
  } catch (cause) {
    throw new TwofoldError('invalid_value', `OpenSSL refuses ${which} of ${FIELD}.`, { cause });
  }
}

function hasPlainKey({ publicKey }: X509Certificate): boolean {
  const { asymmetricKeyType: type = '', asymmetricKeyDetails: details = {} } = publicKey;
  if (type === 'ec') return CURVES.includes(details.namedCurve ?? '');
  if (type !== 'rsa') return PLAIN_KEYS.includes(type);
  const { modulusLength = 0, publicExponent = 0n } = details;
  const sized = modulusLength >= RSA_BITS.least && modulusLength <= RSA_BITS.most;
  return sized && publicExponent <= MAX_RSA_EXPONENT;
}
