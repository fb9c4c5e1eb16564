/**
 * Attribute templates of every object the service makes on a token.
 *
 * Every key that leaves the token wrapped carries WRAP_WITH_TRUSTED and UNWRAP=false and comes back
 * with EXTRACTABLE=false: with the root's own templates (ceremony-root.ts) this is what keeps the
 * PIN alone from reading a private key. All attributes are explicit; an omitted one would be the
 * token's choice.
 */
import { KeyType, ObjectClass, Template } from 'graphene-pk11';
import type { ITemplate } from 'graphene-pk11';
import { NAME } from '../name.ts';
import { CKK } from './cryptoki.ts';
import type { Attribute } from './cryptoki.ts';
import type { HsmKeySpec } from './port.ts';
import { PUBLIC_EXPONENT } from './rsa.ts';

/** DER of the named curve OIDs (RFC 5480, RFC 8410). */
const EC_PARAMS = {
  'P-256': '06082a8648ce3d030107',
  'P-384': '06052b81040022',
  'P-521': '06052b81040023',
  /** PrintableString "curve25519": SoftHSM and several HSMs know the curve by this name. */
  X25519: '130a63757276653235353139',
  /** PrintableString "edwards25519". */
  Ed25519: '130c656477617264733235353139',
} as const;

/** Label of token objects made for `hsm-token` keys. */
export const TOKEN_KEY_LABEL = `${NAME.tokenLabel}-key`;

/** Label of root objects; the generation follows. */
export const ROOT_LABEL = `${NAME.tokenLabel}-root-wrap-`;

/** Label of what says that roots are in use. */
const USE_LABEL = `${NAME.tokenLabel}-roots-in-use`;

const NO_USE = {
  encrypt: false,
  decrypt: false,
  sign: false,
  verify: false,
  derive: false,
  wrap: false,
  unwrap: false,
} as const;

/**
 * Where an object lives: wrapped keys as session objects, `hsm-token` keys on the token. `trusted` says
 * whether the root is a trusted key; where a token has none, its keys could not be wrapped otherwise.
 */
export type Residence =
  /** Never leaves the token and goes with its session: trials. */
  | { readonly kind: 'session' }
  | { readonly kind: 'to-be-wrapped'; readonly trusted: boolean }
  /** Came from outside and is wrapped by the root at once. */
  | { readonly kind: 'imported'; readonly trusted: boolean }
  | { readonly kind: 'unwrapped'; readonly trusted: boolean }
  /** On its way from one root to the next; gone in the same call. */
  | { readonly kind: 'to-be-rewrapped'; readonly trusted: boolean }
  | { readonly kind: 'token'; readonly objectId: Uint8Array; readonly label: string };

export function attributes(template: ITemplate): Attribute[] {
  return Template.toPkcs11(template);
}

/** Templates that name no object: as many as there are kinds of keys, times residences. */
const made = new Map<string, readonly Attribute[]>();

/** The template of a secret key, or of a pair's private key. */
export function privateTemplate(spec: HsmKeySpec, residence: Residence): Attribute[] {
  if (residence.kind === 'token') return makePrivateTemplate(spec, residence);
  const key = JSON.stringify([spec, residence]);
  const template = made.get(key) ?? makePrivateTemplate(spec, residence);
  made.set(key, template);
  return [...template];
}

function makePrivateTemplate(spec: HsmKeySpec, residence: Residence): Attribute[] {
  const { sign, derive, ...none } = NO_USE;
  return attributes({
    // A generation mechanism implies class and type; X25519 has two types across tokens.
    ...(isUnwrapped(residence) ? { class: objectClass(spec), keyType: keyType(spec) } : {}),
    token: residence.kind === 'token',
    private: true,
    sensitive: true,
    extractable:
      residence.kind === 'to-be-wrapped' ||
      residence.kind === 'to-be-rewrapped' ||
      residence.kind === 'imported',
    // Left out where it would be false, as it then is by the standard: some tokens do not know it.
    ...(wrapsWithTrusted(residence) ? { wrapWithTrusted: true } : {}),
    ...(residence.kind === 'token'
      ? { label: residence.label, id: Buffer.from(residence.objectId) }
      : {}),
    ...(isPair(spec) ? pairUse(spec) : { ...none, sign, derive, ...secretUse(spec) }),
    ...(!isPair(spec) && !isUnwrapped(residence) ? { valueLen: secretBytes(spec) } : {}),
  });
}

/** C_UnwrapKey is told class and type, and has the length from what it opens. */
const isUnwrapped = ({ kind }: Residence): boolean =>
  kind === 'unwrapped' || kind === 'to-be-rewrapped' || kind === 'imported';

