import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  SOFTHSM_PATHS,
  checkConfig,
  describeConfig,
  loadConfig,
  presentConfig,
  readOwnerOnlyFile,
  takeConfigFlags,
} from '../../src/config.ts';
import type { ConfigPart } from '../../src/config.ts';
import { SETTINGS } from '../../src/config/schema.ts';
import { TwofoldError } from '../../src/errors.ts';
import { makeCertificate } from './certificate.ts';

const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

let folder: string;
const at = (name: string) => join(folder, name);

const put = (name: string, text: string, mode = 0o600): string => {
  writeFileSync(at(name), text);
  chmodSync(at(name), mode);
  return at(name);
};

type Environment = Record<string, string>;

/** The smallest production environment that is accepted. */
const production = (): Environment => ({
  TWOFOLD_MODE: 'production',
  DATABASE_URL: 'postgresql://u:p@db.example:5432/t',
  TWOFOLD_PKCS11_MODULE: at('module.so'),
  TWOFOLD_HSM_SLOT: '3',
  TWOFOLD_HSM_PIN_FILE: at('pin'),
  TWOFOLD_HTTP_TLS_CERT_FILE: at('cert.pem'),
  TWOFOLD_HTTP_TLS_KEY_FILE: at('key.pem'),
  TWOFOLD_ISSUERS: JSON.stringify([
    {
      issuer: 'https://i.example',
      audience: 'twofold',
      jwksFile: at('jwks.json'),
      algorithms: ['ES256'],
    },
  ]),
});

const load = (environment: Environment, argv: readonly string[] = []) =>
  loadConfig({ environment, flags: takeConfigFlags(argv).flags });

/** Where the problems are. */
const wrong = (environment: Environment, argv: readonly string[] = []): string[] => {
  const check = checkConfig({ environment, flags: takeConfigFlags(argv).flags });
  return check.ok ? [] : check.problems.map(({ where }) => where);
};

const dev = (more: Environment = {}): Environment => ({ TWOFOLD_MODE: 'dev', ...more });

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-config-'));
  put('module.so', 'x');
  put('pin', '1234\n');
  put('jwks.json', JSON.stringify({ keys: [publicKey.export({ format: 'jwk' })] }));
  const { certificate, key } = makeCertificate();
  put('cert.pem', certificate, 0o644);
  put('key.pem', key);
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('sources', () => {
  it('needs nothing in dev and is frozen throughout', () => {
    const config = load(dev());
    expect(config.http).toEqual({ host: '127.0.0.1', port: 8370 });
    expect(config.metrics).toEqual({ host: '127.0.0.1', port: 8371 });
    expect(config.database.url).toBeUndefined();
    const thawed = (value: unknown): boolean =>
      typeof value === 'object' &&
      value !== null &&
      (!Object.isFrozen(value) || Object.values(value).some(thawed));
    expect(thawed(config)).toBe(false);
  });

  it('lets flags win over the environment and that over the file', () => {
    const file = put(
      'c.json',
      JSON.stringify({ mode: 'dev', http: { port: 1 }, log: { level: 'warn' } }),
    );
    const environment = { TWOFOLD_CONFIG: file, TWOFOLD_PORT: '2' };
    expect(load({ TWOFOLD_CONFIG: file }).http.port).toBe(1);
    expect(load(environment).http.port).toBe(2);
    expect(load(environment, ['serve', '--port', '3']).http.port).toBe(3);
    expect(load(environment).log.level).toBe('warn');
    expect(load({}, ['--config', file, '--port=0']).http.port).toBe(0);
  });

  it('makes paths absolute, the default data folder beside the program', () => {
    expect(load(dev()).dataDir).toBe(join(import.meta.dirname, '../../.twofold'));
    expect(load(dev({ TWOFOLD_DATA: 'here' })).dataDir).toBe(join(process.cwd(), 'here'));
  });

  it('splits off its own flags and leaves the rest', () => {
    const { flags, rest } = takeConfigFlags([
      'serve',
      '--dev',
      '--role',
      'user',
      '--port=1',
      '--',
      '--data',
    ]);
    expect([...flags]).toEqual([
      ['mode', 'dev'],
      ['port', '1'],
    ]);
    expect(rest).toEqual(['serve', '--role', 'user', '--', '--data']);
  });

  it('offers no flag for what is secret', () => {
    expect(takeConfigFlags(['--database-url', 'x']).rest).toEqual(['--database-url', 'x']);
    expect(takeConfigFlags(['--database-owner-url=x']).rest).toEqual(['--database-owner-url=x']);
  });
});

