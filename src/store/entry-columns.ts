/** Audit entries as the arrays that `append` and `commit_change` take. */
import type { AppendEntry } from '../audit/ports.ts';

/** Leaves, bodies, times, namespaces, operations, key ids, key refs, subjects, outcomes. */
export const entryArrays = (entries: readonly AppendEntry[]): readonly unknown[][] => [
  entries.map(({ leaf }) => bufferOf(leaf)),
  entries.map(({ body }) => bufferOf(body)),
  entries.map(({ index }) => index.at.toISOString()),
  entries.map(({ index }) => filterText(index.namespace)),
  entries.map(({ index }) => filterText(index.operation)),
  entries.map(({ index }) => index.keyId),
  entries.map(({ index }) => (index.keyRef === null ? null : filterText(index.keyRef))),
  entries.map(({ index }) => filterText(index.subject)),
  entries.map(({ index }) => filterText(index.outcome)),
];

/** A view: pg serialises `Buffer`s inside arrays, and nothing else, as bytea. */
export const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * Filter columns repeat what the body says and prove nothing, so a character that PostgreSQL cannot
 * store is replaced there rather than an entry refused.
 */
export const filterText = (text: string): string => text.toWellFormed().replaceAll('\0', '\ufffd');
