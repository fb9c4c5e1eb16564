/** Token issuers: who may vouch for a principal, with which keys and under which limits. */
import type { CryptoKey } from 'jose';
import { TwofoldError } from '../errors.ts';
import { invalidToken } from './bearer.ts';
import { TOKEN_ALGORITHMS } from './jwk-set.ts';
import type { TokenAlgorithm } from './jwk-set.ts';
import type { KeySet } from './key-set.ts';
import {
  FILE_RULES,
  FIXED_RULES,
  KeySource,
  URL_RULES,
  fileReader,
  urlReader,
} from './key-source.ts';
import type { KeyReader, RefreshRules } from './key-source.ts';
import type { RoleMapping } from './role-mapping.ts';

/** One issuer; exactly one of `jwksFile`, `jwksUrl`, `jwks`, `discovery` and `readKeys`. */
export interface IssuerSettings {
  /** Compared with `iss` character by character. */
  readonly issuer: string;
  /** Must be, or be among, the token's `aud`. */
  readonly audience: string;
  readonly jwksFile?: string | undefined;
  readonly jwksUrl?: string | undefined;
  /** A set in memory, which never changes. */
  readonly jwks?: { readonly keys: readonly object[] } | undefined;
  /** Asks the issuer where its keys are. */
  readonly discovery?: boolean | undefined;
  /** What reads the set, as often as a file; the development issuer's. */
  readonly readKeys?: KeyReader | undefined;
  readonly algorithms: readonly TokenAlgorithm[];
  /** Name of the top-level claim that holds the roles. */
  readonly rolesClaim: string;
  /** Longest `exp - iat` in seconds; with a limit, `iat` is required. */
  readonly maxLifetime?: number | undefined;
  /** Seconds that its clock and ours may differ; the service's own tolerance unless told. */
  readonly clockTolerance?: number | undefined;
  /** Thumbprints (RFC 7638) of the only keys that are taken, whatever its set says. */
  readonly pinned?: readonly string[] | undefined;
  /** PEM of the authorities of the certificate of where its keys are fetched. */
  readonly ca?: string | undefined;
  /** Hosts that may have internal addresses; any unless given. */
  readonly internal?: readonly string[] | undefined;
  /** `kubernetes`: of service accounts, whose claims name them; they have no roles but mapped ones. */
  readonly kind?: 'oidc' | 'kubernetes' | undefined;
  /** Roles beside those of the claim. */
  readonly roleMappings?: readonly RoleMapping[] | undefined;
}

export interface IssuerOptions {
  /** Development only: key sets may come by plain http. */
  readonly plainHttp: boolean;
  /** Told of key sets that could not be read; for the log. */
  readonly onFailure?: ((issuer: string, error: unknown) => void) | undefined;
  /** Told of each set that takes the place of another, by thumbprints of what came and went. */
  readonly onChange?: ((change: KeySetChange) => void) | undefined;
  readonly monotonic?: (() => number) | undefined;
}

/** Thumbprints of keys (RFC 7638). */
export interface KeySetChange {
  readonly issuer: string;
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** A key, the set that has it, and the algorithm that it is bound to. */
type FoundKey = [CryptoKey, KeySet, TokenAlgorithm];

/** Most tokens that may wait at one time for the keys of one issuer to be fetched. */
const MAX_WAITING = 64;

export class Issuer {
  readonly settings: IssuerSettings;
  readonly #source: KeySource;
  #waiting = 0;

  private constructor(settings: IssuerSettings, source: KeySource) {
    this.settings = settings;
    this.#source = source;
  }

  /**
   * Opens the issuer and reads its keys. A file that cannot be read stops the start; an address
   * that does not answer does not: its tokens are refused until it does.
   *
   * @throws TypeError for settings that contradict themselves
   * @throws TwofoldError invalid_value for a file without usable keys; says why, and quotes nothing
   */
  static async open(settings: IssuerSettings, options: IssuerOptions): Promise<Issuer> {
    checkSettings(settings);
    const [read, rules] = readerOf(settings, options.plainHttp);
    let failure: unknown;
    const source = new KeySource({
      read,
      rules,
      algorithms: settings.algorithms,
      pinned: settings.pinned,
      monotonic: options.monotonic,
      onFailure: (error) => {
        failure = error;
        options.onFailure?.(settings.issuer, error);
      },
      onChange: (now, before) => options.onChange?.(changeOf(settings.issuer, now, before)),
    });
    await source.refreshForUnknownKey();
    if (source.current === undefined && !isFetched(settings)) {
      throw unusable(settings, failure);
    }
    return new Issuer(settings, source);
  }

  /** Whether the last read of its keys failed. */
  get failing(): boolean {
    return this.#source.failing;
  }

