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
import { hash } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { concatBytes, utf8 } from './bytes.ts';
import { canonicalContext } from './context.ts';
import {
  encodeEnvelope,
  encodeHeader,
  encodeKeyReference,
  HEADER_LENGTH,
  MAX_WRAP_PLAINTEXT,
} from './envelope.ts';
import { exportSecret, keySchedule, openOnce, sealOnce } from './hpke.ts';
import { wipe } from './secret.ts';
import type { WrapContext } from './context.ts';
import type { Engine } from './engine.ts';
import type { AeadEnvelope, EnvelopeHeader, KemEnvelope, KeyReference } from './envelope.ts';
import type { HpkeContext, PreSharedKey } from './hpke.ts';
import type { SecretBytes } from './secret.ts';
import type { AeadKey, AeadSuite, KemHalves, KemSuite } from './suite.ts';

const WRAP_INFO = utf8(NAME.wrapInfo);
const KEM_INFO = utf8(NAME.kemInfo);
const SHA_256_LENGTH = 32;
const NOTHING = new Uint8Array(0);

/** HPKE `info` of a wrap, or the associated data of a symmetric one. */
export function wrapInfo(header: EnvelopeHeader, context: WrapContext): Uint8Array {
  return bindingInfo(encodeHeader(header), canonicalContext(context));
}

function bindingInfo(header: Uint8Array, canonical: Uint8Array): Uint8Array {
  // Of the pool that small buffers share: it is public.
  const info = Buffer.allocUnsafe(WRAP_INFO.length + header.length + SHA_256_LENGTH);
  info.set(WRAP_INFO);
  info.set(header, WRAP_INFO.length);
  info.set(hash('sha256', canonical, 'buffer'), WRAP_INFO.length + header.length);
  return info;
}

