/**
 * Promise P1: nothing secret is in the database, a log, an error, a metric or an audit entry. A marker
 * goes through every route that takes a secret, whole and broken at every byte, as JSON and as bytes,
 * and as the token of every route; then everything that the service left behind is searched for it.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ROUTES } from '../../src/contract/routes.ts';
import { TestService } from '../e2e/service.ts';

/** 12 bytes, a multiple of three, so that its base64 repeats with it. */
const WORD = 'mArK3rW0rd7x';
const MARKER = Buffer.from(WORD.repeat(4));

/** The word in every form in which it could stand somewhere, at every alignment. */
const FORMS: readonly Buffer[] = (['latin1', 'hex', 'base64', 'base64url'] as const).flatMap(
  (form) =>
    [0, 1, 2].map((shift) => {
      const text = Buffer.concat([Buffer.alloc(shift), MARKER]).toString(form);
      const length = Buffer.from(WORD).toString(form).length;
      const start = form === 'hex' ? shift * 2 : form === 'latin1' ? shift : 4;
      return Buffer.from(text.slice(start, start + length));
    }),
);
const holds = (bytes: Buffer) => FORMS.some((form) => bytes.includes(form));

/** A file's bytes; none where the running service has removed or renamed it since it was listed. */
function bytesIfThere(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}

const message = MARKER.toString('base64');
const payload = MARKER.toString('base64url');
/** A valid body for each route that takes a secret. */
const BODIES: Readonly<Record<string, readonly [path: string, body: object]>> = {
  wrap: ['/v1/keys/w/wrap', { plaintext: message, aad: 'AAAA' }],
  wrapBatch: ['/v1/keys/w/wrap/batch', { items: [{ ref: 'a', plaintext: message }] }],
  sign: ['/v1/keys/s/sign', { message }],
  signBatch: ['/v1/keys/s/sign/batch', { items: [{ message }] }],
  verify: ['/v1/keys/s/verify', { message, signature: 'AAAA' }],
  verifyBatch: ['/v1/keys/s/verify/batch', { items: [{ message, signature: 'AAAA' }] }],
  signParallel: ['/v1/sign-parallel', { keys: [{ key: 's' }, { key: 's2' }], message }],
  mac: ['/v1/keys/m/mac', { message }],
  macBatch: ['/v1/keys/m/mac/batch', { items: [{ message }] }],
  verifyMac: ['/v1/keys/m/verify-mac', { message: 'AAAA', mac: message }],
  verifyMacBatch: ['/v1/keys/m/verify-mac/batch', { items: [{ message, mac: message }] }],
};

/** A JWS holds what it signs, for whoever is given it. */
const SHOWS_PAYLOAD = '/v1/sign-parallel';

/** Bodies whose bindings hold the marker: not secret, and yet in clear nowhere but in memory. */
const bound = { encryptionContext: { tenant: WORD.repeat(2) }, aad: message };

const takesSecret = (json: string) => /"x-sensitive":true/.test(json);