describe('refusals name the setting', () => {
  it.each<[string, Environment, string]>([
    ['unknown variable', dev({ TWOFOLD_PORTT: '1' }), 'TWOFOLD_PORTT'],
    ['empty variable', dev({ TWOFOLD_PORT: '' }), 'TWOFOLD_PORT'],
    [
      'another host as a parameter',
      dev({ DATABASE_URL: 'postgres://h/d?host=127.0.0.1' }),
      'DATABASE_URL',
    ],
    [
      'options of the session',
      dev({ DATABASE_URL: 'postgres://h/d?options=-c%20synchronous_commit%3Doff' }),
      'DATABASE_URL',
    ],
    [
      'a parameter that nobody knows',
      dev({ DATABASE_URL: 'postgres://h/d?sslmode=verify-full&pool=1' }),
      'DATABASE_URL',
    ],
    [
      'two sslmodes',
      dev({ DATABASE_URL: 'postgres://h/d?sslmode=verify-full&sslmode=disable' }),
      'DATABASE_URL',
    ],
    [
      "a parameter in the owner's URL",
      dev({
        DATABASE_URL: 'postgres://h/d',
        TWOFOLD_DATABASE_OWNER_URL: 'postgres://h/d?user=other',
      }),
      'database.ownerUrl',
    ],
    ['database without host', dev({ DATABASE_URL: 'postgres:///d' }), 'DATABASE_URL'],
    ['TLS to no database', dev({ TWOFOLD_DATABASE_TLS: 'require' }), 'database.tls'],
    ['no number', dev({ TWOFOLD_PORT: '80a' }), 'TWOFOLD_PORT'],
    ['hexadecimal number', dev({ TWOFOLD_PORT: '0x50' }), 'TWOFOLD_PORT'],
    ['port out of range', dev({ TWOFOLD_PORT: '65536' }), 'TWOFOLD_PORT'],
    ['unknown mode', { TWOFOLD_MODE: 'test' }, 'TWOFOLD_MODE'],
    ['grace', dev({ TWOFOLD_ZONE_GRACE_MS: '120001' }), 'TWOFOLD_ZONE_GRACE_MS'],
    ['host name', dev({ TWOFOLD_HTTP_HOST: 'example.org' }), 'TWOFOLD_HTTP_HOST'],
    ['all addresses without TLS', dev({ TWOFOLD_HTTP_HOST: '0.0.0.0' }), 'http.host'],
    ['IPv6 without TLS', dev({ TWOFOLD_HTTP_HOST: '::' }), 'http.host'],
    ['admin without TLS', dev({ TWOFOLD_ADMIN_HOST: '10.0.0.1' }), 'admin.host'],
    ['metrics without TLS', dev({ TWOFOLD_METRICS_HOST: '0.0.0.0' }), 'metrics.host'],
    ['half a TLS identity', dev({ TWOFOLD_HTTP_TLS_CERT_FILE: '/c' }), 'http.tls.keyFile'],
    ['issuers not JSON', dev({ TWOFOLD_ISSUERS: '[' }), 'TWOFOLD_ISSUERS'],
    ['same port twice', dev({ TWOFOLD_PORT: '8371' }), 'http.port'],
    [
      'module without PIN file',
      dev({ TWOFOLD_PKCS11_MODULE: '/m.so', TWOFOLD_HSM_SLOT: '1' }),
      'hsm.pinFile',
    ],
    ['PIN file without module', dev({ TWOFOLD_HSM_PIN_FILE: '/p' }), 'hsm.module'],
    ['database scheme', dev({ DATABASE_URL: 'mysql://x' }), 'DATABASE_URL'],
    [
      'sslmode that may fall back',
      dev({ DATABASE_URL: 'postgres://h/d?sslmode=prefer' }),
      'DATABASE_URL',
    ],
    [
      'sslrootcert in the URL',
      dev({ DATABASE_URL: 'postgres://h/d?sslrootcert=x' }),
      'DATABASE_URL',
    ],
    [
      'owner without server',
      dev({ TWOFOLD_DATABASE_OWNER_URL: 'postgres://h/d' }),
      'database.ownerUrl',
    ],
    [
      'standbys without server',
      dev({ TWOFOLD_DATABASE_READ_ONLY_URL: 'postgres://h/d' }),
      'database.readOnlyUrl',
    ],
    [
      'standbys by another TLS',
      dev({
        DATABASE_URL: 'postgres://h/d?sslmode=verify-full',
        TWOFOLD_DATABASE_READ_ONLY_URL: 'postgres://h/d?sslmode=require',
      }),
      'database.readOnlyUrl',
    ],
    [
      'another parameter of the standbys',
      dev({
        DATABASE_URL: 'postgres://h/d',
        TWOFOLD_DATABASE_READ_ONLY_URL: 'postgres://h/d?options=x',
      }),
      'database.readOnlyUrl',
    ],
  ])('%s', (_name, environment, where) => {
    expect(wrong(environment)).toContain(where);
  });

  it('unknown keys of the file, at any depth', () => {
    const file = put('u.json', JSON.stringify({ mode: 'dev', colour: 1, http: { prot: 2 } }));
    expect(wrong({ TWOFOLD_CONFIG: file })).toEqual(
      expect.arrayContaining(['colour', 'http.prot']),
    );
  });

  it('a file that is missing, no JSON or no object', () => {
    for (const path of [at('none'), put('n.json', '{'), put('a.json', '[]')]) {
      expect(wrong(dev({ TWOFOLD_CONFIG: path }))).toContain(path);
    }
  });

  it('keys that would reach the prototype', () => {
    const file = put(
      'p.json',
      '{"mode":"dev","__proto__":{"log":{"level":"trace"}},"constructor":1}',
    );
    expect(wrong({ TWOFOLD_CONFIG: file })).toContain('constructor');
  });

  it('a flag given twice, however it is spelt', () => {
    for (const argv of [
      ['--port', '1', '--port', '1'],
      ['--port=1', '--port', '2'],
      ['--dev', '--mode', 'production'],
      ['--mode=production', '--dev'],
      ['--config', 'a', '--config', 'b'],
    ]) {
      expect(() => takeConfigFlags(argv)).toThrow(
        expect.objectContaining({ code: 'invalid_value' }),
      );
    }
  });

  it.each(['5', 'null', '[]', '"x"'])(
    'a section of the file that is %s, also under a variable',
    (text) => {
      const file = put('s.json', `{"mode":"dev","http":${text}}`);
      expect(wrong({ TWOFOLD_CONFIG: file })).toContain('http');
      expect(wrong({ TWOFOLD_CONFIG: file, TWOFOLD_PORT: '0' })).toContain('http');
    },
  );

  it('two listeners at one place, and no others', () => {
    const at = (host: string, port: string) =>
      wrong({ ...dev(), TWOFOLD_ADMIN_HOST: host, TWOFOLD_ADMIN_PORT: port });
    expect(at('127.0.0.1', '8370')).toContain('http.port');
    expect(at('localhost', '8371')).toContain('http.port');
    expect(at('0.0.0.0', '8370')).toContain('http.port');
    expect(at('127.0.0.2', '8370')).toEqual([]);
    expect(at('::1', '8370')).toEqual([]);
    expect(at('127.0.0.1', '0')).toEqual([]);
  });

  it('a folder for a token of SoftHSM that this would look for elsewhere', () => {
    const data = (path: string, more: Environment = {}) =>
      wrong(dev({ TWOFOLD_DATA: path, ...more }));
    for (const path of [
      '/srv/c#/x',
      '/srv/year=2026',
      '/srv/a\nb',
      '/srv/a\rb',
      `/${'x'.repeat(900)}`,
    ]) {
      expect(data(path)).toEqual(['dataDir']);
    }
    expect(data("/srv/it's a $folder/é%20")).toEqual([]);
    const own = { TWOFOLD_PKCS11_MODULE: at('module.so'), TWOFOLD_HSM_PIN_FILE: at('pin') };
    expect(data('/srv/c#', { ...own, TWOFOLD_HSM_SLOT: '1' })).toEqual([]);
    expect(wrong({ ...production(), TWOFOLD_DATA: '/srv/c#' })).toEqual([]);
  });

  it('a flag without its value', () => {
    expect(wrong(dev(), ['--port'])).toContain('--port');
    expect(wrong(dev(), ['--port', '--data', '/x'])).toContain('--port');
  });

  it('all at once, by an error that shows no value', () => {
    const secret = 'hunter2-marker';
    try {
      load(dev({ DATABASE_URL: `mysql://u:${secret}@h/d`, TWOFOLD_PORT: 'x', TWOFOLD_NO: '1' }));
      throw new Error('accepted');
    } catch (error) {
      expect(TwofoldError.is(error, 'invalid_value')).toBe(true);
      const { message } = error as Error;
      for (const name of ['DATABASE_URL', 'TWOFOLD_PORT', 'TWOFOLD_NO'])
        expect(message).toContain(name);
      expect(message).not.toContain(secret);
    }
  });

  it('whatever the value of a number is, it is that number or refused', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const check = checkConfig({ environment: dev({ TWOFOLD_PORT: text }), flags: new Map() });
        if (check.ok) expect(String(check.config.http.port)).toBe(text.replace(/^0+(?=\d)/u, ''));
      }),
    );
  });
});

