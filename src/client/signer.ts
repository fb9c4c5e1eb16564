/**
 * Signers of manifests: public keys that whoever verifies has pinned, and the verification with them,
 * which asks nobody.
 */
import { createHash } from 'node:crypto';

import { encodeBase64, decodeBase64 } from '../crypto/base64.ts';
import { utf8 } from '../crypto/bytes.ts';
import { writeSpki } from '../crypto/spki.ts';
import { nativeEngine } from '../crypto/native-engine.ts';
import { findSuite } from '../crypto/suites.ts';
import { isUuid } from '../crypto/uuid.ts';
import { publicKey as publicKeySchema } from '../contract/keys.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { ClientError } from './client-error.ts';
import type { SignatureSuite } from '../crypto/suite.ts';
import type { SignedManifest } from './manifest.ts';

/** One version of a signing key. */
export interface Signer {
  /** Its name when it was fetched; says nothing. */
  readonly key: string;
  readonly keyId: string;
  readonly keyVersion: number;
  readonly suite: SignatureSuite;
  /** Raw: the halves in the order of the suite. */
  readonly publicKey: Uint8Array;
}

/** The context under which manifests are signed, so that no other signature of the key is one. */
export const MANIFEST_CONTEXT = utf8(NAME.sealedFileManifest);

const PREHASH = 'SHA-512';

const invalid = (detail: string) => new ClientError('invalid_signer', detail);

/** The composite suites over SHA-512; the classical ones over it take no context. */
export const signsManifests = ({ signer, strength }: SignatureSuite): boolean =>
  signer.prehash === PREHASH && signer.takes.context && !strength.quantumVulnerable;

/** Only what is used: a description that was kept years ago need not have today's other members. */
const wanted = publicKeySchema.pick({
  key: true,
  keyId: true,
  keyVersion: true,
  state: true,
  suite: true,
  raw: true,
});

/**
 * A signer from the answer of `GET /v1/keys/{key}/public-key?format=raw`.
 * @throws ClientError invalid_signer
 */
export function parseSigner(description: unknown): Signer {
  const parsed = wanted.safeParse(description);
  if (!parsed.success || parsed.data.raw === undefined) {
    throw invalid('It is not what GET /v1/keys/{key}/public-key?format=raw answers.');
  }
  const { key, keyId, keyVersion, state, suite: id, raw } = parsed.data;
  try {
    if (state === 'compromised') throw invalid('The version is compromised.');
    const suite = findSuite(id);
    if (suite.kind !== 'signature' || !signsManifests(suite)) {
      throw invalid('The key is of no composite suite that signs a digest of SHA-512.');
    }
    if (!isUuid(keyId)) throw invalid('keyId is not a UUID.');
    const { signer } = suite;
    // Joined again, because only that checks the classical half.
    const publicKey = signer.joinPublicKey(signer.splitPublicKey(decodeBase64(raw, 'raw')));
    return { key, keyId, keyVersion, suite, publicKey };
  } catch (error) {
    if (TwofoldError.is(error)) throw new ClientError('invalid_signer', error.message, error);
    throw error;
  }
}

/** The description that `parseSigner` takes, with nothing that it does not need. */
export function describeSigner({ key, keyId, keyVersion, suite, publicKey }: Signer): object {
  const { id, standard } = suite;
  const raw = encodeBase64(publicKey);
  return { key, keyId, keyVersion, suite: id, standard, format: 'raw', raw, offline: null };
}

/** `SHA256:` and the hash of the SPKI (RFC 5280) in hex: what people compare. */
export function fingerprint({ suite, publicKey }: Signer): string {
  const spki = writeSpki(suite.encoding, publicKey);
  if (spki === null) throw invalid('The suite has no SPKI to take a fingerprint of.');
  return `SHA256:${createHash('sha256').update(spki).digest('hex')}`;
}

/** What the service is asked to sign. */
export function manifestDigest(encoded: Uint8Array): Uint8Array {
  return createHash('sha512').update(encoded).digest();
}

/** Whether `signature` is the signer's over the manifest. */
export async function manifestSignedBy(
  signer: Signer,
  { encoded, signature }: Pick<SignedManifest, 'encoded' | 'signature'>,
): Promise<boolean> {
  const { suite, publicKey } = signer;
  const digest = { algorithm: PREHASH, value: manifestDigest(encoded) } as const;
  return suite.signer.verify(nativeEngine, publicKey, { digest }, MANIFEST_CONTEXT, signature);
}

/**
 * The one of the pinned signers whose valid signature the manifest carries.
 * @throws ClientError unknown_signer, signature_invalid
 */
export async function verifyManifest(
  signed: SignedManifest,
  pinned: readonly Signer[],
): Promise<Signer> {
  const { keyId, keyVersion, suite } = signed.manifest.signer;
  const signer = pinned.find(
    (one) => one.keyId === keyId && one.keyVersion === keyVersion && one.suite.number === suite,
  );
  if (signer === undefined) {
    const wanted = `It names version ${keyVersion} of ${keyId}.`;
    throw new ClientError('unknown_signer', `The signer is not among those trusted. ${wanted}`);
  }
  if (!(await manifestSignedBy(signer, signed))) throw new ClientError('signature_invalid');
  return signer;
}
