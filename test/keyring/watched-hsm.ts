/** The software HSM with every call seen, and with a fault of a test's choice at any of them. */
import { SecretBytes } from '../../src/crypto/secret.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { Hsm } from '../../src/hsm/port.ts';
import { SoftwareHsm, SoftwareToken } from '../hsm/software-hsm.ts';

export type HsmCall = Exclude<keyof Hsm, 'status' | 'close'>;
/** `before`: nothing happened. `after`: it happened, and the caller is told that it failed. */
export type HsmFault = 'none' | 'before' | 'after' | TwofoldError;

export interface Watch {
  fault: (call: HsmCall) => HsmFault;
  /** Runs before a call acts: what else happens meanwhile. */
  meanwhile: (call: HsmCall) => Promise<void>;
  /** What a caller gets in the place of a secret; the secret itself unless told. */
  answer: (call: HsmCall, secret: SecretBytes) => SecretBytes;
  readonly calls: HsmCall[];
  readonly forgotten: string[];
  /** Secrets that were given out, to see whether they were wiped. */
  readonly given: SecretBytes[];
}

export interface WatchedHsm extends Watch {
  readonly hsm: SoftwareHsm;
  readonly token: SoftwareToken;
}

const unavailable = () => new TwofoldError('hsm_unavailable');

/** One more port to the same token, as after a restart. */
export function watchedHsm(
  token = new SoftwareToken(),
  options: { readonly lacks?: readonly string[] } = {},
): WatchedHsm {
  const watch: Watch = {
    fault: () => 'none',
    meanwhile: () => Promise.resolve(),
    answer: (_call, secret) => secret,
    calls: [],
    forgotten: [],
    given: [],
  };
  const hsm = new Proxy(new SoftwareHsm(token, options), {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== 'function') return member;
      if (name === 'status' || name === 'close') return member.bind(target) as unknown;
      return (...given: unknown[]) =>
        watched(watch, name as HsmCall, given, () => Reflect.apply(member, target, given));
    },
  });
  return Object.assign(watch, { hsm, token });
}

async function watched(
  watch: Watch,
  call: HsmCall,
  given: readonly unknown[],
  act: () => unknown,
): Promise<unknown> {
  watch.calls.push(call);
  const fault = watch.fault(call);
  await watch.meanwhile(call);
  if (fault instanceof TwofoldError) throw fault;
  if (fault === 'before') throw unavailable();
  const acted = await act();
  const result = acted instanceof SecretBytes ? watch.answer(call, acted) : acted;
  if (result instanceof SecretBytes) watch.given.push(result);
  if (call === 'forget') watch.forgotten.push(String(given[0]));
  if (fault === 'after') throw unavailable();
  return result;
}

/** Whether the bytes behind a secret are gone. */
export function isWiped(secret: SecretBytes): boolean {
  try {
    secret.reveal();
    return false;
  } catch {
    return true;
  }
}
