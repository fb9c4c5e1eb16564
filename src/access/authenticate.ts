/**
 * Authentication by bearer token: from an `Authorization` header to a `Principal`.
 *
 * A verified token is remembered until it expires, until the key that verified it leaves its issuer's
 * set, or until a change of access is made known by the security epoch, whichever is first. Refusals
 * are not remembered.
 */
import { hash } from 'node:crypto';
import { errors as joseErrors, jwtVerify } from 'jose';
import type { CryptoKey } from 'jose';
import { isOfPoliciesAlone } from '../epoch.ts';
import type { SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { bearerToken, invalidToken, outlineToken } from './bearer.ts';
import type { TokenOutline } from './bearer.ts';
import { BoundedCache } from './bounded-cache.ts';
import { CertificateAuthenticator } from './certificates.ts';
import type { CertificateIssuerSettings } from './certificate-issuer.ts';
import { factsOf, principalOf } from './claims.ts';
import { DeniedCredential } from './denied.ts';
import type { Principal } from './grant.ts';
import { Issuer } from './issuers.ts';
import type { IssuerOptions, IssuerSettings } from './issuers.ts';
import type { TokenAlgorithm } from './jwk-set.ts';
import type { KeySet } from './key-set.ts';
import type { Admit, Authenticator, Credentials } from './ports.ts';
import { NOTHING_STORED } from './trust.ts';
import type { StoredTrust, TrustedIssuer } from './trust.ts';

export interface AuthenticationOptions extends IssuerOptions {
  readonly issuers: readonly IssuerSettings[];
  readonly epoch: SecurityEpoch;
  /** Further issuers, and what is denied; nothing unless given. */
  readonly trust?: StoredTrust | undefined;
  /** Whose client certificates are taken; nobody's unless given. */
  readonly certificates?: readonly CertificateIssuerSettings[] | undefined;
  /** Whether clients are asked for certificates of whomever, so that stored issuers may vouch for them. */
  readonly asksForCertificates?: boolean | undefined;
  /** Seconds that our clock and an issuer's may differ; at most 60. */
  readonly clockTolerance?: number | undefined;
  /** Verified tokens remembered. */
  readonly capacity?: number | undefined;
  /** Signature checks under way at one time, over which tokens not seen before are turned away. */
  readonly concurrency?: number | undefined;
  readonly now?: (() => Date) | undefined;
}

const DEFAULTS = { clockTolerance: 10, capacity: 10_000, concurrency: 256 } as const;
const MAX_CLOCK_TOLERANCE = 60;

interface Verified {
  readonly principal: Principal;
  readonly issuer: Issuer;
  /** The key that verified it, how it was found, and the latest set that was seen to have it. */
  readonly key: CryptoKey;
  readonly algorithm: TokenAlgorithm;
  readonly keyId: string | undefined;
  keys: KeySet;
}

/** A token as a request brings it. */
interface Brought {
  readonly token: string;
  /** SHA-256 of it, base64url. */
  readonly digest: string;
  readonly namespace: string;
}

export class TokenAuthenticator implements Authenticator {
  readonly #issuers: ReadonlyMap<string, Issuer>;
  readonly #trust: StoredTrust;
  readonly #certificates: CertificateAuthenticator | null;
  /** Of those configured, for tokens and for certificates. */
  readonly names: readonly string[];
  /** Those configured, of client certificates. */
  readonly certificateIssuers: readonly CertificateIssuerSettings[];
  readonly #clockTolerance: number;
  readonly #concurrency: number;
  readonly #now: () => Date;
  readonly #verified: BoundedCache<string, Verified>;
  #pending = new Map<string, Promise<Verified>>();
  #checking = 0;

  private constructor(issuers: ReadonlyMap<string, Issuer>, options: AuthenticationOptions) {
    this.#issuers = issuers;
    this.#trust = options.trust ?? NOTHING_STORED;
    const { certificates = [], asksForCertificates = false, trust, now } = options;
    this.names = [...issuers.keys(), ...certificates.map(({ issuer }) => issuer)];
    this.certificateIssuers = certificates;
    // By the configuration alone: who is refused learns nothing of what a namespace has stored.
    this.#certificates =
      certificates.length > 0 || asksForCertificates
        ? new CertificateAuthenticator({ issuers: certificates, names: this.names, trust, now })
        : null;
    this.#clockTolerance = options.clockTolerance ?? DEFAULTS.clockTolerance;
    this.#concurrency = options.concurrency ?? DEFAULTS.concurrency;
    this.#now = options.now ?? (() => new Date());
    this.#verified = new BoundedCache(options.capacity ?? DEFAULTS.capacity);
    options.epoch.onChange((change) => {
      if (change.scope === 'access' && !isOfPoliciesAlone(change)) this.#forget();
    });
  }

  /**
   * Opens every issuer. There is no anonymous fallback: without an issuer no token is accepted, and
   * nobody comes in.
   *
   * @throws Error for contradicting settings, two issuers of one name or an unreadable key file
   */
  static async open(options: AuthenticationOptions): Promise<TokenAuthenticator> {
    const tolerance = options.clockTolerance ?? DEFAULTS.clockTolerance;
    if (!(tolerance >= 0 && tolerance <= MAX_CLOCK_TOLERANCE)) {
      throw new RangeError(`the clock tolerance is 0 to ${MAX_CLOCK_TOLERANCE} s`);
    }
    const issuers = new Map<string, Issuer>();
    for (const settings of options.issuers) {
      if (issuers.has(settings.issuer)) throw new TypeError('two issuers have the same name');
      issuers.set(settings.issuer, await Issuer.open(settings, options));
    }
    return new TokenAuthenticator(issuers, options);
  }

  /** Tokens remembered at the moment. */
  get cached(): number {
    return this.#verified.size;
  }

  /** Names of issuers whose keys could not be read the last time. */
  get failing(): readonly string[] {
    return [...this.#issuers].filter(([, issuer]) => issuer.failing).map(([name]) => name);
  }

  /** Reads key sets again that are due, though no token asks for them: a key taken away ends in time. */
  async refresh(): Promise<void> {
    await Promise.all([...this.#issuers.values(), this.#trust].map((each) => each.refresh()));
  }

  /** Reads every key set again now. */
  async reload(): Promise<void> {
    await Promise.all([...this.#issuers.values(), this.#trust].map((each) => each.reload()));
  }

  /** Settings of the issuers that were configured. */
  get configured(): readonly IssuerSettings[] {
    return [...this.#issuers.values()].map(({ settings }) => settings);
  }

  async authenticate(
    { authorization, certificate, namespace }: Credentials,
    admit: Admit = (work) => work(),
  ): Promise<Principal> {
    // Whoever brings a token acts under it: a certificate of the connection may be a proxy's.
    if (authorization === undefined && certificate !== undefined && this.#certificates !== null) {
      const certificates = this.#certificates;
      return admit(() => certificates.authenticate(certificate, namespace));
    }
    const token = bearerToken(authorization);
    // As text: it is looked up for every request, and its bytes are wanted once.
    const digest = hash('sha256', token, 'base64url');
    // What a token is worth in one namespace says nothing about another.
    const id = `${digest} ${namespace}`;
    const known = this.#verified.get(id);
    if (known !== undefined) {
      if (isInForce(known, await known.issuer.keySet())) return this.#unexpired(id, known);
      this.#verified.delete(id);
    }
    const { principal } = await admit(() => this.#verifyOnce(id, { token, digest, namespace }));
    return principal;
  }

  #unexpired(id: string, { principal, issuer: { settings } }: Verified): Principal {
    const tolerance = settings.clockTolerance ?? this.#clockTolerance;
    const end = principal.expiresAt.getTime() + tolerance * 1000;
    if (this.#now().getTime() < end) return principal;
    this.#verified.delete(id);
    throw new TwofoldError('token_expired');
  }

  /** Requests that bring the same new token at once share one check. */
  #verifyOnce(id: string, brought: Brought): Promise<Verified> {
    const pending = this.#pending;
    const running = pending.get(id);
    if (running !== undefined) return running;
    const check = this.#verify(brought)
      .then((verified) => {
        // After a change of access `pending` is another map: what began before is not remembered.
        if (pending === this.#pending) this.#verified.set(id, verified);
        return verified;
      })
      .finally(() => pending.delete(id));
    pending.set(id, check);
    return check;
  }

  async #verify(brought: Brought): Promise<Verified> {
    const outline = outlineToken(brought.token);
    const trusted = await this.#trusted(brought.namespace, outline);
    const { issuer } = trusted;
    const { keyId } = outline;
    const [key, keys, algorithm] = await issuer.key(outline.algorithm, keyId);
    if (this.#checking >= this.#concurrency) {
      throw new TwofoldError('rate_limited', undefined, { retryAfter: 1 });
    }
    this.#checking += 1;
    try {
      const principal = await this.#principal(brought, trusted, key, algorithm);
      return { principal, issuer, key, algorithm, keyId, keys };
    } catch (error) {
      throw refusal(error);
    } finally {
      this.#checking -= 1;
    }
  }

  /** Those configured come first: what is stored never speaks for them. */
  async #trusted(namespace: string, outline: TokenOutline): Promise<TrustedIssuer> {
    const configured = this.#issuers.get(outline.issuer);
    if (configured !== undefined) return { issuer: configured, namespace: null };
    const stored = await this.#trust.issuer(namespace, outline.issuer);
    if (stored === null) throw invalidToken('issuer');
    return stored;
  }

  async #principal(
    { token, digest: text, namespace }: Brought,
    { issuer: { settings }, namespace: home }: TrustedIssuer,
    key: CryptoKey,
    algorithm: TokenAlgorithm,
  ): Promise<Principal> {
    const now = this.#now();
    const clockTolerance = settings.clockTolerance ?? this.#clockTolerance;
    const { payload } = await jwtVerify(token, key, {
      algorithms: [algorithm],
      issuer: settings.issuer,
      audience: settings.audience,
      requiredClaims: ['exp', 'sub'],
      clockTolerance,
      currentDate: now,
    });
    const digest = Buffer.from(text, 'base64url');
    const principal = principalOf(payload, { settings, home, digest, now, clockTolerance });
    if (await this.#trust.isDenied(namespace, factsOf(payload, principal))) {
      throw new DeniedCredential(principal);
    }
    return principal;
  }

  #forget(): void {
    this.#verified.clear();
    this.#pending = new Map();
  }
}

/** Whether the set still has the very key; what else changed in it does not matter to this token. */
function isInForce(known: Verified, keys: KeySet | undefined): boolean {
  if (keys === undefined) return false;
  if (keys === known.keys) return true;
  if (keys.find(known.algorithm, known.keyId) !== known.key) return false;
  known.keys = keys;
  return true;
}

/** jose's errors carry the claims; only their code goes on, and only as far as the log. */
function refusal(error: unknown): TwofoldError {
  if (error instanceof TwofoldError) return error;
  if (error instanceof joseErrors.JWTExpired) return new TwofoldError('token_expired');
  if (error instanceof joseErrors.JOSEError) return invalidToken(error.code);
  return invalidToken('verification failed');
}
