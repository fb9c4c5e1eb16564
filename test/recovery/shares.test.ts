/** Shares as holders keep them: what is mistyped, wrong, missing or of another set is named. */
import { describe, expect, it } from '@jest/globals';

import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { decodeBase32, encodeBase32 } from '../../src/recovery/base32.ts';
import {
  decodePublicKey,
  encodePublicKey,
  newSeed,
  recoveryKeyOf,
  recoverySuite,
} from '../../src/recovery/key.ts';
import {
  checkShares,
  formatShare,
  isOfKey,
  parseShare,
  seedOf,
  shareSeed,
} from '../../src/recovery/shares.ts';
import { expandSeed } from '../crypto/seed-expansion.ts';

function ceremony(counts = { shares: 5, threshold: 3 }) {
  const seed = newSeed();
  const { publicKey } = recoveryKeyOf(nativeEngine, seed);
  const shares = shareSeed(seed, publicKey, counts);
  const given = shares.map((share) => ({
    name: `share-${String(share.index)}`,
    text: formatShare(share),
  }));
  return { seed, publicKey, shares, given };
}

const some = <T>(all: readonly T[], ...places: readonly number[]): T[] =>
  places.flatMap((place) => all[place] ?? []);

const failureOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return String(error);
  }
  return 'none';
};

describe('the recovery key', () => {
  it('is the one that the draft expands from its seed', () => {
    const seed = SecretBytes.own(new Uint8Array(32).fill(7));
    const key = recoveryKeyOf(nativeEngine, seed);
    const expected = expandSeed('P-384', new Uint8Array(32).fill(7));
    expect(key.pqSeed.reveal()).toEqual(expected.pqSeed);
    expect(key.scalar.reveal()).toEqual(expected.scalar);
    expect(key.publicKey.length).toBe(recoverySuite().kem.lengths.publicKey);
    expect(decodePublicKey(nativeEngine, encodePublicKey(key.publicKey))).toEqual(key.publicKey);
    key.wipe();
    expect(() => key.scalar.reveal()).toThrow(/wiped/u);
  });
});

describe('shares', () => {
  it('make the seed again, and are read however they were typed', () => {
    const { seed, publicKey, given, shares } = ceremony();
    expect(seedOf(some(given, 4, 0, 2)).reveal()).toEqual(seed.reveal());
    const typed = given.map(({ name, text }) => ({
      name,
      text: text.toUpperCase().replaceAll('1 ', 'l ').replaceAll('\n', '\r\n  '),
    }));
    expect(seedOf(some(typed, 1, 2, 3)).reveal()).toEqual(seed.reveal());
    expect(shares.every((share) => isOfKey(share, publicKey))).toBe(true);
    expect(isOfKey(shares[0] ?? { fingerprint: '' }, ceremony().publicKey)).toBe(false);
  });

  it('that are too few make nothing, and it is said how many there are', () => {
    const { given } = ceremony();
    expect(failureOf(() => seedOf(some(given, 0, 1)))).toContain('2 of the 3 shares');
    expect(checkShares(some(given, 0, 1))).toMatchObject({ enough: false });
    expect(failureOf(() => seedOf([]))).toContain('0 of the 2');
  });

  it('of which one was mistyped: every character of it, and no other is blamed', () => {
    const { given } = ceremony({ shares: 3, threshold: 2 });
    const [first, second] = given;
    if (first === undefined || second === undefined) throw new Error('no shares');
    const start = second.text.indexOf('twofold-share-1') + 16;
    for (let at = start; at < second.text.length - 1; at += 1) {
      const letter = second.text.charAt(at);
      if (/\s/u.test(letter)) continue;
      const other = letter === '7' ? '8' : '7';
      const text = second.text.slice(0, at) + other + second.text.slice(at + 1);
      const { findings, enough } = checkShares([first, { name: 'share-2', text }]);
      expect(enough).toBe(false);
      expect(findings.map(({ problem }) => problem !== null)).toEqual([false, true]);
    }
  });

  it('of which one is whole but was altered: it is named', () => {
    const { given, shares } = ceremony();
    const [third] = some(shares, 2);
    if (third === undefined) throw new Error('no share');
    const value = SecretBytes.copyOf(third.value.reveal().map((byte) => byte ^ 1));
    const forged = { name: 'forged', text: formatShare({ ...third, value }) };
    const message = failureOf(() => seedOf([...some(given, 0, 1), forged]));
    expect(message).toContain('forged: it is not the share that was made');
  });

  it('of two sets are told apart, with the names of each', () => {
    const [one, two] = [ceremony(), ceremony()];
    const [foreign] = some(two.given, 2);
    if (foreign === undefined) throw new Error('no share');
    const mixed = [...some(one.given, 0, 1), { ...foreign, name: 'from-elsewhere' }];
    const message = failureOf(() => seedOf(mixed));
    expect(message).toContain('shares of 2 sets');
    expect(message).toContain('from-elsewhere');
    const { findings } = checkShares(mixed);
    expect(findings.map(({ problem }) => problem === null)).toEqual([true, true, false]);
  });

  it('given twice count once', () => {
    const { given } = ceremony({ shares: 3, threshold: 2 });
    expect(failureOf(() => seedOf(some(given, 0, 0)))).toContain('given twice');
  });

  it.each([
    [1, 2],
    [17, 2],
    [3, 1],
  ])('are not made %d of which %d suffice', (shares, threshold) => {
    expect(failureOf(() => ceremony({ shares, threshold }))).toContain('2 to 16 shares');
  });

  it.each([
    '',
    'twofold-share-1',
    'twofold-share-1 0000',
    'twofold-share-2 abcd',
    'x'.repeat(5000),
  ])('are not made of other text: %s', (text) => {
    expect(failureOf(() => parseShare(text))).toMatch(/TwofoldError/u);
  });
});

describe('base32', () => {
  it('reads what it writes, of every length', () => {
    for (let length = 0; length < 70; length += 1) {
      const bytes = Uint8Array.from({ length }, (_, at) => (at * 37 + length) & 255);
      expect(decodeBase32(encodeBase32(bytes))).toEqual(bytes);
    }
  });
});
