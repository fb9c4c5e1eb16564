/** A line from a real terminal, and nothing where there is none or nobody types. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

import { expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';

const module = join(import.meta.dirname, '../../src/cli/typed-line.ts');
const program = (withinMs: number) =>
  `import { typedLine } from '${module}';
   const said = await typedLine('Hash: ', { otherwise: 'no line', withinMs: ${String(withinMs)} })
     .catch((error) => error.code + ' ' + error.message);
   console.log('[' + said + ']');`;
const args = (withinMs: number) => ['--input-type=module', '-e', program(withinMs)];

const atTerminal = async (withinMs: number, keys: string | null): Promise<string> => {
  const quoted = args(withinMs).map((each) => `'${each.replaceAll("'", `'\\''`)}'`);
  const line = [process.execPath, ...quoted].join(' ');
  const terminal = spawn('script', ['-qec', line, '/dev/null'], {
    env: { ...COMMAND_ENVIRONMENT, TERM: 'dumb' },
  });
  let shown = '';
  terminal.stdout.on('data', (piece: Buffer) => {
    const asked = shown.includes('Hash: ');
    shown += piece.toString('utf8');
    if (!asked && shown.includes('Hash: ') && keys !== null) terminal.stdin.write(keys);
  });
  await once(terminal, 'close');
  return /\[(.*)\]/u.exec(shown)?.[1] ?? shown;
};

it('is what was typed, until the end of the line', async () => {
  expect(await atTerminal(20_000, '01 ab\r')).toBe('01 ab');
}, 30_000);

it('is refused where it ends, is too long, or does not come in time', async () => {
  const runs = [
    atTerminal(20_000, '\u0004'),
    atTerminal(20_000, `${'a'.repeat(1025)}\r`),
    atTerminal(300, null),
  ];
  for (const said of await Promise.all(runs)) expect(said).toContain('invalid_value');
}, 30_000);

it('is not read from what is no terminal', () => {
  const { stdout } = spawnSync(process.execPath, args(20_000), {
    env: COMMAND_ENVIRONMENT,
    encoding: 'utf8',
    input: '01 ab\n',
  });
  expect(stdout).toContain('[invalid_value no line]');
}, 30_000);
