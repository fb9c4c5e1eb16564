/** A token that hangs, worker threads that end, and what the attachment makes of both. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Attachment } from '../../src/hsm/attachment.ts';
import type { AttachmentOptions } from '../../src/hsm/attachment.ts';
import { exportSofthsmConf, LoadedModule } from '../../src/hsm/module.ts';
import { PinFile, pinScope } from '../../src/hsm/pin.ts';
import { CRASH, Orders } from './cryptoki-hook.ts';
import { makeToken } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';
import { stopwatch } from '../waited.ts';

const HOOK = new URL('./cryptoki-hook.ts', import.meta.url).href;
const CHILD = join(import.meta.dirname, 'hung-child.ts');

let pattern: TokenFixture;
let fixture: TokenFixture;
let orders: Orders;
let lines: string[];
let attachment: Attachment;
/** To be closed after the test. */
const attachments: Attachment[] = [];

async function attach(
  hook: string = HOOK,
  change: Partial<AttachmentOptions> = {},
): Promise<Attachment> {
  const { module, pinFile, stateDir, softhsmConf, tokenLabel: label } = fixture.token;
  await exportSofthsmConf(softhsmConf);
  const note = (_: object, message: string) => void lines.push(message);
  const data = orders.memory;
  attachment = new Attachment({
    module: LoadedModule.load(module),
    worker: { module, tokenSelector: { label }, handleLimit: 8, hook: { url: hook, data } },
    workers: 2,
    pinFile: new PinFile(pinFile, stateDir, pinScope(module, { label })),
    log: { info: note, warn: note, error: note },
    onWorkers: () => undefined,
    ...change,
  });
  attachments.push(attachment);
  return attachment;
}

async function until(condition: () => boolean, milliseconds = 25_000): Promise<void> {
  const limit = Date.now() + milliseconds;
  while (!condition()) {
    if (Date.now() > limit) throw new Error(`not within ${milliseconds} ms`);
    await delay(20);
  }
}

const seen = (message: string) => lines.filter((line) => line === message).length;

beforeAll(async () => {
  pattern = await makeToken();
});
beforeEach(async () => {
  fixture = await makeToken(pattern);
  orders = new Orders();
  lines = [];
});
afterEach(async () => {
  if (attachments.length > 0) await attachments.pop()?.close();
  fixture.remove();
});
afterAll(() => pattern.remove());

describe('a token that hangs', () => {
  it('does not hold up a start, and is taken up when it answers', async () => {
    orders.hang('C_Login', 6_000);
    const elapsed = stopwatch();
    const { status } = await attach(HOOK, { patienceMs: 1_000 }).then(async (one) => {
      await one.start();
      return { status: one.status() };
    });
    expect(elapsed()).toBeLessThan(4_500);
    expect(status).toMatchObject({ ready: false, detail: 'the HSM does not answer' });
    orders.hang('C_Login', 0);
    await until(() => attachment.status().ready);
    // Nothing was asked of it again while it hung.
    expect(orders.calls('C_Login')).toBeLessThanOrEqual(2);
  });

  it.each(['opening', 'working'])(
    'does not hold up a stop, nor keep a process that has stopped, while %s',
    async (when) => {
      const child = spawn(process.execPath, [CHILD, fixture.folder, when]);
      const elapsed = stopwatch();
      const [output] = (await once(child.stdout, 'data')) as [Buffer];
      expect(output.toString()).toBe('stopped\n');
      const [, signal] = (await once(child, 'exit')) as [number | null, string | null];
      expect(signal).toBe('SIGTERM');
      expect(elapsed()).toBeLessThan(20_000);
    },
    30_000,
  );
});

describe('worker threads that end', () => {
  it('are replaced with growing pauses', async () => {
    // No such module: each worker ends as soon as it runs.
    await attach(new URL('./no-such-hook.ts', import.meta.url).href);
    await attachment.start();
    expect(attachment.status().ready).toBe(false);
    await delay(2_500);
    expect(seen('an HSM worker ended and is replaced')).toBeGreaterThanOrEqual(2);
    expect(seen('an HSM worker ended and is replaced')).toBeLessThanOrEqual(2 * 8);
  });

  it('do not end at once again and again although each opening succeeds', async () => {
    await attach();
    await attachment.start();
    await until(() => attachment.status().ready);
    const stop = Date.now() + 2_500;
    while (Date.now() < stop) {
      orders.fail('C_DeriveKey', CRASH, 1);
      attachment.suspect();
      await delay(10);
    }
    expect(seen('an HSM worker ended and is replaced')).toBeLessThanOrEqual(8);
    orders.fail('C_DeriveKey', 0, 0);
    await until(() => attachment.status().ready);
  });

  it('during the start lead to one recovery, not to two beside each other', async () => {
    orders.fail('C_OpenSession', CRASH, 1);
    await attach();
    await attachment.start();
    await until(() => attachment.status().ready);
    await delay(500);
    expect(seen('the HSM is open')).toBe(1);
  });
});

describe('what a trouble says', () => {
  it('is said once while it lasts', async () => {
    chmodSync(fixture.token.pinFile, 0o644);
    await attach();
    await attachment.start();
    await delay(2_200);
    expect(attachment.status().state).toBe('pin-refused');
    expect(seen('the HSM could not be opened')).toBe(1);
    chmodSync(fixture.token.pinFile, 0o600);
    await until(() => attachment.status().ready);
  });
});

describe('suspicions', () => {
  it('are looked into less and less often while they prove wrong', async () => {
    await attach();
    await attachment.start();
    await until(() => attachment.status().ready);
    const before = orders.calls('C_GenerateKeyPair');
    // Each run makes as many pairs as the start did, if nothing begins beside it.
    const began: number[] = [];
    await until(() => {
      attachment.suspect();
      if (orders.calls('C_GenerateKeyPair') > before * (began.length + 1)) {
        began.push(performance.now());
      }
      return began.length === 3;
    });
    // At 0 s, 1 s and 3 s, or later where the machine is busy.
    const [first = 0, , third = 0] = began;
    expect(third - first).toBeGreaterThan(2_500);
  });
});
