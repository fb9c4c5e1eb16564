/**
 * Exports the log of a service into a folder that `twofold audit verify` reads (`docs/audit-log.md`).
 * Nothing of it is believed or checked here.
 *
 * First what the export is to be is settled and kept in the folder; then its files come, each whole or not
 * at all. So one that was interrupted goes on where it was, to the same end, and one that is complete
 * goes on to the newest checkpoint. Until all is there, a complete one stays as it was: rows and
 * checkpoints of the new one have names of their own.
 */
import { TILE_WIDTH, hashesAt, tilePath, tilesOf, widthAt } from '../audit/tree/tiles.ts';
import type { BundleId, TileId } from '../audit/tree/tiles.ts';
import type { AuditLogClient, KeyStateRow, LaneRow } from './audit-log.ts';
import { ClientError } from './client-error.ts';
import { checkBegun, newPlan, planned, readPlan } from './export-plan.ts';
import type { ExportOptions, ExportPlan } from './export-plan.ts';
import type { ExportTarget } from './export-folder.ts';

const MANIFEST = 'export.json';
/** The plan until all that it says of is there. */
const PLAN = 'export.plan.json';
const NEWEST = 'checkpoint';
const CHECKPOINTS = 'checkpoints';
const STATE = 'state.ndjson';
const LANES = 'lanes.ndjson';
/** Behind the name of a file that takes the place of another once all is there. */
const NEXT = '.next';
const SEPARATOR = '--\n';
const HASH_BYTES = 32;
/** Tiles that are fetched at a time. */
const AT_ONCE = 4;

/**
 * @throws ClientError invalid_value where the folder holds another export, conflict where the log is
 *   another or shorter than it was, not_found while it has no checkpoint; and as `AuditLogClient` and
 *   `ExportTarget`
 */
export async function exportLog(
  log: AuditLogClient,
  target: ExportTarget,
  options: ExportOptions,
): Promise<ExportPlan> {
  const before = await readPlan(target, MANIFEST);
  const kept = await readPlan(target, PLAN);
  const begun = kept ?? before;
  if (begun !== null && options.from !== null) await checkBegun(log, options.from, begun);
  const plan = kept ?? (await begin(log, target, options, before));
  try {
    await new Export(log, target, plan, kept !== null, options.onProgress).run();
  } catch (error) {
    // What begins in cold storage never comes: the next run begins elsewhere, or with a copy of the archive.
    if (before === null && ClientError.is(error, 'entry_archived')) await forget(target);
    throw error;
  }
  await replace(target, plan);
  if (before !== null) await removeNarrow(target, before.until, plan.until);
  await target.remove(PLAN);
  return plan;
}

/** Rows first: what they say has its entries in the log that is exported then. */
async function begin(
  log: AuditLogClient,
  target: ExportTarget,
  options: ExportOptions,
  before: ExportPlan | null,
): Promise<ExportPlan> {
  const plan = await newPlan(log, options, before, async () => {
    await target.put(STATE + NEXT, rowsOf(log.keyStates(), stateRow));
    await target.put(LANES + NEXT, rowsOf(log.lanes(), laneRow));
  });
  // Of one that was interrupted before it had a plan.
  if (!plan.rows) for (const name of [STATE, LANES]) await target.remove(name + NEXT);
  await target.put(PLAN, [JSON.stringify(plan)]);
  await target.flush();
  return plan;
}

/** A few renames, which the same run makes again where it was killed between them. */
async function replace(target: ExportTarget, plan: ExportPlan): Promise<void> {
  // Rows of now say nothing of a log that ends before.
  if (!plan.rows) for (const name of [STATE, LANES]) await target.remove(name);
  for (const name of [STATE, LANES, CHECKPOINTS]) await target.rename(name + NEXT, name);
  await target.put(NEWEST, [plan.note]);
  await target.flush();
  await target.put(MANIFEST, [planned(plan)]);
  await target.flush();
}

/** Tiles stay: they are the log's, and may be of an archive that is copied. */
async function forget(target: ExportTarget): Promise<void> {
  await target.remove(PLAN);
  for (const name of [STATE, LANES, CHECKPOINTS]) await target.remove(name + NEXT);
}

/** Members in the one order in which verifiers take them. */
const stateRow = (row: KeyStateRow): object => ({
  keyId: row.keyId,
  namespace: row.namespace,
  name: row.name,
  revision: row.revision,
  state: row.state,
  primary: row.primary,
  minUsableVersion: row.minUsableVersion,
  latestVersion: row.latestVersion,
  versions: row.versions.map(({ version, revision, state }) => ({ version, revision, state })),
});

