/** Principals by client certificate: who vouches, for whom, for what, and until when. */
import { generateKeyPairSync } from 'node:crypto';
import { request } from 'node:https';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { CertificateAuthenticator } from '../../src/access/certificates.ts';
import { NOTHING_STORED } from '../../src/access/trust.ts';
import type { CertificateIssuerSettings } from '../../src/access/certificate-issuer.ts';
import { derObjectIdentifier, derSequence, derSetOf, derValue } from '../../src/crypto/der.ts';
import { TestAuthority } from '../access/client-certificates.ts';
import type { ClientCertificate } from '../access/client-certificates.ts';
import { codeOf } from '../access/issuer-fixture.ts';
import { makeCertificate } from '../config/certificate.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const ISSUER = 'https://mesh.example';
const API = 'spiffe://example.org/ns/payments/sa/api';

let authority: TestAuthority;
let stranger: TestAuthority;
let good: ClientCertificate;
beforeAll(() => {
  authority = new TestAuthority('mesh');
  stranger = new TestAuthority('mesh');
  good = authority.issue(`URI:${API}`);
});
afterAll(() => {
  authority.remove();
  stranger.remove();
});

const settings = (changes: Partial<CertificateIssuerSettings> = {}): CertificateIssuerSettings => ({
  issuer: ISSUER,
  authorities: [authority.certificate],
  subject: 'spiffe',
  trustDomain: 'example.org',
  roleMappings: [{ subject: 'spiffe://example.org/ns/payments/*', roles: ['user'] }],
  ...changes,
});
const DAY = 86_400_000;
const check = (
  { parsed }: ClientCertificate,
  changes: Partial<CertificateIssuerSettings> = {},
  now = new Date(),
) => {
  const opened = new CertificateAuthenticator({ issuers: [settings(changes)], now: () => now });
  return codeOf(opened.authenticate(parsed, 'default'));
};

describe('an issuer that a namespace stored', () => {
  it.each([
    ['https://other.example', 'ok'],
    [ISSUER, 'certificate_invalid'],
    ['https://idp.example', 'certificate_invalid'],
  ])('speaks as %s, which is no name of the configuration: %s', async (issuer, said) => {
    const stored = settings({ issuer, authorities: [stranger.certificate], namespace: 'default' });
    const opened = new CertificateAuthenticator({
      issuers: [settings()],
      names: ['https://idp.example'],
      trust: { ...NOTHING_STORED, certificateIssuers: () => Promise.resolve([stored]) },
    });
    const { parsed } = stranger.issue(`URI:${API}`);
    const found = await codeOf(opened.authenticate(parsed, 'default'));
    if (said === 'ok') expect(found).toMatchObject({ accepted: { issuer } });
    else expect(found).toBe(said);
  });
});

