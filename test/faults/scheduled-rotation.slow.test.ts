/**
 * The scheduler of a real service while its token is away or full, and while its database is killed in the
 * middle of a rotation that is due: the others go on, what fails says why, and afterwards each rotation
 * was made once, of which nothing is left on the token that no version names.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';

import { openToken } from '../../bench/token-connection.ts';
import { findEmbedded } from '../../src/store/embedded.ts';
import { TestService } from '../e2e/service.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { eventually } from '../store/eventually.ts';
import { withClient } from '../store/owner.ts';
import { startRelay } from '../store/relay.ts';
import type { Relay } from '../store/relay.ts';
import { untilReady } from './load.ts';

const QUICK = { TWOFOLD_ROTATION_MIN_INTERVAL: 'PT1S', TWOFOLD_ROTATION_PER_MINUTE: '6000' };
/** Its private key is a token object: SoftHSM wraps none of this curve. */
const ON_TOKEN = 'MLKEM768-X25519';
const IN_DATABASE = 'MLKEM768-P256';
const PATIENCE_MS = 60_000;

type Rows = <T>(sql: string, values?: readonly unknown[]) => Promise<T[]>;
const rowsAt =
  (url: () => string): Rows =>
  (sql, values = []) =>
    withClient(url(), async (client) => (await client.query(sql, [...values])).rows as never);

async function makeRuled(service: TestService, name: string, suite: string): Promise<void> {
  const made = await service.request('POST', '/v1/admin/keys', { name, suite });
  expect(made.status).toBe(201);
  const headers = { 'If-Match': made.headers.get('etag') ?? '' };
  const path = `/v1/admin/keys/${name}/rotation-policy`;
  const ruled = await service.request('PUT', path, { interval: 'PT2S' }, { headers });
  expect([name, ruled.status, ruled.json.code]).toEqual([name, 200, undefined]);
}

/** Nothing is due any more, and nothing is under way once this has been acknowledged. */
async function freeze(service: TestService): Promise<void> {
  const { json } = await service.request('GET', '/v1/admin/rotations/pause');
  const headers = { 'If-Match': `"${String(json['revision'])}"` };
  const body = { reason: 'enough' };
  const paused = await service.request('POST', '/v1/admin/rotations/pause', body, { headers });
  expect([paused.status, paused.json.code]).toEqual([200, undefined]);
}

const latestOf = async (service: TestService, name: string): Promise<number> => {
  const { status, json } = await service.request('GET', `/v1/keys/${name}`);
  return status === 200 ? Number(json['primary']) : 0;
};
const failureOf = async (service: TestService, name: string) => {
  const path = `/v1/admin/keys/${name}/rotation-policy`;
  const { status, json } = await service.request('GET', path);
  return status === 200 ? (json['failure'] as { readonly code: string } | null) : null;
};
/** Each has been rotated `times` times more, and nothing of it fails. */
async function untilRotated(service: TestService, names: readonly string[], times: number) {
  const before = await Promise.all(names.map((name) => latestOf(service, name)));
  for (const [index, name] of names.entries()) {
    const wanted = (before[index] ?? 0) + times;
    await eventually(async () => (await latestOf(service, name)) >= wanted, PATIENCE_MS);
    await eventually(async () => (await failureOf(service, name)) === null, PATIENCE_MS);
  }
}

/** Each version but the first has one run, one entry of the log and one event. */
async function expectOnceEach(rows: Rows, service: TestService, names: readonly string[]) {
  for (const name of names) {
    const latest = await latestOf(service, name);
    const [key] = await rows<{ id: string }>('select id from key where name = $1', [name]);
    const made = Array.from({ length: latest - 1 }, (_, index) => index + 1);
    const runs = await rows<{ action: string; version: number }>(
      `select action, version from scheduled_run where key_id = $1 order by version`,
      [key?.id],
    );
    expect(runs).toEqual(
      made.map((n) => ({ action: `rotate/${String(n)}/${String(n)}`, version: n + 1 })),
    );
    const versions = await rows<{ version: number }>(
      'select version from key_version where key_id = $1 order by version',
      [key?.id],
    );
    expect(versions.map(({ version }) => version)).toEqual([1, ...made.map((n) => n + 1)]);
    const [told] = await rows<{ entries: number; events: number }>(
      `select (select count(*)::int from entry
          where key_id = $1 and operation = 'keys.rotate' and outcome = 'ok') as entries,
        (select count(*)::int from event
          where key_id = $1 and type = 'key.rotated') as events`,
      [key?.id],
    );
    expect([name, told]).toEqual([name, { entries: made.length, events: made.length }]);
  }
}

