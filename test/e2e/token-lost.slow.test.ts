/**
 * The commands of deploy/token-lost.md, as they stand there: a used service loses its token and its database,
 * and another one on a new token opens everything that the first one made.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { killAll, ofProcess, processesOf } from './processes.ts';
import { TestService } from './service.ts';

const root = join(import.meta.dirname, '../..');
const page = readFileSync(join(root, 'deploy/token-lost.md'), 'utf8');
const SUITES = ['MLKEM768-P256', 'MLKEM1024-P384', 'A256GCM', 'MLDSA65-ECDSA-P256-SHA512', 'HS256'];

/** The commands of all blocks of this kind. */
const commands = (kind: string): string =>
  [...page.matchAll(new RegExp(`^\`\`\`sh ${kind}\n([\\s\\S]*?)^\`\`\`$`, 'gmu'))]
    .map(([, text]) => text)
    .join('\n');

/** Kills by time of each of restore and the making of a recovery key; more in the full run. */
const KILLS = Number(process.env['TWOFOLD_RESTORE_KILLS'] ?? 1);
/** How often a step is looked for that went by unseen on a busy machine. */
const MOST_TRIES = 3;
/** Milliseconds that each takes here, beyond a doubt. */
const LASTS = { recovery: 700, restore: 6_000 } as const;

/** The token is made, the root placed on it, the rows written, and what is there opened. */
const RESTORE_STEPS = [
  ...(['ceremony', 'placement'] as const),
  ...[/reading the rows/u, /checking what was restored/u],
];

const SEED = Number(process.env['TWOFOLD_RESTORE_SEED'] ?? 1);
let state = SEED;
/** The same for the same seed: a linear congruential generator (Numerical Recipes). */
const random = (): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 2 ** 32;
};

let folder: string;
let first: TestService;
let second: TestService | undefined;
const made: { suite: string; answer: Record<string, unknown> }[] = [];
/** More than one tile of the log, of which a backup has the last alone. */
const USES = 300;
const message = Buffer.from('kept through a lost token').toString('base64');

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-lost-'));
  first = await TestService.start();
}, 120_000);

afterAll(async () => {
  await first.destroy();
  await second?.destroy();
  rmSync(folder, { recursive: true, force: true });
});

const post = async (service: TestService, path: string, body: unknown) => {
  const { status, json } = await service.request('POST', path, body);
  expect({ path, ok: status < 300, code: json.code }).toEqual({ path, ok: true, code: undefined });
  return json;
};

function environmentOf(dataDir: string) {
  const shares = join(folder, 'recovery');
  return {
    ...COMMAND_ENVIRONMENT,
    PATH: `${join(root, 'scripts')}:${process.env['PATH'] ?? ''}`,
    TWOFOLD_DATA: dataDir,
    TWOFOLD_BACKUP_FOLDER: join(folder, 'backups'),
    TWOFOLD_BACKUP_RECOVERY_KEY_FILE: join(shares, 'recovery.pem'),
    RECOVERY: shares,
    BACKUPS: join(folder, 'backups'),
    SO_PIN: join(dataDir, 'hsm/ceremony/so.pin'),
    TRUST: join(folder, 'trust'),
    SHARE_1: join(shares, 'share-2.txt'),
    SHARE_2: join(shares, 'share-5.txt'),
    SHARE_3: join(shares, 'share-1.txt'),
  };
}

function run(kind: string, dataDir: string, more: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync('/bin/sh', ['-eu', '-c', commands(kind)], {
    encoding: 'utf8',
    env: { ...environmentOf(dataDir), ...more },
  });
  return { status, stdout, stderr };
}

/** An auditor's command, as a client of the service. */
function audit(service: TestService, ...argv: string[]) {
  const authorization = join(service.dataDir, 'admin.header');
  const connection = ['--url', service.url, '--authorization', authorization];
  const all = ['audit', ...argv, ...(argv[0] === 'verify' ? [] : connection)];
  const { status, stdout, stderr } = spawnSync(join(root, 'scripts/twofold'), all, {
    encoding: 'utf8',
    env: { ...COMMAND_ENVIRONMENT },
  });
  return { status, stdout, stderr };
}

