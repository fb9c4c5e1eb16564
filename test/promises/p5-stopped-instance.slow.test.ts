/**
 * P5 with three processes, one of which is stopped while it holds answers that are made and not yet
 * committed, and goes on after a change of every kind was acknowledged by another. What is compared is
 * the order of commits: epochs, and the numbers of transactions behind the barrier. A clock is read only for
 * what a busy machine drew out for longer than a service waits for its log.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import type { AuditId } from '../../src/audit/ports.ts';
import { startBeside } from '../e2e/beside.ts';
import { leftOf } from '../e2e/processes.ts';
import { TestService } from '../e2e/service.ts';
import type { Answer } from '../e2e/service.ts';
import { metric } from '../e2e/worker-service.ts';
import { eventually } from '../store/eventually.ts';
import { Barrier } from './p5-barrier.ts';
import type { Committed, CommittedChange } from './p5-barrier.ts';
import { Hammer, Order } from './p5-hammer.ts';
import type { Shot } from './p5-hammer.ts';
import { KINDS } from './p5-kinds.ts';
import type { Kind } from './p5-kinds.ts';

const VICTIM = 1;
/** A service waits for its log for 3 s. */
const WAITS_MS = 2_500;
const message = Buffer.from('a manifest').toString('base64');
const plaintext = Buffer.from('a data key').toString('base64');

const order = new Order();
let services: TestService[] = [];
let changer: TestService;
let victim: TestService;
let third: TestService;
let barrier: Barrier;
/** From one event to another: a hold of the barrier, or a stop of one service, that services do not wait for. */
interface Overlong {
  readonly from: number;
  readonly until: number;
  /** Null of all. */
  readonly service: number | null;
}
const overlong: Overlong[] = [];
/** Requests on keys that no change concerns. */
let others: Hammer[];

beforeAll(async () => {
  changer = await TestService.start();
  victim = await startBeside(changer);
  third = await startBeside(changer);
  services = [changer, victim, third];
  barrier = await Barrier.open(changer.dataDir);
  others = await unconcerned();
  for (const other of others) other.start(1);
}, 240_000);

afterAll(async () => {
  await barrier.close();
  for (const service of [third, victim, changer]) await service.destroy();
  for (const { dataDir } of services) expect(await leftOf(dataDir)).toEqual([]);
});

async function unconcerned(): Promise<Hammer[]> {
  const make = async (name: string, suite: string) => {
    const { status } = await changer.request('POST', '/v1/admin/keys', { name, suite });
    expect(status).toBe(201);
  };
  await make('other-wrap', 'A256GCM');
  await make('other-sign', 'MLDSA65-ECDSA-P256-SHA512');
  const signed = await changer.request('POST', '/v1/keys/other-sign/sign', { message });
  const { signature } = signed.json;
  const questions = [
    { path: '/v1/keys/other-wrap/wrap', body: { plaintext } },
    { path: '/v1/keys/other-sign/sign', body: { message } },
    { path: '/v1/keys/other-sign/verify', body: { message, signature } },
  ];
  return questions.map((question) => new Hammer(services, question, order));
}

/** Entries that the process has made and neither sent nor answered. */
const waitingIn = (service: TestService): Promise<number> =>
  metric(service, 'twofold_audit_waiting_entries');

const isStopped = (pid: number): boolean =>
  / T /u.test(readFileSync(`/proc/${pid}/stat`, 'latin1').split(')').at(-1) ?? '');

/** Answers what to call when it is over. */
function beginning(service: number | null): () => void {
  const [from, began] = [order.next(), performance.now()];
  return () => {
    const until = order.next();
    if (performance.now() - began > WAITS_MS) overlong.push({ from, until, service });
  };
}

/**
 * Stops the victim with more entries waiting in it than the other keys' clients can have there: some
 * answers on the key are complete but for their commit. The barrier keeps the append in flight from
 * ending meanwhile, and that of the others with it.
 */
