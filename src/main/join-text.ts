/**
 * What two zones hand each other when one joins: an offer and an answer, as files of JSON. Neither holds a
 * secret of who has not both private halves of the offer; what both sides compare is their hashes.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';

import { concatBytes, uint32, utf8 } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import type { EscrowedRoot } from '../hsm/ceremony-transport.ts';
import { NAME } from '../name.ts';
import { POINT_LENGTH, PUBLIC_KEY_LENGTH } from '../recovery/key.ts';

const TRANSCRIPT_BYTES = 48;
const CIPHERTEXT_BYTES = 1568;
const MOST_WRAPPED_BYTES = 256;
const MOST_GENERATIONS = 64;
/** Of a file; an answer of 64 generations takes a third of it. */
export const MOST_TEXT_BYTES = 1_048_576;

const bytes = (least: number, most = least) =>
  z.base64().transform((text, context) => {
    const value = Uint8Array.from(Buffer.from(text, 'base64'));
    if (value.length < least || value.length > most) {
      context.addIssue({ code: 'custom', message: 'has another length' });
    }
    return value;
  });

/** As a configuration names zones: it is shown to people and stands in the log. */
const zone = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/u, 'is no name of a zone');

const offer = z.strictObject({
  kind: z.literal('twofold-join-offer-2'),
  zone,
  publicKey: bytes(PUBLIC_KEY_LENGTH),
});

const answer = z.strictObject({
  kind: z.literal('twofold-join-answer-2'),
  zone,
  installation: z.uuid(),
  publicKey: bytes(PUBLIC_KEY_LENGTH),
  roots: z
    .array(
      z.strictObject({
        generation: z.int().min(1).max(999_999_999),
        point: bytes(POINT_LENGTH),
        ciphertext: bytes(CIPHERTEXT_BYTES),
        wrapped: bytes(1, MOST_WRAPPED_BYTES),
        transcript: bytes(TRANSCRIPT_BYTES),
      }),
    )
    .min(1)
    .max(MOST_GENERATIONS),
});

export interface Offer {
  readonly zone: string;
  /** ek ‖ Q. */
  readonly publicKey: Uint8Array;
}

export interface Answer {
  /** Of who answers. */
  readonly zone: string;
  readonly roots: readonly EscrowedRoot[];
}

const base64 = (value: Uint8Array): string => Buffer.from(value).toString('base64');

function parsed<T>(schema: z.ZodType<T>, text: string, what: string): T {
  const refused = (why: string) => new TwofoldError('invalid_value', `This is no ${what}: ${why}.`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw refused('it is not JSON');
  }
  const read = schema.safeParse(json);
  if (read.success) return read.data;
  const [issue] = read.error.issues;
  throw refused(`${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`.trim());
}

export const offerText = ({ zone: from, publicKey }: Offer): string =>
  `${JSON.stringify({ kind: 'twofold-join-offer-2', zone: from, publicKey: base64(publicKey) })}\n`;

/** @throws TwofoldError invalid_value */
export function parseOffer(text: string): Offer {
  const { zone: from, publicKey } = parsed(offer, text, 'offer');
  return { zone: from, publicKey };
}

/** All roots are of one installation and for one offer. */
export function answerText({ zone: from, roots }: Answer): string {
  const [first] = roots;
  if (first === undefined) throw new Error('an answer has a root');
  const rows = roots.map(({ root, point, ciphertext, wrapped, transcript }) => ({
    generation: root.generation,
    point: base64(point),
    ciphertext: base64(ciphertext),
    wrapped: base64(wrapped),
    transcript: base64(transcript),
  }));
  const { installation } = first.root;
  const publicKey = base64(first.publicKey);
  const whole = { kind: 'twofold-join-answer-2', zone: from, installation, publicKey, roots: rows };
  return `${JSON.stringify(whole)}\n`;
}

/** @throws TwofoldError invalid_value */
export function parseAnswer(text: string): Answer {
  const { zone: from, installation, publicKey, roots } = parsed(answer, text, 'answer');
  return {
    zone: from,
    roots: roots.map(({ generation, ...rest }) => ({
      ...rest,
      publicKey,
      root: { installation, generation },
    })),
  };
}

/** What people read to each other: SHA-384 as hexadecimal digits in groups of eight. */
const forPeople = (...parts: readonly Uint8Array[]): string => {
  const hash = createHash('sha384').update(concatBytes(utf8(NAME.join), ...parts));
  return (hash.digest('hex').match(/.{8}/gu) ?? []).join(' ');
};

const named = (from: string): Uint8Array => concatBytes(uint32(utf8(from).length), utf8(from));

/** Of an offer: that of the zone that joins, by this name, and not another's in its place. */
export const fingerprintOfOffer = ({ zone: from, publicKey }: Offer): string =>
  forPeople(named(from), publicKey);

/** Of an answer: who gives it, and every byte that the other token will be given. */
export const transcriptOfAnswer = ({ zone: from, roots }: Answer): string =>
  forPeople(
    named(from),
    ...roots.flatMap(({ root, transcript, wrapped }) => [
      uint32(root.generation),
      transcript,
      uint32(wrapped.length),
      wrapped,
    ]),
  );

/**
 * What was computed here is not told: it would be taken in the place of what the other side says.
 * @throws TwofoldError invalid_value unless `said` is what was computed here; case and spaces do not count
 */
export function requireSame(said: string, computed: string, what: string): void {
  const plain = (text: string) => text.replaceAll(/[\s:]/gu, '').toLowerCase();
  if (plain(said) === plain(computed)) return;
  throw new TwofoldError(
    'invalid_value',
    `The ${what} is not the one that was said: ask the other side again, and do not go on with this ` +
      'file if it says the same. Nothing was done.',
  );
}
