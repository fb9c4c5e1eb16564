/** Routes of the root: its generations, and their rotation. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/root.ts';
import { answerOperation, noteOperation, operationResource } from './operations.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { RootStanding } from '../governance/root-rotations.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

const generationResource = ({ generation, state, references, missing }: RootStanding) => ({
  generation,
  state,
  references: Object.fromEntries(references.map(({ what, rows }) => [what, rows])),
  missingFrom: missing.map(({ id, zone }) => ({ instance: id, zone })),
});

export function rootRoutes({
  rootRotations,
  pageTokenKey,
}: Pick<HttpDependencies, 'rootRotations' | 'pageTokenKey'>): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.getRoot, {
      handle: async ({ grant }) => {
        const { generations, ...rest } = await rootRotations.facts(grant);
        return { body: { ...rest, generations: generations.map(generationResource) } };
      },
    }),
    route(contract.rotateRoot, {
      handle: (call) => {
        const { generation = null, withoutZones = [], reason } = call.body;
        return answerOperation(
          call,
          (run) => rootRotations.begin(call.grant, { generation, withoutZones, reason }, run),
          { status: 201, location: ({ id }) => `${contract.rotateRoot.path}/${id}` },
        );
      },
    }),
    route(contract.listRootRotations, {
      handle: async ({ grant, query }) => {
        const scope = pageScope(contract.listRootRotations.id, grant, query);
        const { items, next } = await rootRotations.list(grant, {
          pageSize: query.pageSize ?? DEFAULT_PAGE_SIZE,
          after: tokens.open(scope, query.pageToken),
        });
        return {
          body: { items: items.map(operationResource), nextPageToken: tokens.seal(scope, next) },
        };
      },
    }),
    route(contract.getRootRotation, {
      handle: async ({ grant, notes, params }) => {
        const view = await rootRotations.get(grant, params.id);
        noteOperation(notes, view);
        return { body: operationResource(view) };
      },
    }),
  ];
}
