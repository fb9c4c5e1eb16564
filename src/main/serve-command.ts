/** `twofold serve`: starts the service, says what it found, and stops it in order on a signal. */
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { lockDataFolder } from '../data-folder.ts';
import { TwofoldError } from '../errors.ts';
import { waitingNotice, welcome } from './banner.ts';
import { endSoon } from './exit.ts';
import { Service } from './service.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Resolves with the exit code once everything is stopped. */
export async function serveCommand(
  config: Config,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  requireNothingMore(parseFlags(argv, {}));
  const folder = await lockDataFolder(config.dataDir);
  const service = new Service(config);
  const signalled = firstSignal();
  try {
    const started = service.start((status) => print(waitingNotice(config, status)));
    const outcome = await Promise.race([started, signalled]);
    if (typeof outcome !== 'string') {
      print(welcome(config, outcome));
      await signalled;
    }
    print('stopping');
    await service.stop();
    // A start that was under way ends by what the stop took away.
    await started.catch((error: unknown) => {
      if (!TwofoldError.is(error)) throw error;
    });
    return 0;
  } finally {
    folder.release();
    endSoon();
  }
}

/** Handlers stay: a second Ctrl-C must not cut the orderly stop short. */
function firstSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of SIGNALS) process.on(signal, () => resolve(signal));
  });
}
