/** What judges a chaos run sees each lie of a service, and none where there is none. */
import { randomUUID } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';

import { Ledger } from '../../e2e/ledger.ts';
import type { Loaded } from '../../e2e/ledger.ts';
import type { Answer } from '../../e2e/service.ts';
import { resumed, triedEnough, unwrapsGoOn } from './bounds.ts';
import type { StrikePause } from './checker.ts';
import { Entries } from './entries.ts';
import { seeded } from './seeded.ts';
import { Suspensions } from './suspensions.ts';
import { makeKnown, Uses } from './uses.ts';

/** What it does wrong, once each time that it is asked. */
type Lie =
  | 'none'
  | 'an entry is lost'
  | 'two answers have one entry'
  | 'a rotation takes effect twice'
  | 'a creation takes effect twice'
  | 'a repeated change takes effect again'
  | 'a key is lost'
  | 'a wrap is lost'
  | 'a signature is lost'
  | 'another plaintext'
  | 'a bad signature verifies'
  | 'a suspended key wraps'
  | 'a suspended key signs';

interface Key {
  readonly name: string;
  readonly purpose: string;
  versions: number;
  suspended: boolean;
}

/** A service in a few lines, without a database: what a client can see of it. */
class Fake implements Loaded {
  running = true;
  readonly #lie: Lie;
  readonly #keys = new Map<string, Key>();
  readonly #entries = new Set<string>();
  readonly #replies = new Map<string, Answer>();
  #n = 0;
  #lied = false;

  constructor(lie: Lie) {
    this.#lie = lie;
  }

  /** The first time that it could. */
  #lies(lie: Lie): boolean {
    if (this.#lie !== lie || this.#lied) return false;
    this.#lied = true;
    return true;
  }

  #answer(status: number, json: object): Answer {
    this.#n += 1;
    const id = `1-${String(this.#n)}`;
    if (!this.#lies('an entry is lost')) this.#entries.add(id);
    const headers = new Headers({ 'Twofold-Audit-Id': id });
    const bytes = Buffer.from(JSON.stringify(json));
    return { status, headers, bytes, json: json as Answer['json'] };
  }

  request: Loaded['request'] = (method, path, body, options) => {
    const token = new Headers(options?.headers).get('Idempotency-Key');
    const known = token === null ? undefined : this.#replies.get(token);
    if (known !== undefined && this.#lie !== 'a repeated change takes effect again') {
      return Promise.resolve(known);
    }
    const answer = this.#act(method, path, (body ?? {}) as Record<string, string>);
    if (token !== null) this.#replies.set(token, answer);
    return Promise.resolve(answer);
  };

  #act(method: string, path: string, body: Record<string, string>): Answer {
    const [, name = '', operation = ''] =
      /^\/v1\/(?:admin\/)?keys\/([^/]+)(?:\/(\w+))?$/u.exec(path) ?? [];
    if (path === '/v1/admin/keys') return this.#create(String(body['name']), String(body['suite']));
    if (path.startsWith('/v1/keys?')) {
      const items = [...this.#keys.values()].map((key) => ({
        name: key.name,
        latestVersion: key.versions,
      }));
      return this.#answer(200, { items });
    }
    if (path.startsWith('/v1/audit/entries?')) {
      return this.#answer(200, { items: [...this.#entries].map((id) => ({ id })) });
    }
    const entry = /^\/v1\/audit\/entries\/(.+)$/u.exec(path)?.[1];
    if (entry !== undefined) return this.#answer(this.#entries.has(entry) ? 200 : 404, {});
    const key = this.#keys.get(name);
    if (key === undefined) return this.#answer(404, { code: 'key_not_found' });
    if (method === 'GET') return this.#answer(200, { purpose: key.purpose });
    return this.#use(key, operation, body);
  }

  #create(name: string, suite: string): Answer {
    const purpose = suite.startsWith('MLDSA') ? 'sign' : 'wrap';
    const make = (of: string) =>
      this.#keys.set(of, { name: of, purpose, versions: 1, suspended: false });
    if (!name.startsWith('load-') || !this.#lies('a key is lost')) make(name);
    if (this.#lies('a creation takes effect twice')) make(`load-${randomUUID().slice(0, 13)}`);
    return this.#answer(201, { name });
  }

  #use(key: Key, operation: string, body: Record<string, string>): Answer {
    if (operation === 'suspend' || operation === 'resume') {
      key.suspended = operation === 'suspend';
      return this.#answer(200, {});
    }
    if (operation === 'rotate') {
      key.versions += this.#lies('a rotation takes effect twice') ? 2 : 1;
      return this.#answer(200, { latestVersion: key.versions });
    }
    const lie = operation === 'sign' ? 'a suspended key signs' : 'a suspended key wraps';
    if (key.suspended && !this.#lies(lie)) {
      return this.#answer(409, { code: 'version_not_usable' });
    }
    if (operation === 'unwrap' && this.#lies('two answers have one entry')) this.#n -= 1;
    const { plaintext, ciphertext, message, signature } = body;
    switch (operation) {
      case 'wrap': {
        const lost = this.#lies('a wrap is lost');
        return this.#answer(200, { ciphertext: `${lost ? 'x' : 'c'}${String(plaintext)}` });
      }
      case 'unwrap': {
        if (ciphertext?.startsWith('c') !== true) {
          return this.#answer(422, { code: 'decryption_failed' });
        }
        const opened = this.#lies('another plaintext') ? 'x' : ciphertext.slice(1);
        return this.#answer(200, { plaintext: opened });
      }
      case 'sign': {
        const lost = this.#lies('a signature is lost');
        const made = `${lost ? 'x' : 's'}${String(message)}`;
        return this.#answer(200, { signature: made, keyVersion: key.versions });
      }
      default: {
        const valid = signature === `s${String(message)}`;
        return this.#answer(200, { valid: valid || this.#lies('a bad signature verifies') });
      }
    }
  }
}

