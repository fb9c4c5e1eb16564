/**
 * What a backup says of itself: a file of JSON that people can read, signed as its bytes stand.
 *
 * Three who vouch for it, in a second file: the two keys that sign the log's checkpoints, which anyone can
 * verify who pinned them, and `root-mac`, which only the installation can, and a restored one therefore does.
 */
import { verify as verifyWith, createPublicKey } from 'node:crypto';

import type { Engine } from '../crypto/engine.ts';
import { concatBytes, utf8 } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { SIGNATURE_TYPE, formatVkey, parseVkey } from '../audit/tree/vkey.ts';
import type { Vkey } from '../audit/tree/vkey.ts';
import type { EntriesKept } from './ports.ts';

export const FORMAT = 'twofold/backup/1';
const MAX_MANIFEST = 4 * 1_048_576;

/** Bytes in base64, times in RFC 3339. */
export interface ManifestEscrow {
  readonly generation: number;
  readonly installation: string;
  readonly publicKey: string;
  readonly point: string;
  readonly ciphertext: string;
  readonly wrapped: string;
  readonly transcript: string;
}

export interface Manifest {
  readonly format: typeof FORMAT;
  readonly id: string;
  /** Of the program that wrote it. */
  readonly version: string;
  /** When the snapshot was taken, by the database's clock. */
  readonly takenAt: string;
  readonly installation: string;
  readonly generations: readonly number[];
  readonly migrations: readonly string[];
  readonly entries: EntriesKept;
  readonly lastLane: number;
  readonly log: {
    readonly origin: string | null;
    readonly size: number;
    readonly root: string;
    /** The signed note of the newest checkpoint; null before the first. */
    readonly note: string | null;
  };
  /** Rows of each table, in the order in which they stand. */
  readonly tables: readonly { readonly name: string; readonly rows: number }[];
  readonly probes: number;
  /** SHA-256 of the recovery public key. */
  readonly recoveryKey: string;
  readonly escrows: readonly ManifestEscrow[];
  readonly content: {
    /** Of the file, bytes. */
    readonly length: number;
    readonly hash: string;
    readonly keyCommitment: string;
  };
}

/** What a signer gives; `vkeys` are those whose signatures it makes. */
export interface BackupSigner {
  sign(message: Uint8Array): Promise<{
    readonly ed25519: { readonly vkey: Vkey; readonly signature: Uint8Array };
    readonly mlDsa44: { readonly vkey: Vkey; readonly signature: Uint8Array };
  }>;
  mac(message: Uint8Array): Promise<Uint8Array>;
}

interface Signed {
  readonly vkey: string;
  readonly signature: string;
}

export interface Signatures {
  readonly ed25519: Signed;
  readonly mlDsa44: Signed;
  readonly mac: string;
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
export const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'base64'));

/** NUL stands in no note and in no other statement that these keys sign. */
const statement = (manifest: Uint8Array): Uint8Array =>
  concatBytes(utf8(`${NAME.backupManifest}\0`), manifest);

export function formatManifest(manifest: Manifest): Uint8Array {
  return utf8(`${JSON.stringify(manifest, null, 1)}\n`);
}

export async function signManifest(signer: BackupSigner, manifest: Uint8Array): Promise<string> {
  const message = statement(manifest);
  const { ed25519, mlDsa44 } = await signer.sign(message);
  const signatures: Signatures = {
    ed25519: { vkey: formatVkey(ed25519.vkey), signature: base64(ed25519.signature) },
    mlDsa44: { vkey: formatVkey(mlDsa44.vkey), signature: base64(mlDsa44.signature) },
    mac: base64(await signer.mac(message)),
  };
  return `${JSON.stringify(signatures, null, 1)}\n`;
}

const refuse = (why: string) => new TwofoldError('integrity_failed', why);

function parseJson(text: string, what: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      return value as Record<string, unknown>;
    }
  } catch {
    // Said below.
  }
  throw refuse(`${what} is not what a backup has.`);
}

const MEMBERS: Readonly<Record<keyof Manifest, 'string' | 'number' | 'object'>> = {
  format: 'string',
  id: 'string',
  version: 'string',
  takenAt: 'string',
  installation: 'string',
  generations: 'object',
  migrations: 'object',
  entries: 'string',
  lastLane: 'number',
  log: 'object',
  tables: 'object',
  probes: 'number',
  recoveryKey: 'string',
  escrows: 'object',
  content: 'object',
};

type Member = 'string' | 'number' | 'text or null';
type Members = Readonly<Record<string, Member>>;

const isOf = (value: unknown, member: Member): boolean =>
  member === 'text or null'
    ? value === null || typeof value === 'string'
    : typeof value === (member === 'number' ? 'number' : 'string');

