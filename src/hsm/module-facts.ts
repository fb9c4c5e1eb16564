/** What a module and its token say of themselves, for a report: no serial, no label of a user's. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { Connection } from './connection.ts';
import { CKM } from './cryptoki.ts';
import type { Cryptoki } from './cryptoki.ts';

export interface ModuleFacts {
  /** The file's name without its folders. */
  readonly file: string;
  readonly sha256: string;
  readonly manufacturer: string;
  readonly description: string;
  readonly version: string;
  /** The version of PKCS #11 that the module speaks. */
  readonly cryptoki: string;
}

/** The mechanism behind each use; of two names of one construction the one that the token has. */
const MECHANISMS: Readonly<Record<string, readonly (keyof typeof CKM)[]>> = {
  'ecdh:P-256': ['ECDH1_DERIVE'],
  'ecdh:P-384': ['ECDH1_DERIVE'],
  'ecdsa:P-256': ['ECDSA'],
  'ecdsa:P-384': ['ECDSA'],
  'ecdsa:P-521': ['ECDSA'],
  x25519: ['ECDH1_DERIVE'],
  ed25519: ['EDDSA'],
  'rsa-pss:SHA-256': ['RSA_PKCS_PSS'],
  'rsa-pss:SHA-384': ['RSA_PKCS_PSS'],
  'rsa-pss:SHA-512': ['RSA_PKCS_PSS'],
  'rsa-pkcs1:SHA-256': ['RSA_PKCS'],
  'rsa-pkcs1:SHA-384': ['RSA_PKCS'],
  'rsa-pkcs1:SHA-512': ['RSA_PKCS'],
  'rsa-oaep:SHA-256': ['RSA_PKCS_OAEP', 'RSA_X_509'],
  'aes-gcm': ['AES_GCM'],
  'hmac:SHA-256': ['SHA256_HMAC'],
  'hmac:SHA-384': ['SHA384_HMAC'],
  'hmac:SHA-512': ['SHA512_HMAC'],
  wrap: ['AES_KEY_WRAP_PAD', 'AES_KEY_WRAP_KWP'],
  'wrap:ec': ['AES_KEY_WRAP_PAD', 'AES_KEY_WRAP_KWP'],
  'wrap:rsa': ['AES_KEY_WRAP_PAD', 'AES_KEY_WRAP_KWP'],
};

export function describeModule(cryptoki: Cryptoki, path: string): ModuleFacts {
  const info = cryptoki.C_GetInfo();
  return {
    file: basename(path),
    sha256: createHash('sha256').update(readFileSync(path)).digest('hex'),
    manufacturer: text(info.manufacturerID),
    description: text(info.libraryDescription),
    version: versionText(info.libraryVersion),
    cryptoki: versionText(info.cryptokiVersion),
  };
}

/** Every mechanism that the token lists, in hex, in the order of their numbers. */
export function mechanismsOf(connection: Connection): string[] {
  return [...connection.mechanisms].sort((a, b) => a - b).map(hex);
}

/** The standard's name of the mechanism behind a use; empty for C_GenerateRandom, which needs none. */
export function mechanismName(use: string, listed: readonly string[]): string {
  const names = MECHANISMS[use] ?? [];
  const name = names.find((one) => listed.includes(hex(CKM[one]))) ?? names[0];
  return name === undefined ? '' : `CKM_${name}`;
}

const hex = (number: number): string => `0x${number.toString(16).padStart(4, '0')}`;

/** Padded with blanks by the standard, with zero bytes by some modules. */
function text(padded: string): string {
  return padded.replace(/[\0 ]+$/u, '');
}

function versionText({ major, minor }: { readonly major: number; readonly minor: number }): string {
  return `${major}.${minor}`;
}
