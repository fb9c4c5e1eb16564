import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

import { afterAll, afterEach, describe, expect, it } from '@jest/globals';

import { createPortableEngine } from '../../src/crypto/portable-engine.ts';
import { PortablePool } from '../../src/crypto/portable-pool.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import type { ExpandJob } from '../../src/crypto/portable-jobs.ts';
import type { PortablePoolOptions } from '../../src/crypto/portable-pool.ts';

const folder = mkdtempSync(join(tmpdir(), 'twofold-pool-'));
afterAll(() => rmSync(folder, { recursive: true }));

const pools: PortablePool[] = [];
afterEach(async () => {
  for (const pool of pools.splice(0)) await pool.close();
});

function openPool(options?: PortablePoolOptions): PortablePool {
  const pool = new PortablePool(options);
  pools.push(pool);
  return pool;
}

/** A thread that answers a job by what its seed begins with: 1 a reply, 2 a crash, else never. */
const ENTRY = join(folder, 'entry.mjs');
writeFileSync(
  ENTRY,
  `import { parentPort } from 'node:worker_threads';
parentPort.on('message', ({ secret }) => {
  if (secret[0] === 2) throw new Error('crashed');
  if (secret[0] !== 1) return;
  const result = { publicKey: secret.slice(), secretKey: new Uint8Array(1) };
  parentPort.postMessage({ result });
});
`,
);
const entry = pathToFileURL(ENTRY);
const [REPLY, CRASH, NEVER] = [1, 2, 3];

const short = (first = REPLY): ExpandJob & { secret: Uint8Array } => ({
  kind: 'expand',
  set: 'ML-DSA-44',
  secret: new Uint8Array(32).fill(first),
});
const long = (first = REPLY): ExpandJob & { secret: Uint8Array } => ({
  ...short(first),
  set: 'SLH-DSA-SHA2-128s',
});

describe('the threads of the portable engine', () => {
  it('start with the first job, and only as many as are needed', async () => {
    const pool = openPool({ entry });
    expect(pool.threads).toBe(0);
    await pool.run(short());
    await pool.run(short());
    expect(pool.threads).toBe(1);
  });

  it('take the secret with them: no copy of it is left behind', async () => {
    const job = short();
    const running = openPool({ entry }).run(job);
    expect(job.secret).toHaveLength(0);
    await running;
  });

  it('leave one thread to short jobs however many long ones there are', async () => {
    const pool = openPool({ entry });
    const stuck = Promise.allSettled([pool.run(long(NEVER)), pool.run(long(NEVER))]);
    expect((await pool.run(short())).publicKey[0]).toBe(REPLY);
    await pool.close();
    const ended = {
      status: 'rejected',
      reason: expect.objectContaining({ code: 'shutting_down' }),
    };
    expect(await stuck).toEqual([ended, ended]);
  });

  it('keep a line for short jobs however many long ones wait', async () => {
    const pool = openPool({ entry, waiting: 2 });
    const stuck = Promise.allSettled(Array.from({ length: 3 }, () => pool.run(long(NEVER))));
    await expect(pool.run(long(NEVER))).rejects.toMatchObject({ code: 'rate_limited' });
    const answers = await Promise.all([pool.run(short()), pool.run(short()), pool.run(short())]);
    expect(answers.map(({ publicKey }) => publicKey[0])).toEqual([REPLY, REPLY, REPLY]);
    await pool.close();
    await stuck;
  });

  it('refuse the job that would wait behind too many, and wipe its secret', async () => {
    const pool = openPool({ entry, waiting: 1 });
    const stuck = Promise.allSettled([pool.run(long(NEVER)), pool.run(long(NEVER))]);
    const refused = long();
    await expect(pool.run(refused)).rejects.toMatchObject({ code: 'rate_limited', retryAfter: 1 });
    expect([...refused.secret]).toEqual(new Array(32).fill(0));
    expect((await pool.run(short())).publicKey[0]).toBe(REPLY);
    await pool.close();
    await stuck;
  });

  it('are replaced when they crash: the job fails, the next one runs', async () => {
    const pool = openPool({ entry });
    const crashed = pool.run(long(CRASH));
    const behind = pool.run(long());
    await expect(crashed).rejects.toMatchObject({
      code: 'internal',
      cause: expect.objectContaining({ message: 'crashed' }) as unknown,
    });
    expect((await behind).publicKey[0]).toBe(REPLY);
  });

  it('take nothing after the close, and wipe what they refuse', async () => {
    const pool = openPool({ entry });
    await pool.close();
    const job = short();
    await expect(pool.run(job)).rejects.toMatchObject({ code: 'shutting_down' });
    expect(job.secret[0]).toBe(0);
    expect(pool.threads).toBe(0);
  });

  it('hand on what the library throws as internal', async () => {
    const job = { ...short(), secret: new Uint8Array(31) };
    await expect(openPool().run(job)).rejects.toMatchObject({ code: 'internal' });
  });

  it('do not keep the process alive, idle or busy', async () => {
    const engine = new URL('../../src/crypto/portable-engine.ts', import.meta.url).href;
    const script = `
      import { portableEngine } from ${JSON.stringify(engine)};
      const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
      const timer = setInterval(() => {}, 1000);
      await portableEngine.signatures.generate('ML-DSA-44');
      clearInterval(timer);
      void portableEngine.signatures.generate('SLH-DSA-SHAKE-192s');
      await sleep(50);
      process.stdout.write('end');`;
    const options = { timeout: 30_000 };
    const file = join(folder, 'script.mjs');
    writeFileSync(file, script);
    const { stdout } = await promisify(execFile)(process.execPath, [file], options);
    expect(stdout).toBe('end');
  });
});

describe('a signing key of the portable engine', () => {
  const MESSAGE = Uint8Array.of(1);
  const NONE = new Uint8Array(0);

  it('expands its seed again after an attempt that found no free thread', async () => {
    const pool = openPool({ waiting: 0 });
    const { signatures } = createPortableEngine(pool);
    const seed = SecretBytes.own(new Uint8Array(48).fill(7));
    const busy = signatures.importSeed('SLH-DSA-SHA2-128f', seed);
    const waits = signatures.importSeed('SLH-DSA-SHA2-128f', seed);
    const first = busy.sign(MESSAGE, NONE);
    await expect(waits.sign(MESSAGE, NONE)).rejects.toMatchObject({ code: 'rate_limited' });
    await first;
    const signature = await waits.sign(MESSAGE, NONE);
    const publicKey = await signatures.publicKey('SLH-DSA-SHA2-128f', seed);
    const verified = signatures.verify('SLH-DSA-SHA2-128f', publicKey, MESSAGE, signature, NONE);
    expect(await verified).toBe(true);
  });

  it('signs no more after its release, before the first signature or during the expansion', async () => {
    const { signatures } = createPortableEngine(openPool());
    const seed = SecretBytes.own(new Uint8Array(48).fill(7));
    const unused = signatures.importSeed('SLH-DSA-SHA2-128f', seed);
    unused.release();
    await expect(unused.sign(MESSAGE, NONE)).rejects.toThrow('release');
    const used = signatures.importSeed('SLH-DSA-SHA2-128f', seed);
    const under = used.sign(MESSAGE, NONE);
    used.release();
    await Promise.allSettled([under]);
    await expect(used.sign(MESSAGE, NONE)).rejects.toThrow('release');
  });
});
