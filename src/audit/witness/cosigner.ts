/**
 * The keys that a witness cosigns with: Ed25519 (type 0x04) and ML-DSA-44 (type 0x06), made once for
 * the folder that holds what it cosigned, and sealed there under `root-seal`. They belong to that folder
 * because two states under one key could cosign two histories of one log.
 */
import { createPublicKey, randomUUID, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { link, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SigningKey, Signatures } from '../../crypto/engine.ts';
import { equalBytes } from '../../crypto/bytes.ts';
import { SecretBytes, wipe } from '../../crypto/secret.ts';
import { TwofoldError } from '../../errors.ts';
import type { Hsm } from '../../hsm/port.ts';
import {
  cosignedBytes,
  keyIdOf,
  signatureLine,
  timedSignature,
  vkeyOfType,
} from '../checkpoint-text.ts';
import { ed25519Key } from '../key-making.ts';
import type { LogSeals, SealedSeed } from '../key-ports.ts';
import type { CheckpointNote } from '../notes.ts';
import type { Cosigner } from './witness.ts';

const FILE = 'keys.json';
const SEED_LENGTH = 32;
const NO_CONTEXT = new Uint8Array(0);
const ED25519 = 0x04;
const ML_DSA_44 = 0x06;

export interface CosignerParts {
  readonly folder: string;
  readonly name: string;
  readonly hsm: Pick<Hsm, 'random'>;
  readonly engine: { readonly signatures: Pick<Signatures, 'publicKey' | 'importSeed'> };
  readonly seals: LogSeals;
  readonly clock?: () => Date;
}

interface StoredKey {
  readonly id: string;
  readonly publicKey: Uint8Array;
  readonly seed: SealedSeed;
}

interface StoredKeys {
  readonly ed25519: StoredKey;
  readonly mlDsa: StoredKey;
}

/** @throws TwofoldError integrity_failed when the file was altered or is sealed under another root */
export const openCosigner = async (parts: CosignerParts): Promise<Cosigner> => {
  const file = join(parts.folder, FILE);
  if ((await readKeys(file)) === null) await makeKeys(parts, file);
  const stored = await readKeys(file);
  if (stored === null) throw altered();
  const ed25519 = await withSeed(parts, stored.ed25519, (seed) => {
    const key = ed25519Key(seed);
    if (!equalBytes(rawPublicKey(key), stored.ed25519.publicKey)) throw altered();
    return Promise.resolve(key);
  });
  const mlDsa = await withSeed(parts, stored.mlDsa, async (seed) => {
    const { signatures } = parts.engine;
    const publicKey = await signatures.publicKey('ML-DSA-44', seed);
    if (!equalBytes(publicKey, stored.mlDsa.publicKey)) throw altered();
    return signatures.importSeed('ML-DSA-44', seed);
  });
  return cosignerOf(parts, stored, { ed25519, mlDsa });
};

const cosignerOf = (
  { name, clock = () => new Date() }: CosignerParts,
  stored: StoredKeys,
  opened: { readonly ed25519: KeyObject; readonly mlDsa: SigningKey },
): Cosigner => {
  const classical = keyIdOf(name, ED25519, stored.ed25519.publicKey);
  const pq = keyIdOf(name, ML_DSA_44, stored.mlDsa.publicKey);
  return {
    vkeys: [
      vkeyOfType(name, ED25519, stored.ed25519.publicKey),
      vkeyOfType(name, ML_DSA_44, stored.mlDsa.publicKey),
    ],
    cosign: async ({ text, checkpoint }: CheckpointNote) => {
      const seconds = Math.floor(clock().getTime() / 1000);
      const head = `cosignature/v1\ntime ${String(seconds)}\n`;
      const ed25519 = sign(null, Buffer.from(`${head}${text}`, 'utf8'), opened.ed25519);
      const message = cosignedBytes(name, seconds, checkpoint);
      const mlDsa = await opened.mlDsa.sign(message, NO_CONTEXT);
      return [
        signatureLine(name, classical, timedSignature(seconds, ed25519)),
        signatureLine(name, pq, timedSignature(seconds, mlDsa)),
      ].join('');
    },
  };
};

const rawPublicKey = (key: KeyObject): Uint8Array => {
  const { x = '' } = createPublicKey(key).export({ format: 'jwk' });
  return Uint8Array.from(Buffer.from(x, 'base64url'));
};

const withSeed = async <T>(
  { seals }: CosignerParts,
  { seed, id }: StoredKey,
  use: (seed: SecretBytes) => Promise<T>,
): Promise<T> => {
  const opened = await seals.unseal(seed, id);
  try {
    return await use(opened);
  } finally {
    wipe(opened);
  }
};

/** Whoever has the name first has made the keys; the others read them. */
const makeKeys = async (parts: CosignerParts, file: string): Promise<void> => {
  const { signatures } = parts.engine;
  const ed25519 = await makeKey(parts, (seed) => Promise.resolve(rawPublicKey(ed25519Key(seed))));
  const mlDsa = await makeKey(parts, (seed) => signatures.publicKey('ML-DSA-44', seed));
  const temporary = `${file}.${randomUUID()}.new`;
  try {
    const text = JSON.stringify({ format: 1, ed25519, mlDsa });
    await writeFile(temporary, `${text}\n`, { mode: 0o600, flag: 'wx', flush: true });
    await link(temporary, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(temporary, { force: true });
  }
};

interface WrittenKey {
  readonly id: string;
  readonly publicKey: string;
  readonly generation: number;
  readonly sealed: string;
}

const makeKey = async (
  { hsm, seals }: CosignerParts,
  publicKeyOf: (seed: SecretBytes) => Promise<Uint8Array>,
): Promise<WrittenKey> => {
  const id = randomUUID();
  const seed = SecretBytes.own(await hsm.random(SEED_LENGTH));
  try {
    const publicKey = Buffer.from(await publicKeyOf(seed)).toString('base64');
    const { generation, sealed } = await seals.seal(seed, id);
    return { id, publicKey, generation, sealed: Buffer.from(sealed).toString('base64') };
  } finally {
    wipe(seed);
  }
};

const altered = () => new TwofoldError('integrity_failed', "The witness's keys were altered.");

/** Null where there is no such file. */
const readKeys = async (file: string): Promise<StoredKeys | null> => {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  });
  if (text === null) return null;
  try {
    const { ed25519, mlDsa } = JSON.parse(text) as Record<'ed25519' | 'mlDsa', WrittenKey>;
    return { ed25519: storedKey(ed25519), mlDsa: storedKey(mlDsa) };
  } catch (error) {
    throw new TwofoldError('integrity_failed', "The witness's keys were altered.", {
      cause: error,
    });
  }
};

const bytes = (base64: string): Uint8Array => Uint8Array.from(Buffer.from(base64, 'base64'));

const storedKey = ({ id, publicKey, generation, sealed }: WrittenKey): StoredKey => ({
  id,
  publicKey: bytes(publicKey),
  seed: { custody: 'sealed', generation, sealed: bytes(sealed) },
});
