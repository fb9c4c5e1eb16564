/**
 * The audit log of a running service, as its auditors have it: exported, verified under pinned keys,
 * tailed and proved; and what an owner of the database changes is found.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
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

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { SIGNATURE_TYPE, formatVkey, makeVkey } from '../../src/audit/tree/vkey.ts';
import { withDatabaseOf } from './inspection.ts';
import { TestService } from './service.ts';

const launch = join(import.meta.dirname, '../../scripts/launch');

let service: TestService;
let folder: string;
const path = (name: string) => join(folder, name);

const argumentsOf = (argv: readonly string[]) => {
  const offline = argv[0] === 'verify' && !argv.includes('--live');
  const connection = ['--url', service.url, '--authorization', path('auditor.header')];
  return [launch, 'audit', ...argv, ...(offline ? [] : connection)];
};
const environment = { ...COMMAND_ENVIRONMENT, HOME: tmpdir() };

function audit(...argv: string[]) {
  const { status, stdout, stderr } = spawnSync('/bin/sh', argumentsOf(argv), {
    env: environment,
    encoding: 'utf8',
  });
  return { status, out: stdout, err: stderr };
}

const start = (...argv: string[]) =>
  spawn('/bin/sh', argumentsOf(argv), { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });

/** The keys that an auditor pins, from the rows and the name in the checkpoint. */
async function pin(): Promise<void> {
  const [origin = ''] = (await checkpoint()).split('\n');
  const rows = await withDatabaseOf(service.dataDir, (owner) =>
    owner.query<{ kind: string; public_key: Buffer }>(
      'select kind, public_key from public.log_key',
    ),
  );
  const vkeys = rows.rows.map(({ kind, public_key }) =>
    formatVkey(makeVkey(origin, typeOf(kind), public_key)),
  );
  expect(vkeys).toHaveLength(2);
  writeFileSync(path('trust'), `# of ${origin}\n${vkeys.join('\n')}\n`);
}

const typeOf = (kind: string) =>
  kind === 'ed25519' ? SIGNATURE_TYPE.ed25519 : SIGNATURE_TYPE.mlDsa44Cosignature;

async function checkpoint(): Promise<string> {
  for (;;) {
    const answer = await service.request('GET', '/v1/audit/checkpoint', undefined, {
      role: 'auditor',
    });
    if (answer.status === 200) return answer.bytes.toString('utf8');
    await sleep(100);
  }
}

/** What a constraint or trigger would refuse, as somebody who owns the database does it. */
const tamper = (table: string, sql: string, values: readonly unknown[] = []) =>
  withDatabaseOf(service.dataDir, async (owner) => {
    await owner.query('begin');
    await owner.query(`alter table public.${table} disable trigger user`);
    const { rowCount } = await owner.query(sql, [...values]);
    await owner.query(`alter table public.${table} enable trigger user`);
    await owner.query('commit');
    return rowCount;
  });

const create = async (name: string) => {
  const answer = await service.request('POST', '/v1/admin/keys', { name, suite: 'A256GCM' });
  expect(answer.status).toBe(201);
  return answer.headers.get('twofold-audit-id') ?? '';
};

const filesOf = (name: string): Map<string, string> =>
  new Map(
    readdirSync(path(name), { recursive: true, encoding: 'utf8' })
      .filter((file) => statSync(join(path(name), file)).isFile())
      .toSorted()
      .map((file) => [
        file,
        createHash('sha256')
          .update(readFileSync(join(path(name), file)))
          .digest('hex'),
      ]),
  );

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-audit-test-'));
  service = await TestService.start();
  const line = `Authorization: Bearer ${await service.token('auditor')}\n`;
  writeFileSync(path('auditor.header'), line, { mode: 0o600 });
}, 120_000);

afterAll(async () => {
  await service.destroy();
  rmSync(folder, { recursive: true });
});