async function stopMidway(hammer: Hammer): Promise<void> {
  const over = beginning(null);
  await barrier.hold();
  try {
    while ((await waitingIn(victim)) < others.length + 2) {
      for (let count = 0; count < 3; count += 1) hammer.extra(VICTIM);
      await sleep(10);
    }
    victim.child.kill('SIGSTOP');
    await eventually(async () => isStopped(victim.pid));
  } finally {
    await barrier.release();
    over();
  }
}

const idOf = ({ headers }: Answer): AuditId => headers.get('twofold-audit-id') as AuditId;

interface Acknowledged {
  /** In the order of this process. */
  readonly event: number;
  readonly change: CommittedChange;
  /** What was committed when the change had answered. */
  readonly visible: ReadonlyMap<AuditId, Committed>;
}

async function acknowledge({ change, ifMatch }: Kind): Promise<Acknowledged> {
  const { method, path, body } = change;
  const headers = ifMatch === null ? {} : { headers: { 'If-Match': ifMatch } };
  const answer = await changer.request(method, path, body, headers);
  const event = order.next();
  expect({ status: answer.status, code: answer.json.code }).toEqual({ status: 200 });
  const [committed, visible] = [await barrier.change(idOf(answer)), await barrier.entries()];
  if (committed === null) throw new Error('an answered change is not recorded');
  expect(visible.has(idOf(answer))).toBe(true);
  return { event, change: committed, visible };
}

interface Drill {
  readonly kind: Kind;
  readonly hammer: Hammer;
  /** What the victim had not answered when it stopped. */
  readonly held: readonly Shot[];
  readonly acknowledged: Acknowledged;
}

async function drill(kind: Kind): Promise<Drill> {
  const hammer = new Hammer(services, kind.question, order).start(3);
  try {
    await Promise.all(services.map((_, service) => hammer.seen(service, 0, 2)));
    const over = beginning(VICTIM);
    await stopMidway(hammer);
    const held = hammer.inFlight(VICTIM);
    const acknowledged = await acknowledge(kind);
    const { event } = acknowledged;
    await Promise.all([hammer.seen(0, event, 2), hammer.seen(2, event, 2)]);
    expect(hammer.inFlight(VICTIM)).toEqual(held);
    victim.child.kill('SIGCONT');
    over();
    await hammer.seen(VICTIM, event, 2);
    return { kind, hammer, held, acknowledged };
  } finally {
    victim.child.kill('SIGCONT');
    await hammer.stop();
  }
}

// A machine under load may keep a call from the HSM; that says nothing about the state.
const isBusy = ({ json }: Shot): boolean => json['code'] === 'hsm_busy';

/** Whether its entry had to wait for something that took too long. */
const isLate = ({ json, begun, ended, service: at }: Shot): boolean =>
  json['code'] === 'audit_unavailable' &&
  overlong.some(
    ({ from, until, service }) =>
      begun < until && (ended ?? Infinity) > from && (service ?? at) === at,
  );

const saysNothing = (shot: Shot): boolean => isBusy(shot) || isLate(shot);

const idsOf = (shots: readonly Shot[]): AuditId[] => shots.map(({ auditId }) => auditId as AuditId);

