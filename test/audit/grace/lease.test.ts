/**
 * The grace as rules over time: with clocks that run apart, messages that are lost or late, and instances
 * that stop between any two steps, no answer leaves under a state whose end was acknowledged.
 */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { LATE_MS, Lease } from '../../../src/audit/grace/lease.ts';
import { ChangeWait, MARGIN_MS } from '../../../src/audit/grace/waiting.ts';
import type { GraceHolder } from '../../../src/audit/grace/waiting.ts';

const G = 30_000;
const leaseOf = (graceMs = G) => new Lease({ graceMs });

describe('a lease', () => {
  it('is never had without a grace', () => {
    const lease = leaseOf(0);
    lease.beaten(0, 1, 1);
    expect([lease.covers(0), lease.mode(0), lease.mode(10 * G)]).toEqual([false, 'off', 'off']);
  });

  it('runs from before a heartbeat was sent that found the epoch it told', () => {
    const lease = leaseOf();
    expect(lease.covers(0)).toBe(false);
    lease.beaten(1_000, 1, 1);
    expect(lease.covers(1_000 + G - 1)).toBe(true);
    expect(lease.covers(1_000 + G)).toBe(false);
    // An earlier one that is answered later takes nothing away.
    lease.beaten(500, 1, 1);
    expect(lease.until).toBe(1_000 + G);
  });

  it('is not renewed by a heartbeat that found changes, until they are told; nor ended', () => {
    const lease = leaseOf();
    lease.beaten(0, 1, 1);
    // Who made them waits for this lease.
    lease.beaten(1_000, 1, 2);
    expect([lease.until, lease.covers(1_001)]).toEqual([G, true]);
    // What it appends under epoch 2 says nothing to who waits for it, as long as its row says 1.
    lease.appended(2_000, 2);
    expect(lease.until).toBe(G);
    lease.beaten(3_000, 2, 2);
    lease.appended(4_000, 2);
    expect(lease.until).toBe(4_000 + G);
  });

  it('is in force from a commit 700 ms late on, whatever fails meanwhile', () => {
    const lease = leaseOf();
    lease.beaten(0, 1, 1);
    lease.sent('append', 1_000);
    lease.sent('append', 1_500);
    expect(lease.lateAt('append')).toBe(1_000 + LATE_MS);
    expect(lease.mode(1_000 + LATE_MS - 1)).toBe('normal');
    expect(lease.mode(1_000 + LATE_MS)).toBe('grace');
    lease.appended(1_500, 1);
    expect(lease.mode(1_000 + LATE_MS)).toBe('normal');
    lease.spooled(3);
    expect([lease.mode(2_000), lease.mode(1_500 + G)]).toEqual(['grace', 'over']);
  });

  it('is not in force for a heartbeat that is late beside appends that are not', () => {
    const lease = leaseOf();
    lease.beaten(0, 1, 1);
    lease.sent('heartbeat', 1_000);
    lease.sent('append', 1_200);
    lease.appended(1_200, 1);
    expect(lease.mode(1_200 + LATE_MS - 1)).toBe('normal');
    // An append that was sent before it says nothing.
    lease.appended(900, 1);
    expect([lease.lateAt('heartbeat'), lease.until]).toEqual([1_200 + LATE_MS, 1_200 + G]);
    expect(lease.mode(1_200 + LATE_MS)).toBe('grace');
    lease.beaten(1_000, 1, 1);
    expect(lease.mode(1_200 + LATE_MS)).toBe('normal');
  });

  it('is forfeited for good', () => {
    const lease = leaseOf();
    lease.beaten(0, 1, 1);
    lease.forfeit();
    lease.beaten(1_000, 1, 1);
    expect([lease.covers(1_001), lease.mode(1_001)]).toEqual([false, 'over']);
  });
});

