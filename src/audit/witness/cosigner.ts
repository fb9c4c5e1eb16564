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
import { ed25519Key } from '../key-making.ts';
import type { LogSeals, SealedSeed } from '../key-ports.ts';
import type { CheckpointNote } from '../notes.ts';
import { formatSignature } from '../tree/note.ts';
import { signText } from '../tree/signatures.ts';
import { SIGNATURE_TYPE, formatVkey, makeVkey } from '../tree/vkey.ts';
import type { Cosigner } from './witness.ts';

const FILE = 'keys.json';
const SEED_LENGTH = 32;
const NO_CONTEXT = new Uint8Array(0);

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
  const { ed25519Cosignature, mlDsa44Cosignature } = SIGNATURE_TYPE;
  const classical = makeVkey(name, ed25519Cosignature, stored.ed25519.publicKey);
  const pq = makeVkey(name, mlDsa44Cosignature, stored.mlDsa.publicKey);
  return {
    vkeys: [formatVkey(classical), formatVkey(pq)],
    cosign: async ({ note: { text } }: CheckpointNote) => {
      const seconds = Math.floor(clock().getTime() / 1000);
      const signatures = await Promise.all([
        signText(text, classical, seconds, (message) => sign(null, message, opened.ed25519)),
        signText(text, pq, seconds, (message) => opened.mlDsa.sign(message, NO_CONTEXT)),
      ]);
      return signatures.map(formatSignature).join('');
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
