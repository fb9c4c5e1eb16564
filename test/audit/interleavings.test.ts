/** Random requests, changes, faults and interleavings against the fault-injecting store. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { createAuditLog } from '../../src/audit/log.ts';
import type { RunningAuditLog } from '../../src/audit/log.ts';
import { StaleAnswer } from '../../src/audit/ports.ts';
import type { AuditId } from '../../src/audit/ports.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import type { SecurityChange } from '../../src/epoch.ts';
import { TwofoldError } from '../../src/errors.ts';
import { draftOf, KEY_ID, otherKey, standingOf, thisKey } from './drafts.ts';
import { MemoryAuditStore, softwareMac } from './memory-store.ts';
import type { Call, Fault } from './memory-store.ts';

const ALIAS = 'payments-alias';

/** What a request stands on: this key, by its name; a name that no key has yet; no key. */
const STANDINGS = {
  key: {},
  alias: { keyId: null, keyName: ALIAS },
  none: { keyId: null, keyName: null },
} as const;
type On = keyof typeof STANDINGS;

/** Of this key, of another one, of another one that takes this one's alias, or gets it as a new name. */
const SCOPES = {
  this: thisKey,
  other: otherKey,
  moved: { ...otherKey, also: [KEY_ID, 'payments', ALIAS] },
  given: { ...otherKey, also: [ALIAS] },
} as const;
type Of = keyof typeof SCOPES;

const on = fc.constantFrom<On>('key', 'key', 'alias', 'none');
const of = fc.constantFrom<Of>('this', 'other', 'moved', 'given');

const touches = ({ keyId, also = [] }: SecurityChange, standing: On): boolean => {
  if (standing === 'none') return false;
  if (standing === 'alias') return also.includes(ALIAS);
  return keyId === KEY_ID || also.includes(KEY_ID);
};

type Step =
  | { readonly kind: 'record'; readonly count: number; readonly on: On }
  /** A change by this instance. */
  | { readonly kind: 'change'; readonly of: Of }
  /** A change by another instance. */
  | { readonly kind: 'foreign'; readonly of: Of }
  | { readonly kind: 'wait'; readonly ms: number };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant('record' as const),
        count: fc.integer({ min: 1, max: 20 }),
        on,
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('change' as const), of }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('foreign' as const), of }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('wait' as const),
        ms: fc.integer({ min: 0, max: 8 }),
      }),
    },
  ),
  { minLength: 5, maxLength: 40 },
);

const onWrites: readonly Fault[] = ['refused', 'lost-before', 'lost-after', 'lost-late', 'closed'];
/** What an old primary may answer an append of uses, whatever became of it. */
const onUses: readonly Fault[] = [...onWrites, 'gone', 'behind', 'ahead'];
const faultOf = (call: Call, of: 'use' | 'change' | null, dice: number): Fault => {
  const faults = call === 'append' && of === 'use' ? onUses : onWrites;
  if (dice >= faults.length) return 'none';
  return call === 'append' || call === 'commit' ? (faults[dice] ?? 'none') : 'refused';
};

interface Outcome {
  readonly requestId: string;
  readonly on: On;
  readonly epoch: number;
  readonly settled: PromiseSettledResult<AuditId>;
}

class Run {
  readonly store = new MemoryAuditStore();
  readonly epoch = new SecurityEpoch(1);
  readonly log: RunningAuditLog;
  readonly #records: Promise<Outcome>[] = [];
  readonly #changes: Promise<Outcome>[] = [];

  constructor() {
    this.store.delayMs = 1;
    this.log = createAuditLog({
      store: this.store,
      mac: softwareMac,
      epoch: this.epoch,
      instance: randomUUID(),
      zone: 'zone-a',
      deadlineMs: 10_000,
    });
  }

