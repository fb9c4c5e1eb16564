/** Status over a service that does what a test wants: how often it is asked, and what is told of its failures. */
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';

import { encodeEnvelope } from '../../src/crypto/envelope.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { KeyManagement } from '../../src/kubernetes/key-management.ts';
import type {
  Announced,
  AnnouncedMemory,
  KeyService,
  ProviderState,
} from '../../src/kubernetes/ports.ts';
import { causeOf } from '../../src/kubernetes/provider-status.ts';

const KEY = '00112233-4455-6677-8899-aabbccddeeff';
const OTHER = '10112233-4455-6677-8899-aabbccddeeff';
const wrapped = new Map<string, Uint8Array>();
let sealed = 0;
const suite = findSuite('A256GCM');
const envelopeOf = (of: string, keyVersion: number) => {
  if (suite.kind !== 'aead') throw new TypeError('not an AEAD');
  const ciphertext = new Uint8Array(48);
  // Never the same twice, whatever was lost since.
  sealed += 1;
  new DataView(ciphertext.buffer).setUint32(0, sealed);
  const nonce = new Uint8Array(suite.aead.nonceLength);
  return encodeEnvelope({ mode: 'symmetric', suite, keyId: of, keyVersion, nonce, ciphertext });
};

let now = 0;
let asked = 0;
let opened = 0;
let failure: ErrorCode | null = null;
/** What the state does not tell. */
let wrapFailure: ErrorCode | null = null;
let announced = 1;
let keyId = KEY;
let lies = false;
/** Whose envelopes are made. */
let sealsBy = KEY;

const state = (): ProviderState => ({
  keyId,
  keyName: 'secrets',
  announced,
  versions: [{ version: announced, state: 'active' }],
});
const service: KeyService = {
  refuse: ({ failure }) => Promise.reject(failure),
  state: () => {
    asked += 1;
    return failure === null ? Promise.resolve(state()) : Promise.reject(new TwofoldError(failure));
  },
  wrap: ({ plaintext, keyVersion }) => {
    if (wrapFailure !== null) return Promise.reject(new TwofoldError(wrapFailure));
    const envelope = envelopeOf(sealsBy, keyVersion);
    wrapped.set(envelope.join(), Uint8Array.from(plaintext.reveal()));
    return Promise.resolve(envelope);
  },
  unwrap: ({ envelope }) => {
    opened += 1;
    const known = wrapped.get(envelope.join());
    if (known === undefined) return Promise.reject(new TwofoldError('decryption_failed'));
    const plaintext = SecretBytes.copyOf(known);
    if (lies) plaintext.reveal().fill(0);
    return Promise.resolve({ plaintext, origin: 'service' });
  },
};
const managed = (
  changed: Partial<KeyService> = {},
  deadlineMs = 2_500,
  memory: AnnouncedMemory | null = null,
) =>
  new KeyManagement({
    memory,
    ...{ service: { ...service, ...changed }, provider: 'twofold', cluster: 'c1', key: 'secrets' },
    ...{ deadlineMs, now: () => now },
  });
/** `ok`, or the words that the call fails with. */
const healthOf = (of: KeyManagement) => of.status().then(({ healthz }) => healthz, causeOf);

beforeEach(() => {
  [now, asked, failure, announced, keyId, lies, sealsBy] = [0, 0, null, 1, KEY, false, KEY];
  wrapFailure = null;
  opened = 0;
  wrapped.clear();
});

describe('how often the service is asked', () => {
  test('once in ten seconds, however many ask, and by one round trip for all that ask at once', async () => {
    const management = managed();
    await Promise.all(Array.from({ length: 50 }, () => management.status()));
    expect([asked, wrapped.size]).toEqual([1, 1]);
    now = 9_999;
    await management.status();
    expect(asked).toBe(1);
    now = 10_000;
    await Promise.all(Array.from({ length: 50 }, () => management.status()));
    expect([asked, wrapped.size]).toEqual([2, 2]);
  });

  test('after a failure again in two seconds, so that what was mended is seen within one period', async () => {
    const management = managed();
    failure = 'forbidden';
    await expect(management.status()).rejects.toThrow(TwofoldError);
    now = 1_999;
    await expect(management.status()).rejects.toThrow(TwofoldError);
    expect(asked).toBe(1);
    failure = null;
    now = 2_000;
    expect(await healthOf(management)).toBe('ok');
  });
});

