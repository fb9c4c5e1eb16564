/** Routes of aliases and of the primary version. */
import * as contract from '../contract/aliases.ts';
import { answerChange, given, showKey } from './admin-keys.ts';
import { route } from './route.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

export function aliasRoutes({ manage }: Pick<HttpDependencies, 'manage'>): readonly GuardedRoute[] {
  return [
    route(contract.putAlias, {
      handle: async (call) => {
        const { from } = call.body;
        if (from !== undefined) await call.resolve(from);
        const input = {
          alias: call.params.alias,
          from: from === undefined ? null : call.grantOn(from, {}),
        };
        if (from !== undefined) call.notes.detail({ from });
        return answerChange(call, showKey, (run) => manage.putAlias(call.grant, input, run));
      },
    }),
    route(contract.deleteAlias, {
      handle: (call) => {
        const input = { alias: call.params.alias };
        return answerChange(call, showKey, (run) => manage.deleteAlias(call.grant, input, run));
      },
    }),
    route(contract.setPrimary, {
      handle: (call) => {
        const input = { acceptQuantumVulnerable: false, ...given(call.body) };
        return answerChange(call, showKey, (run) => manage.setPrimary(call.grant, input, run));
      },
    }),
  ];
}
