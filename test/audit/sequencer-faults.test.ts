/**
 * The sequencer over a store that fails before and after it applies a step, and that applies one late,
 * at every step, with one sequencer and with two. After each run the whole log is checked.
 */
import { describe, expect, it } from '@jest/globals';
import { Leader } from '../../src/leader.ts';
import { Sequencer } from '../../src/audit/sequencer.ts';
import type { CheckpointSigner, LogHead } from '../../src/audit/log-ports.ts';
import { TwofoldError } from '../../src/errors.ts';
import { FaultyLog } from './faulty-log.ts';
import type { LogCall, LogFault } from './faulty-log.ts';
import { softwareMac } from './memory-store.ts';
import { rootsOf, softwareSigner } from './sequenced-log.ts';

interface Running {
  readonly sequencer: Sequencer;
  readonly published: LogHead[];
  turn(): Promise<void>;
}

const running = (
  log: FaultyLog,
  holder: string,
  signer: CheckpointSigner = softwareSigner,
): Running => {
  const leader = new Leader({ store: log, role: 'sequencer', holder, silenceMs: 0 });
  const published: LogHead[] = [];
  const sequencer = new Sequencer({
    ...{ store: log, leader, holder, mac: softwareMac, signer, intervalMs: 0, most: 1_024 },
    // One of two is in the process that writes the lanes.
    ...(holder === 'a' ? { own: log.own } : {}),
    publish: (head) => published.push(head),
    onFault: ({ lane, n, reason }) => {
      throw new Error(`lane ${lane} is at fault at ${n}: ${reason}`);
    },
    onMended: () => undefined,
  });
  const turn = async (): Promise<void> => {
    try {
      await leader.tick();
      await sequencer.step();
    } catch (error) {
      if (!TwofoldError.is(error)) throw error;
    }
  };
  return { sequencer, published, turn };
};

/** Everything that ever holds. `whole`: nothing may be left. */
function check(log: FaultyLog, sequencers: readonly Running[], whole: boolean): void {
  const ids = log.log.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  const sizes = log.checkpoints.map(({ size }) => size);
  expect(sizes).toEqual(sizes.toSorted((a, b) => a - b));
  const leaves = log.log.map(({ leaf }) => Buffer.from(leaf));
  const roots = rootsOf(leaves, [0, ...sizes]);
  for (const { size, root } of log.checkpoints) expect(roots.get(size)).toEqual(Buffer.from(root));
  for (const { published, sequencer } of sequencers) {
    expect(sequencer.halted).toBeNull();
    for (const { size, root } of published) expect(roots.get(size)).toEqual(Buffer.from(root));
    const heads = published.map(({ size }) => size);
    expect(heads).toEqual(heads.toSorted((a, b) => a - b));
  }
  if (whole) expect(ids.toSorted()).toEqual(log.appended.toSorted());
}

const CALLS: readonly LogCall[] = ['lanes', 'intake', 'holds', 'edge', 'sequence', 'lead'];
const FAULTS: readonly LogFault[] = ['refused', 'lost-before', 'lost-after', 'lost-late'];
const KINDS = CALLS.flatMap((call) => FAULTS.map((fault) => [call, fault] as const));

const filled = async (): Promise<FaultyLog> => {
  const log = new FaultyLog();
  const lanes = [log.openLane(), log.openLane()];
  for (const lane of lanes) for (let batch = 0; batch < 3; batch += 1) await log.append(lane, 100);
  return log;
};

describe('the sequencer', () => {
  it.each(KINDS)(
    'loses and repeats nothing when %s is %s, at any of its calls',
    async (call, fault) => {
      for (let at = 0; at < 6; at += 1) {
        const log = await filled();
        let calls = 0;
        log.plan = (made) => (made === call && calls++ === at ? fault : 'none');
        const one = running(log, 'a');
        for (let turn = 0; turn < 8; turn += 1) {
          await one.turn();
          if (turn === 3) log.settle();
          if (turn === 4) await log.append(1, 300);
          check(log, [one], false);
        }
        check(log, [one], true);
        expect(one.published.at(-1)?.size).toBe(log.log.length);
      }
    },
  );

  it('publishes no checkpoint before it is committed', async () => {
    const log = await filled();
    log.plan = (call) => (call === 'sequence' ? 'lost-before' : 'none');
    const one = running(log, 'a');
    for (let turn = 0; turn < 3; turn += 1) await one.turn();
    expect(one.published.map(({ size }) => size)).toEqual([0]);
  });

  it('publishes what it was not told had been committed, once it knows', async () => {
    const log = await filled();
    let lost = 0;
    log.plan = (call) => (call === 'sequence' && lost++ === 0 ? 'lost-after' : 'none');
    const one = running(log, 'a');
    await one.turn();
    expect(one.published.map(({ size }) => size)).toEqual([0]);
    await one.turn();
    expect(one.published.map(({ size }) => size)).toEqual([0, 600]);
  });

  it('goes on where two lead by turns, one paused at any of its calls', async () => {
    for (let at = 0; at < 12; at += 1) {
      const log = await filled();
      const [one, two] = [running(log, 'a'), running(log, 'b')];
      let calls = 0;
      let within = false;
      // In the middle of one's turn the other takes over, and does its own.
      log.before = async () => {
        if (within || calls++ !== at) return;
        within = true;
        await two.turn();
        await two.turn();
        await log.append(2, 7);
        within = false;
      };
      for (let turn = 0; turn < 4; turn += 1) await one.turn();
      log.before = () => Promise.resolve();
      for (let turn = 0; turn < 4; turn += 1) {
        await two.turn();
        await one.turn();
        check(log, [one, two], false);
      }
      check(log, [one, two], true);
    }
  });

  it('holds through random faults of everything, with two of them', async () => {
    let state = 20_261_129;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (let run = 0; run < 30; run += 1) {
      const log = await filled();
      const both = [running(log, 'a'), running(log, 'b')];
      log.plan = () => (random(4) === 0 ? (FAULTS[random(FAULTS.length)] ?? 'none') : 'none');
      for (let turn = 0; turn < 40; turn += 1) {
        await both[random(2)]?.turn();
        if (random(5) === 0) log.settle();
        if (random(3) === 0) await log.append(1 + random(2), 1 + random(200));
      }
      log.settle();
      log.plan = () => 'none';
      for (let turn = 0; turn < 10; turn += 1) for (const each of both) await each.turn();
      check(log, both, true);
    }
  });

  it('commits nothing while checkpoints cannot be signed, and everything afterwards', async () => {
    const log = await filled();
    let away = true;
    const signer: CheckpointSigner = {
      sign: (size, root) =>
        away
          ? Promise.reject(new TwofoldError('hsm_unavailable'))
          : softwareSigner.sign(size, root),
    };
    const one = running(log, 'a', signer);
    for (let turn = 0; turn < 3; turn += 1) await one.turn();
    expect(log.log).toEqual([]);
    away = false;
    await one.turn();
    check(log, [one], true);
  });
});
