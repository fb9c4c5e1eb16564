import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readdirSync } from 'node:fs';
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { decodeJwt, decodeProtectedHeader } from 'jose';
import { ADMIN_HEADER_FILE, ADMIN_TOKEN_FILE, AdminToken } from '../../src/access/admin-token.ts';
import { DevelopmentIssuer, SEED_FILE } from '../../src/access/development-issuer.ts';
import { writePrivateFile } from '../../src/access/private-file.ts';
import { NOW, at, authenticator, codeOf, shown } from './issuer-fixture.ts';

let folder: string;
let clock: { now: Date };
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'development-issuer-'));
  clock = { now: NOW };
});
afterEach(() => rmSync(folder, { recursive: true }));

const now = () => clock.now;
const open = (create = true) => DevelopmentIssuer.open({ folder, create, now });
const modeOf = (name: string) => statSync(join(folder, name)).mode & 0o777;
const text = (name: string) => readFileSync(join(folder, name), 'utf8');

describe('the development issuer', () => {
  it('signs tokens that its settings accept', async () => {
    const issuer = await open();
    const { token, expiresAt } = await issuer.issueToken({ roles: ['user'], ttlSeconds: 3600 });
    expect(expiresAt).toEqual(at(3600));
    expect(decodeProtectedHeader(token)).toEqual({
      alg: 'ML-DSA-65',
      kid: issuer.jwks.keys[0]?.kid,
      typ: 'JWT',
    });
    const start = NOW.getTime() / 1000;
    expect(decodeJwt(token)).toEqual({
      iss: 'urn:twofold:development',
      aud: 'twofold',
      sub: 'development-user',
      roles: ['user'],
      jti: expect.stringMatching(/^[0-9a-f-]{36}$/u),
      iat: start,
      nbf: start,
      exp: start + 3600,
    });
    const access = await authenticator([issuer.settings], { now });
    expect(await access.authenticate(shown(`Bearer ${token}`))).toMatchObject({ roles: ['user'] });
    clock.now = at(3610);
    expect(await codeOf(access.authenticate(shown(`Bearer ${token}`)))).toBe('token_expired');
  });

  it('publishes a public key and nothing else', async () => {
    const { jwks } = await open();
    expect(jwks.keys.map((key) => Object.keys(key).sort())).toEqual([
      ['alg', 'kid', 'kty', 'pub', 'use'],
    ]);
    const published = JSON.stringify(jwks);
    const seed = readFileSync(join(folder, SEED_FILE));
    for (const form of ['hex', 'base64', 'base64url'] as const) {
      expect(published).not.toContain(seed.toString(form).replaceAll('=', ''));
    }
  });

  it('is the same at the next start, and for a command beside the server', async () => {
    const first = await open();
    expect(modeOf(SEED_FILE)).toBe(0o600);
    expect((await open()).jwks).toEqual(first.jwks);
    expect((await open(false)).jwks).toEqual(first.jwks);
    expect(readdirSync(folder)).toEqual([SEED_FILE]);
  });

  it('is another in another folder', async () => {
    const { jwks } = await open();
    rmSync(join(folder, SEED_FILE));
    expect((await open()).jwks).not.toEqual(jwks);
  });

  it('follows another seed in its file: new tokens are of that, and older ones are refused', async () => {
    const issuer = await open();
    const before = await issuer.issueToken({ roles: ['user'], ttlSeconds: 3600 });
    const access = await authenticator([issuer.settings], { now });
    expect(await codeOf(access.authenticate(shown(`Bearer ${before.token}`)))).toHaveProperty(
      'accepted',
    );
    writeFileSync(join(folder, SEED_FILE), Buffer.alloc(32, 7));
    await access.reload();
    expect(await codeOf(access.authenticate(shown(`Bearer ${before.token}`)))).toBe(
      'token_invalid',
    );
    const after = await issuer.issueToken({ roles: ['user'], ttlSeconds: 3600 });
    expect(await codeOf(access.authenticate(shown(`Bearer ${after.token}`)))).toHaveProperty(
      'accepted',
    );
    writeFileSync(join(folder, SEED_FILE), 'half');
    await access.reload();
    expect(access.failing).toEqual(['urn:twofold:development']);
    expect(await codeOf(access.authenticate(shown(`Bearer ${after.token}`)))).toHaveProperty(
      'accepted',
    );
  });

  it('is not made by a command beside the server', async () => {
    await expect(open(false)).rejects.toThrow(/missing/u);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('refuses a seed that is damaged, open to others or no file, and leaves it alone', async () => {
    const path = join(folder, SEED_FILE);
    writeFileSync(path, 'short', { mode: 0o600 });
    await expect(open()).rejects.toThrow(/damaged/u);
    expect(text(SEED_FILE)).toBe('short');
    writeFileSync(path, Buffer.alloc(32));
    for (const mode of [0o640, 0o604, 0o620]) {
      chmodSync(path, mode);
      await expect(open()).rejects.toThrow(/chmod 600/u);
    }
    rmSync(path);
    mkdirSync(path);
    await expect(open()).rejects.toThrow(/plain file/u);
  });

  it.each([0, -1, 1.5, NaN, 86_401, Infinity])('refuses a life of %p s', async (ttlSeconds) => {
    const issuer = await open();
    await expect(issuer.issueToken({ roles: ['user'], ttlSeconds })).rejects.toThrow(RangeError);
  });
});

describe('the administrator’s token', () => {
  const start = async (checkMs = 5) =>
    AdminToken.start({ issuer: await open(), folder, now, checkMs });
  const passes = async (condition: () => boolean) => {
    for (let n = 0; !condition() && n < 1_000; n += 1) await new Promise((r) => setTimeout(r, 5));
    expect(condition()).toBe(true);
  };

  it('is written for programs and for curl, for its owner only', async () => {
    const admin = await start();
    await admin.stop();
    const token = text(ADMIN_TOKEN_FILE).trimEnd();
    expect(text(ADMIN_HEADER_FILE)).toBe(`Authorization: Bearer ${token}\n`);
    expect([modeOf(ADMIN_TOKEN_FILE), modeOf(ADMIN_HEADER_FILE)]).toEqual([0o600, 0o600]);
    const access = await authenticator([(await open()).settings], { now });
    const principal = await access.authenticate(shown(`Bearer ${token}`));
    expect(principal).toMatchObject({ roles: ['admin'], expiresAt: at(43_200) });
    expect(readdirSync(folder).sort()).toEqual([ADMIN_HEADER_FILE, ADMIN_TOKEN_FILE, SEED_FILE]);
  });

  it('is renewed at half its life and not before', async () => {
    const admin = await start();
    const first = text(ADMIN_HEADER_FILE);
    clock.now = at(21_599);
    await new Promise((later) => setTimeout(later, 60));
    expect(text(ADMIN_HEADER_FILE)).toBe(first);
    clock.now = at(21_600);
    await passes(() => text(ADMIN_HEADER_FILE) !== first);
    await admin.stop();
    const second = text(ADMIN_HEADER_FILE);
    clock.now = at(100_000);
    await new Promise((later) => setTimeout(later, 60));
    expect(text(ADMIN_HEADER_FILE)).toBe(second);
  });

  it('is renewed at every start, over files of any mode', async () => {
    writeFileSync(join(folder, ADMIN_TOKEN_FILE), 'old', { mode: 0o644 });
    await (await start()).stop();
    expect(modeOf(ADMIN_TOKEN_FILE)).toBe(0o600);
    expect(text(ADMIN_TOKEN_FILE)).not.toBe('old');
  });

  it('tells of a renewal that failed, and tries again', async () => {
    const onFailure = jest.fn();
    const moved = `${folder}-moved`;
    const issuer = await open();
    const admin = await AdminToken.start({ issuer, folder, now, checkMs: 5, onFailure });
    const first = text(ADMIN_TOKEN_FILE);
    const { renameSync } = await import('node:fs');
    renameSync(folder, moved);
    clock.now = at(30_000);
    await passes(() => onFailure.mock.calls.length > 1);
    renameSync(moved, folder);
    await passes(() => text(ADMIN_TOKEN_FILE) !== first);
    await admin.stop();
  });

  it('keeps no process alive', async () => {
    const admin = await start(60_000);
    const { spawnSync } = await import('node:child_process');
    const module = (name: string) => new URL(`../../src/access/${name}`, import.meta.url).href;
    const script = `
      import { AdminToken } from ${JSON.stringify(module('admin-token.ts'))};
      import { DevelopmentIssuer } from ${JSON.stringify(module('development-issuer.ts'))};
      const folder = ${JSON.stringify(folder)};
      const issuer = await DevelopmentIssuer.open({ folder, create: false });
      await AdminToken.start({ issuer, folder });`;
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      timeout: 20_000,
      encoding: 'utf8',
    });
    expect([run.status, run.signal]).toEqual([0, null]);
    await admin.stop();
  });
});

describe('a private file', () => {
  it('is replaced whole, and a failure leaves the old one and no draft', async () => {
    const path = join(folder, 'file');
    writeFileSync(`${path}.new`, 'left by a killed writer', { mode: 0o644 });
    await writePrivateFile(path, 'one');
    expect([text('file'), modeOf('file')]).toEqual(['one', 0o600]);
    await writePrivateFile(path, 'two');
    expect(text('file')).toBe('two');
    mkdirSync(join(folder, 'taken'));
    await expect(writePrivateFile(join(folder, 'taken'), 'three')).rejects.toThrow();
    expect(readdirSync(folder).sort()).toEqual(['file', 'taken']);
  });
});
