/**
 * The commands of deploy/token-lost.md, as they stand there: a used service loses its token and its database,
 * and another one on a new token opens everything that the first one made.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { TestService } from './service.ts';

const root = join(import.meta.dirname, '../..');
const page = readFileSync(join(root, 'deploy/token-lost.md'), 'utf8');
const SUITES = ['MLKEM768-P256', 'MLKEM1024-P384', 'A256GCM', 'MLDSA65-ECDSA-P256-SHA512', 'HS256'];

/** The commands of all blocks of this kind. */
const commands = (kind: string): string =>
  [...page.matchAll(new RegExp(`^\`\`\`sh ${kind}\n([\\s\\S]*?)^\`\`\`$`, 'gmu'))]
    .map(([, text]) => text)
    .join('\n');

let folder: string;
let first: TestService;
let second: TestService | undefined;
const made: { suite: string; answer: Record<string, unknown> }[] = [];
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

function run(kind: string, dataDir: string, more: Record<string, string> = {}) {
  const shares = join(folder, 'recovery');
  const { status, stdout, stderr } = spawnSync('/bin/sh', ['-eu', '-c', commands(kind)], {
    encoding: 'utf8',
    env: {
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
      ...more,
    },
  });
  return { status, stdout, stderr };
}

const passed = ({ status, stdout, stderr }: ReturnType<typeof run>): string => {
  if (status !== 0) throw new Error(`${stdout}${stderr}`);
  return stdout;
};

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
    const authorization = join(first.dataDir, 'admin.header');
    const output = passed(
      run('prepare', first.dataDir, { URL: first.url, AUTHORIZATION: authorization }),
    );
    const { json } = await first.request('GET', '/v1/audit/entries?operation=root.escrow');
    expect((json['items'] as unknown[]).length).toBe(1);
    expect(output).toContain('These make the recovery key.');
    expect(output).toContain('"verified": "signatures and content, unopened"');
    expect(readdirSync(join(folder, 'backups'))).toHaveLength(1);
  }, 60_000);

  it('is replaced: everything opens on another token and in another database', async () => {
    await first.stop();
    const dataDir = join(folder, 'second');
    mkdirSync(dataDir, { mode: 0o700 });
    const output = passed(run('restore', dataDir));
    const result = JSON.parse(output.slice(output.lastIndexOf('{\n  "backup"'))) as Record<
      string,
      unknown
    >;
    expect(result).toMatchObject({ keys: SUITES.length + 1, generations: [1] });
    expect(result['left']).toEqual(['default/on-token version 1']);
    expect(result['probes']).toBe(4);
    expect((result['logKeysLeft'] as string[]).length).toBe(1);

    second = await TestService.start({ dataDir });
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
  }, 90_000);

  it('is seen in the log, which goes on under new keys from where the backup was', async () => {
    if (second === undefined) throw new Error('there is no second service');
    const { json } = await second.request('GET', '/v1/audit/entries?operation=audit.restored');
    const [entry] = json['items'] as Record<string, unknown>[];
    expect(entry).toMatchObject({ operation: 'audit.restored' });
    const authorization = join(second.dataDir, 'admin.header');
    passed(run('log-keys', second.dataDir, { AUTHORIZATION: authorization, URL: second.url }));
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
