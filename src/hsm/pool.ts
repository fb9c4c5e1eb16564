/**
 * The port over PKCS #11: checks in the host, a bounded queue, worker threads.
 *
 * One per process and module: C_Initialize, login and handles belong to the process.
 */
import { SecretBytes } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { attempt, isFailed, settleEach, settleRest } from '../settled.ts';
import type { Settled } from '../settled.ts';
import { Attachment } from './attachment.ts';
import type { HsmLog } from './attachment.ts';
import { exact, exactMaterial } from './exact.ts';
import {
  macHash,
  requireAes,
  requireCiphertext,
  requireGenerate,
  requireHmac,
  requirePeer,
  requireRandomLength,
  requireSealed,
  requireSignInput,
} from './inputs.ts';
import { chunksOf, itemsOf, joinParts, splitParts } from './items.ts';
import type { Part } from './items.ts';
import { exportSofthsmConf, LoadedModule } from './module.ts';
import { PinFile } from './pin.ts';
import type { GenerateOptions, Hsm, HsmKey, HsmKeySpec, HsmMaterial, HsmStatus } from './port.ts';
import type { Encrypted, MacOptions, ToDecrypt, ToEncrypt } from './port.ts';
import type { RootOnToken, ToRewrap, TokenMaterial } from './port.ts';
import type { WrappedImport, WrappedMaterial } from './port.ts';
import type { Operation, OperationName, OperationOf, Results } from './protocol.ts';
import type { TokenSelector, WorkerOptions } from './protocol.ts';
import { JobQueue } from './queue.ts';
import { joinToRewrap, splitRewrapped } from './rewrap-items.ts';
import { HASH_BYTES } from './rsa.ts';
import { isFull, tokenFolderOf } from './token-folder.ts';
import { keepTokenObjects, MENDED, mendTokenObjects } from './token-object.ts';

export interface HsmOptions {
  /** Path of the PKCS #11 library. */
  readonly module: string;
  /** Text that the module takes at C_Initialize (NSS: `configdir='…'`). */
  readonly moduleParameters?: string;
  /** Must name exactly one token. */
  readonly tokenSelector: TokenSelector;
  /** Holds the user PIN; readable by its owner only. */
  readonly pinFile: string;
  /** Worker threads; two let one call run while another's message travels. */
  readonly workers: number;
  /** Calls waiting or running, over which new ones fail with `hsm_busy`. */
  readonly queueLimit: number;
  /** For one call, its time in the queue included. */
  readonly deadlineMs: number;
  /** Data folder for the mark of a refused PIN. */
  readonly stateDir: string;
  /** Set for the process before the module is initialised. */
  readonly env?: { readonly SOFTHSM2_CONF: string };
  readonly log: HsmLog;
  /** Label of the token keys that are made and found; the service's when absent. */
  readonly tokenKeyLabel?: string;
  /** Unwrapped keys kept per worker, about 8 kB each; 512 when absent. */
  readonly handleLimit?: number;
  /** Tests only; see WorkerOptions. */
  readonly hook?: NonNullable<WorkerOptions['hook']>;
}

/** Figures for metrics and for the memory mark. */
export interface HsmCounters {
  /** Calls waiting or running. */
  readonly queued: number;
  /** Objects made on the token by this process; SoftHSM keeps about 0.24 kB of each for ever. */
  readonly objects: number;
}

export interface PooledHsm extends Hsm {
  counters(): HsmCounters;
}

/** Finding and counting objects is linear in the token's objects. */
const LIST_DEADLINE_MS = 30_000;
/**
 * For the making of an RSA key, at least: SoftHSM took 0.14, 0.6 and 2.2 s at most of four on one core, but
 * the search for primes has no bound, and small devices and cards take up to a minute for 4096 bits.
 */
const RSA_DEADLINE_MS = { 2048: 30_000, 3072: 60_000, 4096: 120_000 } as const;
const DEFAULT_HANDLES = 512;

/**
 * Opens the token. Resolves after the first attempt, successful or not: `status()` says which, and
 * recovery goes on in the background (a PIN file that changes, a token that comes back). Throws
 * only when the module itself cannot be loaded.
 */
export async function createHsm(options: HsmOptions): Promise<PooledHsm> {
  const conf = options.env?.SOFTHSM2_CONF;
  if (conf !== undefined) await exportSofthsmConf(conf);
  const tokenFolder = conf === undefined ? undefined : await tokenFolderOf(conf);
  const mend = tokenFolder === undefined ? undefined : mending(tokenFolder, options);
  await mend?.();
  const module = LoadedModule.load(options.module, options.moduleParameters);
  const hsm = new HsmPool(options, { module, tokenFolder, mend });
  await hsm.start();
  return hsm;
}

