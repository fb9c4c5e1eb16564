import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { calculateJwkThumbprint } from 'jose';
import type { JWK } from 'jose';
import type { KeySetChange } from '../../src/access/issuers.ts';
import { MAX_KEY_SET_BYTES } from '../../src/access/jwk-set.ts';
import { TwofoldError } from '../../src/errors.ts';
import { ISSUER, authenticator, codeOf, makeKey, settings, shown, sign } from './issuer-fixture.ts';
import type { TestKey } from './issuer-fixture.ts';

let first: TestKey;
let second: TestKey;
beforeAll(async () => {
  [first, second] = await Promise.all([makeKey('ES256', 'first'), makeKey('ES256', 'second')]);
});

const jwks = (...keys: readonly JWK[]): string => JSON.stringify({ keys });
const minutes = (count: number): number => count * 60_000;

let clock: { now: number };
let failures: unknown[];
beforeEach(() => {
  clock = { now: 0 };
  failures = [];
});

const options = () => ({
  monotonic: () => clock.now,
  onFailure: (_issuer: string, error: unknown) => failures.push(error),
});

describe('keys from a file', () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'issuer-'));
    path = join(folder, 'jwks.json');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const replace = (text: string) => {
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
  };
  const open = async () => {
    const source = { jwks: undefined, jwksFile: path };
    const opened = await authenticator([settings([], ['ES256'], source)], options());
    return async (key: TestKey) => codeOf(opened.authenticate(shown(`Bearer ${await sign(key)}`)));
  };

  it('are read again when the file was replaced, also for tokens already verified', async () => {
    replace(jwks(first.jwk));
    const ask = await open();
    expect(await ask(first)).toHaveProperty('accepted');
    replace(jwks(second.jwk));
    clock.now += 1_000;
    expect(await ask(first)).toBe('token_invalid');
    expect(await ask(second)).toHaveProperty('accepted');
  });

  it('are looked for again by any number of requests at once', async () => {
    replace(jwks(first.jwk));
    const source = { jwks: undefined, jwksFile: path };
    const opened = await authenticator([settings([], ['ES256'], source)], options());
    const header = `Bearer ${await sign(first)}`;
    const principal = await opened.authenticate(shown(header));
    clock.now += 1_000;
    const asked = Array.from({ length: 1_000 }, () => opened.authenticate(shown(header)));
    expect(new Set(await Promise.all(asked))).toEqual(new Set([principal]));
  });

  it('stay in force for an hour while the file is missing or damaged, and not longer', async () => {
    replace(jwks(first.jwk));
    const ask = await open();
    for (const damage of ['{"keys":[', '{}', jwks(), 'x'.repeat(MAX_KEY_SET_BYTES + 1)]) {
      replace(damage);
      clock.now += minutes(1);
      expect(await ask(first)).toHaveProperty('accepted');
      // Once more: a damaged file never counts as read.
      clock.now += minutes(1);
      expect(await ask(first)).toHaveProperty('accepted');
    }
    rmSync(path);
    clock.now += minutes(1);
    expect(await ask(first)).toHaveProperty('accepted');
    expect(failures).toHaveLength(9);
    clock.now += minutes(52);
    expect(await ask(first)).toBe('token_invalid');
    replace(jwks(first.jwk));
    clock.now += minutes(1);
    expect(await ask(first)).toHaveProperty('accepted');
  });

  it.each([
    ['a missing file', undefined],
    ['no JSON', 'keys'],
    ['no JWK Set', '[]'],
    ['no key that can be used', JSON.stringify({ keys: [{ kty: 'new', kid: 'x' }] })],
    ['a symmetric key', JSON.stringify({ keys: [{ kty: 'oct', k: 'AAAA', kid: 'x' }] })],
  ])('stop the start with %s', async (_name, text) => {
    if (text !== undefined) replace(text);
    await expect(open()).rejects.toMatchObject({ code: 'invalid_value' });
  });

  it('stop the start when a private key is among them, and never quote what they hold', async () => {
    for (const text of [
      jwks(first.jwk, second.privateJwk),
      `${JSON.stringify(first.privateJwk)},`,
    ]) {
      replace(text);
      const error = await open().catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'invalid_value' });
      const { message, cause } = error as Error;
      expect(`${message} ${String(cause)}`).not.toMatch(/"kty"|"d"|eyJ/u);
      expect(`${message} ${String(cause)}`).not.toContain(first.privateJwk.d);
    }
  });

  it('stay in force when a private key is put among them', async () => {
    replace(jwks(first.jwk));
    const ask = await open();
    replace(jwks(first.jwk, second.privateJwk));
    clock.now += 1_000;
    expect(await ask(first)).toHaveProperty('accepted');
    expect(failures).toHaveLength(1);
  });
});