describe('a client certificate', () => {
  it('gives its principal', async () => {
    const fingerprint = good.parsed.fingerprint256.replaceAll(':', '').toLowerCase();
    expect(await check(good)).toEqual({
      accepted: {
        issuer: ISSUER,
        subject: API,
        method: 'mtls',
        roles: ['user'],
        acr: null,
        amr: [],
        session: Uint8Array.from(Buffer.from(fingerprint.slice(0, 32), 'hex')),
        expiresAt: good.parsed.validToDate,
        namespace: null,
      },
    });
  });

  it('of a namespace’s own issuer is worth nothing in another, and there comes before the shared', async () => {
    const team = settings({ issuer: 'urn:mesh:team', namespace: 'team', roleMappings: [] });
    const at = (namespace: string, issuers: readonly CertificateIssuerSettings[]) =>
      codeOf(new CertificateAuthenticator({ issuers }).authenticate(good.parsed, namespace));
    const home = { accepted: { issuer: 'urn:mesh:team', namespace: 'team', roles: [] } };
    expect(await at('team', [team])).toMatchObject(home);
    for (const other of ['default', 'team-b', 'absent', '']) {
      expect([other, await at(other, [team])]).toEqual([other, 'certificate_invalid']);
    }
    const both = [settings(), team];
    expect(await at('team', both)).toMatchObject(home);
    expect(await at('default', both)).toMatchObject({ accepted: { issuer: ISSUER } });
  });

  it('may name its subject as a host or a mail address', async () => {
    const dns = authority.issue('DNS:api.example.org');
    const accepted = { accepted: { subject: 'api.example.org', roles: [] } };
    expect(await check(dns, { subject: 'dns' })).toMatchObject(accepted);
    // A denial of the subject would else be got round by case.
    const upper = authority.issue('DNS:API.Example.org');
    expect(await check(upper, { subject: 'dns' })).toMatchObject(accepted);
    const mail = authority.issue('email:a@example.org');
    expect(await check(mail, { subject: 'email' })).toMatchObject({
      accepted: { subject: 'a@example.org' },
    });
  });

  it('is refused past its end, before its beginning, and past the end of its authority', async () => {
    expect(await check(good, {}, new Date(Date.now() - DAY))).toBe('certificate_invalid');
    const { validToDate } = good.parsed;
    expect(await check(good, {}, validToDate)).toHaveProperty('accepted');
    const after = (milliseconds: number) => new Date(validToDate.getTime() + milliseconds);
    expect(await check(good, {}, after(1_000))).toBe('certificate_expired');
    // Nobody vouches any more.
    expect(await check(good, {}, after(9 * DAY))).toBe('certificate_invalid');
  });

  it('of another authority is refused, of the same name or not', async () => {
    const other = stranger.issue(`URI:${API}`);
    expect(await check(other)).toBe('certificate_invalid');
    expect(await check(other, { authorities: [] })).toBe('certificate_invalid');
  });

  it.each<[string, string, string | null, string]>([
    ['two SPIFFE ids', `URI:${API},URI:spiffe://example.org/admin`, 'clientAuth', ''],
    ['another URI beside', `URI:${API},URI:https://example.org/`, 'clientAuth', ''],
    ['another trust domain', 'URI:spiffe://example.com/ns/payments/sa/api', 'clientAuth', ''],
    ['a trust domain that only begins so', 'URI:spiffe://example.org.evil/a', 'clientAuth', ''],
    ['no path', 'URI:spiffe://example.org', 'clientAuth', ''],
    ['an empty path', 'URI:spiffe://example.org/', 'clientAuth', ''],
    ['an empty segment', 'URI:spiffe://example.org//a', 'clientAuth', ''],
    ['a segment that climbs', 'URI:spiffe://example.org/ns/payments/../admin', 'clientAuth', ''],
    ['a query', `URI:${API}?admin`, 'clientAuth', ''],
    ['no URI', 'DNS:api.example.org', 'clientAuth', ''],
    ['a use as a server alone', `URI:${API}`, 'serverAuth', ''],
    ['no stated use', `URI:${API}`, null, ''],
    ['rights of an authority', `URI:${API}`, 'clientAuth', 'basicConstraints=CA:TRUE'],
  ])('is refused with %s', async (_name, names, usage, more) => {
    expect(await check(authority.issue(names, usage, more))).toBe('certificate_invalid');
  });

  it('is refused with two hosts, of which one would have to be guessed', async () => {
    const two = authority.issue('DNS:a.example.org,DNS:b.example.org');
    expect(await check(two, { subject: 'dns' })).toBe('certificate_invalid');
  });
});

