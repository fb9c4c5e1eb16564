/** Everything that a caller can get wrong, sent to a real service: the code and status of the table. */
import { createHmac, randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { DevelopmentIssuer } from '../../src/access/development-issuer.ts';
import { ERRORS } from '../../src/errors.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { NAME } from '../../src/name.ts';
import { craft } from '../access/issuer-fixture.ts';
import { TestService } from './service.ts';
import type { Answer, Role } from './service.ts';

type Options = Parameters<TestService['request']>[3];

const b64 = (text: string) => Buffer.from(text).toString('base64');
const text = (bytes: Uint8Array) =>
  `${NAME.envelopeText}${Buffer.from(bytes).toString('base64url')}`;
const now = () => Math.floor(Date.now() / 1000);

const KEYS = {
  wrap: { name: 'wrapper', suite: 'MLKEM768-P256' },
  kem: { name: 'kem', suite: 'MLKEM768-P256', purpose: 'kem' },
  sign: { name: 'signer', suite: 'MLDSA65-ECDSA-P256-SHA512' },
  mac: { name: 'macker', suite: 'HS256' },
} as const;
type Purpose = keyof typeof KEYS;

let service: TestService;
let ciphertext: string;
let kept: Buffer;
let keyId: string;

const create = async (json: object): Promise<Record<string, unknown>> => {
  const answer = await service.request('POST', '/v1/admin/keys', json);
  expect(answer.status).toBe(201);
  return answer.json;
};

beforeAll(async () => {
  service = await TestService.start();
  for (const key of Object.values(KEYS)) await create(key);
  await create({ name: 'other', suite: 'MLKEM768-P256' });
  await create({ name: 'signer-2', suite: 'MLDSA65-ECDSA-P256-SHA512' });
  const json = { plaintext: b64('a data key'), encryptionContext: { tenant: 'a' }, aad: b64('x') };
  const wrapped = await service.request('POST', '/v1/keys/wrapper/wrap', json);
  ciphertext = String(wrapped.json['ciphertext']);
  keyId = String(wrapped.json['keyId']);
  kept = Buffer.from(ciphertext.slice(NAME.envelopeText.length), 'base64url');
}, 120_000);

afterAll(async () => {
  await service.destroy();
}, 60_000);

/** The answer is the problem of `code`, and says so in every place. */
function expectProblem(answer: Answer, code: ErrorCode): Answer['json'] {
  expect({ code: answer.json.code, status: answer.status }).toEqual({
    code,
    status: ERRORS[code].status,
  });
  expect(answer.headers.get('content-type')).toBe('application/problem+json');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.json).toMatchObject({
    type: `${NAME.problemType}${code}`,
    title: ERRORS[code].title,
    status: ERRORS[code].status,
    requestId: answer.headers.get('twofold-request-id'),
  });
  return answer.json;
}

async function refused(
  code: ErrorCode,
  method: string,
  path: string,
  body?: unknown,
  options?: Options,
): Promise<Answer['json']> {
  return expectProblem(await service.request(method, path, body, options), code);
}

const BINDING = { encryptionContext: { tenant: 'a' }, aad: b64('x') };
const unwrapped = (body: object, key = 'wrapper') =>
  service.request('POST', `/v1/keys/${key}/unwrap`, { ciphertext, ...BINDING, ...body });

