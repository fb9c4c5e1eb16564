/** A real service on a database that was rolled back: refused, until its operator names what is lost. */
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { parseNote } from '../../src/audit/notes.ts';
import { formatVkey, makeVkey } from '../../src/audit/tree/vkey.ts';
import { withDatabaseOf } from './inspection.ts';
import { TestService } from './service.ts';

let service: TestService;

beforeAll(async () => {
  service = await TestService.start({ ready: true });
}, 90_000);
afterAll(() => service.destroy());

const DATABASE = 'db';
const saved = () => join(service.dataDir, 'saved-database');
const sizeIn = (file: string): number => {
  try {
    return parseNote(readFileSync(file, 'utf8'))?.checkpoint.size ?? -1;
  } catch {
    return 0;
  }
};
/** Until the folder remembers a checkpoint of more entries than this. */
const remembered = async (above: number, file = join(service.dataDir, 'checkpoint')) => {
  for (let tries = 0; tries < 150; tries += 1) {
    if (sizeIn(file) > above) return sizeIn(file);
    await sleep(100);
  }
  throw new Error(`nothing above ${String(above)} was remembered`);
};
const use = () => service.request('POST', '/v1/random', { bytes: 16 });
const restart = async (environment: Record<string, string> = {}, ready = true) => {
  service = await TestService.start({ dataDir: service.dataDir, environment, ready });
};
const refused = async (environment: Record<string, string> = {}): Promise<string> => {
  await restart(environment, false);
  await service.untilOutput(/rolled back/u);
  while (service.running) await sleep(20);
  return service.output;
};

it('is refused at the start, and accepted under its very name alone', async () => {
  await use();
  const before = await remembered(0);
  await service.stop();
  cpSync(join(service.dataDir, DATABASE), saved(), { recursive: true });

  await restart();
  await use();
  const after = await remembered(before);
  await service.stop();
  rmSync(join(service.dataDir, DATABASE), { recursive: true });
  cpSync(saved(), join(service.dataDir, DATABASE), { recursive: true });

  const output = await refused();
  expect(output).toContain(`with ${String(sizeIn(join(service.dataDir, 'checkpoint')))} entries`);
  const [hash = ''] = /\b[0-9a-f]{64}\b/u.exec(output) ?? [];
  const accept = (checkpoint: string) => ({
    TWOFOLD_AUDIT_ACCEPT_ROLLBACK_CHECKPOINTS: JSON.stringify([checkpoint]),
    TWOFOLD_AUDIT_ACCEPT_ROLLBACK_REASON: 'a disk was lost',
  });
  await refused(accept('0'.repeat(64)));

  await restart(accept(hash));
  const names = readdirSync(service.dataDir);
  expect(names.filter((name) => name.startsWith('checkpoint.given-up-'))).toHaveLength(1);
  const said = await withDatabaseOf(service.dataDir, async (client) => {
    const { rows } = await client.query(
      "select from public.entry where operation = 'audit.rollback.accept'",
    );
    return rows.length;
  });
  expect(said).toBe(1);
  expect(after).toBeGreaterThan(before);
  await service.stop();

  // The same word is none about what came after, and the log goes on.
  await restart(accept(hash));
  await use();
  await remembered(before);
  await service.stop();
}, 180_000);

const vkeysOf = async (of: TestService): Promise<string[]> =>
  withDatabaseOf(of.dataDir, async (client) => {
    const { rows } = await client.query<{ origin: string; kind: string; public_key: Buffer }>(
      'select origin, kind, public_key from public.log_key cross join public.log_name',
    );
    return rows.map(({ origin, kind, public_key }) =>
      formatVkey(makeVkey(origin, kind === 'ed25519' ? 0x01 : 0x06, public_key)),
    );
  });

/** What the log of a service says of it as a witness. */
const witnessing = async (of: TestService): Promise<{ port: number; vkeys: string[] }> => {
  for (;;) {
    const line = of.log.split('\n').find((text) => text.includes('this instance is a witness'));
    if (line !== undefined) return JSON.parse(line) as { port: number; vkeys: string[] };
    await sleep(50);
  }
};

it('is refused by what a witness of another service cosigned, and by a published copy', async () => {
  await restart();
  await use();
  const before = await remembered(0);
  const witness = await TestService.start({
    environment: {
      TWOFOLD_AUDIT_WITNESS_NAME: 'witness.example/w',
      TWOFOLD_AUDIT_WITNESS_PORT: '0',
      TWOFOLD_AUDIT_WITNESS_LOGS: JSON.stringify([{ vkeys: await vkeysOf(service) }]),
    },
  });
  try {
    const { port, vkeys } = await witnessing(witness);
    const published = join(service.dataDir, 'published');
    mkdirSync(published);
    const witnesses = [{ url: `http://127.0.0.1:${String(port)}`, vkeys }];
    const outside = {
      TWOFOLD_AUDIT_WITNESSES: JSON.stringify(witnesses),
      TWOFOLD_AUDIT_PUBLISH_TO: JSON.stringify([{ folder: published }]),
    };
    await service.stop();
    rmSync(saved(), { recursive: true, force: true });
    cpSync(join(service.dataDir, DATABASE), saved(), { recursive: true });

    await restart(outside);
    await use();
    await remembered(before, join(published, 'checkpoint'));
    const cosigned = () =>
      withDatabaseOf(service.dataDir, async (client) => {
        const { rows } = await client.query<{ key_id: string; size: string }>(
          'select distinct key_id, max(size) over () as size from public.log_cosignature',
        );
        return rows;
      });
    for (let tries = 0; (await cosigned()).length < 2; tries += 1) {
      if (tries > 100) throw new Error('nothing was cosigned');
      await sleep(100);
    }
    expect(Number((await cosigned())[0]?.size)).toBeGreaterThan(before);
    await service.stop();

    rmSync(join(service.dataDir, DATABASE), { recursive: true });
    cpSync(saved(), join(service.dataDir, DATABASE), { recursive: true });
    rmSync(join(service.dataDir, 'checkpoint'));
    expect(await refused(outside)).toContain(join(published, 'checkpoint'));
    rmSync(join(published, 'checkpoint'));
    expect(await refused(outside)).toContain('has cosigned');
    // Nothing that was seen is left: nobody can know.
    await restart();
  } finally {
    await witness.destroy();
  }
}, 180_000);
