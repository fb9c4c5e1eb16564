/** `twofold doctor database`: whether what the database acknowledges is on a standby too. */
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { readReplication } from '../store/replication.ts';
import { besides, storeBeside } from './beside.ts';
import { askManagers } from './manager.ts';
import { complaintOf, isRequired, isWaiting, stateOf } from './replication.ts';

/** @returns the exit code: 0, or 1 where replication is required, and not synchronous or not known */
export async function doctorDatabaseCommand(
  config: Config,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  requireNothingMore(parseFlags(argv, {}));
  const seen = await besides(async (unwinding) =>
    readReplication((await storeBeside(config, unwinding)).pool),
  );
  const strictness = await askManagers(config.database);
  const [required, state] = [isRequired(config), stateOf(seen, strictness)];
  const problem = complaintOf(seen, strictness);
  print(JSON.stringify({ replication: state, required, ...seen, manager: strictness, problem }));
  return required && !isWaiting(state) ? 1 : 0;
}
