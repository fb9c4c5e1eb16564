/** Routes of operations, whatever their kind. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/operations.ts';
import { TwofoldError } from '../errors.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { OperationStep, OperationView, Overseeing } from '../keyring/job-operations.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { AuditNotes } from './notes.ts';
import type { Call, GuardedContract, GuardedRoute } from './route.ts';

type Dependencies = Pick<HttpDependencies, 'operations' | 'pageTokenKey'>;
type Request = OperationView['request'];

const textOr = <D>(value: Request[string] | undefined, otherwise: D): string | D =>
  typeof value === 'string' ? value : otherwise;

function targetOf({ toKeyName, toKeyId }: Request) {
  if (typeof toKeyName !== 'string' || typeof toKeyId !== 'string') return null;
  return { key: toKeyName, keyId: toKeyId };
}

export function progressOf({ position, request, counts }: OperationView) {
  const { total } = request;
  return { offset: position, total: typeof total === 'number' ? total : null, ...counts };
}

export function operationResource(view: OperationView) {
  const { id, kind, namespace, keyId, request, issuer, subject, state, reason } = view;
  if (kind !== 'rewrap') throw new TwofoldError('integrity_failed');
  return {
    id,
    kind,
    namespace,
    key: textOr(request['keyName'], null),
    keyId,
    to: targetOf(request),
    itemsPerSecond: view.rate,
    note: textOr(request['note'], null),
    createdBy: { issuer, subject },
    state,
    reason,
    progress: progressOf(view),
    createdAt: view.createdAt,
    updatedAt: view.updatedAt,
    expiresAt: view.expiresAt,
  } as const;
}

/** Whether others' operations are seen too; nobody is refused for not being allowed to. */
const overseeing = ({ grantIf }: Pick<Call<GuardedContract>, 'grantIf'>): Overseeing =>
  grantIf('operations.oversee');

/** What the entry says of the operation. */
export function noteOperation(notes: AuditNotes, { id, kind, keyId }: OperationView): void {
  notes.detail({ operationId: id, kind });
  if (keyId !== null) notes.keyId(keyId);
}

/** Takes a step and answers the operation that it leaves; a dry run shows it and takes none. */
export function answerStep(
  notes: AuditNotes,
  { dryRun = false }: { readonly dryRun?: boolean | undefined },
  { after, take }: OperationStep,
) {
  noteOperation(notes, after);
  const body = operationResource(after);
  if (!dryRun) return { body, record: take };
  notes.detail({ dryRun: true });
  return { body: { ...body, dryRun: true as const } };
}

export function operationRoutes({
  operations,
  pageTokenKey,
}: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listOperations, {
      handle: async (call) => {
        const { grant, query } = call;
        const all = overseeing(call);
        const list = `${contract.listOperations.id}${all === null ? '/own' : ''}`;
        const scope = pageScope(list, grant, query);
        const { items, next } = await operations.list(grant, all, {
          pageSize: query.pageSize ?? DEFAULT_PAGE_SIZE,
          after: tokens.open(scope, query.pageToken),
          kind: query.kind ?? null,
          state: query.state ?? null,
        });
        const nextPageToken = tokens.seal(scope, next);
        return { body: { items: items.map(operationResource), nextPageToken } };
      },
    }),
    route(contract.getOperation, {
      handle: async (call) => {
        const view = await operations.get(call.grant, overseeing(call), call.params.id);
        noteOperation(call.notes, view);
        return { body: operationResource(view) };
      },
    }),
    route(contract.cancelOperation, {
      handle: async (call) => {
        const { grant, notes, query, params, body } = call;
        const input = { id: params.id, reason: body.reason };
        const step = await operations.cancel(grant, overseeing(call), input);
        notes.detail({ reason: body.reason });
        return answerStep(notes, query, step);
      },
    }),
    route(contract.finishOperation, {
      handle: async ({ grant, notes, query, params }) =>
        answerStep(notes, query, await operations.finishRewrapJob(grant, params.id)),
    }),
  ];
}