/** Where a file cannot be mended the token is absent, and each attempt to find it tries that again. */
function mending(tokenFolder: string, { tokenSelector, log }: HsmOptions): () => Promise<void> {
  let warned = '';
  return async () => {
    const { mended, failed } = await mendTokenObjects(tokenFolder, tokenSelector);
    for (const folder of mended) log.warn({ folder }, MENDED);
    const failures = failed.map(({ folder, error }) => `${folder}: ${String(error)}`).join();
    if (failures !== '' && failures !== warned) {
      for (const { folder, error } of failed) {
        log.warn({ folder, err: error }, 'the token is without its file, which cannot be mended');
      }
    }
    warned = failures;
  };
}

interface PoolParts {
  readonly module: LoadedModule;
  readonly tokenFolder: string | undefined;
  readonly mend: (() => Promise<void>) | undefined;
}

class HsmPool implements PooledHsm {
  readonly #queue: JobQueue;
  readonly #log: HsmLog;
  readonly #attachment: Attachment;
  readonly #tokenFolder: string | undefined;
  readonly #selector: HsmOptions['tokenSelector'];
  readonly #deadlineMs: number;
  /** The copying of the token's file that is under way. */
  #keeping: Promise<void> = Promise.resolve();

  constructor(options: HsmOptions, { module, tokenFolder, mend }: PoolParts) {
    this.#tokenFolder = tokenFolder;
    this.#selector = options.tokenSelector;
    this.#log = options.log;
    this.#deadlineMs = options.deadlineMs;
    const scope = `${options.module}\n${JSON.stringify(options.tokenSelector)}`;
    this.#attachment = new Attachment({
      module,
      workers: options.workers,
      worker: {
        module: options.module,
        tokenSelector: options.tokenSelector,
        handleLimit: options.handleLimit ?? DEFAULT_HANDLES,
        ...(options.tokenKeyLabel === undefined ? {} : { tokenKeyLabel: options.tokenKeyLabel }),
        ...(options.hook === undefined ? {} : { hook: options.hook }),
      },
      pinFile: new PinFile(options.pinFile, options.stateDir, scope),
      log: options.log,
      beforeInitialising: mend,
      onWorkers: (threads) => {
        this.#queue.serve(threads);
        if (threads.length > 0) this.#keepTokens();
      },
    });
    this.#queue = new JobQueue(options, {
      lost: (failure) => this.#attachment.lost(failure),
      suspect: () => this.#attachment.suspect(),
      explain: () => this.#attachment.status().detail,
    });
  }

  async start(): Promise<void> {
    await this.#attachment.start();
  }

  /** A login has just succeeded: the token's file is what the next one needs. */
  #keepTokens(): void {
    const folder = this.#tokenFolder;
    if (folder === undefined) return;
    this.#keeping = this.#keeping
      .then(() => keepTokenObjects(folder, this.#selector))
      .then((failed) => {
        for (const { folder: token, error: err } of failed)
          this.#log.warn({ folder: token, err }, "the token's file has no copy");
      });
  }

  status(): HsmStatus {
    const status = this.#attachment.status();
    return this.#queue.hangs
      ? { ...status, ready: false, state: 'session-lost', detail: 'the HSM does not answer' }
      : status;
  }

  counters(): HsmCounters {
    return { queued: this.#queue.size, objects: this.#attachment.objects };
  }

  roots(): Promise<readonly RootOnToken[]> {
    return this.#submit({ op: 'roots' }, { deadlineMs: LIST_DEADLINE_MS });
  }

  isUsed(installation: string): Promise<boolean> {
    const request = { op: 'use-of-roots', installation, note: false } as const;
    return this.#submit(request, { deadlineMs: LIST_DEADLINE_MS });
  }

  async noteUse(installation: string): Promise<void> {
    const request = { op: 'use-of-roots', installation, note: true } as const;
    try {
      await this.#submit(request, { repeatable: false, deadlineMs: LIST_DEADLINE_MS });
    } catch (err) {
      this.#log.warn({ err }, 'the token could not be given the note that its root is in use');
    }
  }

  useRoot(root: RootOnToken, known?: ToRewrap): Promise<void> {
    return this.#attachment.useRoot(root, known);
  }

  tryRoot(root: RootOnToken): Promise<HsmStatus['custody']> {
    return this.#attachment.tryRoot(root);
  }

  /** One after another and each alone, so that the workers are the requests': a longer call makes those behind it wait. */
  async rewrap(items: readonly ToRewrap[]): Promise<readonly Settled<WrappedMaterial>[]> {
    return settleEach(items, 1, async (item) => {
      const request = { op: 'rewrap', items: joinToRewrap([item]) } as const;
      const rewrapped = await this.#submit(request, this.#patienceFor(item.spec));
      return only(splitRewrapped(rewrapped, [item]));
    });
  }

  async generate(spec: HsmKeySpec, options: GenerateOptions): Promise<HsmMaterial> {
    requireGenerate(spec, options);
    const { custody } = options;
    const objectId = exact(options.objectId);
    const request = { op: 'generate', spec, custody, objectId } as const;
    // A token object may exist although the call failed; whoever recorded the intent looks.
    const repeatable = custody === 'hsm-wrapped';
    try {
      return await this.#submit(request, { repeatable, ...this.#patienceFor(spec) });
    } catch (error) {
      throw await this.#explainFullDisk(error);
    }
  }

  async importKey(spec: HsmKeySpec, wrapped: WrappedImport): Promise<WrappedMaterial> {
    requirePeer(wrapped.key, wrapped.peer);
    const { key, publicKey } = wrapped;
    const copied = {
      key: { ...key, material: exactMaterial(key.material) },
      peer: exact(wrapped.peer),
      derivation: exact(wrapped.derivation),
      blob: exact(wrapped.blob),
      publicKey: publicKey === null ? null : exact(publicKey),
    };
    return this.#submit({ op: 'import-key', spec, wrapped: copied });
  }

  #patienceFor(spec: HsmKeySpec): { readonly deadlineMs?: number; readonly lengthy?: boolean } {
    if (spec.kind !== 'rsa') return {};
    return {
      deadlineMs: Math.max(RSA_DEADLINE_MS[spec.bits], this.#deadlineMs),
      lengthy: true,
    };
  }

  async destroyTokenKey(material: TokenMaterial): Promise<void> {
    await this.#submit({ op: 'destroy-token-key', material: exactMaterial(material) });
  }

  tokenKeys(installation: string): Promise<readonly TokenMaterial[]> {
    return this.#submit({ op: 'token-keys', installation }, { deadlineMs: LIST_DEADLINE_MS });
  }

  async ecdh(key: HsmKey, peer: Uint8Array): Promise<SecretBytes> {
    requirePeer(key, peer);
    return secret(await this.#submit({ op: 'ecdh', key, peer: exact(peer) }), 'ecdh');
  }

  async sign(key: HsmKey, input: Uint8Array): Promise<Uint8Array> {
    requireSignInput(key, input);
    return this.#submit({ op: 'sign', key, input: exact(input) });
  }

  async decryptOaep(key: HsmKey, ciphertext: Uint8Array): Promise<SecretBytes> {
    requireCiphertext(key, ciphertext);
    const request = { op: 'decrypt-oaep', key, ciphertext: exact(ciphertext) } as const;
    return SecretBytes.own(await this.#submit(request));
  }

  async encrypt(key: HsmKey, plaintext: Uint8Array, aad: Uint8Array): Promise<Encrypted> {
    return only(await this.encryptMany(key, [{ plaintext, aad }]));
  }

  async decrypt(key: HsmKey, sealed: Encrypted, aad: Uint8Array): Promise<SecretBytes> {
    return only(await this.decryptMany(key, [{ ...sealed, aad }]));
  }

  async encryptMany(
    key: HsmKey,
    items: readonly ToEncrypt[],
  ): Promise<readonly Settled<Encrypted>[]> {
    requireAes(key);
    const partsOf = ({ plaintext, aad }: ToEncrypt) => [plaintext, aad];
    return inChunks(items, partsOf, async (chunk) => {
      const sealed = await this.#submit({ op: 'encrypt', key, items: chunk });
      return itemsOf(splitParts(sealed), 2).map(encrypted);
    });
  }

  async decryptMany(
    key: HsmKey,
    items: readonly ToDecrypt[],
  ): Promise<readonly Settled<SecretBytes>[]> {
    requireAes(key);
    const partsOf = ({ iv, ciphertext, aad }: ToDecrypt) => [iv, ciphertext, aad];
    const wellFormed = items.map((item) => attempt(() => requireSealed(item)));
    return settleRest(wellFormed, (rest) =>
      inChunks(rest, partsOf, async (chunk) => {
        const opened = await this.#submit({ op: 'decrypt', key, items: chunk });
        return splitParts(opened).map(decrypted);
      }),
    );
  }

  async mac(key: HsmKey, data: Uint8Array, options: MacOptions = {}): Promise<Uint8Array> {
    requireHmac(key);
    return this.#submit({ op: 'mac', key, data: exact(data) }, options);
  }

  async macMany(
    key: HsmKey,
    items: readonly Uint8Array[],
  ): Promise<readonly Settled<Uint8Array>[]> {
    requireHmac(key);
    const { [macHash(key.spec)]: length } = HASH_BYTES;
    return inChunks(
      items,
      (item) => [item],
      async (chunk) => {
        const macs = await this.#submit({ op: 'mac-many', key, items: chunk });
        return Array.from({ length: macs.length / length }, (_, index) =>
          macs.slice(index * length, (index + 1) * length),
        );
      },
    );
  }

  async random(bytes: number): Promise<Uint8Array> {
    requireRandomLength(bytes);
    return this.#submit({ op: 'random', bytes });
  }

  forget(id: string): Promise<void> {
    return this.#attachment.forget(id);
  }

  async close(): Promise<void> {
    this.#queue.close();
    await this.#attachment.close();
    await this.#keeping;
  }

  async #submit<Name extends OperationName>(
    operation: OperationOf<Name> & Operation,
    options: {
      repeatable?: boolean;
      deadlineMs?: number;
      urgent?: boolean;
      lengthy?: boolean;
    } = {},
  ): Promise<Results[Name]> {
    const result = await this.#queue.submit(operation, { repeatable: true, ...options });
    return result as Results[Name];
  }

  /** SoftHSM answers a full disk with CKR_GENERAL_ERROR, which explains nothing to an operator. */
  async #explainFullDisk(error: unknown): Promise<unknown> {
    const folder = this.#tokenFolder;
    if (folder === undefined || !TwofoldError.is(error, 'hsm_unavailable')) return error;
    if (!(await isFull(folder).catch(() => false))) return error;
    return new TwofoldError('storage_full', 'the file system under the token is full', {
      cause: error,
    });
  }
}

/** Calls of one batch that wait or run at a time: others come in between. */
const CHUNKS_AT_ONCE = 4;

/** Chunk by chunk; what a chunk fails with is the outcome of each of its items. */
async function inChunks<T, R>(
  items: readonly T[],
  partsOf: (item: T) => readonly Uint8Array[],
  call: (chunk: Uint8Array) => Promise<readonly Settled<R>[]>,
): Promise<readonly Settled<R>[]> {
  const bytesOf = (parts: readonly Uint8Array[]) =>
    parts.reduce((sum, { length }) => sum + length, 0);
  const chunks = chunksOf(items.map(partsOf), bytesOf);
  const settled = await settleEach(chunks, CHUNKS_AT_ONCE, async (chunk) => {
    const joined = joinParts(chunk.flat());
    try {
      const results = await call(joined);
      if (results.length === chunk.length) return results;
      throw new TwofoldError('internal', undefined, { cause: new Error('results are missing') });
    } finally {
      joined.fill(0);
    }
  });
  return settled.flatMap((chunk, index) =>
    isFailed(chunk) ? (chunks[index] ?? []).map(() => chunk) : chunk,
  );
}

function only<T>([settled]: readonly Settled<T>[]): T {
  if (settled === undefined) throw new TwofoldError('internal');
  if (isFailed(settled)) throw settled;
  return settled;
}

function encrypted([iv, ciphertext]: readonly Part[]): Encrypted {
  if (iv === undefined || ciphertext === undefined) throw new TwofoldError('internal');
  return { iv, ciphertext };
}

const decrypted = (plaintext: Part): Settled<SecretBytes> =>
  plaintext === undefined ? new TwofoldError('decryption_failed') : SecretBytes.own(plaintext);

function secret(bytes: Uint8Array, operation: 'ecdh'): SecretBytes {
  const owned = SecretBytes.own(bytes);
  // RFC 7748 section 6.1: an all-zero output means that the peer contributed nothing.
  if (bytes.some((byte) => byte !== 0)) return owned;
  throw new TwofoldError('invalid_value', `${operation} with a public key of small order`);
}
