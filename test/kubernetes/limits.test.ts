/** What the calls of an API server count against, and what may refuse them: never what others use up. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';

import { PolicyAuthorizer, systemPolicies } from '../../src/access/authorize.ts';
import type { Principal } from '../../src/access/grant.ts';
import { openGovernance } from '../../src/governance/governance.ts';
import type { NamespaceLimits } from '../../src/governance/limits.ts';
import type { LimitSettings } from '../../src/http/configured-limits.ts';
import { LimitGate } from '../../src/http/limit-gate.ts';
import { LimitRefusals } from '../../src/http/limit-refusals.ts';
import { StaleAnswer } from '../../src/audit/ports.ts';
import type { AuditDraft, AuditLog } from '../../src/audit/ports.ts';
import { TwofoldError } from '../../src/errors.ts';
import { KeyManagement } from '../../src/kubernetes/key-management.ts';
import { KeyringService } from '../../src/kubernetes/keyring-service.ts';
import { KmsServer } from '../../src/kubernetes/server.ts';
import { Limiter } from '../../src/limits/limiter.ts';
import { countsOf } from '../../src/main/kubernetes.ts';
import { NO_LIMITS } from '../http/service.ts';
import { aRun, openWorld } from '../keyring/world.ts';
import type { World } from '../keyring/world.ts';
import { ModelBuckets } from '../limits/model.ts';
import { openAgentForm } from './agent-form.ts';
import { announcerOf } from './announcer.ts';
import { PluginClient } from './apiserver.ts';
import { ALL_IN_USE } from './in-use.ts';

const RESOURCE_EXHAUSTED = 8;
const KEY = 'secrets';

let world: World;
let folder: string;
beforeAll(async () => {
  world = await openWorld();
  await world.create({ name: KEY, suite: 'A256GCM' });
  folder = mkdtempSync(join(tmpdir(), 'kms-'));
});
afterAll(async () => {
  await world.stop();
  rmSync(folder, { recursive: true });
});

/** What befalls the entries of calls: none can be made, or every other is overtaken by a change. */
let fault: 'entry' | 'stale' | null = null;
/** Reads of limits, while the database is silent; undefined: it answers. */
let silence: Promise<void> | undefined;
const whenAnswered = <T extends object>(sets: T): T =>
  new Proxy(sets, {
    get: (target, name) => {
      const method: unknown = Reflect.get(target, name);
      if (typeof method !== 'function') return method;
      return async (...asked: unknown[]): Promise<unknown> => {
        await silence;
        return Reflect.apply(method, target, asked) as unknown;
      };
    },
  });

/** A provider under limits of the configuration, on buckets and a clock of the test's. */
async function openProvider(settings: Partial<LimitSettings> = {}) {
  const { epoch, keyring } = world;
  const drafts: AuditDraft[] = [];
  const audit: Pick<AuditLog, 'record' | 'refusal' | 'leaving'> = {
    record: (draft, standing) => {
      if (fault === 'entry') return Promise.reject(new TwofoldError('audit_unavailable'));
      if (fault === 'stale' && drafts.length % 2 === 0) {
        drafts.push(draft);
        return Promise.reject(new StaleAnswer());
      }
      drafts.push(draft);
      return world.audit.record(draft, standing);
    },
    refusal: (operation) => world.audit.refusal(operation),
    leaving: (id, standing) => world.audit.leaving(id, standing),
  };
  let now = 1_000;
  const store = new ModelBuckets(() => now);
  const limiter = new Limiter({ store, now: () => now });
  const gate = new LimitGate({
    limiter,
    governance: openGovernance({ ...world.governing, sets: whenAnswered(world.governing.sets) }),
    keys: keyring.references,
    settings: { ...NO_LIMITS, ...settings },
  });
  const refusals = new LimitRefusals({ audit, epoch, onTrouble: () => undefined });
  const about = { cluster: 'c1', provider: 'twofold', key: KEY };
  const authorizer = PolicyAuthorizer.of({ epoch, policies: systemPolicies() });
  const service = new KeyringService({
    ...{ use: keyring.use, read: keyring.read, audit, epoch, namespace: 'default', ...about },
    authorizer,
    announcer: announcerOf(world, authorizer),
    namespaces: ALL_IN_USE,
    engineOf: () => 'native',
    counts: countsOf(() => ({ gate, refusals }), { namespace: 'default', key: KEY }),
  });
  let past = 0;
  const management = new KeyManagement({ service, ...about, now: () => performance.now() + past });
  const socket = join(folder, `${randomBytes(4).toString('hex')}.sock`);
  const server = new KmsServer({
    ...{ management, path: socket, group: null },
    observe: () => undefined,
    onTrouble: () => undefined,
  });
  await server.serve();
  const plugin = new PluginClient(socket);
  return {
    ...{ store, limiter, gate, refusals, plugin, drafts },
    pass: (ms: number) => (now += ms),
    /** Status asks the service anew at its next call. */
    expire: () => (past += 11_000),
    close: async () => {
      plugin.close();
      await refusals.stop();
      await server.stop();
    },
  };
}
type Provider = Awaited<ReturnType<typeof openProvider>>;

