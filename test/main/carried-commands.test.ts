/** Commands that read what somebody carried here take plain files alone, whatever is on the medium. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import type { Cryptoki } from '../../src/hsm/cryptoki.ts';
import { performTransport } from '../../src/hsm/perform-transport.ts';
import type { EscrowText } from '../../src/hsm/perform-transport.ts';
import { auditProveCommand } from '../../src/main/audit-prove-command.ts';
import { auditVerifyCommand } from '../../src/main/audit-verify-command.ts';
import { readRecoveryKey } from '../../src/main/escrow-command.ts';
import { exportCommand } from '../../src/main/export-command.ts';
import { importCommand } from '../../src/main/import-command.ts';
import { recoveryCommand } from '../../src/main/recovery-command.ts';

let folder: string;
/** One that ends at once: what has no end would be read for as long. */
let device: string;
let json: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-carried-'));
  [device, json] = [join(folder, 'device'), join(folder, 'file.json')];
  symlinkSync('/dev/null', device);
  writeFileSync(json, '{}');
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Never asked: the shares come first. */
const NO_TOKEN: unknown = {};
const silent = (): void => undefined;
const output = { print: silent, complain: silent };
const unasked = () => Promise.reject(new Error('not asked for here'));
const id = '5e1f8b1c-98a4-4b5e-9d5d-1d2f6a3b4c5d';

const COMMANDS: Readonly<Record<string, (complain: (line: string) => void) => unknown>> = {
  'recovery check': () => recoveryCommand(['check', device], silent, silent),
  'hsm escrow --recovery': () => readRecoveryKey(device),
  'the ceremony of a restore': () =>
    performTransport(NO_TOKEN as Cryptoki, {
      ...{ action: 'place-root', escrow: {} as EscrowText, shareFiles: [device] },
      ...{ module: 'm', moduleParameters: undefined, tokenSelector: {} },
      ...{ pinFile: json, soPinFile: json, stateDir: folder },
    }),
  'audit prove --trust': () => auditProveCommand(['1-1', '--trust', device], output, unasked),
  'audit verify --trust': (complain) =>
    auditVerifyCommand([folder, '--trust', device], silent, complain),
  'export open EXPORT': () =>
    exportCommand(
      ['open', device, '--ml-kem', json, '--classical', json, '--out', join(folder, 'out')],
      output,
    ),
  'export recipient --ml-kem': () =>
    exportCommand(['recipient', '--ml-kem', device, '--classical', json], output),
  'import --resume': () => importCommand(['--resume', device, '--approval', id], output),
};

it.each(Object.entries(COMMANDS))('%s takes no device', async (_name, run) => {
  const said: string[] = [];
  try {
    await run((line) => said.push(line));
  } catch (error) {
    expect(error).toMatchObject({ code: 'invalid_value' });
    said.push((error as Error).message);
  }
  expect(said.join()).toContain('is no plain file');
});
