/** What conformance runs leave on a token when they are stopped, killed or run beside each other. */
import { readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { RUN_LABEL } from '../../src/hsm/conformance-objects.ts';
import type { ConformanceReportFile } from '../../src/main/conformance-report.ts';
import { temporaryFolder, tokenIn } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import { conformance, objectFiles, started } from './conformance-runs.ts';

/** A token without a root, so that a run makes one. */
let bare: TokenFixture;
let jsonFile: string;
const FAST = ['--yes', '--no-speed'];

beforeAll(async () => {
  bare = await tokenIn(temporaryFolder(), false);
  jsonFile = join(bare.folder, 'report.json');
}, 60_000);
beforeEach(() => rmSync(jsonFile, { force: true }));
afterAll(() => bare.remove());

async function untilObjects(token: TokenFixture): Promise<void> {
  for (let tries = 0; objectFiles(token).length === 0; tries += 1) {
    if (tries > 1_000) throw new Error('the run made no token object');
    await delay(10);
  }
}

describe('a conformance run', () => {
  it('removes its objects after SIGINT', async () => {
    const run = started({ token: bare });
    await untilObjects(bare);
    run.kill('SIGINT');
    const status = await new Promise((resolve) => run.once('exit', resolve));
    expect(status).toBe(130);
    expect(objectFiles(bare)).toEqual([]);
  }, 60_000);

  it('says what it could not remove after SIGINT, which the next run does', async () => {
    const run = started({ token: bare });
    const closed = new Promise((resolve) => run.once('close', resolve));
    await untilObjects(bare);
    const away = `${bare.token.pinFile}.away`;
    renameSync(bare.token.pinFile, away);
    run.kill('SIGINT');
    expect(await closed).toBe(1);
    renameSync(away, bare.token.pinFile);
    expect(objectFiles(bare).length).toBeGreaterThan(0);
    expect(conformance([...FAST], { token: bare }).status).toBe(0);
    expect(objectFiles(bare)).toEqual([]);
  }, 60_000);

  it('removes at its start what a killed run left', async () => {
    const killed = started({ token: bare });
    await untilObjects(bare);
    killed.kill('SIGKILL');
    await new Promise((resolve) => killed.once('exit', resolve));
    expect(objectFiles(bare).length).toBeGreaterThan(0);
    const { status } = conformance([...FAST, '--json', jsonFile], { token: bare });
    expect(status).toBe(0);
    const report = JSON.parse(readFileSync(jsonFile, 'utf8')) as ConformanceReportFile;
    expect(report.objects).toMatchObject({ before: 0, after: 0, unchanged: true });
    expect(report.objects.leftovers).toBeGreaterThan(0);
    expect(objectFiles(bare)).toEqual([]);
  }, 60_000);

  it('leaves alone what a run beside it made, and that one passes', async () => {
    const beside = started({ token: bare });
    const ended = new Promise((resolve) => beside.once('exit', resolve));
    await untilObjects(bare);
    expect(conformance([...FAST, '--json', jsonFile], { token: bare }).status).toBe(0);
    const report = JSON.parse(readFileSync(jsonFile, 'utf8')) as ConformanceReportFile;
    expect(report.objects.leftovers).toBe(0);
    expect(await ended).toBe(0);
    expect(objectFiles(bare)).toEqual([]);
  }, 60_000);

  it('leaves alone what only looks like its own', async () => {
    const hsm = await bare.open({ tokenKeyLabel: `${RUN_LABEL}mine` });
    const objectId = new Uint8Array(37).fill(7);
    const spec = { kind: 'x25519', use: 'derive' } as const;
    const material = await hsm.generate(spec, { custody: 'hsm-token', objectId });
    expect(objectFiles(bare)).toHaveLength(1);
    expect(conformance(FAST, { token: bare }).status).toBe(0);
    expect(objectFiles(bare)).toHaveLength(1);
    if (material.custody === 'hsm-token') await hsm.destroyTokenKey(material);
    await hsm.close();
  }, 60_000);
});