/** HPKE `info` of an encapsulation. */
export function kemInfo(header: EnvelopeHeader): Uint8Array {
  return concatBytes(KEM_INFO, encodeHeader(header));
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

/** What is the same in all symmetric wraps under one key version, made once. */
export class SymmetricForm {
  readonly #suite: AeadSuite;
  readonly #header: Uint8Array;
  #context: Uint8Array | undefined;
  #associatedData: Uint8Array = NOTHING;

  constructor(suite: AeadSuite, { keyId, keyVersion }: KeyReference) {
    this.#suite = suite;
    this.#header = encodeHeader({ mode: 'symmetric', suite, keyId, keyVersion });
  }

  /**
   * As `wrapInfo`; the context of one wrap is mostly that of the one before it.
   * @throws TwofoldError invalid_value for a context over its limits
   */
  associatedData(context: WrapContext): Uint8Array {
    const canonical = canonicalContext(context);
    if (this.#context === undefined || Buffer.compare(this.#context, canonical) !== 0) {
      this.#associatedData = bindingInfo(this.#header, canonical);
      this.#context = canonical;
    }
    return this.#associatedData;
  }

  /** The envelope's bytes. */
  envelope(nonce: Uint8Array, ciphertext: Uint8Array, plaintextLength: number): Uint8Array {
    const { nonceLength, tagLength } = this.#suite.aead;
    if (nonce.length !== nonceLength || ciphertext.length !== plaintextLength + tagLength) {
      throw new RangeError('the AEAD key gave a nonce or ciphertext of the wrong length');
    }
    // Of the pool that small buffers share: nothing in an envelope is secret.
    const bytes = Buffer.allocUnsafe(HEADER_LENGTH + 1 + nonceLength + ciphertext.length);
    bytes.set(this.#header);
    bytes[HEADER_LENGTH] = nonceLength;
    bytes.set(nonce, HEADER_LENGTH + 1);
    bytes.set(ciphertext, HEADER_LENGTH + 1 + nonceLength);
    return bytes;
  }
}

/** Where a KEM operation reads the recipient's private side. */
export interface DecapsulateRequest extends KeyReference {
  readonly suite: KemSuite;
  readonly publicKey: Uint8Array;
  readonly halves: KemHalves;
  readonly encapsulation: Uint8Array;
}

/** What `encapsulate` answers: a 32-byte HPKE export, never the KEM secret. */
export interface Encapsulation {
  /** Owned by the caller. */
  readonly sharedSecret: SecretBytes;
  readonly encapsulation: Uint8Array;
}

const EXPORT_LENGTH = 32;

/** @throws TwofoldError invalid_value */
export function checkPlaintext(plaintext: SecretBytes): void {
  if (plaintext.length > MAX_WRAP_PLAINTEXT) {
    throw new TwofoldError('invalid_value', 'A wrap takes at most 65536 bytes.');
  }
}

function preSharedKey(secret: SecretBytes, reference: KeyReference): PreSharedKey {
  return { secret, id: encodeKeyReference(reference) };
}

/**
 * A new envelope's bytes, `psk` mode if the request has a psk.
 * @throws TwofoldError invalid_value for a context, plaintext, key reference or public key
 */
export async function sealEnvelope(engine: Engine, request: SealRequest): Promise<Uint8Array> {
  const { suite, publicKey, keyId, keyVersion, psk, context, plaintext } = request;
  checkPlaintext(plaintext);
  const mode = psk === undefined ? 'base' : 'psk';
  const header: EnvelopeHeader = { mode, suite, keyId, keyVersion };
  const info = wrapInfo(header, context);
  const { sharedSecret, encapsulation } = await suite.kem.encapsulate(engine, publicKey);
  let schedule: HpkeContext | undefined;
  try {
    schedule = keySchedule(suite.hpke, sharedSecret, info, psk && preSharedKey(psk, header));
    const ciphertext = sealOnce(suite.hpke, schedule, plaintext);
    return encodeEnvelope({ keyId, keyVersion, mode, suite, encapsulation, ciphertext });
  } finally {
    wipe(sharedSecret);
    schedule?.wipe();
  }
}

/** The psk of a `psk` envelope; a `base` envelope is never opened with one. */
function pskFor(envelope: KemEnvelope, psk: SecretBytes | undefined): PreSharedKey | undefined {
  if (envelope.mode === 'base') return undefined;
  if (psk !== undefined) return preSharedKey(psk, envelope);
  throw new TwofoldError('internal', undefined, {
    cause: new Error('a psk envelope is to be opened without the psk of its key version'),
  });
}

/**
 * The plaintext, owned by the caller. Whether the envelope names the right key and version is the
 * caller's check, made before; the public key and halves given are those of that version.
 * @throws TwofoldError decryption_failed; invalid_value for a context over its limits
 */
export async function openEnvelope(
  envelope: KemEnvelope,
  request: OpenRequest,
): Promise<SecretBytes> {
  const { suite, encapsulation, ciphertext } = envelope;
  const info = wrapInfo(envelope, request.context);
  const psk = pskFor(envelope, request.psk);
  const sharedSecret = await suite.kem.decapsulate(
    encapsulation,
    request.publicKey,
    request.halves,
  );
  let schedule: HpkeContext | undefined;
  try {
    schedule = keySchedule(suite.hpke, sharedSecret, info, psk);
    return openOnce(suite.hpke, schedule, ciphertext);
  } finally {
    wipe(sharedSecret);
    schedule?.wipe();
  }
}

/**
 * A new envelope under a symmetric key.
 * @throws TwofoldError invalid_value; what the key rejects with
 */
export async function sealSymmetric(request: SymmetricSealRequest): Promise<Uint8Array> {
  const { suite, key, context, plaintext } = request;
  checkPlaintext(plaintext);
  const form = new SymmetricForm(suite, request);
  const associatedData = form.associatedData(context);
  const { nonce, ciphertext } = await key.encrypt(plaintext.reveal(), associatedData);
  return form.envelope(nonce, ciphertext, plaintext.length);
}

/**
 * The plaintext, owned by the caller.
 * @throws TwofoldError decryption_failed; invalid_value for a context over its limits
 */
export async function openSymmetric(
  envelope: AeadEnvelope,
  { key, context }: { readonly key: AeadKey; readonly context: WrapContext },
): Promise<SecretBytes> {
  const associatedData = wrapInfo(envelope, context);
  return key.decrypt(envelope.nonce, envelope.ciphertext, associatedData);
}

/** HPKE's export for a key of purpose `kem`: mode base, empty exporter context, 32 bytes. */
function exportFor(suite: KemSuite, reference: KeyReference, kemSecret: SecretBytes): SecretBytes {
  const { keyId, keyVersion } = reference;
  const info = kemInfo({ mode: 'base', suite, keyId, keyVersion });
  const schedule = keySchedule(suite.hpke, kemSecret, info);
  try {
    return exportSecret(suite.hpke, schedule, NOTHING, EXPORT_LENGTH);
  } finally {
    schedule.wipe();
  }
}

/**
 * A fresh shared secret and its encapsulation to a key version.
 * @throws TwofoldError invalid_value
 */
export async function encapsulateKey(
  engine: Engine,
  request: KeyReference & { readonly suite: KemSuite; readonly publicKey: Uint8Array },
): Promise<Encapsulation> {
  const { suite, publicKey } = request;
  const { sharedSecret, encapsulation } = await suite.kem.encapsulate(engine, publicKey);
  try {
    return { sharedSecret: exportFor(suite, request, sharedSecret), encapsulation };
  } finally {
    wipe(sharedSecret);
  }
}

/**
 * The 32-byte secret of an encapsulation, owned by the caller. ML-KEM rejects implicitly: a changed
 * encapsulation mostly gives another secret, not an error.
 * @throws TwofoldError decryption_failed for a wrong length or point
 */
export async function decapsulateKey(request: DecapsulateRequest): Promise<SecretBytes> {
  const { suite, publicKey, halves, encapsulation } = request;
  const sharedSecret = await suite.kem.decapsulate(encapsulation, publicKey, halves);
  try {
    return exportFor(suite, request, sharedSecret);
  } finally {
    wipe(sharedSecret);
  }
}
