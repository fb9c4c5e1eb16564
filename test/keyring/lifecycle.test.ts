import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  ALLOWED,
  destroyKey,
  obstacle,
  requireUsable,
  transition,
} from '../../src/keyring/lifecycle.ts';
import type { Usage, VersionEvent, VersionEventKind } from '../../src/keyring/lifecycle.ts';
import type { Key, KeyVersion, VersionState } from '../../src/keyring/model.ts';
import { TwofoldError } from '../../src/errors.ts';
import { at, DESTRUCTION, KEY, MATERIAL, SCHEDULED, STATES, VERSIONS } from './samples.ts';

const KINDS = Object.keys(ALLOWED) as VersionEventKind[];
const eventOf = (kind: VersionEventKind, day = 10): VersionEvent => {
  const time = at(day);
  switch (kind) {
    case 'activate':
    case 'resume':
    case 'destroy':
      return { kind, at: time };
    case 'schedule-activation':
      return { kind, activateAt: time };
    case 'schedule-deactivation':
      return { kind, deactivateAt: time };
    case 'schedule-destruction':
      return { kind, destruction: { at: time, requestedAt: at(7), reason: kind } };
    case 'cancel-destruction':
      return { kind };
    case 'suspend':
    case 'deactivate':
    case 'compromise':
      return { kind, at: time, reason: `${kind} on ${day}` };
  }
};

/** SP 800-57 part 1 section 7, written down a second time as where each event leads; null: nowhere. */
const LEADS_TO: Readonly<Record<VersionEventKind, VersionState | null>> = {
  activate: 'active',
  suspend: 'suspended',
  resume: 'active',
  deactivate: 'deactivated',
  compromise: 'compromised',
  destroy: 'destroyed',
  'schedule-activation': null,
  'schedule-deactivation': null,
  'schedule-destruction': null,
  'cancel-destruction': null,
};

const FIELDS: Readonly<Record<VersionState, readonly string[]>> = {
  'pre-active': ['material', 'activateAt', 'destruction'],
  active: ['material', 'activatedAt', 'deactivateAt'],
  suspended: ['material', 'activatedAt', 'deactivateAt', 'suspension', 'destruction'],
  deactivated: ['material', 'activatedAt', 'deactivatedAt', 'reason', 'destruction'],
  compromised: ['material', 'activatedAt', 'compromisedAt', 'reason', 'destruction'],
  destroyed: ['destroyedAt', 'compromisedAt', 'reason'],
};
const CORE = [
  'keyId',
  'version',
  'suite',
  'origin',
  'createdAt',
  'certificateChain',
  'revision',
  'state',
];

const attempt = (version: KeyVersion, event: VersionEvent): KeyVersion | null => {
  try {
    return transition(version, event);
  } catch (error) {
    if (TwofoldError.is(error, 'version_not_usable')) return null;
    throw error;
  }
};

describe('the transition relation', () => {
  it.each(STATES.flatMap((state) => KINDS.map((kind) => [state, kind] as const)))(
    '%s under %s is as the table says',
    (state, kind) => {
      // What is to be destroyed has its destruction scheduled where the state can have one.
      const scheduled = kind === 'resume' ? undefined : SCHEDULED[`${state} to be destroyed`];
      const before = scheduled ?? VERSIONS[state];
      const after = attempt(before, eventOf(kind));
      const allowed: readonly VersionState[] = ALLOWED[kind];
      expect(after !== null).toBe(allowed.includes(state));
      if (after !== null) expect(after.state).toBe(LEADS_TO[kind] ?? state);
    },
  );

  it('is the one of the design', () => {
    expect(ALLOWED).toEqual({
      activate: ['pre-active'],
      suspend: ['active'],
      resume: ['suspended'],
      deactivate: ['active'],
      compromise: ['pre-active', 'active', 'suspended', 'deactivated'],
      destroy: ['pre-active', 'suspended', 'deactivated', 'compromised'],
      'schedule-activation': ['pre-active'],
      'schedule-deactivation': ['active', 'suspended'],
      'schedule-destruction': ['pre-active', 'suspended', 'deactivated', 'compromised'],
      'cancel-destruction': ['pre-active', 'suspended', 'deactivated', 'compromised'],
    });
  });
});

