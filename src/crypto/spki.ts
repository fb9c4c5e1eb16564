/** Public keys as SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), in DER and as PEM. */
import { TwofoldError } from '../errors.ts';
import { equalBytes } from './bytes.ts';
import { derBitString, derObjectIdentifier, derSequence, readDer } from './der.ts';
import { checkRawPublicKey } from './raw-public-key.ts';
import { decodePem, encodePem } from './pem.ts';
import type { DerReader } from './der.ts';
import type { AlgorithmIdentifier, KeyEncoding } from './key-encoding.ts';

const FIELD = 'The public key';

export function writeAlgorithmIdentifier({ oid, parameters }: AlgorithmIdentifier): Uint8Array {
  return derSequence(derObjectIdentifier(oid), ...(parameters === null ? [] : [parameters]));
}

/** The next value as an AlgorithmIdentifier; its parameters are at most one value. */
export function readAlgorithmIdentifier(reader: DerReader): AlgorithmIdentifier {
  const fields = reader.enter();
  const oid = fields.objectIdentifier();
  const parameters = fields.atEnd ? null : fields.element().encoded;
  fields.end();
  return { oid, parameters };
}

export function equalAlgorithms(a: AlgorithmIdentifier, b: AlgorithmIdentifier): boolean {
  if (a.oid !== b.oid) return false;
  if (a.parameters === null || b.parameters === null) return a.parameters === b.parameters;
  return equalBytes(a.parameters, b.parameters);
}

/**
 * DER of the raw key, or null where the algorithm has no identifier (`unavailable.spki` says why).
 * @throws TwofoldError invalid_value for a key of another form
 */
export function writeSpki(encoding: KeyEncoding, publicKey: Uint8Array): Uint8Array | null {
  if (encoding.spki === null) return null;
  checkRawPublicKey(encoding, publicKey);
  return derSequence(writeAlgorithmIdentifier(encoding.spki), derBitString(publicKey));
}

/**
 * The raw key of exactly this algorithm; a copy.
 * @throws TwofoldError invalid_value
 */
export function parseSpki(encoding: KeyEncoding, der: Uint8Array): Uint8Array {
  const { algorithm, publicKey } = readDer(der, FIELD, (reader) => {
    const fields = reader.enter();
    const read = {
      algorithm: readAlgorithmIdentifier(fields),
      publicKey: Uint8Array.from(fields.bitString()),
    };
    fields.end();
    return read;
  });
  if (encoding.spki === null || !equalAlgorithms(algorithm, encoding.spki)) {
    throw new TwofoldError('invalid_value', `${FIELD} is not one of ${encoding.algorithm}.`);
  }
  checkRawPublicKey(encoding, publicKey);
  return publicKey;
}

/** The SPKI as text with a final line feed, or null as `writeSpki`. */
export function writePublicKeyPem(encoding: KeyEncoding, publicKey: Uint8Array): string | null {
  const spki = writeSpki(encoding, publicKey);
  return spki === null ? null : encodePem('PUBLIC KEY', spki);
}

/** @throws TwofoldError invalid_value */
export function parsePublicKeyPem(encoding: KeyEncoding, text: string): Uint8Array {
  return parseSpki(encoding, decodePem('PUBLIC KEY', text, FIELD));
}
