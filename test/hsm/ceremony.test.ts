/** Ceremonies: what they refuse, what they say, and what they inherit. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import { makeRoot } from '../../src/hsm/ceremony-root.ts';
import type { MakeRoot, RootMade } from '../../src/hsm/ceremony-root.ts';
import type { Cryptoki } from '../../src/hsm/cryptoki.ts';
import { CKR } from '../../src/hsm/cryptoki.ts';
import { exportSofthsmConf, loadAlone } from '../../src/hsm/module.ts';
import { PinFile, pinScope } from '../../src/hsm/pin.ts';
import { runRootCeremony } from '../../src/hsm/run-ceremony.ts';
import { environmentWriter, generationAnswers } from './shim.ts';
import { makeToken, ROOT, temporaryFolder, tokenIn } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

let pattern: TokenFixture;
let fixture: TokenFixture;

beforeAll(async () => {
  pattern = await tokenIn(temporaryFolder(), false);
});
beforeEach(async () => {
  fixture = await makeToken(pattern);
});
afterEach(() => fixture.remove());
afterAll(() => pattern.remove());

function ceremony(change: { [name: string]: unknown } = {}): Promise<RootMade> {
  const tokenSelector = { label: fixture.token.tokenLabel };
  return runRootCeremony({ ...fixture.token, tokenSelector, ...ROOT, ...change });
}

async function failure(call: Promise<unknown>): Promise<{ code: string; detail: string }> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!TwofoldError.is(error)) throw new Error('the ceremony did not fail as it should');
  return { code: error.code, detail: error.detail ?? '' };
}

async function rootsOnToken(): Promise<number> {
  const hsm = await fixture.open({ workers: 1 });
  try {
    return (await hsm.roots()).length;
  } finally {
    await hsm.close();
  }
}

describe('a ceremony with a wrong PIN', () => {
  it.each([
    ['user', 'pinFile', 'refused-pin.json', /user PIN/u],
    ['security officer', 'soPinFile', 'refused-so-pin.json', /security officer/u],
  ] as const)('of the %s offers it once and says whose it is', async (_, file, mark, whose) => {
    const right = readFileSync(fixture.token[file]);
    writeFileSync(fixture.token[file], 'not the pin\n');
    const first = await failure(ceremony());
    expect(first.code).toBe('hsm_unavailable');
    expect(first.detail).toMatch(whose);
    expect(first.detail).toContain('CKR 0xa0');
    // The second never reaches the token, which would have answered with a return value.
    const second = await failure(ceremony());
    expect(second.code).toBe('hsm_unavailable');
    expect(second.detail).not.toContain('CKR');
    expect(existsSync(join(fixture.folder, mark))).toBe(true);
    writeFileSync(fixture.token[file], right);
    expect(await ceremony()).toMatchObject({ made: true, custody: 'non-extractable' });
    expect(existsSync(join(fixture.folder, mark))).toBe(false);
  });

  it('leaves a mark that the server obeys', async () => {
    writeFileSync(fixture.token.pinFile, 'not the pin\n');
    await failure(ceremony());
    const hsm = await fixture.open();
    expect(hsm.status()).toMatchObject({ ready: false, state: 'pin-refused' });
    expect(hsm.status().detail).toContain(fixture.token.pinFile);
    await hsm.close();
  });

  it('offers none where the mark could not be written', async () => {
    const { code, detail } = await failure(
      ceremony({ stateDir: join(fixture.token.pinFile, 'folder') }),
    );
    expect(code).toBe('hsm_unavailable');
    expect(detail).not.toContain('CKR');
    expect(await rootsOnToken()).toBe(0);
  });

  it('makes no folder for its marks that it does not need', async () => {
    const stateDir = join(fixture.folder, 'data');
    expect(await ceremony({ stateDir })).toMatchObject({ made: true });
    expect(existsSync(stateDir)).toBe(false);
  });
});

/** A ceremony in this process; `seen` is what it calls in the place of the token. */
async function alone(
  change: Partial<MakeRoot>,
  seen: (cryptoki: Cryptoki) => Cryptoki = (same) => same,
): Promise<RootMade> {
  await exportSofthsmConf(fixture.token.softhsmConf);
  const { module, pinFile, soPinFile, stateDir, tokenLabel: label } = fixture.token;
  const cryptoki = loadAlone(module);
  try {
    const scope = pinScope(module, { label });
    return await makeRoot(seen(cryptoki), {
      module,
      tokenSelector: { label },
      user: new PinFile(pinFile, stateDir, scope),
      officer: new PinFile(soPinFile, stateDir, scope, 'so'),
      root: ROOT,
      unlessAny: false,
      allowExtractable: false,
      ...change,
    });
  } finally {
    cryptoki.C_Finalize();
  }
}

