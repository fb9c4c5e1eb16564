/** The two keys that a zone signs with now, ready for use. */
import { createPublicKey, sign as signWith, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { SigningKey, Signatures } from '../crypto/engine.ts';
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm } from '../hsm/port.ts';
import { ED25519, ed25519Key } from './key-making.ts';
import type { LogKey, LogSeals } from './key-ports.ts';
import { vkeyOf } from './log-vkeys.ts';
import { formatCheckpoint } from './tree/checkpoint.ts';
import { formatNote } from './tree/note.ts';
import { signText } from './tree/signatures.ts';

const NO_CONTEXT = new Uint8Array(0);

export interface SigningParts {
  readonly hsm: Pick<Hsm, 'sign'>;
  readonly signatures: Pick<Signatures, 'importSeed' | 'verify'>;
  readonly seals: LogSeals;
  readonly clock: () => Date;
}

/** Ed25519 over bytes; the key is where its row says. */
type Ed25519Signer = (message: Uint8Array) => Promise<Uint8Array>;

const seedOf = (key: LogKey) => {
  if (key.material?.custody === 'sealed') return key.material;
  throw new TwofoldError('integrity_failed', 'A key of the log has no sealed seed.');
};

const openEd25519 = async (parts: SigningParts, key: LogKey): Promise<Ed25519Signer> => {
  const { id, material, publicKey } = key;
  if (material?.custody === 'hsm-token') {
    const inToken = { id: `log/${id}`, spec: ED25519, material: { ...material, check: publicKey } };
    return (message) => parts.hsm.sign(inToken, message);
  }
  const seed = await parts.seals.unseal(seedOf(key), id);
  try {
    const inMemory = ed25519Key(seed);
    return (message) => Promise.resolve(signWith(null, message, inMemory));
  } finally {
    wipe(seed);
  }
};

const publicKeyObject = ({ publicKey }: LogKey): KeyObject => {
  const x = Buffer.from(publicKey).toString('base64url');
  return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
};

const faulty = () =>
  new TwofoldError('hsm_unavailable', 'A signature of the log did not verify; it is not used.');

export class SigningPair {
  readonly ed25519: LogKey;
  readonly mlDsa: LogKey;
  readonly #parts: SigningParts;
  readonly #ed25519: Ed25519Signer;
  readonly #ed25519Public: KeyObject;
  readonly #mlDsa: SigningKey;

  private constructor(
    parts: SigningParts,
    keys: { readonly ed25519: LogKey; readonly mlDsa: LogKey },
    opened: { readonly ed25519: Ed25519Signer; readonly mlDsa: SigningKey },
  ) {
    this.#parts = parts;
    this.ed25519 = keys.ed25519;
    this.mlDsa = keys.mlDsa;
    this.#ed25519 = opened.ed25519;
    this.#ed25519Public = publicKeyObject(keys.ed25519);
    this.#mlDsa = opened.mlDsa;
  }

  /** @throws TwofoldError zone_lacks_material, hsm_unavailable, integrity_failed */
  static async open(
    parts: SigningParts,
    keys: { readonly ed25519: LogKey; readonly mlDsa: LogKey },
  ): Promise<SigningPair> {
    const ed25519 = await openEd25519(parts, keys.ed25519);
    const seed = await parts.seals.unseal(seedOf(keys.mlDsa), keys.mlDsa.id);
    try {
      const mlDsa = parts.signatures.importSeed('ML-DSA-44', seed);
      return new SigningPair(parts, keys, { ed25519, mlDsa });
    } finally {
      wipe(seed);
    }
  }

  /** The seed leaves memory; a signature under way ends with an error. */
  release(): void {
    this.#mlDsa.release();
  }

  /** 64 bytes; a faulty signature could give the key away, so none leaves unverified. */
  async signEd25519(message: Uint8Array): Promise<Uint8Array> {
    const signature = await this.#ed25519(message);
    if (!verify(null, message, this.#ed25519Public, signature)) throw faulty();
    return signature;
  }

  /** The signed note of a checkpoint: a line of each key, the name of both is the origin. */
  async note(origin: string, size: number, root: Uint8Array): Promise<string> {
    const text = formatCheckpoint({ origin, size, root });
    const seconds = Math.floor(this.#parts.clock().getTime() / 1000);
    const signatures = await Promise.all([
      signText(text, vkeyOf(origin, this.ed25519), 0, (message) => this.signEd25519(message)),
      signText(text, vkeyOf(origin, this.mlDsa), seconds, (message) => this.#cosign(message)),
    ]);
    return formatNote({ text, signatures });
  }

  /** Both signatures of a statement that begins with a label of its own, as no note does. */
  async statement(
    message: Uint8Array,
  ): Promise<{ readonly ed25519: Uint8Array; readonly mlDsa: Uint8Array }> {
    const [ed25519, mlDsa] = await Promise.all([this.signEd25519(message), this.#cosign(message)]);
    return { ed25519, mlDsa };
  }

  async #cosign(message: Uint8Array): Promise<Uint8Array> {
    const signature = await this.#mlDsa.sign(message, NO_CONTEXT);
    const { signatures } = this.#parts;
    const { publicKey } = this.mlDsa;
    if (await signatures.verify('ML-DSA-44', publicKey, message, signature, NO_CONTEXT)) {
      return signature;
    }
    throw faulty();
  }
}