describe('what a route does not know', () => {
  it.each<[string, string, object]>([
    ['/v1/keys/wrapper/wrap', 'top level', { plaintext: '', extra: 1 }],
    ['/v1/keys/wrapper/unwrap', 'beside a ciphertext', { ciphertext: 'tf1.AA', keyVersion: 1 }],
    ['/v1/keys/signer/sign', 'in a digest', { digest: { algorithm: 'SHA-512', value: '', x: 1 } }],
    ['/v1/keys/signer/sign', 'beside mu', { mu: b64('x'.repeat(64)), hash: 'SHA-512' }],
    ['/v1/keys/wrapper/wrap/batch', 'in an item', { items: [{ plaintext: '', extra: 1 }] }],
    ['/v1/admin/keys', 'beside a name', { name: 'x', suite: 'A256GCM', id: randomUUID() }],
    ['/v1/admin/keys/wrapper/rotate', 'on rotate', { dryRun: true }],
    ['/v1/random', 'on random', { bytes: 1, byte: 1 }],
  ])('an unknown field: %s, %s', (path, _where, body) =>
    refused('unknown_field', 'POST', path, body),
  );

  it.each<[string, string, object | undefined]>([
    ['POST', '/v1/admin/keys/wrapper/rotate?dryrun=true', {}],
    ['POST', '/v1/admin/keys?dry_run=true', { name: 'never-made', suite: 'A256GCM' }],
    ['POST', '/v1/keys/wrapper/wrap?keyVersion=1', { plaintext: '' }],
    ['GET', '/v1/keys?purpose=wrap', undefined],
    ['GET', '/v1/keys/wrapper/public-key?Format=pem', undefined],
    ['GET', '/v1/whoami?x', undefined],
  ])('an unknown query parameter: %s %s', async (method, path, body) => {
    await refused('unknown_parameter', method, path, body);
  });

  it('and a misspelt dry run has rotated and made nothing', async () => {
    const { json } = await service.request('GET', '/v1/keys/wrapper');
    expect(json).toMatchObject({ latestVersion: 1 });
    await refused('key_not_found', 'GET', '/v1/keys/never-made');
  });

  it.each(['Twofold-Encryptioncontext', 'Twofold-Dry-Run', 'Twofold-Signature-Context'])(
    'a header of ours that the route does not read: %s',
    (name) =>
      refused(
        'unknown_parameter',
        'POST',
        '/v1/keys/wrapper/wrap',
        { plaintext: '' },
        { headers: { [name]: 'x' } },
      ),
  );

  it('an unknown suite: create, rotate, filter, description', async () => {
    const json = { name: 'x', suite: 'MLKEM768-P-256' };
    await refused('unknown_suite', 'POST', '/v1/admin/keys', json);
    await refused('unknown_suite', 'POST', '/v1/admin/keys', { name: 'x', suite: '__proto__' });
    await refused('unknown_suite', 'POST', '/v1/admin/keys/wrapper/rotate', { suite: 'toString' });
    await refused('unknown_suite', 'GET', '/v1/keys?suite=constructor');
    await refused('not_found', 'GET', '/v1/suites/constructor');
  });

  it('an unknown route, method and media type', async () => {
    await refused('route_not_found', 'GET', '/v1/keyz');
    await refused('route_not_found', 'GET', '/v1/transit/encrypt/x');
    await refused('method_not_allowed', 'DELETE', '/v1/keys/wrapper');
    const xml = { headers: { 'Content-Type': 'application/xml' } };
    await refused('unsupported_media_type', 'POST', '/v1/keys/wrapper/wrap', {}, xml);
    const accept = { headers: { Accept: 'image/png' } };
    await refused('not_acceptable', 'GET', '/v1/keys/wrapper', undefined, accept);
  });
});

