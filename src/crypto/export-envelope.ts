/**
 * How a key leaves the service (docs/export.md): its seed in an HPKE envelope to the recipient's hybrid key, with
 *
 *     info = "twofold/export/1" ‖ key id(16) ‖ u32 version ‖ u16 suite ‖ u16 length ‖ namespace
 *            ‖ SHA-256(public key)
 */
import { hash } from 'node:crypto';

import { NAME } from '../name.ts';
import { concatBytes, lengthPrefixed, uint16, uint32, utf8 } from './bytes.ts';
import { openWith, sealTo } from './single-shot.ts';
import { uuidBytes } from './uuid.ts';
import type { Engine } from './engine.ts';
import type { SecretBytes } from './secret.ts';
import type { HybridKemSuite, KemHalves, Suite } from './suite.ts';

/** What an export is bound to. */
export interface ExportBinding {
  readonly keyId: string;
  readonly version: number;
  readonly suite: Suite;
  readonly namespace: string;
  /** Raw. */
  readonly publicKey: Uint8Array;
}

/** A hybrid key to which a key is sealed. */
export interface ExportRecipient {
  readonly suite: HybridKemSuite;
  /** Raw: ML-KEM's, then the point or X25519's. */
  readonly publicKey: Uint8Array;
}

/** What leaves. */
export interface ExportedKey {
  readonly binding: ExportBinding;
  readonly recipient: ExportRecipient;
  /** enc ‖ ciphertext; null in a dry run. */
  readonly envelope: Uint8Array | null;
}

function infoOf({ keyId, version, suite, namespace, publicKey }: ExportBinding): Uint8Array {
  return concatBytes(
    utf8(NAME.exportInfo),
    uuidBytes(keyId) ?? new Uint8Array(0),
    uint32(version),
    uint16(suite.number),
    lengthPrefixed(utf8(namespace)),
    hash('sha256', publicKey, 'buffer'),
  );
}

/** What a recipient is known by: SHA-256 of its raw public key. */
export const recipientFingerprint = ({ publicKey }: Pick<ExportRecipient, 'publicKey'>) =>
  Uint8Array.from(hash('sha256', publicKey, 'buffer'));

/**
 * enc ‖ ciphertext; `seed` stays the caller's to wipe.
 * @throws TwofoldError invalid_value for a public key that is none of the recipient's suite
 */
export const sealExport = (
  engine: Engine,
  { suite, publicKey }: ExportRecipient,
  binding: ExportBinding,
  seed: SecretBytes,
): Promise<Uint8Array> =>
  sealTo(engine, suite, publicKey, { info: infoOf(binding), content: seed });

/**
 * The seed; the caller wipes it.
 * @throws TwofoldError decryption_failed for another recipient, binding, or what was altered
 */
export const openExport = (
  { suite, publicKey }: ExportRecipient,
  halves: KemHalves,
  binding: ExportBinding,
  envelope: Uint8Array,
): Promise<SecretBytes> => openWith(suite, publicKey, halves, { info: infoOf(binding), envelope });
