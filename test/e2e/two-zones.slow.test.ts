/**
 * Two zones with a real token each over one database: the second one joins by files, and what is refused
 * on the way; then each serves what the other made, and names who can where it cannot.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';

import {
  runEscrowCeremony,
  runJoinAcceptance,
  runRootCeremony,
  runRootDestruction,
} from '../../src/hsm/run-ceremony.ts';
import { answerText, parseOffer, transcriptOfAnswer } from '../../src/main/join-text.ts';
import { findEmbedded } from '../../src/store/embedded.ts';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { softHsmModule, temporaryFolder, tokenIn } from '../hsm/token-fixture.ts';
import { databaseOf } from './beside.ts';
import { TestService } from './service.ts';

/** Kills of `hsm join accept` at times of the test's choosing, and of each command of the other form with more. */
const KILLS = Number(process.env['TWOFOLD_JOIN_KILLS'] ?? 2);
const project = join(import.meta.dirname, '../..');
const PAGE = readFileSync(join(project, 'deploy/zones.md'), 'utf8');
const command = join(project, 'scripts/twofold');

let folder: string;
/** Whether the second token has a file system of its own, which can be full. */
let mounted = false;
let a: TestService;
let b: TestService | undefined;
const second = (): TestService => {
  if (b === undefined) throw new Error('the second zone has not started');
  return b;
};
const at = (name: string) => join(folder, name);

/** There is no standby here, which a service of several zones would not start without. */
const zone = (name: string, other: string) => ({
  TWOFOLD_ZONE_NAME: name,
  TWOFOLD_ZONE_OTHERS: JSON.stringify([other]),
  TWOFOLD_DATABASE_REPLICATION: 'reported',
});

const ofA = () => ({ TWOFOLD_DATA: a.dataDir, ...zone('zone-a', 'zone-b') });
const ofB = () => ({
  TWOFOLD_DATA: at('data-b'),
  ...zone('zone-b', 'zone-a'),
  ...databaseOf(a, folder),
  TWOFOLD_PKCS11_MODULE: softHsmModule(),
  TWOFOLD_HSM_TOKEN_LABEL: 'token-b',
  TWOFOLD_HSM_PIN_FILE: at('user.pin'),
  SOFTHSM2_CONF: at('softhsm.conf'),
});

const ofC = () => ({
  ...{ ...ofB(), ...zone('zone-c', 'zone-a') },
  TWOFOLD_DATA: at('data-c'),
  TWOFOLD_HSM_TOKEN_LABEL: 'token-c',
  SOFTHSM2_CONF: at('softhsm-c.conf'),
});

