/** Audit entries as `append` takes them, and one as `commit_change` and `commit_operation` do. */
import type { AppendEntry, IndexColumns } from '../audit/ports.ts';
import type { entry } from './generated/client.ts';
import { byteaArray, textArray, timestampArray, uuidArray } from './binary-arrays.ts';

/** Leaves, bodies, times, namespaces, operations, key ids, key refs, subjects, outcomes. */
export const entryArrays = (entries: readonly AppendEntry[]): readonly Buffer[] => [
  byteaArray(entries.map(({ leaf }) => leaf)),
  byteaArray(entries.map(({ body }) => body)),
  timestampArray(entries.map(({ index }) => index.at)),
  textArray(entries.map(({ index }) => filterText(index.namespace))),
  textArray(entries.map(({ index }) => filterText(index.operation))),
  uuidArray(entries.map(({ index }) => index.keyId)),
  textArray(entries.map(({ index }) => (index.keyRef === null ? null : filterText(index.keyRef)))),
  textArray(entries.map(({ index }) => filterText(index.subject))),
  textArray(entries.map(({ index }) => filterText(index.outcome))),
];

/** The same of one entry, each by itself. */
export const entryValues = ({ leaf, body, index }: AppendEntry): readonly unknown[] => [
  bufferOf(leaf),
  bufferOf(body),
  index.at.toISOString(),
  filterText(index.namespace),
  filterText(index.operation),
  index.keyId,
  index.keyRef === null ? null : filterText(index.keyRef),
  filterText(index.subject),
  filterText(index.outcome),
];

/** A view: pg sends `Buffer`s as bytea, and other bytes as a copy. */
export const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export const INDEX_COLUMNS = [
  'at',
  'namespace',
  'operation',
  'key_id',
  'key_ref',
  'subject',
  'outcome',
] as const;

export type IndexRow = Pick<entry, (typeof INDEX_COLUMNS)[number]>;

export const indexColumns = (row: IndexRow): IndexColumns => ({
  at: row.at,
  namespace: row.namespace,
  operation: row.operation,
  keyId: row.key_id,
  keyRef: row.key_ref,
  subject: row.subject,
  outcome: row.outcome,
});

/** As a list of a statement, of the relation of this name. */
export const columnsOf = (relation: string): string =>
  INDEX_COLUMNS.map((name) => `${relation}.${name}`).join(', ');

/**
 * Filter columns repeat what the body says, so a character that PostgreSQL cannot
 * store is replaced there rather than an entry refused.
 */
export const filterText = (text: string): string =>
  text.isWellFormed() && !text.includes('\0')
    ? text
    : text.toWellFormed().replaceAll('\0', '\ufffd');