/** The command with its whole process group, killed after some time of its own. */
async function killed(after: number, argv: readonly string[], dataDir: string): Promise<void> {
  const child = spawn(join(root, 'scripts/twofold'), argv, {
    detached: true,
    env: environmentOf(dataDir),
    stdio: 'ignore',
  });
  const closed = once(child, 'close');
  await Promise.race([closed, sleep(after)]);
  if (child.exitCode === null) process.kill(-(child.pid ?? 0), 'SIGKILL');
  await closed;
}

/** A sign of the step that a command is at: a line that it writes, or the process of a ceremony. */
type Sign = RegExp | 'ceremony' | 'placement' | 'ceremony over';

/**
 * The command with its whole process group, killed at a step.
 * @returns whether it came to that step
 */
async function killedAt(sign: Sign, argv: readonly string[], dataDir: string): Promise<boolean> {
  const child = spawn(join(root, 'scripts/twofold'), argv, {
    detached: true,
    env: environmentOf(dataDir),
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const closed = once(child, 'close');
  let [began, reached] = [false, false];
  while (child.exitCode === null && !reached) {
    await sleep(3);
    // In this order: the ceremony that makes a token is over once that has its name.
    const hasToken = existsSync(join(dataDir, 'hsm/tokens'));
    const ceremony = inCeremony(dataDir);
    if (sign instanceof RegExp) reached = sign.test(said);
    else if (sign === 'ceremony over') reached = began && !ceremony;
    else reached = ceremony && (sign === 'ceremony' || hasToken);
    began ||= ceremony;
  }
  // The group is gone where the command has ended.
  if (child.exitCode === null) process.kill(-(child.pid ?? 0), 'SIGKILL');
  await closed;
  return reached;
}

/** As if nothing had been begun there. */
async function clear(dataDir: string): Promise<void> {
  await killAll(dataDir);
  rmSync(dataDir, { recursive: true, force: true });
  mkdirSync(dataDir, { mode: 0o700 });
}

/** Whether a ceremony has the token of this folder open. */
const inCeremony = (dataDir: string): boolean =>
  processesOf(dataDir).some((pid) => ofProcess(pid, 'cmdline').includes('/hsm/ceremony.ts'));

const passed = ({ status, stdout, stderr }: ReturnType<typeof run>): string => {
  if (status !== 0) throw new Error(`${stdout}${stderr}`);
  return stdout;
};

/** What a sink of the second service writes. */
const copied = (): string => join(folder, 'copied.ndjson');

describe('a lost token', () => {
  it('was prepared for: backups beside the running service', async () => {
    for (const suite of SUITES) {
      const name = suite.toLowerCase();
      await post(first, '/v1/admin/keys', { name, suite });
      const key = `/v1/keys/${name}`;
      if (suite.startsWith('MLDSA')) {
        made.push({ suite, answer: await post(first, `${key}/sign`, { message }) });
      } else if (suite === 'HS256') {
        made.push({ suite, answer: await post(first, `${key}/mac`, { message }) });
      } else {
        made.push({ suite, answer: await post(first, `${key}/wrap`, { plaintext: message }) });
      }
    }
    await post(first, '/v1/admin/keys', {
      name: 'on-token',
      suite: 'MLKEM768-X25519',
      custody: 'hsm-token',
    });
    const draws = Array.from({ length: USES }, () => post(first, '/v1/random', { bytes: 1 }));
    await Promise.all(draws);
    expect(audit(first, 'export', '--out', join(folder, 'export'))).toMatchObject({ status: 0 });
    const authorization = join(first.dataDir, 'admin.header');
    const shares = ['--shares', '3', '--threshold', '2'];
    for (let kill = 0; kill < KILLS; kill += 1) {
      const out = join(folder, `cut-off-${String(kill)}`);
      const after = (LASTS.recovery * (kill + 0.5)) / KILLS;
      await killed(after, ['recovery', 'create', ...shares, '--out', out], first.dataDir);
      // A set is whole or not there.
      const made = existsSync(out) ? readdirSync(out).toSorted() : null;
      const whole = ['recovery.pem', 'share-1.txt', 'share-2.txt', 'share-3.txt'];
      expect([null, whole]).toContainEqual(made);
    }
    const output = passed(
      run('prepare', first.dataDir, { URL: first.url, AUTHORIZATION: authorization }),
    );
    const { json } = await first.request('GET', '/v1/audit/entries?operation=root.escrow');
    expect((json['items'] as unknown[]).length).toBe(1);
    expect(output).toContain('These make the recovery key.');
    expect(output).toContain('"verified": "signatures and content, unopened"');
    expect(readdirSync(join(folder, 'backups'))).toHaveLength(1);
  }, 120_000);

  it('was wrapped for another recovery key too, in spite of kills', async () => {
    let other = '';
    const twofold = (...argv: string[]) =>
      spawnSync(join(root, 'scripts/twofold'), argv, {
        encoding: 'utf8',
        env: {
          ...environmentOf(first.dataDir),
          TWOFOLD_BACKUP_FOLDER: join(other, 'backups'),
          TWOFOLD_BACKUP_RECOVERY_KEY_FILE: join(other, 'recovery.pem'),
        },
      });
    const shares = ['--shares', '2', '--threshold', '2'];
    const { SO_PIN } = environmentOf(first.dataDir);
    let recoveryKeys = 0;
    const anotherRecoveryKey = () => {
      recoveryKeys += 1;
      other = join(folder, `other-${String(recoveryKeys)}`);
      passed(twofold('recovery', 'create', ...shares, '--out', other));
    };
    const escrow = () => {
      const recovery = join(other, 'recovery.pem');
      return ['hsm', 'escrow', '--recovery', recovery, '--so-pin-file', SO_PIN];
    };
    anotherRecoveryKey();
    let kept = false;
    // With the root wrapped in a process of its own, and before what that made is kept.
    for (const sign of ['ceremony', 'ceremony over'] as const) {
      let came = false;
      for (let tries = 0; tries < MOST_TRIES && !came; tries += 1) {
        // What is wrapped for one is not wrapped for it again.
        if (kept) anotherRecoveryKey();
        came = await killedAt(sign, escrow(), first.dataDir);
        const { status, stderr } = twofold('backup', 'create');
        // On a slow machine the row may be there before its process is killed: then it is whole.
        kept = status === 0;
        if (!kept) expect(stderr).toContain('hsm escrow');
      }
      expect([sign, came]).toEqual([sign, true]);
    }
    const made = passed(twofold(...escrow()));
    expect(JSON.parse(made)).toMatchObject({ escrowed: kept ? [] : [1] });
    expect(JSON.parse(passed(twofold(...escrow())))).toMatchObject({ escrowed: [] });
    const { path } = JSON.parse(passed(twofold('backup', 'create'))) as { path: string };
    const both = [1, 2].flatMap((n) => ['--share', join(other, `share-${String(n)}.txt`)]);
    expect(passed(twofold('backup', 'verify', path, ...both))).toContain(
      '"verified": "everything"',
    );
    await post(first, '/v1/keys/a256gcm/wrap', { plaintext: message });
  }, 240_000);

  it('is replaced: everything opens on another token and in another database', async () => {
    await first.stop();
    const dataDir = join(folder, 'second');
    await clear(dataDir);
    const backup = readdirSync(join(folder, 'backups'))[0] ?? '';
    const { SO_PIN, SHARE_1, SHARE_2, SHARE_3 } = environmentOf(dataDir);
    const argv = ['backup', 'restore', join(folder, 'backups', backup), '--so-pin-file', SO_PIN];
    const given = [SHARE_1, SHARE_2, SHARE_3].flatMap((share) => ['--share', share]);
    for (const sign of RESTORE_STEPS) {
      let came = await killedAt(sign, [...argv, ...given], dataDir);
      // On a busy machine it may be past it unseen: then from the beginning.
      for (let tries = 1; tries < MOST_TRIES && !came; tries += 1) {
        await clear(dataDir);
        came = await killedAt(sign, [...argv, ...given], dataDir);
      }
      expect([sign, came]).toEqual([sign, true]);
    }
    // Nobody has shown yet that what is there opens.
    const early = await TestService.start({ dataDir, ready: false });
    await early.untilOutput(/is not over/u);
    while (early.running) await sleep(20);
    for (let kill = 0; kill < KILLS; kill += 1) {
      const after = (LASTS.restore * (kill + random())) / KILLS;
      await killed(after, [...argv, ...given], dataDir);
    }
    // The folder of the lost installation had seen more of the log than the backup has.
    copyFileSync(join(first.dataDir, 'checkpoint'), join(dataDir, 'checkpoint'));
    const output = passed(run('restore', dataDir));
    const result = JSON.parse(output.slice(output.lastIndexOf('{\n  "backup"'))) as Record<
      string,
      unknown
    >;
    expect(result).toMatchObject({ keys: SUITES.length + 1, generations: [1] });
    expect(result['left']).toEqual(['default/on-token version 1']);
    expect(result['probes']).toBe(4);
    expect((result['logKeysLeft'] as string[]).length).toBe(1);
    const beyond = result['seenBeyond'] as { place: string; size: number; checkpoint: string }[];
    const { log } = result as { log: { size: number } };
    expect(beyond).toEqual([
      {
        place: join(dataDir, 'checkpoint'),
        size: beyond[0]?.size,
        checkpoint: expect.stringMatching(/^[0-9a-f]{64}$/u) as unknown,
      },
    ]);
    expect(beyond[0]?.size).toBeGreaterThan(log.size);

    // It is said, and given up by nobody but the operator.
    const refused = await TestService.start({ dataDir, ready: false });
    await refused.untilOutput(/rolled back/u);
    while (refused.running) await sleep(20);
    const environment = {
      TWOFOLD_AUDIT_ACCEPT_ROLLBACK_CHECKPOINTS: JSON.stringify([beyond[0]?.checkpoint]),
      TWOFOLD_AUDIT_ACCEPT_ROLLBACK_REASON: 'the token was lost',
      TWOFOLD_BACKUP_FOLDER: join(folder, 'backups'),
      TWOFOLD_BACKUP_RECOVERY_KEY_FILE: join(folder, 'recovery/recovery.pem'),
      TWOFOLD_AUDIT_SINKS: JSON.stringify([{ type: 'file', name: 'here', path: copied() }]),
    };
    second = await TestService.start({ dataDir, environment });
    for (const { suite, answer } of made) {
      const key = `/v1/keys/${suite.toLowerCase()}`;
      const { keyVersion } = answer;
      if ('ciphertext' in answer) {
        const { ciphertext } = answer;
        expect(await post(second, `${key}/unwrap`, { ciphertext })).toMatchObject({
          plaintext: message,
        });
      } else if ('signature' in answer) {
        const body = { message, signature: answer['signature'], keyVersion };
        expect(await post(second, `${key}/verify`, body)).toMatchObject({ valid: true });
      } else {
        const body = { message, mac: answer['mac'], keyVersion };
        expect(await post(second, `${key}/verify-mac`, body)).toMatchObject({ valid: true });
      }
    }
    // Of the half that was an object of the lost token.
    const lost = await second.request('POST', '/v1/keys/on-token/wrap', { plaintext: message });
    expect(lost.status).toBe(200);
  }, 240_000);

  it('is seen in the log, which goes on under new keys from where the backup was', async () => {
    if (second === undefined) throw new Error('there is no second service');
    const { json } = await second.request('GET', '/v1/audit/entries?operation=audit.restored');
    const [entry] = json['items'] as Record<string, unknown>[];
    expect(entry).toMatchObject({ operation: 'audit.restored' });
    const authorization = join(second.dataDir, 'admin.header');
    passed(run('log-keys', second.dataDir, { AUTHORIZATION: authorization, URL: second.url }));
  }, 60_000);

  it('has its entries of before in exports alone: sinks go on, and what was exported grows on and verifies', async () => {
    if (second === undefined) throw new Error('there is no second service');
    const tail = audit(second, 'tail');
    expect([tail.status, tail.stderr]).toEqual([1, expect.stringContaining('entry_archived')]);
    expect(tail.stderr).toContain('exports from before the restore');
    const out = join(folder, 'export');
    const trust = join(folder, 'trust-of-both');
    // It names those of before too.
    writeFileSync(trust, audit(second, 'keys').stdout);
    const exported = audit(second, 'export', '--out', out);
    expect(exported).toEqual({ ...exported, status: 0, stderr: '' });
    const verified = audit(second, 'verify', out, '--trust', trust, '--json');
    expect(verified).toEqual({ ...verified, status: 0, stderr: '' });
    const lines = readFileSync(copied(), 'utf8').trim().split('\n');
    const copies = lines.map((line) => JSON.parse(line) as { index: number; operation: string });
    expect(copies[0]?.index).toBe(256);
    const restored = copies.find(({ operation }) => operation === 'audit.restored');
    expect(restored).toMatchObject({ detail: { entriesFrom: 256 } });
  }, 60_000);

  it('takes backups again, also when it is asked for one', async () => {
    if (second === undefined) throw new Error('there is no second service');
    const service = second;
    const path = '/v1/admin/backups';
    const looked = await service.request('POST', `${path}?dryRun=true`, {});
    expect([looked.status, looked.json['dryRun']]).toEqual([200, true]);
    expect((await service.request('GET', path)).json['items']).toEqual([]);
    const take = async () => {
      const begun = await service.request('POST', path, {});
      expect([begun.status, begun.json['state'], begun.json.code]).toEqual([
        201,
        'running',
        undefined,
      ]);
      const one = begun.headers.get('location') ?? '';
      for (;;) {
        const { json } = await service.request('GET', one);
        if (json['state'] !== 'running') return json;
        await sleep(50);
      }
    };
    let taken = await take();
    // New keys of the log sign once the log has them.
    for (let tries = 0; taken['state'] === 'failed' && tries < 40; tries += 1) {
      await sleep(500);
      taken = await take();
    }
    expect(taken).toMatchObject({ state: 'succeeded', verified: true, problem: null });
    const { json } = await service.request('GET', `${path}?pageSize=1`);
    expect(json['items']).toMatchObject([{ id: taken['id'], keys: SUITES.length + 1 }]);
    const file = join(folder, 'backups', String(taken['folder']));
    const argv = ['backup', 'verify', file, '--share', join(folder, 'recovery/share-1.txt')];
    const others = [2, 3].flatMap((n) => [
      '--share',
      join(folder, `recovery/share-${String(n)}.txt`),
    ]);
    const verified = spawnSync(join(root, 'scripts/twofold'), [...argv, ...others], {
      encoding: 'utf8',
      env: { ...COMMAND_ENVIRONMENT },
    });
    expect(verified.stdout).toContain('"verified": "everything"');
    rmSync(file, { recursive: true });
  }, 60_000);

  it('leaves no secret where none may be, and restores nothing twice', async () => {
    if (second === undefined) throw new Error('there is no second service');
    const again = run('restore', second.dataDir);
    expect(again.status).toBe(0);
    const { status, stdout } = spawnSync(
      join(root, 'scripts/twofold'),
      ['doctor', 'secrets', '--json', '--data', second.dataDir],
      { encoding: 'utf8', env: { ...COMMAND_ENVIRONMENT } },
    );
    expect((JSON.parse(stdout) as { findings: unknown[] }).findings).toEqual([]);
    expect(status).toBe(0);
    cpSync(join(folder, 'backups'), join(folder, 'copy'), { recursive: true });
  }, 60_000);
});
