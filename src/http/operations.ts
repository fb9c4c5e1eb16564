/** Routes of operations, whatever their kind. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import { REPLAYED_HEADER } from '../contract/admin-keys.ts';
import * as contract from '../contract/operations.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { ORDER_KIND } from '../keyring/order-ports.ts';
import { ROOT_ROTATION } from '../keyring/root-ports.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { renderPublicJson } from './render.ts';
import { Rerendered, route } from './route.ts';
import type {
  OperationRun,
  OperationStep,
  OperationView,
  Overseeing,
} from '../keyring/job-operations.ts';
import type { ChangeDone, PreparedChange, Used } from '../keyring/operations.ts';
import type { ChangeCall } from './admin-keys.ts';
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

/** An order is done with all its keys; how many they are is known once it has looked at all. */
function orderProgressOf({ position, counts }: OperationView) {
  const { matched = 0, rotated = 0, skipped = 0, failed = 0, walked = 0 } = counts;
  const total = walked === 1 ? matched : null;
  return { offset: position, total, matched, succeeded: rotated, unchanged: skipped, failed };
}

/** What is told of a rotation of the root alone. */
function rootOf({ request, counts }: OperationView) {
  const { versions = 0, halves = 0 } = counts;
  return { generation: Number(request['generation']), versions, halves };
}

/** Of a rotation of the root: rows, of which `failed` were altered and stay as they are. */
function rootProgressOf({ position, counts }: OperationView) {
  const { total = 0, altered = 0 } = counts;
  return { offset: position, total, failed: altered };
}

function progressOfKind(view: OperationView) {
  if (view.kind === ORDER_KIND) return orderProgressOf(view);
  return view.kind === ROOT_ROTATION ? rootProgressOf(view) : progressOf(view);
}

function orderedOf({ labels, suite }: Request) {
  return {
    labels: typeof labels === 'string' ? (JSON.parse(labels) as Record<string, string>) : null,
    suite: typeof suite === 'number' ? findSuiteByNumber(suite).id : null,
  };
}

export function operationResource(view: OperationView) {
  const { id, kind, namespace, keyId, request, issuer, subject, state, reason } = view;
  if (kind !== 'rewrap' && kind !== ORDER_KIND && kind !== ROOT_ROTATION) {
    throw new TwofoldError('integrity_failed');
  }
  const isOrder = kind === ORDER_KIND;
  const isOfRoot = kind === ROOT_ROTATION;
  return {
    id,
    kind,
    namespace,
    key: textOr(request['keyName'], null),
    keyId,
    to: targetOf(request),
    rotation: isOrder ? orderedOf(request) : null,
    root: isOfRoot ? rootOf(view) : null,
    itemsPerSecond: isOrder || isOfRoot ? null : view.rate,
    note: textOr(request['note'], null),
    createdBy: { issuer, subject },
    state,
    reason,
    progress: progressOfKind(view),
    createdAt: view.createdAt,
    updatedAt: view.updatedAt,
    expiresAt: view.expiresAt,
  } as const;
}

/** Whether others' operations are seen too; nobody is refused for not being allowed to. */
export const overseeing = ({ grantIf }: Pick<Call<GuardedContract>, 'grantIf'>): Overseeing =>
  grantIf('operations.oversee');

const locationOf = ({ id }: { readonly id: string }) => `/v1/admin/operations/${id}`;

/** How a new operation is answered. */
interface Answering {
  readonly status: 201 | 202;
  readonly location: (made: Pick<OperationView, 'id'>) => string;
}

function headersOf(
  done: ChangeDone<unknown>,
  { status, location }: Answering,
): Readonly<Record<string, string>> {
  if (done.status !== status) return {};
  const made = JSON.parse(done.body) as Pick<OperationView, 'id'>;
  return { Location: location(made), ...(done.replayed ? { [REPLAYED_HEADER]: 'true' } : {}) };
}

type Beginning = Omit<ChangeCall, 'headers'> & {
  readonly headers: { readonly 'idempotency-key'?: string | undefined };
};

/** Makes an operation and answers it. */
export async function answerOperation<C extends Pick<PreparedChange, 'detail'>>(
  call: Beginning,
  make: (run: OperationRun) => Promise<ChangeDone<C>>,
  answering: Answering = { status: 202, location: locationOf },
) {
  const { notes, query, headers } = call;
  const { dryRun = false } = query;
  const key = headers['idempotency-key'];
  const done = await make({
    dryRun,
    requestId: call.requestId,
    ended: call.ended,
    source: call.source,
    idempotency: key === undefined || dryRun ? null : { key, requestHash: call.requestHash() },
    render: (view) => ({
      status: dryRun ? 200 : answering.status,
      body: renderPublicJson({ ...operationResource(view), ...(dryRun ? { dryRun } : {}) }),
    }),
    ...(dryRun ? {} : call.backing),
  });
  if (done.change !== null) {
    if ('used' in done.change) notes.used(done.change.used as Used);
    notes.detail(done.change.detail);
  }
  if (done.replayed) notes.detail({ replayed: true, replayedFrom: done.auditId });
  else if (done.auditId === null) notes.detail({ dryRun: true });
  return {
    status: done.status,
    body: new Rerendered(done.body),
    headers: headersOf(done, answering),
    recorded: done.replayed ? null : done.auditId,
  };
}

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
