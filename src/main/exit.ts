/**
 * The end of a process whose HSM hangs: a thread inside the module keeps it alive, and even
 * process.exit would wait for that thread.
 */
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Exit code of an instance that was fenced while it was cut off: whoever keeps it running is to start it
 * again (EX_TEMPFAIL of sysexits.h).
 */
export const START_AGAIN = 75;

const PATIENCE_MS = 5_000;

/**
 * Ends the process by SIGTERM's default action if it is still there after some seconds. To be called when
 * everything was stopped in order; a process that nothing keeps ends before. Never waits itself.
 */
export function endSoon(patienceMs: number = PATIENCE_MS): void {
  void delay(patienceMs, undefined, { ref: false }).then(() => {
    process.removeAllListeners('SIGTERM');
    process.kill(process.pid, 'SIGTERM');
  });
}
