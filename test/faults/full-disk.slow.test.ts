/** The disk under a data folder full: a small tmpfs, where this user may mount one. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { findEmbedded } from '../../src/store/embedded.ts';
import { TestService } from '../e2e/service.ts';
import { eventually } from '../store/eventually.ts';
import { Load, everythingHasAnIndex, healthOf, untilReady } from './load.ts';

const mount = (folder: string) =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=160m,mode=700', 'tmpfs', folder]).status === 0;
const folder = mkdtempSync(join(tmpdir(), 'twofold-full-'));
const mounted = mount(folder);
if (!mounted) {
  rmSync(folder, { recursive: true });
  process.stderr.write('skipped: this user may mount no tmpfs for a full disk\n');
}

(mounted ? describe : describe.skip)('a full disk under database, log and token', () => {
  let service: TestService;
  beforeAll(async () => {
    service = await TestService.start({ dataDir: folder });
  }, 120_000);
  afterAll(async () => {
    await service.stop();
    await service.destroy().catch(() => undefined);
    spawnSync('umount', [folder]);
    rmSync(folder, { recursive: true, force: true });
  }, 120_000);

  const filler = join(folder, 'filler');

  /** Takes every free byte. */
  function fill(): void {
    const file = openSync(filler, 'w');
    try {
      for (const size of [1_048_576, 4096, 1]) {
        for (;;) {
          try {
            writeSync(file, Buffer.alloc(size));
          } catch {
            break;
          }
        }
      }
    } finally {
      closeSync(file);
    }
    expect(statfsSync(folder).bavail).toBe(0);
  }

  it('is answered with 503, shown, survived, and over when there is room; nothing is lost', async () => {
    const load = new Load(service);
    for (let round = 0; round < 6; round += 1) await load.round();
    expect(load.refusals).toEqual([]);
    fill();
    load.start(2);
    await eventually(async () => load.refusals.length > 5, 120_000);
    const codes = new Set(
      load.refusals.map(({ status, code }) => `${String(status)} ${code ?? ''}`),
    );
    for (const code of codes) {
      expect([
        '503 storage_full',
        '503 database_unavailable',
        '503 audit_unavailable',
        '503 hsm_unavailable',
      ]).toContain(code);
    }
    await eventually(async () => (await healthOf(service)).status === 503, 60_000);
    await sleep(2_000);
    expect(service.running).toBe(true);
    await load.stop();

    rmSync(filler);
    await untilReady(service, 120_000);
    await load.round();
    const owner = findEmbedded(folder)?.ownerUrl ?? '';
    await load.expectKept(owner);
    // The sequencer resumes: every entry of before, of meanwhile and of after gets its index.
    await service.request('GET', '/v1/whoami');
    await eventually(() => everythingHasAnIndex(owner), 60_000);
  }, 300_000);
});
