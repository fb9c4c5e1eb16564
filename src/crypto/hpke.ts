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
import { concatBytes, lengthPrefix, lengthPrefixed, uint16, utf8 } from './bytes.ts';
import { hashParts } from './digest.ts';
import { SecretBytes, wipe } from './secret.ts';
import type { HpkeAead, HpkeSuite, OneStageKdf, TwoStageKdf } from './suite.ts';

type OneStage = Extract<HpkeSuite['schedule'], { stages: 1 }>;
type TwoStage = Extract<HpkeSuite['schedule'], { stages: 2 }>;

const PROTOCOL = utf8('HPKE');
const VERSION_LABEL = utf8('HPKE-v1');
const EXPORT = 'sec';
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

/** The result of the key schedule; whoever made it calls `wipe`, and reads nothing afterwards. */
export interface HpkeContext {
  readonly key: SecretBytes;
  readonly baseNonce: Uint8Array;
  readonly exporterSecret: SecretBytes;
  wipe(): void;
}

/** "HPKE-v1" ‖ suite_id ‖ label: what LabeledExtract puts before its input (RFC 9180 section 4). */
export function extractLabel(suiteId: Uint8Array, label: string): Uint8Array {
  return concatBytes(VERSION_LABEL, suiteId, utf8(label));
}

/** L ‖ "HPKE-v1" ‖ suite_id ‖ label: what LabeledExpand puts before its info, for L bytes. */
export function expandLabel(suiteId: Uint8Array, label: string, length: number): Uint8Array {
  return concatBytes(uint16(length), extractLabel(suiteId, label));
}

/** "HPKE-v1" ‖ suite_id ‖ lp(label) ‖ L: what LabeledDerive puts between its ikm and its context. */
function deriveLabel(suiteId: Uint8Array, label: string, length: number): Uint8Array {
  return concatBytes(VERSION_LABEL, suiteId, lengthPrefixed(utf8(label)), uint16(length));
}

/** A suite of these parts, with its suite_id and with the labels that all its schedules have. */
export function hpkeSuite(
  kem: number,
  kdf: OneStageKdf | TwoStageKdf,
  cipher: HpkeAead,
): HpkeSuite {
  const id = concatBytes(PROTOCOL, uint16(kem), uint16(kdf.id), uint16(cipher.id));
  return { kem, kdf: kdf.id, aead: cipher.id, id, schedule: scheduleOf(kdf, cipher, id), cipher };
}

function scheduleOf(
  kdf: OneStageKdf | TwoStageKdf,
  { keyLength, nonceLength }: HpkeAead,
  id: Uint8Array,
): HpkeSuite['schedule'] {
  if (kdf.stages === 1) {
    const secret = deriveLabel(id, 'secret', keyLength + nonceLength + kdf.hashLength);
    return { ...kdf, labels: { secret } };
  }
  return {
    ...kdf,
    labels: {
      pskIdHash: extractLabel(id, 'psk_id_hash'),
      infoHash: extractLabel(id, 'info_hash'),
      secret: extractLabel(id, 'secret'),
      key: expandLabel(id, 'key', keyLength),
      baseNonce: expandLabel(id, 'base_nonce', nonceLength),
      exporter: expandLabel(id, 'exp', kdf.hashLength),
    },
  };
}

interface ScheduleInputs {
  readonly suite: HpkeSuite;
  readonly sharedSecret: Uint8Array;
  readonly info: Uint8Array;
  readonly mode: Uint8Array;
  readonly psk: Uint8Array;
  readonly pskId: Uint8Array;
}

function oneStage({ xof, labels, hashLength }: OneStage, inputs: ScheduleInputs): HpkeContext {
  const { suite, sharedSecret, info, mode, psk, pskId } = inputs;
  const { keyLength, nonceLength } = suite.cipher;
  const secret = xof(
    [
      // As `lengthPrefixed`, but without a copy of the secrets.
      ...[lengthPrefix(psk), psk, lengthPrefix(sharedSecret), sharedSecret],
      labels.secret,
      ...[mode, lengthPrefix(pskId), pskId, lengthPrefix(info), info],
    ],
    keyLength + nonceLength + hashLength,
  );
  const nonceEnd = keyLength + nonceLength;
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

/** LabeledExtract("", "psk_id_hash", psk_id) of the last psk_id of each suite: mostly the next one's too. */
const PSK_ID_HASHES = new WeakMap<
  HpkeSuite,
  { readonly pskId: Uint8Array; readonly hash: Uint8Array }
>();

function pskIdHash(suite: HpkeSuite, { extract, labels }: TwoStage, pskId: Uint8Array): Uint8Array {
  const last = PSK_ID_HASHES.get(suite);
  // Public, as the psk_id itself is.
  if (last !== undefined && Buffer.compare(last.pskId, pskId) === 0) return last.hash;
  const hash = extract(NOTHING, [labels.pskIdHash, pskId]);
  PSK_ID_HASHES.set(suite, { pskId: Uint8Array.from(pskId), hash });
  return hash;
}

/** Derives each part when it is first asked for: a wrap exports nothing, and an export seals nothing. */
class TwoStageContext implements HpkeContext {
  readonly #stages: TwoStage;
  readonly #suite: HpkeSuite;
  readonly #context: readonly Uint8Array[];
  readonly #secret: SecretBytes;
  #key: SecretBytes | undefined;
  #baseNonce: Uint8Array | undefined;
  #exporterSecret: SecretBytes | undefined;

  constructor(stages: TwoStage, { suite, sharedSecret, info, mode, psk, pskId }: ScheduleInputs) {
    const { extract, labels } = stages;
    this.#stages = stages;
    this.#suite = suite;
    const infoHash = extract(NOTHING, [labels.infoHash, info]);
    this.#context = [mode, pskIdHash(suite, stages, pskId), infoHash];
    this.#secret = SecretBytes.own(extract(sharedSecret, [labels.secret, psk]));
  }

  get key(): SecretBytes {
    this.#key ??= SecretBytes.own(this.#expand('key', this.#suite.cipher.keyLength));
    return this.#key;
  }

  get baseNonce(): Uint8Array {
    this.#baseNonce ??= this.#expand('baseNonce', this.#suite.cipher.nonceLength);
    return this.#baseNonce;
  }

  get exporterSecret(): SecretBytes {
    this.#exporterSecret ??= SecretBytes.own(this.#expand('exporter', this.#stages.hashLength));
    return this.#exporterSecret;
  }

  wipe(): void {
    wipe(this.#secret, this.#key, this.#baseNonce, this.#exporterSecret);
  }

  #expand(part: 'key' | 'baseNonce' | 'exporter', length: number): Uint8Array {
    const { expand, labels } = this.#stages;
    return expand(this.#secret.reveal(), [labels[part], ...this.#context], length);
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
  const { schedule } = suite;
  return schedule.stages === 1 ? oneStage(schedule, inputs) : new TwoStageContext(schedule, inputs);
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
  { schedule, id }: HpkeSuite,
  context: HpkeContext,
  exporterContext: Uint8Array,
  length: number,
): SecretBytes {
  const exporter = context.exporterSecret.reveal();
  return SecretBytes.own(
    schedule.stages === 1
      ? schedule.xof([exporter, deriveLabel(id, EXPORT, length), exporterContext], length)
      : schedule.expand(exporter, [expandLabel(id, EXPORT, length), exporterContext], length),
  );
}
