/**
 * The offline verifier: reads an export of the log (`docs/audit-log.md`) and finds whatever was edited,
 * deleted, inserted, reordered, truncated or rolled back. It shares nothing with the service but the tree
 * and its notes, asks nobody, and trusts nothing but the keys that it is given.
 */
import { Edge } from '../tree/edge.ts';
import { HASH_BYTES, hashAt } from '../tree/hashes.ts';
import { verifyNote } from '../tree/signatures.ts';
import { TILE_WIDTH, tilePath } from '../tree/tiles.ts';
import { SIGNATURE_TYPE } from '../tree/vkey.ts';
import type { Vkey } from '../tree/vkey.ts';
import { TwofoldError } from '../../errors.ts';
import { ARCHIVE, Archives } from './archives.ts';
import type { Archive } from './archives.ts';
import {
  CHECKPOINTS_FILE,
  checkSignatures,
  listedCheckpoints,
  merged,
  parseFound,
} from './checkpoints.ts';
import type { FoundCheckpoint } from './checkpoints.ts';
import { EntryView, MalformedEntry } from './entry-view.ts';
import { ExportFolder } from './folder.ts';
import type { Bundle } from './folder.ts';
import { Gaps } from './gaps.ts';
import { keyChanges } from './key-changes.ts';
import { ADD, KeySet, RETIRE } from './key-set.ts';
import { leavesIn, openReference, referenceOf, referenceTile } from './references.ts';
import type { Reference, Shown } from './narrowing.ts';
import { KeyStates } from './key-states.ts';
import { Lanes } from './lanes.ts';
import type { LaneFacts } from './lanes.ts';
import { MANIFEST_FILE, readManifest } from './manifest.ts';
import type { Manifest } from './manifest.ts';
import { Problems } from './problems.ts';
import type { Problem } from './problems.ts';
import { checkLanes, checkStates, LANES_FILE, STATE_FILE } from './rows.ts';
import { leafHashes, readOr, TreeCheck } from './tree-check.ts';

export interface VerifyOptions {
  /** Keys of the log that are trusted from its beginning; they have the log's origin as name. */
  readonly trust: readonly Vkey[];
  /** Keys of witnesses, and how many of them must have signed the newest checkpoint. */
  readonly witnesses?: { readonly vkeys: readonly Vkey[]; readonly threshold: number };
  /** Signed notes of checkpoints that were seen before: the log still has to have what they say. */
  readonly seen?: readonly string[];
  /**
   * Folders of older exports, or of tiles that were kept, each with a `checkpoint`, which counts as seen. Their
   * tiles tell where the first bad index is when the tree was made anew.
   */
  readonly against?: readonly string[];
  /** Whether rows (`state.ndjson`, `lanes.ndjson`) are looked at; they are unless told. */
  readonly rows?: boolean;
  /** How many problems are kept; 100 unless told. All are counted. */
  readonly limit?: number;
  /** Called every 8,192 entries and waited for; what it rejects with ends the verification. */
  readonly pause?: () => Promise<void>;
}

export interface VerifyReport {
  readonly verified: boolean;
  readonly origin: string;
  /** Entries from `from` to before `until` were looked at. */
  readonly from: number;
  readonly until: number;
  /** Of the newest checkpoint, base64; empty where none could be read. */
  readonly root: string;
  readonly lanes: number;
  readonly checkpoints: number;
  readonly keySetChanges: number;
  readonly keyChanges: number;
  /** The last move to cold storage that the entries tell of. */
  readonly archive: Archive | null;
  /** The problem of the smallest index. */
  readonly first: Problem | null;
  readonly problems: readonly Problem[];
  readonly problemCount: number;
  /** What was not looked at, in words. */
  readonly unchecked: readonly string[];
  readonly claim: Claim;
}

/** Against whom the result holds. */
export interface Claim {
  /** `pin-holder` includes `database-writer`. */
  readonly against: 'nobody' | 'database-writer' | 'pin-holder';
  /** Names of the witnesses that have signed the newest checkpoint. */
  readonly witnesses: readonly string[];
  readonly threshold: number;
}

