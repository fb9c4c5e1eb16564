/** Issuers of client certificates as a namespace stores them: their authorities, and whom they name. */
import { keyOf, parseAuthorities } from '../access/authorities.ts';
import { SUBJECT_SOURCES } from '../access/certificate-issuer.ts';
import type { CertificateIssuerSettings, SubjectSource } from '../access/certificate-issuer.ts';
import type { RoleMapping } from '../access/role-mapping.ts';
import { TwofoldError } from '../errors.ts';
import type { JsonObject } from '../keyring/set-ports.ts';
import { readBoolean, readText, readTextOrNull } from './stored-json.ts';

/** Authorities of one namespace, and of those the ones of one name: each may cost a check of a signature. */
const MAX_IN_NAMESPACE = 100;
const MAX_OF_ONE_NAME = 10;

export interface StoredCertificateIssuer {
  readonly kind: 'mtls';
  readonly issuer: string;
  /** PEM; each signs directly. */
  readonly authorities: string;
  readonly subject: SubjectSource;
  /** Of `spiffe`, and of nothing else. */
  readonly trustDomain: string | null;
  readonly roleMappings: readonly RoleMapping[];
  readonly shared: boolean;
}

const isSubject = (text: string): text is SubjectSource =>
  SUBJECT_SOURCES.some((source) => source === text);

/** Of a row that says `mtls`. @throws TwofoldError integrity_failed */
export function certificateIssuerFrom(
  json: JsonObject,
  roleMappings: readonly RoleMapping[],
): StoredCertificateIssuer {
  const subject = readText(json, 'subject');
  if (!isSubject(subject)) {
    throw new TwofoldError('integrity_failed', 'A stored issuer is malformed: subject.');
  }
  return {
    kind: 'mtls',
    issuer: readText(json, 'issuer'),
    authorities: readText(json, 'authorities'),
    subject,
    trustDomain: readTextOrNull(json, 'trustDomain'),
    roleMappings,
    shared: readBoolean(json, 'shared'),
  };
}

/**
 * As authentication takes it.
 * @param namespace where it is stored
 * @throws TwofoldError invalid_value
 */
export function certificateSettingsOf(
  stored: StoredCertificateIssuer,
  namespace: string,
): CertificateIssuerSettings {
  const { issuer, authorities, subject, trustDomain, roleMappings, shared } = stored;
  return {
    issuer,
    authorities: parseAuthorities(authorities),
    subject,
    trustDomain: trustDomain ?? undefined,
    roleMappings,
    namespace: shared ? undefined : namespace,
  };
}

/**
 * The same of what was stored before. Authorities that are not taken any more, by a version that asks more
 * of them, vouch for nobody; a dry run of the same says why, and the other issuers go on.
 */
export function vouchingSettings(
  stored: StoredCertificateIssuer,
  namespace: string,
): CertificateIssuerSettings {
  try {
    return certificateSettingsOf(stored, namespace);
  } catch (error) {
    if (!TwofoldError.is(error, 'invalid_value')) throw error;
    const { issuer, subject, roleMappings, shared } = stored;
    const place = shared ? undefined : namespace;
    return { issuer, authorities: [], subject, roleMappings, namespace: place };
  }
}

/**
 * That no other issuer that is asked in the namespace has an authority of the same key, so that who
 * vouches for a certificate is never a matter of order; and that they are not too many.
 * @throws TwofoldError already_exists, quota_exceeded
 */
export function checkBeside(
  settings: CertificateIssuerSettings,
  others: readonly CertificateIssuerSettings[],
): void {
  const known = others.flatMap(({ authorities }) => authorities);
  const keys = new Set(known.map(keyOf));
  if (settings.authorities.some((authority) => keys.has(keyOf(authority)))) {
    throw new TwofoldError('already_exists', 'An authority of it is one of another issuer.');
  }
  const all = [...known, ...settings.authorities];
  const named = Map.groupBy(all, ({ subject }) => subject.toLowerCase());
  const most = Math.max(...[...named.values()].map(({ length }) => length));
  if (all.length <= MAX_IN_NAMESPACE && most <= MAX_OF_ONE_NAME) return;
  const detail = `A namespace has at most ${String(MAX_IN_NAMESPACE)} authorities of client certificates, ${String(MAX_OF_ONE_NAME)} of them of one name.`;
  throw new TwofoldError('quota_exceeded', detail);
}
