import { createECDH, randomUUID } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  it,
  jest,
} from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import { CKR } from '../../src/hsm/cryptoki.ts';
import type { HsmOptions, PooledHsm } from '../../src/hsm/pool.ts';
import type { HsmKey, HsmKeySpec } from '../../src/hsm/port.ts';
import { uuidBytes } from '../../src/hsm/inputs.ts';
import { CRASH, Orders } from './cryptoki-hook.ts';
import { makeToken, ROOT, temporaryFolder, tokenIn } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';
import { stopwatch } from '../waited.ts';

const DERIVE: HsmKeySpec = { kind: 'ec', curve: 'P-256', use: 'derive' };
const AES: HsmKeySpec = { kind: 'aes', bits: 256 };
const HMAC: HsmKeySpec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 };
const HOOK = new URL('./cryptoki-hook.ts', import.meta.url).href;
const TEXT = Buffer.from('some text');
/** Where calls are to wait in vain until their deadline. */
const SHORT = { deadlineMs: 3_000 };

let pattern: TokenFixture;
let fixture: TokenFixture;
let orders: Orders;
let hsm: PooledHsm | undefined;

async function open(change: Partial<HsmOptions> = {}): Promise<PooledHsm> {
  orders = new Orders();
  hsm = await fixture.open({ hook: { url: HOOK, data: orders.memory }, ...change });
  if (hsm.status().ready) await hsm.useRoot(ROOT);
  return hsm;
}

async function make(port: PooledHsm, spec: HsmKeySpec): Promise<HsmKey> {
  const material = await port.generate(spec, { custody: 'hsm-wrapped' });
  return { id: randomUUID(), spec, material };
}

function peer(): Uint8Array {
  const ecdh = createECDH('prime256v1');
  ecdh.generateKeys();
  return ecdh.getPublicKey();
}

/** The code of the failure, or `ok`. */
function outcome(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'ok',
    (error: unknown) => (TwofoldError.is(error) ? error.code : String(error)),
  );
}

async function until(condition: () => boolean, milliseconds = 25_000): Promise<void> {
  const limit = Date.now() + milliseconds;
  while (!condition()) {
    if (Date.now() > limit) throw new Error(`not within ${milliseconds} ms`);
    await delay(20);
  }
}

beforeAll(async () => {
  pattern = await makeToken();
});
beforeEach(async () => {
  fixture = await makeToken(pattern);
});
afterAll(() => {
  pattern.remove();
});
afterEach(async () => {
  await hsm?.close();
  hsm = undefined;
  fixture.remove();
});

jest.setTimeout(90_000);

describe('a refused PIN', () => {
  it('costs one attempt, also over restarts, and is tried again when the file changes', async () => {
    const right = readFileSync(fixture.token.pinFile);
    writeFileSync(fixture.token.pinFile, 'not the pin\n');
    const port = await open(SHORT);
    expect(port.status()).toMatchObject({ ready: false, state: 'pin-refused' });
    expect(orders.calls('C_Login')).toBe(1);
    await delay(1_300);
    expect(orders.calls('C_Login')).toBe(1);
    expect(await outcome(port.random(8))).toBe('hsm_unavailable');
    await port.close();

    const restarted = await open();
    expect(restarted.status()).toMatchObject({ ready: false, state: 'pin-refused' });
    expect(orders.calls('C_Login')).toBe(0);

    writeFileSync(fixture.token.pinFile, 'also not the pin\n');
    await until(() => orders.calls('C_Login') === 1);
    await delay(1_200);
    expect(orders.calls('C_Login')).toBe(1);

    writeFileSync(fixture.token.pinFile, right);
    await until(() => restarted.status().ready);
    expect(orders.calls('C_Login')).toBe(2);
    expect(await outcome(restarted.random(8))).toBe('ok');
    const marks = readdirSync(fixture.folder).filter((name) => name.startsWith('refused'));
    expect(marks).toEqual([]);
  });

  it.each([
    ['expired', CKR.PIN_EXPIRED],
    ['locked', CKR.PIN_LOCKED],
  ])('is not tried again when it is %s', async (_, returnValue) => {
    orders = new Orders();
    orders.fail('C_Login', returnValue, 100);
    hsm = await fixture.open({ hook: { url: HOOK, data: orders.memory } });
    expect(hsm.status().state).toBe('pin-refused');
    await delay(1_200);
    expect(orders.calls('C_Login')).toBe(1);
  });

  it('is remembered where no mark can be written', async () => {
    writeFileSync(fixture.token.pinFile, 'not the pin\n');
    const file = join(fixture.folder, 'a-file');
    writeFileSync(file, '');
    const port = await open({ stateDir: join(file, 'no-folder') });
    expect(port.status().state).toBe('pin-refused');
    await delay(1_200);
    expect(orders.calls('C_Login')).toBe(1);
  });

  it('leaves a mark that does not hold it', async () => {
    writeFileSync(fixture.token.pinFile, '12345678\n');
    await open();
    const mark = readFileSync(join(fixture.folder, 'refused-pin.json'), 'utf8');
    for (const form of ['12345678', '3132333435363738', 'MTIzNDU2Nzg']) {
      expect(mark).not.toContain(form);
    }
  });
});

