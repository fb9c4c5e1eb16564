/**
 * kill -9 in the middle of imports, and a token that goes away: what was acknowledged is there and serves, what
 * is not there can be sent again, no parameters serve twice, and the token holds nothing that no row names.
 */
import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { HttpConnection } from '../../src/client/http-connection.ts';
import { materialFor, prepareImport, suiteOf } from '../../src/client/key-import.ts';
import { Load, untilFailing, untilReady } from '../faults/load.ts';
import { eventually } from '../store/eventually.ts';
import { seeded } from '../store/embedded-harness.ts';
import { openTokenOf, strayTokenObjects, withDatabaseOf } from './inspection.ts';
import { testSeed } from './kill-driver.ts';
import { TestService } from './service.ts';

/** Kills; TWOFOLD_IMPORT_KILLS asks for more. */
const ROUNDS = Number(process.env['TWOFOLD_IMPORT_KILLS'] ?? 5);
const IMPORTS = 4;
const PATH = '/v1/admin/imports';
const MESSAGE = Buffer.from('signed inside').toString('base64');

let service: TestService;
beforeAll(async () => {
  service = await TestService.start();
}, 90_000);
afterAll(() => service.destroy());

interface Prepared {
  readonly name: string;
  readonly body: Readonly<Record<string, unknown>>;
  /** PEM. */
  readonly publicKey: string;
  readonly digest: string | null;
}

/** Alternately of a key for the HSM and of a seed. */
async function prepare(count: number, prefix: string): Promise<readonly Prepared[]> {
  const token = await service.token('admin');
  const connection = new HttpConnection({
    url: new URL(service.url),
    authorization: () => `Bearer ${token}`,
  });
  const made = Array.from({ length: count }, async (_, index) => {
    const classical = index % 2 === 0;
    const pair = classical
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : generateKeyPairSync('ml-dsa-44');
    const suite = suiteOf(classical ? 'ECDSA-P256-SHA256' : 'ML-DSA-44');
    const name = `${prefix}-${String(index)}`;
    const material = await materialFor(suite, { kind: 'pair', key: pair.privateKey });
    const { body } = await prepareImport(connection, 'default', { name }, material);
    const publicKey = pair.publicKey.export({ format: 'pem', type: 'spki' });
    return { name, body, publicKey, digest: classical ? 'sha256' : null };
  });
  try {
    return await Promise.all(made);
  } finally {
    connection.close();
  }
}

const there = async (name: string) =>
  (await service.request('GET', `/v1/keys/${name}`)).status === 200;

async function serves({ name, publicKey, digest }: Prepared): Promise<boolean> {
  const { json } = await service.request('POST', `/v1/keys/${name}/sign`, { message: MESSAGE });
  const signature = Buffer.from(String(json['signature']), 'base64');
  const message = Buffer.from(MESSAGE, 'base64');
  return verify(digest, message, createPublicKey(publicKey), signature);
}

/** Under a second name, with the same parameters. */
const sendAs = (name: string, { body }: Prepared) =>
  service.request('POST', PATH, { ...body, name });

async function rowsOf(): Promise<{ keys: number; used: number }> {
  return withDatabaseOf(service.dataDir, async (client) => {
    const { rows } = await client.query<{ keys: number; used: number }>(
      `select (select count(*)::int from public.key where origin = 'imported') as keys,
        (select count(*)::int from public.used_import) as used`,
    );
    return rows[0] ?? { keys: -1, used: -1 };
  });
}

describe('an import', () => {
  it('that is killed is there whole or not at all', async () => {
    const random = seeded(testSeed());
    // Kills fall before, into and after what as many imports take here, which differs from host to host.
    const unhurt = await prepare(IMPORTS, 'r0');
    const sending = performance.now();
    for (const { status } of await Promise.all(unhurt.map((each) => sendAs(each.name, each)))) {
      expect(status).toBe(201);
    }
    const latest = 1.5 * (performance.now() - sending);
    const counts = { acknowledged: 0, unanswered: 0, lost: 0 };
    for (let round = 1; round <= ROUNDS; round += 1) {
      const prepared = await prepare(IMPORTS, `r${String(round)}`);
      const answers = prepared.map((each) =>
        Promise.all(
          // Two at once of one pair of parameters.
          [each.name, `${each.name}-again`].map((name) =>
            sendAs(name, each).then(
              ({ status }) => status,
              () => 0,
            ),
          ),
        ),
      );
      await sleep(random() * latest);
      await service.kill();
      const answered = await Promise.all(answers);
      service = await TestService.start({ dataDir: service.dataDir });
      for (const [index, each] of prepared.entries()) {
        const statuses = answered[index] ?? [];
        const names = [each.name, `${each.name}-again`];
        const found = (await Promise.all(names.map(there))).map((is, at) =>
          is ? names[at] : null,
        );
        const [name, second] = found.filter((one) => one !== null);
        expect(second).toBeUndefined();
        // What was acknowledged is kept.
        for (const [at, status] of statuses.entries())
          if (status === 201) expect(name).toBe(names[at]);
        if (statuses.includes(201)) counts.acknowledged += 1;
        else if (name === undefined) counts.lost += 1;
        else counts.unanswered += 1;
        const again = await sendAs(`${each.name}-later`, each);
        const expected = name === undefined ? [201, undefined] : [409, 'import_parameters_used'];
        expect([again.status, again.json.code]).toEqual(expected);
        expect(await serves({ ...each, name: name ?? `${each.name}-later` })).toBe(true);
      }
      const { keys, used } = await rowsOf();
      expect([keys, used]).toEqual([IMPORTS * (round + 1), IMPORTS * (round + 1)]);
    }
    process.stdout.write(`${JSON.stringify({ rounds: ROUNDS, ...counts })}\n`);
    const hsm = await openTokenOf(service.dataDir);
    try {
      const stray = await withDatabaseOf(service.dataDir, (client) =>
        strayTokenObjects(client, hsm),
      );
      expect(stray).toEqual([]);
    } finally {
      await hsm.close();
    }
  }, 240_000);

  it('without a token is refused, has used nothing up, and succeeds when the token is back', async () => {
    const [first, second] = await prepare(2, 'away');
    if (first === undefined || second === undefined) throw new Error('nothing was prepared');
    const tokens = join(service.dataDir, 'hsm', 'tokens');
    renameSync(tokens, `${tokens}.away`);
    mkdirSync(tokens);
    // A token that nobody asks is not missed.
    const load = new Load(service, 'beside');
    load.start(2);
    await untilFailing(service, 'hsm', 60_000);
    for (const each of [first, second]) {
      const refused = await sendAs(each.name, each);
      expect(refused.status).toBe(503);
    }
    rmSync(tokens, { recursive: true });
    renameSync(`${tokens}.away`, tokens);
    await untilReady(service);
    await load.stop();
    for (const each of [first, second]) {
      // Its audit lane goes on once the token does.
      await eventually(async () => (await sendAs(each.name, each)).status === 201, 30_000);
      expect(await serves(each)).toBe(true);
    }
  }, 180_000);
});
