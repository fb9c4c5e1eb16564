/**
 * The release before and this tree, side by side: two instances in production mode on one database and one
 * token, HAProxy before them, and one after the other replaced by the commands of deploy/upgrade.md.
 */
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import type { Answer } from '../e2e/service.ts';
import { PluginClient } from '../kubernetes/apiserver.ts';
import { eventually } from '../store/eventually.ts';
import { withClient } from '../store/owner.ts';
import type { ZoneClient } from '../zones/zone-client.ts';
import { startLoad } from './load.ts';
import type { Load } from './load.ts';
import { readPrevious } from './previous.ts';
import { extractRelease, hasCommit, TREE } from './release.ts';
import { HAPROXY, NAMES, proxyVersion, Site } from './site.ts';
import type { Name } from './site.ts';

/** Another commit than the last release point. */
const COMMIT = process.env['TWOFOLD_PREVIOUS'] ?? readPrevious().commit;
const CALLERS = Number(process.env['TWOFOLD_ROLLING_CALLERS'] ?? 12);
const plaintext = Buffer.from('a data key').toString('base64');

const lacking = [
  ...(hasCommit(COMMIT) ? [] : [`the commit ${COMMIT} is not in this clone (is it shallow?)`]),
  ...(HAPROXY === null ? ["HAProxy is not installed (Debian's package haproxy)"] : []),
];
if (lacking.length > 0) process.stdout.write(`NOT RUN: ${lacking.join('; ')}\n`);
const describeHere = lacking.length > 0 ? describe.skip : describe;

