/** The README's commands are those that a start prints, and its program for wrapping offline works. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
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

describe('the commands that the README shows beside a start', () => {
  /** Of the shell itself, and of coreutils, which every system has. */
  const EVERYWHERE = 'base64 cat cmp cp cut dd do done echo for head printf rm sed tee umask'.split(
    ' ',
  );
  /** Made by `npm start`; the reader's own, as the text before them says; the program above them. */
  const GIVEN = '.twofold/admin.header model.safetensors first-1000.ndjson wrap.mjs'.split(' ');
  /** A loop's body for each of its words, `NAME:ROLE` in the one that makes files. */
  const unrolled = (command: string): string[] => {
    const [, words, body = ''] = /^for who in ([^;]*); do (.*); done$/u.exec(command) ?? [];
    return (
      words?.split(' ').map((word) => {
        const [name = ''] = word.split(':');
        return body.replaceAll('${who%:*}', name);
      }) ?? [command]
    );
  };
  /** In their order, with `D` and `A` as the tour sets them; those of other machines and of npm's scripts aside. */
  const commands = [...readme.matchAll(/^(?:\$ |curl -N )(?:.*\\\n)*.*/gmu)]
    .map(([text]) => text.replace(/^\$ /u, '').replaceAll(/\$D\b/gu, '.twofold'))
    .map((text) => text.replaceAll(/\$A\b/gu, '.twofold/admin.header'))
    .flatMap(unrolled);
  const found = (command: string, form: RegExp): string[] =>
    [...command.matchAll(form)].map(([, name = '']) => name);
  const inClone = (name: string): boolean => existsSync(join(root, name));

  it('run programs that its prerequisites name', () => {
    const [, named = ''] = /^A fresh machine needs ([\s\S]*?)`npm test`/mu.exec(readme) ?? [];
    const programs = commands.flatMap((command) => {
      const plain = command
        .replaceAll(/\\\n/gu, ' ')
        .replaceAll(/'[^']*'|"([^"]*)"/gu, (_, text?: string) =>
          text?.includes('$(') === true ? text : "''",
        )
        .replaceAll(/\$\{[^}]*\}/gu, '');
      return found(
        plain,
        /(?:^|\$?\(|[|;&]|\bdo\b) *(?:\w+=[^\s()]* +)*([a-z][\w./-]*)(?![\w./=-])/gu,
      );
    });
    expect(programs).toEqual(expect.arrayContaining(['curl', 'openssl', 'psql', 'npx', 'cmp']));
    const missing = programs.filter(
      (program) =>
        ![...EVERYWHERE, 'npx', 'node'].includes(program) &&
        !named.includes(`\`${program}\``) &&
        !inClone(program),
    );
    expect(missing).toEqual([]);
  });

  it('read files of the clone, or such as an earlier one makes', () => {
    const made = new Set(GIVEN);
    const missing: string[] = [];
    for (const command of commands) {
      const names = found(
        command,
        /(?:(?<!\))@|file:|--(?:passphrase-file|trust|signer) |\bcat |-w0 |\bcmp |\bcp |\bnode |\bimport |\bseal )"?([\w.][\w./-]*)/gu,
      );
      const unmade = (name: string) => !made.has(name) && !inClone(name);
      missing.push(...names.filter(unmade).map((name) => `${name}: ${command}`));
      for (const name of found(command, /(?:> ?|-o |-?-out |\btee |\bcp \S+ )([\w.][\w./-]*)/gu)) {
        made.add(name);
      }
    }
    expect([...made]).toEqual(expect.arrayContaining(['data.key', 'trust', 'release.pem']));
    expect(missing).toEqual([]);
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
