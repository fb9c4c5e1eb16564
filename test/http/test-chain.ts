/** Certificates for keys of the service, by a P-256 authority that is made here. */
import { generateKeyPairSync, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import {
  contextTag,
  derBitString,
  derObjectIdentifier,
  derOctetString,
  derSequence,
  derSmall,
  derValue,
  TAG,
} from '../../src/crypto/der.ts';
import { writeName } from '../../src/crypto/distinguished-name.ts';
import { encodePem } from '../../src/crypto/pem.ts';
import { writeSpki } from '../../src/crypto/spki.ts';
import { findSuite } from '../../src/crypto/suites.ts';

const ECDSA_SHA256 = derSequence(derObjectIdentifier('1.2.840.10045.4.3.2'));
const AUTHORITY = writeName([{ CN: 'authority' }]);
const time = (text: string) => derValue(TAG.utcTime, Buffer.from(text));
const VALIDITY = derSequence(time('260101000000Z'), time('460101000000Z'));
const CA = derValue(TAG.boolean, Uint8Array.of(0xff));
const BASIC = derSequence(derObjectIdentifier('2.5.29.19'), CA, derOctetString(derSequence(CA)));
const EXTENSIONS = derValue(contextTag(3, 'constructed'), derSequence(BASIC));

function certificate(key: KeyObject, subject: Uint8Array, spki: Uint8Array, isAuthority: boolean) {
  const tbs = derSequence(
    derValue(contextTag(0, 'constructed'), derSmall(2)),
    derSmall(isAuthority ? 1 : 2),
    ECDSA_SHA256,
    AUTHORITY,
    VALIDITY,
    subject,
    spki,
    ...(isAuthority ? [EXTENSIONS] : []),
  );
  const signature = derBitString(sign('sha256', tbs, key));
  return encodePem('CERTIFICATE', derSequence(tbs, ECDSA_SHA256, signature));
}

/** PEM of leaf and root. `raw`: base64 of the public key. */
export function testChain(suiteId: string, raw: string): readonly [leaf: string, root: string] {
  const suite = findSuite(suiteId);
  if (!('encoding' in suite)) throw new Error('the suite has no public key');
  const spki = writeSpki(suite.encoding, new Uint8Array(Buffer.from(raw, 'base64')));
  if (spki === null) throw new Error('the suite has no SPKI');
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const own = new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }));
  return [
    certificate(privateKey, writeName([{ CN: 'leaf' }]), spki, false),
    certificate(privateKey, AUTHORITY, own, true),
  ];
}