describe('keys from an address', () => {
  let server: Server;
  let respond: (response: ServerResponse) => void;
  let requests: number;
  let address: string;

  beforeEach(async () => {
    requests = 0;
    server = createServer((_request, response) => {
      requests += 1;
      respond(response);
    });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    const { port } = server.address() as AddressInfo;
    address = `http://127.0.0.1:${String(port)}/jwks.json`;
  });
  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  });

  const serve = (text: string) => (respond = (response) => void response.end(text));
  const fail = () => (respond = (response) => void response.writeHead(503).end());
  const open = async () => {
    const source = { jwks: undefined, jwksUrl: address };
    const opened = await authenticator([settings([], ['ES256'], source)], options());
    return async (key: TestKey) => codeOf(opened.authenticate(shown(`Bearer ${await sign(key)}`)));
  };

  it('are fetched at the start and kept', async () => {
    serve(jwks(first.jwk));
    const ask = await open();
    for (let n = 0; n < 5; n += 1) expect(await ask(first)).toHaveProperty('accepted');
    expect(requests).toBe(1);
  });

  it('are fetched again for an unknown key, once in half a minute', async () => {
    serve(jwks(first.jwk));
    const ask = await open();
    serve(jwks(first.jwk, second.jwk));
    expect(await ask(second)).toBe('token_invalid');
    expect(requests).toBe(1);
    clock.now += 30_000;
    expect(await Promise.all([ask(second), ask(second)])).toEqual([
      expect.objectContaining({ accepted: expect.anything() }),
      expect.objectContaining({ accepted: expect.anything() }),
    ]);
    const third = await makeKey('ES256', 'third');
    for (let n = 0; n < 5; n += 1) expect(await ask(third)).toBe('token_invalid');
    expect(requests).toBe(2);
  });

  it('that were taken away are gone after a minute', async () => {
    serve(jwks(first.jwk));
    const ask = await open();
    serve(jwks(second.jwk));
    clock.now += minutes(1);
    // The set is renewed beside this request, which does not wait for it.
    await ask(first);
    await ask(second);
    expect(await ask(first)).toBe('token_invalid');
  });

  it('stay in force for an hour of failure, and never become no check', async () => {
    serve(jwks(first.jwk));
    const ask = await open();
    fail();
    clock.now += minutes(60);
    expect(await ask(first)).toHaveProperty('accepted');
    clock.now += minutes(2);
    expect(await ask(first)).toBe('token_invalid');
    expect(await ask(second)).toBe('token_invalid');
    serve(jwks(first.jwk));
    clock.now += minutes(1);
    expect(await ask(first)).toHaveProperty('accepted');
  });

  it('need not be there at the start; until they are, a token is to be tried again', async () => {
    fail();
    const source = { jwks: undefined, jwksUrl: address };
    const opened = await authenticator([settings([], ['ES256'], source)], options());
    const header = `Bearer ${await sign(first)}`;
    const error: unknown = await opened.authenticate(shown(header)).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(TwofoldError);
    expect(error).toMatchObject({ code: 'token_invalid', retryAfter: 5 });
    serve(jwks(first.jwk));
    clock.now += 5_000;
    expect(await codeOf(opened.authenticate(shown(header)))).toHaveProperty('accepted');
  });

  it.each<[string, () => void]>([
    ['another status', fail],
    [
      'a redirect',
      () => (respond = (response) => void response.writeHead(302, { location: '/' }).end()),
    ],
    ['no JSON', () => serve('<html>')],
    ['too much', () => serve(jwks(first.jwk).padEnd(MAX_KEY_SET_BYTES + 1))],
    ['a cut connection', () => (respond = (response) => void response.destroy())],
  ])('are not taken from an answer with %s', async (_name, arrange) => {
    arrange();
    const ask = await open();
    expect(failures).toHaveLength(1);
    expect(await ask(first)).toBe('token_invalid');
  });

  it('make only so many tokens wait', async () => {
    serve(jwks(first.jwk));
    const stranger = await makeKey('ES256', 'stranger');
    const subjects = Array.from({ length: 70 }, (_, n) => String(n));
    const tokens = await Promise.all(subjects.map((sub) => sign(stranger, { sub })));
    const source = { jwks: undefined, jwksUrl: address };
    const opened = await authenticator([settings([], ['ES256'], source)], options());
    clock.now += 30_000;
    let answer: () => void = () => undefined;
    respond = (response) => (answer = () => void response.end(jwks(first.jwk)));
    const codes = tokens.map((token) => codeOf(opened.authenticate(shown(`Bearer ${token}`))));
    while (requests < 2) await new Promise((later) => setTimeout(later, 5));
    expect(await codeOf(opened.authenticate(shown(`Bearer ${await sign(first)}`)))).toHaveProperty(
      'accepted',
    );
    answer();
    const counted = await Promise.all(codes);
    expect(counted.filter((code) => code === 'rate_limited')).toHaveLength(6);
    expect(counted.filter((code) => code === 'token_invalid')).toHaveLength(64);
  });
});

