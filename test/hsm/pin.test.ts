import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import { PinFile, pinScope, readPin } from '../../src/hsm/pin.ts';
import type { PinRole } from '../../src/hsm/pin.ts';
import { temporaryFolder } from './token-fixture.ts';

const REFUSAL = new Error('the token refused the PIN');

let folder: string;
let path: string;

beforeEach(() => {
  folder = temporaryFolder();
  path = join(folder, 'user.pin');
  writeFileSync(path, '1234\n', { mode: 0o600 });
});
afterEach(() => rmSync(folder, { recursive: true }));

/** As a process of its own would have it. */
function pinFile(role: PinRole = 'user', label = 'a token'): PinFile {
  return new PinFile(path, folder, pinScope('/module.so', { label }), role);
}

async function offer(file: PinFile, login: () => void): Promise<string> {
  const pin = await file.read();
  return file
    .offer(pin, login, {
      refuses: (error) => error === REFUSAL,
      onUnmarked: (cause) => {
        throw cause;
      },
    })
    .then(
      () => 'taken',
      (error: unknown) =>
        TwofoldError.is(error) ? error.code : error === REFUSAL ? 'refused' : 'failed',
    );
}

const refuse = () => {
  throw REFUSAL;
};
const fail = () => {
  throw new Error('the token is away');
};

function mark(): { attempts: number } {
  return JSON.parse(readFileSync(join(folder, 'refused-pin.json'), 'utf8')) as { attempts: number };
}

describe('the mark of a PIN', () => {
  it('is there before the token sees the PIN, and gone when it takes it', async () => {
    expect(await offer(pinFile(), () => expect(mark().attempts).toBe(1))).toBe('taken');
    expect(existsSync(join(folder, 'refused-pin.json'))).toBe(false);
  });

  it('stays after a refusal, for every process, until the content changes', async () => {
    expect(await offer(pinFile(), refuse)).toBe('refused');
    let offered = 0;
    expect(await offer(pinFile(), () => (offered += 1))).toBe('hsm_unavailable');
    writeFileSync(path, '1234\r\n');
    expect(await offer(pinFile(), () => (offered += 1))).toBe('hsm_unavailable');
    expect(offered).toBe(0);
    writeFileSync(path, '12345\n');
    expect(await offer(pinFile(), () => (offered += 1))).toBe('taken');
    expect(offered).toBe(1);
  });

  it('of a failure that refused nothing is none', async () => {
    expect(await offer(pinFile(), fail)).toBe('failed');
    expect(existsSync(join(folder, 'refused-pin.json'))).toBe(false);
  });

  it('of attempts that were killed allows one more, and then none', async () => {
    const text: string[] = [];
    // What a kill between the login and its outcome leaves is the mark as the login sees it.
    const keep = () => void text.push(readFileSync(join(folder, 'refused-pin.json'), 'utf8'));
    const killed = () => writeFileSync(join(folder, 'refused-pin.json'), text.at(-1) ?? '');
    expect(await offer(pinFile(), keep)).toBe('taken');
    killed();
    expect(await pinFile().isRefused(await readPin(path))).toBe(false);
    expect(await offer(pinFile(), keep)).toBe('taken');
    killed();
    expect(mark().attempts).toBe(2);
    expect(await offer(pinFile(), keep)).toBe('hsm_unavailable');
    expect(text).toHaveLength(2);
  });

  it('is seen by processes that log in at the same moment: one of them pays for a wrong PIN', async () => {
    let attempts = 0;
    const login = () => {
      attempts += 1;
      refuse();
    };
    const answers = await Promise.all(Array.from({ length: 6 }, () => offer(pinFile(), login)));
    expect(attempts).toBe(1);
    expect(answers.toSorted()).toEqual([...Array<string>(5).fill('hsm_unavailable'), 'refused']);
  });

  it('is one of the role and of the token', async () => {
    expect(await offer(pinFile('so'), refuse)).toBe('refused');
    expect(await offer(pinFile('user'), () => undefined)).toBe('taken');
    expect(await offer(pinFile('so', 'another token'), () => undefined)).toBe('taken');
    expect(await offer(pinFile('user'), refuse)).toBe('refused');
    expect(await offer(pinFile('so'), () => undefined)).toBe('taken');
    expect(await offer(pinFile('user'), () => undefined)).toBe('hsm_unavailable');
  });

  it('that another process takes away is not remembered', async () => {
    const file = pinFile();
    expect(await offer(pinFile(), refuse)).toBe('refused');
    expect(await file.isRefused(await readPin(path))).toBe(true);
    rmSync(join(folder, 'refused-pin.json'));
    expect(await file.isRefused(await readPin(path))).toBe(false);
  });
});

describe('a PIN file', () => {
  it('that is not UTF-8 is refused, instead of offering other characters', async () => {
    writeFileSync(path, Buffer.from([0x31, 0xff, 0x32]));
    await expect(readPin(path)).rejects.toMatchObject({ code: 'hsm_unavailable' });
  });

  it('that is a pipe is refused, instead of being waited for', async () => {
    rmSync(path);
    expect(spawnSync('mkfifo', ['-m', '600', path]).status).toBe(0);
    await expect(readPin(path)).rejects.toMatchObject({ code: 'hsm_unavailable' });
  });
});
