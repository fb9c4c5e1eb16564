import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { verifyExport } from '../../../src/audit/verify/verify.ts';
import { makeLog, trustOf, writeExport } from '../synthetic-log.ts';
import type { Log } from '../synthetic-log.ts';

const root = mkdtempSync(join(tmpdir(), 'audit-verify-'));
let log: Log;

beforeAll(async () => {
  log = await makeLog();
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

describe('an export that nobody touched', () => {
  it('verifies', async () => {
    const folder = join(root, 'whole');
    writeExport(folder, log);
    const report = await verifyExport(folder, { trust: trustOf(log) });
    expect(report.problems).toEqual([]);
    expect(report).toMatchObject({
      verified: true,
      from: 0,
      until: log.bodies.length,
      lanes: 4,
      checkpoints: log.notes.length,
      keySetChanges: 4,
      unchecked: [],
      claim: { against: 'database-writer' },
    });
    expect(report.keyChanges).toBeGreaterThan(40);
  });
});
