/**
 * The blocks of deploy/zones-runbooks.md as they stand there, each after what it mends was broken. What
 * cannot be run is listed with its reason.
 */
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { NUMBERS, Page, printed, until, ZoneStack } from './zone-stack.ts';
import type { Numbered } from './zone-stack.ts';

const RESUMES_MS = 60_000;
const MOST_MOVES = 6;
/** Until an entry is in a checkpoint that each instance has written down. */
const SEEN_MS = 15_000;
/** Attempts of a zone that names one checkpoint after another that it has seen. */
const CHECKPOINTS = 4;

let stack: ZoneStack;
let page: Page;
const ran = new Set<string>();
const run = async (block: string, variables: Readonly<Record<string, string>> = {}) => {
  ran.add(block);
  return page.run(block, variables);
};

const plaintext = Buffer.from('what no loss may take').toString('base64');
let ciphertext: unknown;
const opens = async (zone: Numbered) =>
  (await stack.call(zone, '/v1/keys/kept/unwrap', { ciphertext })).json;
const wraps = async (zone: Numbered) =>
  (await stack.call(zone, '/v1/keys/kept/wrap', { plaintext })).status === 200;
const resumes = (zone: Numbered) =>
  until(`a wrap in zone ${String(zone)}`, RESUMES_MS, () => wraps(zone));

/** Everything in the volume is gone, as with its disk. */
function loseDisk(volume: string): void {
  const folder = stack.containers.volume(volume);
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true });
}

/** The primary is moved to `patroni-1` or `patroni-2`, so that zone 3 can be taken away alone. */
async function leaderOutside3(): Promise<void> {
  await stack.healthy();
  if ((await stack.memberWith('Leader')) === 'patroni-3') await move();
  await stack.healthy();
}

/** As the page says: repeated while Patroni refuses, which its command does not end with. */
async function move(): Promise<void> {
  await until('a switchover', RESUMES_MS, async () => {
    const PRIMARY = await stack.memberWith('Leader');
    const STANDBY = await stack.memberWith('Sync Standby');
    const [said = ''] = await run('primary-move', { PRIMARY, STANDBY });
    if (said.includes('failed')) {
      process.stdout.write(`${/.*failed.*/u.exec(said)?.[0] ?? ''}\n`);
      return false;
    }
    return (await stack.memberWith('Leader')) === STANDBY;
  });
}

/** The identity of etcd's member, as `member list` prints it. */
async function memberOf(name: string): Promise<string> {
  const { out } = await stack.containers.exec('etcd-1', ['etcdctl', 'member', 'list']);
  return new RegExp(`^([0-9a-f]+), \\w+, ${name},`, 'mu').exec(out)?.[1] ?? '';
}

beforeAll(async () => {
  stack = await ZoneStack.open();
  page = new Page(stack.containers, 'zones-runbooks.md');
  await stack.up();
  await stack.healthy();
  const made = await stack.call(1, '/v1/admin/keys', { name: 'kept', suite: 'MLKEM768-P256' });
  expect(made.status).toBe(201);
  ({ ciphertext } = (await stack.call(1, '/v1/keys/kept/wrap', { plaintext })).json);
}, 400_000);

afterAll(() => stack.close(), 120_000);