describe('a change', () => {
  const holder = (id: string, epochSeen: number, graceMs = G): GraceHolder => ({
    id,
    epochSeen,
    graceMs,
  });

  it('waits for nobody who has confirmed, and not for itself', () => {
    const holders = [holder('self', 1), holder('a', 2), holder('b', 3)];
    const found = { epoch: 2, holders };
    expect(new ChangeWait('self').look(0, found, 2)).toEqual({ kind: 'confirmed' });
  });

  it('is acknowledged by nobody who does not know it, as who answers from cache may not', () => {
    const wait = new ChangeWait('self');
    const found = { epoch: 3, holders: [holder('a', 3)] };
    expect(wait.look(0, found, 2)).toEqual({ kind: 'learn' });
    expect(wait.look(1, found, 3)).toEqual({ kind: 'confirmed' });
  });

  it('fences who did not, each after its own grace and a margin', () => {
    const wait = new ChangeWait('self');
    const holders = [holder('a', 1, 1_000), holder('b', 1, 5_000)];
    const at = (now: number) => wait.look(now, { epoch: 2, holders }, 2);
    expect(at(10)).toEqual({ kind: 'wait', until: 10 + 1_000 + MARGIN_MS });
    expect(at(10 + 1_000 + MARGIN_MS - 1)).toMatchObject({ kind: 'wait' });
    expect(at(10 + 1_000 + MARGIN_MS)).toEqual({ kind: 'fence', ids: ['a'], epoch: 2 });
    expect(at(10 + 5_000 + MARGIN_MS)).toMatchObject({ ids: ['a', 'b'] });
  });

  it('waits for the epoch that it found first, not for those of later changes', () => {
    const wait = new ChangeWait('self');
    wait.look(0, { epoch: 2, holders: [holder('a', 1)] }, 2);
    const verdict = wait.look(5, { epoch: 9, holders: [holder('a', 2)] }, 2);
    expect(verdict).toEqual({ kind: 'confirmed' });
  });
});

/** The database of the model: what is committed is there at once and for ever. */
class World {
  epoch = 1;
  rows = new Map<string, { graceMs: number; epochSeen: number; fenced: boolean }>();
  /** True time. */
  now = 0;
  /** Epochs that were acknowledged as changes, with the time. */
  acknowledged = 0;
  violations: string[] = [];
}

/** An instance of the model, with a clock of its own rate and offset. */
class Instance {
  known = 1;
  readonly id: string;
  readonly world: World;
  readonly clock: { rate: number; offset: number };
  readonly lease: Lease;
  /** Commits that the database has taken, and whose answer has not arrived. */
  inbox: (() => void)[] = [];

  constructor(id: string, world: World, clock: { rate: number; offset: number }) {
    this.id = id;
    this.world = world;
    this.clock = clock;
    this.lease = new Lease({ graceMs: G });
    world.rows.set(id, { graceMs: G, epochSeen: 1, fenced: false });
  }

  get now(): number {
    return this.world.now * this.clock.rate + this.clock.offset;
  }

  beat(reaches: boolean): void {
    const [sentAt, told] = [this.now, this.known];
    this.lease.sent('heartbeat', sentAt);
    if (!reaches) return;
    const row = this.row;
    row.epochSeen = Math.max(row.epochSeen, told);
    const { epoch } = this.world;
    const { fenced } = row;
    this.inbox.push(() => (fenced ? this.lease.forfeit() : this.lease.beaten(sentAt, told, epoch)));
  }

  append(reaches: boolean): void {
    const [sentAt, epoch] = [this.now, this.known];
    this.lease.sent('append', sentAt);
    if (!reaches || this.row.fenced || epoch !== this.world.epoch) return;
    this.inbox.push(() => this.lease.appended(sentAt, epoch));
  }

  learn(): void {
    this.known = this.world.epoch;
  }

  /** As it goes while all is well. */
  confirm(): void {
    this.learn();
    this.beat(true);
    while (this.inbox.length > 0) this.inbox.shift()?.();
  }

  /** Checks, and answers in the same breath: `known` is what the answer stands on. */
  answer(): void {
    if (!this.lease.covers(this.now)) return;
    if (this.known < this.world.acknowledged) {
      this.world.violations.push(`${this.id} under ${this.known} at ${this.world.now}`);
    }
  }

  get row() {
    const row = this.world.rows.get(this.id);
    if (row === undefined) throw new Error('no row');
    return row;
  }
}

/**
 * A change under way in the model: committed, and waiting, in one of the instances. `again`: it was made
 * before, and is asked for once more by who need not have heard of it.
 */
class Changer {
  readonly epoch: number;
  readonly #wait: ChangeWait;
  readonly #world: World;
  readonly #self: Instance;
  done = false;
  /** True time at which it can fence. */
  until = 0;

