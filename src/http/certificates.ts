/** Routes of certificate chains. */
import * as contract from '../contract/certificates.ts';
import { answerChange, showVersion } from './admin-keys.ts';
import { route } from './route.ts';
import type { ChainCertificate } from '../crypto/certificate-chain.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

function shown({ subject, issuer, notBefore, notAfter, signature }: ChainCertificate) {
  return {
    subject,
    issuer,
    notBefore: notBefore.toISOString(),
    notAfter: notAfter.toISOString(),
    signature,
  };
}

type Dependencies = Pick<HttpDependencies, 'manage' | 'read' | 'token'>;

export function certificateRoutes({ manage, read, token }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.getCertificateChain, {
      handle: async ({ grant, params, notes }) => {
        const { view, pem, chain } = await read.certificateChain(grant, params.version);
        notes.keyId(view.key.id);
        const certificates = chain.certificates.map(shown);
        const { endsInRoot, fullyVerified } = chain;
        return { body: { pem, certificates, endsInRoot, fullyVerified } };
      },
    }),
    route(contract.putCertificateChain, {
      handle: (call) => {
        const { version } = call.params;
        const input = { version, pem: call.body.pem };
        const show = showVersion(token, version);
        return answerChange(call, show, (run) =>
          manage.putCertificateChain(call.grant, input, run),
        );
      },
    }),
    route(contract.deleteCertificateChain, {
      handle: (call) => {
        const { version } = call.params;
        const show = showVersion(token, version);
        return answerChange(call, show, (run) =>
          manage.deleteCertificateChain(call.grant, { version }, run),
        );
      },
    }),
  ];
}
