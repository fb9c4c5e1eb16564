/** Stored issuers: whose tokens are good where, what of their keys is taken, and from where it is fetched. */
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SignJWT, calculateJwkThumbprint } from 'jose';
import { isPublicAddress } from '../../src/access/fetch-document.ts';
import { makeKey } from '../access/issuer-fixture.ts';
import type { TestKey } from '../access/issuer-fixture.ts';
import { PublishedIssuer } from './published-issuer.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const PATH = '/v1/admin/issuers';
const AUDIENCE = 'kms.example';
const DISCOVERY = '/.well-known/openid-configuration';

let service: Service;
let published: PublishedIssuer;
let key: TestKey;
let other: TestKey;
beforeAll(async () => {
  [service, published] = await Promise.all([openService(), PublishedIssuer.start()]);
  [key, other] = [await makeKey('ES256', 'one'), await makeKey('ES256', 'two')];
  for (const name of ['team', 'other']) {
    await service.call('admin', 'POST', '/v1/admin/namespaces', { json: { name } });
  }
});
afterAll(async () => {
  await service.stop();
  await published.stop();
});

interface Asked {
  readonly namespace?: string;
  readonly query?: string;
  readonly match?: number | undefined;
}
const put = (
  name: string,
  json: object,
  { namespace = 'default', query = '', match }: Asked = {},
) =>
  service.call('admin', 'PUT', `${PATH}/${name}${query}`, {
    json: { audience: AUDIENCE, algorithms: ['ES256'], ...json },
    headers: {
      'twofold-namespace': namespace,
      ...(match === undefined ? {} : { 'if-match': `"${String(match)}"` }),
    },
  });
const code = ({ json }: { readonly json: Record<string, unknown> }) => json['code'];
const inline = (...keys: readonly TestKey[]) => ({ jwks: { keys: keys.map(({ jwk }) => jwk) } });

const tokenOf = (issuer: string, claims: object = {}, by = key) =>
  new SignJWT({ roles: ['user'], ...claims })
    .setProtectedHeader({ alg: by.algorithm, kid: by.jwk.kid ?? '' })
    .setIssuer(issuer)
    .setAudience(AUDIENCE)
    .setSubject('sub' in claims ? String(claims.sub) : 'alice')
    .setIssuedAt()
    .setExpirationTime('10m')
    .sign(by.privateKey);
/** 200, or how it is refused. */
const ask = async (token: string, namespace = 'default') => {
  const headers = { authorization: `Bearer ${token}`, 'twofold-namespace': namespace };
  const { status, json } = await service.call(null, 'GET', '/v1/whoami', { headers });
  return status === 200 ? 200 : json['code'];
};