/** Objects on the token that no version has, as hex: before the first key those of the log. */
async function strayObjects(rows: Rows, dataDir: string): Promise<readonly string[]> {
  const hsm = await openToken(dataDir);
  try {
    const named = await rows<{ id: string }>(
      `select encode(classical_object_id, 'hex') as id from key_version
       where classical_object_id is not null`,
    );
    const ids = new Set(named.map(({ id }) => id));
    const [root] = await rows<{ installation: string }>('select installation from root_generation');
    const objects = await hsm.tokenKeys(root?.installation ?? '');
    expect(objects.length).toBeGreaterThanOrEqual(ids.size);
    return objects
      .map(({ objectId }) => Buffer.from(objectId).toString('hex'))
      .filter((id) => !ids.has(id));
  } finally {
    await hsm.close();
  }
}

const mount = (folder: string) =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=400k,mode=700', 'tmpfs', folder]).status === 0;

describe('a token, while rotations are due,', () => {
  let service: TestService;
  const rows = rowsAt(() => findEmbedded(service.dataDir)?.ownerUrl ?? '');
  const tokens = () => join(service.dataDir, 'hsm', 'tokens');
  const names = ['in-database', 'on-token'];
  let others: readonly string[];
  const begin = async (dataDir?: string) => {
    service = await TestService.start({
      environment: QUICK,
      ...(dataDir === undefined ? {} : { dataDir }),
    });
    others = await strayObjects(rows, service.dataDir);
    await makeRuled(service, 'in-database', IN_DATABASE);
    await makeRuled(service, 'on-token', ON_TOKEN);
    await untilRotated(service, names, 1);
  };
  /** A start removes what an earlier one had begun and could not take back. */
  const expectWhole = async () => {
    await freeze(service);
    await expectOnceEach(rows, service, names);
    const { dataDir } = service;
    await service.stop();
    service = await TestService.start({ dataDir, environment: QUICK });
    expect(await strayObjects(rows, dataDir)).toEqual(others);
    expect(await rows('select object_id from token_intent')).toEqual([]);
    await expectOnceEach(rows, service, names);
  };
  afterEach(() => service.destroy(), 60_000);

  it('goes away: it is said of the keys, and each is rotated once it is back', async () => {
    await begin();
    const away = `${tokens()}.away`;
    renameSync(tokens(), away);
    mkdirSync(tokens());
    // By the owner: without the token the service itself answers nothing that it would have to prove.
    const failing = () =>
      rows<{ code: string }>(
        `select failure_code as code from key_schedule join key on id = key_id where name = any ($1)
         and failure_code is not null`,
        [names],
      );
    await eventually(async () => (await failing()).length === names.length, PATIENCE_MS);
    for (const { code } of await failing()) expect(code).toBe('hsm_unavailable');
    rmSync(tokens(), { recursive: true });
    renameSync(away, tokens());
    await untilReady(service);
    await untilRotated(service, names, 1);
    await expectWhole();
  }, 180_000);

  const full =
    'is full: keys that need no room on it are rotated, the other says why until there is room';
  it(
    full,
    async () => {
      const first = await TestService.start();
      await first.stop();
      const small = join(first.dataDir, 'hsm', 'tokens');
      const kept = `${small}.kept`;
      renameSync(small, kept);
      mkdirSync(small, { mode: 0o700 });
      if (!mount(small)) {
        process.stderr.write('skipped: this user may mount no tmpfs for a full disk\n');
        renameSync(kept, small);
        service = first;
        return;
      }
      try {
        cpSync(kept, small, { recursive: true });
        await begin(first.dataDir);
        fill(small);
        await eventually(async () => (await failureOf(service, 'on-token')) !== null, PATIENCE_MS);
        expect(['hsm_full', 'storage_full']).toContain(
          (await failureOf(service, 'on-token'))?.code ?? '',
        );
        const stuck = await latestOf(service, 'on-token');
        await untilRotated(service, ['in-database'], 2);
        expect(await latestOf(service, 'on-token')).toBe(stuck);
        const { json } = await service.request('GET', '/v1/admin/rotations?state=failing');
        expect((json['items'] as { key: string }[]).map(({ key }) => key)).toEqual(['on-token']);
        rmSync(join(small, 'filler'));
        await untilRotated(service, names, 1);
        await expectWhole();
      } finally {
        await service.stop();
        spawnSync('umount', [small]);
      }
    },
    180_000,
  );
});

