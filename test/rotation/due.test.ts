import { describe, expect, it } from '@jest/globals';
import { findSuite } from '../../src/crypto/suites.ts';
import { paused, resumed } from '../../src/keyring/rotation-policy.ts';
import type { RotationPolicy } from '../../src/keyring/rotation-policy.ts';
import { dueActions, identityOf, nextDue } from '../../src/rotation/due.ts';
import type { DueAction } from '../../src/rotation/due.ts';
import { jitterMs } from '../../src/rotation/jitter.ts';
import { scheduledKey } from '../../src/rotation/scheduled-key.ts';
import type { ScheduledKey } from '../../src/rotation/scheduled-key.ts';
import { FULL, policy } from '../keyring/policies.ts';
import { KEY, VERSIONS, at as day } from '../keyring/samples.ts';
import { DAY, at, key, suite, version, withNotice, withVersion } from './keys.ts';

const numberOf = (id: string): number => findSuite(id).number;

const YEARS = at(4_000);
const YEARLY = policy({ interval: 'P365D' }, 3);
const STOPPED = { at: at(0), reason: 'freeze' };
const kinds = (actions: readonly DueAction[]) => actions.map(identityOf);
const JITTER = jitterMs(key(1).id, 365 * DAY);
/** When the primary of `key(1)` is due by its age. */
const DUE = new Date(at(1).getTime() + 365 * DAY - JITTER);
const before = (date: Date) => new Date(date.getTime() - 1);

describe('a rotation by age', () => {
  it('is due when the interval from the activation ends, less the jitter', () => {
    expect(JITTER).toBeGreaterThan(0);
    expect(dueActions(key(1), YEARLY, before(DUE))).toEqual([]);
    expect(dueActions(key(1), YEARLY, DUE)).toEqual([
      {
        kind: 'rotate',
        dueAt: DUE,
        cause: 'interval',
        primary: 1,
        latest: 1,
        suite: suite('MLKEM768-P256'),
        policyRevision: 3,
      },
    ]);
    expect(nextDue(key(1), YEARLY, at(2))).toEqual(DUE);
  });

  it('counts from the activation, not from the creation', () => {
    const late = withVersion(key(1), 1, { createdAt: at(-300) });
    expect(nextDue(late, YEARLY, at(2))).toEqual(DUE);
  });

  it('goes by the calendar', () => {
    const of = withVersion(key(1), 1, { activatedAt: new Date('2028-02-29T00:00:00.000Z') });
    const end = Date.parse('2029-02-28T00:00:00.000Z');
    const jitter = jitterMs(of.id, end - Date.parse('2028-02-29T00:00:00.000Z'));
    expect(nextDue(of, policy({ interval: 'P1Y' }), at(2))).toEqual(new Date(end - jitter));
  });

  it('is the same rotation however late it is found, and whatever the clock did', () => {
    const found = [DUE, at(10_000), DUE].map((now) => dueActions(key(1), YEARLY, now));
    expect(found[1]).toEqual(found[0]);
    expect(found[2]).toEqual(found[0]);
    expect(dueActions(key(1), YEARLY, at(1))).toEqual([]);
  });

  it.each([
    ['without a policy', key(1), null],
    ['without an interval', key(1), policy()],
    ['of a paused policy', key(1), paused(YEARLY, STOPPED)],
    ['of a suspended key', key(1, { suspended: true }), YEARLY],
    ['of a destroyed key', key(1, { destroyedAt: at(3) }), YEARLY],
    ['of a key without a primary', key(1, { primary: null }), YEARLY],
    [
      'of a key whose primary is deactivated',
      withVersion(key(1), 1, { state: 'deactivated' }),
      YEARLY,
    ],
  ])('is never due %s', (_name, of, rules) => {
    expect(dueActions(of, rules, YEARS)).toEqual([]);
    expect(nextDue(of, rules, YEARS)).toBeNull();
  });

  it('is never due for a key that awaits its destruction, which is', () => {
    const ending = key(1, { destroyAt: at(5_000) });
    expect(dueActions(ending, YEARLY, YEARS)).toEqual([]);
    expect(dueActions(ending, YEARLY, at(5_000))).toEqual([
      { kind: 'destroy-key', dueAt: at(5_000) },
    ]);
    expect(nextDue(ending, YEARLY, at(2))).toEqual(at(5_000));
  });

  it('is due once after a pause of many intervals', () => {
    const after = resumed(paused(YEARLY, STOPPED));
    expect(dueActions(key(1), after, YEARS)).toMatchObject([{ dueAt: DUE, policyRevision: 5 }]);
  });
});

