import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { HsmMaterial, RootOnToken } from '../../src/hsm/port.ts';
import type { RootGeneration } from '../../src/keyring/ports.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import type { Ceremony } from '../../src/keyring/root-opening.ts';
import type { Root } from '../../src/keyring/root.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { MemoryStore } from './memory-store.ts';
import { attestKey } from '../../src/keyring/row-mac.ts';
import { KEY } from './samples.ts';
import { isWiped, watchedHsm } from './watched-hsm.ts';
import type { WatchedHsm } from './watched-hsm.ts';
import { codeOf } from './world.ts';

const OURS: RootOnToken = { generation: 1, installation: '11111111-1111-4111-8111-111111111111' };
const FOREIGN: RootOnToken = {
  generation: 1,
  installation: '22222222-2222-4222-8222-222222222222',
};
const DATA = Buffer.from('data');

interface Site {
  readonly device: WatchedHsm;
  readonly store: MemoryStore;
  readonly ceremonies: RootOnToken[];
  readonly ceremony: Ceremony;
}

function site(device = watchedHsm(), store = new MemoryStore()): Site {
  const ceremonies: RootOnToken[] = [];
  const ceremony: Ceremony = async (root) => {
    ceremonies.push(root);
    await Promise.resolve();
    device.token.makeRoot(root);
  };
  return { device, store, ceremonies, ceremony };
}

/** A new process on the same token and database. */
const restarted = ({ device, store }: Site): Site => site(watchedHsm(device.token), store);
const start = ({ device, store, ceremony }: Site, byOperator = false): Promise<Root> =>
  openRoot(device.hsm, store, new UsageCounters(store), byOperator ? null : ceremony);

async function complete(): Promise<Site> {
  const made = site();
  made.device.token.makeRoot(OURS);
  await made.store.intend(OURS.generation, OURS.installation);
  await start(made);
  return restarted(made);
}

describe('every combination of rows, token and ceremony', () => {
  type Rows = 'none' | 'intended' | 'complete';
  type Token = 'none' | 'ours' | 'foreign';
  const opens: readonly (readonly [Rows, Token, boolean])[] = [
    // [rows, token, with a ceremony]: what is not here stops the start.
    ['none', 'none', true],
    ['none', 'ours', false],
    ['none', 'foreign', false],
    ['intended', 'none', true],
    ['intended', 'ours', true],
    ['intended', 'ours', false],
    ['intended', 'foreign', true],
    ['complete', 'ours', true],
    ['complete', 'ours', false],
  ];
  const combinations = (['none', 'intended', 'complete'] as const).flatMap((rows) =>
    (['none', 'ours', 'foreign'] as const).flatMap((token) =>
      [true, false].map((given) => [rows, token, given] as const),
    ),
  );

  it.each(combinations)('rows %s, token %s, ceremony %s', async (rows, token, given) => {
    const prepared = rows === 'complete' ? await complete() : site();
    if (rows === 'intended') await prepared.store.intend(OURS.generation, OURS.installation);
    prepared.device.token.roots.clear();
    if (token === 'ours' && rows === 'complete') return expectOpens(await complete(), given, 0);
    if (token !== 'none') prepared.device.token.makeRoot(token === 'ours' ? OURS : FOREIGN);
    const shouldOpen = opens.some(([r, t, c]) => r === rows && t === token && c === given);
    const before = structuredClone(prepared.store.roots);
    if (shouldOpen) {
      const makes = given && (token === 'none' || (rows === 'intended' && token === 'foreign'));
      return expectOpens(prepared, given, makes ? 1 : 0);
    }
    expect(await codeOf(start(prepared, !given))).toBe('integrity_failed');
    expect(prepared.ceremonies).toEqual([]);
    expect(prepared.store.roots).toEqual(before);
    expect(prepared.device.calls).not.toContain('generate');
  });

  async function expectOpens(made: Site, given: boolean, ceremonies: number): Promise<void> {
    const root = await start(made, !given);
    expect(made.ceremonies).toHaveLength(ceremonies);
    const [row] = made.store.roots;
    expect(row).toMatchObject({ state: 'in-force', installation: root.installation });
    const again = await start(restarted(made), true);
    expect(await again.mac(DATA)).toEqual(await root.mac(DATA));
  }
});