async function judge({ kind, hammer, held, acknowledged }: Drill): Promise<string> {
  const { event, change, visible } = acknowledged;
  const entries = await barrier.entries();
  const shots = hammer.shots.filter((shot) => !saysNothing(shot));
  const old = shots.filter(kind.isOld);
  const answered = shots.filter(kind.isNew);
  expect(shots.filter((shot) => !kind.isOld(shot) && !kind.isNew(shot))).toEqual([]);

  // Each answer has its entry, and an entry of the old way is one of an epoch before the change.
  const missing = idsOf(shots).filter((id) => !entries.has(id));
  expect(missing).toEqual([]);
  const late = (entry: Committed | undefined): boolean =>
    entry === undefined || entry.epoch >= change.epoch || entry.xid >= change.xid;
  expect(idsOf(old).filter((id) => late(entries.get(id)))).toEqual([]);
  expect(idsOf(old).filter((id) => !visible.has(id))).toEqual([]);
  expect(idsOf(answered).filter((id) => !late(entries.get(id)))).toEqual([]);
  const oldEntries = [...entries.values()].filter(kind.oldEntry);
  expect(oldEntries.filter(late)).toEqual([]);
  // The criterion is not blind: what was answered in the old way, and nothing else, meets it.
  expect(idsOf(old).every((id) => oldEntries.some((entry) => entry.id === id))).toBe(true);
  // Epochs and transactions agree on what came before the change; its own entry is of its transaction.
  const disagree = [...entries.values()].filter(
    ({ epoch, xid }) => xid !== change.xid && epoch < change.epoch !== xid < change.xid,
  );
  expect(disagree).toEqual([]);
  // Nothing of an older epoch was committed after the change had answered.
  const after = [...entries.values()].filter(({ id }) => !visible.has(id));
  expect(after.filter(({ epoch }) => epoch < change.epoch)).toEqual([]);

  expect(old.filter(({ begun }) => begun > event)).toEqual([]);
  // Of those that the victim held, some had been made in the old way and had to be made anew.
  const overtaken = held.filter((shot) => !visible.has(shot.auditId as AuditId));
  if (!held.some(isLate))
    expect(overtaken.filter((shot) => !isBusy(shot)).length).toBeGreaterThan(0);
  expect(overtaken.filter(kind.isOld)).toEqual([]);
  return `${held.length} held, ${overtaken.length} overtaken, ${old.length} before, ${answered.length} after`;
}

describe('P5: an instance that was stopped in the middle of its answers', () => {
  for (const [name, prepare] of Object.entries(KINDS)) {
    it(`releases none in the old way after ${name}`, async () => {
      for (let round = 0; round < 2; round += 1) {
        const done = await drill(await prepare(changer));
        process.stdout.write(`${name}: ${await judge(done)}\n`);
      }
    }, 120_000);
  }

  it('meanwhile no request on another key was refused', async () => {
    await Promise.all(others.map((other) => other.stop()));
    const shots = others.flatMap((other) => other.shots).filter((shot) => !saysNothing(shot));
    expect(shots.length).toBeGreaterThan(100);
    expect(shots.filter(({ status }) => status !== 200)).toEqual([]);
  });
});

interface Repeat {
  readonly answer: Answer;
  readonly change: CommittedChange | null;
  readonly entry: Committed | undefined;
}

describe('P5: the same change once more', () => {
  it('waits like the first for a commit of its own, through whichever instance it comes', async () => {
    const name = 'twice';
    await changer.request('POST', '/v1/admin/keys', { name, suite: 'MLKEM768-P256' });
    let answered = 0;
    const suspend = async (service: TestService): Promise<Repeat> => {
      const path = `/v1/admin/keys/${name}/suspend`;
      const answer = await service.request('POST', path, { reason: 'a drill' });
      answered += 1;
      const entry = (await barrier.entries()).get(idOf(answer));
      return { answer, change: await barrier.change(idOf(answer)), entry };
    };

    await barrier.hold();
    const both = [suspend(changer)];
    await eventually(async () => (await barrier.changesWaiting()) === 1);
    both.push(suspend(third));
    await eventually(async () => (await barrier.changesWaiting()) === 2);
    expect(answered).toBe(0);
    await barrier.release();
    const repeats = [...(await Promise.all(both)), await suspend(victim)];

    for (const { answer, change, entry } of repeats) {
      expect({ status: answer.status, code: answer.json.code }).toEqual({ status: 200 });
      expect(entry).toMatchObject({ operation: 'keys.suspend', outcome: 'ok' });
      // Its entry is of the epoch that it found, and it made the next one.
      expect(change?.epoch).toBe((entry?.epoch ?? 0) + 1);
      expect(change?.xid).toBe(entry?.xid);
    }
    const epochs = repeats.map(({ change }) => change?.epoch ?? 0).toSorted((a, b) => a - b);
    const [first = 0] = epochs;
    expect(epochs).toEqual([first, first + 1, first + 2]);
    expect(repeats.at(-1)?.change?.epoch).toBe(first + 2);
  }, 60_000);
});
