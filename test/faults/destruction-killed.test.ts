/**
 * Promise P3 for what cannot be undone: a token object goes only after the entry of its destruction is durable.
 * A process is killed with SIGKILL on both sides of that, on a real token and a real database.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { removeOrphans } from '../../src/keyring/orphans.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { makeToken, ROOT } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import { openStoredInstance } from '../keyring/stored-instance.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { auditQuery } from '../store/samples.ts';
import { setWallClock } from '../store/wall-clock.ts';

const CHILD = join(import.meta.dirname, 'destroyer-child.ts');
let database: TestDatabase;
let store: Store;
let fixture: TokenFixture;

beforeAll(async () => {
  database = await startTestDatabase();
  // Its child lives by a clock of its own.
  await setWallClock(database, Infinity);
  store = openStore({ url: database.appUrl });
  fixture = await makeToken();
}, 60_000);
afterAll(async () => {
  await store.close();
  await database.stop();
  fixture.remove();
}, 60_000);

/** Kills it at the point; what it had said by then. */
async function killAt(point: 'before' | 'between'): Promise<Record<string, string>> {
  const args = [CHILD, fixture.folder, database.appUrl, point];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said: Record<string, string> = {};
  for await (const line of createInterface({ input: child.stdout })) {
    said = { ...said, ...(JSON.parse(line) as Record<string, string>) };
    if (said['at'] === point) break;
  }
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
  expect(said).toMatchObject({ at: point, key: expect.any(String) });
  return said;
}

async function entriesOf(keyId: string): Promise<string[]> {
  const { entries } = await store.audit.entries(auditQuery({ keyId, pageSize: 50 }));
  return entries
    .map(({ body }) => decodeEntry(body))
    .map(({ operation, outcome }) => `${operation} ${outcome}`);
}

it('killed between: the entry is there, the object still, and the next start removes it on record', async () => {
  const { key = '', instance = '' } = await killAt('between');
  expect(await entriesOf(key)).toContain('keys.destroy ok');
  const hsm = await fixture.open();
  await hsm.useRoot(ROOT);
  const before = await hsm.tokenKeys(ROOT.installation);
  expect(before).toHaveLength(1);
  // As it is found silent by the others.
  await store.instances.close(instance);
  const next = await openStoredInstance(store, { hsm });
  const recorded: unknown[] = [];
  const { mac, installation } = next.root;
  const counts = await removeOrphans({
    ...{ hsm, store: store.keys, mac, installation },
    record: async (operation, detail) => {
      // Not gone before the entry that says so is durable.
      expect(await hsm.tokenKeys(installation)).toHaveLength(1);
      recorded.push(operation);
      return next.audit.recordOwn(operation, detail);
    },
  });
  expect([counts, recorded]).toEqual([{ removed: 1, refused: 0 }, ['hsm.remove-orphan']]);
  expect(await hsm.tokenKeys(installation)).toEqual([]);
  await next.stop();
  await hsm.close();
}, 120_000);

it('killed before: no entry says that it was destroyed, and the key serves', async () => {
  const { key = '', instance = '' } = await killAt('before');
  expect(await entriesOf(key)).not.toContain('keys.destroy ok');
  const hsm = await fixture.open();
  await hsm.useRoot(ROOT);
  await store.instances.close(instance);
  const next = await openStoredInstance(store, { hsm });
  const { mac, installation } = next.root;
  const record = next.audit.recordOwn.bind(next.audit);
  await removeOrphans({ hsm, store: store.keys, mac, installation, record });
  expect(await hsm.tokenKeys(installation)).toHaveLength(1);
  const { key: row } = await next.keyring.read.get(next.grant('keys.read', key));
  expect([row.destroyedAt, row.destruction === null]).toEqual([null, false]);
  await next.stop();
  await hsm.close();
}, 120_000);
