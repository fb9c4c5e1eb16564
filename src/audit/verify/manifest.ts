/** `export.json`: what an export says of itself. Nothing but how far to look is taken from it. */
import { TILE_WIDTH } from '../tree/tiles.ts';
import { MalformedFile } from './folder.ts';
import type { ExportFolder } from './folder.ts';
import { parseRow, requireCount, requireMembers, requireText } from './rows.ts';

export const MANIFEST_FILE = 'export.json';
const FORMAT = 1;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

export interface Manifest {
  readonly origin: string;
  /** First index, a multiple of 256. */
  readonly from: number;
  /** Size of the newest checkpoint. */
  readonly until: number;
  /** Size of the log before rows (`state.ndjson`, `lanes.ndjson`) were read. */
  readonly stateFrom: number;
}

/** @throws MalformedFile; null when it is not there */
export function readManifest(folder: ExportFolder): Manifest | null {
  const text = folder.text(MANIFEST_FILE);
  if (text === null) return null;
  const row = parseRow(text.endsWith('\n') ? text.slice(0, -1) : text);
  requireMembers(row, ['format', 'origin', 'from', 'until', 'stateFrom', 'at']);
  if (row['format'] !== FORMAT) throw new MalformedFile('it is of another format');
  if (!TIME.test(requireText(row, 'at'))) throw new MalformedFile('at is no time');
  const [from, until] = [requireCount(row, 'from', 0), requireCount(row, 'until', 0)];
  const stateFrom = requireCount(row, 'stateFrom', 0);
  if (from % TILE_WIDTH !== 0 || from > until)
    throw new MalformedFile('from is no index to begin at');
  if (stateFrom > until) throw new MalformedFile('stateFrom is over until');
  return { origin: requireText(row, 'origin'), from, until, stateFrom };
}
