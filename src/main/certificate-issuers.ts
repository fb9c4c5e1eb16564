/** Whose client certificates are taken, with the authorities as they stand in their files at the start. */
import type { CertificateIssuerSettings } from '../access/certificate-issuer.ts';
import { checkMappings } from '../access/role-mapping.ts';
import type { Config } from '../config.ts';
import { readAuthorities } from '../config/authorities.ts';

/** @throws TwofoldError invalid_value for a file that holds no authorities */
export const readCertificateIssuers = ({ access }: Config): readonly CertificateIssuerSettings[] =>
  access.certificates.map(({ issuer, caFile, subject, trustDomain, namespace, roles }) => {
    checkMappings(roles);
    return {
      issuer,
      authorities: readAuthorities(caFile),
      subject,
      trustDomain,
      namespace,
      roleMappings: roles,
    };
  });
