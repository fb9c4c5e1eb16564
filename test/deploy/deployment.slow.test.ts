/**
 * The compose file's own command lines, environments, users and volumes, in its order, over what the
 * Dockerfile puts into the image: from nothing to a wrapped key over TLS, and again after a restart.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ofProcess } from '../e2e/processes.ts';
import { readCompose, startOrder } from './compose.ts';
import { parseDockerfile, textsOf } from './dockerfile.ts';
import { CONTAINERS_RUN, Containers, postgresImage } from './containers.ts';
import type { Ended } from './containers.ts';
import { PROJECT, buildImage, filesBelow } from './image.ts';
import type { Image } from './image.ts';
import { makeSite, trialHeader } from './site.ts';

let folder: string;
let site: string;
let image: Image;
let containers: Containers;
const at = (name: string) => join(folder, name);

const compose = () => readCompose(join(PROJECT, 'docker-compose.yml'), { TWOFOLD_SITE: site });

interface Answer {
  readonly status: number;
  readonly json: Record<string, unknown>;
}

/** One request over TLS that trusts the site's authority alone, with a token of its issuer. */
async function call(path: string, body?: object): Promise<Answer> {
  writeFileSync(at('header'), trialHeader(site, 'admin', 'user'), { mode: 0o600 });
  const flags = ['-sS', '--cacert', join(site, 'ca.pem'), '-H', `@${at('header')}`];
  const { out, err } = await containers.inNetwork(
    'curl',
    [
      ...flags,
      ...(body === undefined ? [] : ['--json', '@-']),
      '-w',
      '\n%{http_code}',
      `https://localhost:8370${path}`,
    ],
    body === undefined ? '' : JSON.stringify(body),
  );
  const [json = '', status = ''] = out.split(/\n(?=\d+$)/u);
  if (status === '') throw new Error(`no answer: ${err}`);
  return { status: Number(status), json: JSON.parse(json) as Record<string, unknown> };
}

/** Starts a service and what it depends on as the file says: healthy or completed first. */
async function up(target: string): Promise<Map<string, Ended>> {
  const steps = new Map<string, Ended>();
  const order = startOrder(compose(), target);
  for (const name of order) {
    const service = containers.service(name);
    if (service.restart === 'no') {
      const step = await containers.run(name);
      if (step.status !== 0) throw new Error(`${name} failed: ${step.out}`);
      steps.set(name, step);
    } else {
      await containers.start(name);
      await containers.healthy(name);
    }
  }
  return steps;
}

const printed = (steps: Map<string, Ended>, name: string): unknown =>
  JSON.parse(steps.get(name)?.out ?? 'null');

const statusOf = (pid: number): Record<string, string> =>
  Object.fromEntries(
    readFileSync(`/proc/${pid}/status`, 'utf8')
      .split('\n')
      .map((line) => line.split(/:\s+/u) as [string, string]),
  );

const SECRETS = ['owner.password', 'server.password', 'user.pin', 'so.pin'];
const secretTexts = () => SECRETS.map((name) => readFileSync(join(site, name), 'utf8').trim());

