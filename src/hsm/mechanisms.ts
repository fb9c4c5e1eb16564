/**
 * The calls of one operation each, on a handle of the current token epoch. Results are fresh memory
 * that the caller owns (and wipes, where secret).
 */
import { createHash } from 'node:crypto';
import { TwofoldError } from '../errors.ts';
import type { Connection } from './connection.ts';
import { CKA, CKD_NULL, CKM, CK_PARAMS } from './cryptoki.ts';
import type { Handle, Mechanism } from './cryptoki.ts';
import { GCM } from './inputs.ts';
import { takeBytes } from './objects.ts';
import { secretLength } from '../crypto/point.ts';
import type { Curve } from '../crypto/suite.ts';
import type { Sealed } from './protocol.ts';
import { sharedSecretTemplate } from './templates.ts';

const SECRET_TEMPLATES = {
  'P-256': sharedSecretTemplate(secretLength('P-256')),
  'P-384': sharedSecretTemplate(secretLength('P-384')),
  X25519: sharedSecretTemplate(secretLength('X25519')),
} as const;

const SIGNATURE_BYTES = { 'P-256': 64, 'P-384': 96 } as const;
const HMAC_BYTES = 32;
const ECDSA: Mechanism = { mechanism: CKM.ECDSA };
const HMAC: Mechanism = { mechanism: CKM.SHA256_HMAC };

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

/** CKM_ECDSA over a digest: r ‖ s. */
export function ecdsa(
  connection: Connection,
  curve: 'P-256' | 'P-384',
  key: Handle,
  digest: Uint8Array,
): Uint8Array {
  return connection.run((session, cryptoki) => {
    cryptoki.C_SignInit(session, ECDSA, key);
    return takeBytes(
      cryptoki.C_Sign(session, Buffer.from(digest), Buffer.alloc(SIGNATURE_BYTES[curve])),
    );
  });
}

/** As `ecdsa`, over the digest of a message; for checks of our own. */
export function rawEcdsa(
  connection: Connection,
  curve: 'P-256' | 'P-384',
  key: Handle,
  message: Uint8Array,
): Uint8Array {
  const hash = curve === 'P-256' ? 'sha256' : 'sha384';
  return ecdsa(connection, curve, key, createHash(hash).update(message).digest());
}

export function hmac(connection: Connection, key: Handle, data: Uint8Array): Uint8Array {
  return connection.run((session, cryptoki) => {
    cryptoki.C_SignInit(session, HMAC, key);
    return takeBytes(cryptoki.C_Sign(session, addressable(data), Buffer.alloc(HMAC_BYTES)));
  });
}

/** AES-GCM under a random IV of the token's generator (SP 800-38D section 8.2.2). */
export function gcmEncrypt(
  connection: Connection,
  key: Handle,
  plaintext: Uint8Array,
  aad: Uint8Array,
): Sealed {
  const iv = random(connection, GCM.ivBytes);
  const input = addressable(plaintext);
  try {
    const ciphertext = connection.run((session, cryptoki) => {
      cryptoki.C_EncryptInit(session, gcm(iv, aad), key);
      const room = Buffer.alloc(input.length + GCM.tagBytes);
      return takeBytes(cryptoki.C_Encrypt(session, input, room));
    });
    return { iv, ciphertext };
  } finally {
    input.fill(0);
  }
}

export function gcmDecrypt(
  connection: Connection,
  key: Handle,
  sealed: Sealed,
  aad: Uint8Array,
): Uint8Array {
  const room = Buffer.alloc(sealed.ciphertext.length);
  try {
    return connection.run((session, cryptoki) => {
      cryptoki.C_DecryptInit(session, gcm(sealed.iv, aad), key);
      return takeBytes(cryptoki.C_Decrypt(session, Buffer.from(sealed.ciphertext), room));
    });
  } finally {
    room.fill(0);
  }
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

function gcm(iv: Uint8Array, aad: Uint8Array): Mechanism {
  const parameter = {
    type: CK_PARAMS.AES_GCM,
    iv: Buffer.from(iv),
    ivBits: GCM.ivBytes * 8,
    aad: addressable(aad),
    tagBits: GCM.tagBytes * 8,
  };
  return { mechanism: CKM.AES_GCM, parameter };
}