const CHECKPOINT_FILE = 'checkpoint';
const LIMIT = 100;
/** A note says in one line that there are 2^53 entries, and each bundle that is not there is a problem of its own. */
const MOST_PROBLEMS = 16_384;
const PAUSE = 32 * TILE_WIDTH;
/** Operations of a lane's last entry. */
const LAST: readonly string[] = ['system.stop', 'lane.close'];

/** @throws TwofoldError invalid_value when the folder is no export or no key of its log is given */
export async function verifyExport(path: string, options: VerifyOptions): Promise<VerifyReport> {
  const problems = new Problems(options.limit ?? LIMIT);
  const begun = begin(path, options, problems);
  if (begun === null) return reportOf(null, problems, options);
  const { newest, manifest } = begun;
  const folder = new ExportFolder(path, newest.size);
  const edge = await loadEdge(folder, manifest.from, problems);
  if (edge === null) return reportOf(null, problems, options);
  const run = new Verification(folder, { newest, manifest, edge, problems, options });
  await run.all();
  return reportOf(run, problems, options);
}

interface Begun {
  readonly newest: FoundCheckpoint;
  readonly manifest: Manifest;
}

function begin(path: string, options: VerifyOptions, problems: Problems): Begun | null {
  const folder = new ExportFolder(path);
  if (![CHECKPOINT_FILE, CHECKPOINTS_FILE, MANIFEST_FILE].some((name) => folder.has(name))) {
    throw new TwofoldError('invalid_value', `${path} is no export of an audit log.`);
  }
  const manifest = readOr(problems, null, MANIFEST_FILE, () => readManifest(folder));
  const text = readOr(problems, null, CHECKPOINT_FILE, () => folder.text(CHECKPOINT_FILE));
  const newest = text === null ? null : parseFound(text, CHECKPOINT_FILE, problems);
  if (manifest === null || newest === null) return null;
  requireOthers(newest.origin, options.witnesses?.vkeys ?? []);
  if (manifest.until !== newest.size || manifest.origin !== newest.origin) {
    const why = 'its size and origin are not those of the newest checkpoint';
    problems.add('file_malformed', null, MANIFEST_FILE, why);
    return null;
  }
  const isOwn = ({ name, type }: Vkey) =>
    name === newest.origin && type !== SIGNATURE_TYPE.ed25519Cosignature;
  if (!options.trust.some(isOwn)) {
    const why = `none of the trusted keys is one of ${newest.origin}`;
    problems.add('checkpoint_unsigned', null, CHECKPOINT_FILE, why);
    return null;
  }
  return { newest, manifest };
}

/** What the log signs with says nothing against who holds the log's own keys. */
function requireOthers(origin: string, witnesses: readonly Vkey[]): void {
  const own = witnesses.find(
    ({ name, type }) => name === origin || type === SIGNATURE_TYPE.ed25519,
  );
  if (own === undefined) return;
  const why = `${own.name}+${own.keyId} is a key of a log and not of a witness.`;
  throw new TwofoldError('invalid_value', why);
}

/** The right edge of what is before the export, from the tiles: what they say is true if the root is. */
async function loadEdge(
  folder: ExportFolder,
  from: number,
  problems: Problems,
): Promise<Edge | null> {
  try {
    return await Edge.load(from, (level, index, width) => {
      const path = tilePath({ level, index, width });
      return Promise.resolve(readOr(problems, null, path, () => folder.tile(level, index, width)));
    });
  } catch (error) {
    if (!TwofoldError.is(error, 'integrity_failed')) throw error;
    return null;
  }
}

class Verification {
  readonly #folder: ExportFolder;
  readonly #problems: Problems;
  readonly #options: VerifyOptions;
  readonly #entry = new EntryView();
  readonly #tree: TreeCheck;
  readonly #pending: Iterator<FoundCheckpoint>;
  readonly #gaps: Gaps;
  readonly #references: readonly Reference[];
  /** Of the folders that were named: somebody else may have had them since. */
  readonly #lent: ReadonlySet<FoundCheckpoint>;
  #next: FoundCheckpoint | null;
  #lastListed: FoundCheckpoint | null = null;
  /** Checkpoints before the export, which it cannot say anything of. */
  #before = 0;
  readonly newest: FoundCheckpoint;
  readonly manifest: Manifest;
  readonly keySet: KeySet;
  readonly lanes: Lanes;
  readonly archives: Archives;
  readonly states: KeyStates;
  readonly unchecked: string[] = [];
  readonly #whole: boolean;
  checkpoints = 0;