  constructor(world: World, self: Instance, again: boolean) {
    this.#world = world;
    this.#self = self;
    this.#wait = new ChangeWait(self.id);
    if (!again) {
      world.epoch += 1;
      // What it commits itself it knows, and whatever was before.
      self.learn();
    }
    this.epoch = world.epoch;
  }

  look(): void {
    const { rows, epoch, now } = this.#world;
    const { clock } = this.#self;
    const holders = [...rows].flatMap(([id, row]) => (row.fenced ? [] : [{ id, ...row }]));
    const here = now * clock.rate + clock.offset;
    const verdict = this.#wait.look(here, { epoch, holders }, this.#self.known);
    if (verdict.kind === 'learn') this.#self.learn();
    if (verdict.kind === 'wait') this.until = (verdict.until - clock.offset) / clock.rate;
    if (verdict.kind === 'fence') {
      for (const id of verdict.ids) {
        const row = rows.get(id);
        if (row !== undefined && row.epochSeen < verdict.epoch) row.fenced = true;
      }
    }
    if (verdict.kind !== 'confirmed') return;
    this.done = true;
    this.#world.acknowledged = Math.max(this.#world.acknowledged, this.epoch);
  }
}

type Step =
  | { readonly kind: 'pass'; readonly ms: number }
  | { readonly kind: 'beat' | 'append'; readonly who: number; readonly reaches: boolean }
  | { readonly kind: 'hear' | 'learn' | 'confirm' | 'change' | 'again'; readonly who: number }
  | { readonly kind: 'look' | 'elapse' };

const who = fc.nat({ max: 2 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(1_500) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(G + 4_000) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('beat' as const, 'append' as const),
      who,
      reaches: fc.boolean(),
    }),
  },
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constantFrom('hear' as const, 'learn' as const, 'confirm' as const),
      who,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom('change' as const, 'again' as const), who }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom('look' as const, 'elapse' as const) }),
  },
);
/** Clocks differ by a thousandth of their rate at most, of which the margin speaks. */
const rate = fc.integer({ min: -1000, max: 1000 }).map((millionths) => 1 + millionths / 1e6);
const clock = fc.record({ rate, offset: fc.integer({ min: 0, max: 1e6 }) });

function play(clocks: readonly { rate: number; offset: number }[], steps: readonly Step[]): World {
  const world = new World();
  const instances = clocks.map((each, index) => new Instance(`i${index}`, world, each));
  const changes: Changer[] = [];
  for (const each of steps) {
    const one = 'who' in each ? instances[each.who] : undefined;
    if (each.kind === 'pass') world.now += each.ms;
    else if (each.kind === 'look' || each.kind === 'elapse') {
      for (const change of changes.filter(({ done }) => !done)) {
        if (each.kind === 'elapse') world.now = Math.max(world.now, change.until);
        change.look();
        if (each.kind === 'elapse') change.look();
      }
    }
    if (one === undefined) continue;
    if (each.kind === 'change' || each.kind === 'again') {
      if (!one.row.fenced) changes.push(new Changer(world, one, each.kind === 'again'));
    } else if (each.kind === 'beat') one.beat(each.reaches);
    else if (each.kind === 'append') one.append(each.reaches);
    else if (each.kind === 'hear') one.inbox.shift()?.();
    else if (each.kind === 'learn') one.learn();
    else if (each.kind === 'confirm') one.confirm();
    // Every answer that could leave now would be right, and a fence ends no lease early.
    for (const any of instances) {
      any.answer();
      const early = any.row.fenced && any.lease.covers(any.now);
      if (early) world.violations.push(`${any.id} was fenced early at ${world.now}`);
    }
  }
  return world;
}

const ROUNDS = Number(process.env['GRACE_ROUNDS'] ?? 1_500);

it('no instance answers under what an acknowledged change has ended, and none is fenced early', () => {
  fc.assert(
    fc.property(
      fc.tuple(clock, clock, clock),
      fc.array(step, { minLength: 20, maxLength: 120 }),
      (clocks, steps) => {
        expect(play(clocks, steps).violations).toEqual([]);
      },
    ),
    { numRuns: ROUNDS },
  );
});