describe('a key of another purpose', () => {
  const envelope = () => ({ ciphertext });
  const message = { message: b64('m') };
  const signature = { ...message, signature: b64('s') };
  const mac = { ...message, mac: b64('m'.repeat(32)) };
  const routes: readonly (readonly [Purpose, string, () => object])[] = [
    ['wrap', 'wrap', () => ({ plaintext: '' })],
    ['wrap', 'wrap/batch', () => ({ items: [{ plaintext: '' }] })],
    ['wrap', 'unwrap', envelope],
    ['wrap', 'unwrap/batch', () => ({ items: [envelope()] })],
    ['wrap', 'rewrap', envelope],
    ['wrap', 'rewrap/batch', () => ({ items: [envelope()] })],
    ['wrap', 'data-keys', () => ({ bytes: 32 })],
    ['wrap', 'data-keys/wrapped', () => ({ bytes: 32 })],
    ['kem', 'encapsulate', () => ({})],
    ['kem', 'decapsulate', () => ({ encapsulation: b64('x'), keyVersion: 1 })],
    ['sign', 'sign', () => message],
    ['sign', 'sign/batch', () => ({ items: [message] })],
    ['sign', 'verify', () => signature],
    ['sign', 'verify/batch', () => ({ items: [signature] })],
    ['mac', 'mac', () => message],
    ['mac', 'mac/batch', () => ({ items: [message] })],
    ['mac', 'verify-mac', () => mac],
    ['mac', 'verify-mac/batch', () => ({ items: [mac] })],
  ];
  const purposes = Object.keys(KEYS) as Purpose[];
  const cases = routes.flatMap(([purpose, route, body]) =>
    purposes
      .filter((other) => other !== purpose)
      .map((other) => [`${route} on a key for ${other}`, KEYS[other].name, route, body] as const),
  );

  it.each(cases)('%s', async (_name, key, route, body) => {
    await refused('wrong_purpose', 'POST', `/v1/keys/${key}/${route}`, body());
  });

  it('creation with a purpose that the suite does not serve, rotation to such a suite', async () => {
    const json = { name: 'x', suite: 'HS256', purpose: 'sign' };
    await refused('wrong_purpose', 'POST', '/v1/admin/keys', json);
    const suite = { suite: 'HS256' };
    await refused('wrong_purpose', 'POST', '/v1/admin/keys/wrapper/rotate', suite);
  });

  it('a key without a public half has no public key', async () => {
    await refused('wrong_purpose', 'GET', '/v1/keys/macker/public-key');
    await refused('wrong_purpose', 'GET', '/v1/keys/macker/jwks');
  });
});

describe('a name', () => {
  it.each([
    '',
    'Wrapper',
    '..',
    '../wrapper',
    '.hidden',
    '-a',
    '_a',
    'a b',
    'a/b',
    'ä',
    'a\u0000',
    'a'.repeat(129),
    '9f0e6d52-2b0f-4f3e-8f6e-0a1b2c3d4e5f',
    '9f0e6d522b0f4f3e8f6e0a1b2c3d4e5f',
    '9F0E6D52-2B0F-4F3E-8F6E-0A1B2C3D4E5F',
    '00000000-0000-0000-0000-000000000000',
  ])('that cannot be: %j', (name) =>
    refused('invalid_value', 'POST', '/v1/admin/keys', { name, suite: 'A256GCM' }),
  );

  it.each(['a'.repeat(128), 'a..b', '0'.repeat(31)])('that can: %j', async (name) => {
    const dry = await service.request('POST', '/v1/admin/keys?dryRun=true', {
      name,
      suite: 'A256GCM',
    });
    expect(dry.json).toMatchObject({ name, dryRun: true });
  });

  it('that is taken', () =>
    refused('key_exists', 'POST', '/v1/admin/keys', { name: 'wrapper', suite: 'A256GCM' }));

  it('that names nothing: a path that climbs, a UUID of nobody, a name in another namespace', async () => {
    await refused('route_not_found', 'GET', '/v1/keys/..%2f..%2fhealthz/x/y/z');
    await refused('key_not_found', 'GET', `/v1/keys/${randomUUID()}`);
    const elsewhere = { headers: { 'Twofold-Namespace': 'elsewhere' } };
    // Where there is no namespace there is no policy, and nobody may do anything.
    await refused('forbidden', 'GET', '/v1/keys/wrapper', undefined, elsewhere);
    await refused('forbidden', 'GET', `/v1/keys/${keyId}`, undefined, elsewhere);
  });
});