/** So many changes take effect, and their answers are lost. */
const BROKEN = 5;

/** A run with every part of the load that judges, as the checker puts it together. */
async function faultsOf(lie: Lie): Promise<string[]> {
  const fake = new Fake(lie);
  const entries = new Entries();
  let changes = 0;
  const seen: Loaded = {
    running: true,
    request: async (method, path, body, options) => {
      const answer = await fake.request(method, path, body, options);
      if (options?.headers !== undefined && (changes += 1) % BROKEN === 0) {
        throw new Error('the connection broke');
      }
      const operation = /\/keys\/[^/]+\/(\w+)$/u.exec(path)?.[1] ?? null;
      if (!path.startsWith('/v1/audit/')) entries.answered(operation, answer);
      return answer;
    },
  };
  const random = seeded(7);
  const uses = new Uses(await makeKnown(seen.request), random);
  const ledger = new Ledger(random, 0, { mostKeys: () => 20, repeats: true });
  let actions = 0;
  const isOver = () => (actions += 1) > 400;
  await ledger.load(seen, 2, isOver);
  const until = performance.now() + 400;
  const isLate = () => performance.now() > until;
  const suspensions = (['wrap', 'sign'] as const).map(
    (purpose) => new Suspensions([seen], random, purpose),
  );
  await Promise.all([uses.run(seen.request, isLate), ...suspensions.map((one) => one.run(isLate))]);
  await ledger.finish(seen);
  return [
    ...(await ledger.lost(seen)),
    ...(await ledger.broken(seen)),
    ...ledger.surprises,
    ...uses.wrong,
    ...suspensions.flatMap(({ breaches }) => breaches),
    ...entries.shared,
    ...(await entries.missing(seen.request, 0)),
  ];
}

describe('what judges a chaos run', () => {
  it('finds nothing where nothing is wrong', async () => {
    expect(await faultsOf('none')).toEqual([]);
  });

  it.each<[Lie, RegExp]>([
    ['an entry is lost', /the log lacks entry/u],
    ['two answers have one entry', /two answers have the entry/u],
    ['a rotation takes effect twice', /versions, and .* were asked for/u],
    ['a creation takes effect twice', /has 1 versions, and 0 were asked for/u],
    ['a repeated change takes effect again', /versions, and .* were asked for/u],
    ['a key is lost', /is gone|key_not_found/u],
    ['a wrap is lost', /decryption_failed/u],
    ['a signature is lost', /signature of|verify: 200/u],
    ['another plaintext', /unwrap/u],
    ['a bad signature verifies', /verify: 200/u],
    ['a suspended key wraps', /wrap by a suspended key/u],
    ['a suspended key signs', /sign by a suspended key/u],
  ])('sees that %s', async (lie, said) => {
    expect((await faultsOf(lie)).join('\n')).toMatch(said);
  });
});

describe('what holds a chaos run to its times', () => {
  const GRACE_MS = 10_000;
  const pause = (name: string, ...zones: readonly (readonly [number, number])[]): StrikePause => ({
    name,
    ...{ changes: 0, commits: 0, unwraps: 0 },
    zones: zones.map(([commits, unwraps]) => ({ commits, unwraps })),
  });

  it('sees an unwrap that was away for longer than a second while its zone had a grace', () => {
    const fine = [
      pause('a', [100, 200], [8_000, 1_000]),
      // Beyond the grace, or as good as: what is not covered may be away.
      pause('b', [30_000, 16_000], [9_500, 1_500]),
    ];
    const held = (strikePauses: readonly StrikePause[], calmUnwraps: number) =>
      unwrapsGoOn(GRACE_MS, { strikePauses, calmUnwraps });
    expect(held(fine, 100)).toMatchObject({
      checked: expect.stringMatching(/in 1 of 2 faults;/u) as unknown,
      faults: [],
    });
    const late = [...fine, pause('c', [30_000, 16_000], [100, 1_001])];
    expect(held(late, 100).faults).toEqual(['c: 1001 ms']);
    // On a machine on which they pause by themselves, a second is not theirs to keep.
    expect(held(late, 200).faults).toEqual([]);
    const never = [...fine, pause('c', [100, 9_000])];
    expect(held(never, 200).faults).toEqual(['c: 9000 ms']);
  });

  it('sees a write that came late after a promotion, or never', () => {
    expect(resumed({ afterPromotion: [10, 5_000] }).faults).toEqual([]);
    expect(resumed({ afterPromotion: [5_001, null] }).faults).toEqual(['5001 ms', 'never']);
  });

  it('sees a run that had nothing to hold a proof against', () => {
    const enough = {
      afterPromotion: [1, 2, 3],
      counts: { suspend: 50 },
      strikePauses: Array.from({ length: 5 }, () => pause('a', [100, 200])),
    };
    expect(triedEnough(GRACE_MS, enough).faults).toEqual([]);
    const none = { afterPromotion: [], counts: {}, strikePauses: [pause('a', [10_000, 0])] };
    expect(triedEnough(GRACE_MS, none).faults).toEqual([
      '0 covered',
      '0 promotions',
      '0 suspensions',
    ]);
    expect(triedEnough(0, { ...enough, strikePauses: [] }).faults).toEqual([]);
  });
});
