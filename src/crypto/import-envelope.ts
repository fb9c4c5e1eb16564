/**
 * How a key travels into the service (docs/import.md). Outside an HPKE envelope to a hybrid key; inside
 * it the seed of a post-quantum key, or of a key for the HSM
 *
 *     peer(65) ‖ AES-256-KWP(wrapping key, PKCS #8 or the secret itself)
 *     wrapping key = AES-256-CBC(key = ECDH x-coordinate, iv = 0, derivation)
 *     derivation   = SHA-256("twofold/import-wrapping/1" ‖ id(16) ‖ u16 suite ‖ Q(65) ‖ peer(65))
 *
 * with Q the importing key on P-256 in the HSM. `info` of the envelope:
 *
 *     "twofold/import/1" ‖ id(16) ‖ u16 suite ‖ u16 length ‖ namespace ‖ SHA-256(public key)
 *
 * The public key is that of the imported key, raw; empty for a secret key.
 */
import { createCipheriv, createECDH, hash } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { concatBytes, lengthPrefixed, uint16, utf8 } from './bytes.ts';
import { wipe } from './secret.ts';
import { openWith, sealTo } from './single-shot.ts';
import { isHybridKem } from './suite.ts';
import { findSuiteByNumber } from './suites.ts';
import { uuidBytes } from './uuid.ts';
import type { Engine } from './engine.ts';
import type { SecretBytes } from './secret.ts';
import type { HybridKemSuite, KemHalves, Suite } from './suite.ts';

/** Length of an uncompressed point on P-256. */
export const PEER_LENGTH = 65;
const CURVE = 'prime256v1';
const IV = Buffer.alloc(16);
/** The alternative initial value of RFC 5649 section 3. */
const KWP_IV = Buffer.from('a65959a6', 'hex');
const NOTHING = new Uint8Array(0);

function hybrid(number: number): HybridKemSuite {
  const suite = findSuiteByNumber(number);
  if (!isHybridKem(suite)) throw new TypeError(`${suite.id} is no hybrid KEM`);
  return suite;
}

/** The suite of the outer envelope: MLKEM768-P256. */
export const IMPORT_ENVELOPE: HybridKemSuite = hybrid(0x0101);

/** What an import is bound to. */
export interface ImportBinding {
  /** UUID of the import parameters. */
  readonly id: string;
  readonly namespace: string;
  /** Of the key that is imported. */
  readonly suite: Suite;
  /** Raw; null for a secret key. */
  readonly publicKey: Uint8Array | null;
}

const idOf = (id: string): Uint8Array => uuidBytes(id) ?? NOTHING;

function infoOf({ id, namespace, suite, publicKey }: ImportBinding): Uint8Array {
  return concatBytes(
    utf8(NAME.importInfo),
    idOf(id),
    uint16(suite.number),
    lengthPrefixed(utf8(namespace)),
    hash('sha256', publicKey ?? NOTHING, 'buffer'),
  );
}

/** The data that becomes the wrapping key under the shared secret. */
export function derivationOf(
  { id, suite }: Pick<ImportBinding, 'id' | 'suite'>,
  importing: Uint8Array,
  peer: Uint8Array,
): Uint8Array {
  const label = utf8(NAME.importWrapping);
  const input = concatBytes(label, idOf(id), uint16(suite.number), importing, peer);
  return hash('sha256', input, 'buffer');
}

/**
 * peer ‖ wrapped, for the HSM that holds the private half of `importing`.
 * @param key PKCS #8 of a private key, or the secret itself; stays the caller's to wipe
 * @param ephemeral for vectors: the private scalar of `peer`; random unless told
 */
export function wrapForHsm(
  binding: Pick<ImportBinding, 'id' | 'suite'>,
  importing: Uint8Array,
  key: SecretBytes,
  ephemeral?: Uint8Array,
): Uint8Array {
  const ecdh = createECDH(CURVE);
  if (ephemeral === undefined) ecdh.generateKeys();
  else ecdh.setPrivateKey(ephemeral);
  const peer = ecdh.getPublicKey();
  const shared = ecdh.computeSecret(importing);
  const cbc = createCipheriv('aes-256-cbc', shared, IV).setAutoPadding(false);
  const wrapping = Buffer.concat([cbc.update(derivationOf(binding, importing, peer)), cbc.final()]);
  try {
    const kwp = createCipheriv('id-aes256-wrap-pad', wrapping, KWP_IV);
    return concatBytes(peer, kwp.update(key.reveal()), kwp.final());
  } finally {
    wipe(shared, wrapping);
  }
}

/** enc ‖ ciphertext. `content` stays the caller's to wipe. */
export const sealImport = (
  engine: Engine,
  publicKey: Uint8Array,
  binding: ImportBinding,
  content: SecretBytes,
): Promise<Uint8Array> =>
  sealTo(engine, IMPORT_ENVELOPE, publicKey, { info: infoOf(binding), content });

/** @throws TwofoldError import_invalid for what does not open; what a half rejected with */
export async function openImport(
  publicKey: Uint8Array,
  halves: KemHalves,
  binding: ImportBinding,
  envelope: Uint8Array,
): Promise<SecretBytes> {
  try {
    const info = infoOf(binding);
    return await openWith(IMPORT_ENVELOPE, publicKey, halves, { info, envelope });
  } catch (error) {
    if (!TwofoldError.is(error, 'decryption_failed')) throw error;
    throw new TwofoldError('import_invalid', 'The envelope does not open.');
  }
}
