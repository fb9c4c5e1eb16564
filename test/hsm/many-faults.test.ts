/** Calls of many items on a token that fails in the middle of them. */
import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import { CKR } from '../../src/hsm/cryptoki.ts';
import type { HsmOptions, PooledHsm } from '../../src/hsm/pool.ts';
import type { Encrypted, HsmKey, ToDecrypt } from '../../src/hsm/port.ts';
import type { Settled } from '../../src/settled.ts';
import { CRASH, Orders } from './cryptoki-hook.ts';
import { makeToken, ROOT } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';
import { stopwatch } from '../waited.ts';

const HOOK = new URL('./cryptoki-hook.ts', import.meta.url).href;
const AAD = Buffer.from('aad');

jest.setTimeout(60_000);

let fixture: TokenFixture;
let orders: Orders;
let hsm: PooledHsm;
let key: HsmKey;
let plaintexts: readonly Buffer[];
let items: readonly ToDecrypt[];

async function open(change: Partial<HsmOptions> = {}): Promise<void> {
  orders = new Orders();
  hsm = await fixture.open({ hook: { url: HOOK, data: orders.memory }, ...change });
  await hsm.useRoot(ROOT);
  const material = await hsm.generate({ kind: 'aes', bits: 256 }, { custody: 'hsm-wrapped' });
  key = { id: randomUUID(), spec: { kind: 'aes', bits: 256 }, material };
  plaintexts = Array.from({ length: 100 }, (_, index) => randomBytes(index));
  const sealed: Settled<Encrypted>[] = [];
  // Few at a time, for a short queue.
  for (const plaintext of plaintexts) sealed.push(await hsm.encrypt(key, plaintext, AAD));
  items = sealed.map((one) => ({ ...(one as Encrypted), aad: AAD }));
}

/** The code of each, or `ok` where it opened to what was sealed. */
function told(outcomes: Awaited<ReturnType<PooledHsm['decryptMany']>>): readonly string[] {
  return outcomes.map((outcome, index) => {
    if (TwofoldError.is(outcome)) return outcome.code;
    return Buffer.from(outcome.reveal()).equals(plaintexts[index] ?? AAD) ? 'ok' : 'wrong';
  });
}

const count = (codes: readonly string[]) =>
  Object.fromEntries(
    [...Map.groupBy(codes, (code) => code)].map(([code, all]) => [code, all.length]),
  );

beforeAll(async () => {
  fixture = await makeToken();
});
afterAll(() => {
  fixture.remove();
});
afterEach(async () => {
  await hsm.close();
});

describe('many items at once', () => {
  it('are each opened or not, whatever lengths their parts have', async () => {
    await open();
    const given = plaintexts.map((plaintext, index) => ({
      plaintext,
      aad: randomBytes((index * 7) % 90),
    }));
    const sealed = (await hsm.encryptMany(key, given)) as readonly Encrypted[];
    expect(new Set(sealed.map(({ iv }) => Buffer.from(iv).toString('hex'))).size).toBe(100);
    const again = sealed.map((one, index) => ({
      ...one,
      aad: index % 10 === 3 ? AAD : (given[index]?.aad ?? AAD),
    }));
    const codes = told(await hsm.decryptMany(key, again));
    expect(codes).toEqual(codes.map((_, index) => (index % 10 === 3 ? 'decryption_failed' : 'ok')));
    // What is opened together and what is opened alone are the same calls.
    for (const index of [0, 1, 99]) {
      const { aad, ...one } = again[index] as ToDecrypt;
      expect((await hsm.decrypt(key, one, aad)).length).toBe(index);
    }
  });

  it('outlive a worker that dies in the middle of them: what it had is done by another', async () => {
    await open();
    orders.fail('C_Decrypt', CRASH, 1, 13);
    expect(count(told(await hsm.decryptMany(key, items)))).toEqual({ ok: 100 });
  });

  it('outlive a session that is lost in the middle of them', async () => {
    await open();
    orders.fail('C_Decrypt', CKR.SESSION_HANDLE_INVALID, 1, 13);
    expect(count(told(await hsm.decryptMany(key, items)))).toEqual({ ok: 100 });
    orders.fail('C_Encrypt', CKR.DEVICE_ERROR, 1, 13);
    const given = plaintexts.map((plaintext) => ({ plaintext, aad: AAD }));
    const sealed = (await hsm.encryptMany(key, given)) as readonly Encrypted[];
    const again = sealed.map((one) => ({ ...one, aad: AAD }));
    expect(count(told(await hsm.decryptMany(key, again)))).toEqual({ ok: 100 });
  });

  it('fail with the fault of the token that their call met, and the others do not', async () => {
    await open({ workers: 1 });
    orders.fail('C_Decrypt', CKR.FUNCTION_FAILED, 1, 13);
    const codes = told(await hsm.decryptMany(key, items));
    expect(count(codes)).toEqual({ hsm_unavailable: 50, ok: 50 });
  });

  it('find a full queue for some calls of theirs, and the rest goes on', async () => {
    await open({ workers: 1, queueLimit: 1 });
    orders.hang('C_Decrypt', 2);
    const codes = told(await hsm.decryptMany(key, items));
    expect(count(codes)).toEqual({ hsm_busy: 50, ok: 50 });
  });

  it('fail at the deadline of their call, begun or not', async () => {
    await open({ workers: 1, deadlineMs: 400 });
    orders.hang('C_Decrypt', 30);
    const elapsed = stopwatch();
    const codes = told(await hsm.decryptMany(key, items));
    orders.hang('C_Decrypt', 0);
    expect(elapsed()).toBeLessThan(2_000);
    expect(codes).not.toContain('ok');
    expect(codes).not.toContain('wrong');
    expect(codes[0]).toBe('hsm_unavailable');
  });

  it('do not keep an urgent call waiting for all of them', async () => {
    await open({ workers: 1 });
    const spec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 } as const;
    const material = await hsm.generate(spec, { custody: 'hsm-wrapped' });
    const macKey: HsmKey = { id: randomUUID(), spec, material };
    await hsm.mac(macKey, AAD);
    const longer = Array.from({ length: 10 }, () => items).flat();
    let over = false;
    const opening = hsm.decryptMany(key, longer).then((outcomes) => {
      over = true;
      return outcomes;
    });
    await hsm.mac(macKey, AAD, { urgent: true });
    expect(over).toBe(false);
    expect((await opening).some((one) => TwofoldError.is(one))).toBe(false);
  });

  it('are MACed as each of them is alone, also by a worker that dies in the middle', async () => {
    await open();
    const spec = { kind: 'hmac', hash: 'SHA-384', bytes: 48 } as const;
    const material = await hsm.generate(spec, { custody: 'hsm-wrapped' });
    const macKey: HsmKey = { id: randomUUID(), spec, material };
    const alone = await Promise.all(
      plaintexts.slice(0, 20).map((plaintext) => hsm.mac(macKey, plaintext)),
    );
    orders.fail('C_Sign', CRASH, 1, 13);
    const together = await hsm.macMany(macKey, plaintexts);
    expect(together.slice(0, 20)).toEqual(alone);
    expect(together.some((each) => TwofoldError.is(each))).toBe(false);
    expect(await hsm.macMany(macKey, [])).toEqual([]);
  });

  it('leave what the caller gave as it was', async () => {
    await open();
    const given = plaintexts.map((plaintext) => ({ plaintext, aad: AAD }));
    const before = Buffer.concat(plaintexts);
    await hsm.encryptMany(key, given);
    expect(Buffer.concat(plaintexts).equals(before)).toBe(true);
  });
});
