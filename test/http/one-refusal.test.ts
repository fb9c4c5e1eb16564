/**
 * Once an envelope parses and names this key and an existing version, whatever is wrong with it is
 * answered by one body: 422 `decryption_failed`, the same bytes but for the request's id, for every
 * suite, form and route. What differs would tell an attacker which check failed.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { HEADER_LENGTH, TAG_LENGTH } from '../../src/crypto/envelope.ts';
import { SUITES } from '../../src/crypto/suites.ts';
import { openService } from './service.ts';
import type { Called, Service } from './service.ts';

const PLAINTEXT = Buffer.from('a plaintext that is longer than a point is, by 16');
const CONTEXT = { tenant: 'a' };
const MODE_AT = 1;
const SUITE_AT = 2;
const NONCE_AT = HEADER_LENGTH + 1;
const BYTES = { 'content-type': 'application/octet-stream' };

const wrapSuites = Object.values(SUITES).filter((suite) => suite.class === 'wrap');
type Attempt = readonly [name: string, envelope: Buffer, context?: Record<string, string>];

let service: Service;
/** A valid envelope of version 1 of each suite's key, which has a version 2 as well. */
const envelopes = new Map<string, Buffer>();

const json = (body: object) => ({ json: body });
const textOf = (envelope: Buffer): string => `tf1.${envelope.toString('base64url')}`;
const nameOf = (suite: string): string => suite.toLowerCase();

beforeAll(async () => {
  service = await openService();
  for (const { id } of wrapSuites) {
    const name = nameOf(id);
    await service.call('admin', 'POST', '/v1/admin/keys', json({ name, suite: id }));
    const body = { plaintext: PLAINTEXT.toString('base64'), encryptionContext: CONTEXT };
    const wrapped = await service.call('user', 'POST', `/v1/keys/${name}/wrap`, json(body));
    const text = String(wrapped.json['ciphertext']);
    envelopes.set(id, Buffer.from(text.slice('tf1.'.length), 'base64url'));
    await service.call('admin', 'POST', `/v1/admin/keys/${name}/rotate`);
  }
});
afterAll(() => service.stop());

const envelopeOf = (id: string): Buffer => Buffer.from(envelopes.get(id) ?? []);

function edited(id: string, edit: (envelope: Buffer) => void): Buffer {
  const envelope = envelopeOf(id);
  edit(envelope);
  return envelope;
}

const flipped = (id: string, at: number): Buffer =>
  edited(id, (envelope) => {
    envelope[at] = (envelope[at] ?? 0) ^ 1;
  });

const isAead = (id: string): boolean =>
  wrapSuites.some((suite) => suite.id === id && suite.kind === 'aead');

/** Everything that can be wrong behind the key id and version, and the binding. */
function attemptsOn(id: string): readonly Attempt[] {
  const { length } = envelopeOf(id);
  const tagAt = length - TAG_LENGTH;
  const versioned = edited(id, (envelope) => envelope.writeUInt32BE(2, HEADER_LENGTH - 4));
  const common: Attempt[] = [
    ['another context', envelopeOf(id), { tenant: 'b' }],
    ['no context', envelopeOf(id), {}],
    ['another existing version', versioned],
    ['first byte of the ciphertext', flipped(id, tagAt - PLAINTEXT.length)],
    ['last byte of the ciphertext', flipped(id, tagAt - 1)],
    ['first byte of the tag', flipped(id, tagAt)],
    ['last byte of the tag', flipped(id, length - 1)],
    ['a byte cut off', envelopeOf(id).subarray(0, -1)],
    ['a byte too many', Buffer.concat([envelopeOf(id), Buffer.alloc(1)])],
    [
      'nothing but a tag',
      Buffer.concat([
        envelopeOf(id).subarray(0, tagAt - PLAINTEXT.length),
        Buffer.alloc(TAG_LENGTH),
      ]),
    ],
  ];
  return [...common, ...(isAead(id) ? aeadAttempts(id) : kemAttempts(id))];
}

const aeadAttempts = (id: string): readonly Attempt[] => [
  ['first byte of the nonce', flipped(id, NONCE_AT)],
  ['last byte of the nonce', flipped(id, NONCE_AT + 11)],
];

/** The KEM suite whose encapsulation still fits: of the others the longest that is not longer. */
function neighbourOf(id: string): number {
  const kems = wrapSuites.filter((suite) => suite.kind === 'kem');
  const lengthOf = (name: string) =>
    kems.find((suite) => suite.id === name)?.kem.lengths.encapsulation ?? 0;
  const room = lengthOf(id) + PLAINTEXT.length;
  const others = kems.filter((suite) => suite.id !== id && lengthOf(suite.id) <= room);
  return others.toSorted((a, b) => lengthOf(b.id) - lengthOf(a.id))[0]?.number ?? 0;
}

