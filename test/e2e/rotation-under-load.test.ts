/**
 * Rotation under load with zero failed requests: what clients see while their keys are rotated five
 * times a second. Nothing may fail, not even with a code that asks for another attempt.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { TestService } from './service.ts';
import type { Answer } from './service.ts';

const CLIENTS = 16;
const ROTATIONS = 20;
const EVERY_MS = 200;
/** Of its own older ciphertexts, how many a client opens after each wrap. */
const OPENED_EACH_TIME = 3;

const KEYS = {
  hybrid: 'MLKEM768-P256',
  symmetric: 'A256GCM',
  signer: 'MLDSA65-ECDSA-P256-SHA512',
  mac: 'HS256',
} as const;
type Name = keyof typeof KEYS;

interface Wrapped {
  readonly plaintext: string;
  readonly ciphertext: string;
}

let service: TestService;
let rotating = true;
/** Whatever was no success. */
const failures: string[] = [];
/** What was wrong in a success. */
const wrong: string[] = [];
let requests = 0;

beforeAll(async () => {
  service = await TestService.start();
  for (const [name, suite] of Object.entries(KEYS)) {
    const { status } = await service.request('POST', '/v1/admin/keys', { name, suite });
    expect(status).toBe(201);
  }
}, 90_000);

afterAll(() => service.destroy());

async function ask(path: string, body: object): Promise<Answer> {
  const answer = await service.request('POST', path, body);
  requests += 1;
  if (answer.status !== 200) failures.push(`${path}: ${answer.status} ${answer.bytes.toString()}`);
  return answer;
}

/** One consumer, which does one thing after the other and keeps all that it has protected. */
class Client {
  readonly wrapped: Record<'hybrid' | 'symmetric', Wrapped[]> = { hybrid: [], symmetric: [] };
  readonly #number: number;
  readonly #versions = new Map<Name, number>();
  #turn = 0;

  constructor(number: number) {
    this.#number = number;
  }

  async run(): Promise<void> {
    while (rotating) {
      await this.#wrap('hybrid');
      await this.#sign();
      await this.#wrap('symmetric');
      await this.#mac();
    }
  }

  #text(): string {
    this.#turn += 1;
    return Buffer.from(`client ${this.#number}, ${this.#turn}`).toString('base64');
  }

  /** The version that protects never goes down for one who asks in turn. */
  #advance(key: Name, { json }: Answer): void {
    const version = Number(json['keyVersion']);
    const before = this.#versions.get(key) ?? 1;
    if (!(version >= before)) wrong.push(`${key}: version ${version} after ${before}`);
    this.#versions.set(key, version);
  }

  async #wrap(key: 'hybrid' | 'symmetric'): Promise<void> {
    const plaintext = this.#text();
    const answer = await ask(`/v1/keys/${key}/wrap`, { plaintext });
    this.#advance(key, answer);
    const mine = this.wrapped[key];
    mine.push({ plaintext, ciphertext: String(answer.json['ciphertext']) });
    for (let count = 0; count < OPENED_EACH_TIME; count += 1) {
      const one = mine[(this.#turn + count * 7) % mine.length];
      if (one !== undefined) await open(key, one);
    }
  }

  async #sign(): Promise<void> {
    const message = this.#text();
    const answer = await ask('/v1/keys/signer/sign', { message });
    this.#advance('signer', answer);
    const { signature, keyVersion } = answer.json;
    const body = { message, signature, keyVersion };
    const verified = await ask('/v1/keys/signer/verify', body);
    if (verified.json['valid'] !== true) wrong.push('a signature is not valid');
  }

  async #mac(): Promise<void> {
    const message = this.#text();
    const answer = await ask('/v1/keys/mac/mac', { message });
    this.#advance('mac', answer);
    const { mac, keyVersion } = answer.json;
    const verified = await ask('/v1/keys/mac/verify-mac', { message, mac, keyVersion });
    if (verified.json['valid'] !== true) wrong.push('a MAC is not valid');
  }
}

async function open(key: string, { plaintext, ciphertext }: Wrapped): Promise<void> {
  const answer = await ask(`/v1/keys/${key}/unwrap`, { ciphertext });
  if (answer.json['plaintext'] !== plaintext) wrong.push(`${key}: a ciphertext opened wrongly`);
}

/** By hand, at a fixed pace, or as fast as the service can where that is slower. */
async function rotate(name: string): Promise<void> {
  for (let round = 0; round < ROTATIONS; round += 1) {
    const pace = sleep(EVERY_MS);
    await ask(`/v1/admin/keys/${name}/rotate`, {});
    await pace;
  }
}

describe('rotation under load', () => {
  const clients = Array.from({ length: CLIENTS }, (_, number) => new Client(number));

  it('fails no request, and no answer goes back to an earlier version', async () => {
    const working = clients.map((client) => client.run());
    await Promise.all(Object.keys(KEYS).map(rotate)).finally(() => {
      rotating = false;
    });
    await Promise.all(working);
    process.stdout.write(`${requests} requests, ${failures.length} failed\n`);
    expect(failures).toEqual([]);
    expect(wrong).toEqual([]);
    for (const name of Object.keys(KEYS)) {
      const { json } = await service.request('GET', `/v1/keys/${name}`);
      expect({ name, primary: json['primary'] }).toEqual({ name, primary: ROTATIONS + 1 });
    }
  }, 180_000);

  it('and every ciphertext that was ever made opens afterwards', async () => {
    let opened = 0;
    for (const key of ['hybrid', 'symmetric'] as const) {
      const all = clients.flatMap(({ wrapped }) => wrapped[key]);
      const next = all[Symbol.iterator]();
      const worker = async (): Promise<void> => {
        for (const one of next) {
          await open(key, one);
          opened += 1;
        }
      };
      await Promise.all(Array.from({ length: 8 }, worker));
      const versions = new Set(clients.flatMap(({ wrapped }) => wrapped[key]).map(versionOf));
      expect(versions.size).toBeGreaterThan(2);
    }
    expect(failures).toEqual([]);
    expect(wrong).toEqual([]);
    expect(opened).toBeGreaterThan(2 * CLIENTS);
  }, 120_000);
});

/** Envelope: version, mode, suite (2), key id (16), key version (4). */
function versionOf({ ciphertext }: Wrapped): number {
  return Buffer.from(ciphertext.replace(/^tf1\./u, ''), 'base64url').readUInt32BE(20);
}
