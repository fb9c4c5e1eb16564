/** Arbitrary policies and events over ten years in one loop: what a scheduler would live through. */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { later, storedDuration } from '../../src/keyring/durations.ts';
import { paused, resumed } from '../../src/keyring/rotation-policy.ts';
import type { RotationPolicy } from '../../src/keyring/rotation-policy.ts';
import { dueActions, identityOf, nextDue } from '../../src/rotation/due.ts';
import type { DueAction } from '../../src/rotation/due.ts';
import { fractionOf, jitterMs } from '../../src/rotation/jitter.ts';
import type { ScheduledKey, ScheduledVersion } from '../../src/rotation/scheduled-key.ts';
import { anyPolicy, policy } from '../keyring/policies.ts';
import { DAY, START, key, version, withNotice, withVersion } from './keys.ts';

const END = START + 3_653 * DAY;
const MOST_STEPS = 400;

const activated = (of: ScheduledKey, number: number, at: Date): ScheduledKey => ({
  ...withVersion(of, number, { state: 'active', activatedAt: at, activateAt: null }),
  primary: number,
});

const superseding = (of: ScheduledKey, at: Date): readonly ScheduledVersion[] =>
  of.versions.map((each) =>
    each.supersededAt === null && each.version === of.versions.length
      ? { ...each, supersededAt: at }
      : each,
  );

/** The key after an action that ran at `at`. */
function after(of: ScheduledKey, action: DueAction, at: Date): ScheduledKey {
  switch (action.kind) {
    case 'rotate': {
      const number = of.versions.length + 1;
      const made = version(number, {
        suite: action.suite,
        createdAt: at,
        activatedAt: at,
        supersededAt: null,
      });
      return { ...of, primary: number, uses: 0, versions: [...superseding(of, at), made] };
    }
    case 'activate':
      return activated(of, action.version, at);
    case 'deactivate':
      return withVersion(of, action.version, { state: 'deactivated', deactivateAt: null });
    case 'retire': {
      const closed = { state: 'deactivated', deactivateAt: null, retired: of.revision } as const;
      const retired = withVersion(of, action.version, closed);
      return { ...retired, minUsableVersion: Math.max(of.minUsableVersion, action.version + 1) };
    }
    case 'destroy-version':
      return withVersion(of, action.version, { state: 'destroyed', destroyAt: null });
    case 'destroy-key':
      return { ...of, destroyedAt: at, primary: null };
    case 'notice':
      return withNotice(of, action, at);
  }
}

interface Ran {
  readonly action: DueAction;
  readonly at: Date;
  readonly key: ScheduledKey;
}

/** Runs the first due action at the earliest moment, again and again; `change` is what else happens. */
function live(
  start: ScheduledKey,
  rules: RotationPolicy | null,
  check: (of: ScheduledKey, now: Date) => void = () => undefined,
): readonly Ran[] {
  const ran: Ran[] = [];
  let [of, now] = [start, new Date(START)];
  for (let step = 0; step < MOST_STEPS; step += 1) {
    const next = nextDue(of, rules, now);
    if (next === null || next.getTime() >= END) break;
    if (next > now) {
      expect(dueActions(of, rules, new Date(next.getTime() - 1))).toEqual([]);
      now = next;
    }
    const due = dueActions(of, rules, now);
    for (const { dueAt } of due) expect(next.getTime()).toBeLessThanOrEqual(dueAt.getTime());
    const [action] = due;
    if (action === undefined) throw new Error('nextDue named a moment at which nothing is due');
    of = after(of, action, now);
    ran.push({ action, at: now, key: of });
    check(of, now);
  }
  return ran;
}

const idOf = fc.uuid();
const born = (id: string): ScheduledKey =>
  withVersion(key(1, { id }), 1, { createdAt: new Date(START), activatedAt: new Date(START) });
const moment = fc.integer({ min: START, max: END }).map((each) => new Date(each));
const perhaps = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });

const anyVersion = (number: number): fc.Arbitrary<ScheduledVersion> =>
  fc
    .record({
      state: fc.constantFrom('active', 'suspended', 'deactivated', 'compromised', 'destroyed'),
      activatedAt: moment,
      deactivateAt: perhaps(moment),
      destroyAt: perhaps(moment),
      supersededAt: perhaps(moment),
    } as const)
    .map((over) => version(number, over));