describe('every sequence of events', () => {
  it('leaves a version with just the fields of its state and a history that is kept', () => {
    const step = fc.record({
      kind: fc.constantFrom(...KINDS),
      day: fc.integer({ min: 7, max: 27 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        let version: KeyVersion = VERSIONS['pre-active'];
        for (const { kind, day } of steps) {
          const event = eventOf(kind, day);
          const before = structuredClone(version);
          const after = attempt(version, event);
          expect(version).toEqual(before);
          if (after === null) continue;
          expect(Object.keys(after).toSorted()).toEqual(
            [...CORE, ...FIELDS[after.state]].toSorted(),
          );
          expect(after.revision).toBe(version.revision + 1);
          for (const field of ['keyId', 'version', 'suite', 'origin', 'createdAt'] as const) {
            expect(after[field]).toBe(version[field]);
          }
          if ('material' in after) expect(after.material).toBe(MATERIAL);
          version = after;
        }
      }),
      { numRuns: 300 },
    );
  });

  it('never leaves destroyed, and reaches no use again after compromise', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...KINDS), { maxLength: 8 }), (kinds) => {
        let version: KeyVersion = VERSIONS.compromised;
        for (const kind of kinds) version = attempt(version, eventOf(kind)) ?? version;
        expect(['compromised', 'destroyed']).toContain(version.state);
        expect(attempt(VERSIONS.destroyed, eventOf(kinds[0] ?? 'activate'))).toBeNull();
      }),
    );
  });

  it('lets nothing but a resumption end a suspension: until then no use is allowed', () => {
    const open: Key = { ...KEY, suspension: null };
    const step = fc.record({
      kind: fc.constantFrom(...KINDS),
      day: fc.integer({ min: 7, max: 27 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        let version: KeyVersion = VERSIONS.active;
        let held = false;
        for (const { kind, day } of steps) {
          const after = attempt(version, eventOf(kind, day));
          if (after === null) continue;
          version = after;
          if (kind === 'suspend') held = true;
          if (kind === 'resume') held = false;
          if (!held) continue;
          for (const usage of ['protect', 'process'] as const) {
            expect(obstacle(open, version, usage, at(28).getTime())).not.toBeNull();
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  it('resumes no version whose destruction is to come: that is cancelled first', () => {
    const doomed = transition(VERSIONS.suspended, eventOf('schedule-destruction'));
    expect(attempt(doomed, eventOf('resume'))).toBeNull();
    const spared = transition(doomed, { kind: 'cancel-destruction' });
    expect(attempt(spared, eventOf('resume'))?.state).toBe('active');
  });

  it('keeps when a destroyed version had been compromised, and since when it was active', () => {
    const scheduled = transition(VERSIONS.compromised, eventOf('schedule-destruction', 8));
    const destroyed = transition(scheduled, eventOf('destroy'));
    expect(destroyed).toMatchObject({
      compromisedAt: at(5),
      destroyedAt: at(10),
      reason: 'schedule-destruction',
    });
    const never = transition(VERSIONS['pre-active'], eventOf('compromise'));
    expect(never).toMatchObject({ activatedAt: null, compromisedAt: at(10) });
    expect(transition(VERSIONS.suspended, eventOf('resume'))).toEqual({
      ...VERSIONS.active,
      revision: 2,
    });
  });
});

describe('what a state allows', () => {
  const open: Key = { ...KEY, suspension: null };
  const NOW = at(8).getTime();
  const usages: readonly Usage[] = ['protect', 'process'];

  it('is protecting by active versions only, processing by deactivated ones too', () => {
    const allowed = STATES.flatMap((state) =>
      usages
        .filter((usage) => obstacle(open, VERSIONS[state], usage, NOW) === null)
        .map((usage) => `${state} ${usage}`),
    );
    expect(allowed).toEqual(['active protect', 'active process', 'deactivated process']);
  });

  it.each([
    ['a suspended key', KEY],
    ['a destroyed key', { ...open, destroyedAt: at(8) }],
    ['a key that awaits its destruction', { ...open, destruction: DESTRUCTION }],
    ['a version below minUsableVersion', { ...open, minUsableVersion: 2 }],
  ])('is nothing for %s', (_name, key) => {
    for (const usage of usages) {
      expect(() => requireUsable(key, VERSIONS.active, usage, NOW)).toThrow(
        expect.objectContaining({ code: 'version_not_usable' }),
      );
    }
  });

  it.each(Object.entries(SCHEDULED))('is nothing for a version that is %s', (_name, version) => {
    for (const usage of usages) expect(obstacle(open, version, usage, NOW)).not.toBeNull();
  });

  it('ends protecting at the deactivation time, whether or not it was recorded', () => {
    const due = at(9).getTime();
    const free = (usage: Usage, now: number) =>
      obstacle(open, VERSIONS.active, usage, now) === null;
    expect([free('protect', due - 1), free('protect', due)]).toEqual([true, false]);
    expect([free('process', due), free('process', due + 1e12)]).toEqual([true, true]);
  });

  it('waits for an activation set in advance to be recorded', () => {
    const late = at(28).getTime();
    for (const usage of usages) {
      expect(obstacle(open, VERSIONS['pre-active'], usage, late)).not.toBeNull();
    }
  });
});

describe('destruction', () => {
  const pending = { ...KEY, destruction: DESTRUCTION };
  const all = STATES.map((state, index) => ({ ...VERSIONS[state], version: index + 1 }));

  it.each(Object.entries(SCHEDULED))('of a version (%s) runs when it is due', (_name, version) => {
    const early = { kind: 'destroy', at: new Date(DESTRUCTION.at.getTime() - 1) } as const;
    expect(attempt(version, early)).toBeNull();
    expect(attempt(version, { kind: 'destroy', at: DESTRUCTION.at })?.state).toBe('destroyed');
  });

  it('of a version that nobody scheduled never runs', () => {
    fc.assert(
      fc.property(fc.constantFrom(...STATES), fc.integer({ min: 1, max: 28 }), (state, day) => {
        expect(attempt(VERSIONS[state], { kind: 'destroy', at: at(day) })).toBeNull();
      }),
    );
  });

  it('of a key takes every version, once it is due, and leaves no material', () => {
    const early = new Date(DESTRUCTION.at.getTime() - 1);
    const refused = expect.objectContaining({ code: 'version_not_usable' });
    expect(() => destroyKey(pending, all, early)).toThrow(refused);
    expect(() => destroyKey(KEY, all, at(28))).toThrow(refused);
    const { key, versions } = destroyKey(pending, all, DESTRUCTION.at);
    expect(key).toMatchObject({ primary: null, destruction: null, destroyedAt: DESTRUCTION.at });
    expect(key.revision).toBe(KEY.revision + 1);
    expect(versions.map(({ state }) => state)).toEqual(all.map(() => 'destroyed'));
    expect(versions.some((version) => 'material' in version)).toBe(false);
    // One that was destroyed before keeps its own time and reason.
    expect(versions.at(-1)).toEqual(all.at(-1));
  });
});