describe('deploy/zones-runbooks.md', () => {
  it('shows who leads, the members and the replication', async () => {
    const [list = '', etcd = '', doctor = ''] = await run('look');
    expect(list).toMatch(/Leader[\s\S]*running/u);
    expect(etcd.match(/started/gu)).toHaveLength(3);
    expect(doctor).toMatch(/"replication":"strict","required":true/u);
  }, 60_000);

  it('the loss of the primary: others write on, and it comes back', async () => {
    const PRIMARY = await stack.memberWith('Leader');
    await stack.containers.lose(PRIMARY);
    const zone = NUMBERS.find((one) => !PRIMARY.endsWith(String(one))) ?? 1;
    await resumes(zone);
    await run('primary-back', { PRIMARY });
    await stack.healthy();
    expect(await stack.memberWith('Leader')).not.toBe(PRIMARY);
  }, 400_000);

  it('a standby that is made anew, and the primary moved by intention', async () => {
    await run('primary-reinit', { STANDBY: await stack.memberWith('Sync Standby') });
    await stack.healthy();
    await move();
    await resumes(1);
    await leaderOutside3();
  }, 400_000);

  it('the loss of a zone that comes back with its disks, and without', async () => {
    const names = ['zone-3', 'patroni-3', 'etcd-3'];
    await Promise.all(names.map((name) => stack.containers.lose(name)));
    await resumes(1);
    await run('zone-back');
    await stack.healthy();
    expect(await opens(3)).toMatchObject({ plaintext });

    await Promise.all(names.map((name) => stack.containers.lose(name)));
    for (const volume of ['patroni-3', 'etcd-3', 'tokens-3', 'data-3']) loseDisk(volume);
    await resumes(2);
    await run('zone-replace', { MEMBER: await memberOf('etcd-3') });
    await stack.healthy();
  }, 500_000);

  it('the loss of an HSM: the root comes onto a new token', async () => {
    expect(existsSync(stack.containers.volume('tokens-3'))).toBe(true);
    expect(readdirSync(stack.containers.volume('tokens-3'))).toEqual([]);
    const FINGERPRINT = printed(await run('hsm-offer'), 'fingerprint');
    const TRANSCRIPT = printed(await run('hsm-answer', { FINGERPRINT }), 'transcript');
    await run('hsm-accept', { TRANSCRIPT });
    expect(await opens(3)).toMatchObject({ plaintext });
  }, 400_000);

  it('the loss of both standbys: nothing is acknowledged until one is back', async () => {
    // Only the synchronous standby can be the next: by way of another one, where that is not patroni-1.
    for (let moves = 0; (await stack.memberWith('Leader')) !== 'patroni-1'; moves += 1) {
      expect(moves).toBeLessThan(MOST_MOVES);
      await move();
      await stack.healthy();
    }
    await Promise.all(['patroni-2', 'patroni-3'].map((name) => stack.containers.lose(name)));
    const made = await stack.call(1, '/v1/keys/kept/wrap', { plaintext }).catch(() => null);
    expect(made === null || made.status === 503).toBe(true);
    await run('majority-standbys');
    await stack.healthy();
    for (const zone of NUMBERS) await resumes(zone);
  }, 400_000);

  it('the loss of two members of etcd: writes go on', async () => {
    await Promise.all(['etcd-2', 'etcd-3'].map((name) => stack.containers.lose(name)));
    await resumes(1);
    await run('majority-etcd');
    await stack.healthy();
    await resumes(2);
  }, 400_000);

  it('the loss of the disks of two members of etcd: the third one goes on as a cluster', async () => {
    const lost = ['etcd-2', 'etcd-3'];
    await Promise.all(lost.map((name) => stack.containers.lose(name)));
    for (const volume of lost) loseDisk(volume);
    await resumes(1);
    const said = await run('majority-etcd-disks');
    expect(said.at(-1)?.match(/started, etcd-[123],/gu)).toHaveLength(3);
    await stack.healthy();
    for (const zone of NUMBERS) await resumes(zone);
    // A fail-over needs a majority of etcd's members.
    await move();
    await resumes(2);
  }, 400_000);

  it('a dump comes back, and what came after it is given up by name', async () => {
    const PRIMARY = await stack.memberWith('Leader');
    await run('backup', { PRIMARY });
    const after = await stack.call(1, '/v1/admin/keys', { name: 'after', suite: 'A256GCM' });
    expect(after.status).toBe(201);
    // What every zone has seen of the log, and the dump has not, is to be given up by name.
    await sleep(SEEN_MS);
    await run('restore', { PRIMARY });
    const file = join(stack.site, 'twofold.json');
    const configuration = JSON.parse(readFileSync(file, 'utf8')) as object;
    const checkpoints = new Set<string>();
    let refused = '';
    for (let attempt = 0; attempt < CHECKPOINTS * NUMBERS.length; attempt += 1) {
      refused = await run('restored').then(
        () => '',
        (error: unknown) => String(error),
      );
      if (refused === '') break;
      for (const zone of NUMBERS) await stack.containers.stop(`zone-${String(zone)}`);
      const known = checkpoints.size;
      for (const [hash] of refused.matchAll(/\b[0-9a-f]{64}\b/gu)) checkpoints.add(hash);
      if (checkpoints.size === known) break;
      const acceptRollback = { checkpoints: [...checkpoints], reason: 'restored from a dump' };
      writeFileSync(file, JSON.stringify({ ...configuration, audit: { acceptRollback } }));
    }
    expect(refused).toBe('');
    expect(checkpoints.size).toBeGreaterThan(0);
    for (const zone of NUMBERS) expect(await opens(zone)).toMatchObject({ plaintext });
    const gone = await stack.call(2, '/v1/keys/after/wrap', { plaintext });
    expect(gone.status).toBe(404);
    process.stdout.write(`a restore: ${String(checkpoints.size)} checkpoints given up\n`);
    await resumes(3);
  }, 500_000);

  it('what runs on in a zone is ended in the database', async () => {
    await leaderOutside3();
    expect(await opens(3)).toMatchObject({ plaintext });
    await run('end', { PRIMARY: await stack.memberWith('Leader') });
    const { status, json } = await stack.call(3, '/v1/keys/kept/unwrap', { ciphertext });
    expect([status, json['plaintext']]).toEqual([503, undefined]);
    expect(await opens(1)).toMatchObject({ plaintext });
  }, 400_000);

  it('a zone is removed, and the two others go on', async () => {
    await leaderOutside3();
    await run('remove', { MEMBER: await memberOf('etcd-3') });
    await stack.healthy(2);
    for (const zone of [1, 2] as const) await resumes(zone);
    expect(await memberOf('etcd-3')).toBe('');
  }, 400_000);

  it('has no other block, but those that say why they are not run', () => {
    const others = page.blocks.filter((name) => !ran.has(name));
    for (const name of others) process.stdout.write(`deploy/zones-runbooks.md: ${name}\n`);
    expect(others.filter((name) => !name.startsWith('not-run: '))).toEqual([]);
  });
});
