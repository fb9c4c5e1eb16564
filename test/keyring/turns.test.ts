import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { KeyTurns } from '../../src/keyring/turns.ts';

const request = () => Promise.withResolvers<undefined>();
const settled = () => new Promise((resolve) => setImmediate(resolve));

afterEach(() => {
  jest.useRealTimers();
});

describe('changes of one key', () => {
  it('go one after the other, first come, first served, and hold up no other key', async () => {
    const turns = new KeyTurns();
    const [a, b, c] = [request(), request(), request()];
    const order: string[] = [];
    const take = (key: string, id: string, { promise }: typeof a) =>
      turns.take(key, id, promise).then(() => order.push(id));
    await take('k', 'a', a);
    const waiting = [take('k', 'b', b), take('k', 'c', c)];
    await take('other', 'd', request());
    await settled();
    expect(order).toEqual(['a', 'd']);
    a.resolve(undefined);
    await waiting[0];
    await settled();
    expect(order).toEqual(['a', 'd', 'b']);
    b.resolve(undefined);
    await waiting[1];
    expect(order).toEqual(['a', 'd', 'b', 'c']);
    c.resolve(undefined);
    await settled();
    await take('k', 'e', request());
  });

  it('keep their turn while they run again', async () => {
    const turns = new KeyTurns();
    const [a, b] = [request(), request()];
    await turns.take('k', 'a', a.promise);
    const next = turns.take('k', 'b', b.promise);
    await turns.take('k', 'a', a.promise);
    a.resolve(undefined);
    await next;
  });

  it('wait for as long as a token may make an RSA key, and then are out of the line', async () => {
    jest.useFakeTimers();
    const turns = new KeyTurns();
    const a = request();
    await turns.take('k', 'a', a.promise);
    const late = turns.take('k', 'b', request().promise);
    const refused = expect(late).rejects.toMatchObject({ code: 'conflict' });
    let waits = true;
    void refused.then(() => (waits = false));
    await jest.advanceTimersByTimeAsync(120_000);
    expect(waits).toBe(true);
    await jest.advanceTimersByTimeAsync(30_000);
    await refused;
    a.resolve(undefined);
    await jest.advanceTimersByTimeAsync(0);
    await turns.take('k', 'c', request().promise);
  });

  it('let a suspension go ahead that waits too long, and it runs again at once', async () => {
    jest.useFakeTimers();
    const turns = new KeyTurns();
    const [a, c] = [request(), request()];
    await turns.take('k', 'a', a.promise);
    let went = false;
    const urgent = turns.take('k', 'b', c.promise, 'urgent').then(() => (went = true));
    await jest.advanceTimersByTimeAsync(1_900);
    expect(went).toBe(false);
    await jest.advanceTimersByTimeAsync(200);
    await urgent;
    await turns.take('k', 'b', c.promise, 'urgent');
    let next = false;
    const after = turns.take('k', 'd', request().promise).then(() => (next = true));
    c.resolve(undefined);
    await jest.advanceTimersByTimeAsync(0);
    // Who went ahead had no turn to pass on.
    expect(next).toBe(false);
    a.resolve(undefined);
    await jest.advanceTimersByTimeAsync(0);
    await after;
  });
});
