/** The table of operations that a worker serves, over its connection and keys. */
import { Connection } from './connection.ts';
import type { Cryptoki } from './cryptoki.ts';
import { failureOf, TokenFailure } from './failures.ts';
import type { Step } from './failures.ts';
import { decryptItems, encryptItems, macItems } from './gcm-items.ts';
import { decryptingSpec, derivingCurve, macHash, signingSpec } from './inputs.ts';
import { Keys, UnknownKey } from './keys.ts';
import { hmac, random, rawEcdh, sign } from './mechanisms.ts';
import { openOaep } from './oaep-call.ts';
import { probe } from './probe.ts';
import type { Operation, OperationName, OperationOf, Results, WorkerOptions } from './protocol.ts';
import { joinRewrapped, splitToRewrap } from './rewrap-items.ts';
import { inspectRoot, requireNoWeaker } from './root-attacks.ts';
import { findRoot, listRoots, useOfRoots } from './roots.ts';
import { TOKEN_KEY_LABEL } from './templates.ts';

type Handlers = {
  readonly [Name in OperationName]: (operation: OperationOf<Name>) => Results[Name];
};

/** How an ambiguous return value of each operation is read; see failures.ts. */
const STEPS: Readonly<Record<OperationName, Step>> = {
  open: 'open',
  probe: 'produce',
  'self-test': 'produce',
  roots: 'produce',
  'use-of-roots': 'make',
  'use-root': 'produce',
  'try-root': 'produce',
  rewrap: 'make',
  generate: 'make',
  'import-key': 'make',
  'destroy-token-key': 'produce',
  'token-keys': 'produce',
  ecdh: 'produce',
  sign: 'produce',
  // What the caller sent is told from a fault where it is opened.
  'decrypt-oaep': 'produce',
  encrypt: 'produce',
  decrypt: 'consume',
  mac: 'produce',
  'mac-many': 'produce',
  random: 'produce',
  forget: 'produce',
  close: 'produce',
};

export class Operations {
  readonly #cryptoki: Cryptoki;
  readonly #options: WorkerOptions;
  #connection: Connection | undefined;
  #keys: Keys | undefined;
  /** Objects made by connections that are closed. */
  #earlierObjects = 0;

  constructor(cryptoki: Cryptoki, options: WorkerOptions) {
    this.#cryptoki = cryptoki;
    this.#options = options;
  }

  /** Objects made on the token since the worker began. */
  get objects(): number {
    return this.#earlierObjects + (this.#connection?.objects ?? 0);
  }

  /** Runs one operation; whatever fails is thrown as a TokenFailure, but for `UnknownKey`. */
  run(operation: Operation): unknown {
    try {
      return dispatch(this.#handlers, operation);
    } catch (error) {
      if (error instanceof UnknownKey) throw error;
      throw new TokenFailure(failureOf(error, STEPS[operation.op]));
    }
  }

  readonly #handlers: Handlers = {
    open: (request) => this.#open(request),
    probe: () => probe(this.#live()),
    'self-test': () => probe(this.#live()),
    roots: () => listRoots(this.#live()),
    'use-of-roots': ({ installation, note }) => useOfRoots(this.#live(), installation, note),
    'use-root': ({ root, inspect, floor, known }) =>
      this.#liveKeys().useRoot(root, known, (found) => {
        const report = inspect ? inspectRoot(this.#live(), found.handle) : undefined;
        requireNoWeaker(found, report, floor);
        return report;
      }),
    'try-root': ({ root }) => inspectRoot(this.#live(), findRoot(this.#live(), root)),
    rewrap: ({ items }) =>
      joinRewrapped(splitToRewrap(items).map((item) => this.#liveKeys().rewrap(item))),
    generate: (request) => this.#liveKeys().generate(request),
    'import-key': ({ spec, wrapped }) => this.#liveKeys().importKey(spec, wrapped),
    'destroy-token-key': ({ material }) => {
      this.#liveKeys().destroyTokenKey(material);
      return undefined;
    },
    'token-keys': ({ installation }) => this.#liveKeys().tokenKeys(installation),
    ecdh: ({ key, peer }) =>
      this.#liveKeys().with(key, (handle, { spec }) =>
        rawEcdh(this.#live(), derivingCurve(spec), handle, peer),
      ),
    sign: ({ key, input }) =>
      this.#liveKeys().with(key, (handle, { spec }) =>
        sign(this.#live(), signingSpec(spec), handle, input),
      ),
    'decrypt-oaep': ({ key, ciphertext }) =>
      this.#liveKeys().with(key, (handle, { spec, check }) =>
        openOaep(this.#live(), decryptingSpec(spec), handle, check, ciphertext),
      ),
    encrypt: ({ key, items }) =>
      this.#liveKeys().with(key, (handle) => encryptItems(this.#live(), handle, items)),
    decrypt: ({ key, items }) =>
      this.#liveKeys().with(key, (handle, { check }) =>
        decryptItems(this.#live(), handle, check, items),
      ),
    mac: ({ key, data }) =>
      this.#liveKeys().with(key, (handle, { spec }) =>
        hmac(this.#live(), macHash(spec), handle, data),
      ),
    'mac-many': ({ key, items }) =>
      this.#liveKeys().with(key, (handle, { spec }) =>
        macItems(this.#live(), macHash(spec), handle, items),
      ),
    random: ({ bytes }) => random(this.#live(), bytes),
    forget: ({ id }) => {
      this.#keys?.forget(id);
      return undefined;
    },
    close: () => {
      this.#release();
      return undefined;
    },
  };

  #open(request: OperationOf<'open'>): Results['open'] {
    this.#release();
    const connection = Connection.open(this.#cryptoki, this.#options.tokenSelector, request);
    this.#connection = connection;
    this.#keys = new Keys(
      connection,
      this.#options.handleLimit,
      this.#options.tokenKeyLabel ?? TOKEN_KEY_LABEL,
    );
    return connection.describe();
  }

  #release(): void {
    this.#earlierObjects = this.objects;
    this.#connection?.close();
    this.#connection = undefined;
    this.#keys = undefined;
  }

  #live(): Connection {
    if (this.#connection === undefined) throw notOpen();
    return this.#connection;
  }

  #liveKeys(): Keys {
    if (this.#keys === undefined) throw notOpen();
    return this.#keys;
  }
}

function dispatch<Name extends OperationName>(
  handlers: Handlers,
  operation: OperationOf<Name>,
): unknown {
  const handler = handlers[operation.op] as (operation: OperationOf<Name>) => Results[Name];
  return handler(operation);
}

function notOpen(): TokenFailure {
  return new TokenFailure({
    code: 'hsm_unavailable',
    detail: 'no session with the token is open',
    consequence: 'lost',
    returnValue: undefined,
  });
}