describe('a rotation by use', () => {
  const limited = policy({ maxUses: 1_000 });
  const gcm = (uses: number, over = {}) =>
    withVersion(key(1, { uses, ...over }), 1, { suite: suite('A256GCM') });

  it('is due at the number of uses, named by the activation of the primary', () => {
    expect(dueActions(key(1, { uses: 999 }), limited, YEARS)).toEqual([]);
    expect(nextDue(key(1, { uses: 999 }), limited, YEARS)).toBeNull();
    expect(dueActions(key(1, { uses: 1_000 }), limited, at(2))).toMatchObject([
      { kind: 'rotate', cause: 'uses', dueAt: at(1) },
    ]);
  });

  it('waits while paused', () => {
    expect(dueActions(key(1, { uses: 1_000 }), paused(limited, STOPPED), YEARS)).toEqual([]);
  });

  it.each([
    ['without a policy', null, 0],
    ['with a policy that says nothing of it', policy({}, 4), 4],
    ['with a paused policy', paused(policy({}, 4), STOPPED), 5],
  ])('comes at 2^31 uses of AES-GCM %s', (_name, rules, policyRevision) => {
    expect(dueActions(gcm(2 ** 31 - 1), rules, YEARS)).toEqual([]);
    expect(dueActions(gcm(2 ** 31), rules, at(2))).toMatchObject([
      { kind: 'rotate', cause: 'gcm-limit', dueAt: at(1), suite: suite('A256GCM'), policyRevision },
    ]);
  });

  it('at 2^31 uses does not wait for an upgrade that is due and was not made', () => {
    const refused = policy({
      upgrade: { suite: findSuite('MLKEM768-P256').number, notBefore: at(1) },
    });
    const [first] = dueActions(gcm(2 ** 31), refused, at(2));
    expect(first).toMatchObject({ cause: 'gcm-limit', suite: findSuite('A256GCM').number });
    const [next] = dueActions(gcm(0), refused, at(2));
    expect(next).toMatchObject({ cause: 'upgrade', suite: findSuite('MLKEM768-P256').number });
  });

  it('does not come at 2^31 uses of another suite, nor of a key that is suspended or ending', () => {
    expect(dueActions(key(1, { uses: 2 ** 31 }), null, YEARS)).toEqual([]);
    expect(dueActions(gcm(2 ** 31, { suspended: true }), null, YEARS)).toEqual([]);
    expect(dueActions(gcm(2 ** 31, { destroyAt: at(9_000) }), null, YEARS)).toEqual([]);
    expect(dueActions(gcm(2 ** 31, { destroyedAt: at(3) }), null, YEARS)).toEqual([]);
    expect(dueActions(gcm(2 ** 31, { primary: null }), null, YEARS)).toEqual([]);
  });
});

