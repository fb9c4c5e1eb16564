/** Who is let in: the issuers of the configuration, those that are stored, and in dev one of our own. */
import { AdminToken } from '../access/admin-token.ts';
import { TokenAuthenticator } from '../access/authenticate.ts';
import { DevelopmentIssuer } from '../access/development-issuer.ts';
import type { IssuerSettings } from '../access/issuers.ts';
import type { Config } from '../config.ts';
import type { SecurityEpoch } from '../epoch.ts';
import type { Governance } from '../governance/governance.ts';
import { GovernedTrust } from '../governance/trust.ts';
import type { HttpDependencies } from '../http/dependencies.ts';
import { NAME } from '../name.ts';
import type { Log } from '../telemetry/logs.ts';
import { readCertificateIssuers } from './certificate-issuers.ts';
import { onceEach } from './reloads.ts';
import type { Reloads } from './reloads.ts';
import type { Unwinding } from './unwinding.ts';

const ADMIN_NOT_RENEWED = 'the admin token was not renewed';

export interface AuthenticationParts {
  readonly config: Config;
  readonly epoch: SecurityEpoch;
  readonly reloads: Reloads;
  readonly log: Log;
  /** Asked only for tokens that are good so far, or of an issuer that the configuration lacks. */
  readonly governance: Governance;
  /** Whether it is the process that keeps what there is once. */
  readonly first: boolean;
}

export async function openAuthenticator(
  { config, epoch, reloads, log, governance, first }: AuthenticationParts,
  unwinding: Unwinding,
): Promise<TokenAuthenticator> {
  const { mode, dataDir } = config;
  const configured: IssuerSettings[] = [...config.issuers];
  let admin: AdminToken | undefined;
  const onFailure = onceEach((issuer, err) => {
    log.error({ issuer, err }, 'a key set could not be read');
  });
  const notRenewed = (err: unknown) => log.error({ err }, ADMIN_NOT_RENEWED);
  if (mode === 'dev') {
    const issuer = await DevelopmentIssuer.open({ folder: dataDir, create: true });
    configured.push(issuer.settings);
    if (first) {
      const token = await AdminToken.start({ issuer, folder: dataDir, onFailure: notRenewed });
      unwinding.add('admin token', () => token.stop());
      admin = token;
    }
  }
  return TokenAuthenticator.open({
    issuers: configured,
    certificates: readCertificateIssuers(config),
    asksForCertificates: asksForCertificates(config),
    epoch,
    trust: new GovernedTrust(governance, {
      plainHttp: mode === 'dev',
      internal: config.access.internalIssuers,
      onFailure,
      onChange: (change) => reloads.keysChanged(change),
    }),
    plainHttp: mode === 'dev',
    onFailure,
    onChange: (change) => {
      reloads.keysChanged(change);
      if (change.issuer !== NAME.developmentIssuer) return;
      admin?.renew().catch(notRenewed);
    },
  });
}

const asksForCertificates = ({ http, admin }: Config): boolean =>
  [http, admin].some((listener) => listener?.tls?.clientCertificates === 'request');

export const issuerFacts = (
  config: Config,
  { configured, certificateIssuers, names }: TokenAuthenticator,
): HttpDependencies['issuers'] => ({
  configured,
  certificates: certificateIssuers,
  asksForCertificates: asksForCertificates(config),
  names,
  internal: config.access.internalIssuers,
  plainHttp: config.mode === 'dev',
});
