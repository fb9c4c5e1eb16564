/** X.501 names as certificates and requests have them (RFC 5280 section 4.1.2.4). */
import { TwofoldError } from '../errors.ts';
import { utf8 } from './bytes.ts';
import { derObjectIdentifier, derSequence, derSetOf, derValue, TAG } from './der.ts';

interface Attribute {
  readonly oid: string;
  /** Upper bound in characters (RFC 5280 appendix A.1). */
  readonly limit: number;
  readonly form: 'utf8' | 'printable' | 'country' | 'ia5';
}

/** By the short name of RFC 4514 section 3 or of OpenSSL. */
const ATTRIBUTES = {
  CN: { oid: '2.5.4.3', limit: 64, form: 'utf8' },
  serialNumber: { oid: '2.5.4.5', limit: 64, form: 'printable' },
  C: { oid: '2.5.4.6', limit: 2, form: 'country' },
  L: { oid: '2.5.4.7', limit: 128, form: 'utf8' },
  ST: { oid: '2.5.4.8', limit: 128, form: 'utf8' },
  street: { oid: '2.5.4.9', limit: 128, form: 'utf8' },
  O: { oid: '2.5.4.10', limit: 64, form: 'utf8' },
  OU: { oid: '2.5.4.11', limit: 64, form: 'utf8' },
  title: { oid: '2.5.4.12', limit: 64, form: 'utf8' },
  GN: { oid: '2.5.4.42', limit: 64, form: 'utf8' },
  SN: { oid: '2.5.4.4', limit: 64, form: 'utf8' },
  DC: { oid: '0.9.2342.19200300.100.1.25', limit: 63, form: 'ia5' },
  UID: { oid: '0.9.2342.19200300.100.1.1', limit: 256, form: 'utf8' },
} as const satisfies Record<string, Attribute>;

export type AttributeName = keyof typeof ATTRIBUTES;
export const ATTRIBUTE_NAMES: readonly string[] = Object.keys(ATTRIBUTES);

/** Attributes of one RDN: most have one, `{ CN: 'a', UID: 'b' }` makes a multi-valued RDN. */
export type RelativeName = Readonly<Partial<Record<AttributeName, string>>>;

/** From the root of the directory to the leaf, e.g. `[{ C: 'FI' }, { O: 'Example' }, { CN: 'a' }]`. */
export type DistinguishedName = readonly RelativeName[];

const MAX_RDNS = 16;
const PATTERNS = {
  printable: /^[A-Za-z0-9 '()+,./:=?-]+$/,
  country: /^[A-Z]{2}$/,
  ia5: /^[\x20-\x7e]+$/,
  // No control characters: names are shown to people and written into logs.
  utf8: /^\P{Cc}+$/u,
} as const;
const TAGS = {
  printable: TAG.printableString,
  country: TAG.printableString,
  ia5: TAG.ia5String,
  utf8: TAG.utf8String,
} as const;

function refuse(what: string): never {
  throw new TwofoldError('invalid_value', `The subject is not valid: ${what}.`);
}

function isAttributeName(name: string): name is AttributeName {
  return Object.hasOwn(ATTRIBUTES, name);
}

function attribute([name, value]: readonly [string, unknown]): Uint8Array {
  if (!isAttributeName(name)) {
    return refuse(`known attributes are ${Object.keys(ATTRIBUTES).join(', ')}`);
  }
  const { oid, limit, form }: Attribute = ATTRIBUTES[name];
  if (typeof value !== 'string' || !value.isWellFormed() || !PATTERNS[form].test(value)) {
    return refuse(`${name} is empty or has characters that it may not have`);
  }
  if (Array.from(value).length > limit) return refuse(`${name} has more than ${limit} characters`);
  return derSequence(derObjectIdentifier(oid), derValue(TAGS[form], utf8(value)));
}

/**
 * DER of the Name. UTF8String but for countries and serial numbers (PrintableString) and domain
 * components (IA5String), as RFC 5280 has them. An empty list is the empty name.
 * @throws TwofoldError invalid_value
 */
export function writeName(name: DistinguishedName): Uint8Array {
  if (name.length > MAX_RDNS) return refuse(`it has more than ${MAX_RDNS} relative names`);
  const relative = name.map((attributes) => {
    const entries = Object.entries(attributes);
    if (entries.length === 0) return refuse('a relative name has no attribute');
    return derSetOf(...entries.map(attribute));
  });
  return derSequence(...relative);
}