describe('what does not fit together', () => {
  it('an empty database beside a root that another database has held', async () => {
    const made = await complete();
    await start(made, true);
    for (const rows of ['no more', 'several on the token'] as const) {
      if (rows !== 'no more') made.device.token.makeRoot({ ...OURS, generation: 2 });
      for (const byOperator of [true, false]) {
        const empty = site(watchedHsm(made.device.token));
        await expect(start(empty, byOperator)).rejects.toThrow(/backup restore/u);
        expect(await codeOf(start(empty, byOperator))).toBe('integrity_failed');
        expect([empty.store.roots, empty.ceremonies]).toEqual([[], []]);
        expect(empty.device.calls).not.toContain('generate');
      }
    }
  });

  it('is no reason to stop beside an instance that begins at the same time', async () => {
    const first = site();
    first.device.token.makeRoot(OURS);
    const second = restarted(first);
    let ended: Promise<unknown> | undefined;
    second.device.meanwhile = async (call) => {
      if (call === 'isUsed') await (ended ??= start(first, true));
    };
    await start(second, true);
    expect(ended).toBeDefined();
  });

  it('keys without a root, or with one that is incomplete, are no reason to make one', async () => {
    for (const state of ['no row', 'intended'] as const) {
      const made = await complete();
      const root = await start(made);
      made.store.rows.keys.set(KEY.id, await attestKey(root.mac, KEY));
      const [row] = made.store.roots;
      made.store.roots = state === 'no row' || row === undefined ? [] : [turnedBack(row)];
      const next = restarted(made);
      expect(await codeOf(start(next))).toBe('integrity_failed');
      expect(await codeOf(start(next, true))).toBe('integrity_failed');
      expect(next.device.calls).not.toContain('generate');
    }
  });

  const turnedBack = (row: RootGeneration): RootGeneration => ({
    ...row,
    state: 'intended',
    seal: null,
    mac: null,
    canary: null,
  });

  it('several roots on the token and none in the database', async () => {
    const made = site();
    made.device.token.makeRoot(OURS);
    made.device.token.makeRoot(FOREIGN);
    expect(await codeOf(start(made, true))).toBe('integrity_failed');
    expect(made.store.roots).toEqual([]);
  });

  it('a ceremony that made nothing', async () => {
    const made = { ...site(), ceremony: () => Promise.resolve() };
    expect(await codeOf(start(made))).toBe('integrity_failed');
  });

  const altered: readonly [
    string,
    (row: RootGeneration, other: RootGeneration, userKey: HsmMaterial) => Partial<RootGeneration>,
  ][] = [
    ['an altered canary', ({ canary }) => ({ canary: flip(canary) })],
    ['a short canary', ({ canary }) => ({ canary: canary?.subarray(0, 5) ?? null })],
    ['an empty canary', () => ({ canary: new Uint8Array(0) })],
    ['the canary of another root', (_row, other) => ({ canary: other.canary })],
    ['root-seal of another root', (_row, other) => ({ seal: other.seal })],
    ['root-seal and canary of another root', (_row, { seal, canary }) => ({ seal, canary })],
    ["a user's HMAC key as root-mac", (_row, _other, userKey) => ({ mac: userKey })],
    ['no root-mac', () => ({ mac: null })],
    ['root-mac and root-seal exchanged', ({ seal, mac }) => ({ seal: mac, mac: seal })],
  ];

  it.each(altered)('%s', async (_name, alter) => {
    const made = await complete();
    await start(made);
    const userKey = await made.device.hsm.generate(
      { kind: 'hmac', hash: 'SHA-256', bytes: 32 },
      { custody: 'hsm-wrapped' },
    );
    const [row] = made.store.roots;
    const [other] = (await complete()).store.roots;
    if (row === undefined || other === undefined) throw new TypeError('no root');
    made.store.roots = [{ ...row, ...alter(row, other, userKey) }];
    expect(await codeOf(start(restarted(made)))).toBe('integrity_failed');
  });

  const flip = (bytes: Uint8Array | null) =>
    bytes && Uint8Array.from(bytes, (byte, at) => (at === 20 ? byte ^ 1 : byte));
});

