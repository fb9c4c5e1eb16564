/** The log as the database has it, if it agrees with itself and with what was published before. */
import { equalBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import type { LogHead } from './log-ports.ts';
import type { StoredEdge } from './sequencer-ports.ts';
import { Edge } from './tree/edge.ts';

export type Recovered =
  { readonly head: LogHead; readonly edge: Edge } | { readonly mismatch: string };

/**
 * What would have to be forked is a mismatch: the newest checkpoint is not the head, the tiles have
 * another root, or the log is behind or beside the head that this process has published.
 */
export async function recoveredEdge(
  stored: StoredEdge,
  published: LogHead | null,
): Promise<Recovered> {
  const { size, root, note } = stored;
  if ((stored.checkpoint?.note ?? null) !== note || (stored.checkpoint?.size ?? 0) !== size) {
    return { mismatch: 'the newest checkpoint is not that of the head' };
  }
  if (note !== null && !saysHead(note, size, root)) {
    return { mismatch: 'the checkpoint of the head says another size or root' };
  }
  const edge = await loaded(stored);
  if (edge === null || !equalBytes(edge.root(), root)) {
    return { mismatch: 'the tiles do not have the root of the head' };
  }
  if (published !== null && isBehind(stored, published)) {
    return { mismatch: 'the log is not a continuation of what was published' };
  }
  return { head: { size, root, note }, edge };
}

/** C2SP tlog-checkpoint: origin, size and root are the first three lines. */
function saysHead(note: string, size: number, root: Uint8Array): boolean {
  const [, sizeLine, rootLine] = note.split('\n', 3);
  return sizeLine === String(size) && rootLine === Buffer.from(root).toString('base64');
}

async function loaded({ size, tiles }: StoredEdge): Promise<Edge | null> {
  const read = (level: number, index: number, width: number) => {
    const tile = tiles.find((each) => each.level === level && each.index === index);
    return Promise.resolve(tile?.width === width ? tile.hashes : null);
  };
  try {
    return await Edge.load(size, read);
  } catch (error) {
    if (TwofoldError.is(error, 'integrity_failed')) return null;
    throw error;
  }
}

const isBehind = (head: Pick<LogHead, 'size' | 'root'>, published: LogHead): boolean =>
  head.size < published.size ||
  (head.size === published.size && !equalBytes(head.root, published.root));
