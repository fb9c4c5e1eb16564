/**
 * SoftHSM's file of a token, cut off as it is by a process that ends inside its C_Login: a limit of no
 * bytes for files (RLIMIT_FSIZE) ends it between the truncation and the writing.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { keepTokenObjects, mendTokenObjects } from '../../src/hsm/token-object.ts';
import { runRootCeremony } from '../../src/hsm/run-ceremony.ts';
import { eventually } from '../store/eventually.ts';
import { makeToken, ROOT, SILENT } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';
import { useTokenAs } from './use-token.ts';

let fixture: TokenFixture;
let tokens: string;
let folder: string;
const file = () => join(folder, 'token.object');
const copy = () => join(folder, 'token.object.kept');
const selector = () => ({ label: fixture.token.tokenLabel });
const mend = () => mendTokenObjects(tokens, selector());
const MENDED = () => ({ mended: [folder], failed: [] });
const NOTHING = { mended: [], failed: [] };
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

/** The last of the file: type, kind, length and 72 bytes. */
const USER_PIN_BYTES = 3 * 8 + 72;

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
    expect(await mend()).toEqual(MENDED());
    expect(await mend()).toEqual(NOTHING);
  });

  it('that wrote a part is told from one that wrote all', async () => {
    const whole = readFileSync(file());
    for (const length of [40, whole.length - USER_PIN_BYTES, whole.length - 1]) {
      writeFileSync(file(), whole.subarray(0, length));
      expect(await mend()).toEqual(MENDED());
      expect(readFileSync(file()).equals(whole)).toBe(true);
    }
  }, 15_000);

  it('is told from a token that has no user PIN yet', async () => {
    const whole = readFileSync(file());
    const without = Buffer.from(whole.subarray(0, whole.length - USER_PIN_BYTES));
    const flags = without.indexOf(Buffer.from('000000008000534b', 'hex')) + 16;
    without.writeBigUInt64BE(without.readBigUInt64BE(flags) & ~0x8n, flags);
    writeFileSync(file(), without);
    expect(await mend()).toEqual(NOTHING);
    await keepTokenObjects(tokens, selector());
    expect(readFileSync(copy()).equals(whole)).toBe(true);
    writeFileSync(file(), whole);
  });

  it('is mended in the file that is there, whose owner and mode the copy has too', async () => {
    const { uid, gid } = statSync(file());
    const other = process.getuid?.() === 0 ? 1_234 : uid;
    chownSync(file(), other, gid);
    chmodSync(file(), 0o640);
    const before = statSync(file());
    rmSync(copy());
    await keepTokenObjects(tokens, selector());
    expect(statSync(copy())).toMatchObject({ uid: other, gid, mode: before.mode });
    writeFileSync(file(), '');
    expect(await mend()).toEqual(MENDED());
    const { ino, mode } = before;
    expect(statSync(file())).toMatchObject({ ino, uid: other, gid, mode });
    chownSync(file(), uid, gid);
    chmodSync(file(), 0o600);
  });

  it('tells that the PINs of the copy are back', async () => {
    const warned: string[] = [];
    writeFileSync(file(), '');
    const log = { ...SILENT, warn: (_fields: object, message: string) => warned.push(message) };
    await (await fixture.open({ log })).close();
    expect(warned).toEqual([expect.stringContaining('the PINs of the time of the copy')]);
  });
});

/** Makes a program of the file and runs it: nobody writes into it until it ends, root neither. */
async function busy(path: string): Promise<() => Promise<void>> {
  const { mode } = statSync(path);
  copyFileSync(realpathSync('/bin/sh'), path);
  chmodSync(path, 0o700);
  const child = spawn(path, ['-c', 'echo runs; read line'], { argv0: 'sh' });
  await once(child.stdout, 'data');
  return async () => {
    child.stdin.end();
    await once(child, 'close');
    chmodSync(path, mode & 0o777);
  };
}

describe('a file that cannot be written', () => {
  it('leaves the service not ready, and is mended once it can be', async () => {
    const whole = readFileSync(file());
    const free = await busy(file());
    const warned: object[] = [];
    const log = { ...SILENT, warn: (fields: object) => warned.push(fields) };
    const hsm = await fixture.open({ log });
    try {
      expect(hsm.status()).toMatchObject({ ready: false, state: 'token-absent' });
      const err = expect.objectContaining({ code: 'ETXTBSY' }) as unknown;
      expect(warned).toEqual([{ folder, err }]);
      const ceremony = { ...fixture.token, tokenSelector: selector(), ...ROOT };
      await expect(runRootCeremony(ceremony)).rejects.toMatchObject({ code: 'hsm_unavailable' });
      await free();
      await eventually(() => Promise.resolve(hsm.status().ready), 20_000);
      expect(await hsm.roots()).toEqual([ROOT]);
    } finally {
      await hsm.close();
    }
    expect(sizeOf(file())).toBe(whole.length);
  }, 60_000);

  it('of another token neither ends the mending of ours nor is touched by it', async () => {
    const other = join(tokens, '00000000-another-token');
    cpSync(folder, other, { recursive: true });
    const at = (name: string) => join(other, name);
    const free = await busy(at('token.object'));
    writeFileSync(file(), '');
    const error = expect.objectContaining({ code: 'ETXTBSY' }) as unknown;
    const failed = [{ folder: other, error }];
    expect(await mendTokenObjects(tokens, {})).toEqual({ mended: [folder], failed });
    await free();
    const kept = Buffer.from(readFileSync(copy()));
    kept.write('another label', kept.indexOf('twofold-dev'));
    writeFileSync(at('token.object.kept'), kept);
    writeFileSync(at('token.object'), '');
    expect(await mend()).toEqual(NOTHING);
    expect(sizeOf(at('token.object'))).toBe(0);
    writeFileSync(at('token.object'), kept);
    rmSync(at('token.object.kept'));
    expect(await keepTokenObjects(tokens, selector())).toEqual([]);
    expect(sizeOf(at('token.object.kept'))).toBeUndefined();
    rmSync(other, { recursive: true });
  }, 15_000);
});

describe('a file that is written at this moment', () => {
  it('is waited for, and what was written stands', async () => {
    const whole = readFileSync(file());
    const { ino } = statSync(file());
    writeFileSync(file(), '');
    const mending = mend();
    await sleep(150);
    writeFileSync(file(), whole);
    expect(await mending).toEqual(NOTHING);
    expect(statSync(file()).ino).toBe(ino);
  });

  it('is not taken for a copy', async () => {
    const whole = readFileSync(file());
    writeFileSync(file(), whole.subarray(0, 60));
    await keepTokenObjects(tokens, selector());
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
