/** Routes of delegated grants. */
import * as contract from '../contract/key-grants.ts';
import { TwofoldError } from '../errors.ts';
import { answerSet, memberTag, pageOfMembers } from './governed.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { ContextConstraint } from '../access/delegation.ts';
import type { KeyGrant } from '../governance/key-grants.ts';
import type { Member, PreparedSetChange } from '../governance/sealed-set.ts';
import type { KeyView } from '../keyring/operations.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

type Named = KeyView['key'];

const resourceOf =
  ({ id: keyId, name: key }: Named) =>
  ({ name: id, at, by, value }: Member<KeyGrant>) => ({
    id,
    name: value.label,
    key,
    keyId,
    granter: by,
    grantee: value.grantee,
    operations: value.operations,
    encryptionContext: value.encryptionContext,
    createdAt: at.toISOString(),
    expiresAt: value.expiresAt.toISOString(),
  });

/** The one grant that a change is about; what had expired may have gone in the same change. */
const changedOf =
  (key: Named, id?: string) =>
  ({ changes }: PreparedSetChange<KeyGrant>): object => {
    const change = changes.find(({ name, after }) => (id === undefined ? after : name === id));
    const member = change?.after ?? change?.before;
    if (member === undefined || member === null) throw new TwofoldError('not_found');
    return { ...resourceOf(key)(member), ended: change?.after === null };
  };

type Dependencies = Pick<HttpDependencies, 'governance' | 'pageTokenKey'>;

function readingRoutes({ governance, pageTokenKey }: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listGrants, {
      handle: async (call) => {
        const { key, view } = await governance.grants.list(call.grant);
        const { id } = contract.listGrants;
        return { body: pageOfMembers(tokens, id, call, view, resourceOf(key)) };
      },
    }),
    route(contract.getGrant, {
      handle: async ({ grant, params }) => {
        const { key, view } = await governance.grants.list(grant);
        const member = view.members.get(params.id);
        if (member === undefined) throw new TwofoldError('not_found');
        return { body: resourceOf(key)(member), headers: memberTag(member) };
      },
    }),
  ];
}

/** Facts of the narrowest use that the grant would allow. */
const factsOf = (constraint: ContextConstraint | null) =>
  constraint === null ? {} : { encryptionContext: constraint.pairs };

function changingRoutes({ governance }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.createGrant, {
      handle: async (call) => {
        const { grantee, operations, encryptionContext = null, expiresAt, name } = call.body;
        // What was lent to the caller counts for none of them: nobody lends on.
        for (const operation of operations) {
          call.grantFor(operation, call.params.key, factsOf(encryptionContext));
        }
        const wanted = {
          grantee,
          operations,
          encryptionContext,
          expiresAt: new Date(expiresAt),
          label: name ?? null,
        };
        const key = await governance.grants.keyOf(call.grant);
        return answerSet(
          call,
          changedOf(key),
          (run) => governance.grants.create(call.grant, wanted, run),
          201,
        );
      },
    }),
    ...(
      [
        [contract.retireGrant, 'retire'],
        [contract.revokeGrant, 'revoke'],
      ] as const
    ).map(([ending, how]) =>
      route(ending, {
        handle: async (call) => {
          const key = await governance.grants.keyOf(call.grant);
          const { id } = call.params;
          return answerSet(call, changedOf(key, id), (run) =>
            governance.grants.end(call.grant, { id, how }, run),
          );
        },
      }),
    ),
  ];
}

export function keyGrantRoutes(deps: Dependencies): readonly GuardedRoute[] {
  return [...readingRoutes(deps), ...changingRoutes(deps)];
}
