/** What is stored of whom to believe and whom not, as authentication asks for it. */
import type { CertificateIssuerSettings } from './certificate-issuer.ts';
import type { Issuer } from './issuers.ts';

/** What of a verified credential a denial can name. */
export interface CredentialFacts {
  readonly issuer: string;
  readonly subject: string;
  /** `jti` of a token that has one. */
  readonly tokenId: string | null;
  /** `iat` of a token that has one; the beginning of a certificate. */
  readonly issuedAt: Date | null;
  readonly certificate: CertificateFacts | null;
}

export interface CertificateFacts {
  /** SHA-256 of the certificate, lower-case hex. */
  readonly fingerprint: string;
  /** Lower-case hex without leading zeros. */
  readonly serial: string;
}

/** An issuer, and where its tokens are worth something. */
export interface TrustedIssuer {
  readonly issuer: Issuer;
  /** Null: in every namespace. */
  readonly namespace: string | null;
}

export interface StoredTrust {
  /**
   * The issuer of this name whose tokens are good in the namespace, if there is one.
   * @throws TwofoldError integrity_failed, database_unavailable
   */
  issuer(namespace: string, name: string): Promise<TrustedIssuer | null>;
  /**
   * Whose client certificates are good in the namespace: the shared ones first, then its own.
   * @throws TwofoldError integrity_failed, database_unavailable
   */
  certificateIssuers(namespace: string): Promise<readonly CertificateIssuerSettings[]>;
  /**
   * Whether the credential is denied in the namespace, now.
   * @throws TwofoldError integrity_failed, database_unavailable
   */
  isDenied(namespace: string, facts: CredentialFacts): Promise<boolean>;
  /** Reads key sets again that are in use and due. Never rejects. */
  refresh(): Promise<void>;
  /** Reads those in use again now. Never rejects. */
  reload(): Promise<void>;
}

/** Nothing stored: for those that know issuers from elsewhere alone. */
export const NOTHING_STORED: StoredTrust = Object.freeze({
  issuer: () => Promise.resolve(null),
  certificateIssuers: () => Promise.resolve([]),
  isDenied: () => Promise.resolve(false),
  refresh: () => Promise.resolve(),
  reload: () => Promise.resolve(),
});