describe('a certificate whose own subject names the principal', () => {
  type Value = readonly [oid: string, tag: number, text: string | Uint8Array];
  const CN = '2.5.4.3';
  const [O, OU, DC] = ['2.5.4.10', '2.5.4.11', '0.9.2342.19200300.100.1.25'];
  const [UTF8, PRINTABLE, IA5, BMP, TELETEX] = [0x0c, 0x13, 0x16, 0x1e, 0x14];
  const cn = (text: string | Uint8Array, tag = UTF8): Value => [CN, tag, text];
  const nameOf = (...relative: readonly (readonly Value[])[]) =>
    derSequence(
      ...relative.map((values) =>
        derSetOf(
          ...values.map(([oid, tag, text]) =>
            derSequence(derObjectIdentifier(oid), derValue(tag, Buffer.from(text as string))),
          ),
        ),
      ),
    );
  let leaf: ClientCertificate;
  beforeAll(() => {
    leaf = authority.issue(`URI:${API}`);
  });
  const asked = (
    subject: CertificateIssuerSettings['subject'],
    relative: readonly (readonly Value[])[],
    roleMappings: CertificateIssuerSettings['roleMappings'] = [],
  ) =>
    check(authority.renamed(leaf, nameOf(...relative)), {
      subject,
      trustDomain: undefined,
      roleMappings,
    });

  it('is known by its one common name, whatever stands beside and in its alternative names', async () => {
    const mapping = [{ subject: 'api', roles: ['user'] }];
    const accepted = { accepted: { subject: 'api', roles: ['user'], method: 'mtls' } };
    expect(await asked('commonName', [[cn('api')]], mapping)).toMatchObject(accepted);
    const printable = [[[O, UTF8, 'Example']], [cn('api', PRINTABLE)]] as const;
    expect(await asked('commonName', printable, mapping)).toMatchObject(accepted);
    // The source is the issuer's: where it is the alternative name, the common one is nobody's.
    const named = authority.renamed(leaf, nameOf([cn('spiffe://example.org/admin')]));
    expect(await check(named)).toMatchObject({ accepted: { subject: API } });
    expect(await check(named, { subject: 'dns' })).toBe('certificate_invalid');
  });

  it.each([
    ['API'],
    // Cyrillic а: looks alike, and is somebody else.
    ['\u0430pi'],
    // Not composed, not normalized.
    ['ape\u0301'],
    ['a pi'],
    ['a*'],
    ['x'.repeat(64)],
    ['\u{1f511}'],
  ])('is known as it was signed: %s', async (text) => {
    const mapping = [
      { subject: 'api', roles: ['admin'] },
      { subject: 'ap\u00e9', roles: ['admin'] },
    ];
    const found = await asked('commonName', [[cn(text)]], mapping);
    expect(found).toMatchObject({ accepted: { subject: text, roles: [] } });
  });

  const REFUSED: readonly (readonly [string, readonly (readonly Value[])[]])[] = [
    ['no name at all', []],
    ['no common name', [[[O, UTF8, 'Example']]]],
    ['two common names', [[cn('api')], [cn('admin')]]],
    ['the same common name twice', [[cn('api')], [cn('api')]]],
    ['two in one relative name', [[cn('api'), cn('admin')]]],
    ['a relative name of two kinds', [[cn('api'), [O, UTF8, 'Example']]]],
    ['an empty one', [[cn('')]]],
    ['a NUL', [[cn('api\0.evil')]]],
    ['a NUL in a PrintableString', [[cn('api\0', PRINTABLE)]]],
    ['a line break', [[cn('api\nCN=admin')]]],
    ['an override of the writing', [[cn('a\u202eipa')]]],
    ['a space that has no width', [[cn('a\u200bpi')]]],
    ['a byte order mark', [[cn('\ufeffapi')]]],
    ...['\u00a0', '\u2003', '\u3000', '\u3164', '\u034f', '\ufe0f', '\u{e0100}', '\u2800'].map(
      (blank): [string, [[Value]]] => [
        `U+${blank.codePointAt(0)?.toString(16) ?? ''}`,
        [[cn(`a${blank}pi`)]],
      ],
    ),
    ['a space at its end', [[cn('api ')]]],
    ['65 characters', [[cn('x'.repeat(65))]]],
    ['a BMPString', [[cn(Buffer.from('\0a\0p\0i', 'latin1'), BMP)]]],
    ['a TeletexString', [[cn('api', TELETEX)]]],
    ['an IA5String', [[cn('api', IA5)]]],
    ['characters that a PrintableString has not', [[cn('a*pi', PRINTABLE)]]],
    [
      'too many relative names',
      [...Array.from({ length: 16 }, () => [[OU, UTF8, 'u'] as const]), [cn('api')]],
    ],
  ];
  it.each(REFUSED)('is refused with %s', async (_what, relative) => {
    expect(await asked('commonName', relative)).toBe('certificate_invalid');
    if (_what !== 'no common name') {
      const alike = await asked('distinguishedName', relative);
      // A longer common name is bounded with all of the distinguished name.
      if (_what !== '65 characters') expect(alike).toBe('certificate_invalid');
    }
  });

  it('is no certificate to OpenSSL with what is no UTF-8', () => {
    for (const bytes of [Uint8Array.of(0x61, 0xc0, 0x80), Uint8Array.of(0xed, 0xa0, 0x80)]) {
      expect(() => authority.renamed(leaf, nameOf([cn(bytes)]))).toThrow();
    }
  });

  it('is known by all of its distinguished name, as RFC 4514 writes it', async () => {
    const relative: readonly (readonly Value[])[] = [
      [[DC, IA5, 'example']],
      [[O, UTF8, 'Example, "Ltd" <a=b>; \\ + #1']],
      [[OU, PRINTABLE, 'Payments']],
      [cn('#api')],
    ];
    const subject = String.raw`CN=\#api,OU=Payments,O=Example\, \"Ltd\" \<a=b\>\; \\ \+ #1,DC=example`;
    const found = await asked('distinguishedName', relative, [{ subject, roles: ['user'] }]);
    expect(found).toMatchObject({ accepted: { subject, roles: ['user'] } });
    // No value can end another's: what would be read as two attributes is one.
    const forged = await asked('distinguishedName', [[cn('api,O=Example')]]);
    expect(forged).toMatchObject({ accepted: { subject: String.raw`CN=api\,O=Example` } });
    expect(await asked('distinguishedName', [[cn('x'.repeat(253))]])).toBe('certificate_invalid');
    expect(await asked('distinguishedName', [[['1.2.840.113549.1.9.1', IA5, 'a@b.c']]])).toBe(
      'certificate_invalid',
    );
  });
});

