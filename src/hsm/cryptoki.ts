/**
 * Numbers of PKCS #11 (v2.40 and v3.x, pkcs11t.h) that this folder uses, and the shape of a binding.
 *
 * graphene-pk11 opens modules, slots and sessions and writes templates; the calls of an operation go
 * to the pkcs11js binding beneath it, which alone takes the GCM parameters with their IV length and
 * returns attributes without reading the object's class first.
 */
import type { Attribute, Handle, Mechanism, PKCS11 } from 'pkcs11js';

export type { Attribute, Handle, Mechanism };

/** A loaded module's function list. Tests wrap single functions of it to inject faults. */
export type Cryptoki = PKCS11;

export const CKF = {
  OS_LOCKING_OK: 2,
  RW_SESSION: 2,
  SERIAL_SESSION: 4,
  TOKEN_INITIALIZED: 0x400,
  USER_PIN_INITIALIZED: 8,
} as const;
export const CKU = { SO: 0, USER: 1 } as const;
export const CKS = { RW_USER: 3 } as const;
export const CKD_NULL = 1;

export const CKO = { PUBLIC_KEY: 2, PRIVATE_KEY: 3, SECRET_KEY: 4 } as const;
export const CKK = {
  RSA: 0x00,
  EC: 0x03,
  GENERIC_SECRET: 0x10,
  AES: 0x1f,
  SHA256_HMAC: 0x2b,
  EC_EDWARDS: 0x40,
  EC_MONTGOMERY: 0x41,
} as const;

export const CKA = {
  CLASS: 0x00,
  TOKEN: 0x01,
  PRIVATE: 0x02,
  LABEL: 0x03,
  VALUE: 0x11,
  TRUSTED: 0x86,
  KEY_TYPE: 0x100,
  ID: 0x102,
  SENSITIVE: 0x103,
  ENCRYPT: 0x104,
  DECRYPT: 0x105,
  WRAP: 0x106,
  UNWRAP: 0x107,
  SIGN: 0x108,
  VERIFY: 0x10a,
  DERIVE: 0x10c,
  MODULUS: 0x120,
  MODULUS_BITS: 0x121,
  PUBLIC_EXPONENT: 0x122,
  PRIVATE_EXPONENT: 0x123,
  PRIME_1: 0x124,
  PRIME_2: 0x125,
  EXPONENT_1: 0x126,
  EXPONENT_2: 0x127,
  COEFFICIENT: 0x128,
  VALUE_LEN: 0x161,
  EXTRACTABLE: 0x162,
  MODIFIABLE: 0x170,
  EC_PARAMS: 0x180,
  EC_POINT: 0x181,
  WRAP_WITH_TRUSTED: 0x210,
  WRAP_TEMPLATE: 0x40000211,
  UNWRAP_TEMPLATE: 0x40000212,
  ALLOWED_MECHANISMS: 0x40000600,
} as const;

export const CKM = {
  RSA_PKCS_KEY_PAIR_GEN: 0x00,
  RSA_PKCS: 0x01,
  RSA_X_509: 0x03,
  RSA_PKCS_OAEP: 0x09,
  RSA_PKCS_PSS: 0x0d,
  SHA256: 0x250,
  SHA256_HMAC: 0x251,
  SHA384: 0x260,
  SHA384_HMAC: 0x261,
  SHA512: 0x270,
  SHA512_HMAC: 0x271,
  GENERIC_SECRET_KEY_GEN: 0x350,
  EC_KEY_PAIR_GEN: 0x1040,
  ECDSA: 0x1041,
  ECDH1_DERIVE: 0x1050,
  EC_EDWARDS_KEY_PAIR_GEN: 0x1055,
  EC_MONTGOMERY_KEY_PAIR_GEN: 0x1056,
  EDDSA: 0x1057,
  AES_KEY_GEN: 0x1080,
  AES_GCM: 0x1087,
  AES_CBC_ENCRYPT_DATA: 0x1105,
  AES_KEY_WRAP_PAD: 0x210a,
  AES_KEY_WRAP_KWP: 0x210b,
} as const;

/** Mask generation function of OAEP and PSS: MGF1 with the named hash. */
export const CKG = { MGF1_SHA256: 2, MGF1_SHA384: 3, MGF1_SHA512: 4 } as const;
/** The OAEP label is given with the call. */
export const CKZ_DATA_SPECIFIED = 1;

