/**
 * What an encrypted private key (EncryptedPrivateKeyInfo, RFC 5958 section 3) asks of who opens it, read before
 * it is opened: its file says how much work a passphrase is to be.
 */
import { readDer } from '../crypto/der.ts';
import type { DerReader } from '../crypto/der.ts';
import { ClientError } from './client-error.ts';

const NAME = 'The encrypted private key';
/** Some seconds of work; of PBKDF2 (RFC 8018), PBES1 and the derivation of RFC 7292. */
export const MAX_ITERATIONS = 2_000_000;
/** N · r · p of scrypt (RFC 7914): the same; 16,384 · 8 · 1 is what OpenSSL writes. */
const MAX_SCRYPT = 4_194_304;

const PBES2 = '1.2.840.113549.1.5.13';
const PBKDF2 = '1.2.840.113549.1.5.12';
const SCRYPT = '1.3.6.1.4.1.11591.4.11';
/** PBES1, and the schemes of RFC 7292 appendix C: salt and iterations. */
const ITERATED = /^1\.2\.840\.113549\.1\.(?:5\.(?:1|3|4|6|10|11)|12\.1\.[1-6])$/u;

const refuse = (what: string) => new ClientError('key_unreadable', `${NAME} ${what}.`);

export const numberOf = (magnitude: Uint8Array): number =>
  magnitude.reduce((number, byte) => number * 256 + byte, 0);

/**
 * @param der EncryptedPrivateKeyInfo
 * @throws ClientError key_unreadable where it takes too long to open, or as long as nobody here can tell
 * @throws TwofoldError invalid_value for what is not DER
 */
export function requireBoundedWork(der: Uint8Array): void {
  readDer(der, NAME, (outer) => {
    const info = outer.enter();
    const algorithm = info.enter();
    const scheme = algorithm.objectIdentifier();
    if (scheme === PBES2) checkDerivation(algorithm.enter().enter());
    else if (ITERATED.test(scheme)) checkIterations(algorithm.enter());
    else throw unknown();
    info.octetString();
    info.end();
  });
}

const unknown = () => refuse('is encrypted in a way that is not read here');

function checkDerivation(derivation: DerReader): void {
  const by = derivation.objectIdentifier();
  if (by !== PBKDF2 && by !== SCRYPT) throw unknown();
  const parameters = derivation.enter();
  if (by === PBKDF2) {
    checkIterations(parameters);
    return;
  }
  parameters.octetString();
  const [cost, blockSize, parallel] = [next(parameters), next(parameters), next(parameters)];
  if (cost * blockSize * parallel > MAX_SCRYPT) throw refuse('asks for too much work (scrypt)');
}

/** After the salt, whatever it is made of. */
function checkIterations(parameters: DerReader): void {
  parameters.element();
  if (next(parameters) > MAX_ITERATIONS) throw refuse('asks for too many iterations');
}

const next = (parameters: DerReader): number => numberOf(parameters.unsigned());
