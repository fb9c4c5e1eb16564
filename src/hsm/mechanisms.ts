/**
 * The calls of one operation each, on a handle of the current token epoch. Results are fresh memory
 * that the caller owns (and wipes, where secret).
 */
import { hash as digestOf } from 'node:crypto';
import { TwofoldError } from '../errors.ts';
import type { Connection } from './connection.ts';
import { CKA, CKD_NULL, CKM, CK_PARAMS } from './cryptoki.ts';
import type { Handle, Mechanism } from './cryptoki.ts';
import { GCM } from './inputs.ts';
import type { SigningSpec } from './inputs.ts';
import { takeBytes } from './objects.ts';
import { secretLength } from '../crypto/point.ts';
import type { Curve } from '../crypto/suite.ts';
import type { HsmHash } from './port.ts';
import type { Sealed } from './protocol.ts';
import { nodeHash } from '../crypto/digests.ts';
import { digestInfo, HASH_BYTES, pssMechanism } from './rsa.ts';
import { sharedSecretTemplate } from './templates.ts';

const SECRET_TEMPLATES = {
  'P-256': sharedSecretTemplate(secretLength('P-256')),
  'P-384': sharedSecretTemplate(secretLength('P-384')),
  X25519: sharedSecretTemplate(secretLength('X25519')),
} as const;

const CURVES = {
  'P-256': { signatureBytes: 64, hash: 'SHA-256' },
  'P-384': { signatureBytes: 96, hash: 'SHA-384' },
  'P-521': { signatureBytes: 132, hash: 'SHA-512' },
} as const;
const ED25519_SIGNATURE_BYTES = 64;
const ECDSA: Mechanism = { mechanism: CKM.ECDSA };
const EDDSA: Mechanism = { mechanism: CKM.EDDSA };
const RSA_PKCS: Mechanism = { mechanism: CKM.RSA_PKCS };
const HMAC: Readonly<Record<HsmHash, Mechanism>> = {
  'SHA-256': { mechanism: CKM.SHA256_HMAC },
  'SHA-384': { mechanism: CKM.SHA384_HMAC },
  'SHA-512': { mechanism: CKM.SHA512_HMAC },
};

/** CKM_ECDH1_DERIVE with CKD_NULL, read and destroyed at once. `peer` was checked in the host. */
export function rawEcdh(
  connection: Connection,
  curve: Curve,
  key: Handle,
  peer: Uint8Array,
): Uint8Array {
  const secret = connection.run((session, cryptoki) => {
    const parameter = { type: CK_PARAMS.EC_DH, kdf: CKD_NULL, publicData: Buffer.from(peer) };
    const mechanism = { mechanism: CKM.ECDH1_DERIVE, parameter };
    const derived = cryptoki.C_DeriveKey(session, mechanism, key, SECRET_TEMPLATES[curve]);
    connection.objects += 1;
    try {
      // A new template each time: the binding writes the value into it.
      return cryptoki.C_GetAttributeValue(session, derived, [{ type: CKA.VALUE }])[0]?.value;
    } finally {
      connection.destroy(derived);
    }
  });
  if (secret?.length !== secretLength(curve)) {
    throw new TwofoldError('hsm_unavailable', 'the token returned a secret of a wrong length');
  }
  return takeBytes(secret);
}

/** The signature that the port describes, over its `input`, which was checked in the host. */
export function sign(
  connection: Connection,
  spec: SigningSpec,
  key: Handle,
  input: Uint8Array,
): Uint8Array {
  const { mechanism, data, bytes } = signing(spec, input);
  const signature = connection.run((session, cryptoki) => {
    cryptoki.C_SignInit(session, mechanism, key);
    return takeBytes(cryptoki.C_Sign(session, data, Buffer.alloc(bytes)));
  });
  if (signature.length !== bytes) {
    throw new TwofoldError('hsm_unavailable', 'the token returned a signature of a wrong length');
  }
  return signature;
}

function signing(
  spec: SigningSpec,
  input: Uint8Array,
): { readonly mechanism: Mechanism; readonly data: Buffer; readonly bytes: number } {
  switch (spec.kind) {
    case 'ec': {
      const bytes = CURVES[spec.curve].signatureBytes;
      return { mechanism: ECDSA, data: Buffer.from(input), bytes };
    }
    case 'ed25519':
      return { mechanism: EDDSA, data: addressable(input), bytes: ED25519_SIGNATURE_BYTES };
    case 'rsa': {
      const bytes = spec.bits / 8;
      return spec.padding === 'pss'
        ? { mechanism: pssMechanism(spec.hash), data: Buffer.from(input), bytes }
        : { mechanism: RSA_PKCS, data: digestInfo(spec.hash, input), bytes };
    }
  }
}

