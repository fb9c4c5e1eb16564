/** Ports that exist before what stands behind them: for listeners that open while the HSM is away. */
import { TwofoldError } from '../errors.ts';

/** Stands for `T` until `set`; every call before that fails with `hsm_unavailable`. */
export interface Late<T extends object> {
  readonly port: T;
  /** What was set; null before. */
  readonly current: T | null;
  set(target: T): void;
}

export function late<T extends object>(): Late<T> {
  let target: T | undefined;
  const port = new Proxy({} as T, {
    get: (_, name) => {
      if (target === undefined) {
        throw new TwofoldError('hsm_unavailable', 'The service is still starting.', {
          retryAfter: 5,
        });
      }
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === 'function' ? (member.bind(target) as unknown) : member;
    },
  });
  return {
    port,
    get current() {
      return target ?? null;
    },
    set: (made) => {
      target = made;
    },
  };
}
