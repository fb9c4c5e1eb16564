/** The route by which keys leave. */
import { REPLAYED_HEADER } from '../contract/admin-keys.ts';
import * as contract from '../contract/exports.ts';
import { findSuite } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { fingerprintText, recipientOf } from '../keyring/exports.ts';
import type { PreparedChange } from '../keyring/operations.ts';
import { answerPrepared } from './admin-keys.ts';
import { route } from './route.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

function exportedResource({ exported, used }: PreparedChange, dryRun: boolean) {
  if (exported === undefined) throw new TwofoldError('internal');
  const { binding, recipient, envelope } = exported;
  const { kem, kdf, aead } = recipient.suite.hpke;
  return {
    key: used.key,
    keyId: binding.keyId,
    keyVersion: binding.version,
    namespace: binding.namespace,
    suite: binding.suite.id,
    publicKey: binding.publicKey,
    recipient: { suite: recipient.suite.id, fingerprint: fingerprintText(recipient) },
    hpke: { kem, kdf, aead },
    envelope,
    ...(dryRun ? { dryRun: true } : {}),
  };
}

export function exportRoutes({
  manage,
}: Pick<HttpDependencies, 'manage'>): readonly GuardedRoute[] {
  return [
    route(contract.exportKey, {
      handle: async (call) => {
        const { version, recipient: named } = call.body;
        const recipient = recipientOf(findSuite(named.suite), named.publicKey);
        const { reply, done } = await answerPrepared<PreparedChange>(
          call,
          (change) => exportedResource(change, call.query.dryRun === true),
          (run) => manage.export(call.grant, { version, recipient }, run),
        );
        if (done.change !== null) {
          call.notes.used(done.change.used);
          call.notes.detail(done.change.detail);
        }
        return done.replayed ? { ...reply, headers: { [REPLAYED_HEADER]: 'true' } } : reply;
      },
    }),
  ];
}
