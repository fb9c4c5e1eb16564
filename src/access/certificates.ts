/**
 * Authentication by client certificate (mTLS). TLS has proven that the client has the private key; whose
 * it is, and whether anybody vouches for that, is decided here, at each request.
 *
 * A certificate is taken when one of the issuer's pinned authorities signed it itself: intermediates that
 * a client brings along are not looked at, so no path is built and none can be confused. Issuers that a
 * namespace stored are asked after those of the configuration, and only where the request acts in it.
 */
import type { X509Certificate } from 'node:crypto';
import { mayBeUsedFor, readExtensions } from '../crypto/certificate-extensions.ts';
import { TwofoldError } from '../errors.ts';
import { CLIENT_AUTHENTICATION, notUnderstood } from './authorities.ts';
import { BoundedCache } from './bounded-cache.ts';
import type { AlternativeSource, CertificateIssuerSettings } from './certificate-issuer.ts';
import { DeniedCredential } from './denied.ts';
import { commonNameOf, distinguishedNameOf } from './distinguished-subject.ts';
import type { Principal } from './grant.ts';
import { mappedRoles } from './role-mapping.ts';
import { NOTHING_STORED } from './trust.ts';
import type { StoredTrust } from './trust.ts';

export interface CertificateOptions {
  readonly issuers: readonly CertificateIssuerSettings[];
  /** Of further issuers of the configuration, those of tokens: no stored one speaks under them. */
  readonly names?: readonly string[] | undefined;
  /** Further issuers, and what is denied; nothing unless given. */
  readonly trust?: StoredTrust | undefined;
  readonly now?: (() => Date) | undefined;
}

