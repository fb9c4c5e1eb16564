/**
 * `hsm join request | approve | complete | withdraw` on two real tokens and a real database, whose rows somebody
 * else writes too: what is then refused leaves neither a root nor the offer on the token.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';

import { loadConfig } from '../../src/config.ts';
import type { Config } from '../../src/config.ts';
import { TwofoldError } from '../../src/errors.ts';
import { runEscrowCeremony, runRootCeremony } from '../../src/hsm/run-ceremony.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { joinOnline } from '../../src/main/join-online.ts';
import { answerText, parseOffer, transcriptOfAnswer } from '../../src/main/join-text.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { makeToken, ROOT, temporaryFolder, tokenIn } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { rowsAsOwner, withOwner } from '../store/owner.ts';

let database: TestDatabase;
let store: Store;
/** Has the root. */
let a: TokenFixture;
/** Joins. It holds a root of some other installation, of the same generation. */
let b: TokenFixture;
/** Of somebody who writes the database. */
let theirs: TokenFixture;
const OTHER = { installation: '11111111-89ab-4def-8123-456789abcdef', generation: 1 };
const THEIRS = { installation: '21111111-89ab-4def-8123-456789abcdef', generation: 1 };

const place = ({ token }: TokenFixture) => ({
  ...token,
  tokenSelector: { label: token.tokenLabel },
});

beforeAll(async () => {
  database = await startTestDatabase();
  store = openStore({ url: database.appUrl });
  [a, b, theirs] = [
    await makeToken(),
    await tokenIn(temporaryFolder(), false),
    await tokenIn(temporaryFolder(), false),
  ];
  await runRootCeremony({ ...place(b), ...OTHER });
  await runRootCeremony({ ...place(theirs), ...THEIRS });
  const hsm = await a.open({ workers: 1 });
  await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
  await hsm.close();
}, 90_000);
afterAll(async () => {
  await store.close();
  await database.stop();
  for (const token of [a, b, theirs]) token.remove();
});

const configOf = ({ folder }: TokenFixture, zone: string): Config =>
  loadConfig({
    environment: { DATABASE_URL: database.appUrl },
    flags: new Map([
      ['mode', 'dev'],
      ['data', folder],
      ['zone-name', zone],
      ['hsm-workers', '1'],
    ]),
  });
const soPin = ({ folder }: TokenFixture) => join(folder, 'hsm/ceremony/so.pin');

type Said = Readonly<Record<string, unknown>>;
const inA = (...argv: string[]) => joinOnline(configOf(a, 'zone-a'), argv) as Promise<Said>;
const inB = (...argv: string[]) => joinOnline(configOf(b, 'zone-b'), argv) as Promise<Said>;
const request = () => inB('request', '--operator', 'Ada Lovelace');
const approve = ({ id, fingerprint }: Said) =>
  inA(
    ...['approve', String(id), '--operator', 'Grace Hopper'],
    ...['--so-pin-file', soPin(a), '--confirm', String(fingerprint)],
  );
const complete = ({ id }: Said, transcript: unknown) =>
  inB(
    ...['complete', String(id), '--operator', 'Ada Lovelace'],
    ...['--so-pin-file', soPin(b), '--confirm', String(transcript)],
  );
const withdraw = ({ id }: Said) => inB('withdraw', String(id), '--operator', 'Ada Lovelace');

const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'none',
    (error: unknown) => (TwofoldError.is(error) ? error.code : String(error)),
  );

/** As the owner, who has the trigger off. */
const alter = (id: unknown, set: string, values: readonly unknown[] = []) =>
  withOwner(database, async (client) => {
    await client.query('alter table public.join_request disable trigger join_request_goes_on');
    await client.query(`update public.join_request set ${set} where id = '${String(id)}'`, [
      ...values,
    ]);
    await client.query('alter table public.join_request enable trigger join_request_goes_on');
  });
const EXPIRE = `requested_at = requested_at - interval '2 hours', expires_at = expires_at - interval '2 hours'`;

/** The answer of somebody who has a root of his own, for the offer of a request. */
const answerTheirs = async ({ id }: Said): Promise<string> => {
  const row = await store.joins.find(String(id));
  const { publicKey } = parseOffer(row?.offer ?? '');
  const escrow = await runEscrowCeremony({ ...place(theirs), root: THEIRS, publicKey });
  const answer = { zone: 'zone-a', roots: [escrow] };
  const set = `state = 'answered', approved_by = 'Grace Hopper', answered_from = 'zone-a',
    answer = $1, mac = '\\x00'`;
  await alter(id, set, [answerText(answer)]);
  return transcriptOfAnswer(answer);
};

const rootsOnB = async () => {
  const hsm = await b.open({ workers: 1 });
  try {
    return (await hsm.roots()).map(({ installation }) => installation).toSorted();
  } finally {
    await hsm.close();
  }
};
const offered = () => existsSync(join(b.folder, 'join.offer'));
const steps = async () => {
  const rows = await rowsAsOwner<{ n: number }>(
    database,
    `select count(*)::int as n from public.entry where operation = 'root.join'`,
  );
  return rows[0]?.n ?? 0;
};

/** A command at a terminal at which `line` is typed after something else has happened. */
async function typing(
  line: unknown,
  { command, meanwhile }: Readonly<Record<'command' | 'meanwhile', () => Promise<unknown>>>,
): Promise<{ readonly code: string; readonly prompt: string }> {
  const terminal = Object.assign(new PassThrough(), { isTTY: true });
  const { stdin } = process;
  let prompt = '';
  const shown = jest.spyOn(process.stderr, 'write').mockImplementation((text) => {
    if (!String(text).includes('as the other side reads it out')) return true;
    prompt = String(text);
    void meanwhile().then(() => terminal.write(`${String(line)}\n`));
    return true;
  });
  Object.defineProperty(process, 'stdin', { value: terminal, configurable: true });
  try {
    return { code: await codeOf(command()), prompt };
  } finally {
    Object.defineProperty(process, 'stdin', { value: stdin, configurable: true });
    shown.mockRestore();
  }
}

