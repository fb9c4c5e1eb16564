/** Whatever is done to keys in whatever order: what must hold of their rows does. */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { Grant, Operation } from '../../src/access/grant.ts';
import { TwofoldError } from '../../src/errors.ts';
import { usagesOf } from '../../src/keyring/lifecycle.ts';
import type { Key, KeyVersion } from '../../src/keyring/model.ts';
import type { ChangeRun, KeyView } from '../../src/keyring/operations.ts';
import { verifyStored } from '../../src/keyring/row-mac.ts';
import { aKey, aRun, openWorld } from './world.ts';
import type { World } from './world.ts';

const HOUR = 3_600_000;
const RULES = { minimumWaitMs: 2 * HOUR, defaultWaitMs: 3 * HOUR, backupHorizonMs: null };
const NAMES = ['one', 'two'] as const;
const WHY = { reason: 'a drill' };

/** One step; `version` names one of four, `hours` a time from now. */
const step = fc.record({
  act: fc.constantFrom(
    ...(['create', 'rotate', 'rotate', 'rotate-later', 'update', 'suspend', 'resume'] as const),
    ...(['suspend-version', 'resume-version', 'activate', 'deactivate', 'deactivate'] as const),
    ...(['compromise', 'replace', 'schedule', 'activate-due', 'deactivate-due', 'wait'] as const),
    ...(['doom-version', 'doom-version', 'spare-version', 'doom', 'spare'] as const),
    ...(['destroy-version', 'destroy-version', 'destroy', 'wait', 'close'] as const),
  ),
  name: fc.constantFrom(...NAMES),
  version: fc.integer({ min: 1, max: 4 }),
  hours: fc.integer({ min: 1, max: 4 }),
  flag: fc.boolean(),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const at = (act: Step['act'], version = 1, flag = true): Step => ({
  act,
  name: 'one',
  version,
  hours: 4,
  flag,
});

/** Comes to every act that a random sequence may miss. */
const WHOLE_LIFE: Step[] = [
  at('rotate'),
  at('deactivate'),
  at('doom-version'),
  at('wait'),
  at('destroy-version'),
  at('rotate-later'),
  at('wait'),
  at('activate-due', 3),
  at('schedule', 3, false),
  at('wait'),
  at('deactivate-due', 3),
  at('rotate'),
  at('replace', 4),
  { ...at('rotate-later'), name: 'two' },
  { ...at('activate', 2), name: 'two' },
  at('doom'),
  at('spare'),
  at('doom'),
  at('wait'),
  at('destroy'),
];

class Run {
  readonly world: World;
  readonly clock: { now: number };
  #matching: ChangeRun = aRun();

  constructor(world: World, clock: { now: number }) {
    this.world = world;
    this.clock = clock;
  }

  view(name: string): KeyView | null {
    const { keys, versions } = this.world.store.rows;
    const key = [...keys.values()].find(({ value }) => value.name === name)?.value;
    if (key === undefined) return null;
    const own = [...versions.values()].map(({ value }) => value);
    return { key, versions: own.filter(({ keyId }) => keyId === key.id).sort(byNumber) };
  }

  async do({ act, name, version, hours, flag }: Step): Promise<void> {
    const later = new Date(this.clock.now + hours * HOUR);
    const { manage, lifecycle: life } = this.world.keyring;
    const g = <O extends Operation>(operation: O): Grant<O> => this.world.grant(operation, name);
    const reasoned = { version, ...WHY };
    this.#matching = aRun({ ifMatch: this.view(name)?.key.revision ?? 1 });
    const run = this.#matching;
    switch (act) {
      case 'wait':
        this.clock.now += hours * HOUR;
        return;
      case 'create': {
        const input = aKey({ name, suite: 'HS256', ...(flag ? { activateAt: later } : {}) });
        await manage.create(g('keys.create'), input, aRun());
        return;
      }
      case 'rotate':
        await manage.rotate(g('keys.rotate'), {}, run);
        return;
      case 'rotate-later':
        await manage.rotate(g('keys.rotate'), { activateAt: later }, run);
        return;
      case 'update':
        await manage.update(g('keys.update'), { deletionProtection: flag && hours === 1 }, run);
        return;
      case 'close':
        await manage.update(g('keys.update'), { minUsableVersion: version }, run);
        return;
      case 'suspend':
        await manage.suspend(g('keys.suspend'), WHY, run);
        return;
      case 'resume':
        await manage.resume(g('keys.resume'), WHY, run);
        return;
      case 'suspend-version':
        await manage.suspendVersion(g('versions.suspend'), reasoned, run);
        return;
      case 'resume-version':
        await manage.resumeVersion(g('versions.resume'), reasoned, run);
        return;
      case 'activate':
        await life.activateVersion(g('versions.activate'), reasoned, run);
        return;
      case 'deactivate':
        await life.deactivateVersion(g('versions.deactivate'), reasoned, run);
        return;
      case 'activate-due':
        await life.activateDue(g('versions.activate'), { version }, run);
        return;
      case 'deactivate-due':
        await life.deactivateDue(g('versions.deactivate'), { version }, run);
        return;
      case 'compromise':
      case 'replace': {
        const input = { ...reasoned, replace: act === 'replace' };
        await life.compromiseVersion(g('versions.compromise'), input, run);
        return;
      }
      case 'schedule': {
        const input = { version, ...(flag ? { activateAt: later } : { deactivateAt: later }) };
        await life.scheduleVersion(g('versions.schedule'), input, run);
        return;
      }
      case 'doom-version': {
        const input = { ...reasoned, at: later };
        await life.scheduleVersionDestruction(g('versions.schedule-destruction'), input, run);
        return;
      }
      case 'spare-version':
        await life.cancelVersionDestruction(g('versions.cancel-destruction'), { version }, run);
        return;
      case 'doom':
        if (!flag) return;
        await life.scheduleDestruction(g('keys.schedule-destruction'), { ...WHY, at: later }, run);
        return;
      case 'spare':
        await life.cancelDestruction(g('keys.cancel-destruction'), run);
        return;
      case 'destroy-version':
        await life.destroyVersion(g('versions.destroy'), { version }, run);
        return;
      case 'destroy':
        await life.destroyKey(g('keys.destroy'), run);
    }
  }
}

/** What the service does for requests that name each version, beside what is said of it. */
async function expectTruthful({ world, clock }: Run, { key, versions }: KeyView): Promise<void> {
  const { use } = world.keyring;
  const message = Buffer.from('m');
  const served = async (work: Promise<unknown>): Promise<boolean> => {
    try {
      await work;
      return true;
    } catch (error) {
      if (TwofoldError.is(error, 'version_not_usable')) return false;
      throw error;
    }
  };
  for (const version of versions) {
    const named = { message, keyVersion: version.version };
    const protects = await served(use.mac(world.grant('mac', key.name), named));
    const mac = new Uint8Array(32);
    const processes = await served(
      use.verifyMac(world.grant('verify-mac', key.name), { ...named, mac }),
    );
    expect(usagesOf(key, version, clock.now)).toEqual([
      ...(protects ? ['protect'] : []),
      ...(processes ? ['process'] : []),
    ]);
  }
}

const byNumber = (a: KeyVersion, b: KeyVersion) => a.version - b.version;

function expectWhole({ key, versions }: KeyView): void {
  expect(versions.map(({ version }) => version)).toEqual(
    Array.from({ length: key.latestVersion }, (_, index) => index + 1),
  );
  if (key.primary !== null) {
    expect(key.primary).toBeGreaterThanOrEqual(key.minUsableVersion);
    expect(versions[key.primary - 1]?.state).toBe('active');
  }
  for (const version of versions) {
    expect('material' in version).toBe(version.state !== 'destroyed');
  }
  if (key.destroyedAt === null) return;
  expect(key).toMatchObject({ primary: null, destruction: null });
  expect(versions.every(({ state }) => state === 'destroyed')).toBe(true);
}

const isDue = (destruction: Key['destruction'], now: number): boolean =>
  destruction !== null && destruction.at.getTime() <= now;

/** What a step may have changed. */
function expectStep(before: KeyView, after: KeyView, now: number): void {
  const { key } = before;
  expect(after.key.id).toBe(key.id);
  const [old, current] = [JSON.stringify(before), JSON.stringify(after)];
  expect(after.key.revision).toBe(old === current ? key.revision : key.revision + 1);
  const keyDue = isDue(key.destruction, now) && !key.deletionProtection;
  if (after.key.destroyedAt !== null && key.destroyedAt === null) expect(keyDue).toBe(true);
  for (const version of before.versions) {
    const next = after.versions[version.version - 1];
    const changed = JSON.stringify(next) !== JSON.stringify(version);
    expect(next?.revision).toBe(changed ? version.revision + 1 : version.revision);
    if (next?.state !== 'destroyed' || version.state === 'destroyed') continue;
    const scheduled = 'destruction' in version ? version.destruction : null;
    expect(keyDue || (isDue(scheduled, now) && !key.deletionProtection)).toBe(true);
  }
}

describe('the life of keys', () => {
  it('keeps its rows whole through every sequence of changes', async () => {
    const reached = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
        const clock = { now: Date.parse('2030-01-01T00:00:00Z') };
        const world = await openWorld({ clock: () => new Date(clock.now), destruction: RULES });
        try {
          const run = new Run(world, clock);
          for (const name of NAMES) {
            await run.do({ act: 'create', name, version: 1, hours: 1, flag: false });
          }
          for (const one of steps) {
            const before = NAMES.map((name) => run.view(name));
            try {
              await run.do(one);
              reached.add(one.act);
            } catch (error) {
              if (!TwofoldError.is(error)) throw error;
              expect(error.code).not.toBe('internal');
            }
            for (const [index, name] of NAMES.entries()) {
              const [old, current] = [before[index], run.view(name)];
              if (current === null || !old) throw new Error('a key vanished');
              expectWhole(current);
              expectStep(old, current, clock.now);
            }
          }
          for (const name of NAMES) {
            const view = run.view(name);
            if (view !== null) await expectTruthful(run, view);
          }
          const { keys, versions } = world.store.rows;
          for (const key of keys.values()) {
            const own = [...versions.values()].filter(({ value }) => value.keyId === key.value.id);
            const ascending = own.sort((a, b) => byNumber(a.value, b.value));
            await verifyStored(world.root.mac, { key, versions: ascending });
          }
        } finally {
          await world.stop();
        }
      }),
      { numRuns: 80, examples: [[WHOLE_LIFE]] },
    );
    // What was never done was not tried; names are never made twice.
    const wanted = ['rotate', 'activate', 'replace', 'deactivate-due', 'activate-due', 'spare'];
    for (const act of [...wanted, 'destroy-version', 'destroy']) expect(reached).toContain(act);
    expect(reached).not.toContain('create');
  }, 120_000);
});
