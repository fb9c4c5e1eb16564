/** What an export is to be, settled before its files come. */
import { setTimeout as sleep } from 'node:timers/promises';

import { parseSignedCheckpoint } from '../audit/tree/checkpoint.ts';
import { TILE_WIDTH } from '../audit/tree/tiles.ts';
import type { AuditLogClient } from './audit-log.ts';
import { ClientError, parsedAs } from './client-error.ts';
import type { ExportTarget } from './export-folder.ts';

const FORMAT = 1;
/** Checkpoints come at least every 2 s: what was durable before is in the log then. */
const SETTLING_MS = 2_500;
const ASK_AGAIN_MS = 250;
const INTEGRATION_MS = 60_000;
/** How far the clocks of those who write entries may differ from the database's. */
const CLOCKS_MS = 60_000;

/** Entries `from` to before `until`, and rows as they were when the log had `stateFrom` or more entries. */
export interface ExportPlan {
  readonly format: 1;
  readonly origin: string;
  readonly from: number;
  readonly until: number;
  readonly stateFrom: number;
  readonly at: string;
  /** The checkpoint of `until` entries. */
  readonly note: string;
  /** Whether rows go with it. */
  readonly rows: boolean;
}

/** An index, or a time by the clocks of those who wrote the entries. */
export type Place = number | Date;

export interface ExportOptions {
  readonly from: Place | null;
  /** Null: up to the newest checkpoint, with the rows as they are now. */
  readonly until: Place | null;
  /** How long the log is waited for after the rows were read, ms; 2,500 unless given. */
  readonly settlingMs?: number;
  readonly onProgress?: ((done: number, of: number) => void) | undefined;
}

/** `export.json`: the plan but for the note, which has a file of its own. */
export function planned({ format, origin, from, until, stateFrom, at }: ExportPlan): string {
  return `${JSON.stringify({ format, origin, from, until, stateFrom, at })}\n`;
}

/**
 * A plan that the folder has; null when it has none. Of a complete export the note is left empty, and
 * nothing is known of its rows.
 * @throws ClientError invalid_value for what is no plan of ours
 */
export async function readPlan(target: ExportTarget, name: string): Promise<ExportPlan | null> {
  const text = await target.text(name);
  if (text === null) return null;
  const {
    format,
    origin,
    from,
    until,
    stateFrom,
    at,
    note = '',
    rows = true,
  } = parsedPlan(text, name);
  const isPlan =
    format === FORMAT &&
    typeof origin === 'string' &&
    typeof at === 'string' &&
    typeof note === 'string' &&
    typeof rows === 'boolean' &&
    isSize(from) &&
    isSize(until) &&
    isSize(stateFrom);
  if (isPlan) return { format, origin, from, until, stateFrom, at, note, rows };
  throw new ClientError('invalid_value', `${name} of the folder is not of an export.`);
}

const isSize = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

function parsedPlan(text: string, name: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new ClientError('invalid_value', `${name} of the folder is not of an export.`);
}

interface Head {
  readonly origin: string;
  readonly size: number;
  readonly note: string;
}

async function headOf(log: AuditLogClient): Promise<Head> {
  const note = await log.checkpoint();
  return { ...parsedAs('unexpected_answer', () => parseSignedCheckpoint(note)), note };
}

/**
 * @param rows fetches the rows that go with an export up to the newest checkpoint
 * @throws ClientError conflict, not_found
 */
export async function newPlan(
  log: AuditLogClient,
  options: ExportOptions,
  before: ExportPlan | null,
  rows: () => Promise<void>,
): Promise<ExportPlan> {
  const first = await headOf(log);
  checkGrown(first, before);
  if (options.until === null) await rows();
  const { settlingMs = SETTLING_MS } = options;
  const last = settlingMs === 0 ? await headOf(log) : await settled(log, settlingMs);
  const newest = options.until === null ? last : await checkpointAt(log, options.until, last);
  checkGrown(newest, before);
  const from = before?.from ?? (await startAt(log, options.from, newest.size));
  const { origin, size: until, note } = newest;
  const stateFrom = Math.min(first.size, until);
  const [at, rowsToo] = [new Date().toISOString(), options.until === null];
  return { format: FORMAT, origin, from, until, stateFrom, at, note, rows: rowsToo };
}