describe('an upgrade', () => {
  const to = (id: string, days: number, over = {}) =>
    policy({ upgrade: { suite: numberOf(id), notBefore: at(days) }, ...over });
  const strong = suite('MLKEM1024-P384');

  it('is due at its date, not before', () => {
    const rules = to('MLKEM1024-P384', 50);
    expect(dueActions(key(1), rules, before(at(50)))).toEqual([]);
    expect(dueActions(key(1), rules, at(50))).toMatchObject([
      { cause: 'upgrade', dueAt: at(50), suite: strong },
    ]);
  });

  it('is done once the primary has the suite, and later rotations stay in it', () => {
    const done = withVersion(key(1), 1, { suite: strong, activatedAt: at(50) });
    const rules = to('MLKEM1024-P384', 50, { interval: 'P365D' });
    expect(dueActions(done, rules, at(60))).toEqual([]);
    expect(dueActions(done, rules, YEARS)).toMatchObject([{ cause: 'interval', suite: strong }]);
  });

  it('and an overdue rotation by age are one rotation', () => {
    const rules = to('MLKEM1024-P384', 500, { interval: 'P365D' });
    expect(dueActions(key(1), rules, at(499))).toMatchObject([
      { cause: 'interval', dueAt: DUE, suite: suite('MLKEM768-P256') },
    ]);
    expect(dueActions(key(1), rules, at(500))).toMatchObject([
      { cause: 'interval', dueAt: DUE, suite: strong },
    ]);
  });

  it('of a key that was taken out of the suite afterwards is another one', () => {
    const taken = withVersion(key(1), 1, { activatedAt: at(70) });
    expect(dueActions(taken, to('MLKEM1024-P384', 50), at(71))).toMatchObject([
      { cause: 'upgrade', dueAt: at(70) },
    ]);
  });

  it('to what the key may not have is never due', () => {
    expect(dueActions(key(1), to('DHKEM-P256', 50), YEARS)).toEqual([]);
    expect(dueActions(key(1), to('ML-DSA-65', 50), YEARS)).toEqual([]);
    const vulnerable = withVersion(key(1), 1, { suite: suite('DHKEM-P256') });
    expect(dueActions(vulnerable, to('DHKEM-P384', 50), YEARS)).toHaveLength(1);
  });

  it('waits while paused, also when the limit of AES-GCM rotates', () => {
    const rules = paused(to('MLKEM1024-P384', 50), STOPPED);
    expect(dueActions(key(1), rules, YEARS)).toEqual([]);
    const worn = withVersion(key(1, { uses: 2 ** 31 }), 1, { suite: suite('A256GCM') });
    expect(dueActions(worn, rules, YEARS)).toMatchObject([{ suite: suite('A256GCM') }]);
  });
});

describe('retirement', () => {
  const keep = (keepVersions: number | null, after: string | null = null) =>
    policy({ retire: { keepVersions, after } });
  const retired = (of: ReturnType<typeof key>, rules = keep(2), now = YEARS) =>
    dueActions(of, rules, now).map((action) => [identityOf(action), action.dueAt]);

  it('of what is more than is kept is due when the newer version became active', () => {
    expect(retired(key(2))).toEqual([]);
    expect(retired(key(4))).toEqual([
      ['retire/1/1', at(3)],
      ['retire/2/1', at(4)],
    ]);
    expect(retired(key(4), keep(1))).toEqual([
      ['retire/1/1', at(2)],
      ['retire/2/1', at(3)],
      ['retire/3/1', at(4)],
    ]);
    expect(retired(key(4, { minUsableVersion: 2 }))).toEqual([['retire/2/1', at(4)]]);
  });

  it('is due so long after the version was superseded', () => {
    const rules = keep(null, 'P30D');
    expect(retired(key(3), rules, before(at(32)))).toEqual([]);
    expect(retired(key(3), rules, at(32))).toEqual([['retire/1/1', at(32)]]);
    expect(retired(key(3), rules)).toEqual([
      ['retire/1/1', at(32)],
      ['retire/2/1', at(33)],
    ]);
  });

  it('comes by whichever is first', () => {
    expect(dueActions(key(3), keep(2, 'PT1H'), YEARS)).toMatchObject([
      { version: 1, cause: 'after', dueAt: new Date(at(2).getTime() + 3_600_000) },
      { version: 2, cause: 'after' },
    ]);
    expect(dueActions(key(3), keep(2, 'P30D'), at(30))).toMatchObject([
      { version: 1, cause: 'keep-versions', dueAt: at(3) },
    ]);
  });

  it('counts what is usable alone, and never takes the primary or what is above it', () => {
    const compromised = withVersion(key(4), 3, { state: 'compromised' });
    expect(retired(compromised)).toEqual([['retire/1/1', at(4)]]);
    const suspended = withVersion(key(4), 2, { state: 'suspended' });
    expect(retired(suspended)).toEqual([['retire/1/1', at(4)]]);
    const setBack = key(4, { primary: 2 });
    expect(retired(setBack, keep(1))).toEqual([['retire/1/1', at(2)]]);
  });

  it('of a suspended version waits until it is resumed, and is due then', () => {
    const suspended = withVersion(key(3), 2, { state: 'suspended' });
    expect(retired(suspended, keep(1, 'P30D'))).toEqual([['retire/1/1', at(3)]]);
    expect(retired(suspended, keep(null, 'P30D'))).toEqual([['retire/1/1', at(32)]]);
    expect(retired(withVersion(suspended, 2, { state: 'active' }), keep(null, 'P30D'))).toEqual([
      ['retire/1/1', at(32)],
      ['retire/2/1', at(33)],
    ]);
  });

  it.each([
    ['paused', key(4), paused(keep(1), STOPPED)],
    ['suspended', key(4, { suspended: true }), keep(1)],
    ['without a primary', key(4, { primary: null }), keep(1)],
    ['destroyed', key(4, { destroyedAt: at(5) }), keep(1)],
    ['ending', key(4, { destroyAt: at(9_000) }), keep(1)],
  ])('waits while %s', (_name, of, rules) => {
    expect(dueActions(of, rules, YEARS)).toEqual([]);
  });
});

