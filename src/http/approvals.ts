/** Routes of approvals. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/approvals.ts';
import { answerPrepared } from './admin-keys.ts';
import { Consents, permitsConsent } from './consents.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { ApprovalDone, ApprovalRun, ApprovalView } from '../governance/approvals.ts';
import type { ChangeCall } from './admin-keys.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

export function approvalResource({ approval, state, needed }: ApprovalView) {
  const { id, operation, guards, rule, requester, approvers, reason, revision } = approval;
  const { method, path, query, ifMatch, bodyHash, requestHash: hash } = approval;
  return {
    id,
    state,
    operation,
    guards: [...guards],
    rule,
    requester,
    request: { method, path, query, ifMatch, bodyHash: base64(bodyHash), hash: base64(hash) },
    preview: JSON.parse(approval.preview) as Record<string, unknown> | null,
    needed: [...needed],
    approvals: approvers.map(({ issuer, subject, at }) => ({
      issuer,
      subject,
      at: at.toISOString(),
    })),
    reason,
    createdAt: approval.createdAt.toISOString(),
    expiresAt: approval.expiresAt.toISOString(),
    endedAt: approval.endedAt?.toISOString() ?? null,
    revision,
  };
}

export const approvalHeaders = ({ approval: { id, revision } }: ApprovalView) => ({
  ETag: `"${String(revision)}"`,
  Location: `/v1/admin/approvals/${id}`,
});

/** Runs a change of an approval and answers what it leaves behind. */
export async function answerApproval(
  call: ChangeCall,
  change: (run: ApprovalRun) => Promise<ApprovalDone>,
  status = 200,
) {
  const preview = call.query.dryRun === true ? { dryRun: true } : {};
  const { reply, done } = await answerPrepared(
    call,
    ({ view }) => ({ ...approvalResource(view), ...preview }),
    change,
    status,
  );
  const view = done.change?.view;
  if (view !== undefined) call.notes.detail({ approval: view.approval.id });
  return { ...reply, headers: view === undefined ? {} : approvalHeaders(view) };
}

type Dependencies = Pick<HttpDependencies, 'access' | 'governance' | 'issuers' | 'pageTokenKey'>;

function readingRoutes({ governance, pageTokenKey }: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listApprovals, {
      handle: async ({ grant, query }) => {
        const scope = pageScope(contract.listApprovals.id, grant, query);
        const { items, next } = await governance.approvals.list(grant, {
          state: query.state ?? null,
          pageSize: query.pageSize ?? DEFAULT_PAGE_SIZE,
          after: tokens.open(scope, query.pageToken),
        });
        const nextPageToken = tokens.seal(scope, next);
        return { body: { items: items.map(approvalResource), nextPageToken } };
      },
    }),
    route(contract.getApproval, {
      handle: async ({ grant, params, notes }) => {
        const view = await governance.approvals.get(grant, params.approval);
        notes.detail({ approval: params.approval });
        return { body: approvalResource(view), headers: approvalHeaders(view) };
      },
    }),
  ];
}

export function approvalRoutes(deps: Dependencies): readonly GuardedRoute[] {
  const { governance } = deps;
  const consents = new Consents(deps);
  return [
    ...readingRoutes(deps),
    route(contract.approveApproval, {
      handle: async (call) => {
        const { grant, tlsGroup } = call;
        const { namespace } = grant;
        await consents.require(namespace, call.principal);
        const permits = permitsConsent(await deps.access.in(namespace), namespace);
        const consent = { id: call.params.approval, tlsGroup, permits };
        return answerApproval(call, (run) => governance.approvals.approve(grant, consent, run));
      },
    }),
    route(contract.denyApproval, {
      handle: (call) => {
        const input = { id: call.params.approval, reason: call.body.reason };
        return answerApproval(call, (run) => governance.approvals.deny(call.grant, input, run));
      },
    }),
    route(contract.withdrawApproval, {
      handle: (call) => {
        const input = { id: call.params.approval, reason: call.body.reason };
        return answerApproval(call, (run) => governance.approvals.withdraw(call.grant, input, run));
      },
    }),
  ];
}
