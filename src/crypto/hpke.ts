/**
 * HPKE (RFC 9180), single shot and without AAD, in modes base (0) and psk (1), with either key
 * schedule. The KEM's shared secret comes from `kem.ts`.
 *
 * One stage (draft-ietf-hpke-pq section 4):
 *
 *     LabeledDerive(ikm, label, context, L) =
 *         XOF(ikm ‖ "HPKE-v1" ‖ suite_id ‖ lp(label) ‖ u16 L ‖ context, L)
 *     secret = LabeledDerive(lp(psk) ‖ lp(shared_secret), "secret",
 *                            mode ‖ lp(psk_id) ‖ lp(info), Nk + Nn + Nh)
 *     key ‖ base_nonce ‖ exporter_secret = secret
 *
 * Two stages (RFC 9180 section 5.1):
 *
 *     context = mode ‖ LabeledExtract("", "psk_id_hash", psk_id) ‖ LabeledExtract("", "info_hash", info)
 *     secret = LabeledExtract(shared_secret, "secret", psk)
 *     key, base_nonce, exporter_secret = LabeledExpand(secret, "key" | "base_nonce" | "exp", context, L)
 *
 * suite_id = "HPKE" ‖ kem_id ‖ kdf_id ‖ aead_id; lp is a u16 length prefix.
 */
import { concatBytes, lengthPrefixed, uint16, utf8 } from './bytes.ts';
import { hashParts } from './digest.ts';
import { SecretBytes, wipe } from './secret.ts';
import type { HpkeSuite, OneStageKdf, TwoStageKdf } from './suite.ts';

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
  stages: 1,
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

function suiteIdOf(suite: HpkeSuite): Uint8Array {
  return concatBytes(PROTOCOL, uint16(suite.kem), uint16(suite.kdf), uint16(suite.aead));
}

/** `label` with its length prefix; `context` in parts. */
function labeledDerive(
  { xof }: OneStageKdf,
  suiteId: Uint8Array,
  keyMaterial: readonly Uint8Array[],
  label: Uint8Array,
  context: readonly Uint8Array[],
  length: number,
): Uint8Array {
  return xof([...keyMaterial, VERSION_LABEL, suiteId, label, uint16(length), ...context], length);
}

/** RFC 9180 section 4; also of a KEM, whose suite_id is "KEM" ‖ kem_id. */
export function labeledExtract(
  kdf: TwoStageKdf,
  suiteId: Uint8Array,
  salt: Uint8Array,
  label: string,
  keyMaterial: Uint8Array,
): Uint8Array {
  return kdf.extract(salt, [VERSION_LABEL, suiteId, utf8(label), keyMaterial]);
}

/** RFC 9180 section 4; `info` in parts. */
export function labeledExpand(
  kdf: TwoStageKdf,
  suiteId: Uint8Array,
  key: Uint8Array,
  label: string,
  info: readonly Uint8Array[],
  length: number,
): Uint8Array {
  return kdf.expand(key, [uint16(length), VERSION_LABEL, suiteId, utf8(label), ...info], length);
}

/** What both schedules turn into key ‖ base_nonce ‖ exporter_secret. */
interface ScheduleInputs {
  readonly suite: HpkeSuite;
  readonly sharedSecret: Uint8Array;
  readonly info: Uint8Array;
  readonly mode: Uint8Array;
  readonly psk: Uint8Array;
  readonly pskId: Uint8Array;
}

function oneStage(kdf: OneStageKdf, inputs: ScheduleInputs): Uint8Array {
  const { suite, sharedSecret, info, mode, psk, pskId } = inputs;
  return labeledDerive(
    kdf,
    suiteIdOf(suite),
    // The prefixes of `lengthPrefixed`, but without a copy of the secrets.
    [uint16(psk.length), psk, uint16(sharedSecret.length), sharedSecret],
    SECRET_LABEL,
    [mode, lengthPrefixed(pskId), lengthPrefixed(info)],
    suite.cipher.keyLength + suite.cipher.nonceLength + kdf.hashLength,
  );
}

function twoStages(kdf: TwoStageKdf, inputs: ScheduleInputs): Uint8Array {
  const { suite, sharedSecret, info, mode, psk, pskId } = inputs;
  const id = suiteIdOf(suite);
  const context = [
    mode,
    labeledExtract(kdf, id, NOTHING, 'psk_id_hash', pskId),
    labeledExtract(kdf, id, NOTHING, 'info_hash', info),
  ];
  const { keyLength, nonceLength } = suite.cipher;
  const secret = labeledExtract(kdf, id, sharedSecret, 'secret', psk);
  const expand = (label: string, length: number) =>
    labeledExpand(kdf, id, secret, label, context, length);
  const pieces = [
    expand('key', keyLength),
    expand('base_nonce', nonceLength),
    expand('exp', kdf.hashLength),
  ];
  try {
    return concatBytes(...pieces);
  } finally {
    wipe(secret, ...pieces);
  }
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
  const inputs: ScheduleInputs = {
    suite,
    sharedSecret: sharedSecret.reveal(),
    info,
    mode: Uint8Array.of(psk === undefined ? MODE_BASE : MODE_PSK),
    psk: pskBytes,
    pskId: psk?.id ?? NOTHING,
  };
  const { schedule, cipher } = suite;
  const secret = schedule.stages === 1 ? oneStage(schedule, inputs) : twoStages(schedule, inputs);
  const nonceEnd = cipher.keyLength + cipher.nonceLength;
  const key = SecretBytes.own(secret.subarray(0, cipher.keyLength));
  const exporterSecret = SecretBytes.own(secret.subarray(nonceEnd));
  return {
    key,
    baseNonce: secret.subarray(cipher.keyLength, nonceEnd),
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
  const { schedule } = suite;
  const id = suiteIdOf(suite);
  const exporter = context.exporterSecret.reveal();
  return SecretBytes.own(
    schedule.stages === 1
      ? labeledDerive(schedule, id, [exporter], EXPORT_LABEL, [exporterContext], length)
      : labeledExpand(schedule, id, exporter, 'sec', [exporterContext], length),
  );
}
