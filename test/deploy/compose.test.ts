/** What the deployment's files promise, read from the files themselves. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SETTINGS } from '../../src/config/schema.ts';
import { readCompose, startOrder } from './compose.ts';
import type { Service } from './compose.ts';
import { copiesOf, execForm, only, parseDockerfile, textsOf } from './dockerfile.ts';
import type { Stage } from './dockerfile.ts';
import { PROJECT } from './image.ts';

const text = (name: string) => readFileSync(join(PROJECT, name), 'utf8');
const compose = readCompose(join(PROJECT, 'docker-compose.yml'));
const stages = parseDockerfile(text('deploy/Dockerfile'));
const [build, final] = stages;
if (build === undefined || final === undefined) throw new Error('two stages');
const members = parseDockerfile(text('deploy/zones/Dockerfile'));
const ZONES = [1, 2, 3];
const services = Object.entries(compose.services);

describe('docker-compose.yml', () => {
  it.each(services)('keeps %s in its bounds', (_name, service) => {
    expect(service).toMatchObject({
      read_only: true,
      cap_drop: ['ALL'],
      security_opt: ['no-new-privileges:true'],
    });
    expect(service.user).toMatch(/^[1-9]\d*:[1-9]\d*$/u);
    expect(service.ulimits['core']).toBe(0);
    expect(service.pids_limit).toBeGreaterThan(0);
    // As much swap as memory is none: what is in memory stays there.
    expect(service.memswap_limit).toBe(service.mem_limit);
    for (const port of service.ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/u);
    for (const mount of service.tmpfs) expect(mount).toMatch(/size=/u);
  });

  it('pins every image', () => {
    for (const [, { image }] of services) expect(image).toMatch(/^[a-z-]+:(?!latest)[\w.-]*\d/u);
    for (const { base } of [...stages, ...members])
      expect(base).toMatch(/^debian:bookworm-\d{8}-slim$/u);
    const { version } = JSON.parse(text('package.json')) as { version: string };
    for (const [, { build: ours, image }] of services) {
      if (ours?.dockerfile === 'deploy/Dockerfile') expect(image).toBe(`twofold-kms:${version}`);
      else if (ours !== undefined) expect(image).toBe(`twofold-zones:${version}`);
    }
  });

  it('has every secret in a file of the site, which git and the image leave out', () => {
    for (const { file } of Object.values(compose.secrets)) {
      expect(file.startsWith(join(PROJECT, 'deploy/site/'))).toBe(true);
    }
    expect(text('.gitignore').split('\n')).toContain('/deploy/site/');
    for (const [name, { environment, command }] of services) {
      for (const [variable, value] of Object.entries(environment)) {
        // A URL with a password, or a value that is one.
        expect([name, variable, value]).not.toEqual([
          name,
          variable,
          expect.stringMatching(/:[^/@]+@/u),
        ]);
        if (/PASSWORD|PIN|SECRET|TOKEN(?!_LABEL)|_KEY/u.test(variable)) {
          const file = variable === 'ETCDCTL_KEY' ? variable : expect.stringMatching(/_FILE$/u);
          expect([name, variable, value]).toEqual([
            name,
            file,
            expect.stringMatching(/^\/run\/secrets\//u),
          ]);
        }
      }
      expect(command.join(' ')).not.toMatch(/password|pin=/iu);
    }
  });

  it('gives each service the secrets that it needs and no other', () => {
    const secrets = Object.fromEntries(services.map(([name, one]) => [name, one.secrets]));
    expect(secrets).toEqual({
      database: ['database_key', 'owner_password', 'server_password'],
      migrate: ['owner_password'],
      token: ['user_pin', 'so_pin'],
      ceremony: ['user_pin', 'so_pin'],
      doctor: ['owner_password', 'server_password', 'user_pin'],
      operator: ['server_password', 'user_pin', 'so_pin'],
      twofold: ['server_key', 'server_password', 'user_pin'],
      proxy: [],
      'zones-migrate': ['owner_password'],
      ...Object.fromEntries(
        ZONES.flatMap((zone) => [
          [`etcd-${String(zone)}`, ['cluster_key']],
          [
            `patroni-${String(zone)}`,
            ['cluster_key', 'owner_password', 'replication_password', 'server_password'],
          ],
          [`zone-${String(zone)}`, ['server_key', 'server_password', 'user_pin']],
          [`operator-${String(zone)}`, ['server_password', 'user_pin', 'so_pin']],
        ]),
      ),
    });
    // What the ceremonies' commands name is in these pages; what Patroni reads in its file.
    const elsewhere = (name: string) =>
      name.startsWith('operator')
        ? text(name === 'operator' ? 'deploy/README.md' : 'deploy/zones.md')
        : name.startsWith('patroni-')
          ? text('deploy/zones/patroni.yml')
          : '';
    const named = (name: string, service: Service) =>
      (JSON.stringify([service.environment, service.command]) + elsewhere(name)).match(
        /\/run\/secrets\/(\w+)/gu,
      );
    for (const [name, service] of services) {
      const used = (named(name, service) ?? []).map((path) => path.replace('/run/secrets/', ''));
      expect([name, [...new Set(used)].sort()]).toEqual([name, [...service.secrets].sort()]);
    }
  });

  it('mounts each tmpfs on a folder that has its mode in the image', () => {
    // runc before 1.1.8, Debian 12's, gives the mount the folder's mode, whatever the file says.
    const made = (stage: Stage) =>
      [
        ...textsOf(stage, 'RUN')
          .join(' ')
          .matchAll(/install -d -m (\d+) ([^&]+)/gu),
      ].flatMap(([, mode = '', paths = '']) =>
        paths.split(/\s+/u).map((path) => `${path} ${mode}`),
      );
    for (const [name, { build: ours, tmpfs }] of services) {
      const stage = ours?.dockerfile === 'deploy/Dockerfile' ? final : members[0];
      if (ours === undefined || stage === undefined) continue;
      const given = ['/tmp 1777', ...made(stage)];
      for (const text of tmpfs) {
        const [, path = '', mode = ''] = /^([^:]+):.*\bmode=(\d+)/u.exec(text) ?? [];
        expect([name, given]).toEqual([
          name,
          expect.arrayContaining([`${path.replace(/^\/var\/run\//u, '/run/')} ${mode}`]),
        ]);
      }
    }
  });

  it('names only what it has, and all of it', () => {
    const used = (pick: (service: Service) => readonly string[]) =>
      [...new Set(services.flatMap(([, service]) => pick(service)))].sort();
    expect(used(({ secrets }) => secrets)).toEqual(Object.keys(compose.secrets).sort());
    expect(used(({ configs }) => configs.map(({ source }) => source))).toEqual(
      Object.keys(compose.configs).sort(),
    );
    expect(used(({ volumes }) => volumes.map((volume) => volume.split(':')[0] ?? ''))).toEqual(
      Object.keys(compose.volumes).sort(),
    );
    expect(used(({ networks }) => networks ?? [])).toEqual(Object.keys(compose.networks).sort());
  });

  it('sets variables that the service knows, and runs it in production mode', () => {
    const known = new Set([...SETTINGS.map(({ env }) => env), 'TWOFOLD_CONFIG', 'SOFTHSM2_CONF']);
    for (const [, { build: ours, environment, command }] of services) {
      if (ours?.dockerfile !== 'deploy/Dockerfile') continue;
      for (const name of Object.keys(environment)) expect(known).toContain(name);
      expect(Object.keys(environment)).not.toContain('TWOFOLD_MODE');
      expect(command).not.toContain('--dev');
    }
    expect(compose.services['twofold']?.environment).toMatchObject({
      TWOFOLD_DATABASE_TLS: 'verify-full',
    });
  });

  it('starts the service after the schema, and nobody but the ceremony with the SO PIN', () => {
    expect(startOrder(compose, 'twofold')).toEqual(['database', 'migrate', 'twofold']);
    expect(startOrder(compose, 'ceremony')).toEqual(['token', 'ceremony']);
    for (const [name, { secrets, profiles, network_mode: network }] of services) {
      const officer = secrets.includes('so_pin');
      const ofZones = /^(?:etcd|patroni|zone)-\d$|^proxy$|^zones-/u.test(name);
      const others = name === 'doctor' ? ['doctor'] : ofZones ? ['zones'] : [];
      expect([name, profiles]).toEqual([name, officer ? ['ceremony'] : others]);
      // What an operator does beside the service stands in database and audit log.
      const alone = officer && !name.startsWith('operator');
      expect([name, network]).toEqual([name, alone ? 'none' : undefined]);
    }
    expect(compose.networks['zones']).toEqual({ internal: true });
    expect(compose.networks['backend']).toEqual({ internal: true });
    expect(compose.services['database']?.networks).toEqual(['backend']);
  });
});

describe('Docker’s own reading', () => {
  const files = [
    ['docker-compose.yml'],
    ['docker-compose.yml', 'deploy/hsm.compose.yml'],
    ['docker-compose.yml', 'deploy/debian.compose.yml'],
  ];
  const docker = (...argv: string[]) =>
    spawnSync('docker', ['compose', ...argv], { cwd: PROJECT, encoding: 'utf8' });
  if (docker('version').status === 0) {
    it.each(files)('takes %s %s', (...names) => {
      const { status, stderr } = docker(...names.flatMap((name) => ['-f', name]), 'config', '-q');
      expect([status, stderr]).toEqual([0, '']);
    });
  } else {
    it('is not asked here', () => {
      console.warn('Not run here: docker compose is not installed.');
    });
  }
});

describe('deploy/hsm.compose.yml', () => {
  it('changes the module, the token and its PIN, and initialises nothing', () => {
    const real = readCompose(
      join(PROJECT, 'docker-compose.yml'),
      { TWOFOLD_PKCS11_FOLDER: '/opt/vendor', TWOFOLD_PKCS11_MODULE: '/opt/vendor/lib.so' },
      join(PROJECT, 'deploy/hsm.compose.yml'),
    );
    for (const name of ['ceremony', 'doctor', 'operator', 'twofold']) {
      expect(real.services[name]).toMatchObject({
        environment: { TWOFOLD_PKCS11_MODULE: '/opt/vendor/lib.so' },
        volumes: expect.arrayContaining(['/opt/vendor:/opt/vendor:ro']) as unknown,
      });
    }
    expect(real.services['token']?.command).toEqual(['version']);
    expect(real.services['operator']?.networks).toEqual(['backend', 'frontend']);
    // A network HSM is reached by all that open its token.
    for (const { environment, command, profiles, networks, ...one } of Object.values(
      real.services,
    )) {
      const opens = 'TWOFOLD_HSM_PIN_FILE' in environment && command[0] !== 'version';
      if (!opens || profiles.includes('zones')) continue;
      const led = (networks ?? []).filter((name) => real.networks[name]?.internal !== true);
      expect(one.network_mode ?? led.at(0)).toMatch(/^(?:bridge|frontend)$/u);
    }
  });
});

describe('deploy/debian.compose.yml', () => {
  it('takes the database from the image of the zones, with that image’s PostgreSQL', () => {
    const debian = readCompose(
      join(PROJECT, 'docker-compose.yml'),
      {},
      join(PROJECT, 'deploy/debian.compose.yml'),
    );
    const { environment, ...database } = debian.services['database'] ?? {};
    const { image, build: ours } = compose.services['patroni-1'] ?? {};
    expect(database).toMatchObject({ image, build: ours, user: '999:999' });
    const [, version = ''] =
      /postgresql-(\d+)/u.exec(members.flatMap((one) => textsOf(one, 'RUN')).join()) ?? [];
    expect(environment).toMatchObject({ PGDATA: `/var/lib/postgresql/${version}/twofold` });
    for (const one of Object.values(debian.services)) expect(one.build).toBeDefined();
  });
});

describe('deploy/Dockerfile', () => {
  it('takes everything from Debian and from the packages of the lock file', () => {
    const runs = stages.flatMap((stage) => textsOf(stage, 'RUN'));
    const fetching = /\b(?:curl|wget|git|pip|npx|add-apt|ADD)\b|https?:/u;
    for (const run of runs) expect(run).not.toMatch(fetching);
    // Debian's node-gyp links what it builds to Debian's Node, which the image has not.
    for (const run of runs) expect(run).not.toMatch(/node-gyp|npm rebuild/u);
    expect(runs.filter((run) => /\bnpm\b/u.test(run))).toEqual([
      expect.stringMatching(/^apt-get update .*apt-get install .* npm$/u),
      'npm ci --omit=dev --ignore-scripts --no-audit --no-fund',
    ]);
    for (const run of runs.filter((one) => one.includes('apt-get install'))) {
      expect(run).toContain('--no-install-recommends');
    }
  });

  it('compiles the native addon as its own build file says', () => {
    const gyp = text('node_modules/pkcs11js/binding.gyp');
    const sources = [...gyp.matchAll(/"(src\/[\w.]+)"/gu)].map(([, source]) => source);
    const [compile = ''] = textsOf(build, 'RUN').filter((run) => run.includes('g++ -std'));
    expect(compile.match(/\bsrc\/[\w.]+/gu)).toEqual(sources);
    for (const [, define = ''] of gyp.matchAll(/"(NAPI_\w+)"/gu)) {
      expect(compile).toContain(`-D${define}`);
    }
  });

  it('opens to the service’s user what a clone’s umask closed', () => {
    const [opening = ''] = textsOf(final, 'RUN').filter((run) => run.startsWith('find '));
    const root = mkdtempSync(join(tmpdir(), 'twofold-modes-'));
    try {
      const copied = copiesOf(final)
        .filter(({ target }) => target !== 'node_modules')
        .flatMap(({ sources, target }) =>
          sources.map((path) => (target.endsWith('/') ? join(target, basename(path)) : target)),
        );
      for (const path of copied) {
        mkdirSync(dirname(join(root, path)), { recursive: true, mode: 0o700 });
        writeFileSync(join(root, path), '', { mode: path.startsWith('scripts/') ? 0o700 : 0o600 });
      }
      const find = opening.replace(/ && .*$/u, '').replace(' /etc/', ' etc/');
      execFileSync('sh', ['-ec', find], { cwd: root });
      for (const path of copied) {
        const { mode } = statSync(join(root, path));
        expect([path, mode & 0o777]).toEqual([path, path.startsWith('scripts/') ? 0o755 : 0o644]);
      }
      expect(statSync(join(root, 'prisma')).mode & 0o777).toBe(0o755);
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  it('leaves compilers and npm in the build stage', () => {
    const installed = textsOf(final, 'RUN').join(' ');
    expect(installed).toContain('libsofthsm2');
    expect(installed).not.toMatch(/g\+\+|gcc|make |npm|python/u);
    expect(installed).toContain('rm -rf /var/lib/apt/lists/*');
  });

  it('runs the launcher as an unprivileged number, without a shell between it and signals', () => {
    expect(only(final, 'USER')).toBe('10001:10001');
    expect(only(final, 'STOPSIGNAL')).toBe('SIGTERM');
    expect(execForm(final, 'ENTRYPOINT')).toEqual(['sh', '/opt/twofold/scripts/launch']);
    expect(execForm(final, 'CMD')).toEqual(['serve']);
    expect(compose.services['twofold']?.user).toBe(only(final, 'USER'));
  });

  it('copies what .dockerignore lets through, and nothing else is let through', () => {
    const wanted = stages
      .flatMap(copiesOf)
      .filter(({ from }) => from === undefined)
      .flatMap(({ sources }) => sources);
    const [ignored, ...rest] = text('.dockerignore')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
    expect(ignored).toBe('*');
    const allowed = rest.filter((line) => line.startsWith('!')).map((line) => line.slice(1));
    for (const source of wanted) {
      expect([
        source,
        allowed.some((path) => path === source || path.startsWith(`${source}/`)),
      ]).toEqual([source, true]);
    }
    for (const path of allowed) {
      expect([
        path,
        wanted.some((source) => path === source || path.startsWith(`${source}/`)),
      ]).toEqual([path, true]);
    }
    expect(rest.filter((line) => !line.startsWith('!'))).toEqual(['src/store/generated']);
  });
});

describe('the reader of Dockerfiles', () => {
  it('refuses what it does not know', () => {
    expect(() => parseDockerfile('FROM a\nADD b /c')).toThrow();
    expect(() => parseDockerfile('RUN a\nFROM b')).toThrow();
    const [stage] = parseDockerfile('ARG A=x:1\nFROM ${A}\nCMD serve\nENTRYPOINT ["a",\\\n "b"]');
    if (stage === undefined) throw new Error('a stage');
    expect(stage.base).toBe('x:1');
    expect(() => execForm(stage, 'CMD')).toThrow();
    expect(execForm(stage, 'ENTRYPOINT')).toEqual(['a', 'b']);
  });
});

describe('deploy/make-site', () => {
  const isRoot = process.getuid?.() === 0;
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-site-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const make = (...names: string[]) =>
    execFileSync('sh', [join(PROJECT, 'deploy/make-site'), folder, ...names], { encoding: 'utf8' });
  const facts = () =>
    execFileSync('sh', ['-c', 'stat -c "%n %U %u:%g %a" *; sha256sum *'], {
      cwd: folder,
      encoding: 'utf8',
    });

  it(
    isRoot ? 'makes what each account reads, once' : 'wants root, whose files nobody else can read',
    () => {
      if (!isRoot) {
        expect(() => make()).toThrow();
        return;
      }
      make('kms.example');
      const first = facts();
      for (const [name, owner, mode] of [
        ['server.key', '10001:10001', '400'],
        ['database.key', '999:999', '400'],
        ['owner.password', '10001:999', '440'],
        ['server.password', '10001:999', '440'],
        ['user.pin', '10001:10001', '400'],
        ['so.pin', '10001:10001', '400'],
        ['ca.key', '0:0', '400'],
        ['issuer.key', '0:0', '400'],
        ['ca.pem', '0:0', '444'],
      ]) {
        expect(first).toMatch(
          new RegExp(`^${name ?? ''} \\S+ ${owner ?? ''} ${mode ?? ''}$`, 'mu'),
        );
      }
      expect(make()).toBe('');
      expect(facts()).toBe(first);
      const names = execFileSync(
        'openssl',
        ['x509', '-in', 'server.pem', '-noout', '-ext', 'subjectAltName'],
        {
          cwd: folder,
          encoding: 'utf8',
        },
      );
      expect(names).toContain('DNS:kms.example');
      for (const name of ['server', 'database']) {
        execFileSync('openssl', ['verify', '-x509_strict', '-CAfile', 'ca.pem', `${name}.pem`], {
          cwd: folder,
        });
      }
      rmSync(join(folder, 'user.pin'));
      expect(make()).toMatch(/^made \S+\/user\.pin\n$/u);
    },
    60_000,
  );
});
