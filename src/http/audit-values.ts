/** Routes of what audit entries say of encryption contexts. */
import * as contract from '../contract/audit-values.ts';
import { answerSet, memberTag } from './governed.ts';
import { contextBytes, itemHash } from './notes.ts';
import { route } from './route.ts';
import type { LoggableNames } from '../governance/loggable-context.ts';
import type { Member, PreparedSetChange } from '../governance/sealed-set.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

function resource(member: Member<LoggableNames> | null) {
  return {
    names: [...(member?.value ?? [])],
    updatedAt: member?.at.toISOString() ?? null,
    updatedBy: member?.by ?? null,
    revision: member?.revision ?? 0,
  };
}

const shownOf =
  (unchanged: Member<LoggableNames> | null) =>
  ({ changes: [change] }: PreparedSetChange<LoggableNames>) =>
    resource(change === undefined ? unchanged : change.after);

export function auditValueRoutes({
  governance,
  audit,
}: Pick<HttpDependencies, 'governance' | 'audit'>): readonly GuardedRoute[] {
  return [
    route(contract.getLoggableContext, {
      handle: async ({ grant }) => {
        const member = await governance.loggable.get(grant);
        return { body: resource(member), headers: member === null ? {} : memberTag(member) };
      },
    }),
    route(contract.putLoggableContext, {
      handle: async (call) => {
        const show = shownOf(await governance.loggable.get(call.grant));
        return answerSet(call, show, (run) =>
          governance.loggable.put(call.grant, call.body.names, run),
        );
      },
    }),
    route(contract.hashAuditValues, {
      handle: async ({ body: { encryptionContext = {}, aad, ref = '' }, notes }) => {
        // So that the entry says what was asked for, as the entries that are looked for say it.
        notes.context({ encryptionContext, aad });
        const named = Object.keys(encryptionContext).length > 0;
        const hashed = (values: Uint8Array | null) =>
          values === null ? Promise.resolve(null) : audit.hash(values);
        const item = itemHash(ref, contextBytes({ encryptionContext, aad }));
        const [contextHmac, aadHmac, version1, hashOfItem] = await Promise.all([
          hashed(named ? contextBytes({ encryptionContext }) : null),
          hashed(aad === undefined ? null : contextBytes({ aad })),
          hashed(named || aad !== undefined ? contextBytes({ encryptionContext, aad }) : null),
          audit.hash(item, 'item'),
        ]);
        return { body: { contextHmac, aadHmac, version1, itemHash: hashOfItem } };
      },
    }),
  ];
}
