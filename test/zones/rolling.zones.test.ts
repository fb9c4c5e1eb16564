/**
 * Three zones of the release before are replaced one after the other by this tree's, each with a grace, on a
 * replicated database: what one version suspends is so in every zone at once, and nobody has to be fenced.
 */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { readPrevious } from '../rolling/previous.ts';
import { extractRelease, TREE } from '../rolling/release.ts';
import { ZONES } from './cluster.ts';
import type { Zone } from './cluster.ts';
import { Zones } from './zones.ts';

const GRACE_MS = 20_000;
const plaintext = Buffer.from('a data key').toString('base64');

let previous: string;
let zones: Zones;

beforeAll(async () => {
  previous = extractRelease(readPrevious().commit);
  zones = await Zones.up({ TWOFOLD_ZONE_GRACE_MS: String(GRACE_MS) }, previous);
}, 180_000);

afterAll(async () => {
  await zones.down();
  rmSync(previous, { recursive: true, force: true });
}, 60_000);

async function done(zone: Zone, path: string, body: object): Promise<Record<string, unknown>> {
  const { status, json } = await zones.service(zone).request('POST', path, body);
  if (status >= 300) throw new Error(`zone ${String(zone)}: ${path}: ${JSON.stringify(json)}`);
  return json;
}

/** Each zone makes a key, wraps, suspends and resumes; every other one takes part at once. */
async function allAgree(name: string): Promise<void> {
  for (const from of ZONES) {
    const key = `${name}-${String(from)}`;
    await done(from, '/v1/admin/keys', { name: key, suite: 'MLKEM768-P256' });
    const { ciphertext } = await done(from, `/v1/keys/${key}/wrap`, { plaintext });
    const unwrap = `/v1/keys/${key}/unwrap`;
    for (const zone of ZONES)
      expect(await done(zone, unwrap, { ciphertext })).toMatchObject({ plaintext });
    const began = performance.now();
    await done(from, `/v1/admin/keys/${key}/suspend`, { reason: 'a test' });
    // Of no zone was the end of its grace waited for.
    expect(performance.now() - began).toBeLessThan(GRACE_MS / 4);
    for (const zone of ZONES) {
      const { status, json } = await zones.service(zone).request('POST', unwrap, { ciphertext });
      expect([zone, status, json.code]).toEqual([zone, 409, 'version_not_usable']);
    }
    await done(from, `/v1/admin/keys/${key}/resume`, { reason: 'a test' });
    for (const zone of ZONES)
      expect(await done(zone, unwrap, { ciphertext })).toMatchObject({ plaintext });
  }
}

it('are replaced zone by zone, and agree at every step', async () => {
  await allAgree('before');
  zones.site.release = TREE;
  await zones.site.migrate();
  await allAgree('migrated');
  for (const zone of ZONES) {
    await zones.service(zone).stop();
    await zones.service(zone).start();
    await allAgree(`replaced-${String(zone)}`);
  }
  const query = 'select count(*) from public.instance where fenced';
  const command = ['-qXAt', '-v', 'ON_ERROR_STOP=1', zones.cluster.ownerUrl, '-c', query];
  const fenced = execFileSync('psql', command, { encoding: 'utf8' });
  expect(fenced.trim()).toBe('0');
}, 180_000);