describe('base64 and sizes', () => {
  it.each(['AAE', 'AA-_', 'AAAA\nAAAA', ' AAAA', 'AAF=', 'AAAA====', 'AA=='.slice(0, 3)])(
    'base64 that is not canonical: %j, with how to make it',
    async (plaintext) => {
      const problem = await refused('invalid_base64', 'POST', '/v1/keys/wrapper/wrap', {
        plaintext,
      });
      expect(problem['detail']).toContain('base64 -w0');
    },
  );

  it('a body, a byte body and a batch over their limits', async () => {
    const big = 'x'.repeat(1_048_576);
    await refused('body_too_large', 'POST', '/v1/keys/signer/sign', { message: big });
    await refused('body_too_large', 'POST', '/v1/keys/signer/sign', Buffer.alloc(1_048_577));
    const items = Array.from({ length: 8 }, () => ({ message: big }));
    await refused('body_too_large', 'POST', '/v1/keys/signer/sign/batch', { items });
    const small = Array.from({ length: 1_001 }, () => ({ plaintext: '' }));
    await refused('batch_too_large', 'POST', '/v1/keys/wrapper/wrap/batch', { items: small });
  });

  it('a plaintext over 64 KiB, as JSON and as bytes; the largest is wrapped', async () => {
    const [fits, over] = [Buffer.alloc(65_536, 7), Buffer.alloc(65_537, 7)];
    const plaintext = over.toString('base64');
    await refused('invalid_value', 'POST', '/v1/keys/wrapper/wrap', { plaintext });
    await refused('invalid_value', 'POST', '/v1/keys/wrapper/wrap', over);
    const answer = await service.request('POST', '/v1/keys/wrapper/wrap', {
      plaintext: fits.toString('base64'),
    });
    const again = await unwrapped({
      ciphertext: answer.json['ciphertext'],
      encryptionContext: {},
      aad: '',
    });
    expect(again.json['plaintext']).toBe(fits.toString('base64'));
  });

  it('a context over its 16 pairs, a data key of no bytes', async () => {
    const pairs = Array.from({ length: 17 }, (_, index) => [`k${String(index)}`, '']);
    const encryptionContext = Object.fromEntries(pairs) as object;
    const body = { plaintext: '', encryptionContext };
    await refused('invalid_value', 'POST', '/v1/keys/wrapper/wrap', body);
    await refused('invalid_value', 'POST', '/v1/keys/wrapper/data-keys', { bytes: 0 });
    await refused('invalid_value', 'POST', '/v1/random', { bytes: 1e9 });
  });
});

