/**
 * Wraps: a plaintext sealed to a key version, as one envelope.
 *
 * KEM suites are HPKE (RFC 9180, draft-ietf-hpke-pq) single shot with empty AAD; all binding is in
 * `info` = "twofold/wrap/1" ‖ header ‖ SHA-256(canonical context). Symmetric suites take the same
 * bytes as associated data. `psk` mode also binds the 32-byte secret of the key version, with
 * `psk_id` = key id ‖ key version.
 *
 * Once an envelope has parsed, every failure to open it is `decryption_failed` without detail; only
 * infrastructure errors of the private halves (`hsm_unavailable`, ...) pass through.
 */
import { createHash } from 'node:crypto';

import { NAME } from '../name.ts';
import { concatBytes, utf8 } from './bytes.ts';
import { canonicalContext } from './context.ts';
import { encodeHeader } from './envelope.ts';
import type { WrapContext } from './context.ts';
import type { Engine } from './engine.ts';
import type { AeadEnvelope, EnvelopeHeader, KemEnvelope, KeyReference } from './envelope.ts';
import type { AeadKey, AeadSuite, KemHalves, KemSuite } from './suite.ts';
import type { SecretBytes } from './secret.ts';

/** HPKE `info` of a wrap, or the associated data of a symmetric one. */
export function wrapInfo(header: EnvelopeHeader, context: WrapContext): Uint8Array {
  const digest = createHash('sha256').update(canonicalContext(context)).digest();
  return concatBytes(utf8(NAME.wrapInfo), encodeHeader(header), digest);
}

/** HPKE `info` of an encapsulation. */
export function kemInfo(header: EnvelopeHeader): Uint8Array {
  return concatBytes(utf8(NAME.kemInfo), encodeHeader(header));
}

export interface SealRequest extends KeyReference {
  readonly suite: KemSuite;
  readonly publicKey: Uint8Array;
  /** 32 bytes of the key version: `psk` mode. Absent: `base` mode. */
  readonly psk?: SecretBytes;
  readonly context: WrapContext;
  /** Stays the caller's to wipe; at most 64 KiB. */
  readonly plaintext: SecretBytes;
}

export interface OpenRequest {
  readonly publicKey: Uint8Array;
  readonly halves: KemHalves;
  /** Needed for envelopes of `psk` mode, not used for `base`. */
  readonly psk?: SecretBytes;
  readonly context: WrapContext;
}

export interface SymmetricSealRequest extends KeyReference {
  readonly suite: AeadSuite;
  readonly key: AeadKey;
  readonly context: WrapContext;
  readonly plaintext: SecretBytes;
}

/** The envelope's bytes. */
export async function sealEnvelope(_engine: Engine, _request: SealRequest): Promise<Uint8Array> {
  throw new Error('not built yet');
}

/** The plaintext, owned by the caller. Check key id and version of the envelope first. */
export async function openEnvelope(_e: KemEnvelope, _request: OpenRequest): Promise<SecretBytes> {
  throw new Error('not built yet');
}

export async function sealSymmetric(_request: SymmetricSealRequest): Promise<Uint8Array> {
  throw new Error('not built yet');
}

export async function openSymmetric(
  _envelope: AeadEnvelope,
  _request: { readonly key: AeadKey; readonly context: WrapContext },
): Promise<SecretBytes> {
  throw new Error('not built yet');
}

/** What `encapsulate` answers: a 32-byte HPKE export, never the KEM secret. */
export interface Encapsulation {
  readonly sharedSecret: SecretBytes;
  readonly encapsulation: Uint8Array;
}

export async function encapsulateKey(
  _engine: Engine,
  _request: KeyReference & { readonly suite: KemSuite; readonly publicKey: Uint8Array },
): Promise<Encapsulation> {
  throw new Error('not built yet');
}

export async function decapsulateKey(
  _request: KeyReference & {
    readonly suite: KemSuite;
    readonly publicKey: Uint8Array;
    readonly halves: KemHalves;
    readonly encapsulation: Uint8Array;
  },
): Promise<SecretBytes> {
  throw new Error('not built yet');
}
