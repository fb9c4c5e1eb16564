/** Authorities of client certificates that a namespace stores for itself, beside its issuers of tokens. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { TestAuthority } from '../access/client-certificates.ts';
import type { AuthorityOptions, ClientCertificate } from '../access/client-certificates.ts';
import { makeCertificate } from '../config/certificate.ts';
import { eventually } from '../store/eventually.ts';
import { CertificateClient } from './certificate-client.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const PATH = '/v1/admin/issuers';
const API = 'spiffe://team.example/ns/payments/sa/api';

const DEAR = ['rsa:2048', '-pkeyopt', 'rsa_keygen_pubexp:4294967311'];
const server = makeCertificate();
const made: TestAuthority[] = [];
const clients: CertificateClient[] = [];
const authorityOf = (name: string, options: AuthorityOptions = {}): TestAuthority => {
  const authority = new TestAuthority(name, options);
  made.push(authority);
  return authority;
};

let service: Service;
let operators: TestAuthority;
/** Of two teams, and of one name. */
let team: TestAuthority;
let other: TestAuthority;
beforeAll(async () => {
  [operators, team, other] = [authorityOf('operators'), authorityOf('mesh'), authorityOf('mesh')];
  service = await openService({
    certificates: [
      {
        issuer: 'https://operators.example',
        authorities: [operators.certificate],
        subject: 'dns',
        roleMappings: [],
      },
    ],
    options: {
      http: {
        host: '127.0.0.1',
        port: 0,
        tls: { cert: server.certificate, key: server.key, clients: 'request' },
      },
    },
  });
  for (const name of ['team', 'other']) {
    expect(await change({ method: 'POST', path: '/v1/admin/namespaces', body: { name } })).toEqual(
      expect.objectContaining({ status: 201 }),
    );
  }
});
afterAll(async () => {
  for (const client of clients) client.close();
  for (const authority of made) authority.remove();
  await service.stop();
});

const clientOf = (certificate: ClientCertificate | null): CertificateClient => {
  const client = new CertificateClient(service.port, server.certificate, certificate);
  clients.push(client);
  return client;
};
const change = async (sent: Parameters<CertificateClient['ask']>[0]) =>
  clientOf(null).ask({ token: await service.token('admin'), ...sent });

interface Put {
  readonly namespace?: string;
  readonly name?: string;
  readonly query?: string;
  readonly match?: number;
}
const put = (
  authorities: string,
  more: object = {},
  { namespace = 'team', name = 'mesh', query = '', match }: Put = {},
) =>
  change({
    namespace,
    method: 'PUT',
    path: `${PATH}/${name}${query}`,
    body: {
      kind: 'mtls',
      issuer: `https://${namespace}.example`,
      subject: 'spiffe',
      trustDomain: 'team.example',
      roles: [{ subject: 'spiffe://team.example/ns/payments/*', roles: ['user'] }],
      authorities,
      ...more,
    },
    ...(match === undefined ? {} : { headers: { 'if-match': `"${String(match)}"` } }),
  });
const remove = (namespace = 'team', name = 'mesh') =>
  change({ namespace, method: 'DELETE', path: `${PATH}/${name}` });