describe('a ciphertext', () => {
  /** One answer per item, in order; items that succeed are `ok`. */
  async function batchOutcomes(items: readonly Buffer[]): Promise<string[]> {
    const outcomes: string[] = [];
    for (let from = 0; from < items.length; from += 1_000) {
      const body = {
        items: items
          .slice(from, from + 1_000)
          .map((bytes) => ({ ciphertext: text(bytes), ...BINDING })),
      };
      const answer = await service.request('POST', '/v1/keys/wrapper/unwrap/batch', body);
      expect(answer.status).toBe(200);
      const results = answer.json['results'] as readonly { error?: { code: string } }[];
      outcomes.push(...results.map(({ error }) => error?.code ?? 'ok'));
    }
    return outcomes;
  }
  const flipped = (at: number, bit: number): Buffer => {
    const bytes = Buffer.from(kept);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
    return bytes;
  };

  it('opens as it is', async () => {
    expect((await unwrapped({})).json).toMatchObject({ plaintext: b64('a data key') });
  });

  it('with any one byte changed never opens, and behind the header all is decryption_failed', async () => {
    const every = Array.from(kept, (_, at) => flipped(at, at % 8));
    const outcomes = await batchOutcomes(every);
    expect(new Set(outcomes.slice(24))).toEqual(new Set(['decryption_failed']));
    expect(outcomes.slice(0, 4)).toEqual([
      'unsupported_envelope_version',
      'invalid_envelope',
      // 0x0501, which signs.
      'invalid_envelope',
      'unknown_suite',
    ]);
    expect(new Set(outcomes.slice(4, 20))).toEqual(new Set(['key_mismatch']));
    expect(new Set(outcomes.slice(20, 24))).toEqual(new Set(['version_not_found']));
  }, 120_000);

  it('in the other mode, or as another suite of the table, is decryption_failed', async () => {
    const mode = Buffer.from(kept);
    mode[1] = mode[1] === 0 ? 1 : 0;
    const suites = [0x0102, 0x0103, 0x0301].map((number) => {
      const bytes = Buffer.from(kept);
      bytes.writeUInt16BE(number, 2);
      return bytes;
    });
    const [other, ...others] = await batchOutcomes([mode, ...suites]);
    expect(other).toBe('decryption_failed');
    for (const code of others) expect(['decryption_failed', 'invalid_envelope']).toContain(code);
    expect(others[0]).toBe('decryption_failed');
  });

  it('cut or lengthened never opens', async () => {
    const header = [0, 1, 3, 4, 19, 20, 23];
    const parses = 24 + 1_088 + 65 + 16;
    const shorter = [...header, 24, 600, 1_112, 1_177, parses - 1, parses, kept.length - 1];
    const cut = shorter.map((length) => kept.subarray(0, length));
    const outcomes = await batchOutcomes([...cut, Buffer.concat([kept, Buffer.alloc(1)])]);
    expect(outcomes).toEqual([
      ...shorter.map((length) => (length < parses ? 'invalid_envelope' : 'decryption_failed')),
      'decryption_failed',
    ]);
  });

  it('that parses and names the key is answered alike whatever is wrong, but for ids', async () => {
    const wrong: Answer[] = [];
    for (const at of [
      24,
      600,
      1_111,
      1_112,
      1_113,
      1_150,
      1_177,
      kept.length - 17,
      kept.length - 1,
    ]) {
      wrong.push(await unwrapped({ ciphertext: text(flipped(at, 0)) }));
    }
    wrong.push(await unwrapped({ ciphertext: text(kept.subarray(0, -1)) }));
    wrong.push(await unwrapped({ encryptionContext: { tenant: 'b' } }));
    wrong.push(await unwrapped({ encryptionContext: {} }));
    wrong.push(await unwrapped({ aad: b64('y') }));
    wrong.push(await unwrapped({ aad: '' }));
    const bodies = wrong.map((answer) => {
      return JSON.stringify({ ...expectProblem(answer, 'decryption_failed'), requestId: null });
    });
    expect(new Set(bodies).size).toBe(1);
    const heads = wrong.map(({ headers }) =>
      JSON.stringify(
        [...headers].filter(([name]) => !/^(?:twofold-(?:request|audit)-id|date)$/.test(name)),
      ),
    );
    expect(new Set(heads).size).toBe(1);
  });

  it('of another key is key_mismatch', async () => {
    expectProblem(await unwrapped({}, 'other'), 'key_mismatch');
    await refused('key_mismatch', 'POST', '/v1/keys/other/rewrap', { ciphertext, ...BINDING });
  });

  it('is rewrapped only when it opens', () =>
    refused('decryption_failed', 'POST', '/v1/keys/wrapper/rewrap', { ciphertext }));

  it('as text that is not canonical is no envelope', async () => {
    for (const given of [`${ciphertext}=`, ciphertext.slice(4), `TF1.${ciphertext.slice(4)}`, '']) {
      expectProblem(await unwrapped({ ciphertext: given }), 'invalid_envelope');
    }
  });

  it('of a kem key that is none is decryption_failed', async () => {
    const made = await service.request('POST', '/v1/keys/kem/encapsulate', {});
    const { encapsulation, keyVersion } = made.json as {
      encapsulation: string;
      keyVersion: number;
    };
    const bytes = Buffer.from(encapsulation, 'base64');
    const bad = [bytes.subarray(1), Buffer.concat([bytes, bytes]), Buffer.alloc(bytes.length)];
    for (const broken of bad) {
      const body = { encapsulation: broken.toString('base64'), keyVersion };
      await refused('decryption_failed', 'POST', '/v1/keys/kem/decapsulate', body);
    }
  });
});

