import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from '@jest/globals';
import { lockDataFolder } from '../../src/data-folder.ts';
import { startEmbedded } from '../../src/store/embedded.ts';
import { createPool } from '../../src/store/pool.ts';
import { processesIn, seeded, startChild } from './embedded-harness.ts';

const ROUNDS = 25;

/** How long an undisturbed first start takes on this machine now, so that every part of it is hit. */
const timeOfOneStart = async (): Promise<number> => {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-kill-'));
  const from = performance.now();
  const child = startChild(folder);
  await child.ready;
  const milliseconds = performance.now() - from;
  await child.kill();
  await (await startEmbedded({ dataDir: folder })).stop();
  rmSync(folder, { recursive: true });
  return milliseconds;
};

it(`completes ${ROUNDS} first starts that were killed at random moments`, async () => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
  console.log(`kill -9 during the first start: seed ${seed}`);
  const random = seeded(seed);
  const wholeStart = await timeOfOneStart();
  for (let round = 0; round < ROUNDS; round += 1) {
    const folder = mkdtempSync(join(tmpdir(), 'twofold-kill-'));
    const child = startChild(folder);
    await sleep(random() * 1.1 * wholeStart);
    await child.kill();
    const lock = await lockDataFolder(folder);
    const database = await startEmbedded({ dataDir: folder });
    const pool = createPool({ url: database.appUrl, connectDeadlineMs: 15_000 });
    const { rows } = await pool.query<{ one: number }>('select 1 as one');
    expect(rows).toEqual([{ one: 1 }]);
    await pool.end();
    await database.stop();
    lock.release();
    expect(readdirSync(folder).filter((name) => name.startsWith('db.new'))).toEqual([]);
    expect(processesIn(folder)).toEqual([]);
    rmSync(folder, { recursive: true });
  }
}, 300_000);