describe('production', () => {
  it('accepts what is complete', () => {
    const config = load(production());
    expect(config.mode).toBe('production');
    expect(config.database.tls).toBe('verify-full');
    expect(config.issuers[0]?.rolesClaim).toBe('roles');
  });

  it('is the default mode', () => {
    const environment = Object.entries(production()).filter(([name]) => name !== 'TWOFOLD_MODE');
    expect(load(Object.fromEntries(environment)).mode).toBe('production');
    expect(wrong({})).toEqual(
      expect.arrayContaining(['DATABASE_URL', 'hsm.module', 'issuers', 'http.tls']),
    );
  });

  it.each([
    'DATABASE_URL',
    'TWOFOLD_PKCS11_MODULE',
    'TWOFOLD_HSM_PIN_FILE',
    'TWOFOLD_HSM_SLOT',
    'TWOFOLD_ISSUERS',
  ])('needs %s', (name) => {
    const environment = Object.fromEntries(
      Object.entries(production()).filter(([key]) => key !== name),
    );
    expect(wrong(environment)).not.toEqual([]);
  });

  it('decides the TLS of the database', () => {
    const mode = (url: string, more: Environment = {}) =>
      load({ ...production(), DATABASE_URL: url, ...more }).database;
    expect(mode('postgres://127.0.0.1/d').tls).toBe('disable');
    expect(mode('postgres://h/d').tls).toBe('verify-full');
    const owner = { TWOFOLD_DATABASE_OWNER_URL: 'postgres://127.0.0.1/d' };
    expect(mode('postgres://127.0.0.1/d', owner).tls).toBe('disable');
    expect(mode('postgres://h/d?sslmode=require')).toMatchObject({
      tls: 'require',
      url: 'postgres://h/d',
    });
    expect(mode('postgres://h/d', { TWOFOLD_DATABASE_TLS: 'verify-ca' }).tls).toBe('verify-ca');
    const both = { ...production(), DATABASE_URL: 'postgres://h/d?sslmode=require' };
    expect(wrong({ ...both, TWOFOLD_DATABASE_TLS: 'disable' })).toContain('DATABASE_URL');
  });

  it('takes issuers with exactly one key source, over https', () => {
    const issuer = { issuer: 'i', audience: 'a', algorithms: ['ML-DSA-65'] };
    const by = (more: object) =>
      wrong({ ...production(), TWOFOLD_ISSUERS: JSON.stringify([{ ...issuer, ...more }]) });
    expect(by({ jwksUrl: 'https://i/jwks' })).toEqual([]);
    expect(by({})).not.toEqual([]);
    expect(by({ jwksUrl: 'https://i/jwks', jwksFile: at('jwks.json') })).not.toEqual([]);
    expect(by({ jwksUrl: 'http://i/jwks' })).toEqual(['issuers.0.jwksUrl']);
    expect(by({ jwksFile: at('none') })).toEqual(['issuers.0.jwksFile']);
    expect(by({ jwksUrl: 'https://i/jwks', maxLifetime: 3_600 })).toEqual([]);
    expect(by({ jwksUrl: 'https://i/jwks', maxLifetime: 0 })).not.toEqual([]);
    for (const algorithms of [['none'], ['HS256'], []]) {
      expect(by({ jwksUrl: 'https://i/jwks', algorithms })).not.toEqual([]);
    }
  });

  it('takes an issuer of certificates that names its principals in one way', () => {
    const of = (issuer: string, subject: string) => ({ issuer, subject, caFile: at('cert.pem') });
    const by = (...certificates: readonly object[]) =>
      wrong({ ...production(), TWOFOLD_ACCESS_CERTIFICATES: JSON.stringify(certificates) });
    expect(by(of('a', 'dns'), of('a', 'dns'), of('b', 'email'))).toEqual([]);
    expect(by(of('a', 'dns'), of('b', 'dns'), of('a', 'commonName'))).toEqual([
      'access.certificates.2.issuer',
    ]);
    expect(by(of('https://i.example', 'dns'))).toEqual(['access.certificates.0.issuer']);
  });

  it('finds files of authorities and of the recovery key that a start would refuse', () => {
    const by = (caFile: string, recoveryKeyFile: string) =>
      wrong({
        ...production(),
        TWOFOLD_ACCESS_CERTIFICATES: JSON.stringify([{ issuer: 'a', subject: 'dns', caFile }]),
        TWOFOLD_BACKUP_FOLDER: folder,
        TWOFOLD_BACKUP_RECOVERY_KEY_FILE: recoveryKeyFile,
      });
    expect(by(at('cert.pem'), at('jwks.json'))).toEqual([]);
    for (const file of [at('nothing'), at('jwks.json'), folder]) {
      expect(by(file, at('jwks.json'))).toEqual(['access.certificates.0.caFile']);
    }
    expect(by(at('cert.pem'), at('nothing'))).toEqual(['backup.recoveryKeyFile']);
  });

  it('finds key set files that a start would refuse, and shows nothing of them', () => {
    const secret = privateKey.export({ format: 'jwk' });
    const own = publicKey.export({ format: 'jwk' });
    const check = (text: string) => {
      const issuer = { issuer: 'i', audience: 'a', algorithms: ['ES256'] };
      const jwksFile = put('set.json', text);
      const issuers = JSON.stringify([{ ...issuer, jwksFile }]);
      const environment = { ...production(), TWOFOLD_ISSUERS: issuers };
      const found = checkConfig({ environment, flags: new Map() });
      return found.ok ? [] : found.problems;
    };
    const set = (...keys: readonly object[]) => JSON.stringify({ keys });
    expect(check(set(own))).toEqual([]);
    for (const text of [
      'secret-marker',
      `{"keys":[${JSON.stringify(secret)}`,
      '[]',
      set(),
      set({ ...own, alg: 'ES384' }),
      set(own, secret),
      set(own, { kty: 'oct', k: 'c2VjcmV0LW1hcmtlcg' }),
      `${' '.repeat(300_000)}${set(own)}`,
    ]) {
      const problems = check(text);
      expect(problems.map(({ where }) => where)).toEqual(['issuers.0.jwksFile']);
      const said = JSON.stringify(problems);
      for (const part of ['secret-marker', 'c2VjcmV0', String(secret.d)]) {
        expect(said).not.toContain(part);
      }
    }
  });

  it('uses the authorities of the database, or refuses them', () => {
    const by = (url: string, more: Environment = {}) =>
      wrong({
        ...production(),
        DATABASE_URL: url,
        TWOFOLD_DATABASE_CA_FILE: at('cert.pem'),
        ...more,
      });
    expect(by('postgres://h/d')).toEqual([]);
    expect(by('postgres://h/d?sslmode=verify-ca')).toEqual([]);
    for (const url of ['h/d?sslmode=require', 'h/d?sslmode=disable', '127.0.0.1/d']) {
      expect(by(`postgres://${url}`)).toEqual(['database.caFile']);
    }
    expect(by('postgres://127.0.0.1/d', { TWOFOLD_DATABASE_TLS: 'verify-full' })).toEqual([]);
    expect(wrong(dev({ TWOFOLD_DATABASE_CA_FILE: at('cert.pem') }))).toEqual(['database.caFile']);
  });

  it('takes passwords of the database from files, whatever they hold', () => {
    const files = {
      TWOFOLD_DATABASE_PASSWORD_FILE: put('db.password', 'p%40/ü:#\n', 0o640),
      TWOFOLD_DATABASE_OWNER_PASSWORD_FILE: put('owner.password', 'öffne'),
    };
    const urls = (server: string, owner: string) => ({
      ...production(),
      DATABASE_URL: server,
      TWOFOLD_DATABASE_OWNER_URL: owner,
      ...files,
    });
    const { database } = load(urls('postgres://s@h/d', 'postgres://o@h/d'));
    const password = (text: string | undefined) => decodeURIComponent(new URL(text ?? '').password);
    expect([password(database.url), password(database.ownerUrl)]).toEqual(['p%40/ü:#', 'öffne']);
    const standby = { TWOFOLD_DATABASE_READ_ONLY_URL: 'postgres://s@r/d' };
    const three = load({ ...urls('postgres://s@h/d', 'postgres://o@h/d'), ...standby }).database;
    expect([three.tls, password(three.readOnlyUrl)]).toEqual(['verify-full', 'p%40/ü:#']);
    const both = ['database.passwordFile', 'database.ownerPasswordFile'];
    expect(wrong(urls('postgres://s:p@h/d', 'postgres://o:p@h/d'))).toEqual(both);
    expect(wrong(urls('postgres://h/d', 'postgres://h/d'))).toEqual(both);
    chmodSync(files.TWOFOLD_DATABASE_PASSWORD_FILE, 0o644);
    writeFileSync(files.TWOFOLD_DATABASE_OWNER_PASSWORD_FILE, Buffer.of(0xff));
    expect(wrong(urls('postgres://s@h/d', 'postgres://o@h/d'))).toEqual(both);
    expect(wrong(dev({ TWOFOLD_DATABASE_PASSWORD_FILE: at('none') }))).toEqual([
      'database.passwordFile',
    ]);
    expect(wrong({ ...production(), TWOFOLD_DATABASE_OWNER_PASSWORD_FILE: at('none') })).toEqual([
      'database.ownerPasswordFile',
    ]);
  });

  it('demands of a command what it uses, and reads no file of the rest', () => {
    const using = (uses: readonly ConfigPart[], environment: Environment) => {
      const check = checkConfig({ environment, flags: new Map(), uses });
      return check.ok ? [] : check.problems.map(({ where }) => where);
    };
    const owner = {
      TWOFOLD_DATABASE_OWNER_URL: 'postgres://o@h/d',
      TWOFOLD_DATABASE_CA_FILE: at('cert.pem'),
      TWOFOLD_DATABASE_TLS: 'verify-full',
    };
    expect(using(['owner'], owner)).toEqual([]);
    expect(using(['owner'], { ...owner, TWOFOLD_DATABASE_CA_FILE: at('none') })).toEqual([
      'database.caFile',
    ]);
    expect(
      using(['owner'], { ...owner, TWOFOLD_DATABASE_OWNER_PASSWORD_FILE: at('none') }),
    ).toEqual(['database.ownerPasswordFile']);
    const hsm = {
      TWOFOLD_PKCS11_MODULE: at('module.so'),
      TWOFOLD_HSM_SLOT: '3',
      TWOFOLD_HSM_PIN_FILE: at('pin'),
    };
    expect(using(['hsm'], hsm)).toEqual([]);
    expect(using(['hsm'], {})).toEqual(['hsm.module']);
    const elsewhere = {
      DATABASE_URL: 'postgres://s@h/d',
      TWOFOLD_DATABASE_PASSWORD_FILE: at('none'),
      TWOFOLD_HTTP_TLS_CERT_FILE: at('none'),
      TWOFOLD_HTTP_TLS_KEY_FILE: at('none'),
    };
    expect(using(['hsm'], { ...hsm, ...elsewhere })).toEqual([]);
    expect(using(['owner'], { ...owner, ...elsewhere, TWOFOLD_HSM_PIN_FILE: at('none') })).toEqual(
      [],
    );
    expect(using(['hsm'], { ...hsm, TWOFOLD_PROT: '1' })).toEqual(['TWOFOLD_PROT']);
  });

  it('refuses key material that does not make a TLS identity', () => {
    const other = put('other.pem', makeCertificate().key);
    expect(wrong({ ...production(), TWOFOLD_HTTP_TLS_KEY_FILE: other })).toEqual(['http.tls']);
    const open = put('open.pem', readFileSync(at('key.pem'), 'utf8'), 0o644);
    expect(wrong({ ...production(), TWOFOLD_HTTP_TLS_KEY_FILE: open })).toEqual([
      'http.tls.keyFile',
    ]);
  });
});

