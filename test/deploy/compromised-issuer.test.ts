/** The commands of deploy/compromised-issuer.md, as they stand there, against somebody who has an issuer's key. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SignJWT, calculateJwkThumbprint } from 'jose';
import { makeKey } from '../access/issuer-fixture.ts';
import type { TestKey } from '../access/issuer-fixture.ts';
import { PublishedIssuer } from '../http/published-issuer.ts';
import { openService } from '../http/service.ts';
import type { Service } from '../http/service.ts';

const page = readFileSync(join(import.meta.dirname, '../../deploy/compromised-issuer.md'), 'utf8');
/** In the order of the page; they stand indented under their step. */
const blocks = [...page.matchAll(/^( *)```sh run\n([\s\S]*?)^\1```$/gmu)].map(
  ([, , text = '']) => text,
);

const [stop, look, pin, admit, trace, single, end] = blocks;
let folder: string;
let service: Service;
let issuer: PublishedIssuer;
let stolen: TestKey;
let fresh: TestKey;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-issuer-'));
  [service, issuer] = await Promise.all([openService(), PublishedIssuer.start()]);
  [stolen, fresh] = [await makeKey('ES256', 'old'), await makeKey('ES256', 'new')];
  issuer.publish([stolen.jwk]);
  const { url, ca } = issuer;
  // As people write them: of several lines, with an object at the end.
  const roles = [{ subject: 'nobody', roles: ['auditor'] }];
  const settings = { issuer: url, audience: 'kms', algorithms: ['ES256'], ca, roles };
  writeFileSync(join(folder, 'issuer.json'), `${JSON.stringify(settings, null, 2)}\n`);
  const made = await service.call('admin', 'PUT', '/v1/admin/issuers/corporate', {
    json: settings,
  });
  expect(made.status).toBe(200);
});
afterAll(async () => {
  await service.stop();
  await issuer.stop();
  rmSync(folder, { recursive: true });
});

/** What each line that a block printed says. */
async function run(block: string | undefined, more: Readonly<Record<string, string>> = {}) {
  const env = {
    PATH: process.env['PATH'] ?? '',
    ...{ KMS: service.url, TOKEN: await service.token('admin'), ISSUER: issuer.url },
    ...{ NAME: 'corporate', ...more },
  };
  const options = { env, cwd: folder };
  const { stdout } = await promisify(execFile)('/bin/sh', ['-euc', block ?? 'exit 1'], options);
  const lines = stdout.split('\n').filter((line) => line !== '');
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

interface Claims {
  readonly secondsAgo?: number;
  readonly jti?: string;
  readonly sub?: string;
}
const tokenOf = (key: TestKey, { secondsAgo = 0, jti = 'j', sub = 'alice' }: Claims = {}) =>
  new SignJWT({ roles: ['user'], jti })
    .setProtectedHeader({ alg: 'ES256', kid: key.jwk.kid ?? '' })
    .setIssuer(issuer.url)
    .setAudience('kms')
    .setSubject(sub)
    .setIssuedAt(Math.floor(Date.now() / 1_000) - secondsAgo)
    .setExpirationTime('10m')
    .sign(key.privateKey);
/** 200, or how it is refused. */
const ask = async (token: string) => {
  const headers = { authorization: `Bearer ${token}` };
  const { status, json } = await service.call(null, 'GET', '/v1/whoami', { headers });
  return status === 200 ? 200 : json['code'];
};

describe('deploy/compromised-issuer.md', () => {
  it('ends what the thief makes, lets honest tokens in again, and shows who asked', async () => {
    expect(blocks).toHaveLength(7);
    const honest = await tokenOf(stolen, { secondsAgo: 60 });
    expect(await ask(honest)).toBe(200);

    expect(await run(stop)).toMatchObject([{ kind: 'issuer', issuer: issuer.url }]);
    expect([await ask(honest), await ask(await tokenOf(stolen))]).toEqual([
      'token_denied',
      'token_denied',
    ]);

    // The old key is still served, as by a cache.
    issuer.publish([stolen.jwk, fresh.jwk]);
    const thumbprint = await calculateJwkThumbprint(fresh.jwk);
    const [shown] = await run(look);
    expect(shown).toMatchObject({
      dryRun: true,
      check: { usable: true, keys: [{ keyId: 'old' }, { keyId: 'new', thumbprint }] },
    });

    const pinned = await run(pin, { THUMBPRINT: thumbprint });
    expect(pinned).toMatchObject([
      { dryRun: true, check: { keys: [{ keyId: 'new' }] } },
      { name: 'corporate', pinned: [thumbprint] },
    ]);
    expect(pinned[1]).not.toHaveProperty('dryRun');

    const before = await tokenOf(fresh, { secondsAgo: 60 });
    expect(await run(admit)).toMatchObject([{ kind: 'issuer', issuer: issuer.url }]);
    expect(await ask(before)).toBe('token_denied');
    expect(await ask(await tokenOf(stolen))).toBe('token_invalid');
    expect(await ask(await tokenOf(fresh))).toBe(200);

    const [traced] = await run(trace);
    const { items } = traced as { items: { actor: object; outcome: string }[] };
    expect(items.length).toBeGreaterThan(2);
    for (const item of items) {
      expect(item).toMatchObject({
        actor: { issuer: issuer.url, subject: 'alice' },
        outcome: 'token_denied',
      });
    }

    const leaked = await tokenOf(fresh, { jti: 'leaked', sub: 'bob' });
    const past = await tokenOf(fresh, { secondsAgo: -1, sub: 'carol' });
    expect([await ask(leaked), await ask(past)]).toEqual([200, 200]);
    expect(await run(single, { JTI: 'leaked', SUBJECT: 'dave' })).toMatchObject([
      { kind: 'token', tokenId: 'leaked' },
      { kind: 'subject', subject: 'dave' },
    ]);
    expect([await ask(leaked), await ask(past)]).toEqual(['token_denied', 200]);
    expect(await ask(await tokenOf(fresh, { sub: 'dave', secondsAgo: 5 }))).toBe('token_denied');

    expect(await run(end)).toMatchObject([{ name: 'corporate', deleted: true }]);
    expect(await ask(past)).toBe('token_invalid');
  }, 30_000);
});