interface Ran {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

async function twofold(
  environment: Readonly<Record<string, string>>,
  args: readonly string[],
  kill?: number | (() => Promise<boolean>),
): Promise<Ran> {
  const child = spawn(command, [...args], {
    env: { ...COMMAND_ENVIRONMENT, TWOFOLD_MODE: 'dev', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
  const closed = once(child, 'close') as Promise<[number | null]>;
  if (kill !== undefined) {
    await Promise.race([closed, typeof kill === 'number' ? sleep(kill) : reached(child, kill)]);
    // The ceremony process too.
    if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  }
  const [status] = await closed;
  return { status, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() };
}

/** As soon as it can be seen from outside; gives up when the process has ended. */
async function reached(child: ChildProcess, place: () => Promise<boolean>): Promise<void> {
  while (child.exitCode === null && !(await place())) await sleep(2);
}

const done = async (
  environment: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<Record<string, unknown>> => {
  const { status, out, err } = await twofold(environment, args);
  expect([args, status, err]).toEqual([args, 0, '']);
  return JSON.parse(out) as Record<string, unknown>;
};

/** The commands of a block of deploy/zones.md as they stand there; what each printed. */
function fromPage(
  kind: 'offer' | 'answer' | 'accept' | 'request' | 'approve' | 'complete',
  environment: Readonly<Record<string, string>>,
): Record<string, unknown>[] {
  const [, text = ''] = new RegExp(`\`\`\`sh ${kind}\n([\\s\\S]*?)\`\`\``, 'u').exec(PAGE) ?? [];
  expect(text).toContain(`join ${kind}`);
  const { status, stdout, stderr } = spawnSync('/bin/sh', ['-eu', '-c', text], {
    encoding: 'utf8',
    env: {
      ...{ ...COMMAND_ENVIRONMENT, TWOFOLD_MODE: 'dev', ...environment },
      PATH: `${join(project, 'scripts')}:${process.env['PATH'] ?? ''}`,
    },
  });
  expect([kind, status, stderr]).toEqual([kind, 0, '']);
  const lines = stdout.trim().split('\n');
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

const refused = async (
  environment: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<string> => {
  const { status, err, out } = await twofold(environment, args);
  expect([args, status, out]).toEqual([args, 1, '']);
  return err;
};

const answering = (offer: string, fingerprint: unknown, out: string): string[] => [
  ...['hsm', 'join', 'answer', at(offer), '--fingerprint', String(fingerprint)],
  ...['--so-pin-file', join(a.dataDir, 'hsm/ceremony/so.pin'), '--out', at(out)],
];
const accepting = (answer: string, transcript: unknown): string[] => [
  ...['hsm', 'join', 'accept', at(answer), '--transcript', String(transcript)],
  ...['--so-pin-file', at('so.pin')],
];
const offering = (out: string): string[] => ['hsm', 'join', 'offer', '--out', at(out)];

const json = (name: string) => JSON.parse(readFileSync(at(name), 'utf8')) as Record<string, never>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-zones-two-'));
  mkdirSync(at('tokens'), { mode: 0o700 });
  const size = ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', at('tokens')];
  mounted = spawnSync('mount', size).status === 0;
  writeFileSync(
    at('softhsm.conf'),
    `directories.tokendir = ${at('tokens')}\nobjectstore.backend = file\nlog.level = ERROR\n`,
  );
  writeFileSync(at('user.pin'), '123456-user\n', { mode: 0o600 });
  writeFileSync(at('so.pin'), '123456-so\n', { mode: 0o600 });
  a = await TestService.start({ environment: zone('zone-a', 'zone-b') });
  await done(ofB(), 'hsm', 'init-token', '--so-pin-file', at('so.pin'));
}, 120_000);

afterAll(async () => {
  await b?.stop();
  await a.destroy();
  if (mounted) spawnSync('umount', [at('tokens')]);
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

describe('a zone that joins', () => {
  let fingerprint: unknown;
  let transcript: unknown;

  it('does not start, and says what it lacks, before it has joined', async () => {
    const early = await TestService.start({
      dataDir: at('data-b'),
      environment: ofB(),
      ready: false,
    });
    await once(early.child, 'exit');
    expect(early.output).toContain('integrity_failed');
    expect(early.output).toContain('but the token does not');
    const { status, out } = await twofold(ofB(), ['hsm', 'verify']);
    expect([status, JSON.parse(out)]).toMatchObject([
      1,
      { ok: false, generations: [{ generation: 1, custody: 'unknown' }] },
    ]);
  }, 60_000);

  it('is answered only by who was told the fingerprint of its offer', async () => {
    const [offer] = fromPage('offer', { ...ofB(), OFFER: at('offer') });
    if (offer === undefined) throw new Error('no offer');
    ({ fingerprint } = offer);
    expect(offer).toMatchObject({
      zone: 'zone-b',
      fingerprint: expect.stringMatching(/^(?:[0-9a-f]{8} ?){12}$/u) as unknown,
    });
    const other = await refused(ofA(), ...answering('offer', '00'.repeat(48), 'answer'));
    expect(other).toContain('is not the one that was said');
    expect(other).not.toContain(String(fingerprint).slice(0, 8));
    expect(existsSync(at('answer'))).toBe(false);
    // The offer that is open stays so.
    expect(await refused(ofB(), ...offering('offer'))).toContain('EEXIST');
    const soPin = join(a.dataDir, 'hsm/ceremony/so.pin');
    const said = { OFFER: at('offer'), FINGERPRINT: String(fingerprint), SO_PIN: soPin };
    const [answer] = fromPage('answer', { ...ofA(), ...said, ANSWER: at('answer') });
    if (answer === undefined) throw new Error('no answer');
    ({ transcript } = answer);
    expect(answer).toMatchObject({ for: 'zone-b', fingerprint, generations: [1] });
    // Nothing is written over an answer that is there.
    expect(await refused(ofA(), ...answering('offer', fingerprint, 'answer'))).toContain('EEXIST');
  }, 60_000);

  it('takes no answer that was altered, of another installation, or unlike what was said', async () => {
    const whole = json('answer');
    const [row] = whole['roots'] as unknown as [Record<string, string>];
    const ciphertext = (row['ciphertext'] ?? '').replace(/^./u, (first) =>
      first === 'A' ? 'B' : 'A',
    );
    writeFileSync(at('altered'), JSON.stringify({ ...whole, roots: [{ ...row, ciphertext }] }));
    expect(await refused(ofB(), ...accepting('altered', transcript))).toContain('was altered');
    const installation = '01234567-89ab-4def-8123-456789abcdef';
    writeFileSync(at('foreign'), JSON.stringify({ ...whole, installation }));
    const foreign = await refused(ofB(), ...accepting('foreign', transcript));
    expect(foreign).toContain('another installation');
    expect(await refused(ofB(), ...accepting('answer', fingerprint))).toContain('is not the one');
    const { out } = await twofold(ofB(), ['hsm', 'verify']);
    expect(JSON.parse(out)).toMatchObject({ ok: false });
  }, 90_000);

  it('keeps no root that opens nothing, of a run that was killed either, and what is not its own', async () => {
    const { installation = '', publicKey = '' } = json('answer') as Record<string, string>;
    const root = { installation, generation: 1 };
    const other = await tokenIn(temporaryFolder(), false);
    const place = { ...other.token, tokenSelector: { label: other.token.tokenLabel } };
    await runRootCeremony({ ...place, ...root });
    const offered = Uint8Array.from(Buffer.from(publicKey, 'base64'));
    const escrow = await runEscrowCeremony({ ...place, root, publicKey: offered });
    other.remove();
    const wrong = { zone: 'zone-a', roots: [escrow] };
    writeFileSync(at('wrong'), answerText(wrong));
    const accept = accepting('wrong', transcriptOfAnswer(wrong));
    const here = {
      ...{ module: softHsmModule(), tokenSelector: { label: 'token-b' }, stateDir: at('data-b') },
      ...{ pinFile: at('user.pin'), soPinFile: at('so.pin'), softhsmConf: at('softhsm.conf') },
    };
    const destroyed = async () => (await runRootDestruction({ ...here, ...root })).destroyed;
    // As far as a run comes that is killed before it opens a canary.
    expect(await runJoinAcceptance({ ...here, escrow })).toMatchObject({ made: true });
    expect(await refused(ofB(), ...accept)).toContain('integrity_failed');
    expect(await destroyed()).toBe(false);
    await runRootCeremony({ ...here, ...root });
    expect(await refused(ofB(), ...accept)).toContain('integrity_failed');
    expect(await destroyed()).toBe(true);
  }, 120_000);

  it('loses nothing by a full token or a kill, and serves once it was accepted', async () => {
    if (mounted) {
      const filler = join(at('tokens'), 'filler');
      spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=1k']);
      const full = await refused(ofB(), ...accepting('answer', transcript)).finally(() =>
        rmSync(filler),
      );
      expect(full).toContain('storage_full');
    }
    for (let kill = 1; kill <= KILLS; kill += 1) {
      await twofold(ofB(), accepting('answer', transcript), (kill * 700) / KILLS);
    }
    const said = { ANSWER: at('answer'), TRANSCRIPT: String(transcript), SO_PIN: at('so.pin') };
    expect(fromPage('accept', { ...ofB(), ...said })).toMatchObject([
      { zone: 'zone-b', generations: [1], custodies: ['non-extractable'], transcript },
      {
        ok: true,
        generations: [{ generation: 1, canary: 'opens', custody: 'non-extractable' }],
        unknown: [],
      },
    ]);
    expect(existsSync(join(at('data-b'), 'join.offer'))).toBe(false);
  }, 90_000);

  it('takes an answer once', async () => {
    // The same root is there, so that this is a token of another zone, to which the file was carried.
    const again = await refused(ofB(), ...accepting('answer', transcript));
    expect(again).toContain('no offer is open here');
    await done(ofB(), ...offering('second'));
    expect(await refused(ofB(), ...accepting('answer', transcript))).toContain('another offer');
  }, 60_000);

  it('opens what the other zone made, and is in the log on both sides', async () => {
    b = await TestService.start({ dataDir: at('data-b'), environment: ofB() });
    const plaintext = Buffer.from('across zones').toString('base64');
    for (const suite of ['MLKEM768-P256', 'A256GCM']) {
      const name = suite.toLowerCase();
      expect((await a.request('POST', '/v1/admin/keys', { name, suite })).status).toBe(201);
      const { json: wrapped } = await a.request('POST', `/v1/keys/${name}/wrap`, { plaintext });
      const { ciphertext } = wrapped;
      const opened = await b.request('POST', `/v1/keys/${name}/unwrap`, { ciphertext });
      expect(opened.json).toMatchObject({ plaintext, origin: 'service' });
    }
    const { json: log } = await b.request('GET', '/v1/audit/entries?operation=root.join');
    const said = JSON.stringify(log['items']);
    for (const step of ['answer', 'accept']) expect(said).toContain(step);
    expect(said.split(String(transcript)).length).toBeGreaterThanOrEqual(3);
  }, 90_000);

  it('names the zones that have a key of one token', async () => {
    const suite = 'MLKEM768-X25519';
    const unnamed = await a.request('POST', '/v1/admin/keys', { name: 'x', suite });
    expect([unnamed.status, unnamed.json.code]).toEqual([409, 'suite_unavailable_here']);
    const named = { name: 'x', suite, custody: 'hsm-token' };
    expect((await a.request('POST', '/v1/admin/keys', named)).status).toBe(201);
    const plaintext = Buffer.from('at home').toString('base64');
    const { json: wrapped } = await second().request('POST', '/v1/keys/x/wrap', { plaintext });
    const body = { ciphertext: wrapped['ciphertext'] };
    expect((await a.request('POST', '/v1/keys/x/unwrap', body)).json).toMatchObject({ plaintext });
    const lacking = [
      409,
      {
        code: 'zone_lacks_material',
        detail: expect.stringMatching(
          /zone zone-b has not\. It can be used in: zone-a\.$/u,
        ) as unknown,
      },
    ];
    const elsewhere = await second().request('POST', '/v1/keys/x/unwrap', body);
    expect([elsewhere.status, elsewhere.json]).toMatchObject(lacking);
    // Nor does a rotation take it from its zone, unless the request says so.
    const rotating = (one: TestService, given: object) =>
      one.request('POST', '/v1/admin/keys/x/rotate', given);
    const taken = await rotating(second(), {});
    expect([taken.status, taken.json]).toMatchObject(lacking);
    expect((await rotating(a, {})).status).toBe(200);
    expect((await rotating(second(), { custody: 'hsm-token' })).status).toBe(200);
    const { json: moved } = await second().request('POST', '/v1/keys/x/wrap', { plaintext });
    const later = { ciphertext: moved['ciphertext'] };
    const opened = await second().request('POST', '/v1/keys/x/unwrap', later);
    expect(opened.json).toMatchObject({ plaintext });
    expect((await rotating(a, {})).json.code).toBe('zone_lacks_material');
  }, 60_000);
});

describe('a zone that joins by the database', () => {
  const [requester, approver] = ['Ada Lovelace', 'Grace Hopper'];
  const soPin = () => join(a.dataDir, 'hsm/ceremony/so.pin');
  const stepping = (step: string, id: unknown, by: string, confirm: unknown): string[] => [
    ...['hsm', 'join', step, String(id), '--operator', by, '--confirm', String(confirm)],
    ...['--so-pin-file', step === 'approve' ? soPin() : at('so.pin')],
  ];
  const approving = (by: string, confirm: unknown) => stepping('approve', asked['id'], by, confirm);
  const completing = (by: string, confirm: unknown) =>
    stepping('complete', asked['id'], by, confirm);
  const asking = ['hsm', 'join', 'request', '--operator', requester];
  const listed = async () =>
    (await done(ofC(), 'hsm', 'join', 'list'))['requests'] as Record<string, unknown>[];
  let asked: Record<string, unknown>;
  let transcript: unknown;
  let owner: pg.Client;

  const count = async (sql: string, values: readonly unknown[] = []): Promise<number> => {
    const { rows } = await owner.query<{ n: number }>(`select count(*)::int as n ${sql}`, [
      ...values,
    ]);
    return rows[0]?.n ?? 0;
  };
  const entries = () => count(`from public.entry where operation = 'root.join'`);
  const inState = (state: string) =>
    count('from public.join_request where id = $1 and state = $2', [asked['id'], state]);
  /** Once each of these has become more than it was at the start, and then at times of a run. */
  const killed = async (
    environment: Readonly<Record<string, string>>,
    args: readonly string[],
    places: readonly (() => number | Promise<number>)[],
  ) => {
    const atFirst: number[] = [];
    for (const seen of places) atFirst.push(await seen());
    for (const [place, seen] of places.entries()) {
      // A run can get further than to where it was to be killed: the next one is killed at its start.
      const before = atFirst[place] ?? 0;
      await twofold(environment, args, async () => (await seen()) > before);
      expect([args, place, (await seen()) > before]).toEqual([args, place, true]);
    }
    for (let kill = 3; kill <= KILLS; kill += 1) {
      await twofold(environment, args, (kill * 3_000) / KILLS);
    }
  };
  /** Objects on the token of the zone that joins. */
  const objects = () =>
    readdirSync(at('tokens-c'), { recursive: true }).filter((file) =>
      /\.object$/u.test(String(file)),
    ).length;
  const offerTime = () =>
    statSync(join(at('data-c'), 'join.offer'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  /** What the trigger keeps the server's role from, and the owner if he does not mean to. */
  const alter = async (set: string, values: readonly unknown[] = []) => {
    await owner.query('alter table public.join_request disable trigger join_request_goes_on');
    await owner.query(`update public.join_request set ${set} where id = '${String(asked['id'])}'`, [
      ...values,
    ]);
    await owner.query('alter table public.join_request enable trigger join_request_goes_on');
  };

  beforeAll(async () => {
    mkdirSync(at('tokens-c'), { mode: 0o700 });
    const conf = readFileSync(at('softhsm.conf'), 'utf8').replace(at('tokens'), at('tokens-c'));
    writeFileSync(at('softhsm-c.conf'), conf);
    await done(ofC(), 'hsm', 'init-token', '--so-pin-file', at('so.pin'));
    owner = new pg.Client({ connectionString: findEmbedded(a.dataDir)?.ownerUrl });
    await owner.connect();
  }, 30_000);
  afterAll(() => owner.end());

  it('keeps no root of somebody else, and none that was not proved within the hour', async () => {
    asked = await done(ofC(), ...asking);
    const { rows } = await owner.query<{ installation: string }>(
      'select installation from public.root_generation',
    );
    const root = { installation: rows[0]?.installation ?? '', generation: 1 };
    const other = await tokenIn(temporaryFolder(), false);
    const theirs = { ...other.token, tokenSelector: { label: other.token.tokenLabel } };
    await runRootCeremony({ ...theirs, ...root });
    const answerTheir = async () => {
      const [row] = (
        await owner.query<{ offer: string }>(
          'select offer from public.join_request where id = $1',
          [asked['id']],
        )
      ).rows;
      const { publicKey } = parseOffer(row?.offer ?? '');
      const escrow = await runEscrowCeremony({ ...theirs, root, publicKey });
      const wrong = { zone: 'zone-a', roots: [escrow] };
      const set = `state = 'answered', approved_by = $2, answered_from = 'zone-a', answer = $1, mac = '\\x00'`;
      await alter(set, [answerText(wrong), approver]);
      return { escrow, said: transcriptOfAnswer(wrong) };
    };
    const before = objects();
    const { said } = await answerTheir();
    expect(await refused(ofC(), ...completing(requester, said))).toContain('integrity_failed');
    expect((await listed())[0]).toMatchObject({ state: 'ended', problem: expect.any(String) });
    // The offer's private half has gone as well.
    expect(objects()).toBe(before - 1);

    asked = await done(ofC(), ...asking);
    const { escrow } = await answerTheir();
    const here = {
      ...{ module: softHsmModule(), tokenSelector: { label: 'token-c' }, stateDir: at('data-c') },
      ...{ pinFile: at('user.pin'), soPinFile: at('so.pin'), softhsmConf: at('softhsm-c.conf') },
    };
    // As far as a run comes that is killed before it opens a canary.
    expect(await runJoinAcceptance({ ...here, escrow })).toMatchObject({ made: true });
    await alter(`requested_at = requested_at - interval '2 hours',
      expires_at = expires_at - interval '2 hours'`);
    expect(await refused(ofC(), ...completing(requester, 'x'))).toContain('approval_expired');
    expect(objects()).toBe(before - 1);
    other.remove();
    const withdrawing = ['hsm', 'join', 'withdraw', String(asked['id']), '--operator', requester];
    expect(await refused(ofC(), ...withdrawing)).toContain('approval_ended');
  }, 90_000);

  it('asks anew after a kill, and leaves one request that is open', async () => {
    await killed(ofC(), asking, [offerTime, () => count('from public.join_request')]);
    [asked = {}] = fromPage('request', { ...ofC(), REQUESTER: requester });
    expect(asked).toMatchObject({ zone: 'zone-c' });
    const open = (await listed()).filter(({ state }) => state === 'open');
    expect(open).toMatchObject([{ id: asked['id'], requestedBy: requester }]);
    expect(JSON.stringify(open)).not.toContain(String(asked['fingerprint']).slice(0, 8));
  }, 60_000);

  it('is answered by another person in another zone, who was told the fingerprint', async () => {
    const { id, fingerprint } = asked;
    for (const [from, by] of [
      [ofA(), 'ada  LOVELACE'],
      [ofC(), approver],
    ] as const) {
      expect(await refused(from, ...approving(by, fingerprint))).toContain('self_approval');
    }
    const other = await refused(ofA(), ...approving(approver, '00'.repeat(48)));
    expect(other).toContain('is not the one that was said');
    const silent = ['hsm', 'join', 'approve', String(id), '--operator', approver];
    expect(await refused(ofA(), ...silent, '--so-pin-file', soPin())).toContain('or a terminal');
    expect(await inState('open')).toBe(1);
    const said = await entries();
    await killed(ofA(), approving(approver, fingerprint), [
      entries,
      async () => Number((await entries()) > said + 2),
      () => inState('answered'),
    ]);
    const given = { ID: String(id), FINGERPRINT: String(fingerprint), SO_PIN: soPin() };
    const [answer] = fromPage('approve', { ...ofA(), ...given, APPROVER: approver });
    expect(answer).toMatchObject({ for: 'zone-c', requestedBy: requester, generations: [1] });
    ({ transcript } = answer ?? {});
    // Whoever did not live to read it is shown the same again.
    expect(await done(ofA(), ...approving(approver, fingerprint))).toEqual(answer);
  }, 90_000);

  it('takes the answer once, when it was told its transcript, through kills', async () => {
    const { id } = asked;
    expect(await refused(ofC(), ...completing(approver, transcript))).toContain('self_approval');
    expect(await refused(ofB(), ...completing(requester, transcript))).toContain(
      'approval_mismatch',
    );
    expect(await refused(ofC(), ...completing(requester, asked['fingerprint']))).toContain(
      'is not the one that was said',
    );
    expect(JSON.parse((await twofold(ofC(), ['hsm', 'verify'])).out)).toMatchObject({ ok: false });
    await killed(ofC(), completing(requester, transcript), [
      objects,
      entries,
      () => inState('accepted'),
    ]);
    const said = { ID: String(id), TRANSCRIPT: String(transcript), SO_PIN: at('so.pin') };
    expect(fromPage('complete', { ...ofC(), ...said, REQUESTER: requester })).toMatchObject([
      { id, zone: 'zone-c', generations: [1] },
      { ok: true, generations: [{ generation: 1, canary: 'opens', custody: 'non-extractable' }] },
    ]);
    expect(existsSync(join(at('data-c'), 'join.offer'))).toBe(false);
    expect((await listed())[0]).toMatchObject({ id, state: 'accepted', approvedBy: approver });
    // Again it places nothing, and nobody answers it any more.
    expect(await done(ofC(), ...completing(requester, transcript))).toMatchObject({ made: 0 });
    const late = approving(approver, asked['fingerprint']);
    expect(await refused(ofA(), ...late)).toContain('approval_used');
  }, 120_000);

  it('is in the log with its people: intent and outcome', async () => {
    const { json: log } = await a.request('GET', '/v1/audit/entries?operation=root.join');
    const items = JSON.stringify(log['items']);
    for (const word of ['intent', 'answer', 'accept', requester, approver, 'zone-c']) {
      expect(items).toContain(word);
    }
    expect(items).toContain(String(asked['id']));
    expect(items.split(String(transcript)).length).toBeGreaterThanOrEqual(3);
  }, 30_000);
});
