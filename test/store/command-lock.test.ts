/** One command at a time: the second is refused, and the lock goes with the first, however that ends. */
import { expect, it } from '@jest/globals';

import { ADD_GENERATION, alone } from '../../src/store/command-lock.ts';
import { onEmbedded } from './majors.ts';
import { rejection } from './samples.ts';

onEmbedded('a command that runs alone', (test) => {
  it('refuses another meanwhile, and lets it run afterwards, also after a failure', async () => {
    const { pool } = test.store();
    const ended = Promise.withResolvers<string>();
    const begun = Promise.withResolvers<undefined>();
    const first = alone(pool, ADD_GENERATION, () => {
      begun.resolve(undefined);
      return ended.promise;
    });
    await begun.promise;
    const beside = await rejection(alone(pool, ADD_GENERATION, () => Promise.resolve('beside')));
    expect(beside).toMatchObject({ code: 'conflict' });
    expect(await alone(pool, ADD_GENERATION + 1, () => Promise.resolve('another'))).toBe('another');
    ended.resolve('first');
    expect(await first).toBe('first');
    const failed = alone(pool, ADD_GENERATION, () => Promise.reject(new Error('it failed')));
    expect(await rejection(failed)).toMatchObject({ message: 'it failed' });
    expect(await alone(pool, ADD_GENERATION, () => Promise.resolve('again'))).toBe('again');
  });
});