describe('a listener that asks for certificates', () => {
  let service: Service;
  const server = makeCertificate();
  beforeAll(async () => {
    const tls = { cert: server.certificate, key: server.key, clients: 'request' } as const;
    service = await openService({
      certificates: [settings()],
      options: { http: { host: '127.0.0.1', port: 0, tls } },
    });
  });
  afterAll(() => service.stop());

  const ask = async (
    client: ClientCertificate | null,
    { token, method = 'GET', path = '/v1/whoami', body }: Sent = {},
  ) => {
    const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>>();
    const headers = {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    };
    const identity = client === null ? {} : { cert: client.cert, key: client.key };
    const options = { method, headers, ca: server.certificate, agent: false, ...identity };
    request(`https://127.0.0.1:${String(service.port)}${path}`, options, (response) => {
      text(response).then((answer) => {
        resolve({ status: response.statusCode, ...(JSON.parse(answer) as object) });
      }, reject);
    })
      .on('error', reject)
      .end(body === undefined ? undefined : JSON.stringify(body));
    return promise;
  };
  interface Sent {
    readonly token?: string;
    readonly method?: string;
    readonly path?: string;
    readonly body?: object;
  }

  it('lets in who has one, or a token, and nobody else', async () => {
    expect(await ask(good)).toMatchObject({ status: 200, issuer: ISSUER, subject: API });
    expect(service.drafts.at(-1)).toMatchObject({ actor: { method: 'mtls', subject: API } });
    expect(await ask(null)).toMatchObject({ status: 401, code: 'token_missing' });
    const token = await service.token('auditor');
    expect(await ask(null, { token })).toMatchObject({ status: 200, roles: ['auditor'] });
    const other = stranger.issue(`URI:${API}`);
    expect(await ask(other)).toMatchObject({ status: 401, code: 'certificate_invalid' });
  });

  it('goes by the token where there are both, good or bad', async () => {
    const token = await service.token('auditor');
    expect(await ask(good, { token })).toMatchObject({ status: 200, roles: ['auditor'] });
    expect(await ask(good, { token: 'x' })).toMatchObject({ status: 401, code: 'token_invalid' });
  });

  it('shares the name of its issuer with no stored one', async () => {
    const token = await service.token('admin');
    const { publicKey } = generateKeyPairSync('ed25519');
    const jwk = { ...publicKey.export({ format: 'jwk' }), kid: '1', alg: 'EdDSA', use: 'sig' };
    const body = { issuer: ISSUER, audience: 'a', algorithms: ['EdDSA'], jwks: { keys: [jwk] } };
    const path = '/v1/admin/issuers/mine';
    const taken = await ask(null, { token, method: 'PUT', path, body });
    expect(taken).toMatchObject({ status: 409, code: 'already_exists' });
  });

  it('lets nobody in whose certificate is denied, by fingerprint, serial or subject', async () => {
    const token = await service.token('admin');
    const path = '/v1/admin/denials';
    const deny = (target: object) =>
      ask(null, { token, method: 'POST', path, body: { reason: 'lost', ...target } });
    for (const targetOf of [
      ({ parsed }: ClientCertificate) => ({
        certificate: parsed.fingerprint256.replaceAll(':', '').toLowerCase(),
      }),
      ({ parsed }: ClientCertificate) => ({
        issuer: ISSUER,
        serial: parsed.serialNumber.toLowerCase().replace(/^0+/u, ''),
      }),
      () => ({ issuer: ISSUER, subject: API }),
    ]) {
      const client = authority.issue(`URI:${API}`);
      expect(await ask(client)).toMatchObject({ status: 200 });
      expect(await deny(targetOf(client))).toMatchObject({ status: 201 });
      expect(await ask(client)).toMatchObject({ status: 401, code: 'token_denied' });
    }
  });
});
