import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { LOCAL_TOKEN_PREFIXES } from '../../src/access/local-access.ts';
import type { Admit } from '../../src/access/ports.ts';
import { TwofoldError } from '../../src/errors.ts';
import { UnauthenticatedGate } from '../../src/http/gate.ts';
import { openService } from './service.ts';

const LIMITS = { unauthenticatedPerMinute: 3, unauthenticatedSources: 4 };
/** A token that has to be checked, with what comes of it. */
const checked = (check: () => Promise<string>) => (admit: Admit) => admit(check);
const refuse = checked(() => Promise.reject(new TwofoldError('token_invalid')));
const accept = checked(() => Promise.resolve('principal'));
const known = () => Promise.resolve('principal');

async function outcome(pass: Promise<string>): Promise<string> {
  return pass.catch((error: unknown) => TwofoldError.from(error).code);
}

describe('UnauthenticatedGate', () => {
  const make = () => {
    let now = 0;
    const gate = new UnauthenticatedGate(LIMITS, () => now);
    return { gate, wait: (ms: number) => (now += ms) };
  };

  it('slows a source down after its refusals, and forgives it after a minute', async () => {
    const { gate, wait } = make();
    for (let index = 0; index < 3; index += 1) {
      expect(await outcome(gate.pass('192.0.2.1', false, refuse))).toBe('token_invalid');
    }
    expect(await outcome(gate.pass('192.0.2.1', false, refuse))).toBe('rate_limited');
    expect(await outcome(gate.pass('192.0.2.2', false, refuse))).toBe('token_invalid');
    wait(60_000);
    expect(await outcome(gate.pass('192.0.2.1', false, refuse))).toBe('token_invalid');
  });

  it('never keeps a valid token out for what others of its source sent', async () => {
    const { gate } = make();
    for (let index = 0; index < 50; index += 1)
      await outcome(gate.pass('192.0.2.11', true, refuse));
    expect(await outcome(gate.pass('192.0.2.11', true, accept))).toBe('principal');
  });

  it('bounds the checks under way, the more so when over', async () => {
    const { gate } = make();
    const never = checked(() => new Promise(() => undefined));
    for (let index = 0; index < 256; index += 1) void gate.pass('192.0.2.11', true, never);
    expect(await outcome(gate.pass('192.0.2.11', true, accept))).toBe('rate_limited');
    for (let index = 0; index < 3; index += 1) await outcome(gate.pass('192.0.2.12', true, refuse));
    for (let index = 0; index < 4; index += 1) void gate.pass('192.0.2.12', true, never);
    expect(await outcome(gate.pass('192.0.2.12', true, accept))).toBe('rate_limited');
    expect(await outcome(gate.pass('192.0.2.11', true, known))).toBe('principal');
    expect(await outcome(gate.pass('192.0.2.12', true, known))).toBe('principal');
  });

  it('counts an IPv6 /64 as one source, and a mapped IPv4 as itself', async () => {
    const { gate } = make();
    for (let index = 0; index < 3; index += 1) {
      await outcome(gate.pass(`2001:db8:1:2::${index}`, false, refuse));
      await outcome(gate.pass('::ffff:192.0.2.9', false, refuse));
    }
    expect(await outcome(gate.pass('2001:db8:1:2:3:4:5:6', false, refuse))).toBe('rate_limited');
    expect(await outcome(gate.pass('2001:db8:1:3::1', false, refuse))).toBe('token_invalid');
    expect(await outcome(gate.pass('192.0.2.9', false, refuse))).toBe('rate_limited');
  });

  it('knows a /64 in all its spellings', async () => {
    const { gate } = make();
    for (const address of ['2001:db8::1', '2001:db8:0:0:1::', '2001:0db8::ffff:0:0:2']) {
      expect(await outcome(gate.pass(address, false, refuse))).toBe('token_invalid');
    }
    expect(await outcome(gate.pass('2001:db8:0:0:5:6:7:8', false, refuse))).toBe('rate_limited');
    expect(await outcome(gate.pass('2001:db8:0:1::1', false, refuse))).toBe('token_invalid');
  });

  it.each(['rate_limited', 'database_unavailable', 'internal'] as const)(
    'does not hold %s against a source',
    async (code) => {
      const { gate } = make();
      const fail = checked(() => Promise.reject(new TwofoldError(code)));
      for (let index = 0; index < 5; index += 1) await outcome(gate.pass('::1', true, fail));
      expect(await outcome(gate.pass('::1', false, refuse))).toBe('token_invalid');
    },
  );

  it('does the same work for a new source however many there are', async () => {
    const unauthenticatedSources = 20_000;
    const gate = new UnauthenticatedGate({ ...LIMITS, unauthenticatedSources }, () => 0);
    const address = (index: number) => `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;
    const send = async (from: number, many: number) => {
      // Processor time: what else the machine does is not counted.
      const started = process.cpuUsage();
      for (let index = from; index < from + many; index += 1) {
        await outcome(gate.pass(address(index), true, accept));
      }
      const { user, system } = process.cpuUsage(started);
      return (user + system) / 1000;
    };
    await send(0, 1000);
    const before = await send(1000, 19_000);
    // Scanning the full table for each of as many would take some hundred times as long.
    expect(await send(20_000, 19_000)).toBeLessThan(before * 20 + 200);
  });

  it('remembers a bounded number of sources; further ones share', async () => {
    const { gate, wait } = make();
    for (let index = 11; index < 18; index += 1) {
      await outcome(gate.pass(`192.0.2.${index}`, false, refuse));
    }
    expect(await outcome(gate.pass('192.0.2.18', false, refuse))).toBe('rate_limited');
    expect(await outcome(gate.pass('192.0.2.11', false, refuse))).toBe('token_invalid');
    wait(60_000);
    expect(await outcome(gate.pass('192.0.2.18', false, refuse))).toBe('token_invalid');
  });
});

it('refusals over the bound answer 429 with Retry-After; a valid token still works', async () => {
  const service = await openService({ options: { limits: { unauthenticatedPerMinute: 2 } } });
  try {
    const codes: unknown[] = [];
    for (let index = 0; index < 3; index += 1) {
      codes.push((await service.call(null, 'GET', '/v1/whoami')).json['code']);
    }
    expect(codes).toEqual(['token_missing', 'token_missing', 'rate_limited']);
    const limited = await service.call(null, 'GET', '/v1/whoami');
    expect([limited.status, limited.headers.get('retry-after')]).toEqual([429, '10']);
    expect((await service.call('user', 'GET', '/v1/whoami')).status).toBe(200);
  } finally {
    await service.stop();
  }
});

it('a token that was verified before is answered while its source has no check to spare', async () => {
  const under: (() => void)[] = [];
  const service = await openService({
    replace: ({ authenticator }) => ({
      authenticator: {
        authenticate: (credentials, admit = (work) => work()) =>
          credentials.authorization === 'Bearer slow'
            ? admit(
                () =>
                  new Promise((_, reject) =>
                    under.push(() => reject(new TwofoldError('token_invalid'))),
                  ),
              )
            : authenticator.authenticate(credentials, admit),
      },
    }),
  });
  try {
    const user = await service.token('user');
    const ask = async (token: string) => {
      const headers = { authorization: `Bearer ${token}` };
      return (await service.call(null, 'GET', '/v1/whoami', { headers })).status;
    };
    expect(await ask(user)).toBe(200);
    const slow = Array.from({ length: 256 }, () => ask('slow'));
    while (under.length < 256) await setImmediate();
    expect(await ask(await service.token('user'))).toBe(429);
    expect(await ask(user)).toBe(200);
    for (const end of under) end();
    expect(new Set(await Promise.all(slow))).toEqual(new Set([401]));
  } finally {
    await service.stop();
  }
});

describe('a token of the form of those made on the machine', () => {
  it('costs a look at the database, of which a source that was refused has four at once', async () => {
    const service = await openService({ options: { limits: { unauthenticatedPerMinute: 3 } } });
    const { promise: held, resolve: release } = Promise.withResolvers<undefined>();
    try {
      let sent = 0;
      const guess = async () => {
        sent += 1;
        const token = `${LOCAL_TOKEN_PREFIXES['break-glass']}${String(sent).padStart(43, 'A')}`;
        const headers = { authorization: `Bearer ${token}` };
        return (await service.call(null, 'GET', '/v1/whoami', { headers })).json['code'];
      };
      for (let index = 0; index < 3; index += 1) expect(await guess()).toBe('token_invalid');
      const { sets } = service.world.governing;
      const read = sets.set.bind(sets);
      let reads = 0;
      sets.set = async (kind, ...of) => {
        if (kind === 'break-glass') {
          reads += 1;
          await held;
        }
        return read(kind, ...of);
      };
      const refused = Promise.withResolvers<undefined>();
      let over = 0;
      const guesses = Array.from({ length: 12 }, async () => {
        const code = await guess();
        if (code === 'rate_limited' && (over += 1) === 8) refused.resolve(undefined);
        return code;
      });
      await refused.promise;
      expect(reads).toBeLessThanOrEqual(4);
      release(undefined);
      const codes = await Promise.all(guesses);
      expect(codes.filter((code) => code === 'token_invalid')).toHaveLength(4);
    } finally {
      release(undefined);
      await service.stop();
    }
  });
});

describe('what is remembered of a token', () => {
  it('is one thing for all namespaces that can be none, and bounded for those that could', async () => {
    const service = await openService();
    try {
      const { authenticator } = service;
      const ask = async (namespace: string) => {
        const headers = { 'twofold-namespace': namespace };
        return (await service.call('user', 'GET', '/v1/keys/k', { headers })).status;
      };
      await ask('default');
      const before = authenticator.cached;
      for (let index = 0; index < 20; index += 1) await ask(`No Name ${String(index)}`);
      await ask('x'.repeat(5_000));
      expect(authenticator.cached).toBe(before + 1);
      for (let index = 0; index < 20; index += 1) await ask(`nowhere-${String(index)}`);
      expect(authenticator.cached).toBeLessThanOrEqual(before + 21);
    } finally {
      await service.stop();
    }
  });
});
