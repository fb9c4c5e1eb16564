/**
 * Import parameters: a hybrid key for one import, and for the HSM's half a second key on P-256. They are kept
 * in no table: who asked for them brings them along, sealed under `root-seal`, and only that they were used
 * is written down, with the key that they brought.
 *
 *     text   = base64url(u8 1 ‖ id(16) ‖ u16 suite ‖ u32 root generation ‖ sealed)
 *     sealed = root-seal of: u64 expiry ms ‖ lp(namespace) ‖ lp(ML-KEM seed) ‖ key [‖ key]
 *     key    = u32 root generation ‖ lp(blob) ‖ lp(check)
 *
 * lp is a u16 length prefix. The seal binds id and suite. The second key is there where the suite has a
 * half in the HSM.
 */
import { randomUUID } from 'node:crypto';

import { checkPublicKey } from '../crypto/curve.ts';
import { concatBytes, lengthPrefixed, uint16, uint32, utf8 } from '../crypto/bytes.ts';
import type { Engine } from '../crypto/engine.ts';
import type { HsmKeySpec } from '../crypto/hsm-key.ts';
import {
  IMPORT_ENVELOPE,
  derivationOf,
  openImport,
  PEER_LENGTH,
} from '../crypto/import-envelope.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import type { HybridKemSuite, Suite } from '../crypto/suite.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { uuidBytes, uuidText } from '../crypto/uuid.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm, HsmKey, HsmMaterial, WrappedImport, WrappedMaterial } from '../hsm/port.ts';
import type { Root } from './root.ts';

const FORMAT = 1;
export const IMPORT_LIFETIME_MS = 3_600_000;
const ID_BYTES = 16;
const PREFIX_BYTES = 1 + ID_BYTES + 2 + 4;
const IMPORTING = { kind: 'ec', curve: 'P-256', use: 'derive' } as const satisfies HsmKeySpec;
const TEXT = /^[A-Za-z0-9_-]{1,4096}$/u;

export interface ImportParts {
  readonly hsm: Hsm;
  readonly engine: Engine;
  readonly root: Root;
}

/** What an importer is given; nothing of it is secret. */
export interface ImportParameters {
  readonly id: string;
  readonly suite: Suite;
  /** To be sent back with the import. */
  readonly text: string;
  readonly envelope: HybridKemSuite;
  /** Of the envelope's suite, raw. */
  readonly publicKey: Uint8Array;
  /** On P-256, raw; null where the suite has no half in the HSM. */
  readonly importing: Uint8Array | null;
  readonly expiresAt: Date;
}

/** Parameters that came back, opened. */
export interface OpenedParameters {
  readonly id: string;
  readonly suite: Suite;
  readonly namespace: string;
  readonly expiresAt: Date;
  readonly seed: SecretBytes;
  readonly envelopeKey: WrappedMaterial;
  readonly importing: WrappedMaterial | null;
}

const invalid = () => new TwofoldError('import_parameters_invalid');

function requireWrapped(material: HsmMaterial): WrappedMaterial {
  if (material.custody === 'hsm-wrapped') return material;
  throw new TwofoldError('internal');
}

async function newKey({ hsm }: ImportParts, spec: HsmKeySpec): Promise<WrappedMaterial> {
  return requireWrapped(await hsm.generate(spec, { custody: 'hsm-wrapped' }));
}

const keyBytes = ({ generation, blob, check }: WrappedMaterial): Uint8Array =>
  concatBytes(uint32(generation), lengthPrefixed(blob), lengthPrefixed(check));

/** Makes parameters that nobody keeps. */
export async function makeParameters(
  parts: ImportParts,
  { namespace, suite, now }: { namespace: string; suite: Suite; now: Date },
): Promise<ImportParameters> {
  const { engine, root } = parts;
  const id = randomUUID();
  const envelopeKey = await newKey(parts, IMPORT_ENVELOPE.hsm);
  const importing = suite.hsm === null ? null : await newKey(parts, IMPORTING);
  const expiresAt = new Date(now.getTime() + IMPORT_LIFETIME_MS);
  const pair = await engine.mlKem.generate(IMPORT_ENVELOPE.pq);
  const expiry = Buffer.alloc(8);
  expiry.writeBigUInt64BE(BigInt(expiresAt.getTime()));
  const content = SecretBytes.own(
    concatBytes(
      expiry,
      lengthPrefixed(utf8(namespace)),
      lengthPrefixed(pair.seed.reveal()),
      keyBytes(envelopeKey),
      ...(importing === null ? [] : [keyBytes(importing)]),
    ),
  );
  try {
    const half = await root.seal(content, bindingOf(id, suite.number));
    const text = concatBytes(
      Uint8Array.of(FORMAT),
      uuidBytes(id) ?? Buffer.alloc(0),
      uint16(suite.number),
      uint32(half.generation),
      half.sealed,
    );
    return {
      id,
      suite,
      envelope: IMPORT_ENVELOPE,
      text: Buffer.from(text).toString('base64url'),
      publicKey: IMPORT_ENVELOPE.kem.joinPublicKey(engine, {
        pq: pair.publicKey,
        classical: envelopeKey.check,
      }),
      importing: importing?.check ?? null,
      expiresAt,
    };
  } finally {
    wipe(pair.seed, content);
  }
}