describe('a PIN file', () => {
  it.each([
    ['others can read', () => chmodSync(fixture.token.pinFile, 0o640)],
    ['is missing', () => rmSync(fixture.token.pinFile)],
    ['is empty', () => writeFileSync(fixture.token.pinFile, '\n')],
  ])('that %s is never used', async (_, spoil) => {
    const pin = readFileSync(fixture.token.pinFile);
    spoil();
    const port = await open();
    expect(port.status()).toMatchObject({ ready: false, state: 'pin-refused' });
    expect(port.status().detail).toContain(fixture.token.pinFile);
    expect(orders.calls('C_Login')).toBe(0);
    writeFileSync(fixture.token.pinFile, pin);
    chmodSync(fixture.token.pinFile, 0o600);
    await until(() => port.status().ready);
  });
});

describe('a lost session', () => {
  it.each([
    ['SESSION_HANDLE_INVALID', CKR.SESSION_HANDLE_INVALID],
    ['SESSION_CLOSED', CKR.SESSION_CLOSED],
    ['DEVICE_REMOVED', CKR.DEVICE_REMOVED],
    ['DEVICE_ERROR', CKR.DEVICE_ERROR],
    ['TOKEN_NOT_PRESENT', CKR.TOKEN_NOT_PRESENT],
    ['USER_NOT_LOGGED_IN', CKR.USER_NOT_LOGGED_IN],
  ])('CKR_%s: the call is repeated under a new epoch', async (_, returnValue) => {
    const port = await open();
    const key = await make(port, DERIVE);
    const point = peer();
    const expected = Buffer.from((await port.ecdh(key, point)).reveal());
    const { tokenEpoch } = port.status();
    orders.fail('C_DeriveKey', returnValue);
    const again = await port.ecdh(key, point);
    expect(Buffer.from(again.reveal()).equals(expected)).toBe(true);
    expect(port.status()).toMatchObject({ ready: true, tokenEpoch: tokenEpoch + 1 });
  });

  it('under load loses no call and answers none wrongly', async () => {
    const port = await open();
    const keys = await Promise.all(Array.from({ length: 3 }, () => make(port, DERIVE)));
    const point = peer();
    const expected = await Promise.all(
      keys.map(async (key) => Buffer.from((await port.ecdh(key, point)).reveal())),
    );
    const load = Promise.all(
      Array.from({ length: 300 }, async (_, index) => {
        const secret = await port.ecdh(keys[index % 3] ?? (keys[0] as HsmKey), point);
        return expected[index % 3]?.equals(Buffer.from(secret.reveal()));
      }),
    );
    orders.fail('C_DeriveKey', CKR.SESSION_HANDLE_INVALID, 1);
    expect(new Set(await load)).toEqual(new Set([true]));
    expect(port.status().tokenEpoch).toBeGreaterThan(1);
  });

  it('of a token that goes away and comes back is survived', async () => {
    const port = await open();
    const key = await make(port, HMAC);
    const before = await port.mac(key, TEXT);
    const tokens = join(fixture.folder, 'hsm', 'tokens');
    renameSync(tokens, `${tokens}.away`);
    orders.fail('C_Sign', CKR.DEVICE_REMOVED, 1);
    const waiting = outcome(port.mac(key, TEXT));
    await until(() => port.status().state === 'token-absent');
    expect(port.status().ready).toBe(false);
    rmSync(tokens, { recursive: true, force: true });
    renameSync(`${tokens}.away`, tokens);
    await until(() => port.status().ready);
    expect(await waiting).toBe('ok');
    expect(Buffer.from(await port.mac(key, TEXT)).equals(Buffer.from(before))).toBe(true);
  });

  it('that leads to another token is not taken up again until ours is back', async () => {
    const port = await open(SHORT);
    const key = await make(port, HMAC);
    const before = await port.mac(key, TEXT);
    // Another token with the same PIN, label and a root of the same name.
    const other = temporaryFolder();
    cpSync(join(pattern.folder, 'hsm'), join(other, 'hsm'), { recursive: true });
    rmSync(join(other, 'hsm', 'tokens'), { recursive: true });
    await tokenIn(other);
    const tokens = join(fixture.folder, 'hsm', 'tokens');
    renameSync(tokens, `${tokens}.away`);
    orders.fail('C_Sign', CKR.DEVICE_REMOVED, 1);
    const waiting = outcome(port.mac(key, TEXT));
    await until(() => !port.status().ready);
    rmSync(tokens, { recursive: true, force: true });
    renameSync(join(other, 'hsm', 'tokens'), tokens);
    const serial = port.status().token?.serial ?? '';
    await until(() => port.status().detail.includes(serial));
    expect(port.status()).toMatchObject({ ready: false, state: 'token-absent' });
    expect(await waiting).toBe('hsm_unavailable');
    expect(await outcome(make(port, HMAC))).toBe('hsm_unavailable');
    rmSync(tokens, { recursive: true });
    renameSync(`${tokens}.away`, tokens);
    await until(() => port.status().ready);
    expect(port.status().token?.serial).toBe(serial);
    expect(Buffer.from(await port.mac(key, TEXT)).equals(Buffer.from(before))).toBe(true);
    rmSync(other, { recursive: true });
  });

  it('that finds the root less well kept is refused until the root is as it was', async () => {
    const port = await open(SHORT);
    const key = await make(port, HMAC);
    expect(port.status().custody).toBe('non-extractable');
    orders.fail('C_CopyObject', CKR.GENERAL_ERROR, 1_000);
    orders.fail('C_Sign', CKR.DEVICE_REMOVED, 1);
    const waiting = outcome(port.mac(key, TEXT));
    await until(() => port.status().detail.includes('custody is unknown'));
    expect(port.status()).toMatchObject({ ready: false, state: 'token-absent' });
    expect(await waiting).toBe('hsm_unavailable');
    orders.fail('C_CopyObject', CKR.GENERAL_ERROR, 0);
    await until(() => port.status().ready);
    expect(port.status().custody).toBe('non-extractable');
  });
});

