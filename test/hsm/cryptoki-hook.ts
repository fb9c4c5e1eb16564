/**
 * Wraps single functions of a worker's PKCS #11 binding. Loaded by the workers through the pool's
 * test-only hook, so that faults appear where a real module would cause them.
 *
 * Shared memory carries counts to the test and orders to the workers, whatever thread they run in.
 */
import type { Cryptoki } from '../../src/hsm/cryptoki.ts';

/** Functions that can be counted and failed, by their place in the shared arrays. */
export const FUNCTIONS = [
  'C_Login',
  'C_DeriveKey',
  'C_UnwrapKey',
  'C_GenerateKeyPair',
  'C_OpenSession',
  'C_Sign',
  'C_Encrypt',
  'C_Decrypt',
  'C_GenerateRandom',
  'C_SignInit',
  'C_CopyObject',
] as const;

export type HookedFunction = (typeof FUNCTIONS)[number];

/** Per function: calls made, failures left, return value of the failure, milliseconds to hang, calls to let pass first. */
const FIELDS = 5;

/** Exits the worker thread instead of failing, as a crash in native code of one thread might. */
export const CRASH = -1;

export class Orders {
  readonly #cells: Int32Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(4 * FIELDS * FUNCTIONS.length)) {
    this.#cells = new Int32Array(memory);
  }

  get memory(): SharedArrayBuffer {
    return this.#cells.buffer as SharedArrayBuffer;
  }

  calls(name: HookedFunction): number {
    return Atomics.load(this.#cells, cell(name, 0));
  }

  /** After `after` more calls the next `times` return `returnValue` without reaching the token. */
  fail(name: HookedFunction, returnValue: number, times = 1, after = 0): void {
    Atomics.store(this.#cells, cell(name, 4), after);
    Atomics.store(this.#cells, cell(name, 2), returnValue);
    Atomics.store(this.#cells, cell(name, 1), times);
  }

  /** Every call blocks its thread first, as a hanging network HSM does. */
  hang(name: HookedFunction, milliseconds: number): void {
    Atomics.store(this.#cells, cell(name, 3), milliseconds);
  }

  /** For the worker: counts, waits, and says whether and how to fail. */
  obey(name: HookedFunction): number | undefined {
    Atomics.add(this.#cells, cell(name, 0), 1);
    const pause = Atomics.load(this.#cells, cell(name, 3));
    if (pause > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pause);
    if (Atomics.load(this.#cells, cell(name, 1)) <= 0) return undefined;
    if (Atomics.sub(this.#cells, cell(name, 4), 1) > 0) return undefined;
    return Atomics.sub(this.#cells, cell(name, 1), 1) > 0
      ? Atomics.load(this.#cells, cell(name, 2))
      : undefined;
  }
}

function cell(name: HookedFunction, field: number): number {
  return FUNCTIONS.indexOf(name) * FIELDS + field;
}

export function wrapCryptoki(cryptoki: Cryptoki, memory: SharedArrayBuffer): void {
  const orders = new Orders(memory);
  for (const name of FUNCTIONS) {
    const original = (cryptoki[name] as (...args: unknown[]) => unknown).bind(cryptoki);
    Object.defineProperty(cryptoki, name, {
      value: (...args: unknown[]) => {
        const returnValue = orders.obey(name);
        if (returnValue === undefined) return original(...args);
        if (returnValue === CRASH) process.exit(1);
        throw Object.assign(new Error(`CKR_INJECTED:${returnValue}`), { code: returnValue });
      },
    });
  }
}