describe('a rotation of keys', () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'issuer-'));
    path = join(folder, 'jwks.json');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const open = async (changes: KeySetChange[] = []) => {
    const source = { jwks: undefined, jwksFile: path };
    return authenticator([settings([], ['ES256'], source)], {
      ...options(),
      onChange: (change) => changes.push(change),
    });
  };

  it('is seen on request at once, whatever the pauses, and is told by thumbprints', async () => {
    writeFileSync(path, jwks(first.jwk));
    const changes: KeySetChange[] = [];
    const opened = await open(changes);
    const header = `Bearer ${await sign(first)}`;
    expect(await codeOf(opened.authenticate(shown(header)))).toHaveProperty('accepted');
    writeFileSync(path, jwks(second.jwk));
    await opened.reload();
    expect(await codeOf(opened.authenticate(shown(header)))).toBe('token_invalid');
    const other = `Bearer ${await sign(second)}`;
    expect(await codeOf(opened.authenticate(shown(other)))).toHaveProperty('accepted');
    const thumbprint = (key: TestKey) => calculateJwkThumbprint(key.jwk);
    const [added, removed] = [[await thumbprint(second)], [await thumbprint(first)]];
    expect(changes).toEqual([{ issuer: ISSUER, added, removed }]);
  });

  it('is seen by a look without any token, and a look at a set that is fresh reads nothing', async () => {
    writeFileSync(path, jwks(first.jwk));
    const changes: KeySetChange[] = [];
    const opened = await open(changes);
    writeFileSync(path, jwks(second.jwk));
    await opened.refresh();
    expect(changes).toHaveLength(0);
    clock.now += 1_000;
    await opened.refresh();
    expect(changes).toHaveLength(1);
  });

  it('leaves tokens verified whose key stays, however many come at once', async () => {
    writeFileSync(path, jwks(first.jwk));
    const source = { jwks: undefined, jwksFile: path };
    // Not one signature may be checked again.
    const opened = await authenticator([settings([], ['ES256'], source)], {
      ...options(),
      concurrency: 1,
    });
    const headers: string[] = [];
    for (let n = 0; n < 20; n += 1) {
      headers.push(`Bearer ${await sign(first, { sub: String(n) })}`);
      await opened.authenticate(shown(headers.at(-1)));
    }
    writeFileSync(path, jwks(second.jwk, first.jwk));
    clock.now += 1_000;
    const asked = headers.map((header) => codeOf(opened.authenticate(shown(header))));
    for (const answer of await Promise.all(asked)) expect(answer).toHaveProperty('accepted');
  });

  it('ends a token whose key has its name taken by another', async () => {
    writeFileSync(path, jwks(first.jwk));
    const opened = await open();
    const header = `Bearer ${await sign(first)}`;
    await opened.authenticate(shown(header));
    writeFileSync(path, jwks({ ...second.jwk, kid: 'first' }));
    clock.now += 1_000;
    expect(await codeOf(opened.authenticate(shown(header)))).toBe('token_invalid');
  });

  it('written over in place twice within a tick of the clock is seen', async () => {
    writeFileSync(path, jwks(first.jwk));
    const opened = await open();
    const third = await makeKey('ES256', 'third');
    const texts = [jwks(second.jwk), jwks({ ...third.jwk, kid: 'second' })];
    for (const text of texts) {
      writeFileSync(path, text);
      clock.now += 1_000;
      await opened.refresh();
    }
    const header = `Bearer ${await sign(third, {}, { kid: 'second' })}`;
    expect(await codeOf(opened.authenticate(shown(header)))).toHaveProperty('accepted');
  });
});