describe('a root that another host makes on the same token at once', () => {
  /** The other's is there by the time that this one is; with `killed` this one goes no further. */
  const beside =
    (killed = false) =>
    (cryptoki: Cryptoki): Cryptoki =>
      new Proxy(cryptoki, {
        get: (target, name) => {
          const member: unknown = Reflect.get(target, name, target);
          if (typeof member !== 'function') return member;
          return (...given: unknown[]): unknown => {
            if (killed && name === 'C_DestroyObject') return undefined;
            if (name === 'C_CopyObject') Reflect.apply(member, target, given);
            return Reflect.apply(member, target, given);
          };
        },
      });

  it('is left alone with the token', async () => {
    expect(await failure(alone({}, beside()))).toMatchObject({ code: 'conflict' });
    expect(await rootsOnToken()).toBe(1);
    expect(await ceremony()).toMatchObject({ made: false, custody: 'non-extractable' });
  });

  it('is not taken for the only one where both were left', async () => {
    expect(await failure(alone({}, beside(true)))).toMatchObject({ code: 'conflict' });
    expect(await rootsOnToken()).toBe(2);
    expect(await failure(ceremony())).toMatchObject({ code: 'integrity_failed' });
    expect(await rootsOnToken()).toBe(2);
  });
});

describe('a root that the token will not make as it should', () => {
  const attempt = (returnValue: number, allowExtractable: boolean): Promise<RootMade> =>
    alone({ module: generationAnswers(fixture.folder, returnValue), allowExtractable });

  it.each(['DEVICE_MEMORY', 'GENERAL_ERROR', 'SESSION_HANDLE_INVALID', 'DEVICE_ERROR'] as const)(
    'for CKR_%s is not made at all, whatever was allowed',
    async (name) => {
      await expect(attempt(CKR[name], true)).rejects.toThrow();
      expect(await rootsOnToken()).toBe(0);
    },
  );

  it.each(['ATTRIBUTE_TYPE_INVALID', 'ATTRIBUTE_VALUE_INVALID', 'TEMPLATE_INCONSISTENT'] as const)(
    'for CKR_%s is made extractable only where that is allowed',
    async (name) => {
      await expect(attempt(CKR[name], false)).rejects.toMatchObject({
        code: 'suite_unavailable_here',
      });
      expect(await rootsOnToken()).toBe(0);
      const made = await attempt(CKR[name], true);
      expect(made).toMatchObject({ made: true, custody: 'extractableByPinHolder' });
      expect(await rootsOnToken()).toBe(1);
    },
  );
});

describe('what a ceremony says', () => {
  it('names a module that is not there, and a file that is no module', async () => {
    const missing = await failure(ceremony({ module: '/usr/lib/mistyped.so' }));
    expect(missing.code).toBe('hsm_unavailable');
    expect(missing.detail).toContain('/usr/lib/mistyped.so');
    const wrong = await failure(ceremony({ module: fixture.token.pinFile }));
    expect(wrong.code).toBe('hsm_unavailable');
    expect(wrong.detail).toContain(fixture.token.pinFile);
  });

  it.each(['pinFile', 'soPinFile'] as const)('names a %s that is not there', async (file) => {
    rmSync(fixture.token[file]);
    const { code, detail } = await failure(ceremony());
    expect(code).toBe('hsm_unavailable');
    expect(detail).toContain(fixture.token[file]);
  });
});

describe('the environment of a ceremony', () => {
  it('is what it was given and nothing else', async () => {
    const secret = 'postgresql://kms:password@localhost/kms';
    process.env['DATABASE_URL'] = secret;
    process.env['TWOFOLD_DATABASE_OWNER_URL'] = secret;
    try {
      const module = environmentWriter(fixture.folder);
      await failure(ceremony({ module, environment: { VENDOR_CONF: '/etc/vendor' } }));
      const lines = readFileSync(`${module}.env`, 'utf8').trim().split('\n');
      expect(lines.sort()).toEqual([
        `SOFTHSM2_CONF=${fixture.token.softhsmConf}`,
        'VENDOR_CONF=/etc/vendor',
      ]);
    } finally {
      delete process.env['DATABASE_URL'];
      delete process.env['TWOFOLD_DATABASE_OWNER_URL'];
    }
  });
});