describe('a signature', () => {
  it('of another key, message, or of no meaning is not valid', async () => {
    const message = b64('m');
    const signed = await service.request('POST', '/v1/keys/signer/sign', { message });
    const signature = String(signed.json['signature']);
    const bytes = Buffer.from(signature, 'base64');
    const cases: readonly (readonly [string, object, boolean])[] = [
      ['signer', { message, signature }, true],
      ['signer-2', { message, signature }, false],
      ['signer', { message: b64('n'), signature }, false],
      ['signer', { message, signature, signatureContext: b64('c') }, false],
      ['signer', { message, signature: '' }, false],
      ['signer', { message, signature: bytes.subarray(0, -1).toString('base64') }, false],
      ['signer', { message, signature: bytes.subarray(1).toString('base64') }, false],
    ];
    for (const [key, body, valid] of cases) {
      const answer = await service.request('POST', `/v1/keys/${key}/verify`, body);
      expect(answer.json).toMatchObject({ valid });
    }
  });
});

describe('a version', () => {
  it('that does not exist', async () => {
    const body = { plaintext: '', keyVersion: 2 };
    await refused('version_not_found', 'POST', '/v1/keys/wrapper/wrap', body);
    await refused('version_not_found', 'GET', '/v1/keys/wrapper/versions/2');
    await refused('version_not_found', 'GET', '/v1/keys/wrapper/public-key?version=2');
    const bytes = Buffer.from(kept);
    bytes.writeUInt32BE(0xffff_ffff, 20);
    expectProblem(await unwrapped({ ciphertext: text(bytes) }), 'version_not_found');
    const reason = { reason: 'x' };
    await refused('version_not_found', 'POST', '/v1/admin/keys/wrapper/versions/2/suspend', reason);
  });

  it('of several, none named', async () => {
    await create({ name: 'rotated', suite: 'HS256' });
    const message = b64('m');
    const made = await service.request('POST', '/v1/keys/rotated/mac', { message });
    await service.request('POST', '/v1/admin/keys/rotated/rotate', {});
    const body = { message, mac: made.json['mac'] };
    await refused('ambiguous_version', 'POST', '/v1/keys/rotated/verify-mac', body);
    const named = { ...body, keyVersion: 1 };
    const answer = await service.request('POST', '/v1/keys/rotated/verify-mac', named);
    expect(answer.json).toMatchObject({ valid: true, keyVersion: 1 });
  });

  it('that is the primary cannot be suspended', () =>
    refused('primary_protected', 'POST', '/v1/admin/keys/wrapper/versions/1/suspend', {
      reason: 'x',
    }));
});

