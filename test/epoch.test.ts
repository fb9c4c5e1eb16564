import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { SecurityEpoch } from '../src/epoch.ts';
import type { EpochStanding, SecurityChange } from '../src/epoch.ts';

const ID = '7d3f1c52-8a35-4b0f-9c53-2f6f7a1e2b90';
const change = (epoch: number, over: Partial<SecurityChange> = {}): SecurityChange => ({
  epoch,
  scope: 'key',
  namespace: 'default',
  keyId: ID,
  keyName: 'payments',
  ...over,
});
const standing = (over: Partial<EpochStanding> = {}): EpochStanding => ({
  epoch: 1,
  namespace: 'default',
  keyId: ID,
  keyName: null,
  ...over,
});

describe('what a change touches', () => {
  const other = '00000000-0000-4000-8000-000000000000';
  it.each<[boolean, string, Partial<SecurityChange>, Partial<EpochStanding>]>([
    [true, 'the key by id', {}, {}],
    [true, 'the key by name', {}, { keyId: null, keyName: 'payments' }],
    [true, 'the target of a rewrap by id', {}, { keyId: other, alsoKeys: ['other', ID] }],
    [true, 'the target of a rewrap by name', {}, { keyId: other, alsoKeys: ['payments'] }],
    [true, 'a name that was free before', { keyId: other }, { keyId: null, keyName: 'payments' }],
    [
      true,
      'everybody, when access changed everywhere',
      { scope: 'access', namespace: '', keyId: null, keyName: null },
      { namespace: 'b', keyId: null },
    ],
    [
      true,
      'all of a namespace whose access changed',
      { scope: 'access', keyId: null, keyName: null },
      { keyId: null },
    ],
    [
      false,
      'no other namespace than the one whose access changed',
      { scope: 'access', keyId: null, keyName: null },
      { namespace: 'b' },
    ],
    [false, 'no other key', {}, { keyId: other, keyName: 'other' }],
    [false, 'no key of another namespace', {}, { namespace: 'b', keyName: 'payments' }],
    [false, 'no request without a key', {}, { keyId: null }],
    [false, 'no standing that began after it', {}, { epoch: 2 }],
  ])('%s: %s', (expected, _name, over, of) => {
    const epoch = new SecurityEpoch(1);
    epoch.advance([change(2, over)]);
    expect(epoch.touches(standing(of))).toBe(expected);
  });
});

describe('advance', () => {
  it('tells listeners of each change once, in order, before the epoch rises', () => {
    const epoch = new SecurityEpoch(1);
    const seen: [number, number][] = [];
    epoch.onChange((learnt) => seen.push([learnt.epoch, epoch.current]));
    epoch.advance([change(3), change(2)]);
    epoch.advance([change(2), change(3), change(4)]);
    expect(seen).toEqual([
      [2, 1],
      [3, 2],
      [4, 3],
    ]);
    expect(epoch.current).toBe(4);
  });

  it('takes a gap for a change of everything', () => {
    const epoch = new SecurityEpoch(1);
    const seen: SecurityChange[] = [];
    epoch.onChange((learnt) => seen.push(learnt));
    const far = standing({ namespace: 'elsewhere', keyId: null, keyName: 'any' });
    epoch.advance([change(4)]);
    expect(epoch.touches(far)).toBe(true);
    expect(epoch.touches({ ...far, epoch: 2 })).toBe(true);
    expect(epoch.touches({ ...far, epoch: 3 })).toBe(false);
    expect(epoch.current).toBe(4);
    const all = { epoch: 3, namespace: '', keyId: null, keyName: null };
    expect(seen).toEqual([{ ...all, scope: 'key' }, { ...all, scope: 'access' }, change(4)]);
  });

  it('judges like one that remembers everything, or more strictly', () => {
    const step = fc.record({
      key: fc.integer({ min: 0, max: 3 }),
      gap: fc.integer({ min: 1, max: 3 }),
    });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 40 }),
        fc.integer({ min: 0, max: 60 }),
        (steps, from) => {
          const epoch = new SecurityEpoch(1);
          const all: SecurityChange[] = [];
          let at = 1;
          for (const { key, gap } of steps) {
            at += gap;
            all.push(change(at, { keyId: `key-${key}`, keyName: null }));
          }
          epoch.advance(all);
          const of = standing({ epoch: from, keyId: 'key-0' });
          const touched = all.some((made) => made.epoch > from && made.keyId === 'key-0');
          if (touched) expect(epoch.touches(of)).toBe(true);
          if (from >= at) expect(epoch.touches(of)).toBe(false);
        },
      ),
    );
  });

  it('forgets old changes, and then counts older standings as touched', () => {
    const epoch = new SecurityEpoch(0);
    const other = '00000000-0000-4000-8000-000000000000';
    for (let at = 1; at <= 5000; at += 1)
      epoch.advance([change(at, { keyId: other, keyName: null })]);
    expect(epoch.touches(standing({ epoch: 4990 }))).toBe(false);
    expect(epoch.touches(standing({ epoch: 10 }))).toBe(true);
  });
});
