/** Ctrl-C, the start after it, and a copy of the folder at another place. */
import { once } from 'node:events';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { brokenChains } from '../audit/instances.ts';
import { entriesAfter, withDatabaseOf } from './inspection.ts';
import { killAll, leftOf } from './processes.ts';
import { TestService } from './service.ts';
import type { Answer } from './service.ts';

const plaintext = Buffer.from('a data key of a checkpoint').toString('base64');
const SUITES = ['MLKEM768-P256', 'MLKEM768-X25519', 'A256GCM'];

let folder: string;
let dataDir: string;
let service: TestService;
/** By key name. */
const ciphertexts = new Map<string, string>();
const answered: Answer[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-stop-'));
  dataDir = join(folder, 'data');
  service = await TestService.start({ dataDir, detached: true });
}, 120_000);

afterAll(async () => {
  await killAll(folder);
  rmSync(folder, { recursive: true, force: true });
});

const adminToken = (): string => readFileSync(join(dataDir, 'admin.token'), 'utf8');

async function unwrapAll(at: TestService): Promise<void> {
  expect(ciphertexts.size).toBe(SUITES.length);
  for (const [name, ciphertext] of ciphertexts) {
    const { json } = await at.request('POST', `/v1/keys/${name}/unwrap`, { ciphertext });
    expect(json).toMatchObject({ plaintext, origin: 'service' });
  }
}

describe('stop and start', () => {
  it('Ctrl-C answers what is under way, writes the last entries and leaves nothing running', async () => {
    for (const [index, suite] of SUITES.entries()) {
      const name = `key-${index}`;
      await service.request('POST', '/v1/admin/keys', { name, suite });
      const { json } = await service.request('POST', `/v1/keys/${name}/wrap`, { plaintext });
      ciphertexts.set(name, String(json['ciphertext']));
    }
    const requests = Array.from({ length: 30 }, async (_, index) => {
      const body = { name: `late-${index}`, suite: 'MLKEM768-P256' };
      const answer = await service.request('POST', '/v1/admin/keys', body);
      answered.push(answer);
      return answer.status;
    });
    // One has been answered, so all were read: they were sent together.
    while (answered.length === 0) await sleep(1);
    const ended = once(service.child, 'exit');
    process.kill(-service.pid, 'SIGINT');
    process.kill(-service.pid, 'SIGINT');
    const statuses = await Promise.all(requests);
    expect([...new Set(statuses)].filter((status) => status !== 503)).toEqual([201]);
    expect(await ended).toEqual([0, null]);
    expect(await leftOf(dataDir, 0)).toEqual([]);
    const complaints = service.log
      .split('\n')
      .filter((line) => line.includes('"component":"database"') && !line.includes('"info"'));
    expect(complaints).toEqual([]);
  }, 120_000);

  it('the next start is quick, renews the admin token and has everything', async () => {
    const before = adminToken();
    const began = performance.now();
    service = await TestService.start({ dataDir, detached: true });
    const milliseconds = Math.round(performance.now() - began);
    process.stdout.write(`second start: ready after ${milliseconds} ms\n`);
    expect(milliseconds).toBeLessThan(15_000);
    expect(adminToken()).not.toBe(before);
    const header = readFileSync(join(dataDir, 'admin.header'), 'utf8').trim();
    const headers = { Authorization: header.slice(header.indexOf(' ') + 1) };
    const whoami = await service.request('GET', '/v1/whoami', undefined, { role: null, headers });
    expect(whoami.json).toMatchObject({ roles: ['admin'] });
    await unwrapAll(service);
  }, 120_000);

  it('the log of the stopped instance is whole, and closed by its last entries', async () => {
    const [entries, lanes] = await withDatabaseOf(dataDir, async (client) => {
      const { rows } = await client.query<{ id: number; kind: string }>(
        'select l.id, l.kind from public.lane l join public.instance i on i.id = l.instance where l.closed and i.closed',
      );
      return [await entriesAfter(client, 0), rows] as const;
    });
    expect(brokenChains(entries)).toEqual([]);
    expect(lanes.map(({ kind }) => kind).toSorted()).toEqual(['change', 'use']);
    for (const { id, kind } of lanes) {
      const last = entries.findLast(({ lane }) => lane === id);
      expect(last?.operation).toBe(kind === 'use' ? 'system.stop' : 'lane.close');
    }
    const outcomes = new Map(entries.map(({ id, outcome }) => [id, outcome]));
    for (const answer of answered.filter(({ status }) => status === 201)) {
      expect(outcomes.get(answer.headers.get('Twofold-Audit-Id') ?? '')).toBe('ok');
    }
  });

  it('a copy of the folder at another place opens everything', async () => {
    expect(await service.stop()).toBe(0);
    const copy = join(folder, 'restored');
    cpSync(dataDir, copy, { recursive: true });
    rmSync(dataDir, { recursive: true });
    service = await TestService.start({ dataDir: copy, detached: true });
    await unwrapAll(service);
    expect(await service.stop()).toBe(0);
    expect(await leftOf(folder)).toEqual([]);
  }, 120_000);
});
