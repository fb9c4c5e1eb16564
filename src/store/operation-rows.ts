/** Rows of `operation`, but for its pace, which only the database reads. */
import type {
  OperationIdentity,
  OperationProgress,
  OperationWrite,
  StoredOperation,
} from '../keyring/ports.ts';
import type { operationModel } from './generated/models/operation.ts';
import type { Column } from './key-rows.ts';
import { RowReader, malformed, rowJson } from './rows.ts';

export type OperationRow = {
  readonly [C in Exclude<keyof operationModel, 'paced_until'>]: Column<operationModel[C]>;
};

const IDENTITY_COLUMNS = [
  'id',
  'kind',
  'namespace',
  'key_id',
  'request',
  'issuer',
  'subject',
  'rate',
  'created_at',
  'mac',
] as const satisfies readonly (keyof OperationRow)[];
const PROGRESS_COLUMNS = [
  'state',
  'reason',
  'position',
  'counts',
  'updated_at',
  'expires_at',
  'revision',
] as const satisfies readonly (keyof OperationRow)[];
export const OPERATION_COLUMNS = [...IDENTITY_COLUMNS, ...PROGRESS_COLUMNS] as const;

const STATES = [
  'running',
  'succeeded',
  'failed',
  'cancelled',
] as const satisfies readonly OperationProgress['state'][];

type Scalar = OperationIdentity['request'][string];

const isScalar = (value: unknown): value is Scalar =>
  value === null ||
  typeof value === 'string' ||
  typeof value === 'boolean' ||
  Number.isSafeInteger(value);

/** @throws TwofoldError integrity_failed */
function members<T>(value: unknown, column: string, is: (member: unknown) => member is T) {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  const pairs: readonly [string, unknown][] = isObject ? Object.entries(value) : [];
  if (!isObject || !pairs.every((pair): pair is [string, T] => is(pair[1]))) {
    throw malformed(`operation.${column}`);
  }
  return Object.fromEntries(pairs) as Readonly<Record<string, T>>;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value);

/** @throws TwofoldError integrity_failed */
export const operationFromRow = (row: OperationRow): StoredOperation => {
  const { request, counts, position, ...rest } = row;
  const columns = new RowReader<typeof rest>('operation', rest);
  const value: OperationIdentity = {
    id: columns.text('id'),
    kind: columns.text('kind'),
    namespace: columns.text('namespace'),
    keyId: columns.maybeText('key_id'),
    request: members(request, 'request', isScalar),
    issuer: columns.text('issuer'),
    subject: columns.text('subject'),
    rate: columns.integer('rate'),
    createdAt: columns.time('created_at'),
  };
  const mac = columns.bytes('mac');
  const progress: OperationProgress = {
    state: columns.one('state', STATES),
    reason: columns.maybeText('reason'),
    position: Number(position),
    counts: members(counts, 'counts', isCount),
    updatedAt: columns.time('updated_at'),
    expiresAt: columns.time('expires_at'),
    revision: columns.integer('revision'),
  };
  columns.done();
  return { identity: { value, mac }, progress };
};

const progressRow = (progress: OperationProgress) => ({
  state: progress.state,
  reason: progress.reason,
  position: progress.position,
  counts: progress.counts,
  updated_at: progress.updatedAt,
  expires_at: progress.expiresAt,
  revision: progress.revision,
});

/** A write as `commit_operation` takes it. @throws TwofoldError invalid_value */
export const writeJson = (write: OperationWrite): object => {
  if (write.kind === 'advance') {
    const row = rowJson({ id: write.id, ...progressRow(write.progress) });
    return { kind: write.kind, row, expected: write.expected };
  }
  const { identity, progress } = write.operation;
  const { value, mac } = identity;
  const row = rowJson({
    id: value.id,
    kind: value.kind,
    namespace: value.namespace,
    key_id: value.keyId,
    request: value.request,
    issuer: value.issuer,
    subject: value.subject,
    rate: value.rate,
    created_at: value.createdAt,
    mac,
    ...progressRow(progress),
  });
  return { kind: write.kind, row, running: write.running };
};
