/**
 * Principals by the subject of their certificate: its common name, or all of its distinguished name as
 * RFC 4514 writes it. Only what can be read in one way names somebody: relative names of one attribute each,
 * one common name, UTF8String or PrintableString, and no character that is not seen. Nothing is folded or
 * normalized: what is compared are the characters as the authority signed them.
 */
import { readSubjectName } from '../crypto/certificate-name.ts';
import type { NameAttribute } from '../crypto/certificate-name.ts';
import { TAG } from '../crypto/der.ts';

/** Characters of a common name (RFC 5280 appendix A.1, ub-common-name). */
const MAX_COMMON_NAME = 64;
const MAX_RELATIVE_NAMES = 16;

const COMMON_NAME = '2.5.4.3';
const DOMAIN_COMPONENT = '0.9.2342.19200300.100.1.25';
/** RFC 4514 section 3; of others there is no short name that everybody writes. */
const SHORT_NAMES: ReadonlyMap<string, string> = new Map([
  [COMMON_NAME, 'CN'],
  ['2.5.4.7', 'L'],
  ['2.5.4.8', 'ST'],
  ['2.5.4.10', 'O'],
  ['2.5.4.11', 'OU'],
  ['2.5.4.6', 'C'],
  ['2.5.4.9', 'STREET'],
  [DOMAIN_COMPONENT, 'DC'],
  ['0.9.2342.19200300.100.1.1', 'UID'],
]);

/** PrintableString, as X.680 section 41.4 has it. */
const PRINTABLE = /^[A-Za-z0-9 '()+,./:=?-]+$/u;
const IA5 = /^[\x21-\x7e]+$/u;
/**
 * No control characters, none that are not seen or turn the writing round (the blank pattern of Braille is
 * seen as a space), no separators but the space.
 */
const SEEN = /^(?! )[[^\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800] ]+(?<! )$/v;
/** RFC 4514 section 2.4: what is escaped wherever it stands; the rest of it is not let in here. */
const SPECIAL = /["+,;<>\\]|^#/gu;

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * @param refuse makes the error of a reason
 * @throws what `refuse` makes
 */
export function commonNameOf(der: Uint8Array, refuse: (reason: string) => Error): string {
  const found = attributesOf(der, refuse).filter(({ type }) => type === COMMON_NAME);
  const [name, ...others] = found;
  if (name === undefined) throw refuse('no common name');
  if (others.length > 0) throw refuse('conflicting common names');
  const text = textOf(name, refuse);
  if (Array.from(text).length > MAX_COMMON_NAME) throw refuse('common name');
  return text;
}

/** From the leaf to the root, e.g. `CN=api,OU=Payments,O=Example`. @throws what `refuse` makes */
export function distinguishedNameOf(der: Uint8Array, refuse: (reason: string) => Error): string {
  const attributes = attributesOf(der, refuse);
  if (attributes.length === 0) throw refuse('no distinguished name');
  if (attributes.filter(({ type }) => type === COMMON_NAME).length > 1) {
    throw refuse('conflicting common names');
  }
  const written = attributes.map((attribute) => {
    const name = SHORT_NAMES.get(attribute.type);
    if (name === undefined) throw refuse('attribute of the distinguished name');
    return `${name}=${textOf(attribute, refuse).replaceAll(SPECIAL, '\\$&')}`;
  });
  return written.reverse().join(',');
}

/** One of each relative name. */
function attributesOf(
  der: Uint8Array,
  refuse: (reason: string) => Error,
): readonly NameAttribute[] {
  let names: ReturnType<typeof readSubjectName>;
  try {
    names = readSubjectName(der, 'The certificate');
  } catch {
    throw refuse('distinguished name');
  }
  if (names.length > MAX_RELATIVE_NAMES) throw refuse('distinguished name');
  return names.map(([attribute, ...others]) => {
    // Which of several of one relative name comes first says nothing, so none of them is the one.
    if (attribute === undefined || others.length > 0) throw refuse('relative name of several');
    return attribute;
  });
}

function textOf({ type, tag, value }: NameAttribute, refuse: (reason: string) => Error): string {
  const text = decoded(value);
  const isMeant =
    tag === TAG.utf8String ||
    (tag === TAG.printableString && text !== null && PRINTABLE.test(text)) ||
    (tag === TAG.ia5String && type === DOMAIN_COMPONENT && text !== null && IA5.test(text));
  if (text === null || !isMeant || !SEEN.test(text)) throw refuse('characters of the name');
  return text;
}

function decoded(value: Uint8Array): string | null {
  try {
    return UTF8.decode(value);
  } catch {
    return null;
  }
}