describe('retirement under a policy with notice', () => {
  const rules = (terms: object, revision = 1) => policy({ notice: 'P30D', ...terms }, revision);
  const keep = (keepVersions: number, revision = 1) =>
    rules({ retire: { keepVersions, after: null } }, revision);
  const after = rules({ retire: { keepVersions: null, after: 'P90D' } });
  /** After all notices that are due. */
  const told = (of: ScheduledKey, by: RotationPolicy, now: Date): ScheduledKey =>
    dueActions(of, by, now).reduce(
      (so, action) => (action.kind === 'notice' ? withNotice(so, action, now) : so),
      of,
    );

  const noticeOf = (
    version: number,
    asked: number,
    retired: number,
    earlier: number,
    name = '-',
  ): string =>
    ['notice/retirement', version, at(asked).getTime(), name, retired, earlier].join('/');

  it('is announced first, and comes when the notice has passed since', () => {
    const notice = { kind: 'notice', of: 'retirement', version: 1, asked: at(3), for: at(90) };
    expect(dueActions(key(3), keep(2), at(60))).toMatchObject([{ ...notice, dueAt: at(3) }]);
    const announced = told(key(3), keep(2), at(60));
    expect(dueActions(announced, keep(2), before(at(90)))).toEqual([]);
    expect(nextDue(announced, keep(2), at(60))).toEqual(at(90));
    const [retire] = dueActions(announced, keep(2), at(90));
    expect(retire).toMatchObject({ kind: 'retire', version: 1, dueAt: at(90) });
  });

  it('at a time that is known before is announced before it, and comes then', () => {
    // Superseded on day 2, to be closed on day 92.
    expect(dueActions(key(2), after, before(at(62)))).toEqual([]);
    expect(nextDue(key(2), after, at(10))).toEqual(at(62));
    expect(dueActions(key(2), after, at(62))).toMatchObject([{ version: 1, for: at(92) }]);
    const announced = told(key(2), after, at(62));
    expect(nextDue(announced, after, at(62))).toEqual(at(92));
    expect(kinds(dueActions(announced, after, at(92)))).toEqual(['retire/1/1']);
    // Announced late, it comes late.
    expect(nextDue(told(key(2), after, at(80)), after, at(80))).toEqual(at(110));
  });

  it('is announced again under another revision, and when it moves to later', () => {
    const announced = told(key(3), keep(2), at(60));
    expect(kinds(dueActions(announced, keep(2, 2), at(61)))).toEqual([noticeOf(1, 3, 0, 1)]);
    // Version 3 fell: what pushed version 1 out is version 4, much later than was announced.
    const later = withVersion(key(4, { retiring: announced.retiring }), 4, {
      activatedAt: at(200),
    });
    const fallen = withVersion(later, 3, { state: 'compromised' });
    expect(kinds(dueActions(fallen, keep(2), at(200)))).toEqual([noticeOf(1, 200, 0, 1)]);
  });

  it('that moves to sooner stays when it was announced for', () => {
    const both = rules({ retire: { keepVersions: 2, after: 'P90D' } });
    const announced = told(key(2), both, at(62));
    const pushed = {
      ...withVersion(key(3), 3, { activatedAt: at(70) }),
      retiring: announced.retiring,
    };
    const retires = ({ kind }: DueAction) => kind === 'retire';
    expect(nextDue(pushed, both, at(70), retires)).toEqual(at(92));
  });

  it('of a version that was opened again is announced again, as another notice', () => {
    const opened = withVersion(told(key(3), keep(2), at(60)), 1, { retired: 7 });
    expect(kinds(dueActions(opened, keep(2), at(90)))).toEqual([noticeOf(1, 3, 7, 1)]);
    expect(nextDue(told(opened, keep(2), at(100)), keep(2), at(100))).toEqual(at(130));
    // Also where the clock went back behind the retirement.
    expect(nextDue(told(opened, keep(2), at(80)), keep(2), at(80))).toEqual(at(110));
  });

  it('of another policy of the same revision is announced again', () => {
    const own = told(key(3), keep(2), at(60));
    const named = { ...own, policyName: 'yearly' };
    const notice = noticeOf(1, 3, 0, 1, 'yearly');
    expect(kinds(dueActions(named, keep(2), at(90)))).toEqual([notice]);
    const both = told(named, keep(2), at(90));
    expect(nextDue(both, keep(2), at(90))).toEqual(at(120));
    const other = { ...both, policyName: 'other' };
    expect(kinds(dueActions(other, keep(2), at(120)))).toEqual([noticeOf(1, 3, 0, 2, 'other')]);
  });

  it('that did not come within a day of its announced time is announced again', () => {
    // Announced for day 90; the rotation was undone meanwhile, and version 1 protected until day 200.
    const announced = told(key(3), keep(2), at(60));
    const undone = { ...announced, primary: 1 };
    expect(dueActions(undone, keep(2), at(150))).toEqual([]);
    expect(kinds(dueActions(announced, keep(2), before(at(91))))).toEqual(['retire/1/1']);
    for (const now of [91, 200]) {
      const again = dueActions(announced, keep(2), at(now));
      expect(kinds(again)).toEqual([noticeOf(1, 3, 0, 1)]);
      expect(again).toMatchObject([{ for: at(now + 30), dueAt: at(91) }]);
    }
    const twice = told(announced, keep(2), at(200));
    expect(nextDue(twice, keep(2), at(200))).toEqual(at(230));
    expect(kinds(dueActions(twice, keep(2), at(230)))).toEqual(['retire/1/1']);
    // And whose window was closed by hand meanwhile, and opened after months.
    const closed = { ...announced, minUsableVersion: 2 };
    expect(dueActions(closed, keep(2), at(90))).toEqual([]);
  });

  it('is not announced by what was given later than now', () => {
    const ahead = told(key(3), keep(2), at(60));
    expect(kinds(dueActions(ahead, keep(2), at(50)))).toEqual([noticeOf(1, 3, 0, 1)]);
    const again = told(ahead, keep(2), at(50));
    expect(nextDue(again, keep(2), at(50))).toEqual(at(80));
    expect(nextDue(again, keep(2), at(61))).toEqual(at(80));
  });

  it('takes none before those under it, which it would close too', () => {
    const announced = told(withVersion(key(4), 1, { state: 'suspended' }), keep(2), at(60));
    const resumed = withVersion(announced, 1, { state: 'active' });
    expect(kinds(dueActions(resumed, keep(2), at(90)))).toEqual([noticeOf(1, 3, 0, 0)]);
    const both = told(resumed, keep(2), at(90));
    // That of version 2 lapses while it waits, and is given again.
    expect(nextDue(both, keep(2), at(90))).toEqual(at(91));
    const again = told(both, keep(2), at(91));
    expect(kinds(dueActions(again, keep(2), at(120)))).toEqual(['retire/1/1']);
    expect(kinds(dueActions(again, keep(2), before(at(121))))).toEqual(['retire/1/1']);
    const one = { ...again, minUsableVersion: 2 };
    expect(kinds(dueActions(one, keep(2), at(121)))).toEqual(['retire/2/1']);
  });
});