  async play(script: readonly Step[], dice: readonly number[]): Promise<void> {
    await this.log.start();
    let thrown = 0;
    this.store.plan = (call, batch) => {
      thrown += 1;
      const kind = batch === null ? null : this.store.lane(batch.lane).kind;
      return faultOf(call, kind, dice[thrown % dice.length] ?? 99);
    };
    for (const step of script) await this.#step(step);
    await sleep(20);
    this.store.plan = () => 'none';
    await Promise.all([...this.#records, ...this.#changes]);
    await this.store.quiet();
  }

  outcomes(): Promise<{ records: Outcome[]; changes: Outcome[] }> {
    return Promise.all([Promise.all(this.#records), Promise.all(this.#changes)]).then(
      ([records, changes]) => ({ records, changes }),
    );
  }

  async #step(step: Step): Promise<void> {
    switch (step.kind) {
      case 'wait':
        return sleep(step.ms);
      case 'foreign':
        this.store.change(SCOPES[step.of]);
        return;
      case 'change':
        this.#changes.push(this.#change(step.of));
        return;
      case 'record':
        for (let index = 0; index < step.count; index += 1)
          this.#records.push(this.#record(step.on));
    }
  }

  #record(standsOn: On): Promise<Outcome> {
    const requestId = randomUUID();
    const epoch = this.epoch.current;
    const standing = standingOf(epoch, STANDINGS[standsOn]);
    const done = this.log.record(draftOf({ requestId }), standing);
    return outcome({ requestId, on: standsOn, epoch }, done);
  }

  #change(scope: Of): Promise<Outcome> {
    const requestId = randomUUID();
    const epoch = this.epoch.current;
    const draft = draftOf({ requestId, operation: 'keys.suspend', keyId: KEY_ID });
    const done = this.log
      .change(draft, (entry) => this.store.commit(entry, this.epoch.current, SCOPES[scope]))
      .then(({ auditId }) => auditId);
    return outcome({ requestId, on: 'none', epoch }, done);
  }
}

async function outcome(what: Omit<Outcome, 'settled'>, work: Promise<AuditId>): Promise<Outcome> {
  const [settled] = await Promise.allSettled([work]);
  return { ...what, settled };
}

const reasonOf = ({ settled }: Outcome): unknown =>
  settled.status === 'rejected' ? settled.reason : null;

describe('whatever fails, in whatever order', () => {
  it('what resolved is there once, what is stale was touched, and no change is half there', async () => {
    let resolved = 0;
    let stale = 0;
    let staleByAlias = 0;
    let changed = 0;
    let prevented = 0;
    const property = fc.asyncProperty(
      steps,
      fc.array(fc.nat(24), { minLength: 7, maxLength: 60 }),
      async (script, dice) => {
        const run = new Run();
        await run.play(script, dice);
        const { records, changes } = await run.outcomes();
        const stored = run.store
          .all()
          .map(({ body, lane, n, leaf }) => ({ ...decodeEntry(body), id: `${lane}-${n}`, leaf }));
        for (const record of records) {
          const found = stored.filter(({ requestId }) => requestId === record.requestId);
          const touched = (until: number) =>
            run.store.changes.some(
              (c) => touches(c, record.on) && c.epoch > record.epoch && c.epoch <= until,
            );
          if (record.settled.status === 'fulfilled') {
            resolved += 1;
            expect(found.map(({ id }) => id)).toEqual([record.settled.value]);
            expect(touched(found[0]?.epoch ?? 0)).toBe(false);
          } else {
            stale += 1;
            if (record.on === 'alias') staleByAlias += 1;
            expect(reasonOf(record)).toBeInstanceOf(StaleAnswer);
            expect(found).toEqual([]);
            expect(touched(run.store.epoch)).toBe(true);
          }
        }
        for (const change of changes) {
          const found = stored.filter(({ requestId }) => requestId === change.requestId);
          const effects = found.filter(({ leaf }) =>
            run.store.effects.includes(Buffer.from(leaf).toString('hex')),
          );
          expect(found.length).toBeLessThanOrEqual(1);
          if (change.settled.status === 'fulfilled') {
            changed += 1;
            expect(effects.map(({ id }) => id)).toEqual([change.settled.value]);
          } else {
            const reason = reasonOf(change);
            expect(reason instanceof StaleAnswer || TwofoldError.is(reason)).toBe(true);
            expect(effects).toEqual([]);
            prevented += found.length;
            expect(found.map((entry) => entry.outcome)).toEqual(
              found.map(() => 'database_unavailable'),
            );
          }
        }
        expect(run.store.effects.length).toBe(
          changes.filter(({ settled }) => settled.status === 'fulfilled').length,
        );
        expect(await run.log.stop()).toEqual({ closed: true });
        expect(await run.store.verify()).toEqual([]);
      },
    );
    await fc.assert(property, { numRuns: 60, endOnFailure: true });
    // The runs have met what they are about.
    expect(Math.min(resolved, stale, staleByAlias, changed, prevented)).toBeGreaterThan(0);
  }, 120_000);
});
