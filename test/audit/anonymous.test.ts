import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { AnonymousCounts, sourceGroup } from '../../src/audit/anonymous.ts';
import { MAX_ENTRY_BYTES } from '../../src/audit/entry.ts';
import { ownUnplaced } from '../../src/audit/batch.ts';
import { INSTANCE } from './drafts.ts';

describe('the group of a source', () => {
  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['::ffff:c000:207', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:db8:1:2:3:4:192.0.2.7', '2001:db8:1:2::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['', 'other'],
    ['example.org', 'other'],
    ['192.0.2.7:443', 'other'],
    ['\0', 'other'],
  ])('of %j is %j', (source, group) => {
    expect(sourceGroup(source)).toBe(group);
  });

  it('is the same within a /64 and differs outside of it', () => {
    fc.assert(
      fc.property(fc.ipV6(), (address) => {
        const group = sourceGroup(address);
        expect(group.endsWith('::/64') || /^[\d.]+$/u.test(group)).toBe(true);
      }),
    );
  });
});

describe('counts', () => {
  it('add up, and start anew once taken', () => {
    const counts = new AnonymousCounts();
    counts.count('192.0.2.7', 'token_missing');
    counts.count('192.0.2.7', 'token_missing');
    counts.count('2001:db8::1', 'token_expired');
    expect(counts.take()).toEqual({
      counts: { '192.0.2.7 token_missing': 2, '2001:db8:0:0::/64 token_expired': 1 },
      requests: 3,
    });
    expect(counts.empty).toBe(true);
    expect(counts.take()).toEqual({ counts: {}, requests: 0 });
  });

  it('of a flood from ever new sources take little room in the long run, and lose nobody', () => {
    let now = 0;
    const counts = new AnonymousCounts(() => now);
    let pairs = 0;
    let requests = 0;
    for (let interval = 0; interval < 600; interval += 1) {
      for (let index = 0; index < 600; index += 1) {
        counts.count(`2001:db8:${interval.toString(16)}:${index.toString(16)}::1`, 'token_missing');
      }
      const taken = counts.take();
      pairs += Object.keys(taken.counts).length;
      requests += taken.requests;
      now += 500;
    }
    expect(requests).toBe(360_000);
    // 512 at once, 32 a second for five minutes, and `other` in each interval.
    expect(pairs).toBeLessThanOrEqual(512 + 32 * 300 + 600);
    expect(pairs).toBeGreaterThan(32 * 299);
    now += 60_000;
    for (let index = 0; index < 512; index += 1)
      counts.count(`192.0.${index >> 8}.${index & 255}`, 'x');
    expect(Object.keys(counts.take().counts)).toHaveLength(512);
  });

  it('stay bounded whatever comes, lose nobody, and fit one entry', () => {
    const counts = new AnonymousCounts();
    for (let index = 0; index < 20_000; index += 1) {
      const source = `${(0x2001 + (index % 4000)).toString(16)}:ffff:ffff:ffff::1`;
      counts.count(source, `${'outcome-of-a-length-that-no-code-has'.repeat(3)}-${index}`);
      counts.count(`198.51.${index % 256}.${(index >> 8) % 256}`, `code-${index % 300}`);
    }
    const { counts: taken, requests } = counts.take();
    expect(requests).toBe(40_000);
    expect(Object.values(taken).reduce((a, b) => a + b, 0)).toBe(40_000);
    expect(Object.keys(taken).length).toBeLessThanOrEqual(512 + 64 + 1);
    expect(Object.keys(taken).some((pair) => pair.startsWith('other '))).toBe(true);
    const origin = { at: new Date(), zone: 'z'.repeat(64), instance: INSTANCE };
    expect(ownUnplaced('unauthenticated', taken, origin).facts.length).toBeLessThan(
      MAX_ENTRY_BYTES / 1.3,
    );
  });
});