/** Until nothing more fits. */
function fill(folder: string): void {
  for (const size of [65_536, 4_096]) {
    try {
      for (;;) writeFileSync(join(folder, 'filler'), Buffer.alloc(size), { flag: 'a' });
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC');
    }
  }
}

describe('PostgreSQL, killed whole in the middle of a rotation that is due,', () => {
  let database: TestDatabase;
  let relay: Relay;
  let service: TestService;
  let others: readonly string[];
  const rows = rowsAt(() => database.ownerUrl);

  beforeAll(async () => {
    database = await startTestDatabase();
    relay = await startRelay(database.port);
    service = await TestService.start({
      environment: {
        ...QUICK,
        DATABASE_URL: relay.url(database.appUrl),
        TWOFOLD_DATABASE_OWNER_URL: database.ownerUrl,
      },
    });
    others = await strayObjects(rows, service.dataDir);
  }, 120_000);
  afterAll(async () => {
    try {
      await service.destroy();
    } finally {
      await relay.close();
      await database.stop();
    }
  }, 60_000);

  /** A crash ends its session too; whoever asks meanwhile waits for the next server. */
  const patiently: Rows = async <T>(sql: string, values: readonly unknown[] = []) => {
    let found: T[] | undefined;
    await eventually(async () => {
      found = await rows<T>(sql, values).catch(() => undefined);
      return found !== undefined;
    }, PATIENCE_MS);
    return found ?? [];
  };
  const versionsOf = async (name: string): Promise<number> => {
    const sql =
      'select count(*)::int as n from key_version join key on id = key_id where name = $1';
    return (await patiently<{ n: number }>(sql, [name]))[0]?.n ?? 0;
  };
  const goesOn = async (name: string) => {
    await untilReady(service);
    await untilRotated(service, [name], 1);
    await freeze(service);
    await expectOnceEach(patiently, service, [name]);
    expect(await strayObjects(patiently, service.dataDir)).toEqual(others);
    expect(await patiently('select object_id from token_intent')).toEqual([]);
  };
  const resume = async () => {
    const { json } = await service.request('GET', '/v1/admin/rotations/pause');
    if (json['paused'] === null) return;
    const headers = { 'If-Match': `"${String(json['revision'])}"` };
    const body = { reason: 'the next test' };
    const resumed = await service.request('POST', '/v1/admin/rotations/resume', body, { headers });
    expect(resumed.status).toBe(200);
  };

  it('after its commit and before the answer: it is not made again, and the scheduler goes on', async () => {
    await makeRuled(service, 'committed', ON_TOKEN);
    const before = await versionsOf('committed');
    await relay.holdAfter(/commit_change/u);
    await eventually(async () => (await versionsOf('committed')) > before);
    process.kill(database.pid(), 'SIGKILL');
    await goesOn('committed');
  }, 120_000);

  it('before its commit: it is made later, once, and leaves no object of the first attempt', async () => {
    await resume();
    await makeRuled(service, 'uncommitted', ON_TOKEN);
    await withClient(database.ownerUrl, async (owner) => {
      owner.on('error', () => undefined);
      const before = await versionsOf('uncommitted');
      await owner.query('begin');
      await owner.query('select pg_advisory_xact_lock(7411)');
      await relay.holdAfter(/commit_change/u);
      expect(await versionsOf('uncommitted')).toBe(before);
      process.kill(database.pid(), 'SIGKILL');
    }).catch(() => undefined);
    await goesOn('uncommitted');
  }, 120_000);
});
