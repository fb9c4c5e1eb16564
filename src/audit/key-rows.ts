/**
 * Row MACs of the log's name and keys, in the form of `keyring/row-mac.ts`: format version u8 (1) ‖
 * deterministic CBOR of
 *
 *     name = [label, "log-name", origin, createdAt]
 *     key  = [label, "log-key", id, zone, kind, publicKey, state, pinned, material, announced, createdAt,
 *             activatedAt, retiredAt, revision]
 *
 * with SHA-256 in place of the public key and the sealed seed, and times in milliseconds.
 */
import { hash as digestOf } from 'node:crypto';
import { concatBytes, equalBytes } from '../crypto/bytes.ts';
import { encodeCbor } from '../crypto/cbor.ts';
import type { CborValue } from '../crypto/cbor.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import type { LogKey, LogName, StoredLogKeys, WithMac } from './key-ports.ts';

type Mac = (data: Uint8Array, like?: Uint8Array) => Promise<Uint8Array>;

const FORMAT = 1;
const hash = (bytes: Uint8Array): Uint8Array => digestOf('sha256', bytes, 'buffer');
const time = (date: Date | null): number | null => date?.getTime() ?? null;

const canonical = (columns: readonly CborValue[]): Uint8Array =>
  concatBytes(Uint8Array.of(FORMAT), encodeCbor([NAME.rowMac, ...columns]));

const materialCbor = (material: LogKey['material']): CborValue => {
  if (material === null) return null;
  return material.custody === 'sealed'
    ? [material.custody, material.generation, hash(material.sealed)]
    : [material.custody, material.tokenSerial, material.installation, material.objectId];
};

export const canonicalLogName = ({ origin, createdAt }: LogName): Uint8Array =>
  canonical(['log-name', origin, createdAt.getTime()]);

export const canonicalLogKey = (key: LogKey): Uint8Array =>
  canonical([
    'log-key',
    key.id,
    key.zone,
    key.kind,
    hash(key.publicKey),
    key.state,
    key.pinned,
    materialCbor(key.material),
    key.announced,
    key.createdAt.getTime(),
    time(key.activatedAt),
    time(key.retiredAt),
    key.revision,
  ]);

export const attestLogName = async (mac: Mac, value: LogName): Promise<WithMac<LogName>> => ({
  value,
  mac: await mac(canonicalLogName(value)),
});

export const attestLogKey = async (mac: Mac, value: LogKey): Promise<WithMac<LogKey>> => ({
  value,
  mac: await mac(canonicalLogKey(value)),
});

/**
 * All of them, or none is used.
 * @throws TwofoldError integrity_failed
 */
export const verifyLogKeys = async (mac: Mac, { name, keys }: StoredLogKeys): Promise<void> => {
  const fault = new TwofoldError('integrity_failed', 'Rows of the keys of the log were altered.');
  if (name === null) {
    if (keys.length > 0) throw fault;
    return;
  }
  const whole = async (input: Uint8Array, stated: Uint8Array) =>
    equalBytes(await mac(input, stated), stated);
  if (!(await whole(canonicalLogName(name.value), name.mac))) throw fault;
  for (const key of keys) {
    if (!(await whole(canonicalLogKey(key.value), key.mac))) throw fault;
  }
};