let provider: Provider;
let opened: Promise<Provider> | null = null;
const open = async (settings: Partial<LimitSettings> = {}) => {
  opened = openProvider(settings);
  provider = await opened;
};
const setLimits = async (limits: Partial<NamespaceLimits>) => {
  const governance = openGovernance(world.governing);
  const grant = world.grant('limits.change', null);
  const before = await governance.limits.get(grant);
  const none = { rates: new Map(), keys: new Map(), periods: new Map() };
  const quotas = { keys: null, versions: null };
  await governance.limits.put(
    grant,
    { ...none, quotas, ...limits },
    {
      ...aRun(),
      ifMatch: before?.revision ?? null,
      render: ({ revision }) => ({ status: 200, body: String(revision) }),
    },
  );
};
beforeEach(() => setLimits({}));
afterEach(async () => {
  await (await opened)?.close();
  opened = null;
});

/** How many of so many were answered, and the gRPC code of each that was not. */
async function calls(count: number, call: () => Promise<unknown>) {
  const codes: unknown[] = [];
  let answered = 0;
  for (let n = 0; n < count; n += 1) {
    await call().then(
      () => (answered += 1),
      (error: unknown) => codes.push((error as { code?: number }).code),
    );
    await provider.limiter.settled();
  }
  return { answered, codes: [...new Set(codes)] };
}
const seed = () => randomBytes(32);
const rate = (perMinute: number, burst: number) => ({ perMinute, burst });
const someone = {
  ...{ issuer: 'https://idp.example', subject: 'alice', method: 'token', namespace: null },
} as unknown as Principal;
const usedBy = (principal: Principal) =>
  ({ principal, namespace: 'default', plane: 'use', uses: true }) as const;
const byOthers = (key: string | null) =>
  provider.gate.count({ ...usedBy(someone), key }, 'wrap', 1, []);

