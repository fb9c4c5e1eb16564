/** `twofold serve`: starts the service, says what it found, and stops it in order on a signal. */
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { lockDataFolder } from '../data-folder.ts';
import { waitingNotice, welcome } from './banner.ts';
import { endSoon, START_AGAIN } from './exit.ts';
import { Service } from './service.ts';
import { stopSignals } from './stop-signals.ts';
import type { StopSignals } from './stop-signals.ts';
import { supervise } from './workers/supervise.ts';

type Line = (line: string) => void;
/** Takes what a SIGHUP is to call from now on. */
type OnReload = (reload: () => void) => void;

/**
 * Resolves with the exit code once everything is stopped.
 *
 * @param argv all arguments, which workers are given as they are
 * @param rest those of them that are no flags of the configuration: there may be none
 */
export async function serveCommand(
  config: Config,
  { argv, rest }: { readonly argv: readonly string[]; readonly rest: readonly string[] },
  { print, complain }: { readonly print: Line; readonly complain: Line },
): Promise<number> {
  requireNothingMore(parseFlags(rest, {}));
  const folder = await lockDataFolder(config.dataDir);
  let onReload: () => void = () => undefined;
  const signals = stopSignals({
    print,
    reload: () => onReload(),
    endsWithTerminal: config.mode === 'dev',
  });
  const reloaded = (reload: () => void) => (onReload = reload);
  try {
    if (config.workers === 1) return await serveAlone(config, signals, { print, reloaded });
    const lock = folder.descriptor;
    return await supervise({ config, argv, lock, signals, reloaded, print, complain });
  } finally {
    folder.release();
    endSoon();
  }
}

async function serveAlone(
  config: Config,
  signals: StopSignals,
  { print, reloaded }: { readonly print: Line; readonly reloaded: OnReload },
): Promise<number> {
  const service = new Service(config, signals.hastened);
  reloaded(() => void service.reload());
  const started = service.start((status) => print(waitingNotice(config, status)));
  const lapsed = service.lapse.happened;
  const running = await Promise.race([started, signals.asked, lapsed]);
  let end: unknown = running;
  if (typeof running === 'object') {
    print(welcome(config, running));
    end = await Promise.race([signals.asked, lapsed]);
  }
  await service.stop();
  return end === 'lapsed' ? START_AGAIN : 0;
}