describe('an ambiguous error', () => {
  it('fails the request and leaves health alone while known answers are right', async () => {
    const port = await open({ workers: 1 });
    const key = await make(port, AES);
    const sealed = await port.encrypt(key, TEXT, TEXT);
    expect(await outcome(port.decrypt(key, sealed, TEXT))).toBe('ok');
    orders.fail('C_Decrypt', CKR.GENERAL_ERROR);
    expect(await outcome(port.decrypt(key, sealed, TEXT))).toBe('decryption_failed');
    await delay(200);
    expect(port.status()).toMatchObject({ ready: true, tokenEpoch: 1 });
    expect(await outcome(port.decrypt(key, sealed, TEXT))).toBe('ok');
  });

  it('turns health red when known answers fail, and green when they are right again', async () => {
    const port = await open();
    const key = await make(port, DERIVE);
    await port.ecdh(key, peer());
    orders.fail('C_DeriveKey', CKR.GENERAL_ERROR, 1_000);
    expect(await outcome(port.ecdh(key, peer()))).toBe('hsm_unavailable');
    await until(() => !port.status().ready);
    // Red for as long as the answers fail, though the sessions reopen at once.
    for (let look = 0; look < 20; look += 1) {
      expect(port.status()).toMatchObject({ ready: false, state: 'self-test-failed' });
      await delay(25);
    }
    orders.fail('C_DeriveKey', 0, 0);
    await until(() => port.status().ready);
    expect(await outcome(port.ecdh(key, peer()))).toBe('ok');
  });

  it.each(['GENERAL_ERROR', 'FUNCTION_FAILED', 'HOST_MEMORY', 'MECHANISM_INVALID'] as const)(
    'CKR_%s, where the key opens nothing else either, accuses the token, not the ciphertext',
    async (name) => {
      const port = await open({ workers: 1 });
      const key = await make(port, AES);
      const sealed = await port.encrypt(key, TEXT, TEXT);
      orders.fail('C_Decrypt', CKR[name], 2);
      expect(await outcome(port.decrypt(key, sealed, TEXT))).toBe('hsm_unavailable');
    },
  );

  it('of a wrong tag asks for no known answers: the key itself tells', async () => {
    const port = await open({ workers: 1 });
    const key = await make(port, AES);
    const { iv, ciphertext } = await port.encrypt(key, TEXT, TEXT);
    const made = orders.calls('C_GenerateKeyPair');
    const bad = { iv, ciphertext: ciphertext.map((byte) => byte ^ 1) };
    expect(await outcome(port.decrypt(key, bad, TEXT))).toBe('decryption_failed');
    await delay(300);
    expect(orders.calls('C_GenerateKeyPair')).toBe(made);
  });

  it.each([
    ['GENERAL_ERROR', 2],
    ['FUNCTION_FAILED', 1],
  ] as const)('CKR_%s while a key is unwrapped accuses the token', async (name, times) => {
    const port = await open({ workers: 1 });
    const key = await make(port, DERIVE);
    orders.fail('C_UnwrapKey', CKR[name], times);
    expect(await outcome(port.ecdh(key, peer()))).toBe('hsm_unavailable');
  });

  it('while a key is checked accuses the token, not the record', async () => {
    const port = await open({ workers: 1 });
    const [aes, pair] = [await make(port, AES), await make(port, DERIVE)];
    orders.fail('C_Decrypt', CKR.GENERAL_ERROR, 2);
    expect(await outcome(port.encrypt(aes, TEXT, TEXT))).not.toBe('integrity_failed');
    orders.fail('C_DeriveKey', CKR.GENERAL_ERROR);
    expect(await outcome(port.ecdh(pair, peer()))).not.toBe('integrity_failed');
  });

  it('between Init and the operation costs that session only', async () => {
    const port = await open({ workers: 1 });
    const key = await make(port, HMAC);
    await port.mac(key, TEXT);
    orders.fail('C_Sign', CKR.FUNCTION_FAILED);
    expect(await outcome(port.mac(key, TEXT))).toBe('hsm_unavailable');
    // In the abandoned session every later Init would answer CKR_OPERATION_ACTIVE.
    expect(await outcome(port.mac(key, TEXT))).toBe('ok');
    expect(port.status().tokenEpoch).toBe(1);
  });
});

