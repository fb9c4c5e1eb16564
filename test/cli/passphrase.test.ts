/** Passphrases from a real terminal: one after another, shown nowhere. */
import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';

const command = join(import.meta.dirname, '../../scripts/twofold');
const WORDS = ['correct horse battery', 'of the second key'];
let folder: string;

const encrypted = (passphrase: string | undefined) =>
  ({ format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase }) as const;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-terminal-'));
  const mlKem = generateKeyPairSync('ml-kem-768').privateKey;
  writeFileSync(join(folder, 'ml-kem.pem'), mlKem.export(encrypted(WORDS[0])));
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeFileSync(join(folder, 'curve.pem'), privateKey.export(encrypted(WORDS[1])));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('reads one for each of two keys', async () => {
  const line = `${command} export recipient --ml-kem ml-kem.pem --classical curve.pem`;
  const terminal = spawn('script', ['-qec', line, '/dev/null'], {
    cwd: folder,
    env: { ...COMMAND_ENVIRONMENT, HOME: folder, TERM: 'dumb' },
  });
  let [shown, prompts] = ['', 0];
  terminal.stdout.on('data', (piece: Buffer) => {
    shown += piece.toString('latin1');
    const asked = shown.split('Passphrase: ').length - 1;
    for (; prompts < asked; prompts += 1) {
      const words = WORDS[prompts] ?? '';
      // Typed once it is asked for; the last character is taken back.
      setTimeout(() => terminal.stdin.write(`${words}\u00e4\x7f\r`), 300);
    }
  });
  const [status] = (await once(terminal, 'close')) as [number];
  expect([status, prompts]).toEqual([0, 2]);
  expect(shown).toContain('"suite": "MLKEM768-P256"');
  for (const words of WORDS) expect(shown).not.toContain(words);
}, 30_000);