function wrapsWithTrusted(residence: Residence): boolean {
  if (residence.kind === 'session') return false;
  return residence.kind === 'token' || residence.trusted;
}

/** A pair's public half is only read once; it never becomes a token object. */
export function publicTemplate(spec: PairSpec): Attribute[] {
  const verify = spec.use === 'sign';
  const base = { token: false, private: false, verify };
  if (spec.kind !== 'rsa') {
    return attributes({ ...base, paramsEC: Buffer.from(ecParams(spec), 'hex') });
  }
  const publicExponent = Buffer.from(PUBLIC_EXPONENT);
  const use = { encrypt: !verify, wrap: false };
  return attributes({ ...base, ...use, modulusBits: spec.bits, publicExponent });
}

/**
 * What a token keeps of the use of its roots: a key that no call takes, as every token makes one, and objects of
 * data some do not. Its CKA_ID is the installation alone, which no root's is.
 */
export function useTemplate(installation: Buffer): Attribute[] {
  return [
    ...useName(installation),
    ...attributes({ ...NO_USE, token: true, private: true, sensitive: true, extractable: false }),
    ...attributes({ valueLen: 32 }),
  ];
}

/** By which it is found again. */
export const useName = (installation: Buffer): Attribute[] =>
  attributes({ label: USE_LABEL, id: installation });

/** A wrapping key that the user PIN alone can make; whoever holds it can extract what it wraps. */
export function plainRootTemplate(): Attribute[] {
  return [
    ...attributes({ token: true, private: true, sensitive: true, extractable: false }),
    ...attributes({ valueLen: 32, wrap: true, unwrap: true, encrypt: false, decrypt: false }),
    ...attributes({ sign: false, verify: false, derive: false }),
  ];
}

/** What ECDH yields: a readable secret, because the standards' combiners run in the host. */
export function sharedSecretTemplate(bytes: number): Attribute[] {
  return attributes({
    class: ObjectClass.SECRET_KEY,
    keyType: KeyType.GENERIC_SECRET,
    token: false,
    private: true,
    sensitive: false,
    extractable: true,
    valueLen: bytes,
  });
}

/** Both steps by which an importer's wrapping key comes to be in the token: never readable. */
export function transportTemplate(use: 'derive' | 'unwrap'): Attribute[] {
  return attributes({
    ...NO_USE,
    [use]: true,
    class: ObjectClass.SECRET_KEY,
    keyType: KeyType.AES,
    token: false,
    private: true,
    sensitive: true,
    extractable: false,
    valueLen: 32,
  });
}

export type PairSpec = Extract<HsmKeySpec, { kind: 'ec' | 'x25519' | 'ed25519' | 'rsa' }>;

export function isPair(spec: HsmKeySpec): spec is PairSpec {
  return spec.kind !== 'aes' && spec.kind !== 'hmac';
}

export function objectClass(spec: HsmKeySpec): number {
  return isPair(spec) ? ObjectClass.PRIVATE_KEY : ObjectClass.SECRET_KEY;
}

function keyType(spec: HsmKeySpec): number {
  switch (spec.kind) {
    case 'ec':
      return KeyType.EC;
    case 'x25519':
      return CKK.EC_MONTGOMERY;
    case 'ed25519':
      return CKK.EC_EDWARDS;
    case 'rsa':
      return CKK.RSA;
    case 'aes':
      return KeyType.AES;
    case 'hmac':
      return KeyType.GENERIC_SECRET;
  }
}

/** Exactly one use: an RSA key that signs and decrypts would do each in the other's name. */
function pairUse(spec: PairSpec): ITemplate {
  return {
    sign: spec.use === 'sign',
    derive: spec.use === 'derive',
    decrypt: spec.use === 'decrypt',
    unwrap: false,
  };
}

function secretUse(spec: Extract<HsmKeySpec, { kind: 'aes' | 'hmac' }>): ITemplate {
  return spec.kind === 'aes' ? { encrypt: true, decrypt: true } : { sign: true, verify: true };
}

function secretBytes(spec: Extract<HsmKeySpec, { kind: 'aes' | 'hmac' }>): number {
  return spec.kind === 'aes' ? spec.bits / 8 : spec.bytes;
}

/** DER of the curve's name, in hex. */
export function ecParams(spec: Exclude<PairSpec, { kind: 'rsa' }>): string {
  if (spec.kind === 'ec') return EC_PARAMS[spec.curve];
  return spec.kind === 'x25519' ? EC_PARAMS.X25519 : EC_PARAMS.Ed25519;
}