describe('a token', () => {
  const claims = (changes: object = {}) => ({
    iss: NAME.developmentIssuer,
    aud: NAME.audience,
    sub: 'mallory',
    iat: now(),
    nbf: now(),
    exp: now() + 600,
    roles: ['admin'],
    ...changes,
  });
  const withToken = (code: ErrorCode, authorization: string) =>
    refused(code, 'GET', '/v1/whoami', undefined, {
      role: null,
      headers: { Authorization: authorization },
    });
  const issuer = (folder: string, options: { now?: () => Date; create?: boolean } = {}) =>
    DevelopmentIssuer.open({ folder, create: false, ...options });

  it('that is missing', () =>
    refused('token_missing', 'GET', '/v1/whoami', undefined, { role: null }));

  it('that is no bearer token', async () => {
    await withToken('token_invalid', 'Basic dXNlcjpwYXNz');
    await withToken('token_invalid', 'Bearer not-a-token');
  });

  it('that has expired, or is not valid yet', async () => {
    const past = await issuer(service.dataDir, { now: () => new Date(Date.now() - 7_200_000) });
    const expired = await past.issueToken({ roles: ['admin'], ttlSeconds: 600 });
    await withToken('token_expired', `Bearer ${expired.token}`);
    const future = await issuer(service.dataDir, { now: () => new Date(Date.now() + 7_200_000) });
    const early = await future.issueToken({ roles: ['admin'], ttlSeconds: 600 });
    await withToken('token_invalid', `Bearer ${early.token}`);
  });

  it('of another issuer, by name and by key', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'twofold-issuer-'));
    try {
      const foreign = await issuer(folder, { create: true });
      const { token } = await foreign.issueToken({ roles: ['admin'], ttlSeconds: 600 });
      await withToken('token_invalid', `Bearer ${token}`);
      const [head = '', , signature = ''] = token.split('.');
      const header = JSON.parse(Buffer.from(head, 'base64url').toString()) as object;
      const named = craft(header, claims({ iss: 'https://issuer.example' }), signature);
      await withToken('token_invalid', `Bearer ${named}`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('with alg none, with HS256 under the public key, with another algorithm of the key', async () => {
    const { jwks } = await issuer(service.dataDir);
    const [key] = jwks.keys;
    const { kid, pub } = key as { kid: string; pub: string };
    for (const alg of ['none', 'None', 'NONE', '']) {
      for (const signature of ['', 'AA']) {
        const token = craft({ alg, kid, typ: 'JWT' }, claims(), signature);
        await withToken('token_invalid', `Bearer ${token}`);
      }
    }
    const secrets = [
      Buffer.from(pub, 'base64url'),
      Buffer.from(pub),
      Buffer.from(JSON.stringify(key)),
    ];
    for (const secret of secrets) {
      for (const [alg, hash] of [
        ['HS256', 'sha256'],
        ['HS512', 'sha512'],
      ] as const) {
        const unsigned = craft({ alg, kid, typ: 'JWT' }, claims(), '').slice(0, -1);
        const tag = createHmac(hash, secret).update(unsigned).digest('base64url');
        await withToken('token_invalid', `Bearer ${unsigned}.${tag}`);
      }
    }
    const good = await service.token('admin');
    const [, payload = '', signature = ''] = good.split('.');
    for (const alg of ['ML-DSA-44', 'ML-DSA-87', 'ES256', 'EdDSA']) {
      const head = Buffer.from(JSON.stringify({ alg, kid, typ: 'JWT' })).toString('base64url');
      await withToken('token_invalid', `Bearer ${head}.${payload}.${signature}`);
    }
  });

  it('whose payload was changed', async () => {
    const [head = '', , signature = ''] = (await service.token('user')).split('.');
    const payload = Buffer.from(JSON.stringify(claims())).toString('base64url');
    await withToken('token_invalid', `Bearer ${head}.${payload}.${signature}`);
  });

  it('sent twice, or joined by a proxy', async () => {
    const token = await service.token('admin');
    const line = `Authorization: Bearer ${token}`;
    const answer = await raw(
      ['GET /v1/whoami HTTP/1.1', 'Host: x', line, line, '', ''].join('\r\n'),
    );
    expect(answer).toMatchObject({ status: 400, code: 'malformed_request' });
    await withToken('token_invalid', `Bearer ${token}, Bearer ${token}`);
  });
});

describe('permission', () => {
  const wrap = (key: string, role: Role) =>
    service.request('POST', `/v1/keys/${key}/wrap`, { plaintext: '' }, { role });

  it('is checked before existence', async () => {
    expectProblem(await wrap('missing', 'auditor'), 'forbidden');
    expectProblem(await wrap('wrapper', 'auditor'), 'forbidden');
    expectProblem(await wrap('missing', 'none'), 'forbidden');
    expectProblem(await wrap('missing', 'user'), 'key_not_found');
  });

  it('is checked before the body is looked at', async () => {
    const options = { role: 'user', headers: { 'Content-Type': 'application/json' } } as const;
    await refused('forbidden', 'POST', '/v1/admin/keys', Buffer.from('{'), options);
  });
});

describe('a change', () => {
  const idempotent = (key: string, body: object, role: Role = 'admin') =>
    service.request('POST', '/v1/admin/keys', body, { role, headers: { 'Idempotency-Key': key } });

  it('repeated under its idempotency key is answered as before, and makes nothing', async () => {
    const body = { name: 'once', suite: 'A256GCM' };
    const first = await idempotent('k-1', body);
    const again = await idempotent('k-1', body);
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(again.json).toEqual(first.json);
    expect(again.headers.get('twofold-audit-id')).not.toBeNull();
    expectProblem(await idempotent('k-2', body), 'key_exists');
  });

  it('under an idempotency key of other content is a mismatch', async () => {
    expect((await idempotent('k-3', { name: 'three', suite: 'A256GCM' })).status).toBe(201);
    expectProblem(
      await idempotent('k-3', { name: 'four', suite: 'A256GCM' }),
      'idempotency_mismatch',
    );
    await refused('key_not_found', 'GET', '/v1/keys/four');
    const other = await idempotent('k-3', { name: 'four', suite: 'A256GCM' }, 'operator');
    expect(other.status).toBe(201);
  });

  it('of another revision than the one named', async () => {
    const options = (etag: string) => ({ headers: { 'If-Match': etag } });
    const path = '/v1/admin/keys/other';
    const labels = { labels: { a: 'b' } };
    await refused('etag_mismatch', 'PATCH', path, labels, options('"99"'));
    await refused('invalid_value', 'PATCH', path, labels, options('99'));
    const { headers } = await service.request('GET', '/v1/keys/other');
    const changed = await service.request(
      'PATCH',
      path,
      labels,
      options(headers.get('etag') ?? ''),
    );
    expect(changed.json).toMatchObject({ labels: { a: 'b' }, revision: 2 });
    await refused('etag_mismatch', 'PATCH', path, labels, options(headers.get('etag') ?? ''));
  });
});

interface RawAnswer {
  readonly status: number;
  readonly code: string;
  readonly type: string;
}

/** Bytes on a socket of their own, and the first answer to them. */
async function raw(request: string): Promise<RawAnswer> {
  const { hostname, port } = new URL(service.url);
  const socket = connect(Number(port), hostname);
  const chunks: Buffer[] = [];
  socket.setTimeout(10_000, () => socket.destroy());
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.write(request, 'latin1');
  const complete = () => {
    const [head = '', body = ''] = Buffer.concat(chunks).toString('latin1').split('\r\n\r\n');
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? Infinity);
    return body.length >= length ? { head, body } : null;
  };
  await new Promise<void>((resolve) => {
    socket.on('close', () => resolve());
    socket.on('data', () => {
      if (complete() !== null) resolve();
    });
  });
  socket.destroy();
  const { head, body } = complete() ?? { head: '', body: '{}' };
  return {
    status: Number(head.split(' ')[1]),
    code: String((JSON.parse(body) as { code?: string }).code),
    type: /content-type: (\S+)/i.exec(head)?.[1] ?? '',
  };
}