describe('an export', () => {
  it('is verified under the keys that are pinned', async () => {
    await pin();
    for (const name of ['alpha', 'beta', 'gamma']) await create(name);
    await service.request('POST', '/v1/keys/alpha/wrap', { plaintext: 'AAAA' });
    await service.request('POST', '/v1/admin/keys/alpha/rotate', {});
    await service.request('POST', '/v1/admin/keys/beta/suspend', { reason: 'a drill' });
    const made = audit('export', '--out', path('first'));
    expect(made).toMatchObject({ status: 0, err: '' });
    const { status, out } = audit('verify', path('first'), '--trust', path('trust'));
    expect({ status, out }).toMatchObject({ status: 0 });
    const manifest = readFileSync(path('first/export.json'), 'utf8');
    const { until = 0, stateFrom = 0 } = JSON.parse(manifest) as Record<string, number>;
    expect(until).toBeGreaterThan(stateFrom);
    expect(readFileSync(path('first/state.ndjson'), 'utf8').trim().split('\n')).toHaveLength(3);
  }, 60_000);

  it('is refused under other keys', async () => {
    const other = makeVkey('example.com/other', SIGNATURE_TYPE.ed25519, Buffer.alloc(32, 1));
    writeFileSync(path('other'), `${formatVkey(other)}\n`);
    const { status } = audit('verify', path('first'), '--trust', path('other'));
    expect(status).toBe(1);
  });

  it('goes on where it was killed, to the same folder as one that was not', async () => {
    const names = Array.from({ length: 300 }, (_, at) => at);
    const token = await service.token('user');
    const headers = { Authorization: `Bearer ${token}` };
    for (let at = 0; at < names.length; at += 25) {
      const some = names.slice(at, at + 25);
      await Promise.all(some.map(() => fetch(new URL('/v1/whoami', service.url), { headers })));
    }
    const whole = audit('export', '--out', path('whole'));
    expect(whole).toMatchObject({ status: 0 });
    /** Killed once this is there; whether that was before it was through. */
    const killedAt = async (reached: string): Promise<boolean> => {
      const child = start('export', '--out', path('killed'));
      const ended = once(child, 'exit');
      while (!existsSync(path(`killed/${reached}`)) && child.exitCode === null) await sleep(1);
      child.kill('SIGKILL');
      await ended;
      if (!existsSync(path('killed/export.json'))) return true;
      rmSync(path('killed'), { recursive: true });
      return false;
    };
    for (const reached of ['export.plan.json', 'tile', 'tile/0']) {
      // On a machine that is busy with other things a kill may come late.
      let cutOff = false;
      for (let tries = 0; tries < 5 && !cutOff; tries += 1) cutOff = await killedAt(reached);
      expect([reached, cutOff]).toEqual([reached, true]);
    }
    expect(audit('export', '--out', path('killed'))).toMatchObject({ status: 0, err: '' });
    const { status, out } = audit('verify', path('killed'), '--trust', path('trust'));
    expect({ status, out }).toMatchObject({ status: 0 });
    expect([...filesOf('killed').keys()].filter((name) => /plan|partial$/u.test(name))).toEqual([]);
    // The older one goes on, and has then what one made at once has of the same entries.
    expect(audit('export', '--out', path('first')).status).toBe(0);
    expect(audit('verify', path('first'), '--trust', path('trust'))).toMatchObject({ status: 0 });
    const [grown, once_] = [filesOf('first'), filesOf('whole')];
    for (const name of ['tile/0/000', 'tile/entries/000']) {
      expect([name, grown.get(name)]).toEqual([name, once_.get(name)]);
    }
    const partial = [...grown.keys()].filter((name) => /^tile\/0\/.*\.p\//u.test(name));
    expect(partial.length).toBeLessThanOrEqual(1);
  }, 120_000);

  it('of a part is verified too', async () => {
    expect(audit('export', '--out', path('part'), '--from', '256')).toMatchObject({ status: 0 });
    const { status, out } = audit('verify', path('part'), '--trust', path('trust'));
    expect({ status, out }).toMatchObject({ status: 0 });
    const { status: refused, err } = audit('export', '--out', path('part'), '--from', '0');
    expect([refused, err]).toEqual([1, expect.stringContaining('invalid_value')]);
  });

  it('of what the service holds now is verified at once', () => {
    const { status, out } = audit('verify', '--live', '--trust', path('trust'));
    expect({ status, out }).toMatchObject({ status: 0 });
  });

  it('leaves nothing behind when it is told to end at any moment, and clears what a kill left', async () => {
    const own = path('temporary');
    mkdirSync(own);
    const inOwn = { ...environment, TMPDIR: own };
    const argv = argumentsOf(['verify', '--live', '--trust', path('trust')]);
    const begun = () => spawn('/bin/sh', argv, { env: inOwn, stdio: 'ignore' });
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL'] as const) {
      for (const wait of [0, 30, 60]) {
        const child = begun();
        const ended = once(child, 'exit') as Promise<[number | null, string | null]>;
        const known = readdirSync(own).length;
        while (readdirSync(own).length === known && child.exitCode === null) await sleep(1);
        await sleep(wait);
        child.kill(signal);
        const [code, by] = await ended;
        // It may have been through.
        expect([signal, 0]).toContain(by ?? code);
        if (signal !== 'SIGKILL') expect(readdirSync(own)).toEqual([]);
      }
    }
    const { status } = spawnSync('/bin/sh', argv, { env: inOwn });
    // One that was killed before its folder had its name leaves it for an hour, empty.
    const left = readdirSync(own).filter((name) => !name.startsWith('twofold-verify-new-'));
    expect([status, left]).toEqual([0, []]);
  }, 120_000);
});

