/**
 * SoftHSM's file of a token, cut off as it is by a process that ends inside its C_Login: a limit of no
 * bytes for files (RLIMIT_FSIZE) ends it between the truncation and the writing.
 */
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { keepTokenObjects, mendTokenObjects } from '../../src/hsm/token-object.ts';
import { makeToken, ROOT } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';
import { useTokenAs } from './use-token.ts';

let fixture: TokenFixture;
let tokens: string;
let folder: string;
const file = () => join(folder, 'token.object');
const copy = () => join(folder, 'token.object.kept');
const sizeOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.size;

beforeAll(async () => {
  fixture = await makeToken();
  tokens = join(fixture.folder, 'hsm/tokens');
  folder = join(tokens, readdirSync(tokens)[0] ?? '');
}, 60_000);
afterAll(() => {
  fixture.remove();
});

const pinOf = () => readFileSync(fixture.token.pinFile, 'utf8').trim();

/** Logs in by the module alone, with room for nothing. */
async function loginCutOff(): Promise<void> {
  const { module, softhsmConf, tokenLabel } = fixture.token;
  const script = [
    `import { loadAlone } from ${JSON.stringify(join(import.meta.dirname, '../../src/hsm/module.ts'))};`,
    `const c = loadAlone(process.env.MODULE);`,
    `const slot = c.C_GetSlotList(true).find((s) => c.C_GetTokenInfo(s).label.trim() === process.env.LABEL);`,
    `c.C_Login(c.C_OpenSession(slot, 6), 1, process.env.PIN);`,
  ].join('\n');
  const limited = ['-c', 'ulimit -f 0; exec "$@"', 'sh', process.execPath];
  await promisify(execFile)('/bin/sh', [...limited, '--input-type=module', '-e', script], {
    env: { SOFTHSM2_CONF: softhsmConf, MODULE: module, LABEL: tokenLabel, PIN: pinOf() },
  }).catch(() => undefined);
}

const opened = async () => {
  const hsm = await fixture.open();
  try {
    const { ready, state } = hsm.status();
    return { ready, state, roots: ready ? await hsm.roots() : [] };
  } finally {
    await hsm.close();
  }
};
const WHOLE = { ready: true, state: 'ok', roots: [ROOT] };

describe('a login that is cut off', () => {
  it('takes the token from every process that starts, where no copy is kept', async () => {
    const before = readFileSync(file());
    rmSync(copy());
    await loginCutOff();
    expect(sizeOf(file())).toBe(0);
    expect(await opened()).toEqual({ ready: false, state: 'token-absent', roots: [] });
    writeFileSync(file(), before);
    expect(await opened()).toEqual(WHOLE);
    expect(sizeOf(copy())).toBe(before.length);
  });

  it('is mended by the next opening, and by the next ceremony', async () => {
    await loginCutOff();
    expect(sizeOf(file())).toBe(0);
    expect(await opened()).toEqual(WHOLE);
    await loginCutOff();
    expect(await mendTokenObjects(tokens)).toEqual([folder]);
    expect(await mendTokenObjects(tokens)).toEqual([]);
  });

  it('that wrote a part is told from one that wrote all', async () => {
    const whole = readFileSync(file());
    for (const length of [40, whole.length - 1]) {
      writeFileSync(file(), whole.subarray(0, length));
      expect(await mendTokenObjects(tokens)).toEqual([folder]);
      expect(readFileSync(file()).equals(whole)).toBe(true);
    }
  }, 15_000);
});

describe('a file that is written at this moment', () => {
  it('is waited for, and what was written stands', async () => {
    const whole = readFileSync(file());
    const { ino } = statSync(file());
    writeFileSync(file(), '');
    const mending = mendTokenObjects(tokens);
    await sleep(150);
    writeFileSync(file(), whole);
    expect(await mending).toEqual([]);
    expect(statSync(file()).ino).toBe(ino);
  });

  it('is not taken for a copy', async () => {
    const whole = readFileSync(file());
    writeFileSync(file(), whole.subarray(0, 60));
    await keepTokenObjects(tokens);
    expect(readFileSync(copy()).equals(whole)).toBe(true);
    writeFileSync(file(), whole);
  });
});

it('the copy follows a PIN that was changed', async () => {
  const next = 'another-pin-of-the-token';
  expect(await useTokenAs(fixture.token, pinOf(), next)).toBe('ok');
  writeFileSync(fixture.token.pinFile, `${next}\n`, { mode: 0o600 });
  expect(await opened()).toEqual(WHOLE);
  await loginCutOff();
  expect(await opened()).toEqual(WHOLE);
});