describe('a handle the token no longer knows', () => {
  it('is renewed once, without a new epoch', async () => {
    const port = await open({ workers: 1 });
    const key = await make(port, HMAC);
    await port.mac(key, TEXT);
    const unwraps = orders.calls('C_UnwrapKey');
    orders.fail('C_SignInit', CKR.KEY_HANDLE_INVALID);
    expect(await outcome(port.mac(key, TEXT))).toBe('ok');
    expect(orders.calls('C_UnwrapKey')).toBe(unwraps + 1);
    expect(port.status().tokenEpoch).toBe(1);
  });

  it('is dropped when the cache is full', async () => {
    const port = await open({ workers: 1, handleLimit: 2 });
    const keys = [await make(port, HMAC), await make(port, HMAC), await make(port, HMAC)];
    const before = orders.calls('C_UnwrapKey');
    for (const round of [1, 2]) {
      for (const key of keys) expect(await outcome(port.mac(key, TEXT))).toBe('ok');
      expect(orders.calls('C_UnwrapKey')).toBe(before + 3 * round);
    }
    await port.mac(keys[2] as HsmKey, TEXT);
    expect(orders.calls('C_UnwrapKey')).toBe(before + 6);
  });
});

describe('a full token', () => {
  it('answers hsm_full and goes on', async () => {
    const port = await open();
    orders.fail('C_GenerateKeyPair', CKR.DEVICE_MEMORY);
    expect(await outcome(make(port, DERIVE))).toBe('hsm_full');
    expect(port.status().ready).toBe(true);
    expect(await outcome(make(port, DERIVE))).toBe('ok');
  });
});

describe('back-pressure', () => {
  it('refuses at once what the queue cannot hold', async () => {
    const port = await open({ queueLimit: 10 });
    orders.hang('C_GenerateRandom', 50);
    const outcomes = await Promise.all(Array.from({ length: 40 }, () => outcome(port.random(8))));
    expect(outcomes.filter((code) => code === 'hsm_busy')).toHaveLength(30);
    expect(outcomes.filter((code) => code === 'ok')).toHaveLength(10);
    const busy = await Promise.all(
      Array.from({ length: 11 }, () => port.random(8).catch((error: unknown) => error)),
    );
    expect(busy.at(-1)).toMatchObject({ code: 'hsm_busy', retryAfter: 1 });
  });

  it('fails calls at their deadline and says when the token hangs', async () => {
    const port = await open({ deadlineMs: 300 });
    orders.hang('C_GenerateRandom', 1_500);
    const elapsed = stopwatch();
    const outcomes = await Promise.all(Array.from({ length: 20 }, () => outcome(port.random(8))));
    expect(elapsed()).toBeLessThan(1_000);
    expect(outcomes.filter((code) => code === 'hsm_unavailable').length).toBeGreaterThan(1);
    expect(new Set(outcomes)).toEqual(new Set(['hsm_unavailable', 'hsm_busy']));
    expect(port.status()).toMatchObject({ ready: false, state: 'session-lost' });
    const sinceAsked = stopwatch();
    await port.forget('a key');
    expect(sinceAsked()).toBeLessThan(1_000);
    orders.hang('C_GenerateRandom', 0);
    await until(() => port.status().ready);
    expect(await outcome(port.random(8))).toBe('ok');
  });
});

