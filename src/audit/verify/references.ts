/** Folders as `narrowing.ts` asks them: what cannot be read is as if it were not there. */
import { TwofoldError } from '../../errors.ts';
import { widthAt } from '../tree/tiles.ts';
import { parseFound } from './checkpoints.ts';
import type { FoundCheckpoint } from './checkpoints.ts';
import { ExportFolder, MalformedFile } from './folder.ts';
import type { Reference } from './narrowing.ts';
import type { Problems } from './problems.ts';
import { leafHashes } from './tree-check.ts';

const CHECKPOINT_FILE = 'checkpoint';

/** An older export, or tiles that were kept, with a checkpoint. */
export interface OpenReference extends Reference {
  readonly checkpoint: FoundCheckpoint;
}

/** @throws TwofoldError invalid_value where no checkpoint is in the folder */
export function openReference(path: string, problems: Problems): OpenReference {
  const where = `${path}/${CHECKPOINT_FILE}`;
  const text = orNull(() => new ExportFolder(path).text(CHECKPOINT_FILE));
  const checkpoint = text === null ? null : parseFound(text, where, problems, true);
  if (checkpoint === null) throw new TwofoldError('invalid_value', `${where} is no checkpoint.`);
  const { size } = checkpoint;
  return { ...referenceOf(path, new ExportFolder(path, size), size), checkpoint };
}

export const referenceOf = (name: string, folder: ExportFolder, size: number): Reference => ({
  name,
  size,
  tile: (level, index, width) => referenceTile(folder, level, index, width),
});

export const referenceTile = (
  folder: ExportFolder,
  level: number,
  index: number,
  width: number,
): Uint8Array | null => orNull(() => folder.tile(level, index, width));

/** Leaves of a bundle, or of its tile where there is no bundle that can be read. */
export function leavesIn(folder: ExportFolder, index: number, size: number): Uint8Array | null {
  const width = widthAt(0, index, size);
  if (width === 0) return null;
  const bundle = orNull(() => folder.bundle(index, width));
  return bundle === null ? referenceTile(folder, 0, index, width) : leafHashes(bundle);
}

function orNull<T>(read: () => T | null): T | null {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof MalformedFile)) throw error;
    return null;
  }
}
