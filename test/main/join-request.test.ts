/** A request of a zone that joins, and its answer, as somebody who writes the database would have them. */
import { createHmac, randomBytes } from 'node:crypto';

import { expect, it } from '@jest/globals';
import fc from 'fast-check';

import { TwofoldError } from '../../src/errors.ts';
import {
  answeredBy,
  answerTo,
  attested,
  fingerprintBytes,
  isUnknown,
  personOf,
  requireApprovable,
  requireAttested,
  requireOwn,
  requirePlain,
  visible,
} from '../../src/main/join-request.ts';
import { answerText, offerText, parseOffer } from '../../src/main/join-text.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { EXPIRED } from '../../src/store/join-store.ts';
import type { JoinRequest } from '../../src/store/join-store.ts';

const some = (length: number) => Uint8Array.from(randomBytes(length));
const offerOf = (zone: string) => ({ zone, publicKey: some(1568 + 97) });
const OFFER = offerOf('zone-b');
const answerFor = (publicKey: Uint8Array, zone = 'zone-a') =>
  answerText({
    zone,
    roots: [
      {
        root: { installation: '01234567-89ab-4def-8123-456789abcdef', generation: 1 },
        publicKey,
        ...{ point: some(97), ciphertext: some(1568), wrapped: some(40), transcript: some(48) },
      },
    ],
  });
const KEY = some(32);
const mac = (data: Uint8Array) =>
  Promise.resolve(Uint8Array.from(createHmac('sha256', KEY).update(data).digest()));

const OPEN: JoinRequest = {
  ...{ id: '11111111-2222-4333-8444-555555555555', zone: 'zone-b' },
  offer: offerText(OFFER),
  fingerprint: fingerprintBytes(OFFER),
  requestedBy: 'Ada Lovelace',
  requestedAt: new Date('2026-11-29T12:00:00.123Z'),
  expiresAt: new Date('2026-11-29T13:00:00.123Z'),
  expired: false,
  ...{ state: 'open', answered: null, endedAt: null, problem: null },
};
const UNSIGNED = {
  ...{ approvedBy: 'Grace Hopper', answeredFrom: 'zone-a' },
  answer: answerFor(OFFER.publicKey),
};
const ANSWERED: JoinRequest = {
  ...OPEN,
  state: 'answered',
  answered: await attested(OPEN, UNSIGNED, mac),
};
const A = { person: 'Grace Hopper', zone: 'zone-a' };
const B = { person: 'Ada Lovelace', zone: 'zone-b' };

const codeOf = (act: () => unknown): string => {
  try {
    act();
    return 'none';
  } catch (error) {
    return TwofoldError.is(error) ? error.code : 'other';
  }
};

it('is answered by another person in another zone, while it lives', () => {
  expect(requireApprovable(OPEN, A)).toEqual(OFFER);
  expect(requireApprovable(ANSWERED, A)).toEqual(OFFER);
  const cases: readonly [string, JoinRequest, { person: string; zone: string }][] = [
    ['self_approval', OPEN, { ...A, zone: 'zone-b' }],
    ['self_approval', OPEN, { ...A, person: 'Ada Lovelace' }],
    // What a person could call himself once more.
    ['self_approval', OPEN, { ...A, person: 'ADA   lovelace' }],
    ['self_approval', OPEN, { ...A, person: 'Ａda Lovelace' }],
    ['approval_expired', { ...OPEN, expired: true }, A],
    ['approval_expired', { ...ANSWERED, expired: true }, A],
    ['approval_used', { ...OPEN, state: 'accepted' }, A],
    ['approval_ended', { ...OPEN, state: 'ended', problem: 'withdrawn by Ada' }, A],
  ];
  for (const [code, request, by] of cases) {
    expect([code, codeOf(() => requireApprovable(request, by))]).toEqual([code, code]);
  }
});

