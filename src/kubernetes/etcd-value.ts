/**
 * A raw value of etcd: which provider sealed it, and what a KMS v2 one consists of.
 *
 *     k8s:enc:<provider>:<version>:<name>:<bytes>
 *
 * For `kms:v2` the bytes are a message `EncryptedObject` (k8s.io/apiserver, envelope/kmsv2 `api.proto`).
 * Anything without the prefix `k8s:enc:` is in the clear (`identity`). Bounds are the API server's.
 */
import { TwofoldError } from '../errors.ts';
import { MAX_ANNOTATIONS, MAX_CIPHERTEXT, MAX_KEY_ID, checkLimits } from './stored-value.ts';
import type { StoredValue } from './stored-value.ts';
import { readFields } from './wire-fields.ts';

export interface EncryptedObject extends StoredValue {
  readonly keyId: string;
  /** Bytes of what is sealed under the data key. */
  readonly dataLength: number;
  readonly source: 'aes-gcm-key' | 'hkdf-seed';
}

export type EtcdValue =
  | { readonly kind: 'identity' }
  | { readonly kind: 'aescbc' | 'aesgcm' | 'secretbox' | 'kms-v1'; readonly name: string }
  | { readonly kind: 'kms-v2'; readonly name: string; readonly object: EncryptedObject };

const PREFIX = Buffer.from('k8s:enc:');
/** `k8s:enc:kms:v2:` and a name, for which Kubernetes has no bound. */
const LONGEST_HEAD = 1_024;
const COLON = 0x3a;

const PROVIDERS = {
  'aescbc:v1': 'aescbc',
  'aesgcm:v1': 'aesgcm',
  'secretbox:v1': 'secretbox',
  'kms:v1': 'kms-v1',
  'kms:v2': 'kms-v2',
} as const;

const invalid = (detail: string) => new TwofoldError('invalid_value', detail);

/** Text up to the next colon, and where it ends. */
function word(bytes: Buffer, from: number): { readonly text: string; readonly end: number } {
  const end = bytes.subarray(0, LONGEST_HEAD).indexOf(COLON, from);
  if (end <= from) throw invalid('The value begins with k8s:enc: and names no provider.');
  return { text: utf8(bytes.subarray(from, end)), end: end + 1 };
}

function utf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw invalid('A text of the value is not UTF-8.');
  }
}

/** @throws TwofoldError invalid_value for what no API server has written */
export function parseEtcdValue(value: Uint8Array): EtcdValue {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (!bytes.subarray(0, PREFIX.length).equals(PREFIX)) return { kind: 'identity' };
  const provider = word(bytes, PREFIX.length);
  const version = word(bytes, provider.end);
  const name = word(bytes, version.end);
  const id = `${provider.text}:${version.text}`;
  if (!Object.hasOwn(PROVIDERS, id)) throw invalid('The value is of a provider that is not known.');
  const kind = PROVIDERS[id as keyof typeof PROVIDERS];
  if (kind !== 'kms-v2') return { kind, name: name.text };
  return { kind, name: name.text, object: parseEncryptedObject(bytes.subarray(name.end)) };
}

const SOURCES = ['aes-gcm-key', 'hkdf-seed'] as const;

/**
 * Every field once at most, none that is not known: the message is the API server's own.
 * @throws TwofoldError invalid_value
 */
export function parseEncryptedObject(bytes: Uint8Array): EncryptedObject {
  let [dataLength, keyId, source]: [number, string, number] = [0, '', 0];
  let ciphertext: Uint8Array = new Uint8Array(0);
  const annotations: Record<string, Uint8Array> = Object.create(null) as Record<string, Uint8Array>;
  const seen = new Set<number>();
  let annotated = 0;
  for (const { number, bytes: content, integer } of readFields(bytes)) {
    if (number !== 4 && seen.has(number)) throw invalid('A field of the value is there twice.');
    seen.add(number);
    if (number === 1 && content !== null) dataLength = content.length;
    else if (number === 2 && content !== null) keyId = utf8(content);
    else if (number === 3 && content !== null) ciphertext = content;
    else if (number === 4 && content !== null) {
      annotated += content.length;
      if (annotated > MAX_ANNOTATIONS * 2) throw invalid('The annotations are too long.');
      addAnnotation(annotations, content);
    } else if (number === 5 && integer !== null) source = integer;
    else throw invalid('The value has a field that is not known.');
  }
  if (keyId === '' || Buffer.byteLength(keyId) > MAX_KEY_ID)
    throw invalid('The key_id is empty or too long.');
  if (dataLength === 0) throw invalid('The value has no data.');
  if (ciphertext.length > MAX_CIPHERTEXT) throw invalid('The ciphertext is too long.');
  const kind = SOURCES[source];
  if (kind === undefined) throw invalid('The data key is of a kind that is not known.');
  const object = { keyId, dataLength, ciphertext, annotations, source: kind };
  checkLimits(object);
  return object;
}

/** One entry of a map: key 1, value 2. */
function addAnnotation(annotations: Record<string, Uint8Array>, entry: Uint8Array): void {
  let [name, value]: [string, Uint8Array] = ['', new Uint8Array(0)];
  for (const { number, bytes } of readFields(entry)) {
    if (number === 1 && bytes !== null) name = utf8(bytes);
    else if (number === 2 && bytes !== null) value = bytes;
    else throw invalid('An annotation has a field that is not known.');
  }
  if (Object.hasOwn(annotations, name)) throw invalid('An annotation is there twice.');
  annotations[name] = value;
}
