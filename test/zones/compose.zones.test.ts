/**
 * The profile `zones` of docker-compose.yml by its own command lines, environments, users, volumes and
 * mounted files, brought up by the commands of deploy/zones.md as they stand there; then what it is for.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { NUMBERS, until, ZoneStack } from './zone-stack.ts';
import type { Numbered } from './zone-stack.ts';

/** From the loss of the primary on, until a wrap comes back; Patroni takes a leader for lost after 8 s. */
const LONGEST_PAUSE_MS = 30_000;

let stack: ZoneStack;

beforeAll(async () => {
  stack = await ZoneStack.open();
}, 120_000);

afterAll(() => stack.close(), 120_000);

describe('the profile zones', () => {
  let ciphertext: unknown;
  const plaintext = Buffer.from('a key of three zones').toString('base64');
  const opens = async (zone: Numbered) =>
    (await stack.call(zone, '/v1/keys/shared/unwrap', { ciphertext })).json;

  it('comes up by the commands of the page, the roots of two zones by joining', async () => {
    await stack.up();
    await stack.healthy();
    const roles = (await stack.members()).map(({ Role }) => Role);
    expect(roles.sort()).toEqual(['Leader', 'Replica', 'Sync Standby']);
  }, 400_000);

  it('opens in every zone what one has wrapped', async () => {
    const made = await stack.call(1, '/v1/admin/keys', { name: 'shared', suite: 'MLKEM1024-P384' });
    expect([made.status, made.json['code']]).toEqual([201, undefined]);
    ({ ciphertext } = (await stack.call(1, '/v1/keys/shared/wrap', { plaintext })).json);
    for (const zone of NUMBERS) expect(await opens(zone)).toMatchObject({ plaintext });
  }, 60_000);

  it('speaks TLS alone, and is not changed by who has no certificate of the cluster', async () => {
    const { containers, site } = stack;
    const member = containers.address('patroni-1');
    const curl = (...args: string[]) =>
      containers.inNetwork('curl', ['-sS', '--max-time', '5', '-o', '/dev/null', ...args]);
    const known = ['--cacert', join(site, 'ca.pem'), '--connect-to', `::${member}:`];
    const asked = ['-w', '%{http_code}', 'https://patroni-1:8008/'];
    expect((await curl(`http://${member}:8008/`)).status).not.toBe(0);
    expect((await curl(...known, ...asked, '-X', 'POST', '-d', '{}')).out).not.toBe('200');
    const restart = 'https://patroni-1:8008/restart';
    const refused = await curl(...known, '-w', '%{http_code}', '-X', 'POST', '-d', '{}', restart);
    expect(refused.out).toBe('403');
    const etcd = `https://${containers.address('etcd-1')}:2379/v2/keys/`;
    expect((await curl('-k', etcd)).status).not.toBe(0);
    const sql = `host=${containers.address('patroni-1')} user=postgres dbname=twofold connect_timeout=5`;
    const plain = await containers.inNetwork('psql', ['-c', 'select 1', `${sql} sslmode=disable`]);
    expect([plain.status, plain.err]).toEqual([2, expect.stringMatching(/no encryption/u)]);
  }, 60_000);

  it('leads who asks for reports to a standby, where nothing can be written', async () => {
    const { containers, site } = stack;
    const password = readFileSync(join(site, 'server.password'), 'utf8').trim();
    const login = `host=${containers.address('proxy')} user=twofold_server dbname=twofold connect_timeout=5`;
    const psql = (port: number, sql: string) =>
      containers.inNetwork('env', [
        ...[`PGPASSWORD=${password}`, 'psql', '--no-psqlrc', '-At'],
        ...['-c', sql, `${login} port=${String(port)} sslmode=require`],
      ]);
    const recovering = 'select pg_is_in_recovery(), count(*) from public.key';
    expect(await psql(5001, recovering)).toMatchObject({ status: 0, out: 't|1\n' });
    expect(await psql(5000, recovering)).toMatchObject({ status: 0, out: 'f|1\n' });
    const written = await psql(5001, 'create temporary table one (x integer)');
    expect([written.status, written.err]).toEqual([1, expect.stringMatching(/read-only/u)]);
  }, 60_000);

  it('says at a look whether the manager is strict, and requires it', async () => {
    const { containers } = stack;
    const doctor = async () => {
      const { status, out } = await containers.run('operator-1', ['doctor', 'database']);
      return [status, /"replication":"([^"]+)"/u.exec(out)?.[1]];
    };
    const edit = (value: string) =>
      containers.exec('patroni-1', [
        ...['patronictl', '-c', '/run/patroni/conf', 'edit-config', 'twofold', '--force'],
        ...['--set', `synchronous_mode_strict=${value}`],
      ]);
    expect(await doctor()).toEqual([0, 'strict']);
    expect(containers.running('zone-1').output()).toMatch(/the manager keeps it so without one/u);
    expect((await edit('false')).status).toBe(0);
    await until('a manager that is not strict', 20_000, async () => {
      const [status, said] = await doctor();
      return status === 1 && said === 'not-strict';
    });
    expect((await edit('true')).status).toBe(0);
    await until('a strict manager', 20_000, async () => (await doctor())[0] === 0);
  }, 120_000);

  it('has no secret in an environment, a command line or a log', () => {
    const { containers, site } = stack;
    const secrets = ['owner', 'server', 'replication'].map((name) =>
      readFileSync(join(site, `${name}.password`), 'utf8').trim(),
    );
    for (const name of ['patroni-1', 'patroni-2', 'patroni-3', 'zone-1', 'etcd-1', 'proxy']) {
      const pids = execFileSync('ip', ['netns', 'pids', name], { encoding: 'utf8' });
      const places = pids
        .trim()
        .split('\n')
        .flatMap((pid) => ['environ', 'cmdline'].map((file) => `/proc/${pid}/${file}`))
        .map((file) => readFileSync(file, 'utf8'));
      expect(places.length).toBeGreaterThan(1);
      for (const text of [...places, containers.running(name).output()]) {
        expect(secrets.filter((secret) => text.includes(secret))).toEqual([]);
      }
    }
  });

  it.each(['patroni-1', 'etcd-1', 'proxy', 'zone-2'])(
    '%s has no capability, no way to new privileges and a root that is read-only',
    async (name) => {
      const { containers } = stack;
      const { pid } = containers.running(name);
      const status = readFileSync(`/proc/${String(pid)}/status`, 'utf8');
      const [uid = ''] = containers.service(name).user.split(':');
      expect(status).toMatch(new RegExp(`^Uid:\\t${uid}\\t${uid}\\t`, 'mu'));
      expect(status).toMatch(/^CapBnd:\t0{16}$/mu);
      expect(status).toMatch(/^NoNewPrivs:\t1$/mu);
      for (const path of ['/x', '/etc/x', '/run/secrets/x', '/var/lib/x']) {
        const { status: ended } = await containers.exec(name, ['touch', path], '0:0');
        expect([path, ended]).toEqual([path, 1]);
      }
    },
  );

  it('goes on when the zone of the primary is lost, and takes it back', async () => {
    const lost = await stack.memberWith('Leader');
    const zone = Number(lost.slice(-1)) as Numbered;
    const names = [lost, `etcd-${String(zone)}`, `zone-${String(zone)}`];
    const others = NUMBERS.filter((one) => one !== zone);
    const from = performance.now();
    await Promise.all(names.map((name) => stack.containers.lose(name)));
    for (const other of others) {
      await until(
        `a wrap in zone ${String(other)}`,
        LONGEST_PAUSE_MS,
        async () => (await stack.call(other, '/v1/keys/shared/wrap', { plaintext })).status === 200,
      );
    }
    const paused = performance.now() - from;
    process.stdout.write(`zone ${String(zone)} lost: wraps again after ${paused.toFixed(0)} ms\n`);
    for (const other of others) expect(await opens(other)).toMatchObject({ plaintext });
    expect(await stack.memberWith('Leader')).not.toBe(lost);
    await stack.containers.up(...names);
    await stack.healthy();
    expect(await opens(zone)).toMatchObject({ plaintext });
  }, 180_000);
});
