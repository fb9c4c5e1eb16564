/**
 * Public keys as JWK: `AKP` (RFC 9964), `EC` and `RSA` (RFC 7518 section 6), `OKP` (RFC 8037), and
 * their thumbprints (RFC 7638). Private members are never written and refused when read.
 */
import { createHash } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import { decodeBase64Url, encodeBase64Url } from './base64.ts';
import { concatBytes } from './bytes.ts';
import { NAMED_CURVES } from './key-encoding.ts';
import { checkRawPublicKey, readRsaPublicKey, writeRsaPublicKey } from './raw-public-key.ts';
import type { JwkForm, KeyEncoding } from './key-encoding.ts';

interface JwkCommon {
  readonly alg?: string;
  readonly use?: 'sig' | 'enc';
  readonly kid?: string;
}

/** A public JWK; key material is unpadded base64url. */
export type PublicJwk =
  | (JwkCommon & { readonly kty: 'AKP'; readonly alg: string; readonly pub: string })
  | (JwkCommon & {
      readonly kty: 'EC';
      readonly crv: string;
      readonly x: string;
      readonly y: string;
    })
  | (JwkCommon & { readonly kty: 'OKP'; readonly crv: string; readonly x: string })
  | (JwkCommon & { readonly kty: 'RSA'; readonly n: string; readonly e: string });

/** Members of private and symmetric keys, of every key type. */
const PRIVATE_MEMBERS = ['priv', 'd', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'];

function refuse(encoding: KeyEncoding, what: string): never {
  throw new TwofoldError(
    'invalid_value',
    `The JWK is not a public key of ${encoding.algorithm}: ${what}.`,
  );
}

/**
 * The key as JWK, or null where no JOSE document has the algorithm (`unavailable.jwk` says why).
 * @throws TwofoldError invalid_value for a key of another form
 */
export function writeJwk(
  encoding: KeyEncoding,
  publicKey: Uint8Array,
  kid?: string,
): PublicJwk | null {
  const form = encoding.jwk;
  if (form === null) return null;
  checkRawPublicKey(encoding, publicKey);
  const common = {
    ...(form.use === null ? {} : { use: form.use }),
    ...(kid === undefined ? {} : { kid }),
  };
  if (form.kty === 'AKP') {
    return { kty: 'AKP', alg: form.alg, pub: encodeBase64Url(publicKey), ...common };
  }
  const alg = form.alg === null ? {} : { alg: form.alg };
  return { ...material(form, publicKey), ...alg, ...common };
}

function material(form: Exclude<JwkForm, { kty: 'AKP' }>, publicKey: Uint8Array) {
  switch (form.kty) {
    case 'EC': {
      const [x, y] = halves(publicKey.subarray(1)).map(encodeBase64Url);
      return { kty: form.kty, crv: form.crv, x: x ?? '', y: y ?? '' };
    }
    case 'OKP':
      return { kty: form.kty, crv: form.crv, x: encodeBase64Url(publicKey) };
    case 'RSA': {
      const { n, e } = readRsaPublicKey(publicKey);
      return { kty: form.kty, n: encodeBase64Url(n), e: encodeBase64Url(e) };
    }
  }
}

function halves(bytes: Uint8Array): readonly Uint8Array[] {
  return [bytes.subarray(0, bytes.length / 2), bytes.subarray(bytes.length / 2)];
}

type Members = Readonly<Record<string, unknown>>;

/**
 * The raw key in a JWK of exactly this algorithm. `alg`, `use` and `key_ops` must agree with it where
 * they are present, and `alg` must be present in AKP keys; other members pass (RFC 7517 section 4).
 * @throws TwofoldError invalid_value
 */
export function parseJwk(encoding: KeyEncoding, jwk: unknown): Uint8Array {
  const form = encoding.jwk;
  if (form === null) return refuse(encoding, 'no JOSE document names the algorithm');
  if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk)) {
    return refuse(encoding, 'it is not an object');
  }
  const members = jwk as Members;
  if (PRIVATE_MEMBERS.some((name) => Object.hasOwn(members, name))) {
    return refuse(encoding, 'it has private members');
  }
  checkNames(encoding, form, members);
  const publicKey = readMaterial(encoding, form, members);
  checkRawPublicKey(encoding, publicKey);
  return publicKey;
}

function own(members: Members, name: string): unknown {
  return Object.hasOwn(members, name) ? members[name] : undefined;
}

/** The operations that `key_ops` of a public key may name (RFC 7517 section 4.3). */
const OPERATIONS = { sig: ['verify'], enc: ['encrypt', 'wrapKey', 'deriveKey', 'deriveBits'] };

function checkNames(encoding: KeyEncoding, form: JwkForm, members: Members): void {
  if (own(members, 'kty') !== form.kty) refuse(encoding, 'kty is another');
  if ('crv' in form && own(members, 'crv') !== form.crv) refuse(encoding, 'crv is another');
  const alg = own(members, 'alg');
  const isKnown = [form.alg, ...form.alsoReads].some((name) => name !== null && name === alg);
  if (!isKnown && (alg !== undefined || form.kty === 'AKP')) refuse(encoding, 'alg is another');
  const purpose = encoding.signature === null ? 'enc' : 'sig';
  const use = own(members, 'use');
  if (use !== undefined && use !== purpose) refuse(encoding, 'use is another');
  const operations = own(members, 'key_ops');
  if (operations === undefined) return;
  const isSubset =
    Array.isArray(operations) &&
    operations.every((name) => typeof name === 'string' && OPERATIONS[purpose].includes(name));
  if (!isSubset) refuse(encoding, 'key_ops is another');
}

function readMaterial(encoding: KeyEncoding, form: JwkForm, members: Members): Uint8Array {
  const read = (name: string): Uint8Array => {
    const text = own(members, name);
    const bytes = typeof text === 'string' ? decodeBase64Url(text) : undefined;
    return bytes ?? refuse(encoding, `${name} is not unpadded base64url`);
  };
  switch (form.kty) {
    case 'AKP':
      return read('pub');
    case 'OKP':
      return read('x');
    case 'EC': {
      const [x, y] = [read('x'), read('y')];
      const { length } = NAMED_CURVES[form.crv];
      if (x.length !== length || y.length !== length) return refuse(encoding, 'a length is wrong');
      return concatBytes(Uint8Array.of(0x04), x, y);
    }
    case 'RSA': {
      const [n, e] = [read('n'), read('e')];
      // Base64urlUInt is the shortest form (RFC 7518 section 2).
      if (n[0] === 0 || e[0] === 0) return refuse(encoding, 'a number has leading zeros');
      return writeRsaPublicKey({ n, e });
    }
  }
}

/**
 * SHA-256 of the required members in lexicographic order (RFC 7638 section 3), 32 bytes; of AKP keys
 * `alg`, `kty` and `pub` (RFC 9964).
 */
export function jwkThumbprint(jwk: PublicJwk): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(requiredMembers(jwk)).digest());
}

function requiredMembers(jwk: PublicJwk): string {
  switch (jwk.kty) {
    case 'AKP':
      return JSON.stringify({ alg: jwk.alg, kty: jwk.kty, pub: jwk.pub });
    case 'EC':
      return JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y });
    case 'OKP':
      return JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x });
    case 'RSA':
      return JSON.stringify({ e: jwk.e, kty: jwk.kty, n: jwk.n });
  }
}