describeHere('a version and the next one', () => {
  let previous: string;
  let site: Site;
  let clients: Record<Name, ZoneClient>;
  let load: Load;
  /** Undone after all tests, last first, however far they came. */
  const undone: (() => unknown)[] = [];

  const startLoadBy = async (way: 'connections' | 'requests', callers = CALLERS) =>
    startLoad(await Promise.all(Array.from({ length: callers }, () => site.client(way))), {
      wrap: 'wraps',
      sign: 'signs',
    });
  /** What every request of the load was answered with, and how many there were. */
  const unfailing = async (what: string): Promise<void> => {
    const { requests, failures } = await load.stop();
    process.stdout.write(
      `${what}: ${String(requests)} requests, ${String(failures.length)} failed\n`,
    );
    expect(failures).toEqual([]);
    expect(requests).toBeGreaterThan(50);
  };
  const ask = (name: Name, method: string, path: string, body?: object): Promise<Answer> =>
    clients[name].request(method, path, body);
  const done = async (...call: Parameters<typeof ask>): Promise<Answer['json']> => {
    const { status, json } = await ask(...call);
    expect([...call.slice(0, 3), status, json.code]).toEqual([
      ...call.slice(0, 3),
      status < 300 ? status : 200,
      undefined,
    ]);
    return json;
  };
  const query = <T>(sql: string, values: readonly unknown[] = []): Promise<T[]> =>
    withClient(site.ownerUrl, async (client) => (await client.query(sql, [...values])).rows as T[]);
  /** The ids of the instances that serve. */
  const living = async (): Promise<string[]> =>
    (await query<{ id: string }>('select id from public.instance where not closed')).map(
      ({ id }) => id,
    );
  const leaders = async (): Promise<Record<string, string | null>> => {
    const rows = await query<{ role: string; holder: string | null }>(
      `select role, holder from public.leadership where role in ('scheduler', 'sequencer')`,
    );
    return Object.fromEntries(rows.map(({ role, holder }) => [role, holder]));
  };
  /** Within a second or so of the restart of whoever led: an orderly end is no silence of ten seconds. */
  const led = async (): Promise<number> => {
    const began = performance.now();
    for (;;) {
      const [alive, holders] = [await living(), await leaders()];
      const all = Object.values(holders);
      if (all.length > 0 && all.every((holder) => holder !== null && alive.includes(holder))) {
        return Math.round(performance.now() - began);
      }
      if (performance.now() - began > 8_000) throw new Error(JSON.stringify({ alive, holders }));
      await sleep(50);
    }
  };
  /** Restarts one by the page, in a version; the proxy sees it within two looks. */
  const restart = async (name: Name, release: string): Promise<void> => {
    await site.page('restart', name, release);
    const leading = await led();
    process.stdout.write(
      `${name} restarted; leaders live ${String(leading)} ms after it was ready\n`,
    );
    clients[name].close();
    clients[name] = await site.client(name);
    await sleep(2_000);
  };

  beforeAll(async () => {
    process.stdout.write(`previous: ${COMMIT}; ${proxyVersion()}\n`);
    previous = extractRelease(COMMIT);
    undone.push(() => rmSync(previous, { recursive: true, force: true }));
    site = await Site.make(previous);
    undone.push(() => site.destroy());
    // The first makes what only one of them can, the other finds it.
    for (const name of NAMES) {
      await site.systemctl('start', name);
      await site.untilReady(name);
    }
    clients = { one: await site.client('one'), two: await site.client('two') };
    await done('one', 'POST', '/v1/admin/keys', { name: 'wraps', suite: 'MLKEM768-P256' });
    const suite = 'MLDSA65-ECDSA-P256-SHA512';
    await done('one', 'POST', '/v1/admin/keys', { name: 'signs', suite });
    await done('one', 'POST', '/v1/admin/keys', { name: 'secrets', suite: 'MLKEM768-P256' });
    const labels = { 'kubernetes/c1': 'provider=twofold announced=1' };
    await done('one', 'PATCH', '/v1/admin/keys/secrets', { labels });
    await site.startProxy();
    load = await startLoadBy('requests');
    undone.push(() => load.stop());
  }, 120_000);

  afterAll(async () => {
    for (const undo of undone.toReversed()) await undo();
  }, 60_000);

  it('the new one migrates while the old ones serve, and they go on', async () => {
    await site.page('check', 'one', TREE);
    const applied = JSON.parse(await site.page('migrate', 'one', TREE)) as { applied: string[] };
    const rows = await query<{ needs: string | null }>(
      'select needs from public.twofold_migration where name = any($1)',
      [applied.applied],
    );
    expect(rows.map(({ needs }) => needs)).toEqual(
      applied.applied.map(() => readPrevious().migration),
    );
    for (const name of NAMES) {
      const made = { name: `after-${name}`, suite: 'A256GCM' };
      await done(name, 'POST', '/v1/admin/keys', made);
      expect((await ask(name, 'GET', '/readyz')).status).toBe(200);
    }
  }, 60_000);

  it('no request fails while the first is replaced', async () => {
    await restart('two', TREE);
    await unfailing('first of two replaced');
  }, 60_000);

  it.each([
    ['one', 'two'],
    ['two', 'one'],
  ] as const)(
    '%s makes keys, ciphertexts, signatures and MACs that %s uses',
    async (from, to) => {
      for (const suite of ['MLKEM1024-P384', 'ML-KEM-768', 'A256GCM']) {
        const name = `${from}-${suite.toLowerCase()}`;
        await done(from, 'POST', '/v1/admin/keys', { name, suite });
        const encryptionContext = { of: from };
        const body = { plaintext, encryptionContext };
        const { ciphertext } = await done(from, 'POST', `/v1/keys/${name}/wrap`, body);
        const opened = { ciphertext, encryptionContext };
        expect(await done(to, 'POST', `/v1/keys/${name}/unwrap`, opened)).toMatchObject({
          plaintext,
        });
      }
      for (const suite of ['MLDSA44-ECDSA-P256-SHA256', 'ML-DSA-65']) {
        const name = `${from}-${suite.toLowerCase()}`;
        await done(from, 'POST', '/v1/admin/keys', { name, suite });
        const message = plaintext;
        const { signature } = await done(from, 'POST', `/v1/keys/${name}/sign`, { message });
        const asked = { message, signature };
        expect(await done(to, 'POST', `/v1/keys/${name}/verify`, asked)).toMatchObject({
          valid: true,
        });
      }
    },
    60_000,
  );

  it.each([
    ['one', 'two'],
    ['two', 'one'],
  ] as const)(
    'what %s rotates or suspends is so at %s at once',
    async (from, to) => {
      const name = `turned-by-${from}`;
      await done(from, 'POST', '/v1/admin/keys', { name, suite: 'MLKEM768-P256' });
      const wrap = `/v1/keys/${name}/wrap`;
      const { ciphertext: first } = await done(to, 'POST', wrap, { plaintext });
      await done(from, 'POST', `/v1/admin/keys/${name}/rotate`, {});
      expect(await done(to, 'POST', wrap, { plaintext })).toMatchObject({ keyVersion: 2 });
      for (let round = 0; round < 5; round += 1) {
        await done(from, 'POST', `/v1/admin/keys/${name}/suspend`, { reason: 'x' });
        const refused = await ask(to, 'POST', `/v1/keys/${name}/unwrap`, { ciphertext: first });
        expect([refused.status, refused.json.code]).toEqual([409, 'version_not_usable']);
        await done(from, 'POST', `/v1/admin/keys/${name}/resume`, { reason: 'y' });
        const unwrapped = await done(to, 'POST', `/v1/keys/${name}/unwrap`, { ciphertext: first });
        expect(unwrapped).toMatchObject({ plaintext });
      }
    },
    60_000,
  );

  it('Kubernetes values of either are read by the other, and a rotation reaches both', async () => {
    const plugins = {
      one: new PluginClient(site.socket('one')),
      two: new PluginClient(site.socket('two')),
    };
    const keyIds = async () => {
      const told = await Promise.all(NAMES.map((name) => plugins[name].status()));
      return told.map(({ healthz, keyId }) => (healthz === 'ok' ? keyId : healthz));
    };
    const agree = async (): Promise<void> => {
      const until = performance.now() + 10_000;
      for (;;) {
        const [one = '', two] = await keyIds().catch((error: unknown) => [String(error)]);
        if (one.startsWith('tfk1.') && one === two) return;
        if (performance.now() > until) throw new Error(`${one} and ${String(two)}`);
        await sleep(50);
      }
    };
    const crossed = async () => {
      for (const [from, to] of [
        ['one', 'two'],
        ['two', 'one'],
      ] as const) {
        const seed = randomBytes(32);
        const opened = await plugins[to].decrypt(await plugins[from].encrypt(seed));
        expect(Buffer.from(opened)).toEqual(seed);
      }
    };
    await agree();
    await crossed();
    // Once every instance of both versions has confirmed it, whichever of them looks.
    for (const [version, name] of [
      [2, 'one'],
      [3, 'two'],
    ] as const) {
      await done(name, 'POST', '/v1/admin/keys/secrets/rotate', {});
      const announced = `provider=twofold announced=${String(version)}`;
      await eventually(async () => {
        const read = await Promise.all(NAMES.map((each) => done(each, 'GET', '/v1/keys/secrets')));
        return read.every(({ labels }) => JSON.stringify(labels).includes(announced));
      }, 10_000);
    }
    await crossed();
    for (const name of NAMES) plugins[name].close();
  }, 30_000);

  it('a setting that the old one does not know ends its start, and is said', async () => {
    const file = join(site.folder, 'later.json');
    writeFileSync(file, JSON.stringify({ zone: { ofTheNextVersion: true } }));
    const run = site.twofold(previous, ['config', 'check'], { TWOFOLD_CONFIG: file });
    await expect(run).rejects.toThrow('ofTheNextVersion');
  }, 30_000);

  it('no request fails while the last of the old ones is replaced', async () => {
    load = await startLoadBy('requests');
    await restart('one', TREE);
    await unfailing('second of two replaced');
  }, 60_000);

  it('the old version is refused by the schema, or runs on it', async () => {
    const run = site.twofold(previous, ['migrate']);
    await run.then(
      (printed) => process.stdout.write(`the old version on the new schema: ${printed}`),
      (error: unknown) => expect(String(error)).toContain('newer version'),
    );
  }, 30_000);

  it('no request fails by connections that pass by, and the way back begins on a schema of the next version', async () => {
    const newest = await query<{ name: string }>(
      'select max(name) as name from public.twofold_migration',
    );
    await query(
      `insert into public.twofold_migration (name, sha256, version, needs) values ('9999_next', 'x', '9.9.9', $1)`,
      [newest[0]?.name],
    );
    load = await startLoadBy('connections');
    await restart('two', TREE);
    await unfailing('restarted behind connections that pass by');
  }, 60_000);

  it('has all of it in one log that verifies', async () => {
    const trust = await site.pinnedKeys();
    const printed = await site.audit('one', ['verify', '--live', '--trust', trust]);
    process.stdout.write(printed);
    expect(printed).toMatch(/\S/u);
    const lanes = await query<{ n: number }>(
      'select count(distinct l.instance)::int as n from public.lane l join public.entry e on e.lane = l.id',
    );
    // Two of the version before, two of this one, and the one that was restarted.
    expect(lanes[0]?.n).toBeGreaterThanOrEqual(5);
  }, 60_000);
});
