/**
 * P5: when a change has answered, no answer leaves under the old state, whichever instance gives it.
 * Two instances on one database; neither tells the other anything.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { StaleAnswer } from '../../src/audit/ports.ts';
import type { AuditId } from '../../src/audit/ports.ts';
import { draftOf, KEY_ID, otherKey, standingOf, thisKey } from '../audit/drafts.ts';
import { brokenBatches, brokenChains, durableEntries, startInstance } from '../audit/instances.ts';
import type { TestInstance } from '../audit/instances.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';

let database: TestDatabase;
let changer: TestInstance;
let user: TestInstance;

beforeAll(async () => {
  database = await startTestDatabase();
}, 60_000);
afterAll(() => database.stop());

beforeEach(async () => {
  changer = await startInstance(database.appUrl);
  user = await startInstance(database.appUrl);
});
afterEach(async () => {
  await Promise.all([changer.stop(), user.stop()]);
  const entries = await durableEntries(database);
  expect(brokenChains(entries)).toEqual([]);
  expect(await brokenBatches(entries)).toEqual([]);
});

interface Answer {
  readonly requestId: string;
  readonly onKey: boolean;
  /** Epoch under which the request read its state. */
  readonly epoch: number;
  readonly begun: number;
  readonly id: AuditId | null;
  readonly stale: boolean;
}

const answer = async (onKey: boolean): Promise<Answer> => {
  const requestId = randomUUID();
  const epoch = user.epoch.current;
  const begun = performance.now();
  const names = onKey ? {} : { keyId: null, keyName: 'unconcerned' };
  const [outcome] = await Promise.allSettled([
    user.log.record(draftOf({ requestId }), standingOf(epoch, names)),
  ]);
  const id = outcome.status === 'fulfilled' ? outcome.value : null;
  const stale = outcome.status === 'rejected' && outcome.reason instanceof StaleAnswer;
  return { requestId, onKey, epoch, begun, id, stale };
};

describe('P5 revocation is immediate', () => {
  it('an answer under way when the change answered does not leave', async () => {
    const standing = standingOf(user.epoch.current);
    await changer.suspend(thisKey);
    await expect(user.log.record(draftOf(), standing)).rejects.toBeInstanceOf(StaleAnswer);
    expect(user.epoch.current).toBe(changer.epoch.current);
    await user.log.record(draftOf(), standingOf(user.epoch.current));
  });

  it('an answer that the change does not concern leaves, under the new epoch', async () => {
    const standing = standingOf(user.epoch.current);
    const { epoch } = await changer.suspend(otherKey);
    const id = await user.log.record(draftOf(), standing);
    expect((await user.log.read(id))?.epoch).toBe(epoch);
  });

  it('a change of access concerns every answer', async () => {
    const standing = standingOf(user.epoch.current, { keyId: null, keyName: null });
    await changer.suspend({ scope: 'access', namespace: 'default', keyId: null, keyName: null });
    await expect(user.log.record(draftOf(), standing)).rejects.toBeInstanceOf(StaleAnswer);
  });

  it('a change authorized under an old epoch is stale itself', async () => {
    await changer.suspend(thisKey);
    await expect(user.suspend(thisKey)).rejects.toBeInstanceOf(StaleAnswer);
    await user.suspend(thisKey);
  });

  it('under load: once a change has answered, no entry of an older epoch commits', async () => {
    const answers: Answer[] = [];
    const changes: { epoch: number; answered: number; visible: Set<AuditId> }[] = [];
    let running = true;
    const worker = async (onKey: boolean): Promise<void> => {
      while (running) answers.push(await answer(onKey));
    };
    const change = async (): Promise<void> => {
      for (let round = 0; round < 15; round += 1) {
        const { epoch } = await changer.suspend(thisKey);
        const answered = performance.now();
        const visible = new Set((await durableEntries(database)).map(({ id }) => id));
        changes.push({ epoch, answered, visible });
        await sleep(20);
      }
      running = false;
    };
    await Promise.all([
      change(),
      ...Array.from({ length: 12 }, () => worker(true)),
      ...Array.from({ length: 4 }, () => worker(false)),
    ]);

    const entries = new Map((await durableEntries(database)).map((entry) => [entry.id, entry]));
    for (const { epoch, visible } of changes) {
      const late = [...entries.values()].filter(
        (entry) => !visible.has(entry.id) && entry.epoch < epoch,
      );
      expect(late.map(({ id }) => id)).toEqual([]);
    }
    for (const { id, epoch, onKey, begun, stale, requestId } of answers) {
      if (id === null) {
        // Denied only because a change of this key came between.
        expect(stale && onKey).toBe(true);
        expect([...entries.values()].some((entry) => entry.requestId === requestId)).toBe(false);
        continue;
      }
      const entry = entries.get(id);
      expect(entry).toMatchObject({ requestId, keyId: KEY_ID });
      if (!onKey) continue;
      // What it read is what held when it committed, and it began before nothing that it missed.
      expect(changes.filter((c) => c.epoch > epoch && c.epoch <= (entry?.epoch ?? 0))).toEqual([]);
      expect(changes.filter((c) => c.answered < begun && c.epoch > epoch)).toEqual([]);
    }
    expect(changes).toHaveLength(15);
    expect(answers.filter(({ stale }) => stale).length).toBeGreaterThan(0);
    expect(answers.filter(({ id }) => id !== null).length).toBeGreaterThan(100);
  }, 60_000);
});
