/**
 * Messages between the pool (main thread) and its workers.
 *
 * The frequent ones travel as frames (wire.ts), the rest as messages of the port, which go
 * ahead of frames that wait. Inputs are copied (the caller keeps its buffers), results are moved. A key is named by its id alone at first: the worker nearly always
 * holds its handle, and its material is most of a message. A worker that does not answers so, and is
 * sent the whole key. `deadline` is on the process-wide monotonic clock in milliseconds: a job whose
 * deadline passed while it waited in a worker is not begun.
 */
import type { ChannelMemory } from './channel.ts';
import type { Failure } from './failures.ts';
import type { HsmCapability, HsmKey, HsmKeySpec, HsmMaterial, HsmStatus } from './port.ts';
import type { RootAttack, RootOnToken, ToRewrap, TokenMaterial } from './port.ts';
import type { WrappedImport, WrappedMaterial } from './port.ts';

export interface TokenSelector {
  /** CK_SLOT_ID. */
  readonly slot?: number;
  readonly label?: string;
  readonly serial?: string;
}

/** `workerData` of a worker. */
export interface WorkerOptions {
  readonly module: string;
  readonly tokenSelector: TokenSelector;
  /** Unwrapped handles kept per worker. */
  readonly handleLimit: number;
  /** Label of token keys; that of the service when absent. */
  readonly tokenKeyLabel?: string;
  /** Tests only: a module whose `wrapCryptoki(binding, data)` replaces functions of the binding. */
  readonly hook?: { readonly url: string; readonly data: unknown };
}

/** What a worker is started with: its options and its end of the channel. */
export interface WorkerData extends WorkerOptions {
  readonly channel: ChannelMemory;
}

export interface OpenRequest {
  readonly op: 'open';
  readonly tokenEpoch: number;
  readonly pin: Uint8Array;
}

export interface Opened {
  readonly token: NonNullable<HsmStatus['token']>;
}

export interface ProbeReport {
  readonly capabilities: readonly HsmCapability[];
  /** Mechanisms that computed a wrong answer: the token must not be used. */
  readonly wrong: readonly string[];
}

export interface RootReport {
  readonly custody: 'non-extractable' | 'extractableByPinHolder';
  /** What the custody probe saw, for the log. */
  readonly findings: readonly string[];
  /** Every attack, in the order in which it was tried. */
  readonly attacks: readonly RootAttack[];
}

export interface Sealed {
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
}

/** A key as it travels: whole, or by the name under which the worker may hold its handle. */
export type PostedKey = HsmKey | Pick<HsmKey, 'id'>;

export type Operation =
  | OpenRequest
  | { readonly op: 'probe' }
  | { readonly op: 'self-test' }
  | { readonly op: 'roots' }
  /** Whether it was there before; with `note` it is there afterwards. */
  | { readonly op: 'use-of-roots'; readonly installation: string; readonly note: boolean }
  /** One that is weaker than `floor`, or does not open `known`, is not selected. */
  | {
      readonly op: 'use-root';
      readonly root: RootOnToken;
      readonly inspect: boolean;
      readonly floor: HsmStatus['custody'];
      readonly known: ToRewrap | undefined;
    }
  | { readonly op: 'try-root'; readonly root: RootOnToken }
  /** `items` and result: see rewrap-items.ts. */
  | { readonly op: 'rewrap'; readonly items: Uint8Array }
  | {
      readonly op: 'generate';
      readonly spec: HsmKeySpec;
      readonly custody: 'hsm-wrapped' | 'hsm-token';
      readonly objectId: Uint8Array | undefined;
    }
  | { readonly op: 'import-key'; readonly spec: HsmKeySpec; readonly wrapped: WrappedImport }
  | { readonly op: 'destroy-token-key'; readonly material: TokenMaterial }
  | { readonly op: 'token-keys'; readonly installation: string }
  | { readonly op: 'ecdh'; readonly key: PostedKey; readonly peer: Uint8Array }
  | { readonly op: 'sign'; readonly key: PostedKey; readonly input: Uint8Array }
  | { readonly op: 'decrypt-oaep'; readonly key: PostedKey; readonly ciphertext: Uint8Array }
  /** `items` and the results of these two: see items.ts. */
  | { readonly op: 'encrypt'; readonly key: PostedKey; readonly items: Uint8Array }
  | { readonly op: 'decrypt'; readonly key: PostedKey; readonly items: Uint8Array }
  | { readonly op: 'mac'; readonly key: PostedKey; readonly data: Uint8Array }
  /** Each part of `items` by itself; the MACs one after another, all as long as the hash. */
  | { readonly op: 'mac-many'; readonly key: PostedKey; readonly items: Uint8Array }
  | { readonly op: 'random'; readonly bytes: number }
  | { readonly op: 'forget'; readonly id: string }
  | { readonly op: 'close' };

/** What each operation answers. */
export interface Results {
  open: Opened;
  probe: ProbeReport;
  'self-test': ProbeReport;
  roots: readonly RootOnToken[];
  'use-of-roots': boolean;
  'use-root': RootReport | undefined;
  'try-root': RootReport;
  rewrap: Uint8Array;
  generate: HsmMaterial;
  'import-key': WrappedMaterial;
  'destroy-token-key': undefined;
  'token-keys': readonly TokenMaterial[];
  ecdh: Uint8Array;
  sign: Uint8Array;
  'decrypt-oaep': Uint8Array;
  encrypt: Uint8Array;
  decrypt: Uint8Array;
  mac: Uint8Array;
  'mac-many': Uint8Array;
  random: Uint8Array;
  forget: undefined;
  close: undefined;
}

export type OperationName = Operation['op'];
export type OperationOf<Name extends OperationName> = Extract<Operation, { readonly op: Name }>;

export interface Request {
  readonly job: number;
  /** 0: none. */
  readonly deadline: number;
  readonly operation: Operation;
}

export type Reply =
  | { readonly job: number; readonly result: unknown; readonly objects: number }
  | { readonly job: number; readonly failure: Failure; readonly objects: number }
  /** The worker has no handle of the key that was named: nothing was done. */
  | { readonly job: number; readonly unknownKey: true; readonly objects: number };

/** Milliseconds on the monotonic clock that all threads of the process share. */
export function monotonicMilliseconds(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}
