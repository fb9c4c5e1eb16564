/**
 * Makes exports of an audit log as `docs/audit-log.md` specifies them, without a service: from its own
 * encoding of entries, so that the verifier is held against the specification and not against the writer.
 */
import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { formatCheckpoint } from '../../src/audit/tree/checkpoint.ts';
import { Edge } from '../../src/audit/tree/edge.ts';
import { leafHash } from '../../src/audit/tree/hashes.ts';
import { formatNote } from '../../src/audit/tree/note.ts';
import { signText } from '../../src/audit/tree/signatures.ts';
import { tilePath } from '../../src/audit/tree/tiles.ts';
import { formatVkey, makeVkey, SIGNATURE_TYPE } from '../../src/audit/tree/vkey.ts';
import type { SignatureType, Vkey } from '../../src/audit/tree/vkey.ts';
import { statementOf } from '../../src/audit/verify/key-set.ts';
import { encodeCbor } from '../../src/crypto/cbor.ts';
import type { CborValue } from '../../src/crypto/cbor.ts';

export const ORIGIN = 'log.example/audit';
export type Detail = Readonly<Record<string, string | number | boolean | null>>;

export interface Signer {
  readonly vkey: Vkey;
  readonly sign: (message: Uint8Array) => Uint8Array;
}

export function makeSigner(type: SignatureType, name = ORIGIN): Signer {
  const isPq = type === SIGNATURE_TYPE.mlDsa44Cosignature;
  const pair = isPq ? generateKeyPairSync('ml-dsa-44') : generateKeyPairSync('ed25519');
  const spki = pair.publicKey.export({ format: 'der', type: 'spki' });
  const vkey = makeVkey(name, type, spki.subarray(isPq ? -1312 : -32));
  return { vkey, sign: (message) => sign(null, message, pair.privateKey) };
}

export interface SignerPair {
  readonly ed25519: Signer;
  readonly mlDsa44: Signer;
}

export const makePair = (): SignerPair => ({
  ed25519: makeSigner(SIGNATURE_TYPE.ed25519),
  mlDsa44: makeSigner(SIGNATURE_TYPE.mlDsa44Cosignature),
});

/** What an entry says beside its place. */
export interface Draft {
  readonly lane: number;
  readonly operation: string;
  readonly detail?: Detail;
  /** Hexadecimal, 16 bytes. */
  readonly keyId?: string;
  readonly keyVersion?: number;
  readonly namespace?: string;
  readonly outcome?: string;
  readonly version?: 1 | 2;
}

export interface Place {
  readonly n: number;
  readonly previous: Uint8Array;
  readonly epoch: number;
}

export const NO_PREVIOUS = new Uint8Array(32);
/** Two lanes an instance. */
export const instanceOf = (lane: number): string =>
  Math.ceil(lane / 2)
    .toString(16)
    .padStart(2, '0')
    .repeat(16);

const unhex = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
const MAC = new Uint8Array(32).fill(0xcc);
const SESSION = new Uint8Array(16).fill(0xab);

/** Canonical bytes, version 1 or 2. */
export function entryBytes(draft: Draft, { n, previous, epoch }: Place): Uint8Array {
  const { lane, operation, keyId, keyVersion, version = 2, detail = {} } = draft;
  const own = keyId === undefined;
  const actor = own
    ? ['', 'system', 'system', null]
    : ['https://issuer.example', 'service-a', 'jwt', SESSION];
  const members: CborValue[] = [
    ...[
      version,
      lane,
      n,
      previous,
      epoch,
      1_790_000_000_000 + n,
      'zone-a',
      unhex(instanceOf(lane)),
    ],
    ...['0f0e0d0c-0b0a-4908-8706-050403020100', actor, operation, draft.namespace ?? 'default'],
    ...[
      own ? null : 'payments',
      own ? null : unhex(keyId),
      keyVersion ?? null,
      own ? null : 0x0101,
    ],
    draft.outcome ?? 'ok',
    own ? null : ['5f5e5d5c5b5a59585756555453525150', ['role.user', 'payments.unwrap']],
    ...[own ? '' : '192.0.2.17', own ? [] : ['tenant', 'purpose'], own ? null : MAC, []],
    new Map(Object.entries(detail)),
  ];
  const circumstances: CborValue[] = [
    ...[
      [null, own ? [] : ['mfa', 'pwd']],
      own ? null : ['payments', 'user'],
      own ? null : 'X25519MLKEM768',
    ],
    ...[null, null, own ? null : 'native', own ? null : 'service', own ? null : 1234],
    ...[new Map<string, CborValue>(own ? [] : [['tenant', 'north']]), null],
  ];
  return encodeCbor(version === 1 ? members : [...members, ...circumstances]);
}

