/**
 * What a certificate says of its own use (RFC 5280 section 4.2), read from its DER: Node shows neither
 * which extensions are critical nor the key usage.
 */
import { TwofoldError } from '../errors.ts';
import { contextTag, readDer, TAG } from './der.ts';
import type { DerReader } from './der.ts';

/** By dotted object identifier; each at most once. */
export type Extensions = ReadonlyMap<string, Extension>;

export interface Extension {
  readonly critical: boolean;
  /** DER of the extension's own value. */
  readonly value: Uint8Array;
}

export const EXTENSION = {
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  extendedKeyUsage: '2.5.29.37',
} as const;

const VERSION = contextTag(0, 'constructed');
/** issuerUniqueID and subjectUniqueID (section 4.1). */
const UNIQUE_IDS = [contextTag(1, 'primitive'), contextTag(2, 'primitive')];
const EXTENSIONS = contextTag(3, 'constructed');

const refuse = (name: string, what: string): TwofoldError =>
  new TwofoldError('invalid_value', `${name} is not valid: ${what}.`);

/** @throws TwofoldError invalid_value for what is no DER, and for an extension that stands there twice */
export const readExtensions = (der: Uint8Array, name: string): Extensions =>
  readDer(der, name, (outer) => {
    const certificate = outer.enter();
    const tbs = certificate.enter();
    tbs.optional(VERSION);
    // Serial, signature, issuer, validity, subject and key.
    for (let field = 0; field < 6; field += 1) tbs.element();
    for (const tag of UNIQUE_IDS) tbs.optional(tag);
    const found = tbs.peek() === EXTENSIONS ? readAll(tbs.enter(EXTENSIONS), name) : new Map();
    tbs.end();
    // Algorithm and signature.
    for (let field = 0; field < 2; field += 1) certificate.element();
    certificate.end();
    return found as Extensions;
  });

function readAll(wrapper: DerReader, name: string): Extensions {
  const list = wrapper.enter();
  wrapper.end();
  const found = new Map<string, Extension>();
  while (!list.atEnd) {
    const extension = list.enter();
    const id = extension.objectIdentifier();
    const flag = extension.optional(TAG.boolean);
    const value = extension.octetString();
    extension.end();
    if (found.has(id)) throw refuse(name, 'an extension stands there twice');
    found.set(id, { critical: flag !== undefined && flag[0] !== 0, value });
  }
  return found;
}

/** Bits of a KeyUsage that were asked for here, as section 4.2.1.3 numbers them. */
export const KEY_USAGE = { digitalSignature: 0, keyCertSign: 5 } as const;

/**
 * Whether the key may be used so: where the extension is not there, for everything.
 * @throws TwofoldError invalid_value
 */
export function mayBeUsedFor(
  extensions: Extensions,
  use: keyof typeof KEY_USAGE,
  name: string,
): boolean {
  const usage = extensions.get(EXTENSION.keyUsage);
  if (usage === undefined) return true;
  const [, first = 0] = readDer(usage.value, name, (reader) => reader.take(TAG.bitString));
  return (first & (0x80 >> KEY_USAGE[use])) !== 0;
}