describe('an authority of a namespace', () => {
  it('vouches at once, over connections that are open, there and nowhere else, and ends so', async () => {
    const client = clientOf(team.issue(`URI:${API}`));
    expect(await client.code({ namespace: 'team' })).toBe('certificate_invalid');
    expect(await put(team.pem)).toMatchObject({
      status: 200,
      ...{ kind: 'mtls', keys: 'authorities', authorities: team.pem, subject: 'spiffe' },
      ...{ audience: null, algorithms: [], trustDomain: 'team.example' },
    });
    expect(await client.ask({ namespace: 'team' })).toMatchObject({
      status: 200,
      ...{ issuer: 'https://team.example', subject: API, roles: ['user'] },
    });
    for (const namespace of ['default', 'other', 'absent', 'No Name']) {
      expect([namespace, await client.code({ namespace })]).toEqual([
        namespace,
        'certificate_invalid',
      ]);
    }
    expect(service.drafts.at(-1)).toMatchObject({
      actor: { method: 'mtls', issuer: 'https://team.example', subject: API },
    });
    expect(await remove()).toMatchObject({ status: 200, deleted: true });
    expect(await client.code({ namespace: 'team' })).toBe('certificate_invalid');
    expect(client.connections).toBe(1);
  });

  it('names by the subject of the certificate where its issuer says so, and by nothing else then', async () => {
    // Both stand in it: a host in its alternative names, `leaf` in its subject.
    const client = clientOf(team.issue('DNS:api.team.example'));
    const named = async (subject: string, match?: number) => {
      const roles = ['api.team.example', 'leaf', 'CN=leaf'].map((each, n) => ({
        subject: each,
        roles: [`role-${String(n)}`],
      }));
      const more = { subject, trustDomain: undefined, roles };
      if (match !== undefined) {
        // The same text would name somebody else: an issuer that is to read another part is admitted anew.
        expect(await put(team.pem, more, { match })).toMatchObject({ status: 400 });
        expect(await remove()).toMatchObject({ status: 200 });
      }
      const { status, revision } = await put(team.pem, more);
      expect([subject, status]).toEqual([subject, 200]);
      const { subject: told, roles: given } = await client.ask({ namespace: 'team' });
      return { told, given, revision: Number(revision) };
    };
    const host = await named('dns');
    expect(host).toMatchObject({ told: 'api.team.example', given: ['role-0'] });
    const common = await named('commonName', host.revision);
    expect(common).toMatchObject({ told: 'leaf', given: ['role-1'] });
    const whole = await named('distinguishedName', common.revision);
    expect(whole).toMatchObject({ told: 'CN=leaf', given: ['role-2'] });
    for (const more of [{ subject: 'commonName' }, { subject: 'CN', trustDomain: undefined }]) {
      expect(await put(team.pem, more, { match: whole.revision })).toMatchObject({ status: 400 });
    }
    expect(await remove()).toMatchObject({ status: 200 });
  });

  it('is not confused with one of the same name, nor of the same key, of another namespace', async () => {
    await put(team.pem);
    await put(other.pem, {}, { namespace: 'other' });
    const [ours, theirs] = [team, other].map((each) => clientOf(each.issue(`URI:${API}`)));
    const at = async (namespace: string) => [
      await ours?.code({ namespace }),
      await theirs?.code({ namespace }),
    ];
    expect(await at('team')).toEqual([200, 'certificate_invalid']);
    expect(await at('other')).toEqual(['certificate_invalid', 200]);
    // The very same authority, which the other team maps in its own way.
    const shown = await put(
      team.pem,
      { roles: [] },
      { namespace: 'other', name: 'same', match: 0 },
    );
    expect(shown).toMatchObject({ status: 412 });
    const mine = { issuer: 'https://second.example', roles: [] };
    await put(team.pem, mine, { namespace: 'other', name: 'same' });
    expect(await ours?.ask({ namespace: 'other' })).toMatchObject({
      ...{ issuer: 'https://second.example', roles: [] },
    });
    expect(await ours?.ask({ namespace: 'team' })).toMatchObject({
      ...{ issuer: 'https://team.example', roles: ['user'] },
    });
    for (const [namespace, name] of [
      ['team', 'mesh'],
      ['other', 'mesh'],
      ['other', 'same'],
    ]) {
      expect(await remove(namespace, name)).toMatchObject({ deleted: true });
    }
  });

  it('follows what is said anew, and says nothing to a token of its name', async () => {
    const { revision } = await put(team.pem);
    const client = clientOf(team.issue(`URI:${API}`));
    const token = await service.token('admin');
    expect(await client.code({ namespace: 'team' })).toBe(200);
    expect(await put(other.pem)).toMatchObject({ code: 'precondition_required' });
    expect(await put(other.pem, {}, { match: Number(revision) })).toMatchObject({ status: 200 });
    expect(await client.code({ namespace: 'team' })).toBe('certificate_invalid');
    const claims = { iss: 'https://team.example', sub: API };
    const payload = Buffer.from(JSON.stringify(claims)).toString('base64url');
    const [head, , signature] = token.split('.');
    const forged = `${head ?? ''}.${payload}.${signature ?? ''}`;
    expect(await clientOf(null).code({ namespace: 'team', token: forged })).toBe('token_invalid');
    const oidc = { kind: 'oidc', audience: 'a', algorithms: ['EdDSA'], authorities: undefined };
    const swapped = { ...oidc, subject: undefined, trustDomain: undefined };
    const again = await put('', swapped, { match: Number(revision) + 1 });
    expect(again).toMatchObject({ code: 'invalid_value' });
    expect(await put('', swapped, { name: 'second' })).toMatchObject({ code: 'already_exists' });
    await remove();
  });

  it('of the root is good in the root, and shared in all', async () => {
    const issuer = 'spiffe://team.example';
    const { revision } = await put(team.pem, { issuer }, { namespace: 'default' });
    const client = clientOf(team.issue(`URI:${API}`));
    const everywhere = async () => [
      await client.code(),
      await client.code({ namespace: 'team' }),
      await client.code({ namespace: 'absent' }),
    ];
    const alone = [200, 'certificate_invalid', 'certificate_invalid'];
    expect(await everywhere()).toEqual(alone);
    expect(await put(team.pem, { shared: true })).toMatchObject({ code: 'invalid_value' });
    const shared = { issuer, shared: true };
    await put(team.pem, shared, { namespace: 'default', match: Number(revision) });
    expect((await everywhere()).slice(0, 2)).toEqual([200, 200]);
    expect(await put(team.pem)).toMatchObject({ code: 'already_exists' });
    await remove('default');
    expect(await everywhere()).toEqual(Array(3).fill('certificate_invalid'));
  });

  it('is none that another issuer of the namespace, or the configuration, has', async () => {
    await put(`${team.pem}${other.pem}`);
    const second = { issuer: 'https://second.example' };
    expect(await put(other.pem, second, { name: 'b' })).toMatchObject({ code: 'already_exists' });
    expect(await put(operators.pem, second, { name: 'b' })).toMatchObject({
      code: 'already_exists',
    });
    const taken = { issuer: 'https://operators.example' };
    const free = authorityOf('free');
    expect(await put(free.pem, taken, { name: 'b' })).toMatchObject({ code: 'already_exists' });
    const { items } = await change({ namespace: 'team', path: PATH });
    expect(items).toMatchObject([
      { source: 'configuration', kind: 'oidc' },
      { source: 'configuration', kind: 'mtls', issuer: 'https://operators.example' },
      { source: 'stored', name: 'mesh' },
    ]);
    await remove();
  });

  it('shows on a dry run whom it would let in, and lets nobody in', async () => {
    const tried = await put(team.pem, {}, { query: '?dryRun=true' });
    const fingerprint = team.certificate.fingerprint256.replaceAll(':', '').toLowerCase();
    expect(tried).toMatchObject({
      ...{ status: 200, dryRun: true },
      check: { usable: true, problem: null, authorities: [{ subject: 'CN=mesh', fingerprint }] },
    });
    const client = clientOf(team.issue(`URI:${API}`));
    expect(await client.code({ namespace: 'team' })).toBe('certificate_invalid');
  });

  it('cannot be ended by who comes by it', async () => {
    const roles = [{ subject: API, roles: ['admin'] }];
    await put(team.pem, { roles });
    const client = clientOf(team.issue(`URI:${API}`));
    const ended = { namespace: 'team', method: 'DELETE', path: `${PATH}/mesh` };
    expect(await client.code(ended)).toBe('would_lock_out');
    const subject = `${API}-gone`;
    const lost = clientOf(team.issue(`URI:${subject}`));
    const denied = { issuer: 'https://team.example', subject, reason: 'gone' };
    const deny = { method: 'POST', path: '/v1/admin/denials', body: denied };
    // What is denied in another namespace says nothing here.
    expect(await change({ ...deny, namespace: 'other' })).toMatchObject({ status: 201 });
    expect(await lost.code({ namespace: 'team' })).toBe(200);
    expect(await change({ ...deny, namespace: 'team' })).toMatchObject({ status: 201 });
    expect(await lost.code({ namespace: 'team' })).toBe('token_denied');
    expect(await client.code({ namespace: 'team' })).toBe(200);
    await remove();
  });

  it('vouches for nobody in a namespace that is suspended', async () => {
    await put(other.pem, {}, { namespace: 'other' });
    const client = clientOf(other.issue(`URI:${API}`));
    expect(await client.code({ namespace: 'other' })).toBe(200);
    const path = '/v1/admin/namespaces/other';
    const body = { reason: 'gone' };
    await change({ method: 'POST', path: `${path}/suspend`, body });
    const list = { namespace: 'other', path: '/v1/keys' };
    expect(await client.code(list)).not.toBe(200);
    await change({ method: 'POST', path: `${path}/resume`, body });
    expect(await client.code({ namespace: 'other' })).toBe(200);
    await remove('other');
  });
});

