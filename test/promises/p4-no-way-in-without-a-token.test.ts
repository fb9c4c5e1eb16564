/**
 * P4, against further classes of advisories of peers: failing discovery that meant no authentication,
 * a service whose default is no authentication, a cache that outlived revocation, and secrets in
 * what a debugger or a log prints.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { TokenAuthenticator } from '../../src/access/authenticate.ts';
import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { DevelopmentIssuer, SEED_FILE } from '../../src/access/development-issuer.ts';
import type { IssuerSettings } from '../../src/access/issuers.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { shown } from '../access/issuer-fixture.ts';

let folder: string;
let issuer: DevelopmentIssuer;
let header: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'p4-'));
  issuer = await DevelopmentIssuer.open({ folder, create: true });
  const { token } = await issuer.issueToken({ roles: ['admin'], ttlSeconds: 600 });
  header = `Bearer ${token}`;
});
afterAll(() => rmSync(folder, { recursive: true }));

const open = (issuers: readonly IssuerSettings[], epoch = new SecurityEpoch(1)) =>
  TokenAuthenticator.open({ issuers, epoch, plainHttp: true });
const refused = async (access: TokenAuthenticator, value: string | undefined) => {
  const code = value === undefined ? 'token_missing' : 'token_invalid';
  await expect(access.authenticate(shown(value))).rejects.toMatchObject({ code });
};

describe('without authentication', () => {
  it('nobody comes in where no issuer is configured', async () => {
    const access = await open([]);
    await refused(access, undefined);
    await refused(access, header);
  });

  it('nobody comes in while the issuer’s keys cannot be fetched', async () => {
    const closed = createServer();
    await new Promise<void>((listening) => closed.listen(0, '127.0.0.1', listening));
    const { port } = closed.address() as AddressInfo;
    await new Promise((done) => closed.close(done));
    const unreachable = `http://127.0.0.1:${String(port)}/jwks`;
    const unread = { jwks: undefined, readKeys: undefined, jwksUrl: unreachable };
    const access = await open([{ ...issuer.settings, ...unread }]);
    await refused(access, undefined);
    for (let n = 0; n < 3; n += 1) await refused(access, header);
    const [head, payload] = header.split('.');
    await refused(access, `${head ?? ''}.${payload ?? ''}.`);
  });

  it('a principal without roles gets no key', () => {
    const access = PolicyAuthorizer.of({ epoch: new SecurityEpoch(1) });
    const nobody = {
      issuer: '',
      subject: '',
      method: 'jwt',
      roles: [],
      acr: null,
      amr: [],
      session: new Uint8Array(16),
      expiresAt: new Date(0),
      namespace: null,
    } as const;
    expect(() => access.authorize(nobody, 'unwrap', { namespace: 'default', key: 'k' })).toThrow(
      expect.objectContaining({ code: 'forbidden' }),
    );
  });
});

describe('a verified token', () => {
  it('does not outlive a change of access in the cache', async () => {
    const epoch = new SecurityEpoch(1);
    const access = await open([issuer.settings], epoch);
    const first = await access.authenticate(shown(header));
    const change = {
      epoch: 2,
      scope: 'access',
      namespace: '',
      keyId: null,
      keyName: null,
    } as const;
    epoch.advance([change]);
    expect(access.cached).toBe(0);
    expect(await access.authenticate(shown(header))).not.toBe(first);
  });
});

describe('what a debugger or a log prints', () => {
  it('holds no token and no seed', async () => {
    const access = await open([issuer.settings]);
    const principal = await access.authenticate(shown(header));
    const [, , signature = ''] = header.split('.');
    const broken = `${header.slice(0, -8)}AAAAAAAA`;
    const error: unknown = await access.authenticate(shown(broken)).catch((e: unknown) => e);
    const seed = readFileSync(join(folder, SEED_FILE));
    const printed = [access, principal, error, issuer]
      .flatMap((value) => [inspect(value, { depth: 9, showHidden: true }), JSON.stringify(value)])
      .join('\n');
    expect(printed).toContain('urn:twofold:development');
    expect(printed).not.toContain(signature.slice(0, 24));
    expect(printed).not.toContain(header.slice(7, 60));
    for (const form of ['hex', 'base64', 'base64url'] as const) {
      expect(printed).not.toContain(seed.toString(form).replaceAll('=', ''));
    }
  });
});
