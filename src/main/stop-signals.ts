/**
 * Signals that stop the service. The first asks for an orderly stop; a later one hastens it, which
 * cuts its waits short; one more ends the process at once, as kill -9 would, and the next start
 * completes what it cut.
 *
 * One Ctrl-C under npm arrives twice, from the terminal and from npm, so signals that follow within
 * a second count as one.
 */
export const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const ONE_MS = 1_000;

export interface StopSignals {
  /** Resolves at the first signal. */
  readonly asked: Promise<void>;
  /** Aborts at the second. */
  readonly hastened: AbortSignal;
}

/** Handlers stay for the life of the process. `print` says what a further signal does. */
export function stopSignals(print: (line: string) => void): StopSignals {
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
    for (const signal of SIGNALS) process.on(signal, onSignal);
  });
  return { asked, hastened: haste.signal };
}
