/** A consumer of events outlives its service: killed and started again, it goes on where it was. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { EventReader } from '../http/event-reader.ts';
import { TestService } from './service.ts';

describe('events of a service that is killed', () => {
  let service: TestService;
  beforeAll(async () => {
    service = await TestService.start();
  }, 90_000);
  afterAll(() => service.destroy());

  const create = async (name: string) => {
    const made = await service.request('POST', '/v1/admin/keys', { name, suite: 'A256GCM' });
    expect(made.status).toBe(201);
  };
  const follow = async (lastId?: string) =>
    EventReader.open(
      new URL('/v1/admin/events/stream', service.url).href,
      await service.token('operator'),
      lastId === undefined ? {} : { 'last-event-id': lastId },
    );

  it('are resumed, and none is missed or comes twice', async () => {
    await create('a');
    const first = await follow();
    await first.until(({ events }) => events.length === 1);
    await create('b');
    await first.until(({ events }) => events.length === 2);
    await create('c');
    // Whether the third got there before the end is not known, and does not matter.
    await service.kill();
    await first.until(({ ended }) => ended).catch(() => undefined);
    service = await TestService.start({ dataDir: service.dataDir });
    const again = await follow(first.lastId);
    await create('d');
    await again.until(({ events }) => events.some(({ json }) => json['subject'] === 'd'));
    const seen = [...first.events, ...again.events];
    expect(seen.map(({ json }) => json['subject'])).toEqual(['a', 'b', 'c', 'd']);

    // An open stream does not hold up a stop.
    const stopped = service.stop();
    await again.until(({ received }) => received.some(({ event }) => event === 'problem'));
    expect(again.received.at(-1)?.json).toMatchObject({ code: 'shutting_down' });
    await stopped;
  }, 180_000);
});
