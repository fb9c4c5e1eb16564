/**
 * Where an issuer's keys come from, and when they are read again.
 *
 * A source that cannot be read leaves the last good set in force for an hour; after that, or when
 * there never was one, no token of the issuer is accepted. Nothing here ever means "no check".
 */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { TwofoldError } from '../errors.ts';
import { checkAddress, fetchDocument } from './fetch-document.ts';
import type { FetchRules, Fetched } from './fetch-document.ts';
import { MAX_KEY_SET_BYTES, assertPublic, readJwkSet, refusedKeySet } from './jwk-set.ts';
import type { TokenAlgorithm } from './jwk-set.ts';
import { KeySet } from './key-set.ts';

/** Milliseconds, on a monotonic clock. */
export interface RefreshRules {
  /** A set younger than this is used without asking the source. */
  readonly fresh: number;
  /** Least time between two reads that a token of an unknown key, or a failed read, causes. */
  readonly pause: number;
  /** Whether requests wait for a refresh that is due; where not, they use the last set meanwhile. */
  readonly wait: boolean;
}

export const FILE_RULES: RefreshRules = { fresh: 1_000, pause: 1_000, wait: true };
/** An address is asked by every process, so a minute: that is how long a key that was taken away may last. */
export const URL_RULES: RefreshRules = { fresh: 60_000, pause: 30_000, wait: false };
export const FIXED_RULES: RefreshRules = { fresh: Infinity, pause: Infinity, wait: true };

/** How long the last good set outlives a source that fails. */
const MAX_STALE = 3_600_000;
/** Least time between reads while there is no set at all. */
const PAUSE_WITHOUT_SET = 5_000;
const FETCH_TIMEOUT = 5_000;

export interface KeyRead {
  readonly bytes: Uint8Array;
  /** Equal for equal content, as far as the reader can tell without reading. */
  readonly version: string;
}

/** Reads the set, unless it can tell that it is still at version `known`. */
export type KeyReader = (known: string | undefined) => Promise<KeyRead | 'unchanged'>;

export interface KeySourceOptions {
  readonly read: KeyReader;
  readonly rules: RefreshRules;
  readonly algorithms: readonly TokenAlgorithm[];
  /** Thumbprints of the only keys that are taken; any unless given. */
  readonly pinned?: readonly string[] | undefined;
  /** Told of every read that failed. */
  readonly onFailure?: ((error: unknown) => void) | undefined;
  /** Told of every set that takes the place of another. */
  readonly onChange?: ((now: KeySet, before: KeySet) => void) | undefined;
  /** Milliseconds on a monotonic clock; for tests. */
  readonly monotonic?: (() => number) | undefined;
}

export class KeySource {
  readonly #options: KeySourceOptions;
  readonly #monotonic: () => number;
  #set: KeySet | undefined;
  #version: string | undefined;
  #failing = false;
  #confirmedAt = -Infinity;
  #triedAt = -Infinity;
  #running: Promise<void> | undefined;

  constructor(options: KeySourceOptions) {
    this.#options = options;
    this.#monotonic = options.monotonic ?? (() => performance.now());
  }

  /** The set in force: another object whenever its content changed. */
  get current(): KeySet | undefined {
    return this.#monotonic() - this.#confirmedAt > MAX_STALE + this.#options.rules.fresh
      ? undefined
      : this.#set;
  }

  /** Whether the last read failed, so that a key may be missing for no fault of the token. */
  get failing(): boolean {
    return this.#failing;
  }