describe('an issuer of a namespace', () => {
  it('lets its tokens in at once, there and nowhere else, and ends them at once', async () => {
    const issuer = 'https://team.example';
    const token = await tokenOf(issuer);
    expect(await ask(token, 'team')).toBe('token_invalid');
    const made = await put('idp', { issuer, ...inline(key) }, { namespace: 'team' });
    expect(made.json).toMatchObject({ name: 'idp', source: 'stored', keys: 'inline' });
    expect(await ask(token, 'team')).toBe(200);
    // As unknown as any, also right after it was good elsewhere.
    for (const namespace of ['default', 'other', 'absent', 'No Name']) {
      expect([namespace, await ask(token, namespace)]).toEqual([namespace, 'token_invalid']);
    }
    const headers = { 'twofold-namespace': 'team' };
    const gone = await service.call('admin', 'DELETE', `${PATH}/idp`, { headers });
    expect(gone.json).toMatchObject({ deleted: true });
    expect(await ask(token, 'team')).toBe('token_invalid');
  });

  it('of the root is good in the root, and shared in all', async () => {
    const issuer = 'https://root.example';
    const token = await tokenOf(issuer);
    const made = await put('root-idp', { issuer, ...inline(key) });
    expect([await ask(token), await ask(token, 'team'), await ask(token, 'absent')]).toEqual([
      200,
      'token_invalid',
      'token_invalid',
    ]);
    const shared = { issuer, ...inline(key), shared: true };
    expect(code(await put('root-idp', shared))).toBe('precondition_required');
    expect(code(await put('root-idp', shared, { match: 1_000 }))).toBe('etag_mismatch');
    await put('root-idp', shared, { match: Number(made.json['revision']) });
    expect([await ask(token), await ask(token, 'team')]).toEqual([200, 200]);
    expect(code(await put('x', shared, { namespace: 'team' }))).toBe('invalid_value');
    const own = { issuer, ...inline(other) };
    expect(code(await put('x', own, { namespace: 'team' }))).toBe('already_exists');
  });

  it('is one that no other name stands for, and not one of the configuration', async () => {
    const { json } = await service.call('auditor', 'GET', PATH);
    const [configured] = json['items'] as Record<string, unknown>[];
    expect(configured).toMatchObject({ name: null, source: 'configuration', revision: 0 });
    const issuer = 'https://twice.example';
    const made = await put('first', { issuer, ...inline(key) });
    expect(code(await put('second', { issuer, ...inline(key) }))).toBe('already_exists');
    const renamed = { issuer: 'https://renamed.example', ...inline(key) };
    const match = Number(made.json['revision']);
    expect(code(await put('first', renamed, { match }))).toBe('invalid_value');
    for (const role of ['operator', 'user', 'auditor']) {
      const answer = await service.call(role, 'DELETE', `${PATH}/first`);
      expect([role, answer.status]).toEqual([role, 403]);
    }
  });

  it('cannot be taken away by who comes by it', async () => {
    const issuer = 'https://own.example';
    await put('own', { issuer, ...inline(key) });
    const headers = { authorization: `Bearer ${await tokenOf(issuer, { roles: ['admin'] })}` };
    const answer = await service.call(null, 'DELETE', `${PATH}/own`, { headers });
    expect(code(answer)).toBe('would_lock_out');
  });

  it('has its own audience, longest lifetime, clock and pinned keys', async () => {
    const issuer = 'https://strict.example';
    const pinned = [await calculateJwkThumbprint(key.jwk)];
    const made = await put('strict', { issuer, ...inline(key, other), pinned, maxLifetime: 600 });
    expect(await ask(await tokenOf(issuer))).toBe(200);
    expect(await ask(await tokenOf(issuer, {}, other))).toBe('token_invalid');
    expect(await ask(await tokenOf(issuer, { nbf: Math.floor(Date.now() / 1000) + 8 }))).toBe(200);
    await put(
      'strict',
      { issuer, ...inline(key), maxLifetime: 599, clockTolerance: 0 },
      { match: Number(made.json['revision']) },
    );
    expect(await ask(await tokenOf(issuer))).toBe('token_invalid');
    const unpinned = { issuer: 'https://u.example', ...inline(other), pinned };
    expect(code(await put('unpinned', unpinned))).toBe('invalid_value');
  });

  it('of Kubernetes names service accounts and maps roles to them', async () => {
    const issuer = 'https://kubernetes.default.svc.cluster.local';
    const roles = [
      { subject: 'system:serviceaccount:payments:*', roles: ['user'] },
      { subject: 'system:serviceaccount:ops:watcher', roles: ['auditor'] },
    ];
    await put(
      'cluster',
      { kind: 'kubernetes', issuer, ...inline(key), roles },
      { namespace: 'team' },
    );
    const rolesOf = async (sub: string, account: object) => {
      const claims = { sub, roles: ['admin'], 'kubernetes.io': account };
      const headers = {
        authorization: `Bearer ${await tokenOf(issuer, claims)}`,
        'twofold-namespace': 'team',
      };
      const { json } = await service.call(null, 'GET', '/v1/whoami', { headers });
      return json['roles'] ?? json['code'];
    };
    const account = (namespace: string, name: string) => ({ namespace, serviceaccount: { name } });
    const sub = 'system:serviceaccount:payments:api';
    expect(await rolesOf(sub, account('payments', 'api'))).toEqual(['user']);
    expect(await rolesOf('system:serviceaccount:ops:watcher', account('ops', 'watcher'))).toEqual([
      'auditor',
    ]);
    expect(await rolesOf('system:serviceaccount:x:y', account('x', 'y'))).toEqual([]);
    expect(await rolesOf(sub, account('payments', 'other'))).toBe('token_invalid');
    expect(await rolesOf(sub, { namespace: 'payments' })).toBe('token_invalid');
    expect(await rolesOf('alice', account('payments', 'api'))).toBe('token_invalid');
  });
});

