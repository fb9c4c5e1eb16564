/** What two zones hand each other when one joins: read strictly, and compared in every byte. */
import { randomBytes } from 'node:crypto';
import { expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  answerText,
  fingerprintOfOffer,
  offerText,
  parseAnswer,
  parseOffer,
  requireSame,
  transcriptOfAnswer,
} from '../../src/main/join-text.ts';

const some = (length: number) => Uint8Array.from(randomBytes(length));
const OFFER = { zone: 'zone-b', publicKey: some(1568 + 97) };
const root = (generation: number) => ({
  root: { installation: '01234567-89ab-4def-8123-456789abcdef', generation },
  publicKey: OFFER.publicKey,
  point: some(97),
  ciphertext: some(1568),
  wrapped: some(40),
  transcript: some(48),
});
const ANSWER = { zone: 'zone-a', roots: [root(1), root(2)] };

it('reads back what it wrote', () => {
  expect(parseOffer(offerText(OFFER))).toEqual(OFFER);
  expect(parseAnswer(answerText(ANSWER))).toEqual(ANSWER);
});

it('reads nothing else', () => {
  const offer = JSON.parse(offerText(OFFER)) as Record<string, unknown>;
  const answer = JSON.parse(answerText(ANSWER)) as Record<string, unknown>;
  const [first] = answer['roots'] as [Record<string, unknown>];
  for (const wrong of [
    'x',
    '[]',
    JSON.stringify({ ...offer, more: 1 }),
    JSON.stringify({ ...offer, publicKey: 'AAAA' }),
    JSON.stringify({ ...offer, zone: 'zone\u009b2J' }),
    JSON.stringify({ ...offer, kind: 'twofold-join-offer-1' }),
    answerText(ANSWER),
  ]) {
    expect(() => parseOffer(wrong)).toThrow('This is no offer');
  }
  for (const wrong of [
    JSON.stringify({ ...answer, roots: [] }),
    JSON.stringify({ ...answer, installation: 'x' }),
    JSON.stringify({ ...answer, zone: 'Zone A' }),
    JSON.stringify({ ...answer, roots: [{ ...first, wrapped: '' }] }),
    JSON.stringify({ ...answer, roots: [{ ...first, generation: 0 }] }),
    JSON.stringify({ ...answer, roots: [{ ...first, transcript: 'AAAA' }] }),
    offerText(OFFER),
  ]) {
    expect(() => parseAnswer(wrong)).toThrow('This is no answer');
  }
});

it('is another for people when a byte is another that a token will be given', () => {
  const bytes = fc.record({
    at: fc.nat(),
    bit: fc.integer({ min: 0, max: 7 }),
    part: fc.constantFrom('wrapped' as const, 'transcript' as const),
    of: fc.constantFrom(0, 1),
  });
  fc.assert(
    fc.property(bytes, ({ at, bit, part, of }) => {
      const roots = ANSWER.roots.map((each, place) => {
        if (place !== of) return each;
        const altered = Uint8Array.from(each[part]);
        const target = at % altered.length;
        altered[target] = (altered[target] ?? 0) ^ (1 << bit);
        return { ...each, [part]: altered };
      });
      expect(transcriptOfAnswer({ ...ANSWER, roots })).not.toBe(transcriptOfAnswer(ANSWER));
    }),
  );
  const fewer = { ...ANSWER, roots: ANSWER.roots.slice(0, 1) };
  expect(transcriptOfAnswer(fewer)).not.toBe(transcriptOfAnswer(ANSWER));
  const other = { ...OFFER, publicKey: some(OFFER.publicKey.length) };
  expect(fingerprintOfOffer(other)).not.toBe(fingerprintOfOffer(OFFER));
});

it('is another for people when it says that another zone asks, or answers', () => {
  // The log has what it says, of which nothing else would be compared.
  const renamed = { ...OFFER, zone: 'zone-c' };
  expect(fingerprintOfOffer(renamed)).not.toBe(fingerprintOfOffer(OFFER));
  expect(transcriptOfAnswer({ ...ANSWER, zone: 'zone-c' })).not.toBe(transcriptOfAnswer(ANSWER));
});

it('is compared as people say it', () => {
  const said = fingerprintOfOffer(OFFER);
  expect(said).toMatch(/^(?:[0-9a-f]{8} ){11}[0-9a-f]{8}$/u);
  for (const same of [said, said.toUpperCase(), said.replaceAll(' ', ''), `${said}\n`]) {
    expect(() => requireSame(same, said, 'fingerprint')).not.toThrow();
  }
  for (const other of ['', said.slice(0, -1), `${said}0`]) {
    expect(() => requireSame(other, said, 'fingerprint')).toThrow('Nothing was done');
    // Who is told what is expected says that, and not what the other side said.
    expect(() => requireSame(other, said, 'fingerprint')).not.toThrow(said.slice(0, 8));
  }
});