  /** Seconds until a read may be tried again; what a caller is told to wait. */
  get retryAfter(): number {
    return Math.max(1, Math.ceil((this.#triedAt + this.#pause - this.#monotonic()) / 1000));
  }

  /** Reads again when the set is due; undefined when nothing needs waiting for. Never rejects. */
  refreshIfDue(): Promise<void> | undefined {
    const due = this.#monotonic() - this.#confirmedAt >= this.#options.rules.fresh;
    if (!due) return undefined;
    const running = this.#refresh();
    return this.#options.rules.wait || this.current === undefined ? running : undefined;
  }

  /** Reads again because a token names a key that is not in the set. Never rejects. */
  refreshForUnknownKey(): Promise<void> | undefined {
    return this.#refresh();
  }

  /** Reads again whatever is due, after a read under way: what changed before this call is seen. Never rejects. */
  async reload(): Promise<void> {
    await this.#running;
    await (this.#running ?? this.#begin());
  }

  get #pause(): number {
    const { pause } = this.#options.rules;
    return this.#set === undefined ? Math.min(pause, PAUSE_WITHOUT_SET) : pause;
  }

  #refresh(): Promise<void> | undefined {
    if (this.#running !== undefined) return this.#running;
    if (this.#monotonic() - this.#triedAt < this.#pause) return undefined;
    return this.#begin();
  }

  #begin(): Promise<void> {
    this.#triedAt = this.#monotonic();
    this.#running = this.#read()
      .catch((error: unknown) => {
        this.#failing = true;
        this.#options.onFailure?.(error);
      })
      .finally(() => (this.#running = undefined));
    return this.#running;
  }

  async #read(): Promise<void> {
    const startedAt = this.#monotonic();
    const read = await this.#options.read(this.#version);
    if (read !== 'unchanged' && (this.#set === undefined || read.version !== this.#version)) {
      const before = this.#set;
      this.#set = await KeySet.parse(read.bytes, this.#options, before);
      this.#version = read.version;
      if (before !== undefined) this.#options.onChange?.(this.#set, before);
    }
    this.#confirmedAt = startedAt;
    this.#failing = false;
  }
}

/** A file that was written later than this before it was looked at may be written again within one tick of its clock. */
const SETTLED = 2_000;

const versionOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Reads a file when its inode, size or times differ from those of the last good read, or are too new to tell. */
export function fileReader(path: string): KeyReader {
  let seen: { readonly place: string; readonly version: string } | undefined;
  return async (known) => {
    const { ino, size, mtimeNs, ctimeNs, ctimeMs } = await stat(path, { bigint: true });
    const place = [ino, size, mtimeNs, ctimeNs].join(' ');
    if (known !== undefined && seen?.place === place && seen.version === known) return 'unchanged';
    if (size > BigInt(MAX_KEY_SET_BYTES)) throw refusedKeySet('is too large');
    const settled = Date.now() - Number(ctimeMs) > SETTLED;
    const bytes = await readFile(path);
    const version = versionOf(bytes);
    if (version !== known) assertPublic(readJwkSet(bytes));
    seen = settled ? { place, version } : undefined;
    return version === known ? 'unchanged' : { bytes, version };
  };
}

/** Where a set is fetched from; without an `address`, from where the issuer's discovery document says. */
export interface PublishedKeys {
  readonly issuer: string;
  readonly address: string | undefined;
  readonly rules: FetchRules;
  readonly ca?: string | undefined;
}

/**
 * Fetches a set, and its issuer's discovery document before where it has no address of its own
 * (OpenID Connect Discovery 1.0, section 4): no redirects, 5 s in all, status 200, size capped.
 *
 * @throws TypeError for an address that is not one to fetch from
 */
export function urlReader({ issuer, address, rules, ca }: PublishedKeys): KeyReader {
  checkAddress(address ?? issuer, rules);
  return async () => {
    const signal = AbortSignal.timeout(FETCH_TIMEOUT);
    const shared = { rules, ca, signal };
    const place = address ?? (await discover(issuer, shared));
    const bytes = await fetchDocument({ what: 'key set', address: place, ...shared });
    return { bytes, version: versionOf(bytes) };
  };
}

/** Where an issuer says that its keys are. */
async function discover(
  issuer: string,
  shared: Pick<Fetched, 'rules' | 'ca' | 'signal'>,
): Promise<string> {
  const address = `${issuer.replace(/\/$/u, '')}${DISCOVERY_PATH}`;
  const bytes = await fetchDocument({ what: 'discovery document', address, ...shared });
  const refuse = (why: string) =>
    new TwofoldError('invalid_value', `The discovery document ${why}.`);
  const document = parseDocument(bytes);
  if (document === undefined) throw refuse('is no JSON object');
  if (document['issuer'] !== issuer) throw refuse('is of another issuer');
  const place = document['jwks_uri'];
  if (typeof place !== 'string') throw refuse('names no jwks_uri');
  try {
    return checkAddress(place, shared.rules).href;
  } catch {
    throw refuse('names a jwks_uri that is not fetched from');
  }
}

const DISCOVERY_PATH = '/.well-known/openid-configuration';

function parseDocument(bytes: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    return value as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
