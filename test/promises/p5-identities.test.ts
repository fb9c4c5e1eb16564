/**
 * P5 for who is let in: once a denial, or the end of an issuer, has been answered by one instance, another
 * one answers nothing more to who is concerned, neither what is asked afterwards nor what was under way.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SignJWT } from 'jose';
import { NAME } from '../../src/name.ts';
import type { ServiceOptions, Service } from '../http/service.ts';
import { TestAuthority } from '../access/client-certificates.ts';
import { makeKey } from '../access/issuer-fixture.ts';
import type { TestKey } from '../access/issuer-fixture.ts';
import { makeCertificate } from '../config/certificate.ts';
import { CertificateClient } from '../http/certificate-client.ts';
import { Site } from '../http/stored-service.ts';
import type { Instance } from '../keyring/world.ts';

const ISSUER = 'https://issuer.example';

let key: TestKey;
let site: Site;
let first: Service<Instance>;
let second: Service<Instance>;
/** Runs after a wrap of the second instance was made, and before it is answered. */
let meanwhile: () => Promise<unknown> = () => Promise.resolve();

const held: ServiceOptions = {
  replace: ({ use }) => ({
    use: Object.assign(Object.create(use) as typeof use, {
      wrap: async (...call: Parameters<typeof use.wrap>) => {
        const made = await use.wrap(...call);
        await meanwhile();
        return made;
      },
    }),
  }),
};

beforeAll(async () => {
  [site, key] = await Promise.all([Site.open(), makeKey('ES256', 'k')]);
  first = await site.service();
  second = await site.service(held);
  await first.call('admin', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'A256GCM' } });
}, 60_000);
afterAll(() => site.close(), 60_000);

const wrapAs = async (token: string, namespace = 'default') => {
  const headers = { authorization: `Bearer ${token}`, 'twofold-namespace': namespace };
  const init = { headers, json: { plaintext: 'AAAA' } };
  const { status, json } = await second.call(null, 'POST', '/v1/keys/k/wrap', init);
  return status === 200 ? 200 : json['code'];
};
const deny = (subject: string) =>
  first.call('admin', 'POST', '/v1/admin/denials', {
    json: { issuer: NAME.developmentIssuer, subject, reason: 'gone' },
  });

describe('P5: a denial', () => {
  it('ends at once what another instance has verified and remembers', async () => {
    const token = await second.token('user', 600, 'gone-1');
    expect(await wrapAs(token)).toBe(200);
    expect((await deny('gone-1')).status).toBe(201);
    expect(await wrapAs(token)).toBe('token_denied');
  });

  it('keeps back the answer that another instance has under way', async () => {
    const token = await second.token('user', 600, 'gone-2');
    expect(await wrapAs(token)).toBe(200);
    let answered = 0;
    meanwhile = async () => {
      meanwhile = () => Promise.resolve();
      answered = (await deny('gone-2')).status;
    };
    expect(await wrapAs(token)).toBe('token_denied');
    expect(answered).toBe(201);
  });
});

describe('P5: an issuer', () => {
  const path = '/v1/admin/issuers/idp';
  /** Who was no issuer a moment ago is let in once the notice of the change has come. */
  const admit = async () => {
    const answer = await first.call('admin', 'PUT', path, {
      json: {
        issuer: ISSUER,
        audience: 'kms',
        algorithms: ['ES256'],
        jwks: { keys: [key.jwk] },
        roles: [{ subject: 'alice', roles: ['user'] }],
        shared: true,
      },
    });
    await second.world.governing.refreshEpoch();
    return answer;
  };
  const remove = () => first.call('admin', 'DELETE', path);
  const token = () =>
    new SignJWT({})
      .setProtectedHeader({ alg: 'ES256', kid: 'k' })
      .setIssuer(ISSUER)
      .setAudience('kms')
      .setSubject('alice')
      .setExpirationTime('10m')
      .sign(key.privateKey);

  it('is ended at once in another instance, which has verified its tokens', async () => {
    const held = await token();
    expect((await admit()).status).toBe(200);
    expect(await wrapAs(held)).toBe(200);
    expect((await remove()).status).toBe(200);
    expect(await wrapAs(held)).toBe('token_invalid');
  });

  it('that is ended keeps back the answer that another instance has under way', async () => {
    await admit();
    const held = await token();
    expect(await wrapAs(held)).toBe(200);
    meanwhile = async () => {
      meanwhile = () => Promise.resolve();
      await remove();
    };
    expect(await wrapAs(held)).toBe('token_invalid');
  });

  it('whose roles change meanwhile has its answer under way decided anew', async () => {
    const { json } = await admit();
    const held = await token();
    expect(await wrapAs(held)).toBe(200);
    meanwhile = async () => {
      meanwhile = () => Promise.resolve();
      const init = {
        headers: { 'if-match': `"${String(json['revision'])}"` },
        json: {
          issuer: ISSUER,
          audience: 'kms',
          algorithms: ['ES256'],
          jwks: { keys: [key.jwk] },
          shared: true,
        },
      };
      expect((await first.call('admin', 'PUT', path, init)).status).toBe(200);
    };
    expect(await wrapAs(held)).toBe('forbidden');
  });
});

describe('P5: an authority of client certificates', () => {
  const path = '/v1/admin/issuers/mesh';
  const server = makeCertificate();
  let authority: TestAuthority;
  let third: Service<Instance>;
  let client: CertificateClient;
  beforeAll(async () => {
    authority = new TestAuthority('mesh');
    const tls = { cert: server.certificate, key: server.key, clients: 'request' } as const;
    third = await site.service({ ...held, options: { http: { host: '127.0.0.1', port: 0, tls } } });
    const certificate = authority.issue('DNS:trainer.example');
    client = new CertificateClient(third.port, server.certificate, certificate);
  });
  afterAll(() => {
    client.close();
    authority.remove();
  });

  const put = async (roles: readonly string[], match?: number) => {
    const answer = await first.call('admin', 'PUT', path, {
      ...(match === undefined ? {} : { headers: { 'if-match': `"${String(match)}"` } }),
      json: {
        kind: 'mtls',
        issuer: 'https://mesh.example',
        authorities: authority.pem,
        subject: 'dns',
        roles: roles.map((role) => ({ subject: 'trainer.example', roles: [role] })),
      },
    });
    expect(answer.status).toBe(200);
    await third.world.governing.refreshEpoch();
    return Number(answer.json['revision']);
  };
  const remove = () => first.call('admin', 'DELETE', path);
  const body = { plaintext: 'AAAA' };
  const wrap = () => client.code({ method: 'POST', path: '/v1/keys/k/wrap', body });
  const during = (act: () => Promise<unknown>) => {
    meanwhile = async () => {
      meanwhile = () => Promise.resolve();
      await act();
    };
  };

  it('is ended at once in another instance, over a connection that is open', async () => {
    await put(['user']);
    expect(await wrap()).toBe(200);
    expect((await remove()).status).toBe(200);
    expect(await wrap()).toBe('certificate_invalid');
    expect(client.connections).toBe(1);
  });

  it('that is ended keeps back the answer that another instance has under way', async () => {
    await put(['user']);
    expect(await wrap()).toBe(200);
    during(remove);
    expect(await wrap()).toBe('certificate_invalid');
  });

  it('whose roles change meanwhile has its answer under way decided anew', async () => {
    const revision = await put(['user']);
    expect(await wrap()).toBe(200);
    during(() => put([], revision));
    expect(await wrap()).toBe('forbidden');
  });
});
