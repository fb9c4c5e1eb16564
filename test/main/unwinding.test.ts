import { setTimeout as sleep } from 'node:timers/promises';

import { describe, expect, it } from '@jest/globals';

import { Unwinding } from '../../src/main/unwinding.ts';

describe('unwinding', () => {
  it('undoes everything once, last first, whatever fails', async () => {
    const undone: string[] = [];
    const failed: string[] = [];
    const unwinding = new Unwinding((step) => failed.push(step));
    unwinding.add('first', () => void undone.push('first'));
    unwinding.add('second', () => Promise.reject(new Error('second')));
    unwinding.add('third', () => void undone.push('third'));
    await Promise.all([unwinding.unwind(), unwinding.unwind()]);
    expect([undone, failed]).toEqual([['third', 'first'], ['second']]);
  });

  it('lets a start go no further once a stop has begun', () => {
    const unwinding = new Unwinding(() => undefined);
    unwinding.check();
    unwinding.begin();
    expect(() => unwinding.check()).toThrow(expect.objectContaining({ code: 'shutting_down' }));
  });

  it('undoes at once what is added too late, and waits for it', async () => {
    const undone: string[] = [];
    const unwinding = new Unwinding(() => undefined);
    await unwinding.unwind();
    const slow = async () => {
      await sleep(20);
      undone.push('late');
    };
    expect(() => unwinding.add('late', slow)).toThrow(
      expect.objectContaining({ code: 'shutting_down' }),
    );
    await unwinding.unwind();
    expect(undone).toEqual(['late']);
  });

  it('waits for the step under way, whoever began it', async () => {
    let over = false;
    const unwinding = new Unwinding(() => undefined);
    unwinding.add('slow', async () => {
      await sleep(20);
      over = true;
    });
    void unwinding.unwind();
    await unwinding.unwind();
    expect(over).toBe(true);
  });
});