describe('secret files', () => {
  it.each([0o644, 0o640, 0o660, 0o604, 0o777, 0o601])('are refused with mode %o', (mode) => {
    const pin = put('open-pin', '1234', mode);
    expect(() => readOwnerOnlyFile(pin)).toThrow(
      expect.objectContaining({ code: 'invalid_value' }),
    );
    expect(wrong({ ...production(), TWOFOLD_HSM_PIN_FILE: pin })).toEqual(['hsm.pinFile']);
  });

  it.each([
    ['1234', 0o600],
    ['1234\n', 0o400],
    ['1234\r\n', 0o600],
  ])('%j is read without its line break', (text, mode) => {
    expect(Buffer.from(readOwnerOnlyFile(put('p', text, mode))).toString()).toBe('1234');
    rmSync(at('p'), { force: true });
  });

  it('are refused when empty, missing or no file', () => {
    for (const path of [put('e', '\n'), at('none'), folder]) {
      expect(() => readOwnerOnlyFile(path)).toThrow(TwofoldError);
    }
  });
});

describe('reference', () => {
  it('names every setting once, with distinct variables and flags', () => {
    const page = describeConfig();
    for (const { path, env } of SETTINGS) {
      expect(page.split(`| \`${path}\` | \`${env}\` |`)).toHaveLength(2);
    }
    const flags = SETTINGS.flatMap(({ flag }) => flag ?? []);
    expect(new Set(flags).size).toBe(flags.length);
    expect(new Set(SETTINGS.map(({ env }) => env)).size).toBe(SETTINGS.length);
    expect(SETTINGS.every(({ description }) => description !== '')).toBe(true);
  });

  it('presents a configuration without its passwords', () => {
    const url = 'postgresql://u:geheim@h/d';
    const shown = presentConfig(
      load({
        ...production(),
        DATABASE_URL: url,
        TWOFOLD_DATABASE_OWNER_URL: url,
        TWOFOLD_DATABASE_READ_ONLY_URL: url,
      }),
    );
    expect(JSON.stringify(shown)).not.toContain('geheim');
    expect(JSON.stringify(shown)).toContain('@h/d');
  });

  it('presents no secret of an address that is fetched from', () => {
    const issuer = { issuer: 'i', audience: 'a', algorithms: ['ES256'] };
    const jwksUrl = 'https://reader:geheim@i.example/keys?sig=geheim';
    const shown = JSON.stringify(
      presentConfig(
        load({ ...production(), TWOFOLD_ISSUERS: JSON.stringify([{ ...issuer, jwksUrl }]) }),
      ),
    );
    expect(shown).toContain('https://reader:***@i.example/keys?***');
    expect(shown).not.toContain('geheim');
  });

  it('looks for SoftHSM where setup does', () => {
    const setup = readFileSync(join(import.meta.dirname, '../../scripts/setup'), 'utf8');
    const listed = setup
      .match(/^ {4}\/usr\/\S+libsofthsm2\.so/gmu)
      ?.map((line) => line.trim().replace(/;$/u, ''));
    expect(listed).toEqual(SOFTHSM_PATHS);
  });
});