const anyKey: fc.Arbitrary<ScheduledKey> = fc
  .record({
    id: idOf,
    suspended: fc.boolean(),
    destroyAt: perhaps(moment),
    destroyedAt: perhaps(moment),
    uses: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 2 ** 40 })),
    primary: perhaps(fc.integer({ min: 1, max: 4 })),
    minUsableVersion: fc.integer({ min: 1, max: 4 }),
    versions: fc.tuple(anyVersion(1), anyVersion(2), anyVersion(3), anyVersion(4)),
  })
  .map((over) => key(4, over));

describe('any key under any policy', () => {
  it('has nothing due before the next moment, and nothing due earlier than that', () => {
    fc.assert(
      fc.property(anyKey, perhaps(anyPolicy), moment, (of, rules, now) => {
        const next = nextDue(of, rules, now);
        for (const { dueAt } of dueActions(of, rules, now)) {
          expect(next?.getTime()).toBeLessThanOrEqual(dueAt.getTime());
          expect(dueAt.getTime()).toBeLessThanOrEqual(now.getTime());
        }
        if (next === null || next <= now) return;
        expect(dueActions(of, rules, now)).toEqual([]);
        expect(dueActions(of, rules, new Date(next.getTime() - 1))).toEqual([]);
        expect(dueActions(of, rules, next)).not.toEqual([]);
      }),
      { numRuns: 500 },
    );
  });

  it('is due for the same things at any later time, notices and what the end overtakes apart', () => {
    fc.assert(
      fc.property(anyKey, perhaps(anyPolicy), moment, moment, (of, rules, a, b) => {
        const [first, second] = a <= b ? [a, b] : [b, a];
        const lasting = (now: Date) =>
          dueActions({ ...of, destroyAt: null }, rules, now)
            .filter(({ kind }) => kind !== 'notice')
            .map((action) => `${identityOf(action)} ${action.dueAt.toISOString()}`);
        expect(lasting(second)).toEqual(expect.arrayContaining(lasting(first)));
      }),
      { numRuns: 500 },
    );
  });

  it('names each of its actions once', () => {
    fc.assert(
      fc.property(anyKey, perhaps(anyPolicy), moment, (of, rules, now) => {
        const names = dueActions(of, rules, now).map(identityOf);
        expect(new Set(names).size).toBe(names.length);
      }),
      { numRuns: 500 },
    );
  });

  it('is left alone once destroyed, and not rotated while suspended or ending', () => {
    fc.assert(
      fc.property(anyKey, anyPolicy, moment, (of, rules, now) => {
        const kinds = (over: Partial<ScheduledKey>) =>
          dueActions({ ...of, ...over }, rules, now).map(({ kind }) => kind);
        expect(kinds({ destroyedAt: now })).toEqual([]);
        for (const over of [{ suspended: true }, { destroyAt: now }, { primary: null }]) {
          expect(kinds({ destroyedAt: null, ...over })).not.toContain('rotate');
          expect(kinds({ destroyedAt: null, ...over })).not.toContain('retire');
        }
      }),
    );
  });
});

