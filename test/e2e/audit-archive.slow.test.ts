/**
 * Entries moved to cold storage from under a running service: by the command, killed at any time and run again; then
 * the archive goes on as the export that it is, and verifies.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { eventually } from '../store/eventually.ts';
import { withDatabaseOf } from './inspection.ts';
import { TestService } from './service.ts';

const launch = join(import.meta.dirname, '../../scripts/launch');
const ENTRIES = 600;
const LOCAL = ['archive', 'forget-sink'];
const KILLS = Number(process.env['TWOFOLD_ARCHIVE_KILLS'] ?? 2);

let service: TestService;
let folder: string;
let first = '';
const path = (name: string): string => join(folder, name);

const connection = () => ['--url', service.url, '--authorization', path('auditor.header')];
const filesOf = (at: string) =>
  new Map(
    readdirSync(at, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => {
        const file = join(parentPath, name);
        return [file, createHash('sha256').update(readFileSync(file)).digest('hex')];
      }),
  );

const argumentsOf = ([command = '', ...rest]: readonly string[]): string[] => {
  const local = LOCAL.includes(command) ? ['--data', service.dataDir] : [];
  const remote = command === 'verify' || LOCAL.includes(command) ? [] : connection();
  return [launch, 'audit', command, ...rest, ...local, ...remote];
};
const environment = { ...COMMAND_ENVIRONMENT, HOME: tmpdir() };

function audit(...argv: string[]) {
  const { status, stdout, stderr } = spawnSync('/bin/sh', argumentsOf(argv), {
    env: environment,
    encoding: 'utf8',
  });
  return { status, out: stdout, err: stderr };
}
const archiving = [
  'archive',
  'archive',
  '--trust',
  'trust',
  '--before',
  '512',
  '--place',
  'shelf 3',
];
const archiveArguments = (): string[] =>
  archiving.map((each, at) => (at === 1 || at === 3 ? path(each) : each));

const rows = (): Promise<number> =>
  withDatabaseOf(service.dataDir, async (owner) => {
    const { rows: found } = await owner.query<{ n: number }>(
      'select count(*)::integer as n from public.entry',
    );
    return found[0]?.n ?? 0;
  });

const write = async (count: number): Promise<void> => {
  const answers = await Promise.all(
    Array.from({ length: count }, () => service.request('POST', '/v1/random', { bytes: 1 })),
  );
  for (const { status } of answers) expect(status).toBe(200);
  first = first === '' ? (answers[0]?.headers.get('twofold-audit-id') ?? '') : first;
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-archive-test-'));
  service = await TestService.start();
  const line = `Authorization: Bearer ${await service.token('auditor')}\n`;
  writeFileSync(path('auditor.header'), line, { mode: 0o600 });
  for (let done = 0; done < ENTRIES; done += 100) await write(100);
  writeFileSync(path('trust'), audit('keys').out);
  expect(audit('export', '--out', path('archive'))).toMatchObject({ status: 0 });
}, 120_000);

afterAll(async () => {
  await service.destroy();
  rmSync(folder, { recursive: true });
});

it('what does not verify is no archive', async () => {
  cpSync(path('archive'), path('altered'), { recursive: true });
  const bundle = join(path('altered'), 'tile/entries/000');
  const bytes = readFileSync(bundle);
  bytes[100] = (bytes[100] ?? 0) ^ 1;
  writeFileSync(bundle, bytes);
  const before = await rows();
  const run = audit('archive', path('altered'), '--trust', path('trust'), '--before', '512');
  expect(run.status).toBe(1);
  expect(run.err).toContain('entry_altered');
  // The service may write an entry of its own meanwhile.
  expect(await rows()).toBeGreaterThanOrEqual(before);
}, 60_000);

it('goes on after kills, beside a service that writes', async () => {
  const before = await rows();
  for (let kill = 0; kill < KILLS; kill += 1) {
    const argv = argumentsOf(archiveArguments());
    const child = spawn('/bin/sh', argv, { env: environment, stdio: 'ignore' });
    const ended = once(child, 'exit');
    await Promise.race([ended, sleep(300 + Math.random() * 1_500)]);
    child.kill('SIGKILL');
    await ended;
    await write(5);
  }
  const { status, out, err } = audit(...archiveArguments());
  expect({ status, err }).toMatchObject({ status: 0 });
  expect(JSON.parse(out)).toEqual({ until: 512, removed: 512, place: 'shelf 3', heldBy: null });
  expect(await rows()).toBeLessThan(before - 500 + 5 * KILLS + 50);
}, 120_000);

it('an entry of the archive is proved, and said to be there', async () => {
  const proof = await service.request('GET', `/v1/audit/entries/${first}/proof`, undefined, {
    role: 'auditor',
  });
  expect(proof.status).toBe(200);
  expect(proof.bytes.toString('utf8')).toMatch(/^c2sp\.org\/tlog-proof@v1\n/);
  const gone = await service.request('GET', `/v1/audit/entries/${first}`, undefined, {
    role: 'auditor',
  });
  expect([gone.status, gone.json.code]).toEqual([410, 'entry_archived']);
  expect(gone.json['detail']).toContain('shelf 3');
  const anew = audit('export', '--out', path('anew'));
  expect(anew.status).not.toBe(0);
  expect(anew.err).toContain('shelf 3');
  expect(anew.err).toContain('behind it with --from');
}, 60_000);

it('the archive grows on as an export, and verifies with rows and all', async () => {
  await write(300);
  expect(audit('export', '--out', path('archive'))).toMatchObject({ status: 0 });
  const { status, out } = audit('verify', path('archive'), '--trust', path('trust'), '--json');
  expect({ status, out }).toMatchObject({ status: 0 });
  // Its own entries say what went, where to, who did it, and that it is over.
  const { archive } = JSON.parse(out) as { readonly archive: Record<string, unknown> };
  const operator = `${userInfo().username}(${String(userInfo().uid)})`;
  expect(archive).toMatchObject({ until: 512, place: 'shelf 3', operator, done: true });
  const later = ['archive', path('archive'), '--trust', path('trust'), '--before', '768'];
  expect(audit(...later)).toMatchObject({ status: 0 });
  // The service itself, with what went and without.
  const live = (...more: string[]) =>
    audit('verify', '--live', '--trust', path('trust'), ...connection(), ...more);
  const without = live();
  expect(without.status).toBe(2);
  expect(without.err).toContain('entry_archived');
  const kept = filesOf(path('archive'));
  expect(live('--archive', path('archive'))).toMatchObject({ status: 0 });
  expect(live('--from', '768')).toMatchObject({ status: 0 });
  expect(filesOf(path('archive'))).toEqual(kept);
  // What the service still has is exported by itself, too, also into a folder that was to begin at the beginning.
  expect(audit('export', '--out', path('anew'), '--from', '768')).toMatchObject({ status: 0 });
  expect(audit('verify', path('anew'), '--trust', path('trust'))).toMatchObject({ status: 0 });
}, 120_000);

it('a service that starts anew goes on', async () => {
  await service.stop();
  const again = await TestService.start({ dataDir: service.dataDir });
  service = again;
  await write(20);
  expect(audit('export', '--out', path('archive'))).toMatchObject({ status: 0 });
  expect(audit('verify', path('archive'), '--trust', path('trust'))).toMatchObject({ status: 0 });
}, 120_000);

it('a sink that was taken out of the configuration keeps entries until it is forgotten', async () => {
  const place = (name: string, age: string) =>
    withDatabaseOf(service.dataDir, (owner) =>
      owner.query(
        `insert into public.audit_sink (name, next, changed_at)
          values ($1, 800, clock_timestamp() - $2::interval)`,
        [name, age],
      ),
    );
  for (let done = 0; done < 400; done += 100) await write(100);
  expect(audit('export', '--out', path('archive'))).toMatchObject({ status: 0 });
  await place('gone', '1 hour');
  const archiveTo = () =>
    audit('archive', path('archive'), '--trust', path('trust'), '--before', '1024');
  const held = archiveTo();
  expect(JSON.parse(held.out)).toMatchObject({ until: 768, heldBy: 'gone' });
  expect(held.err).toContain('forget-sink gone');
  expect(audit('forget-sink', 'unknown').err).toContain('not_found');
  const forgotten = audit('forget-sink', 'gone');
  expect(forgotten).toMatchObject({ status: 0 });
  expect(JSON.parse(forgotten.out)).toEqual({ sink: 'gone', next: 800 });
  await place('moving', '1 second');
  const refused = audit('forget-sink', 'moving');
  expect([refused.status === 0, refused.err.includes('conflict')]).toEqual([false, true]);
  await withDatabaseOf(service.dataDir, (owner) => owner.query('delete from public.audit_sink'));
  expect(JSON.parse(archiveTo().out)).toMatchObject({ until: 1_024, heldBy: null });
  const told: string[] = [];
  await eventually(async () => {
    const { out } = audit('tail', '--from', '1024', '--operation', 'audit.sink.forget');
    told.splice(0, Infinity, ...out.trim().split('\n'));
    return told.length >= 2;
  }, 20_000);
  const details = told.map((line) => (JSON.parse(line) as { detail: object }).detail);
  const about = { sink: 'gone', next: 800 };
  expect(details).toMatchObject([
    { state: 'begun', ...about },
    { state: 'done', ...about },
  ]);
}, 120_000);
