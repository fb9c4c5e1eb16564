/** A stream of changes of one key, and the uses and the suspension that must not starve behind it. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { eventually } from '../store/eventually.ts';
import { TestService } from './service.ts';
import type { Answer } from './service.ts';

const STREAMS = 6;
const plaintext = Buffer.from('a data key').toString('base64');

let service: TestService;
let streaming = true;
let changes = 0;
let streams: Promise<void>[];

beforeAll(async () => {
  service = await TestService.start();
  await service.request('POST', '/v1/admin/keys', { name: 'busy', suite: 'A256GCM' });
  const stream = async (index: number): Promise<void> => {
    for (let round = 0; streaming; round += 1) {
      const labels = { [`stream-${index}`]: String(round) };
      const { status } = await service.request('PATCH', '/v1/admin/keys/busy', { labels });
      expect(status).toBe(200);
      changes += 1;
    }
  };
  streams = Array.from({ length: STREAMS }, (_, index) => stream(index));
}, 90_000);

afterAll(async () => {
  streaming = false;
  await Promise.allSettled(streams);
  await service.destroy();
});

const inTurn = async (count: number, ask: () => Promise<Answer>): Promise<readonly number[]> => {
  const statuses: number[] = [];
  for (let index = 0; index < count; index += 1) statuses.push((await ask()).status);
  return statuses;
};
const all = (count: number, status: number): number[] =>
  Array.from({ length: count }, () => status);

describe('while others change the key without a pause', () => {
  it('every use of it is answered', async () => {
    const before = changes;
    const use = () => service.request('POST', '/v1/keys/busy/wrap', { plaintext });
    const users = Array.from({ length: 4 }, () => inTurn(15, use));
    expect((await Promise.all(users)).flat()).toEqual(all(60, 200));
    expect(changes).toBeGreaterThan(before + 10);
  });

  it('a suspension and its end take effect each time, whichever way they name the key', async () => {
    const { json } = await service.request('GET', '/v1/keys/busy');
    for (const reference of ['busy', String(json['id']), 'busy']) {
      const path = `/v1/admin/keys/${reference}`;
      const suspended = await service.request('POST', `${path}/suspend`, { reason: 'stolen' });
      expect(suspended.status).toBe(200);
      const refused = await service.request('POST', '/v1/keys/busy/wrap', { plaintext });
      expect(refused.json.code).toBe('version_not_usable');
      expect((await service.request('POST', `${path}/resume`, { reason: 'found' })).status).toBe(
        200,
      );
    }
  });

  it('rotations of it all take place', async () => {
    const rotate = () => service.request('POST', '/v1/admin/keys/busy/rotate', {});
    const rotations = await Promise.all(Array.from({ length: 8 }, rotate));
    expect(rotations.map(({ status }) => status)).toEqual(all(8, 200));
    const { json } = await service.request('GET', '/v1/keys/busy');
    expect(json['primary']).toBe(9);
  });

  it('and no stream failed', async () => {
    const enough = eventually(() => Promise.resolve(changes > 100), 25_000);
    await Promise.race([enough, Promise.all(streams)]);
    streaming = false;
    await Promise.all(streams);
    expect(changes).toBeGreaterThan(100);
  });
});

/** Changes of different kinds under one tag: whichever comes first, the others were decided on what is past. */
describe('changes sent at once under the same tag', () => {
  it('one takes place, and the others are told that the key is at another revision', async () => {
    await service.request('POST', '/v1/admin/keys', { name: 'raced', suite: 'HS256' });
    const path = '/v1/admin/keys/raced';
    for (let round = 0; round < 5; round += 1) {
      // Whatever won the round before: a suspended key could not be rotated.
      const { json: before } = await service.request('POST', `${path}/resume`, { reason: 'next' });
      const headers = { 'If-Match': `"${String(before['revision'])}"` };
      const labels = (n: number) =>
        service.request('PATCH', path, { labels: { by: `${round}-${n}` } }, { headers });
      const outcomes = await Promise.all([
        ...[1, 2, 3].map(labels),
        service.request('POST', `${path}/rotate`, {}, { headers }),
        service.request('PUT', `${path}/rotation-policy`, { maxUses: 100 + round }, { headers }),
        service.request('POST', `${path}/suspend`, { reason: `round ${round}` }, { headers }),
      ]);
      const won = outcomes.filter(({ status }) => status === 200);
      const refused = outcomes.filter(({ status }) => status !== 200);
      expect(won.map(({ json }) => json['revision'])).toEqual([Number(before['revision']) + 1]);
      expect(refused.map(({ status, json }) => [status, json.code])).toEqual(
        Array.from({ length: 5 }, () => [412, 'etag_mismatch']),
      );
    }
  });
});