  /** Reads the keys again where that is due, though no token asks for them. Never rejects. */
  async refresh(): Promise<void> {
    await this.#source.refreshIfDue();
  }

  /** Reads the keys again now. Never rejects; a read that fails leaves what is in force. */
  async reload(): Promise<void> {
    await this.#source.reload();
  }

  /** The keys in force, read again first where that is due. */
  async keySet(): Promise<KeySet | undefined> {
    const refresh = this.#source.refreshIfDue();
    // With a set in force the wait is for a file's `stat`, which no caller can draw out.
    if (refresh !== undefined) await (this.#source.current ? refresh : this.#wait(refresh));
    return this.#source.current;
  }

  /**
   * The key that a token's header selects. A `kid` that the set lacks makes the set be read again,
   * at most once in the source's pause. While it cannot be read the token is `token_invalid` with a
   * `Retry-After`: an unknown key is never a reason to trust, and the caller's token may be good.
   *
   * @throws TwofoldError token_invalid, rate_limited
   */
  async key(algorithm: string, keyId: string | undefined): Promise<FoundKey> {
    const allowed = this.settings.algorithms.find((name) => name === algorithm);
    if (allowed === undefined) throw invalidToken('alg is not one of the issuer');
    const found = find(await this.keySet(), allowed, keyId);
    if (found !== undefined) return found;
    const refresh = this.#source.refreshForUnknownKey();
    if (refresh !== undefined) await this.#wait(refresh);
    const second = find(this.#source.current, allowed, keyId);
    if (second !== undefined) return second;
    throw this.#source.failing
      ? invalidToken('the key set cannot be read', this.#source.retryAfter)
      : invalidToken('no such key');
  }

  async #wait(refresh: Promise<void>): Promise<void> {
    if (this.#waiting >= MAX_WAITING) {
      throw new TwofoldError('rate_limited', undefined, { retryAfter: 1 });
    }
    this.#waiting += 1;
    try {
      await refresh;
    } finally {
      this.#waiting -= 1;
    }
  }
}

function changeOf(issuer: string, now: KeySet, before: KeySet): KeySetChange {
  const [old, current] = [before.thumbprints, now.thumbprints];
  return {
    issuer,
    added: current.filter((key) => !old.includes(key)),
    removed: old.filter((key) => !current.includes(key)),
  };
}

function unusable({ issuer, jwksFile }: IssuerSettings, failure: unknown): TwofoldError {
  const why = TwofoldError.is(failure) ? failure.message : `${jwksFile ?? ''} cannot be read.`;
  const detail = `The keys of issuer ${issuer} cannot be used. ${why}`;
  return new TwofoldError('invalid_value', detail, { cause: failure });
}

function find(
  set: KeySet | undefined,
  algorithm: TokenAlgorithm,
  keyId: string | undefined,
): FoundKey | undefined {
  const key = set?.find(algorithm, keyId);
  return set === undefined || key === undefined ? undefined : [key, set, algorithm];
}

function checkSettings({ issuer, audience, algorithms, ...from }: IssuerSettings) {
  const { jwks, jwksFile, jwksUrl, readKeys, discovery } = from;
  const sources = [jwks, jwksFile, jwksUrl, readKeys, discovery].filter(
    (source) => source !== undefined,
  );
  if (sources.length !== 1) throw new TypeError('an issuer has exactly one source of keys');
  if (issuer === '' || audience === '') throw new TypeError('an issuer needs `iss` and `aud`');
  const known: readonly string[] = TOKEN_ALGORITHMS;
  if (algorithms.length === 0 || !algorithms.every((name) => known.includes(name))) {
    throw new TypeError('an issuer needs algorithms, asymmetric ones only');
  }
}

const isFetched = ({ jwksUrl, discovery }: IssuerSettings): boolean =>
  jwksUrl !== undefined || discovery === true;

/** How an issuer's set is read, and when again. @throws TypeError for an address not to fetch from */
export function readerOf(settings: IssuerSettings, plainHttp: boolean): [KeyReader, RefreshRules] {
  const { issuer, jwksUrl: address, jwksFile, readKeys, internal = null, ca } = settings;
  if (isFetched(settings)) {
    return [urlReader({ issuer, address, rules: { plainHttp, internal }, ca }), URL_RULES];
  }
  if (jwksFile !== undefined) return [fileReader(jwksFile), FILE_RULES];
  if (readKeys !== undefined) return [readKeys, FILE_RULES];
  const bytes = new TextEncoder().encode(JSON.stringify(settings.jwks));
  return [() => Promise.resolve({ bytes, version: 'fixed' }), FIXED_RULES];
}
