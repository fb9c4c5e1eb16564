/** The steps of a deployment that need what the service never holds: the owner's password, the SO PIN. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { realpathSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { loadAlone, exportSofthsmConf } from '../../src/hsm/module.ts';
import { foreignModule } from '../hsm/shim.ts';
import { softHsmModule } from '../hsm/token-fixture.ts';
import { startEmbedded } from '../../src/store/embedded.ts';
import type { EmbeddedDatabase } from '../../src/store/embedded.ts';
import { withClient } from '../store/owner.ts';

const command = join(import.meta.dirname, '../../scripts/twofold');
const LABEL = 'an operator’s token';
let folder: string;
const at = (name: string) => join(folder, name);

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

const twofold = (environment: Record<string, string>, ...argv: string[]): Promise<Ended> =>
  new Promise((resolve) => {
    const env = { ...COMMAND_ENVIRONMENT, HOME: folder, ...environment };
    const options = { cwd: folder, env, maxBuffer: 2 ** 24 };
    const child = execFile(command, argv, options, (_error, out, err) => {
      resolve({ status: child.exitCode, out, err });
    });
  });

const refusesWith = (code: string) => ({
  status: 1,
  out: '',
  err: expect.stringContaining(`(${code})`) as unknown,
});

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-operator-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('twofold migrate', () => {
  let database: EmbeddedDatabase;
  let environment: Record<string, string>;

  beforeAll(async () => {
    mkdirSync(at('database'), { mode: 0o700 });
    database = await startEmbedded({ dataDir: at('database') });
    const url = new URL(database.ownerUrl);
    writeFileSync(at('owner.password'), `${decodeURIComponent(url.password)}\n`, { mode: 0o640 });
    url.password = '';
    environment = {
      TWOFOLD_DATABASE_OWNER_URL: url.toString(),
      TWOFOLD_DATABASE_OWNER_PASSWORD_FILE: at('owner.password'),
    };
  }, 60_000);
  afterAll(() => database.stop(), 60_000);

  it('applies what is new, with nothing configured but the owner', async () => {
    const names = readdirSync(join(import.meta.dirname, '../../prisma/migrations'));
    const first = await twofold(environment, 'migrate');
    expect([first.status, JSON.parse(first.out)]).toEqual([0, { applied: names.sort() }]);
    const again = await twofold(environment, 'migrate');
    expect([again.status, JSON.parse(again.out)]).toEqual([0, { applied: [] }]);
    const { rows } = await withClient(database.appUrl, (client) =>
      client.query('select name from public.twofold_migration order by name'),
    );
    expect(rows.map(({ name }: { name: string }) => name)).toEqual(names);
  }, 60_000);

  it('refuses a wrong password at once, an owner that is not named, and arguments', async () => {
    writeFileSync(at('wrong.password'), 'wrong\n', { mode: 0o600 });
    const wrong = { TWOFOLD_DATABASE_OWNER_PASSWORD_FILE: at('wrong.password') };
    expect(await twofold({ ...environment, ...wrong }, 'migrate')).toMatchObject(
      refusesWith('database_unavailable'),
    );
    expect(await twofold({}, 'migrate')).toMatchObject(refusesWith('invalid_value'));
    expect(await twofold(environment, 'migrate', 'now')).toMatchObject(
      refusesWith('invalid_value'),
    );
  }, 60_000);
});

describe('twofold hsm init-token', () => {
  let environment: Record<string, string>;
  const flags = () => ['hsm', 'init-token', '--so-pin-file', at('so.pin')];

  beforeAll(() => {
    mkdirSync(at('tokens'), { mode: 0o700 });
    writeFileSync(at('softhsm2.conf'), `directories.tokendir = ${at('tokens')}\n`);
    writeFileSync(at('user.pin'), '1234-user\n', { mode: 0o400 });
    writeFileSync(at('so.pin'), '1234-officer\n', { mode: 0o400 });
    environment = {
      SOFTHSM2_CONF: at('softhsm2.conf'),
      TWOFOLD_DATA: at('data'),
      TWOFOLD_PKCS11_MODULE: softHsmModule(),
      TWOFOLD_HSM_TOKEN_LABEL: LABEL,
      TWOFOLD_HSM_PIN_FILE: at('user.pin'),
    };
  });

  it('makes no PIN, so that a typing error makes no token', async () => {
    const missing = ['hsm', 'init-token', '--so-pin-file', at('none')];
    expect(await twofold(environment, ...missing)).toMatchObject(refusesWith('hsm_unavailable'));
    expect(await twofold(environment, 'hsm', 'init-token')).toMatchObject(
      refusesWith('invalid_value'),
    );
    expect(readdirSync(at('tokens'))).toEqual([]);
  }, 30_000);

  it('initialises nothing but SoftHSM', async () => {
    const module = foreignModule(folder, softHsmModule());
    const other = { ...environment, TWOFOLD_PKCS11_MODULE: module };
    expect(await twofold(other, ...flags())).toMatchObject(refusesWith('invalid_value'));
    expect(readdirSync(at('tokens'))).toEqual([]);
  }, 30_000);

  it('leaves a token alone that has a blank label: no slot is empty but by its flag', async () => {
    mkdirSync(at('blank'), { mode: 0o700 });
    writeFileSync(at('blank.conf'), `directories.tokendir = ${at('blank')}\n`);
    await exportSofthsmConf(at('blank.conf'));
    const cryptoki = loadAlone(softHsmModule());
    try {
      const [slot] = cryptoki.C_GetSlotList(true);
      const soPin = readFileSync(at('so.pin'), 'utf8').trim();
      if (slot !== undefined) cryptoki.C_InitToken(slot, soPin, ' '.repeat(32));
    } finally {
      cryptoki.C_Finalize();
    }
    const [blank = ''] = readdirSync(at('blank'));
    const made = await twofold({ ...environment, SOFTHSM2_CONF: at('blank.conf') }, ...flags());
    expect([made.err, made.status]).toEqual(['', 0]);
    expect(JSON.parse(made.out)).toMatchObject({ made: true });
    expect(readdirSync(at('blank'))).toHaveLength(2);
    expect(existsSync(join(at('blank'), blank, 'token.object'))).toBe(true);
  }, 60_000);

  it('completes a token that was left without its user PIN', async () => {
    await exportSofthsmConf(at('softhsm2.conf'));
    const cryptoki = loadAlone(softHsmModule());
    try {
      const [slot] = cryptoki.C_GetSlotList(true);
      const soPin = readFileSync(at('so.pin'), 'utf8').trim();
      const label = Buffer.alloc(32, ' ');
      label.write(LABEL);
      if (slot !== undefined) cryptoki.C_InitToken(slot, soPin, label.toString());
    } finally {
      cryptoki.C_Finalize();
    }
    const { status, out } = await twofold(environment, ...flags());
    expect([status, JSON.parse(out)]).toMatchObject([0, { made: true }]);
    expect(readdirSync(at('tokens'))).toHaveLength(1);
  }, 30_000);

  it('leaves a token that is there as it is, and the root is made on it', async () => {
    const { status, out } = await twofold(environment, ...flags());
    expect([status, JSON.parse(out)]).toMatchObject([0, { made: false }]);
    expect(readdirSync(at('tokens'))).toHaveLength(1);
    const root = await twofold(environment, 'hsm', 'make-root', '--so-pin-file', at('so.pin'));
    expect(JSON.parse(root.out)).toMatchObject({ made: true, custody: 'non-extractable' });
  }, 60_000);

  it('makes another for another label', async () => {
    const other = { ...environment, TWOFOLD_HSM_TOKEN_LABEL: 'another' };
    const { out } = await twofold(other, ...flags());
    expect(JSON.parse(out)).toMatchObject({ made: true });
    expect(readdirSync(at('tokens'))).toHaveLength(2);
  }, 30_000);

  it('is done with the root by one command, once however often it runs', async () => {
    const other = { ...environment, TWOFOLD_HSM_TOKEN_LABEL: 'the first' };
    const init = ['hsm', 'init', '--so-pin-file', at('so.pin')];
    const first = await twofold(other, ...init);
    expect([first.err, JSON.parse(first.out || '{}')]).toMatchObject([
      '',
      { token: { made: true }, root: { made: true, custody: 'non-extractable' } },
    ]);
    const again = await twofold(other, ...init);
    expect(JSON.parse(again.out)).toMatchObject({ token: { made: false }, root: { made: false } });
  }, 60_000);

  it('of another vendor’s module is found and left to it, and the root is made on it', async () => {
    const module = foreignModule(folder, softHsmModule());
    const init = ['hsm', 'init', '--so-pin-file', at('so.pin')];
    const foreign = (label: string) => ({
      ...environment,
      TWOFOLD_PKCS11_MODULE: module,
      TWOFOLD_HSM_TOKEN_LABEL: label,
    });
    const before = readdirSync(at('tokens'));
    expect(await twofold(foreign('none'), ...init)).toMatchObject(refusesWith('hsm_unavailable'));
    expect(readdirSync(at('tokens'))).toEqual(before);
    const { out } = await twofold(foreign('another'), ...init);
    expect(JSON.parse(out)).toMatchObject({ token: { made: false }, root: { made: true } });
  }, 60_000);
});

describe('twofold compile', () => {
  /** Of stripped sources: what Node says that it took, or that it made anew. Its threads' lines may mix. */
  const said = (err: string, words: string) =>
    err.split('[compile cache] ').filter((line) => line.startsWith(`${words} StrippedTypeScript`));
  const loud = { NODE_DEBUG_NATIVE: 'COMPILE_CACHE' };

  it('leaves nothing of a service or its threads to strip when that starts', async () => {
    expect(await twofold({}, 'compile')).toMatchObject({ status: 0, err: '' });
    const { status, err } = await twofold(loud, 'compile');
    expect(status).toBe(0);
    const taken = said(err, 'retrieving transpile cache for');
    for (const file of ['main/service.ts', 'hsm/worker.ts', 'hsm/serving.ts', 'http/app.ts']) {
      expect(taken).toContainEqual(expect.stringContaining(`/src/${file}`));
    }
    expect(said(err, 'no transpile cache for')).toEqual([]);
    expect(said(err, 'saving transpilation cache for')).toEqual([]);
  });

  it('lets another user read it', async () => {
    const began = Date.now();
    const { out } = await twofold({}, 'compile', '--uid', '54321');
    const { folder: made } = JSON.parse(out) as { folder: string };
    const theirs = made.replace(/-\d+$/u, '-54321');
    try {
      expect(realpathSync(theirs)).toBe(realpathSync(made));
      // What other tests' services leave at this moment is theirs.
      const modes = readdirSync(theirs).flatMap((name) => {
        const file = statSync(join(theirs, name), { throwIfNoEntry: false });
        return file !== undefined && file.mtimeMs < began ? [file.mode & 0o777] : [];
      });
      expect(new Set(modes)).toEqual(new Set([0o644]));
    } finally {
      unlinkSync(theirs);
    }
  });

  it.each([[['--uid', 'nobody']], [['--uid', '-1']], [['--uid', '01']], [['more']]])(
    'refuses %j',
    async (argv) => {
      expect(await twofold({}, 'compile', ...argv)).toEqual(refusesWith('invalid_value'));
    },
  );
});