describe('what was set in advance', () => {
  const set = key(4, {
    versions: [
      version(1, { state: 'compromised', destroyAt: at(40) }),
      version(2, { state: 'deactivated', destroyAt: at(30) }),
      version(3, { deactivateAt: at(20) }),
      version(4, { supersededAt: null }),
      version(5, { state: 'pre-active', activatedAt: null, activateAt: at(10) }),
    ],
  });
  const ALL = ['activate/5', 'deactivate/3', 'destroy-version/1', 'destroy-version/2'];

  it('is due at its time, without a policy', () => {
    expect(kinds(dueActions(set, null, at(9)))).toEqual([]);
    expect(kinds(dueActions(set, null, at(10)))).toEqual(['activate/5']);
    expect(kinds(dueActions(set, null, at(20)))).toEqual(['activate/5', 'deactivate/3']);
    expect(kinds(dueActions(set, null, at(40)))).toEqual(ALL);
    expect(nextDue(set, null, at(0))).toEqual(at(10));
  });

  it('deactivates no suspended version before it is resumed, and destroys it when that is due', () => {
    const times = { deactivateAt: at(20), destroyAt: at(30) };
    const held = { ...set, versions: [version(1, { state: 'suspended', ...times })] };
    expect(dueActions(held, null, at(29))).toEqual([]);
    expect(nextDue(held, null, at(0))).toEqual(at(30));
    expect(kinds(dueActions(held, null, at(30)))).toEqual(['destroy-version/1']);
    const resumed = { ...held, versions: [version(1, { state: 'active', ...times })] };
    expect(kinds(dueActions(resumed, null, at(29)))).toEqual(['deactivate/1']);
  });

  it('runs also while the policy is paused or the key suspended', () => {
    expect(kinds(dueActions(set, paused(FULL, STOPPED), at(40)))).toEqual(ALL);
    expect(kinds(dueActions({ ...set, suspended: true }, FULL, at(40)))).toEqual(ALL);
  });

  it('activates nothing in a key that awaits its destruction, and then nothing else matters', () => {
    const ending = { ...set, destroyAt: at(50) };
    expect(kinds(dueActions(ending, null, at(40)))).toEqual(ALL.slice(1));
    expect(kinds(dueActions(ending, null, at(50)))).toEqual(['destroy-key']);
    expect(dueActions({ ...ending, destroyedAt: at(50) }, null, at(60))).toEqual([]);
  });

  it('comes in an order in which no step takes what another needs', () => {
    const rules = policy({
      interval: 'P90D',
      retire: { keepVersions: 1, after: null },
      notice: 'P30D',
    });
    const told = (number: number, asked: number) => ({
      version: number,
      asked: at(asked),
      policyName: null,
      policyRevision: 1,
      retired: 0,
      givenAt: at(970),
    });
    const of = {
      ...withVersion(set, 2, { destroyAt: at(1_010) }),
      retiring: [told(2, 3), told(3, 4)],
    };
    expect(kinds(dueActions(of, rules, at(1_000)))).toEqual([
      `notice/destruction/2/${String(at(1_010).getTime())}`,
      'activate/5',
      'rotate/4/5',
      'retire/2/1',
      'retire/3/1',
      'deactivate/3',
      'destroy-version/1',
    ]);
  });
});