/** As `sign`, over a message of any length; for checks of our own. */
export function signMessage(
  connection: Connection,
  spec: SigningSpec,
  key: Handle,
  message: Uint8Array,
): Uint8Array {
  return sign(connection, spec, key, inputOf(spec, message));
}

/** What `sign` is given for a message. */
export function inputOf(spec: SigningSpec, message: Uint8Array): Uint8Array {
  const hash = messageHash(spec);
  return hash === undefined ? message : digestOf(nodeHash(hash), message, 'buffer');
}

/** The hash over which a key signs; undefined for Ed25519, which takes the message. */
export function messageHash(spec: SigningSpec): HsmHash | undefined {
  if (spec.kind === 'ed25519') return undefined;
  return spec.kind === 'ec' ? CURVES[spec.curve].hash : spec.hash;
}

export function hmac(
  connection: Connection,
  hash: HsmHash,
  key: Handle,
  data: Uint8Array,
): Uint8Array {
  return connection.run((session, cryptoki) => {
    cryptoki.C_SignInit(session, HMAC[hash], key);
    const room = Buffer.alloc(HASH_BYTES[hash]);
    return takeBytes(cryptoki.C_Sign(session, addressable(data), room));
  });
}

/** AES-GCM under a random IV of the token's generator (SP 800-38D section 8.2.2). */
export function gcmEncrypt(
  connection: Connection,
  key: Handle,
  plaintext: Uint8Array,
  aad: Uint8Array,
): Sealed {
  const input = addressable(plaintext);
  try {
    const iv = random(connection, GCM.ivBytes);
    const room = Buffer.alloc(input.length + GCM.tagBytes);
    const sealing = { iv: viewOf(iv), plaintext: input, aad: addressable(aad), room };
    return { iv, ciphertext: takeBytes(gcmEncryptInto(connection, key, sealing)) };
  } finally {
    input.fill(0);
  }
}

/** In memory that no other thread has, each with an address even where it is empty (`addressable`). */
export interface ToSealInto {
  /** The token's generator has just made it for this call alone. */
  readonly iv: Buffer;
  readonly plaintext: Buffer;
  readonly aad: Buffer;
  /** As long as plaintext and tag. */
  readonly room: Buffer;
}

/** The same into memory of the caller: a view of `room`. */
export function gcmEncryptInto(
  connection: Connection,
  key: Handle,
  { iv, plaintext, aad, room }: ToSealInto,
): Buffer {
  return connection.run((session, cryptoki) => {
    cryptoki.C_EncryptInit(session, gcm(iv, aad), key);
    return cryptoki.C_Encrypt(session, plaintext, room);
  });
}

export function gcmDecrypt(
  connection: Connection,
  key: Handle,
  { iv, ciphertext }: Sealed,
  aad: Uint8Array,
): Uint8Array {
  const room = Buffer.alloc(ciphertext.length);
  const sealed = { iv: Buffer.from(iv), ciphertext: Buffer.from(ciphertext) };
  try {
    const opening = { ...sealed, aad: addressable(aad), room };
    return takeBytes(gcmDecryptInto(connection, key, opening));
  } finally {
    room.fill(0);
  }
}

/** As `ToSealInto`. */
export interface ToOpenInto {
  readonly iv: Buffer;
  readonly ciphertext: Buffer;
  readonly aad: Buffer;
  /** As long as the ciphertext; its owner wipes it, whatever becomes of the call. */
  readonly room: Buffer;
}

/** The same into memory of the caller: a view of `room`. */
export function gcmDecryptInto(
  connection: Connection,
  key: Handle,
  { iv, ciphertext, aad, room }: ToOpenInto,
): Buffer {
  return connection.run((session, cryptoki) => {
    cryptoki.C_DecryptInit(session, gcm(iv, aad), key);
    return cryptoki.C_Decrypt(session, ciphertext, room);
  });
}

export function random(connection: Connection, bytes: number): Uint8Array {
  return connection.run((session, cryptoki) =>
    takeBytes(cryptoki.C_GenerateRandom(session, Buffer.alloc(bytes))),
  );
}

/** A copy whose address is not null even when it is empty, which tokens refuse as a bad argument. */
function addressable(bytes: Uint8Array): Buffer {
  const copy = Buffer.alloc(bytes.length + 1);
  copy.set(bytes);
  return copy.subarray(0, bytes.length);
}

function viewOf({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length);
}

function gcm(iv: Buffer, aad: Buffer): Mechanism {
  const parameter = {
    type: CK_PARAMS.AES_GCM,
    iv,
    ivBits: GCM.ivBytes * 8,
    aad,
    tagBits: GCM.tagBytes * 8,
  };
  return { mechanism: CKM.AES_GCM, parameter };
}