function kemAttempts(id: string): readonly Attempt[] {
  const encEnd = envelopeOf(id).length - TAG_LENGTH - PLAINTEXT.length;
  return [
    ['mode base', edited(id, (envelope) => envelope.writeUInt8(0, MODE_AT))],
    [
      'another KEM suite',
      edited(id, (envelope) => envelope.writeUInt16BE(neighbourOf(id), SUITE_AT)),
    ],
    ['first byte of the post-quantum half', flipped(id, HEADER_LENGTH)],
    ['last byte of the classical half', flipped(id, encEnd - 1)],
    [
      'no point, or one of small order',
      edited(id, (envelope) => envelope.fill(0, encEnd - 32, encEnd)),
    ],
  ];
}

/** The body without the request's own id. */
function bodyOf({ status, text, json: problem, headers }: Called): string {
  expect({ status, code: problem['code'] }).toEqual({ status: 422, code: 'decryption_failed' });
  const names = [...headers.keys()].filter((name) => name !== 'date').toSorted();
  return `${names.join(' ')}\n${text.replace(String(problem['requestId']), '<id>')}`;
}

const ROUTES: readonly (readonly [
  form: string,
  send: (key: string, attempt: Attempt) => Promise<Called>,
])[] = [
  [
    'unwrap of JSON',
    (key, [, envelope, encryptionContext = CONTEXT]) =>
      service.call(
        'user',
        'POST',
        `/v1/keys/${key}/unwrap`,
        json({ ciphertext: textOf(envelope), encryptionContext }),
      ),
  ],
  [
    'unwrap of bytes',
    (key, [, envelope, context = CONTEXT]) =>
      service.call('user', 'POST', `/v1/keys/${key}/unwrap`, {
        body: new Uint8Array(envelope),
        headers: {
          ...BYTES,
          'twofold-encryption-context': Buffer.from(JSON.stringify(context)).toString('base64'),
        },
      }),
  ],
  [
    'rewrap',
    (key, [, envelope, encryptionContext = CONTEXT]) =>
      service.call(
        'user',
        'POST',
        `/v1/keys/${key}/rewrap`,
        json({ ciphertext: textOf(envelope), encryptionContext }),
      ),
  ],
];

describe.each(wrapSuites.map(({ id }) => id))('%s', (id) => {
  it('opens what was not changed', async () => {
    const body = { ciphertext: textOf(envelopeOf(id)), encryptionContext: CONTEXT };
    const { json: opened } = await service.call(
      'user',
      'POST',
      `/v1/keys/${nameOf(id)}/unwrap`,
      json(body),
    );
    expect(opened['plaintext']).toBe(PLAINTEXT.toString('base64'));
  });

  it.each(ROUTES)('%s: one body for every failure', async (_form, send) => {
    const bodies = new Map<string, string>();
    for (const attempt of attemptsOn(id)) {
      bodies.set(attempt[0], bodyOf(await send(nameOf(id), attempt)));
    }
    expect(bodies.size).toBeGreaterThanOrEqual(12);
    expect([...new Set(bodies.values())]).toHaveLength(1);
  });

  it.each(['unwrap', 'rewrap'])(
    '%s of a batch: one error for every failed item',
    async (operation) => {
      const attempts = attemptsOn(id);
      const items = attempts.map(([, envelope, encryptionContext = CONTEXT]) => ({
        ciphertext: textOf(envelope),
        encryptionContext,
      }));
      const path = `/v1/keys/${nameOf(id)}/${operation}/batch`;
      const answer = await service.call('user', 'POST', path, json({ items }));
      const results = answer.json['results'] as { readonly error?: { readonly code: string } }[];
      expect(results.map(({ error }) => error?.code)).toEqual(
        attempts.map(() => 'decryption_failed'),
      );
      expect([...new Set(results.map((result) => JSON.stringify(result)))]).toHaveLength(1);
    },
  );
});

it('decapsulation of a point that is none fails with the same body', async () => {
  const make = { name: 'kem', suite: 'MLKEM768-P256', purpose: 'kem' };
  await service.call('admin', 'POST', '/v1/admin/keys', json(make));
  const { json: made } = await service.call('user', 'POST', '/v1/keys/kem/encapsulate');
  const valid = Buffer.from(String(made['encapsulation']), 'base64');
  const bodies = [];
  for (const at of [valid.length - 1, valid.length - 40, valid.length - 65]) {
    const broken = Buffer.from(valid);
    broken[at] = (broken[at] ?? 0) ^ 1;
    const body = { encapsulation: broken.toString('base64'), keyVersion: made['keyVersion'] };
    bodies.push(bodyOf(await service.call('user', 'POST', '/v1/keys/kem/decapsulate', json(body))));
  }
  expect([...new Set(bodies)]).toHaveLength(1);
});