/** Gives entries their places: lanes, numbers and chain. */
export class Lanes {
  readonly #last = new Map<number, { n: number; leaf: Uint8Array }>();

  place(draft: Draft, epoch: number): { readonly body: Uint8Array; readonly leaf: Uint8Array } {
    const { n, leaf: previous } = this.#last.get(draft.lane) ?? { n: 0, leaf: NO_PREVIOUS };
    const body = entryBytes(draft, { n: n + 1, previous, epoch });
    const leaf = leafHash(body);
    this.#last.set(draft.lane, { n: n + 1, leaf });
    return { body, leaf };
  }

  counts(): readonly (readonly [lane: number, n: number])[] {
    return [...this.#last].map(([lane, { n }]) => [lane, n] as const).sort(([a], [b]) => a - b);
  }
}

/** Writes bundles and tiles of a log, a tile at a time. */
export class TileWriter {
  readonly #folder: string;
  #edge = Edge.EMPTY;
  #bodies: Uint8Array[] = [];
  #leaves: Uint8Array[] = [];

  constructor(folder: string) {
    this.#folder = folder;
  }

  get size(): number {
    return this.#edge.size + this.#leaves.length;
  }

  append(body: Uint8Array, leaf: Uint8Array): void {
    this.#bodies.push(body);
    this.#leaves.push(leaf);
    if (this.#leaves.length === 256) this.#flush();
  }

  root(): Uint8Array {
    return this.#edge.grow(this.#leaves).edge.root();
  }

  /** Writes the last, partial tiles. */
  end(): void {
    if (this.#leaves.length > 0) this.#flush();
    for (const tile of this.#edge.partialTiles()) put(this.#folder, tilePath(tile), tile.hashes);
  }

  #flush(): void {
    const index = Math.floor(this.#edge.size / 256);
    const grown = this.#edge.grow(this.#leaves);
    const width = this.#leaves.length;
    put(this.#folder, tilePath({ level: 'entries', index, width }), bundleOf(this.#bodies));
    for (const tile of grown.tiles.filter((each) => each.width === 256)) {
      put(this.#folder, tilePath(tile), tile.hashes);
    }
    this.#edge = grown.edge;
    [this.#bodies, this.#leaves] = [[], []];
  }
}

export function bundleOf(bodies: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(
    bodies.flatMap((body) => [Uint8Array.of(body.length >>> 8, body.length & 0xff), body]),
  );
}

export function put(folder: string, name: string, content: Uint8Array | string): void {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

/** A signed checkpoint, whole. */
export async function noteOf(
  size: number,
  root: Uint8Array,
  signers: readonly Signer[],
  origin = ORIGIN,
): Promise<string> {
  const text = formatCheckpoint({ origin, size, root });
  const signatures = await Promise.all(
    signers.map(({ vkey, sign: by }) => signText(text, vkey, 1_790_000_000, by)),
  );
  return formatNote({ text, signatures });
}

export const signersOf = ({ ed25519, mlDsa44 }: SignerPair): readonly Signer[] => [
  ed25519,
  mlDsa44,
];

/** What a pair signs of a change of the key set; `pq`: its ML-DSA-44 key too. */
export function vouchedBy(
  change: 'add' | 'retire',
  vkey: string,
  { ed25519, mlDsa44 }: SignerPair,
  pq = true,
): Detail {
  const message = new TextEncoder().encode(statementOf(ORIGIN, change, vkey));
  const signed = ({ sign: by }: Signer) => Buffer.from(by(message)).toString('base64');
  const classical = { vkey, by: ed25519.vkey.keyId, signature: signed(ed25519) };
  const hybrid = pq ? { pqBy: mlDsa44.vkey.keyId, pqSignature: signed(mlDsa44) } : {};
  return { ...classical, ...hybrid, zone: 'zone-a', kind: 'x' };
}

/** Entries that add or retire the keys of a pair, signed by another. */
export function keySetDrafts(
  change: 'add' | 'retire',
  pair: SignerPair,
  by: SignerPair,
  lane: number,
): Draft[] {
  return signersOf(pair).map(({ vkey }) => {
    const detail = vouchedBy(change, formatVkey(vkey), by);
    return { lane, operation: `audit.key.${change}`, detail };
  });
}

export const jsonLines = (rows: readonly unknown[]): string =>
  rows.map((row) => `${JSON.stringify(row)}\n`).join('');
