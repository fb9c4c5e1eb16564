/**
 * The end of a process whose HSM hangs: a thread inside the module keeps it alive, and even
 * process.exit would wait for that thread.
 */
import { setTimeout as delay } from 'node:timers/promises';

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
