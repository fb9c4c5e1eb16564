/** Index columns repeat what an entry's bytes say, for lists to find it by. Edited ones hide it, so they are compared. */
import { indexOf } from './batch.ts';
import { decodeEntry } from './entry-decoder.ts';
import type { DecodedEntry } from './entry-decoder.ts';
import type { IndexColumns } from './ports.ts';
import { TwofoldError } from '../errors.ts';

const COLUMNS = ['namespace', 'operation', 'keyId', 'keyRef', 'subject', 'outcome'] as const;

/** Null for what is no time: PostgreSQL takes `infinity`, which comes as a number. */
const timeOf = (at: unknown): number | null => (at instanceof Date ? at.getTime() : null);

/** Whether lists find the entry by what it says. */
export function columnsFit(entry: DecodedEntry, stored: IndexColumns): boolean {
  const said = indexOf(entry);
  return (
    said.at.getTime() === timeOf(stored.at) && COLUMNS.every((name) => said[name] === stored[name])
  );
}

/** Null for bytes that are no entry of a known version. */
export function knownEntry(body: Uint8Array): DecodedEntry | null {
  try {
    return decodeEntry(body);
  } catch (error) {
    if (!TwofoldError.is(error, 'integrity_failed')) throw error;
    return null;
  }
}

/** The same of bytes; of what is no entry of a known version nothing is known. */
export function bytesFit(body: Uint8Array, stored: IndexColumns): boolean {
  const entry = knownEntry(body);
  return entry === null || columnsFit(entry, stored);
}