describe('a certificate of an authority of a namespace', () => {
  beforeAll(async () => {
    expect(await put(team.pem)).toMatchObject({ status: 200 });
  });
  afterAll(() => remove());

  it.each<[string, () => ClientCertificate, string]>([
    ['past its end', () => team.issue(`URI:${API}`, 'clientAuth', '', -1), 'certificate_expired'],
    ['of another authority of its name', () => other.issue(`URI:${API}`), 'certificate_invalid'],
    [
      'with two SPIFFE ids',
      () => team.issue(`URI:${API},URI:spiffe://team.example/admin`),
      'certificate_invalid',
    ],
    [
      'of another trust domain',
      () => team.issue('URI:spiffe://other.example/a'),
      'certificate_invalid',
    ],
    ['for servers', () => team.issue(`URI:${API}`, 'serverAuth'), 'certificate_invalid'],
    [
      'whose key may not sign',
      () => team.issue(`URI:${API}`, 'clientAuth', 'keyUsage=keyAgreement'),
      'certificate_invalid',
    ],
    [
      'with a critical extension that nobody here reads',
      () => team.issue(`URI:${API}`, 'clientAuth', '1.2.3.4=critical,ASN1:NULL'),
      'certificate_invalid',
    ],
    [
      'signed over SHA-1',
      () => team.issue(`URI:${API}`, 'clientAuth', '', 2, '-sha1'),
      'certificate_invalid',
    ],
  ])('is refused %s', async (_name, issue, expected) => {
    expect(await clientOf(issue()).code({ namespace: 'team' })).toBe(expected);
  });

  it('may have a critical subjectAltName and key usage, as SPIFFE asks', async () => {
    const names = `critical,URI:${API}`;
    const more = 'keyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE';
    const client = clientOf(team.issue(names, 'clientAuth', more));
    expect(await client.code({ namespace: 'team' })).toBe(200);
  });
});

