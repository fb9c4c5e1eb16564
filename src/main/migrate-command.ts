/** `twofold migrate`: brings the database to the schema of this program, as a step of its own. */
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { migrate } from '../store/migrate.ts';
import { whenReachable } from './patience.ts';
import { Unwinding } from './unwinding.ts';
import { VERSION } from './version.ts';

/**
 * So that no server ever holds the owner's password. Prints what was applied, which is nothing the
 * second time; waits for a database that does not answer yet, as a start does.
 */
export async function migrateCommand(
  config: Config,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  requireNothingMore(parseFlags(argv, {}));
  const { ownerUrl, tls, caFile } = config.database;
  if (ownerUrl === undefined) {
    throw new TwofoldError('invalid_value', 'database.ownerUrl is not configured.');
  }
  const options = { url: ownerUrl, tls, caFile, version: VERSION };
  const nothingToUndo = new Unwinding(() => undefined);
  const applied = await whenReachable(() => migrate(options), nothingToUndo);
  print(JSON.stringify({ applied }));
  return 0;
}
