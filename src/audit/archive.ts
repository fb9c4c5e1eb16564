/**
 * Moves entries to cold storage: their rows go once a complete, verified export has their bundles. Runs,
 * tiles and checkpoints stay, so proofs and the growth of the log need none of it.
 *
 * The export is written, durable and verified before this begins. Then one row says up to where it is the
 * archive, and only then rows are removed, in steps that each commit with how far they came. So a kill at any
 * point leaves every entry in the archive, in the database, or in both, and the same command goes on.
 *
 * The log says so itself: an entry `audit.archive` with the state `begun` is durable before anything is marked
 * or removed, one with `done` or `failed` after it. One that begins and is followed by none was killed.
 *
 * One command at a time does so, from the question how far it can go until the log says that it is done: else two
 * could say what they do in an order in which neither can be understood.
 */
import { equalBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import type { ArchiveStore, ArchiveTurn, Archived } from './archive-ports.ts';
import type { LogReader } from './log-ports.ts';
import type { AuditDraft } from './ports.ts';
import { treeRoot } from './tree/proofs.ts';
import { TILE_WIDTH } from './tree/tiles.ts';

/** Rows of one commit: some 100 ms. */
const STEP = 40 * TILE_WIDTH;

/** What the export says of itself, and its verifier found to be so. */
export interface VerifiedExport {
  readonly from: number;
  readonly until: number;
  /** Root of the tree of `until` entries, 32 bytes. */
  readonly root: Uint8Array;
}

export interface ArchiveRequest {
  readonly export: VerifiedExport;
  /** Where the archive is, for whoever asks for an entry of it. */
  readonly place: string;
  /** Entries before this index, or older than this time by the checkpoints, are wanted there. */
  readonly before: number | Date;
  /** Who runs the command, in the words of the machine. */
  readonly operator: string;
  /** Told after each step how far the rows were removed. */
  readonly onProgress?: ((removed: number, until: number) => Promise<void>) | undefined;
}

export interface ArchivableParts {
  readonly store: ArchiveStore;
  readonly log: Pick<LogReader, 'tile' | 'archived'>;
}

export interface ArchiveParts extends ArchivableParts {
  /** Resolves once an entry of ours with this operation and detail is durable. */
  readonly record: (operation: string, detail: AuditDraft['detail']) => Promise<unknown>;
}

export type ArchiveResult = Archived & Pick<Archivable, 'heldBy'>;

/** Operation of the entries that say what went to cold storage. */
const OPERATION = 'audit.archive';

/** How far the log can go to the archive, and the sink that keeps it from going as far as was asked for. */
export interface Archivable {
  readonly until: number;
  readonly heldBy: string | null;
}

/**
 * How far the log can go to the archive: whole bundles that the export has, that are old enough and that every
 * sink of the network has had. A file is its own position, of which nothing is known here.
 * @throws TwofoldError conflict where the export is not of this log, or has not what is in the archive already
 */
export async function archivable(
  { store, log }: ArchivableParts,
  { export: made, before }: ArchiveRequest,
): Promise<Archivable> {
  const { size, slowestSink } = await store.facts();
  const { until } = await log.archived();
  if (made.until > size) {
    throw new TwofoldError('conflict', `The export has ${made.until} entries, the log ${size}.`);
  }
  if (made.from > 0) {
    throw new TwofoldError('conflict', 'An archive begins with the first entry of the log.');
  }
  if (!equalBytes(await treeRoot(made.until, log.tile.bind(log)), made.root)) {
    throw new TwofoldError('conflict', 'The export is of another log.');
  }
  const old = typeof before === 'number' ? before : await store.sizeAt(before);
  const asked = wholeBundles(Math.min(made.until, old));
  const wanted = Math.min(asked, wholeBundles(slowestSink?.next ?? asked));
  if (made.until < until) {
    throw new TwofoldError('conflict', `Entries before ${until} are in another archive.`);
  }
  const goes = Math.max(wanted, until);
  return { until: goes, heldBy: goes < asked ? (slowestSink?.name ?? null) : null };
}

const wholeBundles = (entries: number): number => entries - (entries % TILE_WIDTH);

/**
 * Removes the rows; goes on where one before it was interrupted. Where it has nothing left to do it says so in
 * the log all the same: nobody knows whether one that was killed still could.
 * @throws as `archivable`, conflict while another command archives, and what `record` throws: before anything
 *   was marked, or once all was removed
 */
export async function archive(
  parts: ArchiveParts,
  request: ArchiveRequest,
): Promise<ArchiveResult> {
  const turn = await parts.store.turn();
  try {
    return await archiveAlone(parts, request, turn);
  } finally {
    await turn.end();
  }
}

async function archiveAlone(
  parts: ArchiveParts,
  request: ArchiveRequest,
  turn: ArchiveTurn,
): Promise<ArchiveResult> {
  const { until, heldBy } = await archivable(parts, request);
  const { removed: from } = await parts.log.archived();
  const { place, operator, export: made } = request;
  const atRoot = Buffer.from(made.root).toString('base64');
  const about = { from, until, place, atSize: made.until, atRoot, operator };
  await parts.record(OPERATION, { state: 'begun', ...about });
  const { removed } = await remove(parts, until, request, turn).catch(async (error: unknown) => {
    const { code } = TwofoldError.from(error);
    // What cannot be told now tells itself: an entry that begins, and none that ends.
    await parts.record(OPERATION, { state: 'failed', ...about, code }).catch(() => undefined);
    throw error;
  });
  await parts.record(OPERATION, { state: 'done', ...about, removed });
  return { ...(await parts.log.archived()), heldBy };
}

async function remove(
  { store, log }: ArchiveParts,
  until: number,
  { place, onProgress }: ArchiveRequest,
  turn: ArchiveTurn,
): Promise<Archived> {
  await turn.still();
  await store.mark(until, place);
  const marked = await log.archived();
  if (marked.until < until) throw behind();
  let { removed } = marked;
  while (removed < until) {
    await turn.still();
    // One that began while this was marked may not have known it, nor this of it.
    const { slowestSink } = await store.facts();
    if (slowestSink !== null && slowestSink.next < until) throw behind();
    removed = await store.remove(Math.min(until, removed + STEP));
    await onProgress?.(removed, until);
  }
  await turn.still();
  return log.archived();
}

const behind = () =>
  new TwofoldError('conflict', 'A sink began meanwhile, and has not had all of it: run it again.');