describe('settings that cannot be', () => {
  const issuer = 'https://bad.example';
  it.each<[string, object]>([
    ['a URL that is not https', { issuer: 'http://bad.example' }],
    ['no URL', { issuer: 'urn:twofold:system' }],
    ['a URL with a password', { issuer: 'https://a:b@bad.example' }],
    ['keys by http', { issuer, jwksUrl: 'http://127.0.0.1/jwks' }],
    ['keys from a file', { issuer, jwksUrl: 'file:///etc/passwd' }],
    ['a symmetric algorithm', { issuer, algorithms: ['HS256'] }],
    ['alg none', { issuer, algorithms: ['none'] }],
    ['an authority that is none', { issuer, ca: 'x' }],
    ['an empty set', { issuer, jwks: { keys: [] } }],
    ['a symmetric key', { issuer, jwks: { keys: [{ kty: 'oct', k: 'AAAA' }] } }],
    ['a clock too far off', { issuer, clockTolerance: 61 }],
    [
      'roles of a beginning that ends in a name',
      { issuer, roles: [{ subject: 'prod*', roles: ['admin'] }] },
    ],
    [
      'roles of a beginning and an end',
      { issuer, roles: [{ subject: 'a/*/b', roles: ['admin'] }] },
    ],
    ['roles of two stars', { issuer, roles: [{ subject: 'a/**', roles: ['admin'] }] }],
  ])('are refused: %s', async (_name, json) => {
    expect(code(await put('bad', json))).toBe('invalid_value');
  });

  it('are refused: private keys, two of one kid, both kinds of set', async () => {
    for (const jwks of [
      { keys: [key.privateJwk] },
      { keys: [key.jwk, { ...other.jwk, kid: key.jwk.kid }] },
    ]) {
      expect(code(await put('bad', { issuer, jwks }))).toBe('invalid_value');
    }
    const both = { issuer, ...inline(key), jwksUrl: 'https://bad.example/jwks' };
    expect(code(await put('bad', both))).toBe('invalid_value');
  });
});

