import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const b64 = (text: string) => Buffer.from(text).toString('base64');
const OCTETS = { 'content-type': 'application/octet-stream' };

describe('byte bodies', () => {
  let service: Service;
  beforeAll(async () => {
    service = await openService();
    for (const [name, suite] of Object.entries({
      k: 'MLKEM768-P256',
      s: 'MLDSA65-ECDSA-P256-SHA512',
      m: 'HS256',
    })) {
      await service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite } });
    }
  });
  afterAll(() => service.stop());

  const send = (path: string, body: Uint8Array, headers: Record<string, string> = {}) =>
    service.call('user', 'POST', path, {
      body: new Uint8Array(body),
      headers: { ...OCTETS, ...headers },
    });

  it('wrap and unwrap bytes, with the binding in headers', async () => {
    const plaintext = Buffer.from([0, 1, 2, 255]);
    const binding = {
      'twofold-encryption-context': b64('{"tenant":"a"}'),
      'twofold-aad': b64('aad'),
    };
    const wrapped = await send('/v1/keys/k/wrap', plaintext, {
      ...binding,
      'twofold-key-version': '1',
    });
    expect(wrapped.status).toBe(200);
    expect(wrapped.headers.get('content-type')).toBe('application/octet-stream');
    expect(wrapped.headers.get('cache-control')).toBe('no-store');
    expect(wrapped.headers.get('twofold-key')).toBe('k');
    expect(wrapped.headers.get('twofold-key-version')).toBe('1');
    expect(wrapped.headers.get('twofold-suite')).toBe('MLKEM768-P256');
    expect(wrapped.headers.get('twofold-refresh-after')).toBeNull();
    const opened = await send('/v1/keys/k/unwrap', wrapped.bytes, binding);
    expect(opened.bytes).toEqual(plaintext);
    expect(opened.headers.get('twofold-origin')).toBe('service');
    const asJson = await service.call('user', 'POST', '/v1/keys/k/unwrap', {
      json: {
        ciphertext: `tf1.${wrapped.bytes.toString('base64url')}`,
        encryptionContext: { tenant: 'a' },
        aad: b64('aad'),
      },
    });
    expect(asJson.json['plaintext']).toBe(plaintext.toString('base64'));
    const without = await send('/v1/keys/k/unwrap', wrapped.bytes);
    expect(without.json).toMatchObject({ code: 'decryption_failed' });
  });

  it('give and take the text form', async () => {
    const wrapped = await send('/v1/keys/k/wrap', Buffer.from('x'), { accept: 'text/plain' });
    expect(wrapped.text).toMatch(/^tf1\.[A-Za-z0-9_-]+$/);
    expect(wrapped.headers.get('content-type')).toBe('text/plain');
    const headers = { 'content-type': 'text/plain' };
    const opened = await send('/v1/keys/k/unwrap', wrapped.bytes, headers);
    expect(opened.text).toBe('x');
    const moved = await send('/v1/keys/k/rewrap', wrapped.bytes, headers);
    expect(moved.text).toBe(wrapped.text);
    expect(moved.headers.get('twofold-changed')).toBe('false');
    const line = await send('/v1/keys/k/unwrap', Buffer.from(`${wrapped.text}\n`), headers);
    expect(line.json).toMatchObject({ code: 'invalid_envelope' });
  });

  it('give data keys', async () => {
    const accept = { accept: 'application/octet-stream' };
    const json = { bytes: 32 };
    const path = '/v1/keys/k/data-keys';
    const made = await service.call('user', 'POST', path, { json, headers: accept });
    expect(made.bytes).toHaveLength(32);
    const ciphertext = made.headers.get('twofold-ciphertext') ?? '';
    const opened = await service.call('user', 'POST', '/v1/keys/k/unwrap', {
      json: { ciphertext },
    });
    expect(opened.json['plaintext']).toBe(made.bytes.toString('base64'));
    const text = { json, headers: { accept: 'text/plain' } };
    const hidden = await service.call('user', 'POST', `${path}/wrapped`, text);
    expect(hidden.text).toMatch(/^tf1\./);
    expect((await service.call('user', 'POST', path, text)).json['code']).toBe('not_acceptable');
  });

  it('sign, verify and MAC', async () => {
    const message = Buffer.from('a message');
    const context = { 'twofold-signature-context': b64('ctx') };
    const signed = await send('/v1/keys/s/sign', message, context);
    const signature = { 'twofold-signature': signed.bytes.toString('base64') };
    const verified = await send('/v1/keys/s/verify', message, { ...context, ...signature });
    expect(verified.json).toMatchObject({ valid: true, keyVersion: 1 });
    const other = await send('/v1/keys/s/verify', message, signature);
    expect(other.json).toMatchObject({ valid: false });
    const mac = await send('/v1/keys/m/mac', message);
    expect(mac.bytes).toHaveLength(32);
    const json = { message: message.toString('base64'), mac: mac.bytes.toString('base64') };
    const checked = await service.call('user', 'POST', '/v1/keys/m/verify-mac', { json });
    expect(checked.json).toMatchObject({ valid: true });
    const random = await service.call('user', 'POST', '/v1/random', {
      json: { bytes: 7 },
      headers: { accept: 'application/octet-stream' },
    });
    expect(random.bytes).toHaveLength(7);
  });

  it('an empty message can be signed', async () => {
    const json = { message: '' };
    const signed = await service.call('user', 'POST', '/v1/keys/s/sign', { json });
    const { signature } = signed.json;
    const checked = { json: { message: '', signature } };
    const verified = await service.call('user', 'POST', '/v1/keys/s/verify', checked);
    expect(verified.json).toMatchObject({ valid: true });
  });

  it.each([
    ['invalid_base64', { 'twofold-encryption-context': '{"a":"b"}' }],
    ['malformed_json', { 'twofold-encryption-context': b64('{"a"') }],
    ['malformed_json', { 'twofold-encryption-context': b64('{"a":"b","a":"c"}') }],
    ['invalid_value', { 'twofold-encryption-context': b64('[]') }],
    ['invalid_base64', { 'twofold-aad': 'x' }],
    ['invalid_value', { 'twofold-key-version': '01' }],
    ['invalid_value', { 'twofold-key-version': '4294967296' }],
    ['invalid_value', { 'twofold-kubernetes-uid': '' }],
    ['invalid_value', { 'twofold-kubernetes-uid': 'a password' }],
    ['invalid_value', { 'twofold-kubernetes-uid': '7d3f1c52-8a35-4b0f-9c53-2f6f7a1e2b90 ' + 'x' }],
    ['unknown_parameter', { 'twofold-to': 'k' }],
    ['not_acceptable', { accept: 'image/png' }],
    [
      'not_acceptable',
      { accept: 'application/octet-stream;q=0, text/*;q=0, application/json;q=0' },
    ],
    ['unsupported_media_type', { 'content-type': 'application/octet-stream; charset=latin1' }],
  ])('answer %s to %j', async (code, headers) => {
    const answer = await send('/v1/keys/k/wrap', Buffer.from('x'), headers);
    expect(answer.json).toMatchObject({ code });
  });

  it('the uid of an API server is in the entry of its call', async () => {
    const uid = '7d3f1c52-8a35-4b0f-9c53-2f6f7a1e2b90';
    const named = { 'twofold-kubernetes-uid': uid };
    const wrapped = await send('/v1/keys/k/wrap', Buffer.from('x'), named);
    await send('/v1/keys/k/unwrap', wrapped.bytes, named);
    await send('/v1/keys/k/unwrap', wrapped.bytes);
    expect(service.drafts.slice(-3).map(({ operation, detail }) => [operation, detail])).toEqual([
      ['wrap', { uid }],
      ['unwrap', { uid }],
      ['unwrap', {}],
    ]);
  });

  it('member headers beside JSON are refused, not dropped', async () => {
    const answer = await service.call('user', 'POST', '/v1/keys/k/wrap', {
      json: { plaintext: '' },
      headers: { 'twofold-aad': b64('x') },
    });
    expect(answer).toMatchObject({ status: 400, json: { code: 'unknown_parameter' } });
  });

  it.each([
    ['*/*', 'application/octet-stream'],
    ['application/json', 'application/json'],
    ['application/*;q=0.1, text/plain', 'text/plain'],
    ['text/plain;q=0.1, application/json;q=0.2', 'application/json'],
    ['text/plain;q=0, */*', 'application/octet-stream'],
  ])('Accept: %s gives %s', async (accept, type) => {
    const answer = await send('/v1/keys/k/wrap', Buffer.from('x'), { accept });
    expect(answer.headers.get('content-type')).toBe(type);
  });
});