describe('a malformed head', () => {
  it.each([
    ['a request line of nonsense', 'HELLO\r\n\r\n'],
    ['another protocol', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n'],
    ['no such version', 'GET / HTTP/9.9\r\nHost: x\r\n\r\n'],
    ['a header without a name', 'GET / HTTP/1.1\r\nHost: x\r\n: x\r\n\r\n'],
    ['a header with a blank in its name', 'GET / HTTP/1.1\r\nHost: x\r\nA b: x\r\n\r\n'],
    ['a folded header', 'GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n'],
    [
      'two lengths',
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
    ],
    [
      'length and chunks',
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['a negative length', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n'],
    ['control characters', 'GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n'],
    ['no host', 'GET /healthz HTTP/1.1\r\n\r\n'],
  ])('%s: 400 as a problem', async (_name, bytes) => {
    expect(await raw(bytes)).toEqual({
      status: 400,
      code: 'malformed_request',
      type: 'application/problem+json',
    });
  });

  it('of too many bytes: 431 as a problem', async () => {
    const head = `GET / HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(20_000)}\r\n\r\n`;
    expect(await raw(head)).toEqual({
      status: 431,
      code: 'headers_too_large',
      type: 'application/problem+json',
    });
  });
});

describe('after all of this', () => {
  it('the service is ready and each refusal of a principal is in the audit log', async () => {
    const ready = await service.request('GET', '/readyz', undefined, { role: null });
    expect({ status: ready.status, json: ready.json }).toMatchObject({ status: 200 });
    const refusal = await service.request('GET', '/v1/keys/never-made');
    const id = refusal.headers.get('twofold-audit-id') ?? '';
    const entry = await service.request('GET', `/v1/audit/entries/${id}`, undefined, {
      role: 'auditor',
    });
    expect(entry.json).toMatchObject({ outcome: 'key_not_found', operation: 'keys.read' });
  });
});
