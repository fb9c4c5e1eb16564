/**
 * A KMS v2 client that costs little, so that what is measured is the provider and not, on the same two
 * cores, a client (an API server's is compiled): HTTP/2 frames (RFC 9113) with heads that are packed once.
 * It reads of an answer what it needs: a refusal of gRPC's has no message.
 */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { loadSync } from '@grpc/proto-loader';
import type { MethodDefinition, ServiceDefinition } from '@grpc/proto-loader';

import { CALL_MS } from '../test/kubernetes/apiserver.ts';
import type { Encrypted } from '../test/kubernetes/apiserver.ts';

type Method = 'Status' | 'Encrypt' | 'Decrypt';
type Settle = (message: Buffer | Error) => void;

/** Of a gRPC message: flag byte 0 (not compressed), four bytes of length. */
const PREFIX = 5;
const HEAD = 9;
const TYPE = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, window: 8 } as const;
const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
/** What a peer may send before it is told more (RFC 9113 section 6.9.2). */
const FIRST_WINDOW = 65_535;
const OWN_WINDOW = 2 ** 30;
const INITIAL_WINDOW_SIZE = 4;

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(HEAD + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes.writeUInt8(type, 3);
  bytes.writeUInt8(flags, 4);
  bytes.writeUInt32BE(stream, 5);
  bytes.set(payload, HEAD);
  return bytes;
}

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** RFC 7541 section 5.2, not Huffman's; all of ours have less than 127 bytes. */
const text = (value: string): Buffer =>
  Buffer.concat([Buffer.of(value.length), Buffer.from(value)]);
/** Section 6.2.2: not indexed, so that there is no table to keep; the name of the static table, or in full. */
const field = (name: number | string, value: string): Buffer => {
  if (typeof name === 'string') return Buffer.concat([Buffer.of(0), text(name), text(value)]);
  const index = name < 15 ? Buffer.of(name) : Buffer.of(15, name - 15);
  return Buffer.concat([index, text(value)]);
};

/** `:method POST` and `:scheme http` are whole entries of the static table. */
const packed = (path: string): Buffer =>
  Buffer.concat([
    Buffer.of(0x80 | 3, 0x80 | 6),
    field(4, path),
    field(1, 'localhost'),
    field(31, 'application/grpc'),
    field('te', 'trailers'),
    field('grpc-timeout', `${String(CALL_MS)}m`),
  ]);

const prefixed = (message: Buffer): Buffer =>
  Buffer.concat([Buffer.of(0), uint32(message.length), message]);

interface Call {
  readonly settle: Settle;
  readonly chunks: Buffer[];
}

export class KmsClient {
  readonly #socket: Socket;
  readonly #methods: ServiceDefinition;
  readonly #heads = new Map<string, Buffer>();
  readonly #calls = new Map<number, Call>();
  #rest: Buffer = Buffer.alloc(0);
  #stream = 1;
  #window = FIRST_WINDOW;
  /** What waits for the provider to read on. */
  readonly #held: { readonly bytes: number; readonly frames: Buffer }[] = [];

  constructor(socket: string) {
    const proto = join(import.meta.dirname, '..', 'test', 'kubernetes', 'kms-v2.proto');
    this.#methods = loadSync(proto, { defaults: true })[
      'v2.KeyManagementService'
    ] as ServiceDefinition;
    this.#socket = connect(socket);
    const setting = Buffer.concat([Buffer.of(0, INITIAL_WINDOW_SIZE), uint32(OWN_WINDOW)]);
    this.#socket.write(PREFACE);
    this.#socket.write(frame(TYPE.settings, 0, 0, setting));
    this.#socket.write(frame(TYPE.window, 0, 0, uint32(OWN_WINDOW)));
    this.#socket.on('data', (bytes: Buffer) => this.#take(bytes));
    this.#socket.on('error', (error) => this.#end(error));
    this.#socket.on('close', () => this.#end(new Error('the provider closed the connection')));
  }

  status(): Promise<{ readonly healthz: string }> {
    return this.#call('Status', {});
  }

  encrypt(plaintext: Uint8Array, uid: string): Promise<Encrypted> {
    return this.#call('Encrypt', { plaintext, uid });
  }

  async decrypt(value: Encrypted, uid: string): Promise<Uint8Array> {
    return (await this.#call<{ plaintext: Uint8Array }>('Decrypt', { ...value, uid })).plaintext;
  }

  close(): void {
    this.#socket.destroy();
  }

  async #call<T>(name: Method, request: object): Promise<T> {
    const method = this.#methods[name] as MethodDefinition<object, object>;
    const answer = await this.#send(method.path, prefixed(method.requestSerialize(request)));
    return method.responseDeserialize(answer) as T;
  }

  /** @throws Error where there is no message */
  #send(path: string, message: Buffer): Promise<Buffer> {
    const head = this.#heads.get(path) ?? packed(path);
    this.#heads.set(path, head);
    const stream = this.#stream;
    this.#stream += 2;
    return new Promise((resolve, reject) => {
      const settle: Settle = (end) => {
        this.#calls.delete(stream);
        if (end instanceof Error) reject(end);
        else resolve(end);
      };
      this.#calls.set(stream, { settle, chunks: [] });
      const headers = frame(TYPE.headers, END_HEADERS, stream, head);
      const frames = Buffer.concat([headers, frame(TYPE.data, END_STREAM, stream, message)]);
      this.#held.push({ bytes: message.length, frames });
      this.#write();
    });
  }

  #write(): void {
    for (let [next] = this.#held; next !== undefined; [next] = this.#held) {
      if (next.bytes > this.#window) return;
      this.#window -= next.bytes;
      this.#held.shift();
      this.#socket.write(next.frames);
    }
  }

  #take(bytes: Buffer): void {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    while (this.#rest.length >= HEAD) {
      const end = HEAD + this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < end) return;
      const whole = this.#rest.subarray(0, end);
      this.#rest = this.#rest.subarray(end);
      const stream = whole.readUInt32BE(5);
      this.#read(whole.readUInt8(3), whole.readUInt8(4), stream, whole.subarray(HEAD));
    }
  }

  #read(type: number, flags: number, stream: number, payload: Buffer): void {
    const call = this.#calls.get(stream);
    if (type === TYPE.data) call?.chunks.push(payload);
    if (type === TYPE.reset) call?.settle(new Error('the provider broke the call off'));
    else if (type === TYPE.goAway) this.#socket.destroy();
    else if (type === TYPE.window && stream === 0) {
      this.#window += payload.readUInt32BE();
      this.#write();
    } else if (type === TYPE.settings && (flags & ACK) === 0) {
      this.#socket.write(frame(TYPE.settings, ACK, 0, Buffer.alloc(0)));
    } else if (type === TYPE.ping && (flags & ACK) === 0) {
      this.#socket.write(frame(TYPE.ping, ACK, 0, payload));
    } else if (type <= TYPE.headers && (flags & END_STREAM) !== 0) call?.settle(messageOf(call));
  }

  #end(error: Error): void {
    for (const { settle } of this.#calls.values()) settle(error);
  }
}

function messageOf({ chunks }: Call): Buffer | Error {
  const all = Buffer.concat(chunks);
  if (all.length < PREFIX) return new Error('the provider refused the call');
  return all.subarray(PREFIX);
}