it('is the offer that was posted, or none', () => {
  const other = offerOf('zone-b');
  const json = JSON.parse(OPEN.offer) as object;
  const altered: readonly JoinRequest[] = [
    // Another's key in its place, with and without the fingerprint that people are shown in a list.
    { ...OPEN, offer: offerText(other) },
    { ...OPEN, fingerprint: fingerprintBytes(other) },
    // Another zone's.
    { ...OPEN, zone: 'zone-c' },
    { ...OPEN, offer: offerText({ ...OFFER, zone: 'zone-c' }) },
    // What nobody wrote.
    { ...OPEN, offer: JSON.stringify({ ...json, more: 1 }) },
    { ...OPEN, offer: JSON.stringify({ ...json, publicKey: 'AAAA' }) },
    { ...OPEN, offer: 'x' },
    { ...OPEN, offer: UNSIGNED.answer },
  ];
  for (const request of altered) {
    expect(codeOf(() => requireApprovable(request, A))).toBe('integrity_failed');
  }
  // Somebody between the two who is thorough shows people another fingerprint, and they compare those.
  const thorough = { ...OPEN, offer: offerText(other), fingerprint: fingerprintBytes(other) };
  const shown = fingerprintBytes(requireApprovable(thorough, A));
  expect(shown).not.toEqual(fingerprintBytes(parseOffer(OPEN.offer)));
});

it('is taken in its own zone, once it was answered, by who did not approve it', () => {
  expect(answerTo(OPEN, B)).toBeNull();
  expect(answerTo(ANSWERED, B)).toMatchObject({ zone: 'zone-a', approvedBy: 'Grace Hopper' });
  expect(codeOf(() => requireOwn(OPEN, 'zone-c'))).toBe('approval_mismatch');
  const answered = (over: Partial<NonNullable<JoinRequest['answered']>>): JoinRequest => ({
    ...ANSWERED,
    answered: { ...UNSIGNED, mac: some(36), ...over },
  });
  const cases: readonly [string, JoinRequest, { person: string; zone: string }][] = [
    ['approval_mismatch', ANSWERED, { ...B, zone: 'zone-c' }],
    ['self_approval', ANSWERED, { ...B, person: 'grace hopper' }],
    ['approval_expired', { ...ANSWERED, expired: true }, B],
    ['approval_expired', { ...OPEN, expired: true }, B],
    ['approval_ended', { ...ANSWERED, state: 'ended', problem: 'x' }, B],
    ['approval_ended', { ...ANSWERED, expired: true, state: 'ended', problem: 'x' }, B],
    ['approval_expired', { ...ANSWERED, expired: true, state: 'ended', problem: EXPIRED }, B],
    // The answer to another offer, such as one of before; of this zone; of another than is said; none.
    ['integrity_failed', answered({ answer: answerFor(offerOf('zone-b').publicKey) }), B],
    ['integrity_failed', answered({ answer: answerFor(OFFER.publicKey, 'zone-b') }), B],
    ['integrity_failed', answered({ answer: answerFor(OFFER.publicKey, 'zone-c') }), B],
    ['integrity_failed', answered({ answer: OPEN.offer }), B],
    ['integrity_failed', answered({ answer: `${UNSIGNED.answer}x` }), B],
  ];
  for (const [code, request, by] of cases) {
    expect([code, codeOf(() => answerTo(request, by))]).toEqual([code, code]);
  }
});

it('has a MAC over everything that was there when it was answered', async () => {
  await expect(requireAttested(ANSWERED, mac)).resolves.toBeUndefined();
  const answered = ANSWERED.answered ?? { ...UNSIGNED, mac: some(32) };
  // The answer goes when it was taken; the MAC still says of the rest that it was answered so.
  const taken: JoinRequest = {
    ...{ ...ANSWERED, state: 'accepted', answered: { ...answered, answer: null } },
  };
  await expect(requireAttested(taken, mac)).resolves.toBeUndefined();
  // One that says that it is of a generation which is not in use.
  const closed = () => Promise.reject(new TwofoldError('zone_lacks_material'));
  await expect(requireAttested(ANSWERED, closed)).rejects.toThrow('is not what was answered');
  const altered: readonly JoinRequest[] = [
    OPEN,
    { ...ANSWERED, id: '21111111-2222-4333-8444-555555555555' },
    { ...ANSWERED, zone: 'zone-c' },
    { ...ANSWERED, offer: offerText(offerOf('zone-b')) },
    { ...ANSWERED, requestedBy: 'Somebody' },
    { ...ANSWERED, requestedAt: new Date(0) },
    { ...ANSWERED, expiresAt: new Date('2027-01-01T00:00:00Z') },
    { ...ANSWERED, answered: { ...answered, approvedBy: 'Somebody' } },
    { ...ANSWERED, answered: { ...answered, answeredFrom: 'zone-c' } },
    { ...ANSWERED, answered: { ...answered, answer: answerFor(OFFER.publicKey) } },
    { ...ANSWERED, answered: { ...answered, mac: some(32) } },
    { ...ANSWERED, answered: { ...answered, mac: answered.mac.subarray(0, 48) } },
    { ...taken, requestedBy: 'Somebody' },
    { ...taken, answered: { ...answered, answer: null, mac: some(80) } },
  ];
  for (const request of altered) {
    await expect(requireAttested(request, mac)).rejects.toThrow('is not what was answered');
  }
});

