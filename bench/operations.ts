/** What is measured: each operation of the service, its request, its raw limit, and how to check it. */
import { randomBytes } from 'node:crypto';

import { nativeEngine } from '../src/crypto/native-engine.ts';
import { findSuite } from '../src/crypto/suites.ts';
import type { TestService } from '../test/e2e/service.ts';
import { ask, post } from './client.ts';
import type { Target } from './client.ts';
import type { RawName } from './report.ts';

export const BATCH = 100;
const JSON_TYPE = 'application/json';

export interface Operation {
  readonly name: string;
  /** The raw limit that one item of it is held against. */
  readonly raw: RawName;
  /** Items of one request. */
  readonly items: number;
  readonly request: Buffer;
  /** Whether every answer is right, if need be by asking the service again; only then a run counts. */
  readonly verify: (answers: Answers, target: Target) => Promise<boolean>;
}

type Answers = readonly Buffer[];

interface Item {
  readonly plaintext?: string;
  readonly ciphertext?: string;
  readonly valid?: boolean;
}

const KEYS = {
  hybrid: 'MLKEM768-P256',
  symmetric: 'A256GCM',
  signer: 'MLDSA65-ECDSA-P256-SHA512',
  classical: 'ECDSA-P256-SHA256',
  mac: 'HS256',
} as const;

/** Makes the keys and what the requests carry. */
export async function prepareOperations(service: TestService): Promise<readonly Operation[]> {
  for (const [name, suite] of Object.entries(KEYS)) {
    const made = await service.request('POST', '/v1/admin/keys', { name, suite });
    if (made.status !== 201) throw new Error(made.bytes.toString('utf8'));
  }
  const token = await service.token('user');
  const wrapping = (key: 'hybrid' | 'symmetric') => wrappingOperations(service, token, key);
  return [
    ...(await wrapping('hybrid')),
    ...(await wrapping('symmetric')),
    ...(await signing(service, token, {
      key: 'signer',
      title: 'composite',
      raw: ['ML-DSA-65 sign', 'ML-DSA-65 verify'],
    })),
    ...(await signing(service, token, { key: 'classical', title: 'P-256', raw: ['sign P-256'] })),
    await macs(service, token),
  ];
}

async function wrappingOperations(
  service: TestService,
  token: string,
  key: 'hybrid' | 'symmetric',
): Promise<readonly Operation[]> {
  const path = `/v1/keys/${key}`;
  const title = key === 'hybrid' ? 'hybrid' : 'A256GCM';
  const [raw, rawOpen] =
    key === 'hybrid'
      ? (['hybrid encapsulation', 'derive P-256'] as const)
      : (['AES-GCM encrypt', 'AES-GCM decrypt'] as const);
  const plaintext = randomBytes(32);
  const value = plaintext.toString('base64');
  const opens = (items: readonly Item[], target: Target) =>
    allOpen(target, (body) => post(`${path}/unwrap/batch`, token, body, JSON_TYPE), items, value);
  const ciphertext = await raws(service, `${path}/wrap`, plaintext);
  const many = { items: Array.from({ length: BATCH }, () => ({ plaintext: value })) };
  const made = await service.request('POST', `${path}/wrap/batch`, many);
  const wrapped = { items: itemsOf(made.bytes).map((each) => ({ ciphertext: each.ciphertext })) };
  return [
    {
      name: `${title} wrap`,
      raw,
      items: 1,
      request: post(`${path}/wrap`, token, plaintext),
      verify: (answers, target) =>
        opens(
          answers.map((bytes) => ({ ciphertext: textOf(bytes) })),
          target,
        ),
    },
    {
      name: `${title} unwrap`,
      raw: rawOpen,
      items: 1,
      request: post(`${path}/unwrap`, token, ciphertext),
      verify: async (answers) => answers.every((bytes) => bytes.equals(plaintext)),
    },
    {
      name: `${title} data key`,
      raw,
      items: 1,
      request: post(`${path}/data-keys`, token, Buffer.from('{"bytes":32}'), JSON_TYPE),
      verify: (answers, target) => opens(answers.map(itemOf), target),
    },
    {
      name: `${title} wrap, batch of ${String(BATCH)}`,
      raw,
      items: BATCH,
      request: post(`${path}/wrap/batch`, token, Buffer.from(JSON.stringify(many)), JSON_TYPE),
      verify: async (answers, target) => {
        const batches = answers.map(itemsOf);
        return batches.every(({ length }) => length === BATCH) && opens(batches.flat(), target);
      },
    },
    {
      name: `${title} unwrap, batch of ${String(BATCH)}`,
      raw: rawOpen,
      items: BATCH,
      request: post(`${path}/unwrap/batch`, token, Buffer.from(JSON.stringify(wrapped)), JSON_TYPE),
      verify: async (answers) =>
        answers.every((bytes) => {
          const items = itemsOf(bytes);
          return items.length === BATCH && items.every((item) => item.plaintext === value);
        }),
    },
  ];
}

