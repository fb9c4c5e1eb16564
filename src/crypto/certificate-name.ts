/**
 * The subject of a certificate (RFC 5280 section 4.1.2.6), read from its DER: the text that Node makes of it
 * does not tell a line break in a value from the next attribute, nor one kind of string from another.
 */
import { TAG, contextTag, readDer } from './der.ts';
import type { DerReader } from './der.ts';

export interface NameAttribute {
  /** Dotted object identifier. */
  readonly type: string;
  /** Identifier byte of the value, e.g. `TAG.utf8String`. */
  readonly tag: number;
  readonly value: Uint8Array;
}

/** The attributes of each relative name, from the root of the directory to the leaf. */
export type CertificateName = readonly (readonly NameAttribute[])[];

const VERSION = contextTag(0, 'constructed');

/** @throws TwofoldError invalid_value for what is no DER of a certificate */
export const readSubjectName = (der: Uint8Array, name: string): CertificateName =>
  readDer(der, name, (outer) => {
    const certificate = outer.enter();
    const tbs = certificate.enter();
    tbs.optional(VERSION);
    // Serial, signature, issuer and validity.
    for (let field = 0; field < 4; field += 1) tbs.element();
    const subject = readName(tbs.enter());
    for (let field = 0; field < 2; field += 1) certificate.element();
    certificate.end();
    return subject;
  });

function readName(list: DerReader): CertificateName {
  const names: (readonly NameAttribute[])[] = [];
  while (!list.atEnd) {
    const set = list.enter(TAG.set);
    const attributes: NameAttribute[] = [];
    while (!set.atEnd) {
      const attribute = set.enter();
      const type = attribute.objectIdentifier();
      const { tag, content } = attribute.element();
      attribute.end();
      attributes.push({ type, tag, value: content });
    }
    names.push(attributes);
  }
  return names;
}
