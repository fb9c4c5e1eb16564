import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SIGNATURE_LENGTHS } from '../../src/crypto/engine.ts';
import { ERRORS } from '../../src/errors.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { openService } from './service.ts';
import type { CallInit, Service } from './service.ts';

const b64 = (text: string) => Buffer.from(text).toString('base64');
const JSON_HEAD = { 'content-type': 'application/json' };

describe('bad input', () => {
  let service: Service;
  let ciphertext: string;
  let kept: Buffer;

  beforeAll(async () => {
    service = await openService({ lacks: ['x25519'] });
    const keys = [
      { name: 'k', suite: 'MLKEM768-P256' },
      { name: 'other', suite: 'MLKEM768-P256' },
      { name: 's', suite: 'MLDSA65-ECDSA-P256-SHA512' },
      { name: 's2', suite: 'MLDSA65-ECDSA-P256-SHA512' },
      { name: 'kem', suite: 'MLKEM768-P256', purpose: 'kem' },
    ];
    for (const json of keys) {
      expect((await service.call('admin', 'POST', '/v1/admin/keys', { json })).status).toBe(201);
    }
    const json = { plaintext: b64('data key'), encryptionContext: { t: 'a' } };
    const wrapped = await service.call('user', 'POST', '/v1/keys/k/wrap', { json });
    ciphertext = wrapped.json['ciphertext'] as string;
    kept = Buffer.from(ciphertext.slice(4), 'base64url');
  });
  afterAll(() => service.stop());

  const refused = async (code: ErrorCode, method: string, path: string, init: CallInit = {}) => {
    const answer = await service.call('admin', method, path, init);
    expect({ status: answer.status, code: answer.json['code'] }).toEqual({
      status: ERRORS[code].status,
      code,
    });
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
    expect(answer.json).toMatchObject({
      type: `urn:twofold:problem:${code}`,
      title: ERRORS[code].title,
      requestId: answer.headers.get('twofold-request-id'),
    });
    return answer.json;
  };
  const wrap = (code: ErrorCode, json: unknown) =>
    refused(code, 'POST', '/v1/keys/k/wrap', { json });
  const text = (bytes: Uint8Array) => `tf1.${Buffer.from(bytes).toString('base64url')}`;
  const unwrap = (code: ErrorCode, bytes: Uint8Array | string, more: object = {}) =>
    refused(code, 'POST', '/v1/keys/k/unwrap', {
      json: { ciphertext: typeof bytes === 'string' ? bytes : text(bytes), ...more },
    });

  describe('of JSON', () => {
    it.each<[string, ErrorCode, string | Uint8Array<ArrayBuffer>]>([
      ['not JSON', 'malformed_json', '{"plaintext"'],
      ['two names', 'malformed_json', '{"plaintext":"","plaintext":""}'],
      ['invalid UTF-8', 'malformed_json', Uint8Array.of(0x22, 0xff, 0x22)],
      ['deep nesting', 'malformed_json', '['.repeat(1000)],
      ['__proto__', 'unknown_field', '{"plaintext":"","__proto__":{}}'],
      ['constructor', 'unknown_field', '{"plaintext":"","constructor":{}}'],
      ['an array', 'invalid_value', '[]'],
      ['null', 'invalid_value', 'null'],
      ['a string', 'invalid_value', '"x"'],
    ])('%s', async (_name, code, body) => {
      await refused(code, 'POST', '/v1/keys/k/wrap', { body, headers: JSON_HEAD });
    });

    it('an absent body is the empty object', async () => {
      const { errors } = await refused('invalid_value', 'POST', '/v1/keys/k/wrap');
      expect(errors).toMatchObject([{ path: '/plaintext', code: 'invalid_value' }]);
    });

    it('a body where none is taken', async () => {
      await refused('unsupported_media_type', 'POST', '/v1/keys/k/wrap', { body: '{}' });
    });
  });

  describe('of fields', () => {
    it('unknown ones, with the known ones named and theirs not repeated', async () => {
      const problem = await wrap('unknown_field', { plaintext: '', plainText: 'x' });
      expect(problem['errors']).toMatchObject([{ path: '', code: 'unknown_field' }]);
      expect(JSON.stringify(problem)).toContain('has only: plaintext, encryptionContext, aad');
      expect(JSON.stringify(problem)).not.toContain('plainText');
    });

    it('unknown ones deep in a batch', async () => {
      const json = { items: [{ plaintext: '' }, { plaintext: '', x: 1 }] };
      const problem = await refused('unknown_field', 'POST', '/v1/keys/k/wrap/batch', { json });
      expect(problem['errors']).toMatchObject([{ path: '/items/1' }]);
    });

    it.each([
      ['without padding', 'AAE'],
      ['url alphabet', 'AA-_'],
      ['line breaks', 'AAAA\nAAAA'],
      ['unused bits', 'AAF='],
    ])('base64 %s, and says how to make it', async (_name, plaintext) => {
      const problem = await wrap('invalid_base64', { plaintext });
      expect(problem['detail']).toContain('base64 -w0');
    });

    it('aad that is no base64', () => wrap('invalid_base64', { plaintext: '', aad: '!' }));

    it('a plaintext over 64 KiB', () =>
      wrap('invalid_value', { plaintext: Buffer.alloc(65_537).toString('base64') }));

    it.each([0, -1, 1.5, '1', 4_294_967_296])('key version %p', (keyVersion) =>
      wrap('invalid_value', { plaintext: '', keyVersion }),
    );

    it('a version that does not exist', () =>
      wrap('version_not_found', { plaintext: '', keyVersion: 9 }));

    it('names that another could give are not repeated', async () => {
      const encryptionContext = { 'my secret name': 7 };
      const problem = await wrap('invalid_value', { plaintext: '', encryptionContext });
      expect(problem['errors']).toMatchObject([{ path: '/encryptionContext' }]);
      expect(JSON.stringify(problem)).not.toContain('my secret name');
      const json = { name: 'x', suite: 'A256GCM', labels: { 'my secret label!': 'x' } };
      const labels = await refused('invalid_value', 'POST', '/v1/admin/keys', { json });
      expect(JSON.stringify(labels)).not.toContain('my secret label');
    });
  });

  describe('of ciphertexts', () => {
    it('not the text form', () => unwrap('invalid_envelope', 'AAAA'));
    it('not canonical', () => unwrap('invalid_envelope', `${ciphertext}=`));
    it('empty', () => unwrap('invalid_envelope', 'tf1.'));
    it('truncated to its header', () => unwrap('invalid_envelope', kept.subarray(0, 30)));
    it('of another envelope version', () =>
      unwrap('unsupported_envelope_version', Buffer.concat([Buffer.from([2]), kept.subarray(1)])));
    it('of an unknown suite', () => {
      const bytes = Buffer.from(kept);
      bytes.writeUInt16BE(0x01ff, 2);
      return unwrap('unknown_suite', bytes);
    });
    it('of another key', async () => {
      const json = { ciphertext, encryptionContext: { t: 'a' } };
      await refused('key_mismatch', 'POST', '/v1/keys/other/unwrap', { json });
    });
    it('of a version that does not exist', async () => {
      const bytes = Buffer.from(kept);
      bytes.writeUInt32BE(7, 20);
      await unwrap('version_not_found', bytes);
    });

    it('that do not open are answered alike but for ids', async () => {
      const flipped = (at: number) => {
        const bytes = Buffer.from(kept);
        bytes[at] = (bytes[at] ?? 0) ^ 1;
        return bytes;
      };
      const right = { encryptionContext: { t: 'a' } };
      const problems = [
        await unwrap('decryption_failed', kept, { encryptionContext: { t: 'b' } }),
        await unwrap('decryption_failed', kept),
        await unwrap('decryption_failed', flipped(40), right),
        await unwrap('decryption_failed', flipped(kept.length - 1), right),
        await unwrap('decryption_failed', kept.subarray(0, -1), right),
        await unwrap('decryption_failed', kept, { ...right, aad: b64('x') }),
      ];
      const bodies = new Set(
        problems.map((problem) => JSON.stringify({ ...problem, requestId: 0 })),
      );
      expect(bodies.size).toBe(1);
    });
  });

  describe('of signatures', () => {
    it('another key’s signature is not valid, and neither is none', async () => {
      const message = b64('m');
      const signed = await service.call('user', 'POST', '/v1/keys/s/sign', { json: { message } });
      const { signature } = signed.json;
      for (const [key, given, valid] of [
        ['s', signature, true],
        ['s2', signature, false],
        ['s', '', false],
        ['s', b64('x'.repeat(3000)), false],
      ] as const) {
        const json = { message, signature: given };
        const answer = await service.call('user', 'POST', `/v1/keys/${key}/verify`, { json });
        expect(answer.json).toMatchObject({ valid });
      }
    });

    it('bytes after it, halves of another, and other encodings of its numbers are not valid', async () => {
      const sign = async (text: string) => {
        const json = { message: b64(text) };
        const answer = await service.call('user', 'POST', '/v1/keys/s/sign', { json });
        return Buffer.from(answer.json['signature'] as string, 'base64');
      };
      const split = SIGNATURE_LENGTHS['ML-DSA-65'].signature;
      // r and s as INTEGERs: a signature whose r begins with a zero byte, which its sign needs. The HSM of
      // these tests signs a message always alike.
      let message = 'm';
      let mine = await sign(message);
      while (mine[split + 4] !== 0) {
        message += 'm';
        mine = await sign(message);
      }
      const other = await sign('n');
      const [pq, der] = [mine.subarray(0, split), mine.subarray(split)];
      const [body, rLength] = [der.subarray(2), der[3] ?? 0];
      const negative = [...body.subarray(0, 1), rLength - 1, ...body.subarray(3)];
      const padded = [...body.subarray(0, 1), rLength + 1, 0, ...body.subarray(2)];
      const cases: readonly (readonly [string, boolean, Uint8Array])[] = [
        ['itself', true, mine],
        ['a byte after it', false, Buffer.of(...mine, 0)],
        ['a byte too few', false, mine.subarray(0, -1)],
        ['a byte between the halves', false, Buffer.of(...pq, 0, ...der)],
        ['the other’s classical half', false, Buffer.of(...pq, ...other.subarray(split))],
        ['the other’s ML-DSA half', false, Buffer.of(...other.subarray(0, split), ...der)],
        ['the halves in the other order', false, Buffer.of(...der, ...pq)],
        ['ML-DSA alone', false, pq],
        ['ECDSA alone', false, der],
        ['a long length', false, Buffer.of(...pq, 0x30, 0x81, body.length, ...body)],
        ['an indefinite length', false, Buffer.of(...pq, 0x30, 0x80, ...body, 0, 0)],
        ['a negative r', false, Buffer.of(...pq, 0x30, negative.length, ...negative)],
        ['a zero too many', false, Buffer.of(...pq, 0x30, padded.length, ...padded)],
      ];
      for (const [what, valid, signature] of cases) {
        const json = {
          message: b64(message),
          signature: Buffer.from(signature).toString('base64'),
        };
        const answer = await service.call('user', 'POST', '/v1/keys/s/verify', { json });
        expect([what, answer.status, answer.json['valid']]).toEqual([what, 200, valid]);
      }
    });

    it('neither or both of message and digest', async () => {
      const digest = { algorithm: 'SHA-512', value: Buffer.alloc(64).toString('base64') };
      for (const json of [{}, { message: '', digest }]) {
        await refused('invalid_value', 'POST', '/v1/keys/s/sign', { json });
      }
    });

    it.each([
      ['an unknown algorithm', { algorithm: 'MD5', value: b64('x'.repeat(64)) }],
      ['a wrong length', { algorithm: 'SHA-512', value: b64('x'.repeat(32)) }],
      ['one that the suite does not take', { algorithm: 'SHA-256', value: b64('x'.repeat(32)) }],
    ])('a digest of %s', (_name, digest) =>
      refused('invalid_value', 'POST', '/v1/keys/s/sign', { json: { digest } }),
    );

    it('a context over 255 bytes', () =>
      refused('invalid_value', 'POST', '/v1/keys/s/sign', {
        json: { message: '', signatureContext: b64('x'.repeat(256)) },
      }));

    it('several usable versions and none named', async () => {
      const message = b64('m');
      const signed = await service.call('user', 'POST', '/v1/keys/s2/sign', { json: { message } });
      await service.call('admin', 'POST', '/v1/admin/keys/s2/rotate');
      const { signature } = signed.json;
      const json = { message, signature };
      await refused('ambiguous_version', 'POST', '/v1/keys/s2/verify', { json });
      const named = { json: { ...json, keyVersion: 1 } };
      const verified = await service.call('user', 'POST', '/v1/keys/s2/verify', named);
      expect(verified.json).toMatchObject({ valid: true, keyVersion: 1 });
    });
  });

  describe('of keys', () => {
    it.each([
      '',
      'UPPER',
      '-a',
      'a b',
      'a'.repeat(129),
      '9f0e6d52-2b0f-4f3e-8f6e-0a1b2c3d4e5f',
      '9f0e6d522b0f4f3e8f6e0a1b2c3d4e5f',
    ])('the name %j', (name) =>
      refused('invalid_value', 'POST', '/v1/admin/keys', { json: { name, suite: 'A256GCM' } }),
    );

    it('a name that is taken', () =>
      refused('key_exists', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'A256GCM' } }));
    it('an unknown suite', () =>
      refused('unknown_suite', 'POST', '/v1/admin/keys', { json: { name: 'x', suite: 'AES' } }));
    it('an unknown suite as a filter', () => refused('unknown_suite', 'GET', '/v1/keys?suite=x'));
    it('no suite', () =>
      refused('invalid_value', 'POST', '/v1/admin/keys', { json: { name: 'x' } }));
    it('a suite that this token cannot serve', async () => {
      const json = { name: 'x', suite: 'MLKEM768-X25519', custody: 'hsm-token' };
      await refused('suite_unavailable_here', 'POST', '/v1/admin/keys', { json });
      const { json: suite } = await service.call('user', 'GET', '/v1/suites/MLKEM768-X25519');
      expect(suite).toMatchObject({
        available: false,
        unavailableReason: 'The token lacks x25519.',
      });
    });
    it('a purpose that the suite does not serve', () =>
      refused('wrong_purpose', 'POST', '/v1/admin/keys', {
        json: { name: 'x', suite: 'A256GCM', purpose: 'sign' },
      }));
    it('a use that is not the purpose', async () => {
      await refused('wrong_purpose', 'POST', '/v1/keys/k/encapsulate');
      await refused('wrong_purpose', 'POST', '/v1/keys/kem/wrap', { json: { plaintext: '' } });
    });
    it('a reason with control characters, or none', async () => {
      for (const json of [{ reason: 'a\u0000b' }, { reason: '' }, {}]) {
        await refused('invalid_value', 'POST', '/v1/admin/keys/k/suspend', { json });
      }
    });
    it('the primary version suspended', () =>
      refused('primary_protected', 'POST', '/v1/admin/keys/k/versions/1/suspend', {
        json: { reason: 'x' },
      }));
    it('a version that is none', async () => {
      await refused('invalid_value', 'GET', '/v1/keys/k/versions/x');
      await refused('invalid_value', 'GET', '/v1/keys/k/versions/0');
      await refused('version_not_found', 'GET', '/v1/keys/k/versions/9');
      await refused('version_not_found', 'GET', '/v1/keys/k/public-key?version=9');
    });
  });

  describe('of batches', () => {
    it('too many items, before any is looked at', () =>
      refused('batch_too_large', 'POST', '/v1/keys/k/wrap/batch', {
        json: { items: Array.from({ length: 1001 }, () => 7) },
      }));
    it.each<[ErrorCode, string, object]>([
      ['invalid_base64', 'wrap', { plaintext: 'AAE' }],
      ['invalid_base64', 'wrap', { plaintext: '', aad: '!' }],
      ['invalid_value', 'wrap', {}],
    ])('a malformed item, %s of %s: the request as a whole', async (code, operation, item) => {
      const json = { items: [{ plaintext: 'AAAA' }, item, { plaintext: 'AAAA' }] };
      const { detail } = await refused(code, 'POST', `/v1/keys/k/${operation}/batch`, { json });
      expect(detail).toContain('/items/1/');
    });
    it('no items', () =>
      refused('invalid_value', 'POST', '/v1/keys/k/wrap/batch', { json: { items: [] } }));
    it('more context names than an audit entry holds', () => {
      const item = (index: number) => ({
        plaintext: '',
        encryptionContext: { [`${index}-${'n'.repeat(3000)}`]: '' },
      });
      const json = { items: Array.from({ length: 100 }, (_, index) => item(index)) };
      return refused('batch_too_large', 'POST', '/v1/keys/k/wrap/batch', { json });
    });
    it('an unknown key, a wrong purpose: the request as a whole', async () => {
      const json = { items: [{ plaintext: '' }, { plaintext: '' }] };
      await refused('key_not_found', 'POST', '/v1/keys/none/wrap/batch', { json });
      await refused('wrong_purpose', 'POST', '/v1/keys/s/wrap/batch', { json });
    });
    it('two keys to rewrap to', () =>
      refused('invalid_value', 'POST', '/v1/keys/k/rewrap/batch', {
        json: { items: ['other', 's'].map((to) => ({ ciphertext, to })) },
      }));
  });

  describe('of sizes', () => {
    it('a body over 1 MiB, announced', () =>
      refused('body_too_large', 'POST', '/v1/keys/s/sign', {
        body: Buffer.alloc(1_048_577, 0x20),
        headers: JSON_HEAD,
      }));
    it('an octet-stream over 1 MiB', () =>
      refused('body_too_large', 'POST', '/v1/keys/s/sign', {
        body: Buffer.alloc(1_048_577),
        headers: { 'content-type': 'application/octet-stream' },
      }));
  });

  it('nothing of what was sent comes back', async () => {
    const marker = randomBytes(12).toString('hex');
    const tries: [string, string, CallInit][] = [
      ['POST', '/v1/keys/k/wrap', { json: { plaintext: `${marker}!` } }],
      ['POST', '/v1/keys/k/wrap', { json: { [marker]: marker } }],
      ['POST', '/v1/keys/k/wrap', { body: marker, headers: JSON_HEAD }],
      ['POST', '/v1/keys/k/wrap', { json: { plaintext: '', encryptionContext: { [marker]: 1 } } }],
      ['POST', '/v1/keys/k/unwrap', { json: { ciphertext: marker } }],
      ['POST', '/v1/keys/k/unwrap', { json: { ciphertext: `tf1.${marker}` } }],
      ['POST', `/v1/keys/${marker}%20/wrap`, { json: { plaintext: '' } }],
      ['GET', `/v1/keys?${marker}=${marker}`, {}],
      ['GET', `/v1/keys?state=${marker}`, {}],
      ['GET', `/v1/keys?label.${marker}!=${marker}`, {}],
      ['GET', `/v1/keys?suite=${marker}`, {}],
      ['GET', `/v1/keys?pageToken=${marker}`, {}],
      ['GET', `/v1/${marker}`, {}],
      ['GET', '/v1/keys/k', { headers: { [`twofold-${marker}`]: marker } }],
      ['GET', '/v1/keys/k', { headers: { 'twofold-namespace': `${marker}!` } }],
      ['GET', '/v1/whoami', { headers: { accept: `${marker}/x` } }],
      ['POST', '/v1/keys/k/wrap', { body: 'x', headers: { 'content-type': `${marker}/x` } }],
      ['POST', '/v1/admin/keys', { json: { name: 'x', suite: marker } }],
      ['POST', '/v1/admin/keys', { json: { name: `${marker}!`, suite: 'A256GCM' } }],
      ['GET', `/v1/suites/${marker}`, {}],
      ['GET', `/v1/audit/entries/${marker}`, {}],
      ['PATCH', '/v1/admin/keys/k', { json: {}, headers: { 'if-match': marker } }],
    ];
    for (const [method, path, init] of tries) {
      const answer = await service.call('admin', method, path, init);
      expect({ path, ok: answer.status >= 400 }).toEqual({ path, ok: true });
      expect({ path, leaks: answer.text.includes(marker) }).toEqual({ path, leaks: false });
      expect(JSON.stringify([...answer.headers])).not.toContain(marker);
    }
  });
});
