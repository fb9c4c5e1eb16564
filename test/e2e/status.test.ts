/**
 * The status page of a real service: what it must not show is known here, and is in neither form.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { statusDocument } from '../../src/contract/status.ts';
import { TestService } from './service.ts';

const KEY = 'very-secret-project-name';
/** Of each kind, one after another. */
const USES = 80;

describe('the status of a running service', () => {
  let service: TestService;
  let url: string;
  beforeAll(async () => {
    service = await TestService.start({ environment: { TWOFOLD_ZONE_NAME: 'zone-7' } });
    const { status, json } = await service.request('POST', '/v1/admin/keys', {
      name: KEY,
      suite: 'MLKEM768-P256',
      labels: { team: 'labelled-team' },
    });
    expect([status, json['name']]).toEqual([201, KEY]);
    const body = { plaintext: 'cGxhaW50ZXh0' };
    expect((await service.request('POST', `/v1/keys/${KEY}/wrap`, body)).status).toBe(200);
    url = /^status +(\S+)$/mu.exec(service.output)?.[1] ?? '';
  }, 90_000);
  afterAll(() => service.destroy());

  const shown = async (accept: string) => {
    const response = await fetch(url, { headers: { accept } });
    expect(response.status).toBe(200);
    return response.text();
  };

  it('is of this service', async () => {
    const { json } = await service.request('GET', '/readyz');
    const status = statusDocument.parse(JSON.parse(await shown('application/json')));
    expect(status).toMatchObject({
      mode: 'dev',
      zone: 'zone-7',
      readiness: json,
      hsm: { state: 'ok', custody: 'non-extractable' },
      database: { kind: 'embedded', state: 'ok' },
      audit: { state: 'ok', failures: 0 },
    });
    expect(status.instance).toBe(
      readFileSync(join(service.dataDir, 'instance'), 'utf8').slice(0, 36),
    );
    expect(status.selfTests.length).toBeGreaterThan(10);
    expect(status.audit.uses.durable).toBeGreaterThan(0);
    expect(status.audit.changes.durable).toBeGreaterThan(0);
    expect(status.database.version).toMatch(/^\d+\.\d+/u);
  });

  it('shows in its metrics that the HSM makes the HMAC of an encryption context once', async () => {
    const macs = async () => {
      const text = await (await fetch(new URL('/metrics', url))).text();
      const all = /^twofold_hsm_call_seconds_count\{operation="mac",outcome="ok"\} (\d+)$/mu;
      return Number(all.exec(text)?.[1]);
    };
    const wraps = async (contextOf: (n: number) => string) => {
      const before = await macs();
      for (let n = 0; n < USES; n += 1) {
        const encryptionContext = { job: contextOf(n) };
        const body = { plaintext: 'cGxhaW50ZXh0', encryptionContext };
        const { status } = await service.request('POST', `/v1/keys/${KEY}/wrap`, body);
        expect(status).toBe(200);
      }
      return (await macs()) - before;
    };
    // Each has a batch of audit entries of its own, with its HMAC; and the log goes on beside them, more for slower ones.
    const ofMany = await wraps((n) => `job-${String(n)}`);
    const ofOne: number[] = [];
    for (let slice = 0; slice < 3; slice += 1) ofOne.push(await wraps(() => 'one job'));
    expect(ofMany).toBeGreaterThanOrEqual(2 * USES);
    expect(ofMany - Math.min(...ofOne)).toBeGreaterThan(USES / 2);
  });

  it('names no key, label, caller, token, serial, PIN, path or address', async () => {
    const [, label = '', serial = ''] = /^token +(\S+) .*serial (\w+)/mu.exec(service.output) ?? [];
    const { json: whoami } = await service.request('GET', '/v1/whoami');
    const hsm = join(service.dataDir, 'hsm');
    const pins = readdirSync(hsm).filter((name) => name.endsWith('pin'));
    const hidden = [
      KEY,
      'labelled-team',
      label,
      serial,
      String(whoami['subject']),
      String(whoami['issuer']),
      await service.token('admin'),
      service.dataDir,
      'postgres:',
      'postgresql:',
      ...pins.map((name) => readFileSync(join(hsm, name), 'utf8').trim()),
    ];
    expect(pins.length).toBeGreaterThan(0);
    const said = `${await shown('text/html')}\n${await shown('application/json')}`;
    for (const text of hidden) {
      expect(text.length).toBeGreaterThan(3);
      expect({ text, said: said.includes(text) }).toEqual({ text, said: false });
    }
  });
});
