/**
 * Two zones with a real token each over one database: the second one joins by files, and what is refused
 * on the way; then each serves what the other made, and names who can where it cannot.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import {
  runEscrowCeremony,
  runJoinAcceptance,
  runRootCeremony,
  runRootDestruction,
} from '../../src/hsm/run-ceremony.ts';
import { answerText, transcriptOfAnswer } from '../../src/main/join-text.ts';
import { findEmbedded } from '../../src/store/embedded.ts';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { softHsmModule, temporaryFolder, tokenIn } from '../hsm/token-fixture.ts';
import { TestService } from './service.ts';

/** Kills of `hsm join accept` at times of the test's choosing. */
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
  DATABASE_URL: findEmbedded(a.dataDir)?.appUrl ?? '',
  TWOFOLD_PKCS11_MODULE: softHsmModule(),
  TWOFOLD_HSM_TOKEN_LABEL: 'token-b',
  TWOFOLD_HSM_PIN_FILE: at('user.pin'),
  SOFTHSM2_CONF: at('softhsm.conf'),
});

interface Ran {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

async function twofold(
  environment: Readonly<Record<string, string>>,
  args: readonly string[],
  killAfterMs?: number,
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
  if (killAfterMs !== undefined) {
    await Promise.race([closed, sleep(killAfterMs)]);
    // The ceremony process too.
    if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  }
  const [status] = await closed;
  return { status, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() };
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
  kind: 'offer' | 'answer' | 'accept',
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
    const elsewhere = await second().request('POST', '/v1/keys/x/unwrap', body);
    expect([elsewhere.status, elsewhere.json]).toMatchObject([
      409,
      {
        code: 'zone_lacks_material',
        detail: expect.stringMatching(
          /zone zone-b has not\. It can be used in: zone-a\.$/u,
        ) as unknown,
      },
    ]);
  }, 60_000);
});