const laneRow = ({ lane, kind, instance, closed, next }: LaneRow): object => ({
  lane,
  kind,
  instance,
  closed,
  next,
});

async function* rowsOf<T>(
  pages: AsyncIterable<readonly T[]>,
  rowOf: (row: T) => object,
): AsyncGenerator<string> {
  for await (const page of pages) {
    for (const row of page) yield `${JSON.stringify(rowOf(row))}\n`;
  }
}

class Export {
  readonly #log: AuditLogClient;
  readonly #target: ExportTarget;
  readonly #plan: ExportPlan;
  readonly #resumed: boolean;
  readonly #onProgress: (done: number, of: number) => void;

  constructor(
    log: AuditLogClient,
    target: ExportTarget,
    plan: ExportPlan,
    resumed: boolean,
    onProgress: ExportOptions['onProgress'],
  ) {
    this.#log = log;
    this.#target = target;
    this.#plan = plan;
    this.#resumed = resumed;
    this.#onProgress = onProgress ?? (() => undefined);
  }

  async run(): Promise<void> {
    await this.#target.put(CHECKPOINTS + NEXT, this.#checkpoints());
    const { from, until } = this.#plan;
    let done = from;
    const wave: (TileId | BundleId)[] = [];
    for (const tile of this.#tiles()) {
      wave.push(tile);
      if (wave.length === AT_ONCE) await this.#fetchAll(wave.splice(0));
      if (tile.level !== 'entries') continue;
      done += tile.width;
      this.#onProgress(done, until);
    }
    await this.#fetchAll(wave);
    await this.#target.flush();
  }

  async *#checkpoints(): AsyncGenerator<string> {
    const { from, until, note: newest } = this.#plan;
    let [separator, last] = ['', 0];
    for await (const page of this.#log.checkpoints(from)) {
      // As they are stored, also the last: what somebody put there is for the verifier to find.
      const listed = page.filter(({ size }) => size <= until);
      for (const { size, note } of listed) {
        yield separator + note;
        [separator, last] = [SEPARATOR, size];
      }
      if (listed.length < page.length) break;
    }
    // The log may have thinned it out since an earlier run made the plan; else its row was removed, which is to be found.
    if (this.#resumed && last !== until) yield separator + newest;
  }

  /** Entries from where the export begins; hashes of all levels above them, which proofs need. */
  *#tiles(): Generator<TileId | BundleId> {
    const { from, until } = this.#plan;
    const first = from / TILE_WIDTH;
    for (const tile of tilesOf(until)) {
      if (tile.level > 0) yield tile;
      else if (tile.index >= first) {
        yield tile;
        yield { ...tile, level: 'entries' };
      }
    }
  }

  async #fetchAll(tiles: readonly (TileId | BundleId)[]): Promise<void> {
    // One that fails leaves none of the others at work.
    const settled = await Promise.allSettled(tiles.map((tile) => this.#fetch(tile)));
    const failed = settled.find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  }

  async #fetch(tile: TileId | BundleId): Promise<void> {
    const name = tilePath(tile);
    if ((await this.#target.size(name)) !== null) return;
    const bytes = await this.#log.tile(name).catch((error: unknown) => {
      throw ClientError.is(error) ? withPlace(error, name) : error;
    });
    if (tile.level !== 'entries' && bytes.length !== tile.width * HASH_BYTES) {
      throw new ClientError('unexpected_answer', `${name} has another length.`);
    }
    await this.#target.put(name, [bytes]);
  }
}

const withPlace = (error: ClientError, name: string): ClientError =>
  new ClientError(error.code, `${name}: ${error.message}`, error);

/** Tiles that were not full and are wider now, or full. */
async function removeNarrow(target: ExportTarget, old: number, until: number): Promise<void> {
  for (let level = 0; hashesAt(level, old) > 0; level += 1) {
    const width = hashesAt(level, old) % TILE_WIDTH;
    const index = Math.floor(hashesAt(level, old) / TILE_WIDTH);
    if (width === 0 || widthAt(level, index, until) === width) continue;
    await target.remove(tilePath({ level, index, width }));
    if (level === 0) await target.remove(tilePath({ level: 'entries', index, width }));
  }
}