describe('calls of an API server', () => {
  it('are refused at once by the rate of their key, and go on as it fills', async () => {
    await open();
    await setLimits({ keys: new Map([[KEY, rate(60, 10)]]) });
    const first = await calls(30, () => provider.plugin.encrypt(seed()));
    expect(first.answered).toBeGreaterThanOrEqual(10);
    expect(first.answered).toBeLessThanOrEqual(10 + 2);
    expect(first.codes).toEqual([RESOURCE_EXHAUSTED]);
    const began = performance.now();
    await expect(provider.plugin.encrypt(seed())).rejects.toMatchObject({
      code: RESOURCE_EXHAUSTED,
      details: expect.stringMatching(/^rate_limited: /u) as unknown,
    });
    // Far from the 2.5 s that a call may take.
    expect(performance.now() - began).toBeLessThan(1_000);
    provider.pass(5_000);
    const later = await calls(20, () => provider.plugin.encrypt(seed()));
    expect(later.answered).toBeGreaterThanOrEqual(3);
    expect(later.answered).toBeLessThanOrEqual(5 + 2);
  });

  it.each([
    ['the principal', { principalPerMinute: 60 }],
    ['the key', { keyPerMinute: 60 }],
  ])('are refused by the rate of the configuration for %s', async (_whose, settings) => {
    await open(settings);
    const value = await provider.plugin.encrypt(seed());
    const { answered, codes } = await calls(30, () => provider.plugin.decrypt(value));
    expect(answered).toBeLessThanOrEqual(10 + 2);
    expect(codes).toEqual([RESOURCE_EXHAUSTED]);
  });

  it('do not count the look of the provider at its own key, which limits never refuse', async () => {
    await open();
    await setLimits({ keys: new Map([[KEY, rate(1, 1)]]) });
    await calls(5, () => provider.plugin.encrypt(seed()));
    for (let n = 0; n < 5; n += 1) {
      provider.expire();
      expect(await provider.plugin.status()).toMatchObject({ healthz: 'ok' });
    }
  });

  it('are let through whatever others used up: rates of the namespace, and quotas', async () => {
    await open({ namespacePerMinute: 60, namespaceUsesPerDay: 10, keyUsesPerMonth: 10 });
    await setLimits({
      rates: new Map([['namespace.use', rate(60, 10)]]),
      periods: new Map([
        ['namespace.month', 10],
        ['key.day', 10],
        ['principal.day', 10],
      ]),
    });
    const others = await calls(60, () => byOthers(KEY));
    expect(others.answered).toBeLessThan(60);
    const value = await provider.plugin.encrypt(seed());
    expect(await calls(40, () => provider.plugin.decrypt(value))).toEqual({
      ...{ answered: 40, codes: [] },
    });
  });

  it.each([
    ['the namespace', { keyPerMinute: 0 }],
    ['the configuration', { keyPerMinute: 60 }],
  ])('are let through where others used up what %s lets of their key', async (_whose, settings) => {
    await open(settings);
    if (settings.keyPerMinute === 0) {
      await setLimits({ keys: new Map([[KEY, rate(60, 10)]]) });
    }
    const value = await provider.plugin.encrypt(seed());
    await provider.gate.count({ ...usedBy(someone), key: KEY }, 'wrap', 1_000, []);
    await provider.limiter.settled();
    await expect(byOthers(KEY)).rejects.toMatchObject({ code: 'rate_limited' });
    expect(await calls(8, () => provider.plugin.decrypt(value))).toEqual({
      ...{ answered: 8, codes: [] },
    });
    // By so much and no more, though nobody else uses it now.
    const { answered, codes } = await calls(20, () => provider.plugin.decrypt(value));
    expect(answered).toBeLessThanOrEqual(3);
    expect(codes).toEqual([RESOURCE_EXHAUSTED]);
  });

  it('count at the rate of their key: less is left to others', async () => {
    await open();
    await setLimits({ keys: new Map([[KEY, rate(60, 10)]]) });
    await calls(11, () => provider.plugin.encrypt(seed()));
    await expect(byOthers(KEY)).rejects.toMatchObject({ code: 'rate_limited' });
  });

  it('are counted where they are let through: less is left to others', async () => {
    await open();
    await setLimits({ periods: new Map([['namespace.month', 30]]) });
    const { answered } = await calls(50, () => provider.plugin.encrypt(seed()));
    expect(answered).toBe(50);
    const others = await calls(5, () => byOthers(null));
    expect(others.answered).toBe(0);
  });

  it('wait for no database, and are refused for nothing that it has not said', async () => {
    await open();
    await setLimits({ keys: new Map([[KEY, rate(60, 10)]]) });
    const value = await provider.plugin.encrypt(seed());
    await provider.limiter.settled();
    provider.store.down = true;
    const away = await calls(40, () => provider.plugin.decrypt(value));
    expect(away).toEqual({ answered: 40, codes: [] });
    // What was used meanwhile is owed.
    provider.store.down = false;
    provider.pass(1_000);
    const { answered } = await calls(20, () => provider.plugin.decrypt(value));
    expect(answered).toBeLessThanOrEqual(2);
  });

  it('wait for no database either that says nothing of limits which were never read', async () => {
    await open();
    await setLimits({ keys: new Map([[KEY, rate(60, 10)]]) });
    const value = await provider.plugin.encrypt(seed());
    await provider.close();
    await open();
    const { promise, resolve } = Promise.withResolvers<undefined>();
    silence = promise;
    try {
      const began = performance.now();
      expect(await calls(30, () => provider.plugin.decrypt(value))).toEqual({
        ...{ answered: 30, codes: [] },
      });
      // One of them waits; a call may take 2.5 s.
      expect(performance.now() - began).toBeLessThan(1_500);
      expect(provider.limiter.figures.allowed).toBe(0);
    } finally {
      silence = undefined;
      resolve(undefined);
    }
    // They count now, and the next one may be refused.
    for (let n = 0; n < 200 && provider.limiter.figures.allowed < 30; n += 1) await sleep(10);
    expect(provider.limiter.figures.allowed).toBe(30);
    const { answered, codes } = await calls(20, () => provider.plugin.decrypt(value));
    expect(answered).toBeLessThanOrEqual(2);
    expect(codes).toEqual([RESOURCE_EXHAUSTED]);
  });

  it('are given back where their entry cannot be made, and count once however often they run', async () => {
    await open();
    await setLimits({ periods: new Map([['namespace.month', 30]]) });
    const value = await provider.plugin.encrypt(seed());
    const uses = async () => {
      const left = await provider.gate.limitsOf({ ...usedBy(someone), key: KEY });
      return left.map((limit) => 30 - provider.gate.remaining(limit));
    };
    expect(await uses()).toEqual([1]);
    try {
      fault = 'entry';
      expect((await calls(5, () => provider.plugin.decrypt(value))).answered).toBe(0);
      expect((await calls(5, () => provider.plugin.encrypt(seed()))).answered).toBe(0);
      expect(await uses()).toEqual([1]);
      provider.drafts.length = 0;
      fault = 'stale';
      expect((await calls(5, () => provider.plugin.encrypt(seed()))).answered).toBe(5);
      expect(provider.drafts).toHaveLength(10);
    } finally {
      fault = null;
    }
    expect(await uses()).toEqual([6]);
  });

  it('that are refused have one entry in full, and a sum', async () => {
    await open();
    await setLimits({ keys: new Map([[KEY, rate(1, 1)]]) });
    await calls(5, () => provider.plugin.encrypt(seed()));
    const recorded = () => provider.drafts.filter(({ outcome }) => outcome === 'rate_limited');
    expect(recorded()).toMatchObject([{ operation: 'wrap', detail: { limit: 'key.use' } }]);
    await calls(20, () => provider.plugin.encrypt(seed()));
    expect(recorded()).toHaveLength(1);
    await provider.refusals.flush();
    expect(recorded().at(-1)).toMatchObject({
      actor: { subject: 'kubernetes' },
      detail: { limit: 'key.use' },
    });
    expect(Number(recorded().at(-1)?.detail['refused'])).toBeGreaterThanOrEqual(20);
  });
});

it('API servers are told of a limit at once by the agent too, which asks each server once', async () => {
  const store = new ModelBuckets(() => 0);
  const limited = { rates: { keyPerMinute: 60 }, leases: store, now: () => 0 };
  const form = await openAgentForm('A256GCM', {}, limited);
  const client = new PluginClient(form.socket);
  try {
    const refusals: number[] = [];
    for (let n = 0; n < 40 && refusals.length < 3; n += 1) {
      const began = performance.now();
      const failed = await client.encrypt(seed()).then(
        () => null,
        (error: unknown) => (error as { code?: number }).code,
      );
      if (failed === null) continue;
      expect(failed).toBe(RESOURCE_EXHAUSTED);
      refusals.push(performance.now() - began);
    }
    expect(refusals).toHaveLength(3);
    // It would go on for 2.4 s with what may pass by itself.
    expect(Math.min(...refusals)).toBeLessThan(1_000);
  } finally {
    client.close();
    await form.close();
  }
});