describe('what is told of a failure', () => {
  test('that passes by itself, only when it has lasted as long as a fail-over may', async () => {
    const management = managed();
    await management.status();
    failure = 'hsm_unavailable';
    now = 10_000;
    for (; now < 40_000; now += 2_000) expect(await healthOf(management)).toBe('ok');
    await expect(management.status()).rejects.toMatchObject({ code: 'hsm_unavailable' });
    expect(await healthOf(management)).toMatch(/^hsm_unavailable: .*twofold doctor/u);
    failure = null;
    now = 42_000;
    expect(await healthOf(management)).toBe('ok');
  });

  test.each<[ErrorCode, RegExp]>([
    ['forbidden', /Permit this provider/u],
    ['key_not_found', /Make the key/u],
    ['version_not_usable', /Resume the key/u],
    ['token_expired', /Renew the agent's token/u],
    ['internal', /^internal: see the log of the provider$/u],
  ])('that does not, at once, with what to do: %s', async (code, advice) => {
    const management = managed();
    await management.status();
    failure = code;
    now = 10_000;
    const healthz = await healthOf(management);
    expect(healthz.startsWith(`${code}: `)).toBe(true);
    expect(healthz).toMatch(advice);
  });

  test('a service that hangs is told in time, and not waited for', async () => {
    const management = managed({ state: () => new Promise(() => undefined) }, 50);
    const began = performance.now();
    await expect(management.status()).rejects.toMatchObject({ code: 'deadline_exceeded' });
    expect(performance.now() - began).toBeLessThan(1_000);
  });

  test('a round trip that gives back something else is no good service', async () => {
    const management = managed();
    await management.status();
    lies = true;
    now = 10_000;
    expect(await healthOf(management)).toMatch(/^integrity_failed: .*Restart no API server/u);
  });
});

describe('between the questions of API servers', () => {
  let management: KeyManagement;
  beforeEach(() => {
    jest.useFakeTimers();
    management = managed();
  });
  afterEach(() => {
    management.close();
    jest.useRealTimers();
  });
  /** What each Status said, asked from 0 on. */
  const polled = async (everyMs: number, untilMs: number, away: readonly [number, number]) => {
    const said: string[] = [];
    for (now = 0; now <= untilMs; now += 1_000) {
      failure = now >= away[0] && now < away[1] ? 'database_unavailable' : null;
      await jest.advanceTimersByTimeAsync(now === 0 ? 0 : 1_000);
      if (now % everyMs === 0) said.push((await healthOf(management)).split(':')[0] ?? '');
    }
    return said;
  };

  test.each<[string, number, [number, number]]>([
    ['just where one asks that does once a minute', 60_000, [60_000, 63_000]],
    ['over two of 20 s', 20_000, [19_000, 41_000]],
    ['for all but the grace, between two', 60_000, [31_000, 60_000]],
  ])('a failure that is shorter than the grace is not told: %s', async (_what, every, away) => {
    expect(new Set(await polled(every, 180_000, away))).toEqual(new Set(['ok']));
  });

  test('one that has lasted is told at the first question, and the service is asked once in ten seconds', async () => {
    expect(await polled(60_000, 120_000, [21_000, 90_000])).toEqual([
      'ok',
      'database_unavailable',
      'ok',
    ]);
    expect(asked).toBeLessThanOrEqual(13);
  });

  test.each<[string, number, number]>([
    ['each 60 s', 60_000, 20],
    ['each 20 s', 20_000, 30],
  ])(
    'a whole round trip is made for API servers, and twice a minute: asked %s',
    async (_what, every, most) => {
      await polled(every, 599_000, [0, 0]);
      expect(asked).toBeGreaterThanOrEqual(60);
      expect(wrapped.size).toBeGreaterThanOrEqual(20);
      expect(wrapped.size).toBeLessThanOrEqual(most);
    },
  );

  test('what the state does not tell is seen by itself, and lasts until a whole round trip is good', async () => {
    await management.status();
    wrapFailure = 'hsm_unavailable';
    // Seen first at 30 s.
    expect(await polled(20_000, 80_000, [0, 0])).toEqual([
      ...['ok', 'ok', 'ok', 'hsm_unavailable', 'hsm_unavailable'],
    ]);
    wrapFailure = null;
    expect((await polled(20_000, 20_000, [0, 0])).at(-1)).toBe('ok');
  });

  test('what the state tells is taken without an API server: that the database was set back', async () => {
    announced = 3;
    await management.status();
    announced = 2;
    now = 10_000;
    await jest.advanceTimersByTimeAsync(10_000);
    expect(asked).toBe(2);
    const sealing = management.encrypt(
      { plaintext: new Uint8Array(32), uid: 'u' },
      { milliseconds: 9 },
    );
    await expect(sealing).rejects.toMatchObject({ code: 'log_rolled_back' });
  });

  test('a later version is announced once it has wrapped', async () => {
    const { keyId: first } = await management.status();
    [announced, wrapFailure] = [2, 'hsm_unavailable'];
    const told: string[] = [];
    for (now = 10_000; now <= 30_000; now += 10_000) {
      await jest.advanceTimersByTimeAsync(10_000);
      if (now === 20_000) wrapFailure = null;
      told.push((await management.status()).keyId);
    }
    expect(told.map((keyId) => keyId === first)).toEqual([true, true, false]);
  });

  test('who asks while the state is asked for alone is answered after a whole round trip', async () => {
    management.close();
    let release = (): void => undefined;
    const gate = () => new Promise<void>((resolve) => (release = resolve));
    let waits = Promise.resolve();
    management = managed({
      state: () => waits.then(() => service.state(new AbortController().signal)),
    });
    await management.status();
    waits = gate();
    now = 10_000;
    await jest.advanceTimersByTimeAsync(10_000);
    const said = healthOf(management);
    lies = true;
    release();
    expect(await said).toMatch(/^integrity_failed/u);
  });

  test('nobody is asked where no API server has asked for two minutes', async () => {
    await polled(1_000_000, 110_000, [0, 0]);
    expect(asked).toBeGreaterThanOrEqual(11);
    await polled(1_000_000, 0, [0, 0]);
    const before = asked;
    now = 600_000;
    await jest.advanceTimersByTimeAsync(60_000);
    expect(asked).toBeLessThanOrEqual(before + 1);
    // How long it has been away nobody knows: no grace.
    failure = 'database_unavailable';
    now = 1_200_000;
    expect(await healthOf(management)).toMatch(/^database_unavailable/u);
    management.close();
    const last = asked;
    await jest.advanceTimersByTimeAsync(60_000);
    expect(asked).toBe(last);
  });
});

describe('an envelope of another key than is told of, as another installation makes it', () => {
  const sealing = (management: KeyManagement) =>
    management.encrypt({ plaintext: new Uint8Array(32), uid: 'u' }, { milliseconds: Infinity });

  test('is never answered under the key_id of this one', async () => {
    const management = managed();
    const { keyId: told } = await management.status();
    expect((await sealing(management)).keyId).toBe(told);
    sealsBy = OTHER;
    await expect(sealing(management)).rejects.toMatchObject({ code: 'key_mismatch' });
  });

  test('fails Status at once, with what to do', async () => {
    const management = managed();
    await management.status();
    sealsBy = OTHER;
    now = 10_000;
    expect(await healthOf(management)).toMatch(/^key_mismatch: .*--server/u);
  });
});

describe('what was announced', () => {
  const turn = (management: KeyManagement) => {
    now += 10_000;
    return management.status();
  };

  test('rises, by a key_id that was never there before', async () => {
    const management = managed();
    const seen = new Set([(await management.status()).keyId]);
    for (announced = 2; announced < 10; announced += 1) seen.add((await turn(management)).keyId);
    expect(seen.size).toBe(9);
  });

  test('is never left for an earlier version: a database that was set back is named', async () => {
    const management = managed();
    announced = 3;
    const { keyId: before } = await management.status();
    announced = 2;
    const message = expect.stringMatching(/^Version 3 was announced/u) as unknown;
    await expect(turn(management)).rejects.toMatchObject({ code: 'log_rolled_back', message });
    const sealing = () =>
      management.encrypt({ plaintext: new Uint8Array(32), uid: 'u' }, { milliseconds: Infinity });
    // Of versions 1 to 3 the service may make 3 anew: nothing is sealed.
    await expect(sealing()).rejects.toMatchObject({ code: 'log_rolled_back' });
    announced = 3;
    now += 2_000;
    expect((await sealing()).keyId).toBe(before);
  });

  test('is never taken for another version of the same number: one that was set back and rotated again', async () => {
    const management = managed();
    announced = 3;
    await management.status();
    announced = 2;
    await expect(turn(management)).rejects.toMatchObject({ code: 'log_rolled_back' });
    // Its material went with the database: nothing opens that was sealed under it.
    wrapped.clear();
    announced = 3;
    for (let n = 0; n < 3; n += 1) {
      const message = expect.stringMatching(/^Version 3 is no longer the one/u) as unknown;
      await expect(turn(management)).rejects.toMatchObject({ code: 'log_rolled_back', message });
    }
    // The way out, which asks nothing of what is lost.
    announced = 4;
    expect((await turn(management)).healthz).toBe('ok');
    await management.status();
  });

  test('is looked at for that where nobody has looked for a while', async () => {
    const management = managed();
    await management.status();
    wrapped.clear();
    now += 60_000;
    expect(await healthOf(management)).toMatch(/^log_rolled_back: Version 1 is no longer/u);
  });

  test('is looked at for that after a failure, and of the version that is announced', async () => {
    const management = managed();
    await management.status();
    await turn(management);
    expect(opened).toBe(2);
    failure = 'database_unavailable';
    await turn(management);
    failure = null;
    await turn(management);
    expect(opened).toBe(4);
    await turn(management);
    expect(opened).toBe(5);
    // Version 1 may be retired and destroyed by now.
    failure = 'database_unavailable';
    await turn(management);
    [failure, announced] = [null, 2];
    wrapped.clear();
    expect((await turn(management)).healthz).toBe('ok');
    expect(opened).toBe(6);
  });

  test('nor for a version of another key', async () => {
    const management = managed();
    await management.status();
    [keyId, sealsBy] = [OTHER, OTHER];
    const message = expect.stringMatching(/another key/u) as unknown;
    await expect(turn(management)).rejects.toMatchObject({ code: 'invalid_value', message });
  });
});

describe('what is kept of it over a restart', () => {
  const memoryOf = (
    keep: (latest: Announced) => Promise<boolean>,
    last: Announced | null = null,
  ) => {
    const tries: number[] = [];
    const memory: AnnouncedMemory = {
      place: '/state/announced.json',
      last: () => Promise.resolve(last),
      keep: (latest) => {
        tries.push(latest.announced);
        return keep(latest);
      },
    };
    return { memory, tries };
  };
  const after = (management: KeyManagement, milliseconds: number) => {
    now += milliseconds;
    return healthOf(management);
  };

  test('is tried again at each round trip until it is kept, and then no more', async () => {
    let full = true;
    const { memory, tries } = memoryOf(() => Promise.resolve(!full));
    const management = managed({}, 2_500, memory);
    for (let n = 0; n < 3; n += 1) expect(await after(management, 10_000)).toBe('ok');
    expect(tries).toEqual([1, 1, 1]);
    full = false;
    for (let n = 0; n < 3; n += 1) expect(await after(management, 10_000)).toBe('ok');
    expect(tries).toEqual([1, 1, 1, 1]);
    announced = 2;
    await after(management, 10_000);
    expect(tries.slice(4)).toEqual([2]);
  });

  test('a disk that stalls holds one Status within its deadline, and no other; one write is under way', async () => {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const { memory, tries } = memoryOf(() => promise);
    const management = managed({}, 100, memory);
    const began = performance.now();
    expect(await after(management, 10_000)).toBe('ok');
    expect(performance.now() - began).toBeLessThan(1_000);
    announced = 2;
    expect(await after(management, 10_000)).toBe('ok');
    expect(tries).toEqual([1]);
    resolve(true);
    await promise;
    expect(await after(management, 10_000)).toBe('ok');
    expect(await after(management, 10_000)).toBe('ok');
    expect(tries).toEqual([1, 2]);
  });

  test('who asks while a question for the state alone is being kept is answered after a whole round trip', async () => {
    const reached = Promise.withResolvers<undefined>();
    const gate = Promise.withResolvers<boolean>();
    const answers = [Promise.resolve(false), gate.promise, Promise.resolve(true)];
    const { memory, tries } = memoryOf(() => {
      if (tries.length === 2) reached.resolve(undefined);
      return answers[tries.length - 1] ?? Promise.resolve(true);
    });
    jest.useFakeTimers({ doNotFake: ['performance'] });
    const management = managed({}, 2_500, memory);
    try {
      expect(await after(management, 0)).toBe('ok');
      expect([asked, wrapped.size]).toEqual([1, 1]);
      now = 10_000;
      await jest.advanceTimersByTimeAsync(10_000);
      await reached.promise;
      const said = [healthOf(management), healthOf(management)];
      lies = true;
      gate.resolve(true);
      for (const health of await Promise.all(said)) expect(health).toMatch(/^integrity_failed/u);
      expect([asked, wrapped.size]).toEqual([3, 2]);
    } finally {
      management.close();
      jest.useRealTimers();
    }
  });

  test('a read that stalls fails Status in time', async () => {
    const { memory } = memoryOf(() => Promise.resolve(true));
    const stalled = { ...memory, last: () => new Promise<null>(() => undefined) };
    await expect(managed({}, 50, stalled).status()).rejects.toMatchObject({
      code: 'deadline_exceeded',
    });
  });

  test('nobody is told to remove it after a roll-back, which is what it holds against', async () => {
    const { memory, tries } = memoryOf(() => Promise.resolve(true), {
      ...{ keyId: KEY, announced: 3, probe: null },
    });
    const rolledBack = await healthOf(managed({}, 2_500, memory));
    expect(rolledBack).toMatch(/^log_rolled_back: .*announced\.json says so\.$/u);
    expect(rolledBack).not.toContain('remove');
    [keyId, sealsBy] = [OTHER, OTHER];
    const other = await healthOf(managed({}, 2_500, memory));
    expect(other).toMatch(/^invalid_value: .*announced\.json says so: .*remove it and start/u);
    expect(tries).toEqual([]);
  });

  describe('its probe', () => {
    /** What a process before this one kept, as the service has it now. */
    const keptOf = async (keyVersion: number): Promise<Uint8Array> => {
      using plaintext = SecretBytes.own(new Uint8Array(32));
      const call = { plaintext, keyVersion, context: {}, uid: null };
      return await service.wrap(call, new AbortController().signal);
    };
    const keeping = (probe: Uint8Array | null, version: number) => {
      const kept: Announced[] = [];
      const { memory } = memoryOf(
        (latest) => {
          kept.push(latest);
          return Promise.resolve(true);
        },
        { keyId: KEY, announced: version, probe },
      );
      return { kept, management: managed({}, 2_500, memory) };
    };

    test('says to a process that starts whether the version is still the one', async () => {
      const probe = await keptOf(1);
      const { kept, management } = keeping(probe, 1);
      for (let n = 0; n < 3; n += 1) expect(await after(management, 10_000)).toBe('ok');
      expect(kept).toEqual([]);
      wrapped.delete(probe.join());
      const another = keeping(probe, 1).management;
      const said = await healthOf(another);
      expect(said).toMatch(
        /^log_rolled_back: Version 1 is no longer .*announced\.json says so\.$/u,
      );
      expect(said).not.toContain('remove');
    });

    test('of a version that was left is not asked about, and is replaced', async () => {
      const probe = await keptOf(1);
      wrapped.clear();
      announced = 2;
      const { kept, management } = keeping(probe, 1);
      expect(await healthOf(management)).toBe('ok');
      expect(kept).toMatchObject([{ announced: 2 }]);
      expect(kept[0]?.probe).not.toEqual(probe);
    });

    test('is added to what has none', async () => {
      const { kept, management } = keeping(null, 1);
      for (let n = 0; n < 3; n += 1) expect(await after(management, 10_000)).toBe('ok');
      const held = expect.any(Uint8Array) as unknown;
      expect(kept).toEqual([{ keyId: KEY, announced: 1, probe: held }]);
    });

    test('that cannot be opened now has the grace of what passes', async () => {
      const probe = await keptOf(1);
      const { memory } = memoryOf(() => Promise.resolve(true), {
        ...{ keyId: KEY, announced: 1, probe },
      });
      let away = true;
      const management = managed(
        {
          unwrap: (request, signal) =>
            away
              ? Promise.reject(new TwofoldError('hsm_unavailable'))
              : service.unwrap(request, signal),
        },
        2_500,
        memory,
      );
      expect(await healthOf(management)).toMatch(/^hsm_unavailable/u);
      away = false;
      expect(await after(management, 2_000)).toBe('ok');
    });
  });
});
