import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { ROOT, temporaryFolder, tokenIn } from './token-fixture.ts';

const CHILD = join(import.meta.dirname, 'first-start-child.ts');
const RUNS = 10;
const KILLS_PER_RUN = 4;

/** Numerical Recipes' linear congruential generator: the seed is printed and repeats the run. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function start(folder: string) {
  // A group of its own: one signal ends it with the ceremony that it started.
  return spawn(process.execPath, [CHILD, folder], { detached: true, stdio: 'pipe' });
}

async function timeOfFirstStart(): Promise<number> {
  const folder = temporaryFolder();
  const begin = performance.now();
  await once(start(folder), 'close');
  rmSync(folder, { recursive: true });
  return performance.now() - begin;
}

/** `whole` kills the ceremony too; otherwise it is left to run on by itself. */
async function startAndKill(folder: string, after: number, whole: boolean): Promise<void> {
  const child = start(folder);
  const closed = once(child, 'exit');
  await Promise.race([delay(after), closed]);
  try {
    if (child.pid !== undefined) process.kill(whole ? -child.pid : child.pid, 'SIGKILL');
  } catch {
    // It had ended before.
  }
  await closed;
}

async function finish(folder: string): Promise<void> {
  const child = start(folder);
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number];
  expect({ code, errors: code === 0 ? '' : errors }).toEqual({ code: 0, errors: '' });
}

describe('a first start that is killed', () => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);

  it(`is completed by the next one, with one root (SEED=${seed})`, async () => {
    process.stdout.write(`ceremony kills: ${RUNS} x up to ${KILLS_PER_RUN}, SEED=${seed}\n`);
    const next = random(seed);
    const duration = await timeOfFirstStart();
    for (let run = 0; run < RUNS; run += 1) {
      const folder = temporaryFolder();
      try {
        for (let kill = Math.floor(next() * KILLS_PER_RUN); kill >= 0; kill -= 1) {
          await startAndKill(folder, next() * duration * 1.1, next() < 0.7);
        }
        await finish(folder);
        await expectOneRoot(folder);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }
  }, 300_000);
});

async function expectOneRoot(folder: string): Promise<void> {
  const home = join(folder, 'hsm');
  expect(readdirSync(join(home, 'tokens'))).toHaveLength(1);
  expect(readdirSync(home).filter((name) => name.startsWith('staging'))).toEqual([]);
  expect(existsSync(join(home, 'ceremony', 'so.pin'))).toBe(true);
  const hsm = await (await tokenIn(folder, false)).open({ workers: 1 });
  try {
    expect(await hsm.roots()).toEqual([ROOT]);
    await hsm.useRoot(ROOT);
    expect(hsm.status()).toMatchObject({ ready: true, custody: 'non-extractable' });
    const spec = { kind: 'aes', bits: 256 } as const;
    const material = await hsm.generate(spec, { custody: 'hsm-wrapped' });
    const key = { id: 'after', spec, material };
    const sealed = await hsm.encrypt(key, Buffer.from('x'), Buffer.from('y'));
    expect((await hsm.decrypt(key, sealed, Buffer.from('y'))).length).toBe(1);
  } finally {
    await hsm.close();
  }
}
