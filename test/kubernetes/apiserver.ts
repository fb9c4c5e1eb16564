/**
 * kube-apiserver, as far as a KMS v2 plugin can tell: what it sends, what it checks, what it keeps.
 *
 * Rules from k8s.io/apiserver `envelope/kmsv2`, and from watching a real one: Encrypt once at start and
 * once per new key_id, with 32 bytes; Decrypt once per distinct (ciphertext, key_id, annotations) that
 * is not in its cache, without a single flight; 3 s a call; no retry. An answer that breaks a limit counts as
 * a failed one. Any Status that is answered with the known key_id lets it write for 3 minutes more, whatever its
 * `healthz` says: that decides about readiness alone.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  randomBytes,
  randomUUID,
} from 'node:crypto';
import { join } from 'node:path';
import { credentials, loadPackageDefinition } from '@grpc/grpc-js';
import type { ServiceError, Client } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

export const CALL_MS = 3_000;
const MAX_WRITE_AGE_MS = 180_000;
const DOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$/u;

export interface Status {
  readonly version: string;
  readonly healthz: string;
  readonly keyId: string;
}
export type Annotations = Readonly<Record<string, Uint8Array>>;
export interface Encrypted {
  readonly ciphertext: Uint8Array;
  readonly keyId: string;
  readonly annotations: Annotations;
}

type Call = (
  request: object,
  options: { readonly deadline: number },
  done: (error: ServiceError | null, answer?: unknown) => void,
) => void;

/** Raw calls, for what no API server sends. */
export class PluginClient {
  readonly #client: Client;
  readonly #callMs: number;

