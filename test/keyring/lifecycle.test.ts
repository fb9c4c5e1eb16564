import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ALLOWED, isUsable, requireUsable, transition } from '../../src/keyring/lifecycle.ts';
import type { Usage, VersionEvent, VersionEventKind } from '../../src/keyring/lifecycle.ts';
import type { Key, KeyVersion, VersionState } from '../../src/keyring/model.ts';
import { TwofoldError } from '../../src/errors.ts';
import { at, KEY, MATERIAL, STATES, VERSIONS } from './samples.ts';

const KINDS = Object.keys(ALLOWED) as VersionEventKind[];
const eventOf = (kind: VersionEventKind, day = 7): VersionEvent =>
  kind === 'activate' || kind === 'resume'
    ? { kind, at: at(day) }
    : { kind, at: at(day), reason: `${kind} on ${day}` };

/** SP 800-57 part 1 section 7, written down a second time as where each event leads. */
const LEADS_TO: Readonly<Record<VersionEventKind, VersionState>> = {
  activate: 'active',
  suspend: 'suspended',
  resume: 'active',
  deactivate: 'deactivated',
  compromise: 'compromised',
  destroy: 'destroyed',
};

const FIELDS: Readonly<Record<VersionState, readonly string[]>> = {
  'pre-active': ['material', 'activateAt'],
  active: ['material', 'activatedAt', 'deactivateAt'],
  suspended: ['material', 'activatedAt', 'deactivateAt', 'suspension'],
  deactivated: ['material', 'activatedAt', 'deactivatedAt', 'reason', 'destroyAt'],
  compromised: ['material', 'activatedAt', 'compromisedAt', 'reason', 'destroyAt'],
  destroyed: ['destroyedAt', 'compromisedAt', 'reason'],
};
const CORE = ['keyId', 'version', 'suite', 'createdAt', 'certificateChain', 'revision', 'state'];

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
      const after = attempt(VERSIONS[state], eventOf(kind));
      expect(after !== null).toBe(ALLOWED[kind].includes(state));
      if (after !== null) expect(after.state).toBe(LEADS_TO[kind]);
    },
  );

  it('is the one of the design', () => {
    expect(ALLOWED).toEqual({
      activate: ['pre-active'],
      suspend: ['active'],
      resume: ['suspended'],
      deactivate: ['active', 'suspended'],
      compromise: ['pre-active', 'active', 'suspended', 'deactivated'],
      destroy: ['pre-active', 'deactivated', 'compromised'],
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
          for (const field of ['keyId', 'version', 'suite', 'createdAt'] as const) {
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

  it('keeps when a destroyed version had been compromised, and since when it was active', () => {
    const destroyed = transition(VERSIONS.compromised, eventOf('destroy'));
    expect(destroyed).toMatchObject({ compromisedAt: at(5), destroyedAt: at(7) });
    const never = transition(VERSIONS['pre-active'], eventOf('compromise'));
    expect(never).toMatchObject({ activatedAt: null, compromisedAt: at(7) });
    expect(transition(VERSIONS.suspended, eventOf('resume'))).toEqual({
      ...VERSIONS.active,
      revision: 2,
    });
  });
});

describe('what a state allows', () => {
  const open: Key = { ...KEY, suspension: null };
  const usages: readonly Usage[] = ['protect', 'process'];

  it('is protecting by active versions only, processing by deactivated ones too', () => {
    const allowed = STATES.flatMap((state) =>
      usages
        .filter((usage) => isUsable(open, VERSIONS[state], usage))
        .map((usage) => `${state} ${usage}`),
    );
    expect(allowed).toEqual(['active protect', 'active process', 'deactivated process']);
  });

  it.each([
    ['a suspended key', KEY],
    ['a destroyed key', { ...open, destroyedAt: at(8) }],
    ['a version below minUsableVersion', { ...open, minUsableVersion: 2 }],
  ])('is nothing for %s', (_name, key) => {
    for (const usage of usages) {
      expect(isUsable(key, VERSIONS.active, usage)).toBe(false);
      expect(() => requireUsable(key, VERSIONS.active, usage)).toThrow(
        expect.objectContaining({ code: 'version_not_usable' }),
      );
    }
  });
});
