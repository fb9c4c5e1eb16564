/**
 * On a real database: eight change keys at once over two processes, while consumers poll and stream, are cut and
 * resume. Nobody misses an event or gets one twice, and the order is that of commits.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { StaleAnswer } from '../../src/audit/ports.ts';
import { TwofoldError } from '../../src/errors.ts';
import { aKey, aRun } from '../keyring/world.ts';
import type { Instance } from '../keyring/world.ts';
import { openStage } from '../rotation/stage.ts';
import type { Actor, Stage } from '../rotation/stage.ts';
import { withClient } from '../store/owner.ts';
import { EventReader } from './event-reader.ts';
import { openServiceOver } from './service.ts';
import type { Service } from './service.ts';

const CHANGERS = 8;
const ROUNDS = 12;

describe('events under concurrent changes', () => {
  let stage: Stage;
  let second: Actor;
  let service: Service<Instance>;
  let listener: { close(): Promise<void> };
  beforeAll(async () => {
    stage = await openStage();
    second = await stage.another();
    // It serves, and learns by notification what the other one commits.
    const { store } = stage;
    const { epoch } = stage.first;
    listener = store.listen((seen) => {
      if (seen <= epoch.current) return;
      store.audit.changesSince(epoch.current).then(
        (changes) => epoch.advance(changes),
        () => undefined,
      );
    });
    service = await openServiceOver(
      { ...stage.first, stop: () => Promise.resolve() },
      {
        replace: () => ({ events: { ...store.events, installation: 'i' } }),
        options: { limits: { streamsPerPrincipal: 100 } },
      },
    );
  }, 60_000);
  afterAll(async () => {
    await service.stop();
    await listener.close();
    await stage.stop();
  }, 60_000);

  /** As the pipeline does: what others overtook was not written, and runs again. */
  const untilDone = async (act: () => Promise<unknown>): Promise<void> => {
    for (;;) {
      try {
        await act();
        return;
      } catch (error) {
        if (!(error instanceof StaleAnswer) && !TwofoldError.is(error, 'conflict')) throw error;
        await sleep(Math.random() * 5);
      }
    }
  };

  const change = async (actor: Actor, name: string) => {
    const { manage } = actor.keyring;
    const key = aKey({ name, suite: 'A256GCM' });
    await untilDone(() => manage.create(actor.grant('keys.create', name), key, aRun()));
    for (let round = 1; round < ROUNDS; round += 1) {
      await untilDone(() => manage.rotate(actor.grant('keys.rotate', name), {}, aRun()));
    }
  };

  /** Reads pages until told that no more will come and the last page was empty. */
  const poll = async (over: () => boolean): Promise<string[]> => {
    const ids: string[] = [];
    let after = '0-0';
    for (;;) {
      const last = over();
      const path = `/v1/admin/events?pageSize=7&after=${after}`;
      const { json } = await service.call('auditor', 'GET', path);
      const items = json['items'] as { id: string }[];
      ids.push(...items.map(({ id }) => id));
      after = String(json['next']);
      if (last && json['more'] === false) return ids;
      await sleep(1);
    }
  };

  /** Follows until it has seen `last`, cutting the connection after every few events. */
  const follow = async (last: Promise<string>, most: number): Promise<string[]> => {
    const token = await service.token('operator');
    const ids: string[] = [];
    const goal: { id: string | null } = { id: null };
    void last.then((id) => (goal.id = id));
    let resume: Record<string, string> = {};
    while (goal.id === null || ids.at(-1) !== goal.id) {
      const reader = await EventReader.open(`${service.url}/v1/admin/events/stream`, token, resume);
      const enough = () =>
        reader.events.length >= most ||
        // The last event may have come before the connection was cut.
        (goal.id !== null && (reader.events.at(-1)?.id ?? ids.at(-1)) === goal.id);
      await Promise.race([reader.until(enough), last.then(() => reader.until(enough))]);
      reader.close();
      ids.push(...reader.events.map(({ id }) => id));
      resume = { 'last-event-id': reader.lastId };
    }
    return ids;
  };

  it('are seen once by all, in the order of commits', async () => {
    let over = false;
    const end = Promise.withResolvers<string>();
    const polled = poll(() => over);
    const streamed = [follow(end.promise, Infinity), follow(end.promise, 5)];
    const changers = Array.from({ length: CHANGERS }, (_, i) =>
      change(i % 2 === 0 ? stage.first : second, `key-${String(i)}`),
    );
    await Promise.all(changers);
    const { rows } = await withClient(stage.database.ownerUrl, (owner) =>
      owner.query<{ id: string }>(
        `select c.epoch || '-1' as id from public.security_change c
         where c.scope = 'key' order by c.epoch`,
      ),
    );
    const committed = rows.map(({ id }) => id);
    expect(committed).toHaveLength(CHANGERS * ROUNDS);
    over = true;
    end.resolve(committed.at(-1) ?? '');
    expect(await polled).toEqual(committed);
    for (const ids of await Promise.all(streamed)) expect(ids).toEqual(committed);
  }, 120_000);
});
