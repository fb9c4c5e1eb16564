/** `twofold serve --workers N`: supervisor and workers from start to stop. */
import { join } from 'node:path';

import type { Config } from '../../config.ts';
import { SENSITIVE_FIELDS } from '../../contract/sensitive.ts';
import { createLogs } from '../../telemetry/logs.ts';
import { waitingNotice, welcome } from '../banner.ts';
import type { StopSignals } from '../stop-signals.ts';
import { Unwinding } from '../unwinding.ts';
import { Supervisor, WorkersFailed } from './supervisor.ts';

export interface Supervised {
  readonly config: Config;
  /** Flags of the configuration, for the workers. */
  readonly argv: readonly string[];
  /** See `DataFolder.descriptor`. */
  readonly lock: number | null;
  readonly signals: StopSignals;
  /** Takes what a SIGHUP is to call. */
  readonly reloaded: (reload: () => void) => void;
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

/** Resolves with the exit code once no worker runs and the database has stopped. */
export async function supervise(supervised: Supervised): Promise<number> {
  const { config, argv, lock, signals, reloaded, print, complain } = supervised;
  const logs = createLogs({
    level: config.log.level,
    sensitive: SENSITIVE_FIELDS,
    ...(config.mode === 'dev' ? { destination: join(config.dataDir, 'twofold.log') } : {}),
  });
  const log = logs.component('supervisor');
  const unwinding = new Unwinding((step, err) => {
    log.error({ step, err }, 'a step of the stop failed');
  });
  const onWaiting = (status: Parameters<typeof waitingNotice>[1]) =>
    print(waitingNotice(config, status));
  const supervisor = new Supervisor({ config, argv, lock, log, onWaiting }, unwinding);
  reloaded(() => supervisor.reload());
  const started = supervisor.start();
  const over = started.then(nothing, nothing);
  try {
    const running = await Promise.race([started, signals.asked]);
    if (running === undefined) return 0;
    print(welcome(config, running));
    await Promise.race([signals.asked, supervisor.failed]);
    return 0;
  } catch (error) {
    if (!(error instanceof WorkersFailed)) throw error;
    for (const line of error.lines) complain(line);
    return 1;
  } finally {
    unwinding.begin();
    await supervisor.stop(signals.hastened);
    await over;
    await unwinding.unwind();
    logs.flush();
  }
}

const nothing = (): void => undefined;
