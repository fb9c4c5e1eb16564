/** Where an export begins and ends by times, whatever the order in which the log took its entries. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { AuditLogClient } from '../../src/client/audit-log.ts';
import { ClientError } from '../../src/client/client-error.ts';
import { ExportTarget } from '../../src/client/export-folder.ts';
import { HttpConnection } from '../../src/client/http-connection.ts';
import { newPlan } from '../../src/client/export-plan.ts';
import type { Place } from '../../src/client/export-plan.ts';
import { exportLog } from '../../src/client/log-export.ts';
import { Edge } from '../../src/audit/tree/edge.ts';
import { noteOf } from '../http/log-in-memory.ts';

const NOON = Date.parse('2026-11-29T12:00:00Z');
/** A checkpoint each ten minutes, of 1,000 entries more. */
const CHECKPOINTS = Array.from({ length: 20 }, (_, at) => {
  const size = 1_000 * (at + 1);
  const leaves = Array.from({ length: size }, () => new Uint8Array(32));
  const note = noteOf(Edge.EMPTY.grow(leaves).edge);
  return { size, note, at: new Date(NOON + 600_000 * at).toISOString() };
});

/** @param removed entries that are in cold storage, @param thinned sizes whose checkpoints are gone */
const log = (removed = 0, thinned: readonly number[] = []) => {
  const from = (size: number) =>
    CHECKPOINTS.filter((each) => each.size >= size && !thinned.includes(each.size));
  const client: Pick<
    AuditLogClient,
    'checkpoint' | 'checkpoints' | 'checkpointFrom' | 'isArchived' | 'tile'
  > = {
    checkpoint: () => Promise.resolve(CHECKPOINTS.at(-1)?.note ?? ''),
    checkpointFrom: (size) => Promise.resolve(from(size)[0] ?? null),
    async *checkpoints(size) {
      yield await Promise.resolve(from(size));
    },
    isArchived: (index) => Promise.resolve(index < removed),
    tile: async (name) => {
      const [, level, index, width = '256'] =
        /^tile\/(\w+)\/(\d+)(?:\.p\/(\d+))?$/u.exec(name) ?? [];
      const isGone = level === 'entries' && Number(index) * 256 < removed;
      if (isGone) throw new ClientError('entry_archived', 'It is in the archive.');
      return Promise.resolve(new Uint8Array(32 * Number(width)));
    },
  };
  return client as AuditLogClient;
};

const planned = async (from: Place | null, until: Place | null, removed = 0) => {
  const options = { from, until, settlingMs: 0 };
  const plan = await newPlan(log(removed), options, null, () => Promise.resolve());
  return [plan.from, plan.until];
};

const after = (minutes: number): Date => new Date(NOON + minutes * 60_000);

it('begins with the last whole bundle of what was in the log a minute before', async () => {
  expect(await planned(after(-5), null)).toEqual([0, 20_000]);
  expect(await planned(after(0.5), null)).toEqual([0, 20_000]);
  expect(await planned(after(1.5), null)).toEqual([768, 20_000]);
  expect(await planned(after(65), null)).toEqual([6_912, 20_000]);
  await expect(planned(after(999), null)).rejects.toMatchObject({ code: 'not_found' });
});

it('ends with what was in the log a minute later, or with the newest', async () => {
  expect(await planned(null, after(65))).toEqual([0, 8_000]);
  expect(await planned(null, after(69.5))).toEqual([0, 9_000]);
  expect(await planned(null, after(999))).toEqual([0, 20_000]);
});

it('begins behind cold storage', async () => {
  expect(await planned(after(-5), null, 5_120)).toEqual([5_120, 20_000]);
  expect(await planned(after(65), null, 5_120)).toEqual([6_912, 20_000]);
});

describe('a folder of an export', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-export-plan-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const exporting = async (from: Place | null, of = log()) => {
    const options = { from, until: 7_000, settlingMs: 0 };
    const plan = await exportLog(of, new ExportTarget(folder), options);
    return [plan.from, plan.until];
  };
  const refused = { code: 'invalid_value' };

  it('that could not begin in cold storage is free to begin behind it', async () => {
    const cold = log(5_120);
    await expect(exporting(null, cold)).rejects.toMatchObject({ code: 'entry_archived' });
    expect(existsSync(join(folder, 'export.plan.json'))).toBe(false);
    expect(await exporting(5_120, cold)).toEqual([5_120, 7_000]);
    // Entries of that time stand before it, and they are in cold storage.
    expect(await exporting(after(-5), cold)).toEqual([5_120, 7_000]);
    await expect(exporting(after(-5))).rejects.toMatchObject(refused);
    await expect(exporting(5_376, cold)).rejects.toMatchObject(refused);
    expect(await exporting(null, cold)).toEqual([5_120, 7_000]);
  });

  it('that grows on does so by the time that it was begun with, and by no other', async () => {
    expect(await exporting(after(55))).toEqual([5_888, 7_000]);
    expect(await exporting(after(55))).toEqual([5_888, 7_000]);
    expect(await exporting(after(55), log(0, [6_000]))).toEqual([5_888, 7_000]);
    for (const minutes of [5, 35, 65]) {
      await expect(exporting(after(minutes))).rejects.toMatchObject(refused);
    }
  });
});

const ARCHIVED = {
  type: 'about:blank',
  title: 'The entry is in the archive of the log.',
  status: 410,
  code: 'entry_archived',
  requestId: 'one',
};

it('takes a bundle for one in cold storage of which the row is there that a lane goes on from', async () => {
  const [removed, kept] = [5_120, 2_500];
  // As the service answers: by the rows that are there.
  const server = createServer((request, response) => {
    const { searchParams } = new URL(request.url ?? '', 'http://localhost');
    const from = Number(searchParams.get('from'));
    const asked = Array.from(
      { length: Number(searchParams.get('pageSize')) },
      (_, at) => from + at,
    );
    const isThere = asked.every((index) => index >= removed || index === kept);
    const [status, type] = isThere ? [200, 'json'] : [410, 'problem+json'];
    response.writeHead(status, { 'content-type': `application/${type}` });
    response.end(JSON.stringify(isThere ? { items: [], next: null } : ARCHIVED));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const { port } = server.address() as AddressInfo;
    const url = new URL(`http://127.0.0.1:${String(port)}`);
    const client = new AuditLogClient(new HttpConnection({ url, authorization: () => null }));
    expect(await client.isArchived(kept)).toBe(true);
    expect(await client.isArchived(removed)).toBe(false);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});
