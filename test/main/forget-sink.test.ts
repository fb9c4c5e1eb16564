/** What the log says of a sink that is forgotten, whatever comes of it. */
import { describe, expect, it } from '@jest/globals';

import { TwofoldError } from '../../src/errors.ts';
import { forgetSink } from '../../src/main/audit-sink-command.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';

const HOUR = 3_600_000;

function forgetting(remove: () => Promise<boolean>, quietMs = HOUR) {
  const said: unknown[] = [];
  const removed: unknown[] = [];
  const parts = {
    positions: { all: () => Promise.resolve([{ name: 'gone', next: 7, quietMs }]) },
    store: {
      forgetSink: (...which: readonly unknown[]) => {
        removed.push(which);
        return remove();
      },
    },
    record: (operation: string, detail: object) => {
      said.push({ operation, ...detail });
      return Promise.resolve();
    },
  };
  return { said, removed, forget: (name = 'gone') => forgetSink(parts, name, 'root') };
}
const entry = (state: string, more: object = {}) => ({
  ...{ operation: 'audit.sink.forget', state, sink: 'gone', next: 7, operator: 'root' },
  ...more,
});

describe('a sink is forgotten', () => {
  it('with an entry before and one after, where it stands', async () => {
    const { said, removed, forget } = forgetting(() => Promise.resolve(true));
    expect(await forget()).toBe(7);
    expect(removed).toEqual([['gone', 7]]);
    expect(said).toEqual([entry('begun'), entry('done')]);
  });

  it('not while it is served, nor where there is none', async () => {
    const served = forgetting(() => Promise.resolve(true), 60_000);
    await expect(served.forget()).rejects.toMatchObject({ code: 'conflict' });
    await expect(served.forget('other')).rejects.toMatchObject({ code: 'not_found' });
    expect([served.said, served.removed]).toEqual([[], []]);
  });

  it('not where it moved meanwhile, which the log says', async () => {
    const { said, forget } = forgetting(() => Promise.resolve(false));
    await expect(forget()).rejects.toMatchObject({ code: 'conflict' });
    expect(said).toEqual([entry('begun'), entry('failed', { code: 'conflict' })]);
  });

  it('not where the database refuses, which the log says', async () => {
    const refused = new TwofoldError('database_unavailable');
    const { said, forget } = forgetting(() => Promise.reject(refused));
    await expect(forget()).rejects.toBe(refused);
    expect(said).toEqual([entry('begun'), entry('failed', { code: 'database_unavailable' })]);
  });

  it('and no end is said where nobody knows', async () => {
    const unknown = new OutcomeUnknown(new Error('cut'));
    const { said, forget } = forgetting(() => Promise.reject(unknown));
    await expect(forget()).rejects.toBe(unknown);
    expect(said).toEqual([entry('begun')]);
  });
});