describe('an entry', () => {
  it('is proved to be in the log', async () => {
    const id = await create('proved');
    let proved = audit('prove', id, '--trust', path('trust'));
    while (proved.err.includes('not_integrated_yet')) {
      proved = audit('prove', id, '--trust', path('trust'));
    }
    expect(proved).toMatchObject({ status: 0, err: '' });
    expect(proved.out).toContain(`${id} is entry `);
    expect(audit('prove', id, '--trust', path('other')).status).toBe(1);
  });

  it('is tailed, by what is asked for', async () => {
    const { status, out } = audit('tail', '--operation', 'keys.create', '--key', 'beta');
    expect(status).toBe(0);
    const lines = out.trim().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { operation: 'keys.create', namespace: 'default', key: { reference: 'beta' } },
    ]);
    const child = start('tail', '--follow', '--operation', 'keys.create');
    let text = '';
    child.stdout.on('data', (piece: Buffer) => (text += piece.toString('utf8')));
    await sleep(1_500);
    await create('followed');
    while (!text.includes('"followed"')) await sleep(50);
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([0, null]);
  });

  it('is followed no longer than somebody reads', async () => {
    const child = start('tail', '--follow', '--from', '0');
    child.stdout.once('data', () => child.stdout.destroy());
    const ended = once(child, 'exit');
    await create('unread');
    await Promise.race([ended, sleep(3_000)]);
    await create('unread-too');
    expect(await ended).toEqual([141, null]);
  }, 60_000);
});

describe('an owner of the database who', () => {
  const found = (...argv: string[]) => {
    rmSync(path('tampered'), { recursive: true, force: true });
    const made = audit('export', '--out', path('tampered'), ...argv);
    if (made.status !== 0) return made.err;
    return audit('verify', path('tampered'), '--trust', path('trust')).out;
  };

  it('edits an entry is found, and the entry named', async () => {
    const index = 7;
    const { json } = await service.request('GET', `/v1/audit/log?from=${index}&pageSize=1`);
    const [entry] = json['items'] as { id: string; body: string }[];
    const [lane, n] = (entry?.id ?? '').split('-');
    const body = Buffer.from(entry?.body ?? '', 'base64');
    const at = body.length - 2;
    body[at] = (body[at] ?? 0) ^ 1;
    const sql = 'update public.entry set body = $3 where lane = $1 and n = $2';
    expect(await tamper('entry', sql, [lane, n, body])).toBe(1);
    const said = found();
    expect(said).toMatch(/\b7\b/u);
    body[at] = (body[at] ?? 0) ^ 1;
    expect(await tamper('entry', sql, [lane, n, body])).toBe(1);
    expect(found()).not.toMatch(/problem/iu);
  }, 60_000);

  it('puts an old row of a key back is found', async () => {
    const take = () =>
      withDatabaseOf(service.dataDir, async (owner) => {
        const { rows } = await owner.query<{ row: unknown }>(
          `select to_jsonb(k) as row from public.key k where name = 'gamma'`,
        );
        return rows[0]?.row;
      });
    const old = await take();
    await service.request('POST', '/v1/admin/keys/gamma/suspend', { reason: 'lost' });
    const sql = `update public.key k set suspended_at = o.suspended_at,
        suspension_reason = o.suspension_reason, revision = o.revision, mac = o.mac
      from jsonb_populate_record(null::public.key, $1) o where k.id = o.id`;
    expect(await tamper('key', sql, [JSON.stringify(old)])).toBe(1);
    expect(found()).toContain('state_outdated');
  }, 60_000);
});
