/** Whose client certificates are taken, and whom they name. */
import type { X509Certificate } from 'node:crypto';
import type { RoleMapping } from './role-mapping.ts';

/** Names of subjectAltName; the kind must be in the certificate exactly once. */
export type AlternativeSource = 'spiffe' | 'dns' | 'email';

/**
 * Where the subject of a principal stands: in one kind of alternative name, or in the subject of the
 * certificate. An issuer has one source, and what stands elsewhere is not looked at.
 */
export type SubjectSource = AlternativeSource | 'commonName' | 'distinguishedName';

export const SUBJECT_SOURCES = [
  'spiffe',
  'dns',
  'email',
  'commonName',
  'distinguishedName',
] as const satisfies readonly SubjectSource[];

export interface CertificateIssuerSettings {
  /** What its principals have as their issuer. */
  readonly issuer: string;
  readonly authorities: readonly X509Certificate[];
  readonly subject: SubjectSource;
  /** Of SPIFFE ids, the only one that is taken. */
  readonly trustDomain?: string | undefined;
  readonly roleMappings: readonly RoleMapping[];
  /** The only namespace in which its certificates are worth something; none: all of them. */
  readonly namespace?: string | undefined;
}
