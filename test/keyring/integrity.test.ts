/** What was found altered keeps health red until it is found whole. */
import { describe, expect, it } from '@jest/globals';

import { TwofoldError } from '../../src/errors.ts';
import { IntegrityWatch } from '../../src/keyring/integrity.ts';
import { codeOf } from './world.ts';

describe('the integrity watch', () => {
  it('notes what is altered once, and forgets it when the same reading finds it whole', async () => {
    const watch = new IntegrityWatch();
    let altered = true;
    const read = async () => {
      if (altered) throw new TwofoldError('integrity_failed');
      return 'whole';
    };
    expect(await codeOf(watch.over('a', read))).toBe('integrity_failed');
    expect(await codeOf(watch.over('a', read))).toBe('integrity_failed');
    expect(await watch.over('b', async () => 1)).toBe(1);
    expect(watch.altered).toBe(1);
    await watch.recheck();
    expect(watch.altered).toBe(1);
    altered = false;
    await watch.recheck();
    expect(watch.altered).toBe(0);
  });

  it('notes no other failure, and is not cured by one', async () => {
    const watch = new IntegrityWatch();
    let code: 'integrity_failed' | 'database_unavailable' = 'database_unavailable';
    const read = () => Promise.reject(new TwofoldError(code));
    expect(await codeOf(watch.over('a', read))).toBe('database_unavailable');
    expect(watch.altered).toBe(0);
    code = 'integrity_failed';
    expect(await codeOf(watch.over('a', read))).toBe('integrity_failed');
    code = 'database_unavailable';
    await watch.recheck();
    expect(watch.altered).toBe(1);
  });

  it('reads again in one round at a time, and in none once closed', async () => {
    const watch = new IntegrityWatch();
    let gate = Promise.withResolvers<undefined>();
    let readings = 0;
    const read = async () => {
      readings += 1;
      await gate.promise;
      throw new TwofoldError('integrity_failed');
    };
    gate.resolve(undefined);
    await codeOf(watch.over('a', read));
    await codeOf(watch.over('b', read));
    gate = Promise.withResolvers();
    readings = 0;
    const rounds = [watch.recheck(), watch.recheck()];
    expect(readings).toBe(1);
    const closed = watch.close();
    gate.resolve(undefined);
    await Promise.all([...rounds, closed]);
    expect(readings).toBe(1);
    await watch.recheck();
    expect(readings).toBe(1);
  });

  it('stays bounded when everything is altered', async () => {
    const watch = new IntegrityWatch();
    const read = () => Promise.reject(new TwofoldError('integrity_failed'));
    for (let index = 0; index < 2_000; index += 1) await codeOf(watch.over(String(index), read));
    expect(watch.altered).toBe(1_000);
  });
});
