/** Routes that read the audit log. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/audit.ts';
import { TwofoldError } from '../errors.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { AuditCursor, AuditRecord } from '../audit/ports.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

export function entryResource({ id, at, zone, leaf, body, draft }: AuditRecord) {
  return {
    id,
    at,
    zone,
    requestId: draft.requestId,
    operation: draft.operation,
    outcome: draft.outcome,
    namespace: draft.namespace,
    actor: draft.actor,
    key: {
      reference: draft.keyRef,
      id: draft.keyId,
      version: draft.keyVersion,
      suite: draft.suite,
    },
    decision: draft.decision,
    source: draft.source,
    contextKeys: draft.contextKeys,
    contextHmac: draft.contextHmac,
    items: draft.items,
    detail: draft.detail,
    leafHash: leaf,
    body,
  };
}

const cursorText = (cursor: AuditCursor | null): string | null =>
  cursor === null ? null : `${cursor.lane}-${cursor.n}`;

/** Only from an authenticated page token. */
function cursorOf(text: string | null): AuditCursor | null {
  if (text === null) return null;
  const [lane, n] = text.split('-').map(Number);
  return { lane: lane ?? 0, n: n ?? 0 };
}

export function auditRoutes(
  deps: Pick<HttpDependencies, 'audit' | 'pageTokenKey'>,
): readonly GuardedRoute[] {
  const tokens = new PageTokens(deps.pageTokenKey);
  return [
    route(contract.listAuditEntries, {
      handle: async ({ grant, query }) => {
        const scope = pageScope(contract.listAuditEntries.id, grant, query);
        const { items, next } = await deps.audit.list({
          pageSize: query.pageSize ?? DEFAULT_PAGE_SIZE,
          after: cursorOf(tokens.open(scope, query.pageToken)),
          namespace: grant.namespace,
          operation: query.operation ?? null,
          keyId: query.keyId ?? null,
          keyRef: query.key ?? null,
          subject: query.subject ?? null,
          outcome: query.outcome ?? null,
          from: query.from ?? null,
          until: query.until ?? null,
        });
        const nextPageToken = tokens.seal(scope, cursorText(next));
        return { body: { items: items.map(entryResource), nextPageToken } };
      },
    }),
    route(contract.getAuditEntry, {
      handle: async ({ grant, params }) => {
        const record = await deps.audit.read(params.id);
        if (record?.draft.namespace !== grant.namespace) throw new TwofoldError('not_found');
        return { body: entryResource(record) };
      },
    }),
  ];
}
