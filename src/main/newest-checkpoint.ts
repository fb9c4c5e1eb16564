/**
 * The newest checkpoint that this folder's processes have seen, kept outside the database: by it, a
 * database that was rolled back is known at the next start. Each worker has a file of its own:
 * `checkpoint`, `checkpoint-2` and so on, a signed note each.
 */
import { randomUUID } from 'node:crypto';
import { open, readFile, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { alteredPlace } from '../audit/altered-place.ts';
import { checkpointHash, contradictionOf } from '../audit/continuation.ts';
import type { LogHead, LogReader } from '../audit/log-ports.ts';
import { parseNote } from '../audit/notes.ts';
import type { CheckpointNote } from '../audit/notes.ts';
import { TwofoldError } from '../errors.ts';

const FILES = /^checkpoint(?:-\d+)?$/u;
const fileOf = (worker: number): string => (worker === 1 ? 'checkpoint' : `checkpoint-${worker}`);

/**
 * Durable, in one step: a reader finds the former content or this. Other processes may do the same at that moment, since
 * every worker of every instance publishes.
 */
export const replaceFile = async (folder: string, name: string, content: string): Promise<void> => {
  const file = join(folder, name);
  await tidy(folder, name);
  const made = `${file}.new-${randomUUID()}`;
  const handle = await open(made, 'wx', 0o600);
  try {
    try {
      await handle.writeFile(content, 'utf8');
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(made, file);
  } catch (error) {
    await rm(made, { force: true });
    throw error;
  }
  const directory = await open(folder, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
};

/** Nobody writes a file for so long. */
const LEFT_MS = 3_600_000;
/** Behind the name; the first form is of versions before. */
const LEFT = /^\.new(?:-[\da-f-]{36})?$/u;
const tidied = new Set<string>();

/** Once in a process: removes what killed ones left. Best effort, since nothing depends on it. */
const tidy = async (folder: string, name: string): Promise<void> => {
  const file = join(folder, name);
  if (tidied.has(file)) return;
  tidied.add(file);
  const names = await readdir(folder).catch(() => []);
  for (const left of names.filter(
    (each) => each.startsWith(name) && LEFT.test(each.slice(name.length)),
  )) {
    const info = await stat(join(folder, left)).catch(() => null);
    if (info === null || Date.now() - info.mtimeMs < LEFT_MS) continue;
    await rm(join(folder, left), { force: true }).catch(() => undefined);
  }
};

/** Where a checkpoint was seen before. */
export interface Seen {
  /** The file, or another name of the place. */
  readonly place: string;
  readonly note: CheckpointNote;
}

/** What the processes of a folder have seen. @throws TwofoldError integrity_failed for a file that is none of ours */
export const rememberedIn = async (folder: string): Promise<readonly Seen[]> => {
  const names = (await readdir(folder)).filter((name) => FILES.test(name)).toSorted();
  const seen: Seen[] = [];
  for (const name of names) {
    const place = join(folder, name);
    const note = parseNote(await readFile(place, 'utf8'));
    if (note === null) {
      throw new TwofoldError('integrity_failed', `${place} is no checkpoint of a log.`);
    }
    seen.push({ place, note });
  }
  return seen;
};

export const remember = (folder: string, worker: number, note: string): Promise<void> =>
  replaceFile(folder, fileOf(worker), note);

/** An operator's word that a database which lost entries is the one to go on with. */
export interface AcceptedRollback {
  /** `checkpointHash` of what is given up: of each folder its newest. */
  readonly checkpoints: readonly string[];
  readonly reason: string;
}

export interface RollbackCheck {
  readonly folder: string;
  readonly origin: string;
  readonly reader: Pick<LogReader, 'head' | 'tile' | 'entries'>;
  /** Copies outside the folder that are to be trusted. */
  readonly published: readonly Seen[];
  readonly accepted: AcceptedRollback | undefined;
}

type RecordGivenUp = (
  operation: string,
  detail: Readonly<Record<string, string | number>>,
) => Promise<unknown>;

/** Checkpoints that the log does not go on from, given up by an operator. */
export interface GivenUp {
  readonly checkpoints: readonly Seen[];
  /**
   * To be called once entries can be written, and before anything is served: says in the log what was
   * given up, and only then puts the files aside.
   */
  settle(record: RecordGivenUp): Promise<void>;
}

/** The newest is what an operator gives up; the older ones of that history go with it. */
const contradictions = async (
  check: Omit<RollbackCheck, 'accepted'>,
  head: LogHead,
): Promise<readonly Wrong[]> => {
  const { folder, origin, reader, published } = check;
  const found: Wrong[] = [];
  for (const seen of [...(await rememberedIn(folder)), ...published]) {
    const wrong = await contradictionOf(reader, { origin, head }, seen.note.checkpoint);
    if (wrong !== null) found.push({ seen, wrong });
  }
  return found.toSorted((a, b) => sizeOf(b.seen) - sizeOf(a.seen));
};

interface Wrong {
  readonly seen: Seen;
  readonly wrong: string;
}

const sizeOf = ({ note }: Seen): number => note.checkpoint.size;

/** What was seen of a log that it does not go on from. */
export interface SeenBeyond {
  readonly place: string;
  /** Entries. */
  readonly size: number;
  /** By what an operator gives it up. */
  readonly checkpoint: string;
}

/** What a start would refuse, newest first; for who has restored an older state and knows it. */
export const seenBeyond = async (
  check: Omit<RollbackCheck, 'accepted'>,
): Promise<readonly SeenBeyond[]> => {
  const found = await contradictions(check, await check.reader.head());
  return found.map(({ seen: { place, note } }) => ({
    place,
    size: note.checkpoint.size,
    checkpoint: checkpointHash(note.checkpoint),
  }));
};

/**
 * To be called before anything is written to the database.
 * @throws TwofoldError log_rolled_back when the log does not go on from a checkpoint that was seen
 */
export const checkNotRolledBack = async (check: RollbackCheck): Promise<GivenUp> => {
  const { reader, accepted, folder } = check;
  const head = await reader.head();
  const found = await contradictions(check, head);
  const [newest] = found;
  for (const { seen, wrong } of found) {
    const isNewest = newest !== undefined && sizeOf(seen) === sizeOf(newest.seen);
    const hash = checkpointHash(seen.note.checkpoint);
    if (!isNewest || accepted?.checkpoints.includes(hash) === true) continue;
    const place = await alteredPlace(reader, head.size);
    throw rolledBack(seen, place === null ? wrong : `${wrong}; ${place}`);
  }
  return {
    checkpoints: found.map(({ seen }) => seen),
    settle: async (record) => {
      for (const { seen } of found)
        await giveUp(folder, seen, head, accepted?.reason ?? '', record);
    },
  };
};

const giveUp = async (
  folder: string,
  { place, note: { checkpoint } }: Seen,
  head: LogHead,
  reason: string,
  record: RecordGivenUp,
): Promise<void> => {
  const { size, root } = checkpoint;
  await record('audit.rollback.accept', {
    ...{ checkpoint: checkpointHash(checkpoint), size, place, reason },
    ...{ root: Buffer.from(root).toString('base64'), atSize: head.size },
    atRoot: Buffer.from(head.root).toString('base64'),
  });
  // A copy elsewhere is the operator's; another worker may have put ours aside.
  const aside = `${place}.given-up-${String(size)}`;
  if (dirname(place) !== folder) return;
  await rename(place, aside).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  });
};

const rolledBack = ({ place, note: { checkpoint } }: Seen, wrong: string): TwofoldError => {
  const { origin, size } = checkpoint;
  return new TwofoldError(
    'log_rolled_back',
    `A checkpoint of ${origin} with ${String(size)} entries was seen before (${place}), but ${wrong}. ` +
      'The database was rolled back or altered, or is another one. Restore the newest state; where that is lost ' +
      'for good, see "After a roll-back" in deploy/witnesses.md: the checkpoint to give up is ' +
      `${checkpointHash(checkpoint)}.`,
  );
};
