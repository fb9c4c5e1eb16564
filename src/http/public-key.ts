/** Public keys with everything that someone needs to wrap without asking the service. */
import { hash } from 'node:crypto';

import { encodeHeader } from '../crypto/envelope.ts';
import { jwkThumbprint, writeJwk } from '../crypto/jwk.ts';
import { writePublicKeyPem, writeSpki } from '../crypto/spki.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { kidOf } from '../keyring/exchange.ts';
import { NAME } from '../name.ts';
import type { Engine } from '../crypto/engine.ts';
import type { EncodingPart } from '../crypto/key-encoding.ts';
import type { KemSuite, SignatureSuite } from '../crypto/suite.ts';
import { usagesOf } from '../keyring/lifecycle.ts';
import { publicHalvesOf } from '../keyring/public-halves.ts';
import type { Key, KeyVersion } from '../keyring/model.ts';
import type { KeyView } from '../keyring/operations.ts';

export type PublicKeyFormat = 'pem' | 'jwk' | 'raw';
type PublicSuite = KemSuite | SignatureSuite;

interface PublicVersion {
  readonly suite: PublicSuite;
  readonly version: number;
  /** The raw public key, in the order of the suite. */
  readonly bytes: Uint8Array;
}

/** What is done with the HPKE `info`, by the purpose of the key. */
const RULES = {
  wrap: {
    prefix: NAME.wrapInfo,
    info:
      `info = "${NAME.wrapInfo}" || envelopeHeader || SHA-256(canonical context); HPKE mode base, ` +
      'single shot, aad empty. canonical context = u16 number of pairs || for each pair, sorted by ' +
      'the bytes of its name: u16 length || name || u16 length || value (UTF-8) || u32 length || aad; ' +
      'integers big-endian.',
    output: `ciphertext = envelopeHeader || enc || ct; its text is "${NAME.envelopeText}" and unpadded base64url.`,
  },
  kem: {
    prefix: NAME.kemInfo,
    info: `info = "${NAME.kemInfo}" || envelopeHeader; HPKE mode base.`,
    output:
      'encapsulation = enc; sharedSecret = Export(exporter_context = "", L = 32) of RFC 9180 section 5.3.',
  },
} as const;

function offlineOf(key: Key, suite: PublicSuite, version: number) {
  if (suite.kind !== 'kem') return null;
  const { prefix, info, output } = RULES[key.purpose === 'kem' ? 'kem' : 'wrap'];
  const header = encodeHeader({ mode: 'base', suite, keyId: key.id, keyVersion: version });
  const { kem, kdf, aead } = suite.hpke;
  return {
    hpke: { kem, kdf, aead },
    envelopeHeader: header,
    info,
    infoPrefix: Buffer.concat([Buffer.from(prefix), header]),
    output,
  };
}

function publicVersion(engine: Engine, version: KeyVersion): PublicVersion {
  if (version.state === 'destroyed') {
    throw new TwofoldError('version_not_usable', 'The version is destroyed.');
  }
  const suite = findSuiteByNumber(version.suite);
  if (suite.kind === 'aead' || suite.kind === 'mac') {
    throw new TwofoldError('wrong_purpose', 'The key is symmetric and has no public key.');
  }
  const halves = publicHalvesOf(suite, version.material);
  const bytes =
    suite.kind === 'kem'
      ? suite.kem.joinPublicKey(engine, halves)
      : suite.signer.joinPublicKey(halves);
  return { suite, version: version.version, bytes };
}

/** @throws TwofoldError invalid_value where no standard defines the form for the suite */
function available<Form>(form: Form | null, { encoding }: PublicSuite, part: EncodingPart): Form {
  if (form !== null) return form;
  throw new TwofoldError('invalid_value', encoding.unavailable[part]);
}

function formatted(key: Key, { suite, version, bytes }: PublicVersion, format: PublicKeyFormat) {
  switch (format) {
    case 'pem':
      return { pem: available(writePublicKeyPem(suite.encoding, bytes), suite, 'spki') };
    case 'jwk':
      return {
        jwk: available(writeJwk(suite.encoding, bytes, kidOf(key.id, version)), suite, 'jwk'),
      };
    case 'raw':
      return { raw: bytes };
  }
}

/** @param now milliseconds since the epoch, for what the version may be used for */
export function publicKeyResource(
  engine: Engine,
  key: Key,
  version: KeyVersion,
  { format, now }: { readonly format: PublicKeyFormat; readonly now: number },
) {
  const found = publicVersion(engine, version);
  const usableFor = usagesOf(key, version, now);
  const { suite, bytes } = found;
  const jwk = writeJwk(suite.encoding, bytes);
  const spki = writeSpki(suite.encoding, bytes);
  return {
    key: key.name,
    keyId: key.id,
    keyVersion: found.version,
    state: version.state,
    usableFor,
    suite: suite.id,
    standard: suite.standard,
    format,
    ...formatted(key, found, format),
    thumbprint: jwk === null ? null : Buffer.from(jwkThumbprint(jwk)).toString('base64url'),
    sha256: spki === null ? null : hash('sha256', spki),
    offline: usableFor.includes('protect') ? offlineOf(key, suite, found.version) : null,
  };
}

/** PEM of the SPKI, or null where the version has none. @throws TwofoldError version_not_usable */
export function publicKeyPem(engine: Engine, version: KeyVersion): string | null {
  const { suite, bytes } = publicVersion(engine, version);
  return writePublicKeyPem(suite.encoding, bytes);
}

const PUBLISHED: ReadonlySet<KeyVersion['state']> = new Set(['active', 'deactivated']);

/** A version whose signatures are still accepted, or that a wrap may still go to. */
export function isPublished(key: Key, { state, version }: KeyVersion): boolean {
  const isUsable = PUBLISHED.has(state) && version >= key.minUsableVersion;
  return isUsable && (key.purpose === 'sign' || version === key.primary);
}

/** JWKs of the usable versions; none while the key as a whole is not usable. */
export function publicKeySet(engine: Engine, { key, versions }: KeyView) {
  const closed = key.suspension !== null || key.destroyedAt !== null;
  return versions
    .filter((version) => isPublished(key, version))
    .map((version) => publicVersion(engine, version))
    .filter(() => !closed)
    .map(({ suite, version, bytes }) => writeJwk(suite.encoding, bytes, kidOf(key.id, version)))
    .filter((jwk) => jwk !== null);
}
