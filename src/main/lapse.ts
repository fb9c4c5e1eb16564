/**
 * The end of an instance that a change fenced because it could not reach it for longer than its grace. It
 * was never mistrusted, so once stopped in order its process is started again by whoever keeps it running.
 */
import type { Log } from '../telemetry/logs.ts';
import type { End } from './incarnation.ts';

export class Lapse {
  readonly #happened = Promise.withResolvers<'lapsed'>();

  /** Never rejects. */
  get happened(): Promise<'lapsed'> {
    return this.#happened.promise;
  }

  /** Takes what `Incarnation` says of its end. */
  watch(log: Log): (end: End, lapsed: boolean) => void {
    return (end, lapsed) => {
      if (!lapsed) {
        log.fatal({ end }, 'this instance is fenced: restart it');
        return;
      }
      log.error({ end }, 'a change that could not reach this instance fenced it: the process ends');
      this.#happened.resolve('lapsed');
    };
  }
}
