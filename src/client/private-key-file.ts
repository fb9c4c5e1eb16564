/**
 * Private keys as others keep them: PEM (PKCS #8, also encrypted; SEC 1; PKCS #1), DER of the same, PKCS #12,
 * JWK; and bytes as they are. Which of them a file is, is told by what it begins with.
 */
import { createPrivateKey } from 'node:crypto';
import type { JsonWebKeyInput, KeyObject } from 'node:crypto';

import { decodeBase64Url } from '../crypto/base64.ts';
import { DerReader, MAX_DER_LENGTH, TAG } from '../crypto/der.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import { SUITES } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { ClientError } from './client-error.ts';
import { requireBoundedWork } from './key-encryption.ts';
import { readPkcs12 } from './pkcs12.ts';

/** A private key of Node's, or the bytes of a secret key or a seed, which the caller wipes. */
export type ForeignKey =
  | { readonly kind: 'pair'; readonly key: KeyObject }
  | { readonly kind: 'bytes'; readonly bytes: SecretBytes };

export interface KeyFileOptions {
  /** The file is the secret or the seed itself. */
  readonly raw: boolean;
  /** Asked for only where it is needed; what comes is wiped. UTF-8. */
  readonly passphrase: () => Promise<Uint8Array>;
}

const PRIVATE_BLOCK =
  /-----BEGIN ((?:(?:ENCRYPTED|EC|RSA) )?PRIVATE KEY)-----[\s\S]*?-----END \1-----/gu;
const DSA_BLOCK = /-----BEGIN (?:DSA|OPENSSH|ANY) PRIVATE KEY-----/u;
/** Members that are compared with what was read of them. */
const JWK_MEMBERS = ['crv', 'x', 'y', 'n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi', 'pub', 'priv'];

const refuse = (what: string, cause?: unknown) => new ClientError('key_unreadable', what, cause);

/**
 * @param file stays the caller's to wipe
 * @throws ClientError key_unreadable, passphrase_wrong, what `passphrase` throws
 */
export async function readPrivateKey(
  file: Uint8Array,
  { raw, passphrase }: KeyFileOptions,
): Promise<ForeignKey> {
  if (file.length > MAX_DER_LENGTH) throw refuse(`It has over ${String(MAX_DER_LENGTH)} bytes.`);
  if (raw) return { kind: 'bytes', bytes: SecretBytes.copyOf(file) };
  const text = viewOf(file).toString('latin1');
  if (/^\s*\{/u.test(text)) return readJwk(text);
  if (text.includes('-----BEGIN ')) return readPem(text, passphrase);
  if (file[0] === TAG.sequence) return readDerFile(file, passphrase);
  throw refuse('It is neither PEM, DER nor JWK. (--raw takes bytes as they are.)');
}

type Passphrase = KeyFileOptions['passphrase'];

async function readPem(text: string, passphrase: Passphrase): Promise<ForeignKey> {
  const [block, another] = text.matchAll(PRIVATE_BLOCK);
  if (block === undefined) {
    throw refuse(
      DSA_BLOCK.test(text)
        ? 'Its private key is of a format that is not read: convert it to PKCS #8.'
        : 'It has no private key.',
    );
  }
  if (another !== undefined) throw refuse('It has more than one private key.');
  const [key, label = ''] = block;
  if (label.startsWith('ENCRYPTED')) fromDer(() => requireBoundedWork(bodyOf(key)));
  const encrypted = label.startsWith('ENCRYPTED') || key.includes('Proc-Type: 4,ENCRYPTED');
  return { kind: 'pair', key: await open({ key, format: 'pem' }, encrypted ? passphrase : null) };
}

/** What stands between the two lines. */
const bodyOf = (block: string): Uint8Array =>
  Buffer.from(block.replaceAll(/-----[^-]+-----|\s/gu, ''), 'base64');

/** What `read` makes of DER; what is none is no private key. */
function fromDer<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (TwofoldError.is(error, 'invalid_value')) throw refuse(error.message, error);
    throw error;
  }
}

