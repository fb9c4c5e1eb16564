/**
 * `hsm generation add` where the token has something of the generation's name that can never be it: on two real
 * tokens and a real database. What nothing is under goes, and what something may be under stays.
 */
import { readFileSync } from 'node:fs';

import { afterAll, beforeAll, beforeEach, expect, it } from '@jest/globals';

import { loadConfig } from '../../src/config.ts';
import type { Config } from '../../src/config.ts';
import { TwofoldError } from '../../src/errors.ts';
import { nameOf } from '../../src/hsm/ceremony-root.ts';
import { selectSlot } from '../../src/hsm/connection.ts';
import { CKF, CKM, CKU } from '../../src/hsm/cryptoki.ts';
import { exportSofthsmConf, loadAlone } from '../../src/hsm/module.ts';
import { runRootCeremony } from '../../src/hsm/run-ceremony.ts';
import { plainRootTemplate } from '../../src/hsm/templates.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { generationCommand } from '../../src/main/generation-command.ts';
import { joinCommand } from '../../src/main/join-command.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { makeToken, ROOT, temporaryFolder, tokenIn } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { rowsAsOwner } from '../store/owner.ts';

let database: TestDatabase;
let store: Store;
/** Has the root from the beginning. */
let a: TokenFixture;
let b: TokenFixture;
/** That which is added in a test. */
let generation = 1;

const place = ({ token }: TokenFixture) => ({
  ...token,
  tokenSelector: { label: token.tokenLabel },
});

/** A module as an operator configures it: its root is made by commands alone. */
const configOf = ({ folder, token }: TokenFixture, zone: string): Config =>
  loadConfig({
    environment: {
      DATABASE_URL: database.appUrl,
      TWOFOLD_PKCS11_MODULE: token.module,
      TWOFOLD_HSM_TOKEN_LABEL: token.tokenLabel,
      TWOFOLD_HSM_PIN_FILE: token.pinFile,
    },
    flags: new Map([
      ['mode', 'dev'],
      ['data', folder],
      ['zone-name', zone],
      ['hsm-workers', '1'],
    ]),
  });

type Said = Readonly<Record<string, unknown>>;
type Command = (config: Config, argv: readonly string[], print: (line: string) => void) => unknown;

async function run(command: Command, token: TokenFixture, ...argv: string[]): Promise<Said> {
  process.env['SOFTHSM2_CONF'] = token.token.softhsmConf;
  await exportSofthsmConf(token.token.softhsmConf);
  const printed: string[] = [];
  await command(configOf(token, token === a ? 'zone-a' : 'zone-b'), argv, (line) => {
    printed.push(line);
  });
  return JSON.parse(printed[0] ?? 'null') as Said;
}

const soPin = ({ token }: TokenFixture) => ['--so-pin-file', token.soPinFile];
const add = (token: TokenFixture, ...flags: string[]) =>
  run(generationCommand, token, 'generation', 'add', ...flags);

const join = (token: TokenFixture, ...argv: string[]) => run(joinCommand, token, ...argv);

/** Every generation in use, from one token to the other. */
async function joined(from: TokenFixture, to: TokenFixture): Promise<Said> {
  const { id, fingerprint } = await join(to, 'request', '--operator', 'Ada Lovelace');
  const saying = (hash: unknown) => ['--confirm', String(hash)];
  const { transcript } = await join(
    ...([from, 'approve', String(id), '--operator', 'Grace Hopper'] as const),
    ...[...soPin(from), ...saying(fingerprint)],
  );
  return join(
    ...([to, 'complete', String(id), '--operator', 'Ada Lovelace'] as const),
    ...[...soPin(to), ...saying(transcript)],
  );
}

const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'none',
    (error: unknown) => (TwofoldError.is(error) ? error.code : String(error)),
  );

/** Of our installation. */
const rootsOn = async (token: TokenFixture) => {
  const hsm = await token.open({ workers: 1 });
  try {
    return (await hsm.roots()).map((root) => root.generation).toSorted((x, y) => x - y);
  } finally {
    await hsm.close();
  }
};

/** A service's start. */
const started = async (token: TokenFixture) => {
  const hsm = await token.open({ workers: 1 });
  try {
    const root = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
    return root.generations;
  } finally {
    await hsm.close();
  }
};

const states = async () => (await store.roots.generations()).map(({ state }) => state);
const discards = async () =>
  (
    await rowsAsOwner<{ n: number }>(
      database,
      `select count(*)::int as n from public.entry where operation = 'root.discard'`,
    )
  )[0]?.n ?? 0;

/** As `generation add` begins, and is killed before the row is complete. */
async function begun(token: TokenFixture, change: { readonly plain?: true } = {}): Promise<void> {
  const { soPinFile, ...without } = place(token);
  await store.roots.intend(generation, ROOT.installation);
  const how = change.plain ? { allowExtractable: true } : { soPinFile };
  await runRootCeremony({ ...without, ...how, installation: ROOT.installation, generation });
}