describe('keys that are fetched', () => {
  /** What a dry run says of them. */
  const check = async (changes: object = {}) => {
    const json = { issuer: published.url, ca: published.ca, ...changes };
    const answer = await put('tried', json, { query: '?dryRun=true' });
    expect(answer.status).toBe(200);
    return answer.json['check'] as { usable: boolean; problem: string; keys: unknown[] };
  };

  it('are found by discovery, shown on a dry run, and follow a rotation', async () => {
    published.publish([key.jwk]);
    const thumbprint = await calculateJwkThumbprint(key.jwk);
    expect(await check()).toEqual({
      usable: true,
      problem: null,
      keys: [{ keyId: 'one', thumbprint, algorithms: ['ES256'] }],
    });
    expect(code(await service.call('admin', 'GET', `${PATH}/tried`))).toBe('not_found');
    const issuer = published.url;
    await put('found', { issuer, ca: published.ca });
    expect(await ask(await tokenOf(issuer))).toBe(200);
    published.publish([other.jwk]);
    const token = await tokenOf(issuer, {}, other);
    // Read at the last token: an unknown key makes it be read again once in a while.
    expect(await ask(token)).toBe('token_invalid');
    await service.authenticator.reload();
    expect([await ask(token), await ask(await tokenOf(issuer))]).toEqual([200, 'token_invalid']);
    await service.call('admin', 'DELETE', `${PATH}/found`);
  });

  it('are taken from a set whose unusable keys are left out', async () => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey;
    published.publish([
      { ...weak.export({ format: 'jwk' }), kid: 'weak' },
      { kty: 'oct', k: 'AAAA', kid: 'symmetric', alg: 'HS256' },
      { ...other.privateJwk, kid: 'private' },
      key.jwk,
    ]);
    const found = await check({ algorithms: ['ES256', 'RS256', 'PS256'] });
    expect(found.keys).toMatchObject([{ keyId: 'one' }]);
  });

  it.each<[string, RegExp, () => void]>([
    [
      'another issuer',
      /of another issuer/u,
      () => published.publish([key.jwk], 'https://evil.example'),
    ],
    [
      'a slash more in the issuer',
      /of another issuer/u,
      () => published.publish([key.jwk], `${published.url}/`),
    ],
    [
      'a redirect to an internal address',
      /redirected/u,
      () =>
        published.respond(DISCOVERY, (response) => {
          response.writeHead(302, { location: 'https://169.254.169.254/latest/meta-data' }).end();
        }),
    ],
    [
      'a set at an internal address',
      /not public/u,
      () =>
        published.json(DISCOVERY, { issuer: published.url, jwks_uri: 'https://127.0.0.1/jwks' }),
    ],
    [
      'a set by http',
      /not fetched from/u,
      () =>
        published.json(DISCOVERY, { issuer: published.url, jwks_uri: 'http://issuer.example/' }),
    ],
    ['no set', /no jwks_uri/u, () => published.json(DISCOVERY, { issuer: published.url })],
    [
      'a document that is no JSON',
      /no JSON object/u,
      () => published.respond(DISCOVERY, (response) => void response.end('<html>')),
    ],
    [
      'a document without end',
      /too large/u,
      () =>
        published.respond(DISCOVERY, (response) => {
          response.write(Buffer.alloc(300_000, 0x20));
        }),
    ],
    [
      'two keys of one kid',
      /same kid/u,
      () => published.publish([key.jwk, { ...other.jwk, kid: key.jwk.kid }]),
    ],
    [
      'symmetric keys alone',
      /no key that can verify/u,
      () => published.publish([{ kty: 'oct', k: 'AAAA' }]),
    ],
    [
      'a discovery that fails',
      /answered with 500/u,
      () => published.respond(DISCOVERY, (response) => void response.writeHead(500).end()),
    ],
  ])('are none where there is %s', async (_name, problem, arrange) => {
    arrange();
    const found = await check();
    expect(found).toMatchObject({ usable: false, keys: [] });
    expect(found.problem).toMatch(problem);
  });

  it('are none where discovery hangs, after five seconds', async () => {
    published.respond(DISCOVERY, () => undefined);
    const started = performance.now();
    expect((await check()).problem).toMatch(/in time/u);
    expect(performance.now() - started).toBeLessThan(9_000);
  }, 20_000);

  it('are not trusted over a certificate of nobody, nor from a host that only points inside', async () => {
    published.publish([key.jwk]);
    expect(await check({ ca: undefined })).toMatchObject({ usable: false });
    for (const host of ['127.0.0.1', '[::1]', '[::ffff:127.0.0.1]', '0.0.0.0', 'localhost.']) {
      const address = published.url.replace('localhost', host);
      const found = await check({ jwksUrl: `${address}/jwks.json` });
      expect([host, found.usable]).toEqual([host, false]);
    }
  });

  it('of a name that nobody allowed to be internal are not even asked for', async () => {
    const outside = await openService({ issuing: { internal: [] } });
    try {
      let asked = 0;
      published.respond('/jwks.json', (response) => {
        asked += 1;
        response.end(JSON.stringify({ keys: [key.jwk] }));
      });
      const { json } = await outside.call('admin', 'PUT', `${PATH}/a?dryRun=true`, {
        json: {
          issuer: published.url,
          jwksUrl: `${published.url}/jwks.json`,
          ca: published.ca,
          audience: AUDIENCE,
          algorithms: ['ES256'],
        },
      });
      expect(json['check']).toMatchObject({
        usable: false,
        problem: expect.stringMatching('public'),
      });
      expect(asked).toBe(0);
    } finally {
      await outside.stop();
    }
  });
});

describe('an address', () => {
  it.each([
    ['8.8.8.8', true],
    ['2606:4700::1111', true],
    ['10.1.2.3', false],
    ['100.64.0.1', false],
    ['127.0.0.2', false],
    ['169.254.169.254', false],
    ['172.31.255.255', false],
    ['172.32.0.1', true],
    ['192.168.1.1', false],
    ['224.0.0.1', false],
    ['255.255.255.255', false],
    ['0.0.0.0', false],
    ['::', false],
    ['::1', false],
    ['::ffff:10.0.0.1', false],
    ['::ffff:8.8.8.8', false],
    ['64:ff9b::a00:1', false],
    ['fd00:ec2::254', false],
    ['fe80::1', false],
    ['ff02::1', false],
    ['2002:a00:1::', false],
    ['2001:db8::1', false],
  ])('%s is public: %s', (address, expected) => {
    expect(isPublicAddress(address)).toBe(expected);
  });
});
