/** Spools that an earlier incarnation left in the data folder: read, checked, replayed, removed. */
import { basename } from 'node:path';

import { equalBytes } from '../../crypto/bytes.ts';
import { TwofoldError } from '../../errors.ts';
import { Backoff } from '../backoff.ts';
import { indexOf } from '../batch.ts';
import type { MacFunction } from '../batch.ts';
import { batchMacInput, leafHash } from '../entry.ts';
import { decodeEntry } from '../entry-decoder.ts';
import type { AppendBatch, AppendEntry, AuditStore } from '../ports.ts';
import { Refusals, isRefusal } from './loss.ts';
import type { GraceStore, Replay } from './ports.ts';
import {
  markTold,
  readSpool,
  removeSpool,
  setAside,
  spoolFiles,
  untoldSpools,
} from './spool-file.ts';
import type { SpoolContent, SpooledBatch } from './spool-file.ts';

/** Entries of one replay. */
export const REPLAY_ENTRIES = 1_024;

export interface ReturningParts {
  readonly store: Pick<GraceStore, 'replay'>;
  readonly entries: Pick<AuditStore, 'leafAt'>;
  readonly mac: MacFunction;
  readonly folder: string;
  /** Of the files whose writers are certainly dead. */
  readonly prefix: string;
}

/** What became of one file. */
export interface Returned {
  readonly file: string;
  readonly lane: number;
  /** Entries that are in the database now. */
  readonly entries: number;
  /**
   * `damaged`: something in it is not what the service wrote, and the rest is lost. `lost`: the database
   * no longer has what came before, or has other entries there. Both files are kept under another name.
   */
  readonly state: 'returned' | 'damaged' | 'lost';
}

/**
 * Replays what can be, each entry once however often this runs. What became of each file is added to
 * `returned` at once: where this fails in the middle, the next run does not find that file again.
 * @throws TwofoldError while the database or the HSM does not answer; then no file that is left was touched
 */
export async function returnSpools(
  parts: ReturningParts,
  returned: Returned[] = [],
): Promise<readonly Returned[]> {
  for (const path of await spoolFiles(parts.folder, parts.prefix)) {
    const content = await contentOf(path);
    if (content === null) await removeSpool(parts.folder, path);
    else returned.push(await returnSpool(parts, path, content));
  }
  return returned;
}

/**
 * Tells of every file that was set aside and not told of, by this process or an earlier one: at least once
 * each, since it counts as told once `record` has resolved.
 */
export async function tellKept(
  { folder, prefix }: Pick<ReturningParts, 'folder' | 'prefix'>,
  record: (kept: Returned) => Promise<unknown>,
): Promise<void> {
  for (const kept of await untoldSpools(folder, prefix)) {
    const { file, lane, entries, state } = kept;
    await record({ file, lane, entries, state });
    await markTold(folder, kept);
  }
}

export interface TellerParts {
  readonly folder: string;
  readonly record: (kept: Returned) => Promise<unknown>;
  readonly onTrouble: (error: unknown) => void;
  /** Whether the process ends: what is not told then is at the next start. */
  readonly isOver: () => boolean;
  /** ms; 10,000. */
  readonly againMs?: number;
}

/** Tells of what was set aside, one run after the other: each looks for what is not told of yet. */
export class Teller {
  readonly #parts: TellerParts;
  #telling = Promise.resolve();

  constructor(parts: TellerParts) {
    this.#parts = parts;
  }

  /** @throws what `record` throws */
  tell(prefix: string): Promise<void> {
    const told = this.#telling.then(() => tellKept({ ...this.#parts, prefix }, this.#parts.record));
    this.#telling = told.catch(() => undefined);
    return told;
  }

  /** Until all is told. Never throws. */
  async tellAtLast(prefix: string): Promise<void> {
    const { onTrouble, isOver, againMs = AGAIN_MS } = this.#parts;
    try {
      await this.tell(prefix);
    } catch (error) {
      onTrouble(error);
      if (!isOver()) setTimeout(() => void this.tellAtLast(prefix), againMs).unref();
    }
  }
}

const AGAIN_MS = 10_000;
const NOTHING = { instance: '', lane: 0, batches: [], end: 'damaged' } as const;

/** A file without a form of ours is damaged as a whole. */
async function contentOf(path: string): Promise<SpoolContent | null> {
  try {
    return await readSpool(path);
  } catch (error) {
    if (TwofoldError.is(error, 'integrity_failed')) return NOTHING;
    throw error;
  }
}

