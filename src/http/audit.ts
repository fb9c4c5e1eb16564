/** Routes that read the audit log. */
import type { z } from 'zod';

import { LogReading } from '../audit/log-reading.ts';
import { parseAuditId } from '../audit/reader.ts';
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/audit.ts';
import { TwofoldError } from '../errors.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { AuditCursor, AuditRecord, Within } from '../audit/ports.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

export function entryResource({ id, version, at, zone, leaf, body, draft }: AuditRecord) {
  return {
    id,
    version,
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
    grantId: draft.grantId,
    approvalId: draft.approvalId,
    source: draft.source,
    tlsGroup: draft.tlsGroup,
    engine: draft.engine,
    origin: draft.origin,
    durationUs: draft.durationUs,
    contextKeys: draft.contextKeys,
    contextValues: draft.loggedContext,
    contextHmac: draft.contextHmac,
    aadHmac: draft.aadHmac,
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

type Query = z.output<typeof contract.listAuditEntries.query>;

function withinOf({ contextHmac, aadHmac, context }: Query): Within | undefined {
  const asked = [contextHmac, aadHmac, context].some((each) => each !== undefined);
  return asked ? { contextHmac, aadHmac, context } : undefined;
}

/** @throws TwofoldError entry_archived for the id of an entry whose row is in cold storage */
export async function requireStored(log: LogReading, id: string): Promise<void> {
  const place = parseAuditId(id);
  if (place !== null) await log.requireStored(place);
}

export function auditRoutes(
  deps: Pick<HttpDependencies, 'audit' | 'log' | 'pageTokenKey'>,
): readonly GuardedRoute[] {
  const tokens = new PageTokens(deps.pageTokenKey);
  const log = new LogReading(deps.log);
  const record: HttpDependencies['audit']['record'] = (draft, standing) =>
    deps.audit.reading(draft, standing);
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
          within: withinOf(query),
        });
        const nextPageToken = tokens.seal(scope, cursorText(next));
        return { body: { items: items.map(entryResource), nextPageToken }, record };
      },
    }),
    route(contract.getAuditEntry, {
      handle: async ({ grant, params }) => {
        const found = await deps.audit.read(params.id);
        if (found === null) await requireStored(log, params.id);
        if (found?.draft.namespace !== grant.namespace) throw new TwofoldError('not_found');
        return { body: entryResource(found), record };
      },
    }),
  ];
}
