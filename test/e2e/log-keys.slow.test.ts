/** A real service rotates the keys of its log: announced, in the tree, and only then in use. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { parseNote, parseVkey, signersOf } from '../../src/audit/notes.ts';
import { withDatabaseOf } from './inspection.ts';
import { TestService } from './service.ts';

interface Key {
  readonly id: string;
  readonly vkey: string;
  readonly state: string;
}

let service: TestService;

beforeAll(async () => {
  service = await TestService.start({ environment: { TWOFOLD_AUDIT_PUBLIC_CHECKPOINT: 'true' } });
}, 90_000);
afterAll(() => service.destroy());

const keys = async (): Promise<readonly Key[]> => {
  const { json, status } = await service.request('GET', '/v1/audit/keys');
  expect(status).toBe(200);
  return json['keys'] as readonly Key[];
};
const ROTATE = '/v1/admin/audit/checkpoint-keys/rotate';
const statesOf = (all: readonly Key[]) => all.map(({ state }) => state);
/** Those whose signatures the public checkpoint has. */
const signers = async (all: readonly Key[]): Promise<string[]> => {
  const { bytes, status } = await service.request('GET', '/public/log/checkpoint', undefined, {
    role: null,
  });
  const note = status === 200 ? parseNote(bytes.toString('utf8')) : null;
  if (note === null) return [];
  const vkeys = all.map(({ vkey }) => parseVkey(vkey)).filter((key) => key !== null);
  const ids = signersOf(note, vkeys).map(({ key }) => key.keyId);
  return all.filter(({ vkey }) => ids.includes(vkey.split('+')[1] ?? '')).map(({ id }) => id);
};
const until = async (what: () => Promise<boolean>): Promise<void> => {
  for (let tries = 0; !(await what()); tries += 1) {
    if (tries > 150) throw new Error('it did not come to that');
    await sleep(100);
  }
};

it('and signs with the new ones once the log has announced them', async () => {
  const before = await keys();
  expect(statesOf(before)).toEqual(['active', 'active']);
  await until(async () => (await signers(before)).length === 2);

  const preview = await service.request('POST', `${ROTATE}?dryRun=true`, { reason: 'r' });
  expect([preview.status, preview.json['keys']]).toEqual([200, []]);
  const { status } = await service.request('POST', ROTATE, { reason: 'r' }, { role: 'operator' });
  expect(status).toBe(403);
  const made = await service.request('POST', ROTATE, { reason: 'The year is over.' });
  expect([made.status, statesOf(made.json['keys'] as Key[])]).toEqual([
    200,
    ['pending', 'pending'],
  ]);
  const again = await service.request('POST', ROTATE, { reason: 'r' });
  expect(again.json.code).toBe('conflict');

  await until(async () => statesOf(await keys()).includes('retiring'));
  const after = await keys();
  expect(statesOf(after)).toEqual(['retiring', 'retiring', 'active', 'active']);
  await service.request('POST', '/v1/random', { bytes: 16 });
  const fresh = after.slice(2).map(({ id }) => id);
  await until(async () =>
    fresh.every((id, index) => id === (made.json['keys'] as Key[])[index]?.id),
  );
  await until(async () => (await signers(after)).join() === fresh.join());
  const said = await withDatabaseOf(service.dataDir, async (client) => {
    const { rows } = await client.query<{ operation: string }>(
      "select operation from public.entry where operation like 'audit.key%' order by at, lane, n",
    );
    return rows.map(({ operation }) => operation);
  });
  expect(said).toEqual(
    expect.arrayContaining(['audit.keys.rotate', 'audit.key.add', 'audit.key.add']),
  );
}, 60_000);