describe('P1: a marker leaves no trace', () => {
  let service: TestService;
  let metricsUrl: string;
  const leaks: string[] = [];
  let sent = 0;

  beforeAll(async () => {
    service = await TestService.start({ environment: { TWOFOLD_LOG_LEVEL: 'trace' } });
    metricsUrl = /^metrics +(\S+)$/mu.exec(service.output)?.[1] ?? '';
    for (const [name, suite] of Object.entries({
      w: 'MLKEM768-P256',
      s: 'MLDSA65-ECDSA-P256-SHA512',
      s2: 'MLDSA65-ECDSA-P256-SHA512',
      m: 'HS256',
    })) {
      expect((await service.request('POST', '/v1/admin/keys', { name, suite })).status).toBe(201);
    }
  }, 90_000);
  afterAll(() => service.destroy());

  const send = async (path: string, init: RequestInit): Promise<void> => {
    const response = await fetch(new URL(path, service.url), init);
    const head = Buffer.from(JSON.stringify([...response.headers]));
    const body = Buffer.from(await response.arrayBuffer());
    sent += 1;
    const isMeant = path === SHOWS_PAYLOAD && response.status === 200;
    if (holds(head) || (holds(body) && !isMeant)) leaks.push(`${path}: ${String(response.status)}`);
  };

  /** Sends many, a few at a time. */
  const sendAll = async (requests: readonly (readonly [string, RequestInit])[]): Promise<void> => {
    const queue = requests.values();
    const work = async () => {
      for (const [path, init] of queue) await send(path, init);
    };
    await Promise.all([work(), work(), work(), work()]);
  };

  const headers = async (type: string) => ({
    authorization: `Bearer ${await service.token('user')}`,
    'content-type': type,
  });

  it('finds the marker where it is', () => {
    for (const text of [WORD, Buffer.from(`x${WORD}${WORD}`).toString('base64'), message]) {
      expect(holds(Buffer.from(text))).toBe(true);
    }
    expect(holds(Buffer.from(MARKER.toString('hex')))).toBe(true);
    expect(holds(Buffer.from('something else'))).toBe(false);
  });

  it('knows every route that takes a secret', async () => {
    const { z } = await import('zod');
    const secret = ROUTES.filter(({ body }) => {
      if (body === null) return false;
      const schema = z.toJSONSchema(body, { io: 'input', unrepresentable: 'any' });
      return takesSecret(JSON.stringify(schema));
    });
    expect(secret.map(({ id }) => id).toSorted()).toEqual(Object.keys(BODIES).toSorted());
  });

  it.each(Object.keys(BODIES))('%s: whole, and broken at every byte', async (id) => {
    const [path, body] = BODIES[id] ?? ['', {}];
    const whole = Buffer.from(JSON.stringify(body));
    const init = { method: 'POST', headers: await headers('application/json') };
    const broken = Array.from(whole, (_, at) => {
      const bytes = Buffer.from(whole);
      // A quote breaks the structure, a cut the end, a mark the encoding, a letter the value.
      const kind = at % 4;
      if (kind !== 1) bytes[at] = [0x22, 0, 0x21, 0x41][kind] ?? 0;
      return [path, { ...init, body: kind === 1 ? bytes.subarray(0, at) : bytes }] as const;
    });
    await sendAll([[path, { ...init, body: whole }], ...broken]);
    expect(leaks).toEqual([]);
  });

  it('as bytes, as the wrong media type, as a name, and as the token of every route', async () => {
    const octets = await headers('application/octet-stream');
    const text = await headers('text/plain');
    const json = await headers('application/json');
    const named = JSON.stringify({ [WORD]: message });
    const requests: (readonly [string, RequestInit])[] = Object.values(BODIES).flatMap(([path]) => [
      [path, { method: 'POST', headers: octets, body: MARKER }],
      [path, { method: 'POST', headers: text, body: MARKER }],
      [path, { method: 'POST', headers: json, body: MARKER }],
      [path, { method: 'POST', headers: json, body: named }],
    ]);
    const tokens = ROUTES.flatMap(({ method, path }) =>
      [`Bearer ${message}`, `Basic ${message}`, WORD].map((authorization) => {
        const place = path.replaceAll(/\{\w+\}/g, '1');
        return [place, { method, headers: { authorization } }] as const;
      }),
    );
    await sendAll([...requests, ...tokens]);
    expect(leaks).toEqual([]);
    expect(sent).toBeGreaterThan(1000);
  }, 60_000);

  it('as context and associated data, whole and broken, in bodies and in headers', async () => {
    const wrapped = await service.request('POST', '/v1/keys/w/wrap', {
      plaintext: 'AAAA',
      ...bound,
    });
    expect(wrapped.status).toBe(200);
    const { ciphertext } = wrapped.json;
    const json = await headers('application/json');
    const bodies: readonly (readonly [string, object])[] = [
      ['/v1/keys/w/wrap', { ...bound, plaintext: 'AAAA' }],
      ['/v1/keys/w/unwrap', { ...bound, ciphertext }],
      ['/v1/keys/w/rewrap', { ...bound, ciphertext }],
      ['/v1/keys/w/unwrap/batch', { items: [{ ...bound, ciphertext }, { ciphertext }] }],
      ['/v1/keys/w/data-keys/wrapped', { ...bound, bytes: 32 }],
      ['/v1/keys/s/sign', { signatureContext: message, message: 'AAAA' }],
      ['/v1/keys/s/verify', { jws: `eyJhbGciOiJNTC1EU0EtNjUtRVMyNTYifQ.${payload}.AAAA` }],
      ['/v1/keys/s/verify/batch', { items: [{ jws: `${payload}.${payload}.${payload}` }] }],
      ['/v1/keys/s/csr', { subject: [{ CN: WORD }], alternativeNames: [{ dns: WORD }, {}] }],
      ['/v1/keys/w/decapsulate', { encapsulation: message, keyVersion: 1 }],
    ];
    const inBodies = bodies.flatMap(([path, body]) => {
      const whole = Buffer.from(JSON.stringify(body));
      const init = { method: 'POST', headers: json };
      // The binding stands first; every byte of it, and of what follows some.
      const places = Array.from({ length: Math.min(whole.length, 160) }, (_, at) => at);
      const broken = places.map((at) => {
        const bytes = Buffer.from(whole);
        bytes[at] = [0x22, 0, 0x21, 0x41][at % 4] ?? 0;
        return [path, { ...init, body: bytes }] as const;
      });
      return [[path, { ...init, body: whole }] as const, ...broken];
    });
    const job = await service.request('POST', '/v1/admin/keys/w/rewrap-jobs', {}, { role: 'user' });
    const items = `/v1/admin/operations/${String(job.json['id'])}/items?offset=0`;
    const line = Buffer.from(`${JSON.stringify({ ...bound, ciphertext })}\n`);
    const lines = await headers('application/x-ndjson');
    const inLines = Array.from({ length: 160 }, (_, at) => {
      const bytes = Buffer.from(line);
      bytes[at] = [0x22, 0, 0x21, 0x41][at % 4] ?? 0;
      return [items, { method: 'POST', headers: lines, body: bytes }] as const;
    });
    const named = Buffer.from(`{"plaintext":"${message}","${WORD}":1}\n`);
    const misplaced = [items, { method: 'POST', headers: lines, body: named }] as const;
    await sendAll([[items, { method: 'POST', headers: lines, body: line }], ...inLines, misplaced]);
    const octets = await headers('application/octet-stream');
    const context = Buffer.from(JSON.stringify(bound.encryptionContext)).toString('base64');
    const given = { 'twofold-encryption-context': context, 'twofold-aad': message };
    const inHeaders = Object.entries(given).flatMap(([name, value]) =>
      Array.from(value, (_, at) => {
        const broken =
          at % 2 === 0 ? value.slice(0, at) : `${value.slice(0, at)}!${value.slice(at)}`;
        const init = { method: 'POST', headers: { ...octets, ...given, [name]: broken } };
        return ['/v1/keys/w/wrap', { ...init, body: MARKER }] as const;
      }),
    );
    await sendAll([...inBodies, ...inHeaders]);
    expect(leaks).toEqual([]);
  }, 120_000);

  it('comes back from unwrap alone', async () => {
    const wrapped = await service.request('POST', '/v1/keys/w/wrap', { plaintext: message });
    const { ciphertext } = wrapped.json;
    const opened = await service.request('POST', '/v1/keys/w/unwrap', { ciphertext });
    expect(opened.json['plaintext']).toBe(message);
    expect(holds(opened.bytes)).toBe(true);
  });

  it('is in no metric, status page or process argument', async () => {
    const metrics = await fetch(metricsUrl);
    const shown = Buffer.from(await metrics.arrayBuffer());
    expect(metrics.status).toBe(200);
    for (const name of ['twofold_http_request_seconds', 'twofold_ready']) {
      expect(shown.includes(name)).toBe(true);
    }
    expect(holds(shown)).toBe(false);
    for (const accept of ['text/html', 'application/json']) {
      const status = await fetch(new URL('/', metricsUrl), { headers: { accept } });
      const said = Buffer.from(await status.arrayBuffer());
      expect([status.status, said.includes('non-extractable'), holds(said)]).toEqual([
        200,
        true,
        false,
      ]);
    }
    const place = `/proc/${String(service.pid)}`;
    expect(holds(readFileSync(`${place}/cmdline`))).toBe(false);
    expect(holds(readFileSync(`${place}/environ`))).toBe(false);
    expect(leaks).toEqual([]);
  });

  it('is in no file of the data folder: logs, database and its journal, token', () => {
    expect(holds(Buffer.from(service.output))).toBe(false);
    const files = readdirSync(service.dataDir, { recursive: true, withFileTypes: true }).filter(
      (entry) => entry.isFile(),
    );
    const held = files
      .map(({ parentPath, name }) => join(parentPath, name))
      .filter((path) => holds(bytesIfThere(path)));
    expect(held).toEqual([]);
    expect(files.length).toBeGreaterThan(100);
    expect(service.log.includes('malformed_json')).toBe(true);
    expect(service.log.includes('invalid_base64')).toBe(true);
  });
});