  /** @param callMs deadline of each call; an API server's unless a test is not about time */
  constructor(socket: string, callMs = CALL_MS) {
    this.#callMs = callMs;
    const definition = loadSync(join(import.meta.dirname, 'kms-v2.proto'), { defaults: true });
    const { v2 } = loadPackageDefinition(definition) as unknown as {
      v2: { KeyManagementService: new (target: string, creds: unknown, options: object) => Client };
    };
    this.#client = new v2.KeyManagementService(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.default_authority': 'localhost',
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 200,
      // Of each client its own connection, like each API server's.
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  status(): Promise<Status> {
    return this.#call('Status', {});
  }

  encrypt(plaintext: Uint8Array, uid: string = randomUUID()): Promise<Encrypted> {
    return this.#call('Encrypt', { plaintext, uid });
  }

  async decrypt(value: Encrypted, uid: string = randomUUID()): Promise<Uint8Array> {
    const { plaintext } = await this.#call<{ plaintext: Uint8Array }>('Decrypt', { ...value, uid });
    return plaintext;
  }

  /** A message as bytes, of which the answer's bytes come back. */
  raw(method: 'Status' | 'Encrypt' | 'Decrypt', message: Uint8Array): Promise<Buffer> {
    const asIs = (bytes: Buffer) => bytes;
    const path = `/v2.KeyManagementService/${method}`;
    const options = { deadline: Date.now() + this.#callMs };
    return new Promise((resolve, reject) => {
      const answered = (error: ServiceError | null, answer?: Buffer) => {
        if (error === null && answer !== undefined) resolve(answer);
        else reject(error ?? new Error('no answer'));
      };
      const bytes = Buffer.from(message);
      this.#client.makeUnaryRequest(path, asIs, asIs, bytes, options, answered);
    });
  }

  #call<T>(method: string, request: object): Promise<T> {
    const call = (this.#client as unknown as Record<string, Call>)[method];
    return new Promise((resolve, reject) => {
      call?.call(
        this.#client,
        request,
        { deadline: Date.now() + this.#callMs },
        (error, answer) => {
          if (error === null) resolve(answer as T);
          else reject(error);
        },
      );
    });
  }

  close(): void {
    this.#client.close();
  }
}

/** A Secret as it stands in etcd. */
export interface StoredObject extends Encrypted {
  readonly data: Uint8Array;
}
export type Etcd = Map<string, StoredObject>;

interface Source {
  readonly seed: Uint8Array;
  readonly encrypted: Encrypted;
}

const sameBytes = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

/** @throws for what an API server takes for a failed rotation */
function checkEncrypted({ ciphertext, keyId, annotations }: Encrypted): void {
  const fail = (why: string) => {
    throw new Error(`an API server refuses this answer: ${why}`);
  };
  const id = Buffer.byteLength(keyId);
  if (id < 1 || id > 1_024) fail('key_id');
  if (ciphertext.length < 1 || ciphertext.length > 1_024) fail('ciphertext');
  let size = 0;
  for (const [name, value] of Object.entries(annotations)) {
    if (!DOMAIN.test(name)) fail(`annotation ${name}`);
    size += Buffer.byteLength(name) + value.length;
  }
  if (size > 32_768) fail('annotations');
}

/** The name under which it remembers an opened source. */
function cacheName({ ciphertext, keyId, annotations }: Encrypted): string {
  const pairs = Object.entries(annotations).toSorted();
  const text = pairs.map(([name, value]) => [name, Buffer.from(value).toString('hex')]);
  const about = [Buffer.from(ciphertext).toString('hex'), keyId, text];
  return createHash('sha256').update(JSON.stringify(about)).digest('hex');
}

/** Counts what it asked the plugin. */
export interface Counts {
  status: number;
  encrypt: number;
  decrypt: number;
}

export class ApiServer {
  readonly plugin: PluginClient;
  readonly #etcd: Etcd;
  readonly #cache = new Map<string, Uint8Array>();
  readonly counts: Counts = { status: 0, encrypt: 0, decrypt: 0 };
  readonly #now: () => number;
  #source: Source | null = null;
  #writesUntil = -Infinity;
  /** What /readyz/kms-providers would say; null: ok. */
  health: string | null = 'not asked yet';

  /** @param now monotonic, ms */
  constructor(socket: string, etcd: Etcd, now = () => performance.now()) {
    this.plugin = new PluginClient(socket);
    this.#etcd = etcd;
    this.#now = now;
  }

  /** Status, and a new source where the key_id is another; never throws, like the poll. */
  async poll(): Promise<void> {
    try {
      this.counts.status += 1;
      const { version, healthz, keyId } = await this.plugin.status();
      if (keyId === '') throw new Error('no key_id');
      const writesUntil = this.#now() + MAX_WRITE_AGE_MS;
      if (this.#source?.encrypted.keyId !== keyId) await this.#rotate(keyId);
      this.#writesUntil = writesUntil;
      if (healthz !== 'ok') throw new Error(healthz);
      if (version !== 'v2') throw new Error(`version ${version}`);
      this.health = null;
    } catch (error) {
      this.health = error instanceof Error ? error.message : String(error);
    }
  }

  async #rotate(keyId: string): Promise<void> {
    const seed = randomBytes(32);
    this.counts.encrypt += 1;
    const encrypted = await this.plugin.encrypt(seed);
    if (encrypted.keyId !== keyId) throw new Error("Encrypt's key_id is not that of Status");
    checkEncrypted(encrypted);
    this.#source = { seed, encrypted };
    this.#cache.set(cacheName(encrypted), seed);
  }

  /** Whether it may write. */
  get writes(): boolean {
    return this.#source !== null && this.#now() <= this.#writesUntil;
  }

  /** Starts: ready once Status is well and everything in etcd can be read. */
  async start(): Promise<void> {
    await this.poll();
    if (this.health !== null) throw new Error(this.health);
    // No single flight: each of its informers asks for itself.
    const lists = Array.from({ length: 10 }, () => this.list());
    await Promise.all(lists);
  }

  async list(): Promise<void> {
    await Promise.all([...this.#etcd.keys()].map((name) => this.get(name)));
  }

  put(name: string, secret: Uint8Array): void {
    const source = this.#source;
    if (source === null) throw new Error('not started');
    if (!this.writes) throw new Error('writes stopped');
    const info = randomBytes(32);
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', keyOf(source.seed, info), nonce);
    cipher.setAAD(Buffer.from(name));
    const sealed = [cipher.update(secret), cipher.final(), cipher.getAuthTag()];
    const data = Buffer.concat([info, nonce, ...sealed]);
    this.#etcd.set(name, { ...source.encrypted, data });
  }

  async get(name: string): Promise<Uint8Array> {
    const stored = this.#etcd.get(name);
    if (stored === undefined) throw new Error('not found');
    const seed = await this.#seedOf(stored);
    const data = Buffer.from(stored.data);
    const decipher = createDecipheriv(
      'aes-256-gcm',
      keyOf(seed, data.subarray(0, 32)),
      data.subarray(32, 44),
    );
    decipher.setAAD(Buffer.from(name));
    decipher.setAuthTag(data.subarray(-16));
    return Buffer.concat([decipher.update(data.subarray(44, -16)), decipher.final()]);
  }

  /** Storage migration: an update that changes nothing rewrites what is stale. */
  async migrate(): Promise<void> {
    for (const [name, stored] of this.#etcd) {
      if (stored.keyId !== this.#source?.encrypted.keyId) this.put(name, await this.get(name));
    }
  }

  get keyId(): string | undefined {
    return this.#source?.encrypted.keyId;
  }

  async #seedOf(stored: Encrypted): Promise<Uint8Array> {
    const name = cacheName(stored);
    const known = this.#cache.get(name);
    if (known !== undefined) return known;
    this.counts.decrypt += 1;
    const { ciphertext, keyId, annotations } = stored;
    const seed = await this.plugin.decrypt({ ciphertext, keyId, annotations });
    this.#cache.set(name, seed);
    return seed;
  }

  stop(): void {
    this.plugin.close();
  }
}

/** HKDF, expand only, of the seed. */
function keyOf(seed: Uint8Array, info: Uint8Array): Uint8Array {
  if (seed.length !== 32 || sameBytes(seed, new Uint8Array(32)))
    throw new Error('a seed of no use');
  return expand(seed, info);
}

/** HKDF-Expand of RFC 5869 for one block of SHA-256. */
const expand = (key: Uint8Array, info: Uint8Array): Uint8Array =>
  createHmac('sha256', key).update(info).update(Uint8Array.of(1)).digest();