interface Results {
  readonly results: readonly Item[];
}

/** Unwraps everything again; a data key is held against its own plaintext, the rest against `value`. */
async function allOpen(
  target: Target,
  unwrapping: (body: Buffer) => Buffer,
  items: readonly Item[],
  value: string,
): Promise<boolean> {
  for (let at = 0; at < items.length; at += 1_000) {
    const part = items.slice(at, at + 1_000);
    const body = { items: part.map(({ ciphertext }) => ({ ciphertext })) };
    const request = unwrapping(Buffer.from(JSON.stringify(body)));
    const results = itemsOf(await ask(target, request));
    if (results.length !== part.length) return false;
    if (results.some((each, index) => each.plaintext !== (part[index]?.plaintext ?? value))) {
      return false;
    }
  }
  return items.length > 0;
}

interface Signing {
  readonly key: 'signer' | 'classical';
  readonly title: string;
  /** Of signing, and of verifying where that is measured. */
  readonly raw: readonly [RawName, RawName?];
}

async function signing(
  service: TestService,
  token: string,
  { key, title, raw: [raw, rawVerify] }: Signing,
): Promise<readonly Operation[]> {
  const suite = findSuite(KEYS[key]);
  if (suite.kind !== 'signature') throw new Error('not a signature suite');
  const path = `/v1/keys/${key}`;
  const message = randomBytes(128);
  const described = await service.request('GET', `${path}/public-key?format=raw`);
  const publicKey = Buffer.from(String(described.json['raw']), 'base64');
  const valid = (signature: Buffer) =>
    suite.signer.verify(nativeEngine, publicKey, { message }, new Uint8Array(0), signature);
  const signature = await raws(service, `${path}/sign`, message);
  const check = JSON.stringify({
    message: message.toString('base64'),
    signature: signature.toString('base64'),
  });
  const sign: Operation = {
    name: `${title} sign`,
    raw,
    items: 1,
    request: post(`${path}/sign`, token, message),
    verify: async (answers) => every(answers, valid),
  };
  if (rawVerify === undefined) return [sign];
  const verify: Operation = {
    name: `${title} verify`,
    raw: rawVerify,
    items: 1,
    request: post(`${path}/verify`, token, Buffer.from(check), JSON_TYPE),
    verify: async (answers) => answers.every((bytes) => itemOf(bytes).valid === true),
  };
  return [sign, verify];
}

async function macs(service: TestService, token: string): Promise<Operation> {
  const message = randomBytes(64);
  const expected = await raws(service, '/v1/keys/mac/mac', message);
  return {
    name: 'HS256 mac',
    raw: 'HMAC-SHA-256',
    items: 1,
    request: post('/v1/keys/mac/mac', token, message),
    verify: async (answers) => answers.every((bytes) => bytes.equals(expected)),
  };
}

async function every(answers: Answers, check: (answer: Buffer) => Promise<boolean>) {
  for (const answer of answers) if (!(await check(answer))) return false;
  return true;
}

/** The answer of a byte route. */
async function raws(service: TestService, path: string, body: Uint8Array): Promise<Buffer> {
  const headers = { Accept: 'application/octet-stream' };
  const answer = await service.request('POST', path, body, { headers });
  if (answer.status !== 200) throw new Error(answer.bytes.toString('utf8'));
  return answer.bytes;
}

const parsed = (bytes: Buffer): unknown => JSON.parse(bytes.toString('utf8'));
const itemOf = (bytes: Buffer): Item => parsed(bytes) as Item;
const itemsOf = (bytes: Buffer): readonly Item[] => (parsed(bytes) as Results).results;

/** The text form of a binary envelope. */
const textOf = (envelope: Buffer): string => `tf1.${envelope.toString('base64url')}`;
