/**
 * The PKCS #11 module in this process: loaded, initialised and finalised by the main thread alone,
 * which keeps it loaded (when the last thread that loaded a module ends, it is unloaded under
 * everyone).
 *
 * C_Initialize always asks for OS locking: without it concurrent use crashed in every run.
 */
import { accessSync, constants } from 'node:fs';
import { SHARE_ENV, Worker } from 'node:worker_threads';
import { once } from 'node:events';
import { PKCS11 } from 'pkcs11js';
import { TwofoldError } from '../errors.ts';
import { CKF, CKR, returnValueOf } from './cryptoki.ts';
import type { Cryptoki } from './cryptoki.ts';

/** Modules in use: a second initialisation would renumber the first one's handles. */
const inUse = new Set<string>();

/**
 * Sets SOFTHSM2_CONF for this process, which SoftHSM reads with getenv at C_Initialize. A worker
 * that shares the process's own environment does it, because `process.env` of a sandboxed caller
 * (a test runner's) is a copy that getenv does not see. The one place in hsm/ that writes the
 * environment; it is never read here.
 */
export async function exportSofthsmConf(path: string): Promise<void> {
  const code = `process.env.SOFTHSM2_CONF = require('node:worker_threads').workerData`;
  await once(new Worker(code, { eval: true, env: SHARE_ENV, workerData: path }), 'exit');
}

/**
 * What C_Initialize is given: the text that some modules take in `pReserved` (NSS: `configdir='…'`) goes
 * with a blank behind it, because the binding cuts off its last character.
 */
function initialisation(parameters: string | undefined) {
  const flags = CKF.OS_LOCKING_OK;
  return parameters === undefined ? { flags } : { flags, libraryParameters: `${parameters} ` };
}

/**
 * Loads and initialises a module for a process that calls it itself and ends soon.
 *
 * @throws TwofoldError `hsm_unavailable` when the file is no module or cannot be initialised
 */
export function loadAlone(path: string, parameters?: string): Cryptoki {
  try {
    accessSync(path, constants.R_OK);
    const cryptoki = new PKCS11(path);
    cryptoki.C_Initialize(initialisation(parameters));
    return cryptoki;
  } catch (cause) {
    const why = cause instanceof Error ? `: ${cause.message}` : '';
    throw new TwofoldError('hsm_unavailable', `cannot load the PKCS #11 module ${path}${why}`, {
      cause,
    });
  }
}

export class LoadedModule {
  readonly path: string;
  readonly #cryptoki: PKCS11;
  readonly #parameters: string | undefined;

  private constructor(path: string, cryptoki: PKCS11, parameters: string | undefined) {
    this.path = path;
    this.#parameters = parameters;
    this.#cryptoki = cryptoki;
  }

  /** Throws `hsm_unavailable` when the file is no module, or when this process has it in use. */
  static load(path: string, parameters?: string): LoadedModule {
    if (inUse.has(path)) {
      throw new TwofoldError('internal', `${path} is already in use in this process`);
    }
    try {
      accessSync(path, constants.R_OK);
      const module = new LoadedModule(path, new PKCS11(path), parameters);
      module.initialise();
      inUse.add(path);
      return module;
    } catch (error) {
      throw new TwofoldError('hsm_unavailable', `cannot load the PKCS #11 module ${path}`, {
        cause: error,
      });
    }
  }

  /** Starts the module anew: every session and handle of the process is void afterwards. */
  reinitialise(): void {
    this.#finalise();
    this.initialise();
  }

  initialise(): void {
    try {
      this.#cryptoki.C_Initialize(initialisation(this.#parameters));
    } catch (error) {
      if (returnValueOf(error) !== CKR.CRYPTOKI_ALREADY_INITIALIZED) throw error;
    }
  }

  /** Finalises and unloads; only after every worker has ended. */
  unload(): void {
    this.#finalise();
    this.#cryptoki.close();
    inUse.delete(this.path);
  }

  #finalise(): void {
    try {
      this.#cryptoki.C_Finalize();
    } catch {
      // Not initialised, or the device is gone: the module holds nothing for us either way.
    }
  }
}