const bindingOf = (keyId: string, suite: number) =>
  ({ keyId, version: 0, suite, part: 'import' }) as const;

/** Reads what `makeParameters` wrote; it was authenticated, so what does not fit is a fault. */
class Fields {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw invalid();
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }

  prefixed(): Buffer {
    return this.take(this.take(2).readUInt16BE());
  }

  key(): WrappedMaterial {
    const generation = this.take(4).readUInt32BE();
    const [blob, check] = [Uint8Array.from(this.prefixed()), Uint8Array.from(this.prefixed())];
    return { custody: 'hsm-wrapped', generation, blob, check };
  }
}

/**
 * The caller wipes `seed`.
 * @throws TwofoldError import_parameters_invalid for what was not made here, or for another namespace
 *   or suite; import_parameters_expired
 */
export async function openParameters(
  { root }: Pick<ImportParts, 'root'>,
  text: string,
  wanted: { readonly namespace: string; readonly suite: Suite; readonly now: Date },
): Promise<OpenedParameters> {
  const bytes = Buffer.from(text, 'base64url');
  const canonical = TEXT.test(text) && bytes.toString('base64url') === text;
  if (!canonical || bytes.length <= PREFIX_BYTES || bytes[0] !== FORMAT) throw invalid();
  const prefix = new Fields(bytes.subarray(1, PREFIX_BYTES));
  const id = uuidText(prefix.take(ID_BYTES));
  const number = prefix.take(2).readUInt16BE();
  const generation = prefix.take(4).readUInt32BE();
  const sealed = Uint8Array.from(bytes.subarray(PREFIX_BYTES));
  const half = { custody: 'sealed', generation, sealed } as const;
  const content = await root.unseal(half, bindingOf(id, number)).catch((error: unknown) => {
    const foreign = ['integrity_failed', 'zone_lacks_material'] as const;
    throw foreign.some((code) => TwofoldError.is(error, code)) ? invalid() : error;
  });
  try {
    const opened = readContent(new Fields(content.reveal()), { id, number });
    if (opened.namespace !== wanted.namespace || opened.suite.number !== wanted.suite.number) {
      wipe(opened.seed);
      throw invalid();
    }
    if (opened.expiresAt > wanted.now) return opened;
    wipe(opened.seed);
    throw new TwofoldError('import_parameters_expired');
  } finally {
    wipe(content);
  }
}

function readContent(
  fields: Fields,
  { id, number }: { readonly id: string; readonly number: number },
): OpenedParameters {
  const suite = findSuiteByNumber(number);
  const expiresAt = new Date(Number(fields.take(8).readBigUInt64BE()));
  const namespace = fields.prefixed().toString('utf8');
  const seed = SecretBytes.copyOf(fields.prefixed());
  const envelopeKey = fields.key();
  const importing = fields.atEnd ? null : fields.key();
  return { id, suite, namespace, expiresAt, seed, envelopeKey, importing };
}

/**
 * The content of an envelope; the caller wipes it.
 * @throws TwofoldError import_invalid
 */
export async function openContent(
  { hsm, engine }: ImportParts,
  opened: OpenedParameters,
  { envelope, publicKey }: { readonly envelope: Uint8Array; readonly publicKey: Uint8Array | null },
): Promise<SecretBytes> {
  const { id, seed, envelopeKey } = opened;
  const key: HsmKey = {
    id: `import/${id}/envelope`,
    spec: IMPORT_ENVELOPE.hsm,
    material: envelopeKey,
  };
  const pq = engine.mlKem.importSeed(IMPORT_ENVELOPE.pq, seed);
  try {
    const halves = {
      pq: engine.mlKem.publicKey(IMPORT_ENVELOPE.pq, seed),
      classical: envelopeKey.check,
    };
    return await openImport(
      IMPORT_ENVELOPE.kem.joinPublicKey(engine, halves),
      {
        pq: (ciphertext) => pq.decapsulate(ciphertext),
        classical: (ciphertext) => hsm.ecdh(key, ciphertext),
      },
      { ...opened, publicKey },
      envelope,
    );
  } finally {
    pq.release();
    await hsm.forget(key.id);
  }
}

/**
 * What the HSM is asked to open: peer ‖ blob.
 * @throws TwofoldError import_invalid
 */
export function toUnwrap(
  { id, suite, importing }: OpenedParameters,
  content: Uint8Array,
  publicKey: Uint8Array | null,
): WrappedImport {
  if (importing === null) throw invalid();
  if (content.length <= PEER_LENGTH) {
    throw new TwofoldError('import_invalid', 'The envelope holds no wrapped key.');
  }
  const peer = Uint8Array.from(content.subarray(0, PEER_LENGTH));
  try {
    checkPublicKey(IMPORTING.curve, peer);
  } catch (cause) {
    const detail = 'The ephemeral key before the wrapped key is no point of P-256.';
    throw new TwofoldError('import_invalid', detail, { cause });
  }
  return {
    key: { id: `import/${id}/importing`, spec: IMPORTING, material: importing },
    peer,
    derivation: derivationOf({ id, suite }, importing.check, peer),
    blob: Uint8Array.from(content.subarray(PEER_LENGTH)),
    publicKey,
  };
}