export const CKR = {
  HOST_MEMORY: 0x02,
  SLOT_ID_INVALID: 0x03,
  GENERAL_ERROR: 0x05,
  FUNCTION_FAILED: 0x06,
  ARGUMENTS_BAD: 0x07,
  ATTRIBUTE_READ_ONLY: 0x10,
  ATTRIBUTE_SENSITIVE: 0x11,
  ATTRIBUTE_TYPE_INVALID: 0x12,
  ATTRIBUTE_VALUE_INVALID: 0x13,
  ACTION_PROHIBITED: 0x1b,
  DATA_INVALID: 0x20,
  DATA_LEN_RANGE: 0x21,
  DEVICE_ERROR: 0x30,
  DEVICE_MEMORY: 0x31,
  DEVICE_REMOVED: 0x32,
  ENCRYPTED_DATA_INVALID: 0x40,
  ENCRYPTED_DATA_LEN_RANGE: 0x41,
  AEAD_DECRYPT_FAILED: 0x42,
  FUNCTION_NOT_SUPPORTED: 0x54,
  KEY_HANDLE_INVALID: 0x60,
  KEY_SIZE_RANGE: 0x62,
  KEY_TYPE_INCONSISTENT: 0x63,
  KEY_FUNCTION_NOT_PERMITTED: 0x68,
  KEY_NOT_WRAPPABLE: 0x69,
  KEY_UNEXTRACTABLE: 0x6a,
  MECHANISM_INVALID: 0x70,
  MECHANISM_PARAM_INVALID: 0x71,
  OBJECT_HANDLE_INVALID: 0x82,
  OPERATION_ACTIVE: 0x90,
  PIN_INCORRECT: 0xa0,
  PIN_INVALID: 0xa1,
  PIN_LEN_RANGE: 0xa2,
  PIN_EXPIRED: 0xa3,
  PIN_LOCKED: 0xa4,
  SESSION_CLOSED: 0xb0,
  SESSION_COUNT: 0xb1,
  SESSION_HANDLE_INVALID: 0xb3,
  TOKEN_NOT_PRESENT: 0xe0,
  TOKEN_NOT_RECOGNIZED: 0xe1,
  TEMPLATE_INCOMPLETE: 0xd0,
  TEMPLATE_INCONSISTENT: 0xd1,
  UNWRAPPING_KEY_HANDLE_INVALID: 0xf0,
  USER_ALREADY_LOGGED_IN: 0x100,
  USER_NOT_LOGGED_IN: 0x101,
  USER_PIN_NOT_INITIALIZED: 0x102,
  WRAPPED_KEY_INVALID: 0x110,
  WRAPPED_KEY_LEN_RANGE: 0x112,
  WRAPPING_KEY_HANDLE_INVALID: 0x113,
  WRAPPING_KEY_TYPE_INCONSISTENT: 0x115,
  UNWRAPPING_KEY_TYPE_INCONSISTENT: 0xf2,
  CRYPTOKI_NOT_INITIALIZED: 0x190,
  CRYPTOKI_ALREADY_INITIALIZED: 0x191,
} as const;

/**
 * Type numbers of parameter structs in pkcs11js (`CK_PARAMS_*`); not PKCS #11 values. Of its two for GCM only
 * `AES_GCM_v240` sets ulIvBits; the other leaves what the heap held there, which strict tokens refuse.
 */
export const CK_PARAMS = { AES_CBC: 1, RSA_OAEP: 4, RSA_PSS: 5, EC_DH: 6, AES_GCM: 7 } as const;

/** The return value of a failed call, or `undefined` when the error did not come from the token. */
export function returnValueOf(error: unknown): number | undefined {
  // By its members: the binding's errors may be of another realm, which `instanceof` would not know.
  if (typeof error !== 'object' || error === null) return undefined;
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown };
  if (typeof code === 'number' && code > 0) return code;
  // graphene and a few synchronous paths of the binding keep the code only in the message.
  const match = typeof message === 'string' ? /CKR_\w+:(\d+)/.exec(message) : null;
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

/** A CK_ULONG of this platform (8 bytes, little-endian on every platform the service runs on). */
export function ulong(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** Reads a CK_ULONG that fits a safe integer; shorter buffers are taken as 32-bit. */
export function readUlong(bytes: Uint8Array): number {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.length >= 8 ? Number(view.readBigUInt64LE(0)) : view.readUInt32LE(0);
}
