/** The user PIN changed under load by another process, and every session lost afterwards. */
import { createECDH, randomUUID } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';

import { pinText } from '../../src/hsm/pin.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import type { HsmKey } from '../../src/hsm/port.ts';
import { eventually } from '../store/eventually.ts';
import { CRASH, Orders } from './cryptoki-hook.ts';
import { ROOT, makeToken } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';
import { useTokenAs } from './use-token.ts';

const HOOK = new URL('./cryptoki-hook.ts', import.meta.url).href;
const NEXT = 'another-pin-4711';

jest.setTimeout(90_000);

let fixture: TokenFixture;
let orders: Orders;
let hsm: PooledHsm;
let key: HsmKey;

beforeEach(async () => {
  fixture = await makeToken();
  orders = new Orders();
  hsm = await fixture.open({ hook: { url: HOOK, data: orders.memory } });
  await hsm.useRoot(ROOT);
  const spec = { kind: 'ec', curve: 'P-256', use: 'derive' } as const;
  key = { id: randomUUID(), spec, material: await hsm.generate(spec, { custody: 'hsm-wrapped' }) };
});
afterEach(async () => {
  await hsm.close();
  fixture.remove();
});

const useToken = (pin: string, next?: string) => useTokenAs(fixture.token, pin, next);

const put = (pin: string) => {
  writeFileSync(`${fixture.token.pinFile}.new`, `${pin}\n`, { mode: 0o600 });
  renameSync(`${fixture.token.pinFile}.new`, fixture.token.pinFile);
};

/** Derives over and over. */
function load(callers: number) {
  const ecdh = createECDH('prime256v1');
  ecdh.generateKeys();
  const peer = ecdh.getPublicKey();
  const state = { stopped: false, done: 0, failures: [] as unknown[] };
  const running = Array.from({ length: callers }, async () => {
    while (!state.stopped) {
      await hsm.ecdh(key, peer).then(
        () => (state.done += 1),
        (error: unknown) => state.failures.push(error),
      );
      await sleep(1);
    }
  });
  const progress = async () => {
    const { done } = state;
    await eventually(async () => state.done > done + 20, 30_000);
  };
  const stop = async () => {
    state.stopped = true;
    await Promise.all(running);
    return state.failures;
  };
  return { progress, stop };
}

it('token first, then file: sessions go on, lost ones come back with the new PIN, no call fails', async () => {
  const old = pinText(readFileSync(fixture.token.pinFile)).trim();
  const calls = load(4);
  try {
    await calls.progress();
    expect(await useToken(old, NEXT)).toBe('ok');
    await calls.progress();
    put(NEXT);
    const logins = orders.calls('C_Login');
    // A thread that ends takes every session of the process: the module is initialised anew.
    orders.fail('C_DeriveKey', CRASH);
    await eventually(async () => orders.calls('C_Login') > logins && hsm.status().ready, 30_000);
    await calls.progress();
    expect(orders.calls('C_Login')).toBe(logins + 1);
  } finally {
    expect(await calls.stop()).toEqual([]);
  }
  expect(await useToken(old)).toBe('160');
  expect(await useToken(NEXT)).toBe('ok');
});

it('sessions lost before the file was written: one attempt, and at once another when it is', async () => {
  const old = pinText(readFileSync(fixture.token.pinFile)).trim();
  const calls = load(2);
  try {
    await calls.progress();
    expect(await useToken(old, NEXT)).toBe('ok');
    const logins = orders.calls('C_Login');
    orders.fail('C_DeriveKey', CRASH);
    await eventually(async () => hsm.status().state === 'pin-refused', 30_000);
    expect(orders.calls('C_Login')).toBe(logins + 1);
    put(NEXT);
    await eventually(async () => hsm.status().ready, 30_000);
    expect(orders.calls('C_Login')).toBe(logins + 2);
    await calls.progress();
  } finally {
    // They waited: the deadline of this pool is 10 s.
    expect(await calls.stop()).toEqual([]);
  }
});
