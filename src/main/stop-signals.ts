/**
 * Signals that stop the service, and SIGHUP, which makes it read its secrets again. The first asks for an orderly stop; a later one hastens it, which
 * cuts its waits short; one more ends the process at once, as kill -9 would, and the next start
 * completes what it cut.
 *
 * One Ctrl-C under npm arrives twice, from the terminal and from npm, so signals that follow within
 * a second count as one.
 */
export const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const STOPPING = ['SIGINT', 'SIGTERM'] as const;
const ONE_MS = 1_000;

export interface StopSignals {
  /** Resolves at the first signal. */
  readonly asked: Promise<void>;
  /** Aborts at the second. */
  readonly hastened: AbortSignal;
}

export interface SignalOptions {
  /** Says what a further signal does. */
  readonly print: (line: string) => void;
  /** Called for each SIGHUP, which stops nothing. */
  readonly reload: () => void;
  /**
   * Whether a SIGHUP stops where the terminal, or whatever read the output, is gone: somebody closed the
   * window in which a development service runs.
   */
  readonly endsWithTerminal: boolean;
}

/** Handlers stay for the life of the process. */
export function stopSignals({ print, reload, endsWithTerminal }: SignalOptions): StopSignals {
  const haste = new AbortController();
  let countedAt = -Infinity;
  let count = 0;
  const asked = new Promise<void>((resolve) => {
    const steps = [
      () => {
        print('stopping');
        resolve();
      },
      () => {
        print('stopping without waiting; once more ends the process at once');
        haste.abort();
      },
      () => process.exit(1),
    ];
    const onSignal = () => {
      const now = performance.now();
      if (now - countedAt < ONE_MS) return;
      countedAt = now;
      steps[count]?.();
      count += 1;
    };
    for (const signal of STOPPING) process.on(signal, onSignal);
    process.on('SIGHUP', () => {
      process.stdout.write('reading certificates, passwords and keys again\n', (error) => {
        if (endsWithTerminal && error instanceof Error) onSignal();
        else reload();
      });
    });
  });
  return { asked, hastened: haste.signal };
}