const hasMembers = (value: unknown, members: Members): boolean =>
  typeof value === 'object' &&
  value !== null &&
  Object.keys(value).length === Object.keys(members).length &&
  Object.entries(members).every(([name, member]) =>
    isOf((value as Record<string, unknown>)[name], member),
  );

const isList = (value: unknown, fits: (each: unknown) => boolean): boolean =>
  Array.isArray(value) && value.every(fits);

const LOG: Members = {
  origin: 'text or null',
  size: 'number',
  root: 'string',
  note: 'text or null',
};
const TABLE: Members = { name: 'string', rows: 'number' };
const CONTENT: Members = { length: 'number', hash: 'string', keyCommitment: 'string' };
const ESCROW: Members = {
  generation: 'number',
  installation: 'string',
  publicKey: 'string',
  point: 'string',
  ciphertext: 'string',
  wrapped: 'string',
  transcript: 'string',
};

/** What is within members, since anybody can sign a manifest with keys of their own. */
const holdsWhole = (value: Readonly<Record<string, unknown>>): boolean =>
  hasMembers(value['log'], LOG) &&
  hasMembers(value['content'], CONTENT) &&
  isList(value['tables'], (each) => hasMembers(each, TABLE)) &&
  isList(value['escrows'], (each) => hasMembers(each, ESCROW)) &&
  isList(value['generations'], (each) => isOf(each, 'number')) &&
  isList(value['migrations'], (each) => isOf(each, 'string'));

/**
 * Strict in its members and in theirs.
 * @throws TwofoldError integrity_failed
 */
export function parseManifest(bytes: Uint8Array): Manifest {
  if (bytes.length > MAX_MANIFEST) throw refuse('The manifest is too long.');
  const value = parseJson(Buffer.from(bytes).toString('utf8'), 'The manifest');
  if (value['format'] !== FORMAT) {
    throw refuse('The manifest is of another format than this version reads.');
  }
  const names = Object.keys(value);
  const known = Object.keys(MEMBERS).every(
    (name) => typeof value[name] === MEMBERS[name as keyof Manifest] && value[name] !== null,
  );
  if (!known || names.length !== Object.keys(MEMBERS).length || !holdsWhole(value)) {
    throw refuse('The manifest is not what a backup has.');
  }
  return value as unknown as Manifest;
}

export interface Vouched {
  readonly ed25519: Vkey;
  readonly mlDsa44: Vkey;
  readonly mac: Uint8Array;
}

function signed(value: unknown): Signed {
  const { vkey, signature } = (value ?? {}) as Partial<Signed>;
  if (typeof vkey !== 'string' || typeof signature !== 'string') {
    throw refuse('The signatures are not what a backup has.');
  }
  return { vkey, signature };
}

function vkeyOf({ vkey }: Signed): Vkey {
  try {
    return parseVkey(vkey);
  } catch (cause) {
    if (!TwofoldError.is(cause)) throw cause;
    throw new TwofoldError('integrity_failed', 'The signatures are not what a backup has.', {
      cause,
    });
  }
}

/**
 * That both signatures are of the manifest; by whom, the caller compares.
 * @throws TwofoldError integrity_failed
 */
export async function verifySignatures(
  engine: Pick<Engine, 'signatures'>,
  manifest: Uint8Array,
  text: string,
): Promise<Vouched> {
  const value = parseJson(text, 'The file of the signatures');
  const [classical, pq] = [signed(value['ed25519']), signed(value['mlDsa44'])];
  const [ed25519, mlDsa44] = [vkeyOf(classical), vkeyOf(pq)];
  const message = statement(manifest);
  const kinds =
    ed25519.type === SIGNATURE_TYPE.ed25519 && mlDsa44.type === SIGNATURE_TYPE.mlDsa44Cosignature;
  const x = Buffer.from(ed25519.publicKey).toString('base64url');
  const key = kinds && createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const whole =
    key !== false &&
    verifyWith(null, message, key, bytesOf(classical.signature)) &&
    (await engine.signatures.verify(
      'ML-DSA-44',
      mlDsa44.publicKey,
      message,
      bytesOf(pq.signature),
      new Uint8Array(0),
    ));
  if (!whole) throw refuse('The manifest was altered: its signatures do not verify.');
  return { ed25519, mlDsa44, mac: bytesOf(String(value['mac'])) };
}

/** Whether `root-mac` vouches for it, by the installation's own root. */
export async function macOf(
  mac: (data: Uint8Array) => Promise<Uint8Array>,
  manifest: Uint8Array,
): Promise<Uint8Array> {
  return mac(statement(manifest));
}
