/**
 * HPKE (RFC 9180) with the one-stage key schedule of draft-ietf-hpke-pq section 4, single shot and
 * without AAD, in modes base (0) and psk (1). The KEM's shared secret comes from `kem.ts`.
 *
 *     LabeledDerive(ikm, label, context, L) =
 *         XOF(ikm ‖ "HPKE-v1" ‖ suite_id ‖ lp(label) ‖ u16 L ‖ context, L)
 *     secret = LabeledDerive(lp(psk) ‖ lp(shared_secret), "secret",
 *                            mode ‖ lp(psk_id) ‖ lp(info), Nk + Nn + Nh)
 *     key ‖ base_nonce ‖ exporter_secret = secret
 *
 * suite_id = "HPKE" ‖ kem_id ‖ kdf_id ‖ aead_id; lp is a u16 length prefix.
 */
import { lengthPrefixed, uint16, utf8 } from './bytes.ts';
import { hashParts } from './digest.ts';
import { SecretBytes, wipe } from './secret.ts';
import type { HpkeSuite, OneStageKdf } from './suite.ts';

const PROTOCOL = utf8('HPKE');
const VERSION_LABEL = utf8('HPKE-v1');
const SECRET_LABEL = lengthPrefixed(utf8('secret'));
const EXPORT_LABEL = lengthPrefixed(utf8('sec'));
const MODE_BASE = 0;
const MODE_PSK = 1;
const NOTHING = new Uint8Array(0);
/** RFC 9180 section 9.5. */
const MIN_PSK_LENGTH = 32;

/** KDF 0x0011 of draft-ietf-hpke-pq. */
export const shake256: OneStageKdf = {
  id: 0x0011,
  hashLength: 64,
  xof: (parts, length) => hashParts('shake256', parts, length),
};

/** A pre-shared key and its public name; both are bound. */
export interface PreSharedKey {
  /** At least 32 bytes (RFC 9180 section 9.5); stays the caller's to wipe. */
  readonly secret: SecretBytes;
  readonly id: Uint8Array;
}

/** The result of the key schedule; whoever made it calls `wipe`. */
export interface HpkeContext {
  readonly key: SecretBytes;
  readonly baseNonce: Uint8Array;
  readonly exporterSecret: SecretBytes;
  wipe(): void;
}

/** `label` with its length prefix; `context` in parts. */
function labeledDerive(
  suite: HpkeSuite,
  keyMaterial: readonly Uint8Array[],
  label: Uint8Array,
  context: readonly Uint8Array[],
  length: number,
): Uint8Array {
  const suiteId = [PROTOCOL, uint16(suite.kem), uint16(suite.kdf), uint16(suite.aead)];
  return suite.schedule.xof(
    [...keyMaterial, VERSION_LABEL, ...suiteId, label, uint16(length), ...context],
    length,
  );
}

/** `shared_secret` stays the caller's to wipe. */
export function keySchedule(
  suite: HpkeSuite,
  sharedSecret: SecretBytes,
  info: Uint8Array,
  psk?: PreSharedKey,
): HpkeContext {
  const pskBytes = psk?.secret.reveal() ?? NOTHING;
  if (psk !== undefined && pskBytes.length < MIN_PSK_LENGTH) {
    throw new RangeError('a pre-shared key is shorter than 32 bytes');
  }
  const { keyLength, nonceLength } = suite.cipher;
  const nonceEnd = keyLength + nonceLength;
  const secret = labeledDerive(
    suite,
    // The prefixes of `lengthPrefixed`, but without a copy of the secrets.
    [uint16(pskBytes.length), pskBytes, uint16(sharedSecret.length), sharedSecret.reveal()],
    SECRET_LABEL,
    [
      Uint8Array.of(psk === undefined ? MODE_BASE : MODE_PSK),
      lengthPrefixed(psk?.id ?? NOTHING),
      lengthPrefixed(info),
    ],
    nonceEnd + suite.schedule.hashLength,
  );
  const key = SecretBytes.own(secret.subarray(0, keyLength));
  const exporterSecret = SecretBytes.own(secret.subarray(nonceEnd));
  return {
    key,
    baseNonce: secret.subarray(keyLength, nonceEnd),
    exporterSecret,
    wipe: () => {
      wipe(key, exporterSecret, secret);
    },
  };
}

/** The first and only message of a context: sequence number 0, so the nonce is the base nonce. */
export function sealOnce(
  suite: HpkeSuite,
  context: HpkeContext,
  plaintext: SecretBytes,
): Uint8Array {
  return suite.cipher.seal(context.key, context.baseNonce, NOTHING, plaintext);
}

/** @throws TwofoldError decryption_failed */
export function openOnce(
  suite: HpkeSuite,
  context: HpkeContext,
  ciphertext: Uint8Array,
): SecretBytes {
  return suite.cipher.open(context.key, context.baseNonce, NOTHING, ciphertext);
}

/** Context.Export (RFC 9180 section 5.3); the caller owns the result. */
export function exportSecret(
  suite: HpkeSuite,
  context: HpkeContext,
  exporterContext: Uint8Array,
  length: number,
): SecretBytes {
  const material = [context.exporterSecret.reveal()];
  return SecretBytes.own(labeledDerive(suite, material, EXPORT_LABEL, [exporterContext], length));
}
