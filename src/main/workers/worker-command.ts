/** `twofold worker`: one of the processes of `serve --workers N`, which alone starts it. */
import { parseFlags, requireNothingMore } from '../../cli/arguments.ts';
import type { Config } from '../../config.ts';
import { TwofoldError } from '../../errors.ts';
import { complaintLines } from '../complaint.ts';
import { endSoon, START_AGAIN } from '../exit.ts';
import { Service } from '../service.ts';
import { SIGNALS } from '../stop-signals.ts';
import { WorkerChannel } from './channel.ts';
import { configurationDigest } from './configuration-digest.ts';

/** Resolves with the exit code once everything of this worker is stopped. */
export async function workerCommand(config: Config, argv: readonly string[]): Promise<number> {
  requireNothingMore(parseFlags(argv, {}));
  const channel = WorkerChannel.open();
  // A terminal sends Ctrl-C to the whole group; what follows from it is the supervisor's word.
  for (const signal of SIGNALS) process.on(signal, () => undefined);
  try {
    const begin = await channel.begun();
    if (begin === null) return 0;
    if (begin.configuration !== configurationDigest(config)) {
      const detail = 'The configuration was changed under the running service; restart it.';
      throw new TwofoldError('conflict', detail);
    }
    const service = new Service(config, channel.hastened, channel.membership(begin));
    channel.onReload = () => void service.reload();
    const started = service.start((status) => channel.tell({ type: 'waiting', status }));
    const lapsed = service.lapse.happened;
    const running = await Promise.race([started, channel.stopAsked, lapsed]);
    let end: unknown = running;
    if (typeof running === 'object') {
      channel.tell({ type: 'complete', service: running });
      end = await Promise.race([channel.stopAsked, lapsed]);
    }
    await service.stop();
    return end === 'lapsed' ? START_AGAIN : 0;
  } catch (error) {
    channel.tell({ type: 'failed', lines: complaintLines(error) });
    return 1;
  } finally {
    channel.close();
    endSoon();
  }
}