/** What another host made on the same token, and was killed before it looked for this one's. */
async function planted({ token }: TokenFixture): Promise<void> {
  await exportSofthsmConf(token.softhsmConf);
  const cryptoki = loadAlone(token.module);
  try {
    const slot = selectSlot(cryptoki, { label: token.tokenLabel }).handle;
    const session = cryptoki.C_OpenSession(slot, CKF.RW_SESSION | CKF.SERIAL_SESSION);
    cryptoki.C_Login(session, CKU.USER, readFileSync(token.pinFile, 'utf8').trim());
    cryptoki.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, [
      ...plainRootTemplate(),
      ...nameOf({ installation: ROOT.installation, generation }),
    ]);
  } finally {
    cryptoki.C_Finalize();
  }
}

beforeAll(async () => {
  database = await startTestDatabase();
  store = openStore({ url: database.appUrl });
  [a, b] = [await makeToken(), await tokenIn(temporaryFolder(), false)];
  expect(await started(a)).toEqual([1]);
  await joined(a, b);
}, 180_000);

/** The one before it is as if everything had been moved to it. */
beforeEach(async () => {
  await rowsAsOwner(
    database,
    `update public.root_generation set state = 'retiring'
      where state = 'in-force' and exists (select from public.root_generation where state = 'complete')`,
  );
  await rowsAsOwner(
    database,
    `update public.root_generation set state = 'in-force' where state = 'complete'`,
  );
  generation = (await store.roots.generations()).length + 1;
});

afterAll(async () => {
  delete process.env['SOFTHSM2_CONF'];
  await store.close();
  await database.stop();
  for (const token of [a, b]) token.remove();
});

it('is destroyed where another zone completed the row, and the zone is told to join', async () => {
  await begun(a);
  expect(await add(b, ...soPin(b))).toMatchObject({ generation, state: 'complete', made: true });
  expect(await codeOf(started(a))).toBe('integrity_failed');
  expect(await codeOf(add(a, ...soPin(a)))).toBe('zone_lacks_material');
  expect([await rootsOn(a), await rootsOn(b), await discards()]).toEqual([[1], [1, 2], 2]);
  // Again, with nothing there: the same answer, and nothing is made.
  await expect(add(a, ...soPin(a))).rejects.toThrow(/hsm join/u);
  expect(await rootsOn(a)).toEqual([1]);
  expect(await joined(b, a)).toMatchObject({ generations: [1, 2], made: 1 });
  expect(await started(a)).toEqual([1, 2]);
  expect(await add(a)).toMatchObject({ generation, state: 'complete', made: false });
  expect([await rootsOn(a), await discards()]).toEqual([[1, 2], 2]);
}, 180_000);

it('stays where something may be under it, whatever the row says', async () => {
  await begun(a);
  expect(await add(b, ...soPin(b))).toMatchObject({ generation, state: 'complete' });
  const other = '01234567-0000-4def-8123-456789abcdef';
  await store.instances.open({
    ...{ id: other, zone: 'zone-a', suites: [], envelopes: [1], graceMs: 0 },
  });
  await store.instances.announceGenerations(other, [1, 2, generation]);
  const before = await discards();
  expect(await codeOf(add(a, ...soPin(a)))).toBe('conflict');
  expect([await rootsOn(a), await discards()]).toEqual([[1, 2, generation], before]);
  await store.instances.close(other);
  expect(await codeOf(add(a, ...soPin(a)))).toBe('zone_lacks_material');
  await joined(b, a);
  expect(await started(a)).toEqual([1, 2, generation]);
}, 180_000);

it('is replaced where the PIN alone extracts it beside a root that it does not', async () => {
  const roots = await rootsOn(a);
  expect(await codeOf(add(a, '--allow-extractable'))).toBe('suite_unavailable_here');
  expect([await rootsOn(a), (await states()).at(-1)]).toEqual([roots, 'intended']);
  await begun(a, { plain: true });
  expect(await codeOf(add(a))).toBe('suite_unavailable_here');
  expect(await rootsOn(a)).toEqual(roots);
  await begun(a, { plain: true });
  expect(await add(a, ...soPin(a))).toMatchObject({
    ...{ generation, state: 'complete', custody: 'non-extractable' },
  });
  expect(await started(a)).toEqual([...roots, generation]);
}, 180_000);

it('is made anew where two hosts made one each; of one that is complete, both stay', async () => {
  const roots = await rootsOn(a);
  await begun(a);
  await planted(a);
  expect(await add(a, ...soPin(a))).toMatchObject({ generation, state: 'complete', made: true });
  expect([await rootsOn(a), await started(a)]).toEqual([
    [...roots, generation],
    [...roots, generation],
  ]);
  await planted(a);
  await expect(add(a, ...soPin(a))).rejects.toThrow(/none was destroyed/u);
  expect(await rootsOn(a)).toEqual([...roots, generation, generation]);
}, 180_000);
