/** Verifier keys of C2SP signed-note: `<name>+<key id>+<base64 of type ‖ public key>`. */
import { hash } from 'node:crypto';
import { decodeBase64, encodeBase64 } from '../../crypto/base64.ts';
import { concatBytes, utf8 } from '../../crypto/bytes.ts';
import { TwofoldError } from '../../errors.ts';
import { isKeyName, KEY_ID_BYTES } from './note.ts';

/** Signature types that are made and verified here, by their byte. */
export const SIGNATURE_TYPE = {
  /** Ed25519 over the text of the note (C2SP signed-note). */
  ed25519: 0x01,
  /** Ed25519 with a time, `cosignature/v1` (C2SP tlog-cosignature). */
  ed25519Cosignature: 0x04,
  /** ML-DSA-44 with a time, `subtree/v1` (C2SP tlog-cosignature). */
  mlDsa44Cosignature: 0x06,
} as const;
export type SignatureType = (typeof SIGNATURE_TYPE)[keyof typeof SIGNATURE_TYPE];

const PUBLIC_KEY_BYTES: Readonly<Record<SignatureType, number>> = {
  [SIGNATURE_TYPE.ed25519]: 32,
  [SIGNATURE_TYPE.ed25519Cosignature]: 32,
  [SIGNATURE_TYPE.mlDsa44Cosignature]: 1312,
};

export interface Vkey {
  readonly name: string;
  readonly type: SignatureType;
  /** Raw: 32 bytes of Ed25519 (RFC 8032) or 1,312 of ML-DSA-44 (FIPS 204). */
  readonly publicKey: Uint8Array;
  /** First 4 bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key), 8 lower-case hexadecimal digits. */
  readonly keyId: string;
}

const refuse = (why: string): TwofoldError =>
  new TwofoldError('invalid_value', `This is no verifier key of C2SP signed-note: ${why}.`);

/** @throws TwofoldError `invalid_value` for a name or a length that no such key has */
export function makeVkey(name: string, type: SignatureType, publicKey: Uint8Array): Vkey {
  if (!isKeyName(name)) throw refuse('its name is empty or holds spaces or a plus');
  if (publicKey.length !== PUBLIC_KEY_BYTES[type])
    throw refuse('the public key is of another length');
  const digest = hash(
    'sha256',
    concatBytes(utf8(`${name}\n`), Uint8Array.of(type), publicKey),
    'buffer',
  );
  const keyId = digest.subarray(0, KEY_ID_BYTES).toString('hex');
  return { name, type, publicKey: Uint8Array.from(publicKey), keyId };
}

export function formatVkey({ name, type, publicKey, keyId }: Vkey): string {
  return `${name}+${keyId}+${encodeBase64(concatBytes(Uint8Array.of(type), publicKey))}`;
}

/** @throws TwofoldError `invalid_value` or `invalid_base64` for anything that `formatVkey` does not write */
export function parseVkey(text: string): Vkey {
  const [, name = '', keyId = '', encoded = ''] =
    /^([^+]+)\+([0-9a-f]{8})\+(\S+)$/u.exec(text) ?? [];
  if (encoded === '') throw refuse('it is not <name>+<key id>+<base64>');
  const bytes = decodeBase64(encoded, 'The key of a verifier key');
  const type = Object.values(SIGNATURE_TYPE).find((each) => each === bytes[0]);
  if (type === undefined) throw refuse('its signature type is not one that is verified here');
  const vkey = makeVkey(name, type, bytes.subarray(1));
  if (vkey.keyId !== keyId) throw refuse('its key id is not that of its key');
  return vkey;
}

/**
 * A file of them, one per line; empty lines and lines that begin with `#` are skipped.
 * @throws as `parseVkey`, and `invalid_value` for two of one name and id
 */
export function parseVkeys(text: string): readonly Vkey[] {
  const vkeys = text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map(parseVkey);
  const ids = new Set(vkeys.map(({ name, keyId }) => `${name}+${keyId}`));
  if (ids.size !== vkeys.length) throw refuse('one stands there twice');
  return vkeys;
}