  constructor(
    folder: ExportFolder,
    parts: Begun & {
      readonly edge: Edge;
      readonly problems: Problems;
      readonly options: VerifyOptions;
    },
  ) {
    const { newest, manifest, edge, problems, options } = parts;
    this.#folder = folder;
    this.#problems = problems;
    this.#options = options;
    this.newest = newest;
    this.manifest = manifest;
    this.#whole = manifest.from === 0;
    this.#gaps = new Gaps(manifest.from);
    this.#tree = new TreeCheck(folder, problems, newest.size, edge);
    this.keySet = new KeySet(newest.origin, options.trust, problems);
    this.lanes = new Lanes(problems, this.#whole);
    this.archives = new Archives(problems, this.#whole);
    this.states = new KeyStates(problems, this.#whole);
    const seen = (options.seen ?? []).flatMap((text, at) => {
      return parseFound(text, `seen checkpoint ${at + 1}`, problems, true) ?? [];
    });
    const others = (options.against ?? []).map((path) => openReference(path, problems));
    this.#references = [...others, referenceOf('this export', folder, newest.size)];
    this.#lent = new Set(others.map(({ checkpoint }) => checkpoint));
    seen.push(...this.#lent);
    this.#pending = merged(listedCheckpoints(folder, problems), seen);
    this.#next = this.#advance();
  }

  async all(): Promise<void> {
    const { from, until } = this.manifest;
    while (this.#next !== null && this.#next.size < from) this.#skip(this.#next);
    this.#checkpointsAt(from, () => this.#tree.root());
    for (let base = from; base < until; base += TILE_WIDTH) {
      if (this.#problems.count > MOST_PROBLEMS) {
        this.unchecked.push(`entries from ${base} on, and rows: too much is wrong before them`);
        return;
      }
      this.#tile(base / TILE_WIDTH, Math.min(TILE_WIDTH, until - base));
      if (base % PAUSE === 0) await this.#options.pause?.();
    }
    for (; this.#next !== null; this.#next = this.#advance()) this.#ahead(this.#next);
    this.#newestCheckpoint();
    this.#problems.lead(this.#gaps.problems(this.#references, this.#shown()));
    this.states.finish();
    await this.archives.finish(
      (...tile) => Promise.resolve(referenceTile(this.#folder, ...tile)),
      from,
    );
    this.#rows();
    this.#tell();
  }

  /** Names of the witnesses that have signed the newest checkpoint, by a key of each type that is pinned for them. */
  witnesses(): readonly string[] {
    const vkeys = this.#options.witnesses?.vkeys ?? [];
    const { verified } = verifyNote(this.newest.note, vkeys);
    const signed = new Set(verified.map(({ vkey }) => `${vkey.name}+${vkey.type}`));
    const names = new Set(vkeys.map(({ name }) => name));
    for (const { name, type } of vkeys) if (!signed.has(`${name}+${type}`)) names.delete(name);
    return [...names];
  }

  #advance(): FoundCheckpoint | null {
    const next = this.#pending.next();
    if (next.done === true) return null;
    if (!next.value.seen) this.#lastListed = next.value;
    return next.value;
  }

  #skip(checkpoint: FoundCheckpoint): void {
    this.#before += 1;
    if (checkpoint.seen) {
      this.unchecked.push(`${checkpoint.where} is of size ${checkpoint.size}, before the export`);
    }
    this.#next = this.#advance();
  }

  /**
   * More entries than the export's newest checkpoint has. Anybody can write that into a folder, which counts
   * by its signatures; what the caller saw counts as it is, since the key that signed it may be rolled back too.
   */
  #ahead(checkpoint: FoundCheckpoint): void {
    const { origin } = this.newest;
    const counts =
      !this.#lent.has(checkpoint) ||
      checkSignatures(origin, checkpoint, this.keySet.trusted, this.#problems);
    if (!counts) return;
    const { size, where } = checkpoint;
    const { until } = this.manifest;
    const why = `the log had ${size} entries, the newest checkpoint has ${until}`;
    this.#problems.add('rolled_back', until, where, why);
  }

  #tile(index: number, width: number): void {
    const base = index * TILE_WIDTH;
    const path = tilePath({ level: 'entries', index, width });
    const bundle = readOr(this.#problems, base, path, () => this.#folder.bundle(index, width));
    const own = bundle === null ? null : leafHashes(bundle);
    for (const at of bundle?.misfiled ?? []) {
      const why = 'lists do not find it by what it says: its index columns were altered';
      this.#problems.add('entry_misfiled', base + at, path, why);
    }
    const leaves = this.#tree.leaves(index, width, own, this.newest.root);
    for (let at = 0; at < width; at += 1) {
      if (bundle !== null && own !== null) this.#take(base + at, bundle, at, own);
      if (this.#next?.size === base + at + 1 && leaves !== null) {
        this.#checkpointsAt(base + at + 1, () => this.#tree.rootWith(leaves, at + 1));
      }
    }
    // Without leaves there is no tree to go on with: sizes stay right, roots do not.
    this.#tree.grow(leaves ?? new Uint8Array(width * HASH_BYTES));
    while (this.#next !== null && this.#next.size <= base + width) this.#next = this.#advance();
  }

  #checkpointsAt(size: number, rootOf: () => Uint8Array): void {
    if (this.#next?.size !== size) return;
    const root = rootOf();
    for (; this.#next?.size === size; this.#next = this.#advance()) {
      this.checkpoints += 1;
      this.#check(this.#next, root);
    }
  }

  #check(checkpoint: FoundCheckpoint, root: Uint8Array): void {
    const { origin } = this.newest;
    const signed = checkSignatures(origin, checkpoint, this.keySet.trusted, this.#problems);
    this.#gaps.take(checkpoint, root, signed);
  }

  /** The tree as its entries make it; their leaves are read again, which only what is wrong asks for. */
  #shown(): Shown {
    let read: { readonly index: number; readonly leaves: Uint8Array | null } | null = null;
    const leavesOf = (index: number): Uint8Array | null => {
      if (read?.index !== index)
        read = { index, leaves: leavesIn(this.#folder, index, this.newest.size) };
      return read.leaves;
    };
    return {
      hash: (level, index) => {
        if (level > 0) return this.#tree.hash(level, index);
        const leaves = leavesOf(Math.floor(index / TILE_WIDTH));
        return leaves === null ? null : hashAt(leaves, index % TILE_WIDTH);
      },
    };
  }

  #take(index: number, { bytes, starts, ends }: Bundle, at: number, leaves: Uint8Array): void {
    const entry = this.#entry;
    try {
      entry.read(bytes, starts[at] ?? 0, ends[at] ?? 0);
      const before = index < this.manifest.stateFrom;
      const lane = this.lanes.take(index, entry, hashAt(leaves, at), before);
      if (entry.tells) this.#tellsOf(index, entry, lane, before);
    } catch (error) {
      if (!(error instanceof MalformedEntry)) throw error;
      this.#problems.add('entry_malformed', index, `entry ${index}`, error.message);
    }
  }

  #tellsOf(index: number, entry: EntryView, lane: LaneFacts, before: boolean): void {
    const { keyId } = entry;
    const detail = entry.detail();
    if (keyId === null) {
      this.#ownEntry(index, entry, lane, detail);
      return;
    }
    const { operation, keyVersion, namespace } = entry;
    const changes = keyChanges(index, { operation, keyId, keyVersion }, detail);
    if (changes === null) throw new MalformedEntry('what it says of a change has no known form');
    for (const { keyId: id, change } of changes) this.states.take(id, namespace, change, before);
  }

  #ownEntry(
    index: number,
    entry: EntryView,
    lane: LaneFacts,
    detail: ReturnType<EntryView['detail']>,
  ): void {
    const { operation, n } = entry;
    if (operation === ADD || operation === RETIRE) this.keySet.take(index, operation, detail);
    if (operation === ARCHIVE) this.archives.take(index, entry.lane, detail);
    const kind = detail.get('kind');
    if (n === 1 && typeof kind === 'string') lane.kind = kind;
    if (LAST.includes(operation) && detail.get('last') === true) this.lanes.end(index, lane);
  }

  #newestCheckpoint(): void {
    const { newest, manifest } = this;
    this.#check(newest, this.#tree.root());
    if (this.#lastListed?.note.text !== newest.note.text) {
      const why = `its last is not the newest checkpoint, of size ${manifest.until}`;
      this.#problems.add('checkpoint_order', null, CHECKPOINTS_FILE, why);
    }
    const wanted = this.#options.witnesses;
    if (wanted === undefined) return;
    const { failed } = verifyNote(newest.note, wanted.vkeys);
    for (const { name, keyId } of failed) {
      const why = `the signature of ${name}+${keyId} does not verify`;
      this.#problems.add('checkpoint_forged', null, CHECKPOINT_FILE, why);
    }
    const signed = this.witnesses().length;
    if (signed >= wanted.threshold) return;
    const why = `${signed} of ${wanted.threshold} witnesses have signed the newest checkpoint`;
    this.#problems.add('witnesses_missing', null, CHECKPOINT_FILE, why);
  }

  #rows(): void {
    if (this.#options.rows === false) {
      this.unchecked.push(`${STATE_FILE} and ${LANES_FILE} were not looked at`);
      return;
    }
    for (const [name, check] of [
      [STATE_FILE, () => checkStates(this.#folder, this.states, this.#problems, this.#whole)],
      [LANES_FILE, () => checkLanes(this.#folder, this.lanes, this.#problems, this.#whole)],
    ] as const) {
      if (this.#folder.has(name)) check();
      else this.#problems.add('file_missing', null, name, 'the file is not there');
    }
  }

  #tell(): void {
    const { from, until } = this.manifest;
    for (const { name, size } of this.#references)
      if (size < until)
        this.unchecked.push(`entries from ${size} on against ${name}, which ends there`);
    const undone = this.archives.undone();
    if (undone !== null) {
      this.unchecked.push(
        `whether entries before ${undone.until} went to ${undone.place}: entry ${undone.index} begins it, none says it is done`,
      );
    }
    if (from === 0) return;
    this.unchecked.push(
      `entries before ${from}: they are in the tree by their hashes alone`,
      `changes of the key set and of keys before ${from}`,
    );
    if (this.archives.done < from)
      this.unchecked.push(`whether entries before ${from} were archived: no entry here says so`);
    if (this.#before > 0)
      this.unchecked.push(`${this.#before} checkpoints of fewer entries than ${from}`);
  }
}

function reportOf(
  run: Verification | null,
  problems: Problems,
  { witnesses }: VerifyOptions,
): VerifyReport {
  const verified = problems.count === 0 && run !== null;
  const signed = run?.witnesses() ?? [];
  const stronger = witnesses !== undefined && witnesses.threshold > 0;
  const against = !verified ? 'nobody' : stronger ? 'pin-holder' : 'database-writer';
  return {
    verified,
    origin: run?.newest.origin ?? '',
    from: run?.manifest.from ?? 0,
    until: run?.manifest.until ?? 0,
    root: Buffer.from(run?.newest.root ?? []).toString('base64'),
    lanes: run?.lanes.seen.size ?? 0,
    checkpoints: run?.checkpoints ?? 0,
    keySetChanges: run?.keySet.changes ?? 0,
    keyChanges: run?.states.changes ?? 0,
    archive: run?.archives.last ?? null,
    first: problems.first,
    problems: problems.kept,
    problemCount: problems.count,
    unchecked: run?.unchecked ?? [],
    claim: { against, witnesses: signed, threshold: witnesses?.threshold ?? 0 },
  };
}
