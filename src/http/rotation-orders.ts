/** Routes of orders of rotations; how far one is, and its end by hand, are those of every operation. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/rotation-orders.ts';
import { findSuite } from '../crypto/suites.ts';
import { answerOperation, overseeing } from './operations.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { OrderFailure } from '../keyring/order-ports.ts';
import type { HttpDependencies, OperationLimits } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

const failureResource = ({ keyName, keyId, state, code, attempts, at }: OrderFailure) => ({
  key: keyName,
  keyId,
  state,
  code,
  attempts,
  at,
});

export function rotationOrderRoutes(
  { orders, pageTokenKey }: Pick<HttpDependencies, 'orders' | 'pageTokenKey'>,
  limits: OperationLimits,
): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.orderRotations, {
      facts: ({ suite }) => (suite === undefined ? [] : [{ suite }]),
      handle: (call) => {
        const { grant, body } = call;
        const { selector, suite, reason } = body;
        const input = {
          labels: 'labels' in selector ? selector.labels : null,
          suite: suite === undefined ? null : findSuite(suite),
          reason,
          running: limits.runningOperations,
        };
        return answerOperation(call, (run) => orders.place(grant, input, run));
      },
    }),
    route(contract.listOrderFailures, {
      handle: async (call) => {
        const { grant, notes, params, query } = call;
        const scope = pageScope(`${contract.listOrderFailures.id}/${params.id}`, grant, query);
        const limit = query.pageSize ?? DEFAULT_PAGE_SIZE;
        const afterKey = tokens.open(scope, query.pageToken);
        // One more tells whether another page exists.
        const page = { id: params.id, afterKey, limit: limit + 1 };
        const found = await orders.failures(grant, overseeing(call), page);
        notes.detail({ operationId: params.id });
        const items = found.slice(0, limit);
        const last = found.length > limit ? (items.at(-1)?.keyId ?? null) : null;
        return {
          body: { items: items.map(failureResource), nextPageToken: tokens.seal(scope, last) },
        };
      },
    }),
  ];
}
