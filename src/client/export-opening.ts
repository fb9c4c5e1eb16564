/** An export from its recipient's side (docs/export.md): what the service answered, opened with two private keys. */
import { createPublicKey, diffieHellman } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import { exportKey } from '../contract/exports.ts';
import { couldNameKey, isUuid } from '../contract/scalars.ts';
import { decodeBase64 } from '../crypto/base64.ts';
import { concatBytes, equalBytes } from '../crypto/bytes.ts';
import { openExport, recipientFingerprint } from '../crypto/export-envelope.ts';
import type { ExportRecipient } from '../crypto/export-envelope.ts';
import { nativeEngine } from '../crypto/native-engine.ts';
import { encodePem } from '../crypto/pem.ts';
import { writePrivateKey } from '../crypto/private-key.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import { isHybridKem } from '../crypto/suite.ts';
import type { HybridKemSuite, KemHalves, Suite } from '../crypto/suite.ts';
import { SUITES } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { ClientError, parsedAs } from './client-error.ts';
import { publicKeyOf, seedOf, suiteOf } from './key-import.ts';

/** The private halves of a recipient: a key of ML-KEM with its seed, and one on its curve. */
export interface RecipientKeys {
  readonly mlKem: KeyObject;
  readonly classical: KeyObject;
}

const refuse = (what: string) => new ClientError('key_unfit', what);

/** Node's names of the classical half: type of the key, and its curve. */
const GROUPS: Readonly<Record<string, readonly [string, string | undefined]>> = {
  'P-256': ['ec', 'prime256v1'],
  'P-384': ['ec', 'secp384r1'],
  X25519: ['x25519', undefined],
};

const groupOf = ({ hsm }: HybridKemSuite): string => (hsm.kind === 'ec' ? hsm.curve : 'X25519');

function isOf(suite: HybridKemSuite, { mlKem, classical }: RecipientKeys): boolean {
  const [type, curve] = GROUPS[groupOf(suite)] ?? [];
  return (
    mlKem.asymmetricKeyType === suite.pq.toLowerCase() &&
    classical.asymmetricKeyType === type &&
    classical.asymmetricKeyDetails?.namedCurve === curve
  );
}

/**
 * The one hybrid suite that the keys make together, and their public key.
 * @throws ClientError key_unfit
 */
export function recipientOf(keys: RecipientKeys): ExportRecipient {
  const suite = Object.values(SUITES).find((row) => isHybridKem(row) && isOf(row, keys));
  if (suite === undefined || !isHybridKem(suite)) {
    throw refuse('The two keys do not make one of a hybrid suite.');
  }
  const seed = seedOf(suite, keys.mlKem);
  try {
    const pq = nativeEngine.mlKem.publicKey(suite.pq, seed);
    const spki = createPublicKey(keys.classical).export({ format: 'der', type: 'spki' });
    const { classical } = suite.kem.splitPublicKey(
      concatBytes(pq, spki.subarray(-(suite.kem.lengths.publicKey - pq.length))),
    );
    return { suite, publicKey: suite.kem.joinPublicKey(nativeEngine, { pq, classical }) };
  } finally {
    wipe(seed);
  }
}

/** What a request for an export names, and what an approver compares. */
export const describeRecipient = (recipient: ExportRecipient) => ({
  suite: recipient.suite.id,
  publicKey: Buffer.from(recipient.publicKey).toString('base64'),
  fingerprint: Buffer.from(recipientFingerprint(recipient)).toString('hex'),
});

function halvesOf(suite: HybridKemSuite, keys: RecipientKeys, seed: SecretBytes) {
  const pq = nativeEngine.mlKem.importSeed(suite.pq, seed);
  const [asymmetricKeyType = '', namedCurve] = GROUPS[groupOf(suite)] ?? [];
  const halves: KemHalves = {
    pq: (ciphertext) => pq.decapsulate(ciphertext),
    classical: (ciphertext) => {
      const key = Buffer.from(ciphertext);
      const raw = { key, format: 'raw-public', asymmetricKeyType } as const;
      const peer = createPublicKey(
        (namedCurve === undefined ? raw : { ...raw, namedCurve }) as Parameters<
          typeof createPublicKey
        >[0],
      );
      const shared = diffieHellman({ privateKey: keys.classical, publicKey: peer });
      return Promise.resolve(SecretBytes.own(shared));
    },
  };
  return { halves, release: () => pq.release() };
}

/** A key that arrived. */
export interface Opened {
  readonly keyId: string;
  /** Its name as the service says it, which the envelope does not bind. */
  readonly key: string;
  readonly version: number;
  readonly suite: string;
  /** PKCS #8 as PEM. The caller wipes it. */
  readonly content: SecretBytes;
}

/**
 * @param answer JSON of what the service answered
 * @throws ClientError unexpected_answer, key_unfit for another recipient's keys, decryption_failed
 */
export async function openExported(answer: unknown, keys: RecipientKeys): Promise<Opened> {
  const parsed = exportKey.response.safeParse(answer);
  if (!parsed.success || parsed.data.envelope === null) {
    throw new ClientError('unexpected_answer', 'This is no export of a key.');
  }
  const { key, keyId, keyVersion: version, namespace, suite: id, envelope, ...rest } = parsed.data;
  // Both are shown to people.
  if (!couldNameKey(key) || !isUuid(keyId)) {
    throw new ClientError('unexpected_answer', 'It names no key.');
  }
  const recipient = recipientOf(keys);
  const { fingerprint } = describeRecipient(recipient);
  if (fingerprint !== rest.recipient.fingerprint) {
    throw refuse(`The export is for another recipient, ${rest.recipient.fingerprint}.`);
  }
  const suite = suiteOf(id);
  const publicKey = decoded(rest.publicKey);
  const binding = { keyId, version, suite, namespace, publicKey };
  const own = seedOf(recipient.suite, keys.mlKem);
  const { halves, release } = halvesOf(recipient.suite, keys, own);
  try {
    const seed = await openExport(recipient, halves, binding, decoded(envelope));
    try {
      if (!equalBytes(await publicKeyOf(suite, seed), publicKey)) throw decryptionFailed();
      return { keyId, key, version, suite: id, content: contentOf(suite, seed, publicKey) };
    } finally {
      wipe(seed);
    }
  } catch (error) {
    throw TwofoldError.is(error, 'decryption_failed') ? decryptionFailed() : error;
  } finally {
    release();
    wipe(own);
  }
}

const decryptionFailed = () =>
  new ClientError('decryption_failed', 'The export does not open: it was altered.');

const decoded = (text: string) =>
  parsedAs('unexpected_answer', () => decodeBase64(text, 'A member of the export'));

function contentOf(suite: Suite, seed: SecretBytes, publicKey: Uint8Array): SecretBytes {
  const form = 'encoding' in suite ? suite.encoding.privateKey : null;
  if (!('encoding' in suite) || form === null) throw refuse('No key of this suite is exported.');
  // The private key of SLH-DSA is what FIPS 205 makes it of, and PK.root.
  const root = publicKey.subarray(publicKey.length / 2);
  const material =
    form.kind === 'bytes'
      ? ({ kind: 'bytes', key: SecretBytes.own(concatBytes(seed.reveal(), root)) } as const)
      : ({ kind: 'seed', seed } as const);
  const der = writePrivateKey(suite.encoding, material);
  try {
    if (der === null) throw new ClientError('internal', 'The key cannot be written.');
    return SecretBytes.own(Buffer.from(encodePem('PRIVATE KEY', der.reveal()), 'latin1'));
  } finally {
    if (der !== null) wipe(der);
    if (material.kind === 'bytes') wipe(material.key);
  }
}
