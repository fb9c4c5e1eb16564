/** The README's commands are those that a start prints, and its program for wrapping offline works. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { tour } from '../../src/main/tour.ts';
import { TestService } from './service.ts';

const root = join(import.meta.dirname, '../..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');

/** The text of one section, from its heading to the next. */
const section = (title: string): string =>
  readme.split(/^## /mu).find((text) => text.startsWith(`${title}\n`)) ?? '';

describe('the tour of the README', () => {
  it('consists of the printed commands', () => {
    const shown = [...section('Tour').matchAll(/^\$ (.*)$/gmu)].map(([, command]) => command);
    const printed = tour('.twofold', 'http://127.0.0.1:8370')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => !line.startsWith('#'));
    expect(shown).toEqual(printed);
  });
});

describe('wrapping offline', () => {
  let service: TestService;
  let folder: string;
  beforeAll(async () => {
    service = await TestService.start();
    folder = mkdtempSync(join(tmpdir(), 'twofold-readme-'));
  }, 90_000);
  afterAll(async () => {
    await service.destroy();
    rmSync(folder, { recursive: true, force: true });
  });

  it('by the program of the README makes what the service unwraps as of anyone', async () => {
    const [, program = ''] = /```js\n([\s\S]*?)```/u.exec(section('Wrapping offline')) ?? [];
    writeFileSync(join(folder, 'wrap.mjs'), program);
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    await service.request('POST', '/v1/admin/keys', { name: 'demo', suite: 'MLKEM768-P256' });
    await service.request('POST', '/v1/admin/keys/demo/rotate', {});
    const description = await service.request('GET', '/v1/keys/demo/public-key?format=raw');
    writeFileSync(join(folder, 'demo.json'), description.bytes);
    const plaintext = Buffer.from('a data key of a checkpoint');
    writeFileSync(join(folder, 'data.key'), plaintext);
    const wrapped = execFileSync(process.execPath, ['wrap.mjs', 'demo.json', 'data.key'], {
      cwd: folder,
      encoding: 'utf8',
      env: {},
    });
    const body = { ciphertext: wrapped.trim() };
    const { json } = await service.request('POST', '/v1/keys/demo/unwrap', body);
    const opened = { plaintext: plaintext.toString('base64'), origin: 'anyone', keyVersion: 2 };
    expect(json).toMatchObject(opened);
  }, 60_000);
});