/** Begins `act` before it is committed that the request was accepted, which is once `act` waits for the row. */
const whileAccepting = async <T>({ id }: Said, act: () => Promise<T>): Promise<T> => {
  let acting: Promise<T> | undefined;
  await withOwner(database, async (client) => {
    await client.query('begin');
    const accept = `state = 'accepted', answer = null, ended_at = current_timestamp`;
    await client.query(`update public.join_request set ${accept} where id = $1`, [id]);
    acting = act();
    acting.catch(() => undefined);
    const waits = `select 1 from pg_locks where not granted`;
    const until = performance.now() + 20_000;
    while ((await client.query(waits)).rowCount === 0 && performance.now() < until) await sleep(20);
    await client.query('commit');
  });
  if (acting === undefined) throw new Error('it did not begin');
  return acting;
};

describe('a join whose row somebody else writes', () => {
  it('places nothing of an answer of another installation, after the hour or within it', async () => {
    const late = await request();
    await answerTheirs(late);
    await alter(late['id'], EXPIRE);
    // Nobody was told a transcript, and whatever is said here is not compared: the hour is over.
    expect(await codeOf(complete(late, 'x'))).toBe('approval_expired');
    expect([await rootsOnB(), offered()]).toEqual([[OTHER.installation], false]);
    expect(await store.joins.find(String(late['id']))).toMatchObject({
      answered: { answer: null },
    });

    const soon = await request();
    const transcript = await answerTheirs(soon);
    expect(await codeOf(complete(soon, transcript))).toBe('integrity_failed');
    expect([await rootsOnB(), offered()]).toEqual([[OTHER.installation], false]);
    expect(await store.joins.find(String(soon['id']))).toMatchObject({ state: 'ended' });
  }, 60_000);

  it('leaves not even the right root where the row is not what was answered, and says so in the log', async () => {
    const asked = await request();
    const { transcript } = await approve(asked);
    await alter(asked['id'], `requested_by = 'Mallory'`);
    const before = await steps();
    expect(await codeOf(complete(asked, transcript))).toBe('integrity_failed');
    expect([await rootsOnB(), offered()]).toEqual([[OTHER.installation], false]);
    expect(await steps()).toBe(before + 1);
    expect(await store.joins.find(String(asked['id']))).toMatchObject({ state: 'ended' });
  }, 60_000);

  it('is shown before the hash is typed, and refused where it changed meanwhile', async () => {
    const asked = await request();
    const approving = ['approve', String(asked['id']), '--operator', 'Grace Hopper'];
    const prompted = await typing(asked['fingerprint'], {
      command: () => inA(...approving, '--so-pin-file', soPin(a)),
      meanwhile: () => alter(asked['id'], `requested_by = 'Mallory'`),
    });
    expect(prompted.code).toBe('integrity_failed');
    expect(prompted.prompt).toMatch(/^Zone zone-b asks for the root, by Ada Lovelace, at 20/u);
    await alter(asked['id'], `requested_by = 'Ada Lovelace'`);
    expect(await store.joins.find(String(asked['id']))).toMatchObject({ state: 'open' });

    const { transcript } = await approve(asked);
    const completing = ['complete', String(asked['id']), '--operator', 'Ada Lovelace'];
    const { code, prompt } = await typing(transcript, {
      command: () => inB(...completing, '--so-pin-file', soPin(b)),
      meanwhile: () => answerTheirs(asked),
    });
    expect(code).toBe('integrity_failed');
    expect(prompt).toMatch(/^Zone zone-a answers, by Grace Hopper\./u);
    expect([await rootsOnB(), offered()]).toEqual([[OTHER.installation], false]);
  }, 60_000);

  it('is withdrawn with its offer, also once it is over, and without a newer one', async () => {
    const [first, second] = [await request(), await request()];
    expect(await codeOf(withdraw(first))).toBe('approval_ended');
    expect(offered()).toBe(true);
    await store.joins.end(String(second['id']), 'open', { problem: 'by somebody else' });
    expect(await withdraw(second)).toMatchObject({ state: 'ended', destroyed: 1 });
    expect(offered()).toBe(false);
  }, 60_000);

  it('is complete only where the answer that was taken was one of who has the root', async () => {
    const asked = await request();
    const { transcript } = await approve(asked);
    const row = await store.joins.find(String(asked['id']));
    const offer = readFileSync(join(b.folder, 'join.offer'));
    expect(await complete(asked, transcript)).toMatchObject({ made: 1, generations: [1] });
    expect(await complete(asked, transcript)).toMatchObject({ made: 0 });
    // A withdrawal that reads the row in the moment before it is accepted, while the offer is open here, takes no root away.
    writeFileSync(join(b.folder, 'join.offer'), offer);
    const answered = `state = 'answered', ended_at = null, answer = $1`;
    await alter(asked['id'], answered, [row?.answered?.answer]);
    const code = await codeOf(whileAccepting(asked, () => withdraw(asked)));
    expect(await rootsOnB()).toEqual([ROOT.installation, OTHER.installation].toSorted());
    expect([code, offered()]).toEqual(['approval_ended', false]);
    await alter(asked['id'], `approved_by = 'Mallory'`);
    expect(await codeOf(complete(asked, transcript))).toBe('integrity_failed');
    // It was accepted: what is served is not taken away.
    expect(await rootsOnB()).toEqual([ROOT.installation, OTHER.installation].toSorted());
  }, 60_000);
});