describe('a notice', () => {
  const rules = policy({ interval: 'P365D', notice: 'P30D' });
  const first = new Date(DUE.getTime() - 30 * DAY);

  it('is due so long before, and until that which it announces is', () => {
    expect(dueActions(key(1), rules, before(first))).toEqual([]);
    const notice = {
      kind: 'notice',
      of: 'rotation',
      version: null,
      for: DUE,
      dueAt: first,
      policyRevision: 1,
    };
    expect(dueActions(key(1), rules, first)).toEqual([notice]);
    expect(dueActions(key(1), rules, before(DUE))).toEqual([notice]);
    expect(kinds(dueActions(key(1), rules, DUE))).toEqual(['rotate/1/1']);
  });

  it('is due once: when it was given, the next to come is the rotation', () => {
    const [notice] = kinds(dueActions(key(1), rules, first));
    const noticed = key(1, { noticed: [notice ?? ''] });
    expect(nextDue(key(1), rules, first)).toEqual(first);
    expect(dueActions(noticed, rules, first)).toEqual([]);
    expect(nextDue(noticed, rules, first)).toEqual(DUE);
  });

  it('announces upgrades, deactivations and destructions', () => {
    const upgrade = policy({
      upgrade: { suite: numberOf('MLKEM1024-P384'), notBefore: at(100) },
      notice: 'P30D',
    });
    expect(kinds(dueActions(key(1), upgrade, at(70)))).toEqual([
      `notice/rotation/0/${String(at(100).getTime())}`,
    ]);
    const plain = policy({ notice: 'P30D' });
    const deactivated = withVersion(key(2), 1, { deactivateAt: at(100) });
    expect(kinds(dueActions(deactivated, plain, at(70)))).toEqual([
      `notice/deactivation/1/${String(at(100).getTime())}`,
    ]);
    const ending = key(1, { destroyAt: at(100), suspended: true });
    expect(kinds(dueActions(ending, plain, at(70)))).toEqual([
      `notice/destruction/0/${String(at(100).getTime())}`,
    ]);
  });

  it('of a rotation by use is none, and none is given while paused', () => {
    const uses = policy({ maxUses: 10, notice: 'P30D' });
    expect(kinds(dueActions(key(1, { uses: 10 }), uses, at(2)))).toEqual(['rotate/1/1']);
    expect(dueActions(key(1), paused(rules, STOPPED), first)).toEqual([]);
  });
});