const suite = () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-deployment-'));
    site = at('site');
    makeSite(site);
    image = buildImage(at('image'));
    containers = new Containers(compose(), image, folder);
    await containers.open();
  }, 120_000);
  afterAll(async () => {
    await containers.close();
    rmSync(folder, { recursive: true, force: true });
  }, 120_000);

  it('the image’s programs find their libraries in Debian’s smallest system and its packages', () => {
    const root = join(folder, 'image/root');
    const programs = filesBelow(root)
      .filter((name) => /(?:\/bin\/node|\.node)$/u.test(name) && !name.includes('musl'))
      .map((name) => join(root, name));
    expect(programs.length).toBeGreaterThan(2);
    const needed = execFileSync('ldd', programs, { encoding: 'utf8' }).matchAll(
      /^\s+(lib[\w+.-]+)/gmu,
    );
    // libc6, libgcc-s1 and libstdc++6 come with apt; libatomic1 is named in the Dockerfile.
    const there = [
      'libc',
      'libdl',
      'libm',
      'libpthread',
      'librt',
      'libgcc_s',
      'libstdc++',
      'libatomic',
    ];
    const names = [...new Set([...needed].map(([, name = '']) => name.replace(/\.so.*$/u, '')))];
    expect(names.filter((name) => !there.includes(name))).toEqual([]);
    expect(names).toContain('libatomic');
    const [, final] = parseDockerfile(readFileSync(join(PROJECT, 'deploy/Dockerfile'), 'utf8'));
    expect(final === undefined ? [] : textsOf(final, 'RUN').join()).toMatch(/ libatomic1 /u);
  });

  it('the token and its root are made by the ceremony, once however often it runs', async () => {
    const first = await up('ceremony');
    expect(printed(first, 'token')).toMatchObject({ made: true });
    expect(printed(first, 'ceremony')).toMatchObject({ made: true, custody: 'non-extractable' });
    const again = await up('ceremony');
    expect(printed(again, 'token')).toMatchObject({ made: false });
    expect(printed(again, 'ceremony')).toMatchObject({ made: false });
  }, 120_000);

  it('a service without its schema does not start', async () => {
    await containers.start('database');
    await containers.healthy('database');
    const { child, output } = await containers.start('twofold');
    const until = setTimeout(() => child.kill('SIGKILL'), 30_000);
    await once(child, 'exit');
    clearTimeout(until);
    expect([child.exitCode, output()]).toEqual([1, expect.stringMatching(/\(conflict\)/u)]);
    await containers.stop('twofold');
    expect(await containers.stop('database')).toBe(0);
  }, 120_000);

  it('comes up in the order of the file and becomes healthy', async () => {
    const steps = await up('twofold');
    const names = readdirSync(join(PROJECT, 'prisma/migrations'));
    expect(printed(steps, 'migrate')).toEqual({ applied: names });
    expect(containers.running('twofold').output()).toMatch(/^Twofold KMS .* is ready at https:/mu);
  }, 120_000);

  let ciphertext: unknown;
  const plaintext = Buffer.from('a key of the deployment').toString('base64');

  it('serves a hybrid key over TLS with a token of the site’s issuer', async () => {
    const made = await call('/v1/admin/keys', { name: 'first', suite: 'MLKEM768-P256' });
    expect([made.status, made.json['code']]).toEqual([201, undefined]);
    const wrapped = await call('/v1/keys/first/wrap', { plaintext });
    expect(wrapped.status).toBe(200);
    ({ ciphertext } = wrapped.json);
    const opened = await call('/v1/keys/first/unwrap', { ciphertext });
    expect(opened.json).toMatchObject({ plaintext, origin: 'service' });
  }, 60_000);

  it.each(['twofold', 'database'])(
    '%s has its own user, no capability, no way to new privileges and a root that is read-only',
    async (name) => {
      const { pid } = containers.running(name);
      const [uid = ''] = containers.service(name).user.split(':');
      expect(statusOf(pid)).toMatchObject({
        Uid: [uid, uid, uid, uid].join('\t'),
        CapEff: '0000000000000000',
        CapPrm: '0000000000000000',
        CapBnd: '0000000000000000',
        NoNewPrivs: '1',
      });
      // Root itself writes nowhere but into volumes and tmpfs.
      for (const path of ['/x', '/opt/x', '/etc/x', '/usr/x', '/run/secrets/x', '/var/lib/x']) {
        const { status, err } = await containers.exec(name, ['touch', path], '0:0');
        expect([path, status, err]).toEqual([path, 1, expect.stringMatching(/Read-only/u)]);
      }
    },
    60_000,
  );

  it('shows no secret in an environment, a command line, a log or the data volume', async () => {
    for (const text of secretTexts()) {
      for (const name of ['twofold', 'database']) {
        const { pid, output } = containers.running(name);
        const environment = ofProcess(pid, 'environ');
        expect(environment).not.toBe('');
        for (const place of [environment, ofProcess(pid, 'cmdline'), output()]) {
          expect(place.includes(text)).toBe(false);
        }
      }
      for (const volume of ['data', 'database']) {
        const root = containers.volume(volume);
        const found = filesBelow(root).filter((name) =>
          readFileSync(join(root, name)).includes(text),
        );
        expect(found).toEqual([]);
      }
    }
  }, 60_000);

  it('the database is reached by its two roles over verified TLS alone', async () => {
    const query = async (user: string, file: string, options: string) => {
      const secret = readFileSync(join(site, file), 'utf8').trim();
      const target = `host=database dbname=twofold user=${user} connect_timeout=5 ${options}`;
      const psql = ['/usr/bin/env', `PGPASSWORD=${secret}`, '/usr/lib/postgresql/15/bin/psql'];
      const hosts = join(site, 'hosts');
      writeFileSync(hosts, '127.0.0.1 localhost database\n');
      const sql = 'select version from pg_stat_ssl where pid = pg_backend_pid()';
      const script = `mount --bind ${hosts} /etc/hosts && exec "$@"`;
      const argv = ['--mount', 'sh', '-c', script, 'sh', ...psql, '-XAtc', sql, target];
      return containers.inNetwork('unshare', argv);
    };
    const verified = `sslmode=verify-full sslrootcert=${join(site, 'ca.pem')}`;
    for (const [user, file] of [
      ['twofold_owner', 'owner.password'],
      ['twofold_server', 'server.password'],
    ] as const) {
      expect(await query(user, file, verified)).toMatchObject({ status: 0, out: 'TLSv1.3\n' });
      expect((await query(user, file, 'sslmode=disable')).status).toBe(2);
    }
    expect((await query('twofold_server', 'owner.password', verified)).status).toBe(2);
    expect((await query('postgres', 'owner.password', verified)).status).toBe(2);
    expect((await query('twofold_app', 'server.password', verified)).status).toBe(2);
  }, 60_000);

  it('the server’s role owns nothing', async () => {
    const sql = `select rolname, (select count(*) from pg_class where relowner = r.oid)
      from pg_roles r where rolname like 'twofold%' order by 1`;
    const psql = ['/usr/lib/postgresql/15/bin/psql', '-h', '/var/run/postgresql', '-XAtc', sql];
    const { out } = await containers.exec('database', [...psql, '-U', 'postgres', 'twofold']);
    const rows = out
      .trim()
      .split('\n')
      .map((line): [string, number] => [line.split('|')[0] ?? '', Number(line.split('|')[1])]);
    const owned = Object.fromEntries(rows);
    expect(owned).toMatchObject({ twofold_app: 0, twofold_server: 0 });
    expect(owned['twofold_owner']).toBeGreaterThan(10);
  }, 30_000);

  it('the health check fails where the certificate is another’s', async () => {
    const [, ...check] = containers.service('twofold').healthcheck?.test ?? ['CMD'];
    const other = check.map((word) => word.replace('localhost', '127.0.0.2'));
    expect((await containers.exec('twofold', check)).status).toBe(0);
    expect((await containers.exec('twofold', other)).status).toBe(1);
  }, 30_000);

  it('stops by its signals in order, and a restart keeps everything', async () => {
    expect(await containers.stop('twofold')).toBe(0);
    expect(await containers.stop('database')).toBe(0);
    const steps = await up('twofold');
    expect(printed(steps, 'migrate')).toEqual({ applied: [] });
    const opened = await call('/v1/keys/first/unwrap', { ciphertext });
    expect(opened.json).toMatchObject({ plaintext, keyVersion: 1 });
  }, 120_000);

  it('checks its configuration and looks for secrets in a container of its own', async () => {
    const { status, out } = await containers.run('doctor');
    expect(await containers.stop('twofold')).toBe(0);
    const checked = await containers.run('twofold', ['config', 'check']);
    // Behind the configuration stands its hash, which goes to the other stream.
    const [json = ''] = /^\{[\s\S]*^\}$/mu.exec(checked.out) ?? [];
    expect([checked.status, JSON.parse(json)]).toMatchObject([0, { mode: 'production' }]);
    for (const text of secretTexts()) expect(checked.out.includes(text)).toBe(false);
    expect([status, out]).toEqual([0, expect.stringMatching(/^\d+ secrets .*: 0 found$/mu)]);
  }, 60_000);

  it('another generation of the root is placed beside the service', async () => {
    await containers.start('twofold');
    await containers.healthy('twofold');
    const added = await containers.run('operator', [
      ...['hsm', 'generation', 'add', '--so-pin-file', '/run/secrets/so_pin'],
    ]);
    expect([added.status, added.out]).toEqual([0, expect.stringMatching(/"generation":2/u)]);
    const { status, out } = await containers.run('operator', ['hsm', 'generations']);
    expect([status, JSON.parse(out)]).toMatchObject([
      0,
      { generations: [{ onToken: true }, { onToken: true }], onTokenAlone: [] },
    ]);
    expect(await containers.stop('twofold')).toBe(0);
  }, 120_000);

  it('serves the same keys by another module of the second file’s', async () => {
    const vendor = at('vendor');
    mkdirSync(vendor);
    copyFileSync('/usr/lib/softhsm/libsofthsm2.so', join(vendor, 'libvendor.so'));
    const module = join(vendor, 'libvendor.so');
    const variables = {
      TWOFOLD_SITE: site,
      TWOFOLD_PKCS11_FOLDER: vendor,
      TWOFOLD_PKCS11_MODULE: module,
    };
    const files = ['docker-compose.yml', 'deploy/hsm.compose.yml'].map((name) =>
      join(PROJECT, name),
    );
    const [base = '', over = ''] = files;
    const before = containers;
    await before.close();
    containers = new Containers(readCompose(base, variables, over), image, folder);
    await containers.open();
    const ceremony = await up('ceremony');
    expect(ceremony.get('token')?.out).toMatch(/^\d+\.\d+\.\d+\n$/u);
    expect(printed(ceremony, 'ceremony')).toMatchObject({ made: false });
    await up('twofold');
    expect(readFileSync(`/proc/${containers.running('twofold').pid}/maps`, 'utf8')).toContain(
      module,
    );
    const opened = await call('/v1/keys/first/unwrap', { ciphertext });
    expect(opened.json).toMatchObject({ plaintext });
  }, 120_000);

  it('what is in volumes is closed to everyone but its service', () => {
    for (const [volume, uid] of [
      ['data', 10_001],
      ['tokens', 10_001],
    ] as const) {
      const root = containers.volume(volume);
      for (const name of ['.', ...filesBelow(root)]) {
        const { mode, uid: owner } = statSync(join(root, name));
        expect([name, owner, mode & 0o077]).toEqual([name, uid, 0]);
      }
    }
  });

  it('makes the database whole or not at all', async () => {
    expect(await containers.stop('twofold')).toBe(0);
    expect(await containers.stop('database')).toBe(0);
    const volume = containers.volume('database');
    rmSync(volume, { recursive: true });
    const cluster = join(volume, '18');
    // Killed while it is being made, early and late: the next start begins anew.
    for (const under of [
      () => existsSync(cluster) && filesBelow(cluster).some((name) => name.endsWith('PG_VERSION')),
      () => /syncing data to disk/u.test(containers.running('database').output()),
    ]) {
      let left: string[] = [];
      // On a machine that is busy with other things a kill may come late.
      for (let tries = 0; tries < 3 && left[0] !== 'twofold.new'; tries += 1) {
        rmSync(join(cluster, 'twofold'), { recursive: true, force: true });
        const { child, output } = await containers.start('database');
        while (!under()) {
          if (child.exitCode !== null) throw new Error(output());
          await sleep(5);
        }
        await containers.kill('database');
        left = readdirSync(cluster);
        expect(left).toHaveLength(1);
      }
      expect(left).toEqual(['twofold.new']);
    }
    await containers.start('database');
    await containers.healthy('database');
    expect(readdirSync(cluster)).toEqual(['twofold']);
  }, 120_000);

  it('runs on Debian’s PostgreSQL 15 as well', async () => {
    await containers.close();
    containers = new Containers(compose(), image, at('with-15'), postgresImage(15));
    await containers.open();
    await up('ceremony');
    await up('twofold');
    const { out } = await containers.exec('database', ['postgres', '--version']);
    expect(out).toMatch(/ 15\.\d/u);
    expect((await call('/v1/admin/keys', { name: 'first', suite: 'A256GCM' })).status).toBe(201);
    const wrapped = await call('/v1/keys/first/wrap', { plaintext });
    const opened = await call('/v1/keys/first/unwrap', { ciphertext: wrapped.json['ciphertext'] });
    expect(opened.json).toMatchObject({ plaintext });
  }, 120_000);
};

if (CONTAINERS_RUN) describe('the deployment, each service in a root of its own', suite);
else {
  it('is not shown here', () => {
    console.warn(
      'Not run here: the deployment’s services need root, namespaces, ip and pg_isready.',
    );
  });
}