describe('a token key that is made after its deadline', () => {
  it('is destroyed: nobody was told of it', async () => {
    const port = await open({ deadlineMs: 300 });
    const objectId = Buffer.concat([uuidBytes(ROOT.installation), Buffer.alloc(21, 7)]);
    orders.hang('C_GenerateKeyPair', 1_000);
    const made = outcome(port.generate(DERIVE, { custody: 'hsm-token', objectId }));
    expect(await made).toBe('hsm_unavailable');
    orders.hang('C_GenerateKeyPair', 0);
    await delay(1_500);
    expect(await port.tokenKeys(ROOT.installation)).toEqual([]);
  });
});

describe('a key that is forgotten', () => {
  it('is not used by its handle in a call that waits behind the word', async () => {
    const port = await open({ workers: 1 });
    const hmac = await make(port, HMAC);
    await port.mac(hmac, TEXT);
    const unwrapped = orders.calls('C_UnwrapKey');
    orders.hang('C_Sign', 100);
    const before = port.mac(hmac, TEXT);
    const forgotten = port.forget(hmac.id);
    const after = [port.mac(hmac, TEXT), port.mac(hmac, TEXT)];
    await Promise.all([before, forgotten, ...after]);
    orders.hang('C_Sign', 0);
    expect(orders.calls('C_UnwrapKey')).toBe(unwrapped + 1);
  });
});

describe('an urgent MAC', () => {
  it('goes ahead of what waits', async () => {
    const port = await open({ workers: 1 });
    const [derive, hmac] = [await make(port, DERIVE), await make(port, HMAC)];
    await Promise.all([port.ecdh(derive, peer()), port.mac(hmac, TEXT)]);
    const order: string[] = [];
    const note = (name: string) => () => order.push(name);
    orders.hang('C_DeriveKey', 20);
    const calls = Array.from({ length: 8 }, () => port.ecdh(derive, peer()).then(note('ecdh')));
    await Promise.all([...calls, port.mac(hmac, TEXT, { urgent: true }).then(note('mac'))]);
    // Three had been given to the worker before.
    expect(order.indexOf('mac')).toBe(3);
  });
});

describe('a worker that ends', () => {
  it('is replaced, and the calls it held are repeated', async () => {
    const port = await open();
    const key = await make(port, DERIVE);
    await port.ecdh(key, peer());
    orders.fail('C_DeriveKey', CRASH);
    const outcomes = await Promise.all(
      Array.from({ length: 30 }, () => outcome(port.ecdh(key, peer()))),
    );
    expect(new Set(outcomes)).toEqual(new Set(['ok']));
    await until(() => port.status().ready);
  });

  it.each([1, 2, 3, 4])('loses none of %d calls, though it was the least busy', async (calls) => {
    const port = await open();
    const key = await make(port, DERIVE);
    await Promise.all([port.ecdh(key, peer()), port.ecdh(key, peer())]);
    orders.fail('C_DeriveKey', CRASH);
    const results = Array.from({ length: calls }, () => outcome(port.ecdh(key, peer())));
    expect(await Promise.all(results)).toEqual(Array.from({ length: calls }, () => 'ok'));
  });

  it('does not repeat the making of a token key', async () => {
    const port = await open();
    orders.fail('C_GenerateKeyPair', CRASH);
    const objectId = Uint8Array.from({ length: 37 }, () => 7);
    const call = port.generate(
      { kind: 'x25519', use: 'derive' },
      { custody: 'hsm-token', objectId },
    );
    expect(await outcome(call)).toBe('hsm_unavailable');
    await until(() => port.status().ready);
    expect(await port.tokenKeys('07070707-0707-0707-0707-070707070707')).toHaveLength(0);
  });
});

describe('closing', () => {
  it('fails what comes later and leaves the module free for another', async () => {
    const port = await open();
    await port.close();
    expect(await outcome(port.random(8))).toBe('hsm_unavailable');
    const next = await open();
    expect(await outcome(next.random(8))).toBe('ok');
  });
});
