/** Routes by which keys come in. */
import * as contract from '../contract/imports.ts';
import { findSuite } from '../crypto/suites.ts';
import { answerChange, given, showKey } from './admin-keys.ts';
import { route } from './route.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

export function importRoutes({
  imports,
}: Pick<HttpDependencies, 'imports'>): readonly GuardedRoute[] {
  return [
    route(contract.importParameters, {
      handle: async ({ grant, query, notes }) => {
        const made = await imports.parameters(grant, findSuite(query.suite));
        const { id, suite, text, envelope, publicKey, importing, expiresAt } = made;
        const { kem, kdf, aead } = envelope.hpke;
        notes.detail({ importParameters: id, suite: suite.id });
        return {
          body: {
            id,
            suite: suite.id,
            parameters: text,
            envelope: { suite: envelope.id, hpke: { kem, kdf, aead }, publicKey },
            importingKey: importing,
            expiresAt,
          },
        };
      },
    }),
    route(contract.importKey, {
      facts: ({ suite, labels }) => [{ suite, ...(labels === undefined ? {} : { labels }) }],
      handle: (call) => {
        const {
          labels = {},
          deletionProtection = false,
          publish = false,
          publicKey = null,
          ...named
        } = call.body;
        call.notes.named(named.name);
        const suite = findSuite(named.suite);
        const input = {
          ...given(named),
          ...{ suite, labels, deletionProtection, publish, publicKey },
        };
        return answerChange(call, showKey, (run) => imports.import(call.grant, input, run), 201);
      },
    }),
  ];
}
