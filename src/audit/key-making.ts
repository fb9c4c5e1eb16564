/**
 * Makes the pair of keys that a zone signs checkpoints with: Ed25519 in the token, ML-DSA-44 in
 * software and sealed. A token without Ed25519 gets a sealed one: the log says so of each key.
 */
import { createPrivateKey, createPublicKey, randomUUID } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { Signatures } from '../crypto/engine.ts';
import { concatBytes } from '../crypto/bytes.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import type { Hsm, HsmKeySpec } from '../hsm/port.ts';
import type { LogKey, LogSeals, LogTokenIntents } from './key-ports.ts';

export const ED25519: HsmKeySpec = { kind: 'ed25519', use: 'sign' };
const SEED_LENGTH = 32;
/** PrivateKeyInfo of an Ed25519 seed, which follows (RFC 8410 section 7). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** The caller wipes `seed`. */
export const ed25519Key = (seed: SecretBytes): KeyObject => {
  const der = concatBytes(PKCS8_PREFIX, seed.reveal());
  try {
    return createPrivateKey({ key: Buffer.from(der.buffer), format: 'der', type: 'pkcs8' });
  } finally {
    wipe(der);
  }
};

const ed25519PublicKey = (key: KeyObject): Uint8Array => {
  const { x = '' } = createPublicKey(key).export({ format: 'jwk' });
  return Uint8Array.from(Buffer.from(x, 'base64url'));
};

export interface MakingParts {
  readonly hsm: Pick<Hsm, 'status' | 'generate' | 'destroyTokenKey' | 'random'>;
  readonly signatures: Pick<Signatures, 'generate'>;
  readonly seals: LogSeals;
  readonly intents: LogTokenIntents;
  readonly zone: string;
  readonly clock: () => Date;
}

/** A pair that is nobody's yet. */
export interface MadePair {
  readonly keys: readonly LogKey[];
  /** The intent to complete with the rows; null where no token object was made. */
  readonly objectId: Uint8Array | null;
  /** Never rejects: what it could not remove, the intent names for the next start. */
  readonly discard: () => Promise<void>;
}

/** @param pinned whether it begins to sign without an announcement */
export const makePair = async (
  parts: MakingParts,
  state: 'pending' | 'active',
  pinned: boolean,
): Promise<MadePair> => {
  const at = parts.clock();
  const common = {
    ...{ zone: parts.zone, state, pinned, announced: null, revision: 1 },
    ...{ createdAt: at, activatedAt: state === 'active' ? at : null, retiredAt: null },
  };
  const classical = await makeEd25519(parts);
  try {
    const pq = await makeMlDsa(parts);
    const keys = [
      { ...common, ...classical.key, kind: 'ed25519' as const },
      { ...common, ...pq, kind: 'ml-dsa-44' as const },
    ];
    return { keys, objectId: classical.objectId, discard: classical.discard };
  } catch (error) {
    await classical.discard();
    throw error;
  }
};

type Half = Pick<LogKey, 'id' | 'publicKey' | 'material'>;

interface MadeEd25519 {
  readonly key: Half;
  readonly objectId: Uint8Array | null;
  readonly discard: () => Promise<void>;
}

const makeEd25519 = (parts: MakingParts): Promise<MadeEd25519> => {
  const { capabilities } = parts.hsm.status();
  const onToken = capabilities.some(({ name, available }) => name === 'ed25519' && available);
  return onToken ? makeOnToken(parts) : makeSealed(parts);
};

const makeOnToken = async ({ hsm, intents }: MakingParts): Promise<MadeEd25519> => {
  const id = randomUUID();
  const objectId = await intents.toMake(id);
  const made = await hsm.generate(ED25519, { custody: 'hsm-token', objectId });
  const discard = async () => {
    try {
      if (made.custody === 'hsm-token') await hsm.destroyTokenKey(made);
      await intents.drop(objectId);
    } catch {
      // The intent stays, and with it the knowledge of what to remove.
    }
  };
  if (made.custody !== 'hsm-token') throw new Error('a token key was asked for');
  const { check: publicKey, ...material } = made;
  return { key: { id, publicKey, material }, objectId, discard };
};

const makeSealed = async ({ hsm, seals }: MakingParts): Promise<MadeEd25519> => {
  const id = randomUUID();
  const seed = SecretBytes.own(await hsm.random(SEED_LENGTH));
  try {
    const publicKey = ed25519PublicKey(ed25519Key(seed));
    const material = await seals.seal(seed, id);
    const discard = () => Promise.resolve();
    return { key: { id, publicKey, material }, objectId: null, discard };
  } finally {
    wipe(seed);
  }
};

const makeMlDsa = async ({ signatures, seals }: MakingParts): Promise<Half> => {
  const id = randomUUID();
  const { seed, publicKey } = await signatures.generate('ML-DSA-44');
  try {
    return { id, publicKey, material: await seals.seal(seed, id) };
  } finally {
    wipe(seed);
  }
};
