/** `twofold serve`: starts the service, says what it found, and stops it in order on a signal. */
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { lockDataFolder } from '../data-folder.ts';
import { waitingNotice, welcome } from './banner.ts';
import { endSoon } from './exit.ts';
import { Service } from './service.ts';
import { stopSignals } from './stop-signals.ts';

/** Resolves with the exit code once everything is stopped. */
export async function serveCommand(
  config: Config,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  requireNothingMore(parseFlags(argv, {}));
  const folder = await lockDataFolder(config.dataDir);
  const signals = stopSignals(print);
  try {
    const service = new Service(config, signals.hastened);
    const started = service.start((status) => print(waitingNotice(config, status)));
    const running = await Promise.race([started, signals.asked]);
    if (running !== undefined) {
      print(welcome(config, running));
      await signals.asked;
    }
    await service.stop();
    return 0;
  } finally {
    folder.release();
    endSoon();
  }
}
