/** Ports that exist before what stands behind them: for listeners that open while the HSM is away. */
import { TwofoldError } from '../errors.ts';

/** Stands for `T` until `set`; every call before that fails with `hsm_unavailable`. */
export interface Late<T extends object> {
  readonly port: T;
  /** What was set; null before. */
  readonly current: T | null;
  set(target: T): void;
}

type Method = (...args: unknown[]) => unknown;

export function late<T extends object>(): Late<T> {
  let target: T | undefined;
  /** Methods as they were bound when first asked for: each request asks for some. */
  const bound = new Map<string | symbol, Method>();
  const port = new Proxy({} as T, {
    get: (_, name) => {
      if (target === undefined) {
        throw new TwofoldError('hsm_unavailable', 'The service is still starting.', {
          retryAfter: 5,
        });
      }
      const known = bound.get(name);
      if (known !== undefined) return known;
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== 'function') return member;
      const method = member.bind(target) as Method;
      bound.set(name, method);
      return method;
    },
  });
  return {
    port,
    get current() {
      return target ?? null;
    },
    set: (made) => {
      bound.clear();
      target = made;
    },
  };
}