describe('a start that is cut off or meets another', () => {
  it('is completed by the next, wherever it was cut', async () => {
    const steps = async (made: Site): Promise<number> => {
      await start(made);
      return made.device.calls.length + made.store.calls.length;
    };
    const whole = await steps(site());
    for (let cut = 1; cut <= whole; cut += 1) {
      for (const kind of ['before', 'after'] as const) {
        const made = site();
        let left = cut;
        const fault = () => ((left -= 1) === 0 ? kind : 'none');
        made.device.fault = fault;
        made.store.fault = () => (fault() === 'none' ? 'none' : kind);
        const first = await start(made).catch((error: unknown) => error);
        if (left <= 0) expect(first).toBeInstanceOf(TwofoldError);
        const next = { ...restarted(made), ceremonies: made.ceremonies };
        const root = await start(next);
        const again = await start(restarted(made));
        expect(await again.mac(DATA)).toEqual(await root.mac(DATA));
        expect(made.store.roots).toHaveLength(1);
        expect(made.device.token.roots.size).toBe(1);
      }
    }
  });

  it('racing instances end with the same root, whatever their order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), async (scheduler) => {
        const first = site();
        first.device.token.makeRoot(OURS);
        const all = [first, restarted(first), restarted(first)];
        for (const one of all) one.device.meanwhile = () => scheduler.schedule(Promise.resolve());
        first.store.meanwhile = () => scheduler.schedule(Promise.resolve());
        const opened = Promise.all(all.map((one) => start(one, true)));
        await scheduler.waitFor(opened);
        first.store.meanwhile = () => Promise.resolve();
        for (const one of all) one.device.meanwhile = () => Promise.resolve();
        const macs = await Promise.all((await opened).map((root) => root.mac(DATA)));
        expect(new Set(macs.map((mac) => Buffer.from(mac).toString('hex'))).size).toBe(1);
      }),
      { numRuns: 50 },
    );
  });

  it('of two tokens that hold different roots, one begins and the other stops', async () => {
    const store = new MemoryStore();
    const [a, b] = [site(watchedHsm(), store), site(watchedHsm(), store)];
    a.device.token.makeRoot(OURS);
    b.device.token.makeRoot(FOREIGN);
    const both = Promise.withResolvers<undefined>();
    let waiting = 2;
    store.meanwhile = async (call) => {
      if (call !== 'intend') return;
      waiting -= 1;
      if (waiting === 0) both.resolve(undefined);
      await both.promise;
    };
    const codes = await Promise.all([codeOf(start(a, true)), codeOf(start(b, true))]);
    expect(codes.toSorted()).toEqual(['integrity_failed', 'no error']);
  });

  it('passes on that the HSM or the database does not answer', async () => {
    const made = await complete();
    made.device.fault = (call) => (call === 'decrypt' ? 'before' : 'none');
    expect(await codeOf(start(made))).toBe('hsm_unavailable');
    made.device.fault = () => 'none';
    made.store.fault = () => 'before';
    expect(await codeOf(start(made))).toBe('database_unavailable');
  });
});

describe('sealed halves', () => {
  const binding = { keyId: KEY.id, version: 1, suite: 0x0101, part: 'pq' } as const;
  const opened = async () => start(await complete());

  it('open for the key, version, suite and part that they were sealed for, and nothing else', async () => {
    const root = await opened();
    const half = await root.seal(SecretBytes.own(Buffer.from('seed')), binding);
    const secret = await root.unseal(half, binding);
    expect(Buffer.from(secret.reveal()).toString()).toBe('seed');
    const others = [
      { ...binding, keyId: '00000000-0000-4000-8000-000000000000' },
      { ...binding, version: 2 },
      { ...binding, suite: 0x0102 },
      { ...binding, part: 'psk' as const },
    ];
    for (const other of others) {
      expect(await codeOf(root.unseal(half, other))).toBe('integrity_failed');
    }
  });

  it('fail with every altered byte, length and generation', async () => {
    const root = await opened();
    const half = await root.seal(SecretBytes.own(Buffer.from('seed')), binding);
    for (const at of half.sealed.keys()) {
      const sealed = Uint8Array.from(half.sealed, (byte, index) =>
        index === at ? byte ^ 1 : byte,
      );
      expect(await codeOf(root.unseal({ ...half, sealed }, binding))).toBe('integrity_failed');
      const cut = half.sealed.subarray(0, at);
      expect(await codeOf(root.unseal({ ...half, sealed: cut }, binding))).toBe('integrity_failed');
    }
    expect(await codeOf(root.unseal({ ...half, generation: 2 }, binding))).toBe(
      'zone_lacks_material',
    );
  });

  it('passes on what stopped the HSM, for it says nothing of the row', async () => {
    const made = await complete();
    const root = await start(made);
    const half = await root.seal(SecretBytes.own(Buffer.from('seed')), binding);
    made.device.fault = () => new TwofoldError('hsm_busy');
    expect(await codeOf(root.unseal(half, binding))).toBe('hsm_busy');
  });

  it('each seal counts as a use of root-seal', async () => {
    const made = await complete();
    const root = await start(made);
    made.store.counters.set('root/1/seal', 2 ** 32);
    const seal = root.seal(SecretBytes.own(Buffer.from('seed')), binding);
    expect(await codeOf(seal)).toBe('version_not_usable');
  });

  it('the canary is wiped after it was read', async () => {
    const made = await complete();
    await start(made);
    expect(made.device.given.length).toBeGreaterThan(0);
    expect(made.device.given.every(isWiped)).toBe(true);
  });
});