describe('ten years run in time', () => {
  it('under any policy: due times rise, no primary outlives its interval, no more is kept', () => {
    const unpaused = anyPolicy.map((rules) => ({ ...rules, paused: null }));
    fc.assert(
      fc.property(idOf, unpaused, (id, rules) => {
        const ran = live(born(id), rules);
        const done = ran.map(({ action }) => `${identityOf(action)} ${String(action.dueAt)}`);
        expect(new Set(done).size).toBe(done.length);
        let [latest, activation] = [-Infinity, START];
        const told = new Map<number, Date>();
        for (const { action, at, key: of } of ran) {
          if (action.kind === 'notice') {
            if (action.of === 'retirement') told.set(action.version, at);
            continue;
          }
          if (action.kind === 'retire' && rules.notice !== null) {
            const since = told.get(action.version)?.getTime() ?? Infinity;
            const least = later(since, storedDuration(rules.notice));
            expect(at.getTime()).toBeGreaterThanOrEqual(least);
          }
          expect(at.getTime()).toBeGreaterThanOrEqual(latest);
          latest = at.getTime();
          if (action.kind === 'rotate') {
            const oldest =
              rules.interval === null
                ? Infinity
                : later(activation, storedDuration(rules.interval));
            expect(at.getTime()).toBeLessThanOrEqual(oldest);
            activation = at.getTime();
          }
          const usable = of.versions.filter(
            (each) => each.version >= of.minUsableVersion && each.version <= (of.primary ?? 0),
          );
          // The rotation leaves one too many for as long as it takes to retire it.
          const keep = rules.retire?.keepVersions ?? Infinity;
          // And what was announced waits until its notice has passed.
          const running = usable.filter(({ version: number }) => {
            const since = told.get(number)?.getTime() ?? -Infinity;
            // A month before the end of one, and a month after that, may be days apart.
            const most = later(since, storedDuration(rules.notice ?? 'PT1S')) + 4 * DAY;
            return rules.notice !== null && at.getTime() <= most;
          });
          const over = (action.kind === 'rotate' ? 1 : 0) + running.length;
          expect(usable.length).toBeLessThanOrEqual(keep + over);
          expect(usable.length).toBeGreaterThan(0);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('has exactly the rotations that fit', () => {
    const days = fc.integer({ min: 30, max: 900 });
    fc.assert(
      fc.property(idOf, days, (id, every) => {
        const rules = policy({ interval: `P${String(every)}D` });
        const rotations = live(born(id), rules);
        const period = every * DAY - jitterMs(id, every * DAY);
        expect(rotations).toHaveLength(Math.ceil((END - START) / period) - 1);
        rotations.forEach(({ action, at }, index) => {
          expect(action).toMatchObject({ kind: 'rotate', cause: 'interval' });
          expect(at.getTime()).toBe(START + (index + 1) * period);
        });
      }),
    );
  });

  it('announces each rotation once', () => {
    fc.assert(
      fc.property(idOf, fc.integer({ min: 40, max: 400 }), (id, every) => {
        const rules = policy({ interval: `P${String(every)}D`, notice: 'P7D' });
        const ran = live(born(id), rules).map(({ action }) => action);
        ran.forEach((action, index) => {
          const announced = ran[index + 1];
          if (action.kind !== 'notice' || announced === undefined) return;
          expect(announced).toMatchObject({ kind: 'rotate', dueAt: action.for });
          expect(announced.dueAt.getTime() - action.dueAt.getTime()).toBe(7 * DAY);
        });
        expect(
          ran.filter((_, index) => index % 2 === 0).every(({ kind }) => kind === 'notice'),
        ).toBe(true);
      }),
    );
  });

  it('runs once what a pause held up, however many intervals it lasted', () => {
    fc.assert(
      fc.property(idOf, fc.integer({ min: 1, max: 3_000 }), (id, days) => {
        const rules = policy({ interval: 'P30D' });
        const stopped = paused(rules, { at: new Date(START), reason: 'freeze' });
        const now = new Date(START + days * DAY);
        expect(dueActions(born(id), stopped, now)).toEqual([]);
        const due = dueActions(born(id), resumed(stopped), now);
        const period = 30 * DAY - jitterMs(id, 30 * DAY);
        expect(due).toHaveLength(days * DAY >= period ? 1 : 0);
        for (const action of due) {
          expect(dueActions(after(born(id), action, now), resumed(stopped), now)).toEqual([]);
        }
      }),
    );
  });
});

it('the jitter is in [0, 5 %) of an interval and under 7 days', () => {
  fc.assert(
    fc.property(fc.uuid(), fc.integer({ min: 1, max: 36_525 * DAY }), (id, length) => {
      const jitter = jitterMs(id, length);
      expect(fractionOf(id)).toBeGreaterThanOrEqual(0);
      expect(fractionOf(id)).toBeLessThan(1);
      expect(jitter).toBeGreaterThanOrEqual(0);
      expect(jitter).toBeLessThanOrEqual(Math.min(0.05 * length, 7 * DAY));
    }),
  );
});