describe('a source that was not asked for its certificate', () => {
  it('is told so, and may come with a token', async () => {
    expect(await put(team.pem)).toMatchObject({ status: 200 });
    const open = await Promise.all(
      Array.from({ length: 70 }, async () => {
        const socket = connect({ host: '127.0.0.1', port: service.port });
        await once(socket, 'connect');
        return socket;
      }),
    );
    const certificate = team.issue(`URI:${API}`);
    const unasked = clientOf(certificate);
    expect(await unasked.code({ namespace: 'team' })).toBe('rate_limited');
    expect(await unasked.code({ token: await service.token('auditor') })).toBe(200);
    for (const socket of open) socket.destroy();
    await eventually(async () => (await unasked.code({ namespace: 'team' })) === 200);
    await remove();
  });
});

describe('authorities', () => {
  const leaf = () => team.issue(`URI:${API}`).cert;
  it.each<[string, () => string]>([
    ['no PEM', () => 'x'],
    ['text around it', () => `mesh\n${team.pem}`],
    ['a certificate of a client', leaf],
    ['the same twice', () => team.pem + team.pem],
    ['one that has expired', () => authorityOf('old', { days: -1 }).pem],
    ['an RSA key of 1024 bits', () => authorityOf('weak', { newKey: ['rsa:1024'] }).pem],
    ['an exponent that makes checks dear', () => authorityOf('dear', { newKey: DEAR }).pem],
    [
      'a curve of another kind',
      () => authorityOf('curve', { newKey: ['ec', '-pkeyopt', 'ec_paramgen_curve:secp256k1'] }).pem,
    ],
    [
      'one for servers alone',
      () => authorityOf('web', { more: 'extendedKeyUsage=serverAuth' }).pem,
    ],
    ['one that may not sign', () => authorityOf('no', { more: 'keyUsage=digitalSignature' }).pem],
    [
      'constraints on names',
      () => authorityOf('names', { more: 'nameConstraints=permitted;DNS:example.org' }).pem,
    ],
    [
      'a critical extension that nobody here reads',
      () => authorityOf('critical', { more: '1.2.3.4=critical,ASN1:NULL' }).pem,
    ],
  ])('are refused: %s', async (_name, pem) => {
    expect(await put(pem(), {}, { name: 'bad' })).toMatchObject({
      ...{ status: 400, code: 'invalid_value' },
    });
  });

  it.each<[string, object]>([
    ['an issuer of our own', { issuer: 'urn:twofold:system' }],
    ['an issuer that is no URI', { issuer: 'mesh' }],
    ['an audience', { audience: 'a' }],
    ['keys', { jwksUrl: 'https://team.example/jwks' }],
    ['no trust domain', { trustDomain: undefined }],
    ['a trust domain of hosts', { subject: 'dns' }],
    ['no kind of name', { subject: undefined }],
    ['roles of a beginning that ends in a name', { roles: [{ subject: 'a*', roles: ['user'] }] }],
    ['a kind of tokens', { kind: 'oidc' }],
  ])('are refused with %s', async (_name, more) => {
    expect(await put(team.pem, more, { name: 'bad' })).toMatchObject({ code: 'invalid_value' });
  });

  it('of one name are at most ten in a namespace, and one issuer has at most ten', async () => {
    const ten = Array.from({ length: 10 }, () => authorityOf('many').pem);
    const eleventh = authorityOf('many').pem;
    expect(await put([...ten, eleventh].join(''))).toMatchObject({ code: 'invalid_value' });
    expect(await put(ten.join(''))).toMatchObject({ status: 200 });
    const second = { issuer: 'https://second.example' };
    expect(await put(eleventh, second, { name: 'b' })).toMatchObject({ code: 'quota_exceeded' });
    expect(await put(team.pem, second, { name: 'b' })).toMatchObject({ status: 200 });
    await remove();
    await remove('team', 'b');
  });
});