describe('a key as the plan sees it', () => {
  it('has the times of its rows, and when each version was superseded', () => {
    const states = ['deactivated', 'destroyed', 'compromised', 'active', 'pre-active'] as const;
    const versions = states.map((state, index) => ({ ...VERSIONS[state], version: index + 1 }));
    const ran = (action: string, on: number) => ({ action, policyRevision: 3, doneAt: day(on) });
    const asked = String(day(5).getTime());
    const seen = scheduledKey({ ...KEY, primary: 4, latestVersion: 5 }, versions, {
      uses: 7,
      ran: [
        ran(`notice/retirement/4/${asked}/-/0/0`, 6),
        ran(`notice/retirement/4/${asked}/-/9/1`, 8),
        // Of no form that is written.
        ran(`notice/retirement/4/${asked}`, 8),
        ran('notice/rotation/0/1', 6),
        ran('retire/4/9', 7),
        ran('retire/4/2', 8),
      ],
      policyName: 'yearly',
    });
    const told = { version: 4, asked: day(5), policyName: null, policyRevision: 3 };
    expect(seen.retiring).toEqual([
      { ...told, retired: 0, givenAt: day(6) },
      { ...told, retired: 9, givenAt: day(8) },
    ]);
    expect(seen.versions.map(({ retired }) => retired)).toEqual([0, 0, 0, 9, 0]);
    expect(seen).toMatchObject({
      policyName: 'yearly',
      id: KEY.id,
      primary: 4,
      suspended: true,
      uses: 7,
    });
    expect(seen.versions.map((each) => each.state)).toEqual(states);
    const superseded = seen.versions.map(({ supersededAt }) => supersededAt);
    // What was destroyed no longer says when it became active.
    expect(superseded).toEqual([day(2), day(2), day(2), null, null]);
    expect(seen.versions[3]).toMatchObject({ activatedAt: day(2), deactivateAt: day(9) });
    expect(seen.versions[4]).toMatchObject({ activateAt: day(9), activatedAt: null });
  });
});

describe('the jitter', () => {
  const ids = Array.from(
    { length: 20_000 },
    (_, index) => `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`,
  );

  it('is within its bounds, and nothing but a function of id and interval', () => {
    for (const id of ids.slice(0, 2_000)) {
      expect(jitterMs(id, 10 * DAY)).toBeLessThan(DAY / 2);
      expect(jitterMs(id, 3_650 * DAY)).toBeLessThan(7 * DAY);
      expect(jitterMs(id, 10 * DAY)).toBeGreaterThanOrEqual(0);
    }
    expect(jitterMs('7d3f1c52-8a35-4b0f-9c53-2f6f7a1e2b90', 365 * DAY)).toBe(178_746_115);
  });

  it('spreads keys made at once, whatever their ids have in common', () => {
    const hours = new Map<number, number>();
    for (const id of ids) {
      const hour = Math.floor(jitterMs(id, 365 * DAY) / 3_600_000);
      hours.set(hour, (hours.get(hour) ?? 0) + 1);
    }
    // 168 hours, 119 keys each if even; six standard deviations are 65.
    expect(hours.size).toBe(168);
    expect(Math.max(...hours.values())).toBeLessThan(185);
  });
});