const MAX_SUBJECT = 255;
const FIELD = 'The certificate';
/** Of its signature; whoever finds a collision of these has a certificate that was signed for somebody else. */
const BROKEN_DIGEST = /md[245]|sha-?1(?![0-9])/iu;
/** A name as Node prints it; what it cannot print plainly it writes as a JSON string. */
const NAME = /([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^",]*)(?:, |$)/uy;
const LABEL: Readonly<Record<AlternativeSource, string>> = {
  spiffe: 'URI',
  dns: 'DNS',
  email: 'email',
};
/** SPIFFE-ID, section 2: a trust domain, and a path without empty, `.` and `..` segments. */
const SPIFFE_ID = /^spiffe:\/\/([a-z0-9._-]{1,255})((?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+)+)$/u;

/** Why a certificate was refused. Its `code` is for the log, which shows codes only. */
class RefusedCertificate extends Error {
  override readonly name = 'RefusedCertificate';
  readonly code: string;

  constructor(reason: string) {
    super(`certificate refused: ${reason}`);
    this.code = reason.toUpperCase().replaceAll(/[^A-Z0-9]+/gu, '_');
  }
}

const invalid = (reason: string): TwofoldError =>
  new TwofoldError('certificate_invalid', undefined, { cause: new RefusedCertificate(reason) });

export class CertificateAuthenticator {
  readonly #issuers: readonly CertificateIssuerSettings[];
  /** Names of issuers of the configuration, those of tokens too. */
  readonly #configured: ReadonlySet<string>;
  readonly #trust: StoredTrust;
  readonly #now: () => Date;
  readonly #signers = new Signers();

  constructor({ issuers, names = [], trust, now }: CertificateOptions) {
    this.#issuers = issuers;
    this.#configured = new Set([...names, ...issuers.map(({ issuer }) => issuer)]);
    this.#trust = trust ?? NOTHING_STORED;
    this.#now = now ?? (() => new Date());
  }

  /**
   * @throws TwofoldError certificate_invalid, certificate_expired, token_denied, integrity_failed,
   *   database_unavailable
   */
  async authenticate(certificate: X509Certificate, namespace: string): Promise<Principal> {
    const now = this.#now();
    // The namespace's own come first: they may map what the same authority signs in another way.
    const own = this.#issuers.filter((each) => each.namespace === namespace);
    const shared = this.#issuers.filter((each) => each.namespace === undefined);
    const signed = (settings: CertificateIssuerSettings) =>
      this.#signers.of(settings, certificate).some((authority) => isValidAt(authority, now));
    // What is stored never speaks for what is configured: neither for its authorities nor under its name.
    const settings =
      [...own, ...shared].find(signed) ??
      (await this.#trust.certificateIssuers(namespace)).find(
        (each) => !this.#configured.has(each.issuer) && signed(each),
      );
    if (settings === undefined) throw invalid('authority');
    checkUse(certificate, now);
    const subject = subjectOf(certificate, settings);
    const { issuer, roleMappings } = settings;
    const fingerprint = certificate.fingerprint256.replaceAll(':', '').toLowerCase();
    const principal: Principal = {
      issuer,
      subject,
      method: 'mtls',
      acr: null,
      amr: [],
      roles: [...new Set(mappedRoles(roleMappings, subject))].sort(),
      session: Uint8Array.from(Buffer.from(fingerprint, 'hex').subarray(0, 16)),
      expiresAt: certificate.validToDate,
      namespace: settings.namespace ?? null,
    };
    const serial = certificate.serialNumber.toLowerCase().replace(/^0+(?=.)/u, '');
    const issuedAt = certificate.validFromDate;
    const facts = {
      issuer,
      subject,
      tokenId: null,
      issuedAt,
      certificate: { fingerprint, serial },
    };
    if (await this.#trust.isDenied(namespace, facts)) throw new DeniedCredential(principal);
    return principal;
  }
}

const isValidAt = ({ validFromDate, validToDate }: X509Certificate, now: Date): boolean =>
  now >= validFromDate && now <= validToDate;

/** Certificates of one issuer whose signatures are remembered. */
const MAX_REMEMBERED = 1_000;

/**
 * Which authorities of an issuer signed a certificate, whatever the time: a signature is checked once, not
 * at each request over a connection. It is remembered for the settings as they stand.
 */
class Signers {
  readonly #known = new WeakMap<
    CertificateIssuerSettings,
    BoundedCache<string, readonly X509Certificate[]>
  >();

  of(
    settings: CertificateIssuerSettings,
    certificate: X509Certificate,
  ): readonly X509Certificate[] {
    let known = this.#known.get(settings);
    if (known === undefined) {
      known = new BoundedCache(MAX_REMEMBERED);
      this.#known.set(settings, known);
    }
    const { fingerprint256 } = certificate;
    const before = known.get(fingerprint256);
    if (before !== undefined) return before;
    const signers = settings.authorities.filter(
      (authority) =>
        authority.ca &&
        certificate.checkIssued(authority) &&
        certificate.verify(authority.publicKey),
    );
    known.set(fingerprint256, signers);
    return signers;
  }
}

function checkUse(certificate: X509Certificate, now: Date): void {
  if (now > certificate.validToDate) throw new TwofoldError('certificate_expired');
  if (!isValidAt(certificate, now)) throw invalid('not yet valid');
  if (certificate.ca) throw invalid('of an authority');
  // Node calls the extended key usage so; undefined without one, which would permit everything.
  const uses = certificate.keyUsage as readonly string[] | undefined;
  if (uses?.includes(CLIENT_AUTHENTICATION) !== true) throw invalid('extended key usage');
  if (BROKEN_DIGEST.test(certificate.signatureAlgorithm ?? ''))
    throw invalid('signature algorithm');
  const extensions = extensionsOf(certificate);
  if (notUnderstood(extensions) !== undefined) throw invalid('critical extension');
  if (!mayBeUsedFor(extensions, 'digitalSignature', FIELD)) throw invalid('key usage');
}

function extensionsOf({ raw }: X509Certificate): ReturnType<typeof readExtensions> {
  try {
    return readExtensions(raw, FIELD);
  } catch {
    throw invalid('extensions');
  }
}

function subjectOf(certificate: X509Certificate, settings: CertificateIssuerSettings): string {
  const { subject: source, trustDomain } = settings;
  if (source === 'commonName') return bounded(commonNameOf(certificate.raw, invalid));
  if (source === 'distinguishedName') return bounded(distinguishedNameOf(certificate.raw, invalid));
  return alternativeName(certificate, source, trustDomain);
}

function bounded(name: string): string {
  if (name.length > MAX_SUBJECT) throw invalid('name');
  return name;
}

function alternativeName(
  certificate: X509Certificate,
  source: AlternativeSource,
  trustDomain: string | undefined,
): string {
  const names = namesOf(certificate.subjectAltName ?? '');
  const [name, ...others] = names.filter(({ label }) => label === LABEL[source]);
  if (name === undefined) throw invalid('no such name');
  if (others.length > 0) throw invalid('conflicting names');
  const { value } = name;
  if (value.length > MAX_SUBJECT || !/^[\x21-\x7e]+$/u.test(value)) throw invalid('name');
  // Upper case names the same host (RFC 4343).
  if (source === 'dns') return value.toLowerCase();
  if (source !== 'spiffe') return value;
  const domain = SPIFFE_ID.exec(value)?.[1];
  if (domain === undefined) throw invalid('SPIFFE id');
  if (domain !== trustDomain) throw invalid('trust domain');
  return value;
}

interface AlternativeName {
  readonly label: string;
  readonly value: string;
}

/** All of it or nothing: a text that reads differently than it was meant names nobody. */
function namesOf(text: string): readonly AlternativeName[] {
  const names: AlternativeName[] = [];
  NAME.lastIndex = 0;
  for (let at = 0; at < text.length; at = NAME.lastIndex) {
    const [, label, value] = NAME.exec(text) ?? [];
    if (label === undefined || value === undefined) throw invalid('names');
    // What Node had to quote is no name that a principal has.
    if (value.startsWith('"')) throw invalid('quoted name');
    names.push({ label, value });
  }
  return names;
}
