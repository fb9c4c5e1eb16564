/**
 * The development issuer: ML-DSA-65 tokens (RFC 9964) from a seed in the data folder.
 *
 * It stands where an OIDC issuer stands in production and is trusted like one, through its JWK Set.
 * Who can read the seed can be anybody; production configurations do not name it.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  randomBytes,
  randomUUID,
} from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { SignJWT, calculateJwkThumbprint, exportJWK } from 'jose';
import type { JWK } from 'jose';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import type { IssuerSettings } from './issuers.ts';
import type { KeyRead } from './key-source.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

const ALGORITHM = 'ML-DSA-65';
/** Seed ξ of FIPS 204 section 3.6.3, in bytes; the file holds nothing else. */
const SEED_LENGTH = 32;
const ROLES_CLAIM = 'roles';
const MAX_TTL_SECONDS = 86_400;

/** File of the seed, in the data folder. */
export const SEED_FILE = 'development-issuer.seed';

export interface TokenRequest {
  readonly roles: readonly string[];
  /** 1 to 86,400. */
  readonly ttlSeconds: number;
  /** `development-<first role>` unless given. */
  readonly subject?: string | undefined;
}

export interface IssuedToken {
  readonly token: string;
  readonly expiresAt: Date;
}

export interface DevelopmentIssuerOptions {
  /** The data folder, mode 0700. */
  readonly folder: string;
  /** Whether a missing seed is made; a command beside the server only reads it. */
  readonly create: boolean;
  readonly now?: (() => Date) | undefined;
}

export class DevelopmentIssuer {
  readonly #folder: string;
  readonly #now: () => Date;
  #pair: Pair;

  private constructor(folder: string, pair: Pair, now: () => Date) {
    this.#folder = folder;
    this.#pair = pair;
    this.#now = now;
  }

  /**
   * @throws TwofoldError not_found when the seed is missing and not to be made, invalid_value when it
   *   is damaged or open to others, storage_full when it cannot be made for want of room
   */
  static async open(options: DevelopmentIssuerOptions): Promise<DevelopmentIssuer> {
    const pair = await pairOf(await loadSeed(options));
    return new DevelopmentIssuer(options.folder, pair, options.now ?? (() => new Date()));
  }

  /** The public key as a JWK Set. */
  get jwks(): { readonly keys: readonly JWK[] } {
    return { keys: [this.#pair.publicKey] };
  }

  /** What the authenticator needs to accept these tokens. */
  get settings(): IssuerSettings {
    return {
      issuer: NAME.developmentIssuer,
      audience: NAME.audience,
      readKeys: () => this.#readKeys(),
      algorithms: [ALGORITHM],
      rolesClaim: ROLES_CLAIM,
      maxLifetime: MAX_TTL_SECONDS,
    };
  }

  /** The set of the seed that the file holds now; from then on tokens are of that seed too. */
  async #readKeys(): Promise<KeyRead> {
    const seed = await loadSeed({ folder: this.#folder, create: false });
    if (fingerprintOf(seed) === this.#pair.fingerprint) wipe(seed);
    else this.#pair = await pairOf(seed);
    const bytes = new TextEncoder().encode(JSON.stringify(this.jwks));
    return { bytes, version: this.#pair.publicKey.kid ?? '' };
  }

  /** @throws RangeError for a time to live outside 1 to 86,400 s */
  async issueToken({ roles, ttlSeconds, subject }: TokenRequest): Promise<IssuedToken> {
    if (!(Number.isInteger(ttlSeconds) && ttlSeconds >= 1 && ttlSeconds <= MAX_TTL_SECONDS)) {
      throw new RangeError(`a development token lives 1 to ${MAX_TTL_SECONDS} s`);
    }
    const issuedAt = Math.floor(this.#now().getTime() / 1000);
    const expiry = issuedAt + ttlSeconds;
    const token = await new SignJWT({ [ROLES_CLAIM]: [...roles] })
      .setProtectedHeader({ alg: ALGORITHM, kid: this.#pair.publicKey.kid ?? '', typ: 'JWT' })
      .setIssuer(NAME.developmentIssuer)
      .setAudience(NAME.audience)
      .setSubject(subject ?? `development-${roles[0] ?? 'nobody'}`)
      .setJti(randomUUID())
      .setIssuedAt(issuedAt)
      .setNotBefore(issuedAt)
      .setExpirationTime(expiry)
      .sign(this.#pair.key);
    return { token, expiresAt: new Date(expiry * 1000) };
  }
}

interface Pair {
  readonly key: KeyObject;
  readonly publicKey: JWK;
  /** Of the seed. */
  readonly fingerprint: string;
}

/** Takes the seed over, and wipes it. */
async function pairOf(seed: SecretBytes): Promise<Pair> {
  try {
    const key = importSeed(seed);
    const jwk = await exportJWK(createPublicKey(key));
    const kid = await calculateJwkThumbprint(jwk);
    const publicKey = { ...jwk, kid, alg: ALGORITHM, use: 'sig' };
    return { key, publicKey, fingerprint: fingerprintOf(seed) };
  } finally {
    wipe(seed);
  }
}

const fingerprintOf = (seed: SecretBytes): string =>
  createHash('sha256').update(seed.reveal()).digest('hex');

async function loadSeed({
  folder,
  create,
}: Pick<DevelopmentIssuerOptions, 'folder' | 'create'>): Promise<SecretBytes> {
  const path = join(folder, SEED_FILE);
  const stored = await readPrivateFile(path);
  if (stored !== undefined) {
    if (stored.length === SEED_LENGTH) return SecretBytes.own(stored);
    stored.fill(0);
    const detail = `${path} is damaged; remove it to make new development tokens.`;
    throw new TwofoldError('invalid_value', detail);
  }
  if (!create) {
    const detail = `${path} is missing; the server makes it at its first start.`;
    throw new TwofoldError('not_found', detail);
  }
  const seed = randomBytes(SEED_LENGTH);
  await writePrivateFile(path, seed);
  return SecretBytes.own(seed);
}

function importSeed(seed: SecretBytes): KeyObject {
  return createPrivateKey({
    key: seed.reveal(),
    format: 'raw-seed',
    asymmetricKeyType: 'ml-dsa-65',
  });
}
