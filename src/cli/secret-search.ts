/**
 * Looks for secrets where none may be: pure search over bytes, for `twofold doctor secrets`.
 *
 * Known secrets are looked for in raw, hex, base64 and base64url form, at all three alignments that a
 * secret inside a longer encoded text can have. Unknown ones are looked for by shape: PKCS#8 and
 * SEC1 private keys (also where hex or base64 hides them), PEM, private JWKs, and JWTs.
 */

/** A secret that must not be found; `name` says what it is, never its value. */
export interface KnownSecret {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface Finding {
  /** What was found: the secret's name, or the shape. */
  readonly what: string;
  /** `raw`, `hex`, `base64`, `base64url` or `shape`. */
  readonly form: string;
  /** Where: the name of the searched place. */
  readonly where: string;
  readonly offset: number;
}

interface Pattern {
  readonly what: string;
  readonly form: string;
  readonly bytes: Buffer;
}

/** Every pattern is indexed by this many leading bytes; shorter patterns would match by chance. */
const PREFIX = 6;
/** Shorter secrets are not looked for, and whoever has one must say so. */
export const SHORTEST_SECRET = PREFIX;
/** Longest text after which a piece overlaps the next one, so that nothing is cut in two. */
export const OVERLAP = 16_384;

/** The characters of an encoding that depend on the secret alone, at each alignment. */
function aligned(bytes: Uint8Array, encoding: 'base64' | 'base64url'): Buffer[] {
  return [0, 1, 2].map((shift) => {
    const shifted = Buffer.concat([Buffer.alloc(shift), bytes]);
    const text = shifted.toString(encoding).replace(/=+$/, '');
    shifted.fill(0);
    const start = Math.ceil((shift * 8) / 6);
    const end = Math.floor(((shift + bytes.length) * 8) / 6);
    return Buffer.from(text.slice(start, end), 'latin1');
  });
}

function patternsOf({ name, bytes }: KnownSecret): Pattern[] {
  const hex = Buffer.from(bytes).toString('hex');
  const forms: readonly (readonly [string, Buffer])[] = [
    ['raw', Buffer.from(bytes)],
    ['hex', Buffer.from(hex, 'latin1')],
    ['hex', Buffer.from(hex.toUpperCase(), 'latin1')],
    ...aligned(bytes, 'base64').map((text) => ['base64', text] as const),
    ...aligned(bytes, 'base64url').map((text) => ['base64url', text] as const),
  ];
  const patterns: Pattern[] = [];
  for (const [form, text] of forms) {
    const known = patterns.some((pattern) => pattern.bytes.equals(text));
    if (text.length < PREFIX || known) text.fill(0);
    else patterns.push({ what: name, form, bytes: text });
  }
  return patterns;
}

/** DER of a private key: PKCS#8 (RFC 5958) and SEC1 (RFC 5915); lengths short or long form. */
const DER_SHAPES: readonly (readonly [string, RegExp])[] = [
  [
    'PKCS#8 private key',
    /\x30(?:[\x20-\x7f]|\x81[\s\S]|\x82[\s\S]{2})\x02\x01[\x00\x01]\x30[\x05-\x40]\x06[\x03-\x0b][\x2a\x2b\x60][\s\S]{2,64}?\x04/,
  ],
  [
    'SEC1 private key',
    /\x30(?:[\x20-\x7f]|\x81[\s\S])\x02\x01\x01\x04(?:\x20[\s\S]{32}|\x30[\s\S]{48}|\x42[\s\S]{66})[\xa0\xa1]/,
  ],
];

const TEXT_SHAPES: readonly (readonly [string, RegExp])[] = [
  ['PEM private key', /-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----/],
  ['private JWK', /"(?:d|priv|k)"\s*:\s*"[A-Za-z0-9_-]{32,}"/],
  ['JWT', /eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}/],
];

/** Runs that may be an encoding of DER, decoded; the shortest private key is some 48 bytes. */
function* decodedRuns(text: string): Generator<readonly [number, string]> {
  for (const match of text.matchAll(/[0-9a-fA-F]{80,}/g)) {
    yield [match.index, Buffer.from(match[0], 'hex').toString('latin1')];
  }
  for (const match of text.matchAll(/[A-Za-z0-9+/_-]{60,}/g)) {
    for (const skip of [0, 1, 2, 3]) {
      yield [match.index, Buffer.from(match[0].slice(skip), 'base64').toString('latin1')];
    }
  }
}

export class SecretSearch {
  readonly #byPrefix = new Map<number, Pattern[]>();

  constructor(secrets: readonly KnownSecret[]) {
    for (const pattern of secrets.flatMap(patternsOf)) {
      const prefix = pattern.bytes.readUIntBE(0, PREFIX);
      const same = this.#byPrefix.get(prefix);
      if (same === undefined) this.#byPrefix.set(prefix, [pattern]);
      else same.push(pattern);
    }
  }

  /** Overwrites its copies of the secrets; it finds none of them any more. */
  wipe(): void {
    for (const { bytes } of [...this.#byPrefix.values()].flat()) bytes.fill(0);
    this.#byPrefix.clear();
  }

  /** Everything found in one piece of a place; `base` is the piece's offset in it. */
  search(where: string, piece: Uint8Array, base = 0): Finding[] {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    return [...this.#known(where, bytes, base), ...shapes(where, bytes, base)];
  }

  /** Known secrets alone: for places that are not ours, where a shape may be anybody's. */
  searchKnown(where: string, piece: Uint8Array): Finding[] {
    return [...this.#known(where, Buffer.from(piece), 0)];
  }

  *#known(where: string, bytes: Buffer, base: number): Generator<Finding> {
    for (let at = 0; at + PREFIX <= bytes.length; at++) {
      const candidates = this.#byPrefix.get(bytes.readUIntBE(at, PREFIX));
      if (candidates === undefined) continue;
      for (const { what, form, bytes: pattern } of candidates) {
        const whole = bytes.subarray(at, at + pattern.length).equals(pattern);
        if (whole) yield { what, form, where, offset: base + at };
      }
    }
  }
}

function* shapes(where: string, bytes: Buffer, base: number): Generator<Finding> {
  const text = bytes.toString('latin1');
  for (const [what, shape] of [...TEXT_SHAPES, ...DER_SHAPES]) {
    const found = shape.exec(text);
    if (found !== null) yield { what, form: 'shape', where, offset: base + found.index };
  }
  for (const [index, decoded] of decodedRuns(text)) {
    for (const [what, shape] of DER_SHAPES) {
      if (shape.test(decoded)) yield { what, form: 'shape', where, offset: base + index };
    }
  }
}

/** Searches a place piece by piece; pieces overlap so that nothing is cut in two. */
export async function searchPlace(
  search: SecretSearch,
  where: string,
  pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<Finding[]> {
  const found = new Map<string, Finding>();
  let tail = Buffer.alloc(0);
  let offset = 0;
  for await (const piece of pieces) {
    const bytes = Buffer.concat([tail, piece]);
    for (const finding of search.search(where, bytes, offset - tail.length)) {
      found.set(`${finding.what} ${finding.form} ${String(finding.offset)}`, finding);
    }
    offset += piece.length;
    tail = Buffer.from(bytes.subarray(Math.max(0, bytes.length - OVERLAP)));
  }
  return [...found.values()];
}