it('is used only where a command could have written its names and times', () => {
  expect(requirePlain(OPEN)).toBe(OPEN);
  expect(requirePlain(ANSWERED)).toBe(ANSWERED);
  const answered = ANSWERED.answered ?? { ...UNSIGNED, mac: some(80) };
  const altered: readonly JoinRequest[] = [
    { ...OPEN, requestedBy: 'Ada\u001b[2J' },
    { ...OPEN, requestedBy: '\u202eada' },
    { ...OPEN, requestedBy: 'x'.repeat(200) },
    { ...OPEN, zone: 'zone-b\n' },
    { ...OPEN, zone: 'zone b' },
    { ...OPEN, expiresAt: new Date(OPEN.requestedAt.getTime() + 3_600_001) },
    { ...OPEN, expiresAt: OPEN.requestedAt },
    { ...ANSWERED, answered: { ...answered, approvedBy: 'Grace\u0000' } },
    { ...ANSWERED, answered: { ...answered, answeredFrom: 'zone\u2028a' } },
  ];
  for (const request of altered) {
    expect(codeOf(() => requirePlain(request))).toBe('integrity_failed');
  }
  expect(visible('zone-b')).toBe('zone-b');
  expect(visible('a\u001b[2J\u202e\u2028')).toBe('a\\u{1b}[2J\\u{202e}\\u{2028}');
});

it('was answered, or not, or nobody knows, where what became of the statement is not known', async () => {
  const { answered } = ANSWERED;
  if (answered === null || answered.answer === null) throw new Error('it was answered');
  const answer = { ...answered, answer: answered.answer };
  const unknown = new OutcomeUnknown();
  const by = (row: JoinRequest | null | Error, outcome: boolean | Error = unknown) =>
    answeredBy(
      {
        answer: async () => (outcome instanceof Error ? Promise.reject(outcome) : outcome),
        find: async () => (row instanceof Error ? Promise.reject(row) : row),
      },
      OPEN.id,
      answer,
    );
  expect(await by(null, true)).toBe(true);
  expect(await by(null, false)).toBe(false);
  expect(await by(ANSWERED)).toBe(true);
  const another = { ...answered, mac: some(80) };
  expect(await by({ ...ANSWERED, answered: another })).toBe(false);
  expect(await by({ ...OPEN, state: 'ended', problem: 'x' })).toBe(false);
  for (const row of [OPEN, null, new Error('down')]) {
    await expect(by(row)).rejects.toBe(unknown);
  }
  const other = new TwofoldError('storage_full');
  await expect(by(ANSWERED, other)).rejects.toBe(other);
  expect([isUnknown(unknown), isUnknown(other)]).toEqual([true, false]);
});

it('takes the name of a person, and nothing that is none', () => {
  for (const name of ['A', 'Ada Lovelace', 'ada@example.com', 'Łukasz', 'x'.repeat(128)]) {
    expect(personOf(name)).toBe(name);
  }
  for (const wrong of ['', ' ', ' Ada', 'Ada ', 'A\nb', 'A\u0000', '\u202eada', 'x'.repeat(129)]) {
    expect(codeOf(() => personOf(wrong))).toBe('invalid_value');
  }
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 140 }), (text) => {
      if (codeOf(() => personOf(text)) !== 'none') return;
      expect(/\p{C}|[\u2028\u2029]/u.test(personOf(text))).toBe(false);
    }),
  );
});