async function returnSpool(
  parts: ReturningParts,
  path: string,
  content: SpoolContent,
): Promise<Returned> {
  const { mac, folder } = parts;
  const { instance, lane } = content;
  const file = basename(path);
  const { batches, whole } = await soundBatches(content, mac);
  let entries = 0;
  for (const some of inReplays(batches)) {
    if (!(await isReplayed(parts, { instance, lane, batches: some }))) {
      await setAside(folder, path, { state: 'lost', entries });
      return { file, lane, entries, state: 'lost' };
    }
    entries += some.reduce((sum, batch) => sum + batch.entries.length, 0);
  }
  if (whole && content.end !== 'damaged') {
    await removeSpool(folder, path);
    return { file, lane, entries, state: 'returned' };
  }
  await setAside(folder, path, { state: 'damaged', entries });
  return { file, lane, entries, state: 'damaged' };
}

/** False once it is certain that they can never stand in the database. */
async function isReplayed({ store, entries }: ReturningParts, replay: Replay): Promise<boolean> {
  const refusals = new Refusals(entries);
  const backoff = new Backoff();
  for (;;) {
    try {
      await store.replay(replay);
      return true;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (await refusals.end(error, replay.batches)) return false;
      await backoff.pause();
    }
  }
}

/** Whole batches, as many as one replay takes, at least one. */
export function* inReplays(batches: readonly AppendBatch[]): Generator<readonly AppendBatch[]> {
  let some: AppendBatch[] = [];
  let entries = 0;
  for (const batch of batches) {
    if (some.length > 0 && entries + batch.entries.length > REPLAY_ENTRIES) {
      yield some;
      [some, entries] = [[], 0];
    }
    some.push(batch);
    entries += batch.entries.length;
  }
  if (some.length > 0) yield some;
}

/** Up to the first batch that the service did not write so: chain of leaves, places, HMAC. */
async function soundBatches(
  { instance, lane, batches }: SpoolContent,
  mac: MacFunction,
): Promise<{ readonly batches: readonly AppendBatch[]; readonly whole: boolean }> {
  const sound: AppendBatch[] = [];
  let next: Next | null = null;
  for (const batch of batches) {
    const entries = entriesOf(batch, { instance, lane, next });
    const last = entries?.at(-1);
    if (entries === null || last === undefined) return { batches: sound, whole: false };
    const { first, epoch, hmac } = batch;
    const input = batchMacInput({ lane, first, count: entries.length, last: last.leaf });
    const expected = await mac(input, hmac).catch((error: unknown) => {
      // A MAC that names no generation of the root is nobody's of ours.
      if (TwofoldError.is(error, 'integrity_failed')) return null;
      throw error;
    });
    if (expected === null || !equalBytes(expected, hmac)) return { batches: sound, whole: false };
    sound.push({ lane, first, epoch, entries, hmac });
    next = { n: first + entries.length, previous: last.leaf };
  }
  return { batches: sound, whole: true };
}

interface Next {
  readonly n: number;
  readonly previous: Uint8Array;
}

interface Expected {
  readonly instance: string;
  readonly lane: number;
  /** Null for the first of the file. */
  readonly next: Next | null;
}

/** Null where one of them is not what its place says. */
function entriesOf(batch: SpooledBatch, expected: Expected): readonly AppendEntry[] | null {
  const { instance, lane } = expected;
  const entries: AppendEntry[] = [];
  let next = expected.next ?? { n: batch.first, previous: null };
  for (const body of batch.bodies) {
    const entry = decoded(body);
    if (entry === null) return null;
    const here = entry.lane === lane && entry.instance === instance && entry.n === next.n;
    const follows = next.previous === null || equalBytes(entry.previous, next.previous);
    if (!here || !follows || entry.epoch !== batch.epoch) return null;
    const leaf = leafHash(body);
    entries.push({ leaf, body, index: indexOf(entry) });
    next = { n: next.n + 1, previous: leaf };
  }
  return batch.first === entriesFirst(expected, batch) ? entries : null;
}

const entriesFirst = ({ next }: Expected, { first }: SpooledBatch): number => next?.n ?? first;

function decoded(body: Uint8Array): ReturnType<typeof decodeEntry> | null {
  try {
    return decodeEntry(body);
  } catch {
    return null;
  }
}
