/** Whose client certificates are taken, and whom they name. */
import type { X509Certificate } from 'node:crypto';
import type { RoleMapping } from './role-mapping.ts';

/** Where the subject stands: a name of the kind that must be in the certificate exactly once. */
export type SubjectSource = 'spiffe' | 'dns' | 'email';

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