function checkGrown({ origin, size }: Head, before: ExportPlan | null): void {
  if (before === null) return;
  if (origin !== before.origin) {
    throw new ClientError('conflict', `The folder holds an export of ${before.origin}.`);
  }
  if (size >= before.until) return;
  const detail = `The log has ${size} entries, and the folder ${before.until} of it.`;
  throw new ClientError('conflict', detail);
}

/** A checkpoint that has whatever was durable before. */
async function settled(log: AuditLogClient, settlingMs: number): Promise<Head> {
  const id = await log.mark();
  await sleep(settlingMs);
  const until = performance.now() + INTEGRATION_MS;
  while (id !== null && !(await isIntegrated(log, id))) {
    if (performance.now() > until) {
      throw new ClientError('not_integrated_yet', 'The log does not go on: see the status page.');
    }
    await sleep(ASK_AGAIN_MS);
  }
  return headOf(log);
}

async function isIntegrated(log: AuditLogClient, id: string): Promise<boolean> {
  try {
    await log.proof(id);
    return true;
  } catch (error) {
    if (ClientError.is(error, 'not_integrated_yet')) return false;
    // It has an index, and something in the log was altered: that is for the verifier to find.
    if (ClientError.is(error, 'integrity_failed')) return true;
    throw error;
  }
}

/** The smallest checkpoint that has all before the place. */
async function checkpointAt(log: AuditLogClient, place: Place, last: Head): Promise<Head> {
  const size =
    typeof place === 'number'
      ? place
      : Math.min(last.size, 1 + (await sizeAt(log, later(place, CLOCKS_MS), last.size)));
  for await (const [found] of log.checkpoints(Math.max(1, size))) {
    if (found === undefined) break;
    return {
      ...parsedAs('unexpected_answer', () => parseSignedCheckpoint(found.note)),
      note: found.note,
    };
  }
  throw new ClientError(
    'not_found',
    'The log does not reach the place where the export is to end.',
  );
}

async function startAt(log: AuditLogClient, place: Place | null, size: number): Promise<number> {
  const index = typeof place === 'number' ? place : await beginningAt(log, place, size);
  if (index < size || index === 0) return bundleAt(index);
  throw new ClientError('not_found', 'The log has no entry where the export is to begin.');
}

/**
 * Of a time, a place that no entry of that time or later stands before, whatever their order: an entry is written
 * before it gets its index. What is in cold storage is left out.
 */
async function beginningAt(log: AuditLogClient, time: Date | null, size: number): Promise<number> {
  if (time === null) return 0;
  let low = await sizeAt(log, later(time, -CLOCKS_MS), size);
  if (low >= size || !(await log.isArchived(low))) return low;
  let high = size;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (await log.isArchived(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** @throws ClientError invalid_value where the export that the folder has begins elsewhere than is asked for */
export async function checkBegun(
  log: AuditLogClient,
  place: Place,
  begun: ExportPlan,
): Promise<void> {
  const isThere =
    typeof place === 'number' ? bundleAt(place) === begun.from : await mayBegin(log, place, begun);
  if (isThere) return;
  const detail = `The folder holds an export from ${begun.from} on: go on with it, or name another.`;
  throw new ClientError('invalid_value', detail);
}

/**
 * Whether an export may have been begun by that time. The log thins out its checkpoints and moves entries to cold
 * storage, so that the same time says an earlier place later, or a later one.
 */
async function mayBegin(
  log: AuditLogClient,
  time: Date,
  { from, until }: ExportPlan,
): Promise<boolean> {
  const before = await sizeAt(log, later(time, -CLOCKS_MS), until);
  if (bundleAt(before) > from) return false;
  const next = await log.checkpointFrom(before + 1);
  // Else entries of that time stand before the export.
  return next === null || next.size > from || (await log.isArchived(from - 1));
}

const bundleAt = (index: number): number => index - (index % TILE_WIDTH);

/** Entries of the newest checkpoint from before that time, of those of at most `size`; 0 where there is none. */
async function sizeAt(log: AuditLogClient, time: Date, size: number): Promise<number> {
  let [low, high] = [0, size];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    const found = await log.checkpointFrom(middle);
    if (found !== null && found.size <= high && new Date(found.at) < time) {
      low = Math.max(middle, found.size);
    } else high = middle - 1;
  }
  return low;
}

const later = (time: Date, ms: number): Date => new Date(time.getTime() + ms);