/** What stands first in each of the structures tells them apart. */
async function readDerFile(file: Uint8Array, passphrase: Passphrase): Promise<ForeignKey> {
  const [first, second] = fromDer(() => {
    const reader = new DerReader(file, 'The file').enter();
    return [reader.element(), reader.peek()];
  });
  if (first.tag === TAG.sequence) return pair(file, 'pkcs8', passphrase);
  if (first.tag !== TAG.integer) throw refuse('It is DER of something else than a private key.');
  if (first.content.length === 1 && first.content[0] === 3) return readPfx(file, passphrase);
  if (second === TAG.sequence) return pair(file, 'pkcs8', null);
  if (second === TAG.octetString) return pair(file, 'sec1', null);
  if (second === TAG.integer) return pair(file, 'pkcs1', null);
  throw refuse('It is DER of something else than a private key.');
}

async function readPfx(file: Uint8Array, passphrase: Passphrase): Promise<ForeignKey> {
  const words = await passphrase();
  try {
    const { der, encrypted } = fromDer(() => readPkcs12(file, words));
    return await pair(der, 'pkcs8', encrypted ? () => Promise.resolve(Buffer.from(words)) : null);
  } finally {
    wipe(words);
  }
}

async function pair(
  der: Uint8Array,
  type: 'pkcs8' | 'sec1' | 'pkcs1',
  passphrase: Passphrase | null,
): Promise<ForeignKey> {
  if (type === 'pkcs8' && passphrase !== null) fromDer(() => requireBoundedWork(der));
  const key = Buffer.from(der);
  try {
    return { kind: 'pair', key: await open({ key, format: 'der', type }, passphrase) };
  } finally {
    wipe(key);
  }
}

const viewOf = ({ buffer, byteOffset, length }: Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, length);

/** OpenSSL reads it; of its errors only the code is kept. */
async function open(
  input: { key: string | Buffer; format: 'pem' | 'der'; type?: 'pkcs8' | 'sec1' | 'pkcs1' },
  passphrase: Passphrase | null,
): Promise<KeyObject> {
  const words = passphrase === null ? undefined : await passphrase();
  try {
    return createPrivateKey(words === undefined ? input : { ...input, passphrase: viewOf(words) });
  } catch (error) {
    if (words !== undefined) throw new ClientError('passphrase_wrong', undefined, error);
    throw refuse('Its private key is damaged or of a kind that is not read here.', error);
  } finally {
    wipe(words);
  }
}

function readJwk(text: string): ForeignKey {
  const members = membersOf(text);
  if (members['kty'] === 'oct') {
    const { k } = members;
    const bytes = typeof k === 'string' ? decodeBase64Url(k) : undefined;
    if (bytes === undefined || bytes.length === 0) throw refuse('k is not unpadded base64url.');
    return { kind: 'bytes', bytes: SecretBytes.own(bytes) };
  }
  if (Object.hasOwn(members, 'oth')) throw refuse('An RSA key has two primes here.');
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: withNodesName(members), format: 'jwk' });
  } catch (error) {
    throw refuse('The JWK is no private key that is read here.', error);
  }
  const read: Readonly<Record<string, unknown>> = { ...key.export({ format: 'jwk' }) };
  // Also what is not canonical differs: other members pass (RFC 7517 section 4).
  const differs = JWK_MEMBERS.find((name) => members[name] !== read[name]);
  if (differs === undefined) return { kind: 'pair', key };
  throw refuse(`${differs} of the JWK is not what belongs to its private key.`);
}

function membersOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const json: unknown = JSON.parse(Buffer.from(text, 'latin1').toString('utf8'));
    if (typeof json === 'object' && json !== null) return { ...json };
  } catch {
    // Its message would quote the file.
  }
  throw refuse('It is not JSON.');
}

/** JOSE names an ML-KEM key by what it is used with; Node by the parameter set. */
function withNodesName(members: Readonly<Record<string, unknown>>): JsonWebKeyInput['key'] {
  const rows = Object.values(SUITES).flatMap((row) => ('encoding' in row ? [row.encoding] : []));
  const { alg } = members;
  const row = rows.find(({ jwk }) => jwk?.kty === 'AKP' && jwk.alg === alg);
  return row === undefined || members['kty'] !== 'AKP'
    ? members
    : { ...members, alg: row.algorithm };
}
