/**
 * Shares of the recovery key's seed as holders keep them: printed, typed in again, and told apart.
 *
 *     body = version u8 (1) ‖ set id (8) ‖ index u8 ‖ threshold u8 ‖ shares u8 ‖ fingerprint (8)
 *            ‖ value (32) ‖ roll (8 for each share)
 *     text = "twofold-share-1", and base32 of body ‖ SHA-256("twofold/share-text/1" ‖ body)[0..6]
 *
 *     roll[i] = SHA-256("twofold/share/1" ‖ set id ‖ i ‖ value i)[0..8]
 *
 * The checksum finds what was mistyped. The roll, which every share has, names the share that is whole and
 * yet not one of its set; it tells nothing of the seed, because values are as random as the seed is.
 * `fingerprint` is the beginning of the public key's.
 */
import { createHash, randomBytes } from 'node:crypto';

import { concatBytes, equalBytes, utf8 } from '../crypto/bytes.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import { combine, split } from '../crypto/shamir.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { decodeBase32, encodeBase32 } from './base32.ts';
import { SEED_LENGTH, fingerprintOf } from './key.ts';

export const MAX_HOLDERS = 16;
const VERSION = 1;
const PREFIX = 'twofold-share-1';
const SET_LENGTH = 8;
const FINGERPRINT_LENGTH = 8;
const MARK_LENGTH = 8;
const CHECKSUM_LENGTH = 6;
const HEAD_LENGTH = 1 + SET_LENGTH + 3 + FINGERPRINT_LENGTH;
/** Of text that is looked at. */
const MAX_TEXT = 4_096;

export interface RecoveryShare {
  /** 8 bytes, in hex: the same in all shares of a key. */
  readonly set: string;
  readonly index: number;
  readonly threshold: number;
  readonly shares: number;
  /** First 8 bytes of the public key's SHA-256, in hex. */
  readonly fingerprint: string;
  /** 32 bytes; whoever has the share wipes it. */
  readonly value: SecretBytes;
  /** Of every share of the set, in hex, in the order of the indexes. */
  readonly roll: readonly string[];
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));

function markOf(set: Uint8Array, index: number, value: Uint8Array): Uint8Array {
  const hash = createHash('sha256').update(NAME.share).update(set).update(Uint8Array.of(index));
  return Uint8Array.from(hash.update(value).digest().subarray(0, MARK_LENGTH));
}

function checksumOf(body: Uint8Array): Uint8Array {
  const hash = createHash('sha256').update(NAME.shareText).update(body).digest();
  return Uint8Array.from(hash.subarray(0, CHECKSUM_LENGTH));
}

/** @throws TwofoldError invalid_value for counts that make no sense; the caller wipes the shares */
export function shareSeed(
  seed: SecretBytes,
  publicKey: Uint8Array,
  { shares, threshold }: { readonly shares: number; readonly threshold: number },
): readonly RecoveryShare[] {
  const whole = Number.isInteger(shares) && Number.isInteger(threshold);
  if (!whole || threshold < 2 || threshold > shares || shares > MAX_HOLDERS) {
    throw new TwofoldError(
      'invalid_value',
      `There are 2 to ${String(MAX_HOLDERS)} shares, and 2 of them at least make the key.`,
    );
  }
  const set = randomBytes(SET_LENGTH);
  const made = split(seed.reveal(), { shares, threshold });
  const roll = made.map(({ index, value }) => hex(markOf(set, index, value)));
  const fingerprint = hex(fingerprintOf(publicKey).subarray(0, FINGERPRINT_LENGTH));
  const common = { set: hex(set), threshold, shares, fingerprint, roll };
  return made.map(({ index, value }) => ({ ...common, index, value: SecretBytes.own(value) }));
}

/** As it is printed, with a line of words for people above it. */
export function formatShare(share: RecoveryShare): string {
  const { set, index, threshold, shares, fingerprint, value, roll } = share;
  const body = concatBytes(
    Uint8Array.of(VERSION),
    bytesOf(set),
    Uint8Array.of(index, threshold, shares),
    bytesOf(fingerprint),
    value.reveal(),
    ...roll.map(bytesOf),
  );
  try {
    const groups = encodeBase32(concatBytes(body, checksumOf(body))).split(' ');
    const lines = Array.from({ length: Math.ceil(groups.length / 8) }, (_, line) =>
      groups.slice(line * 8, line * 8 + 8).join(' '),
    );
    return [
      `# Share ${String(index)} of ${String(shares)} of the recovery key ${fingerprint}; ` +
        `any ${String(threshold)} make the key. Keep it secret and apart from the others.`,
      PREFIX,
      ...lines,
      '',
    ].join('\n');
  } finally {
    wipe(body);
  }
}

const refuse = (why: string) => new TwofoldError('invalid_value', why);

/** @throws TwofoldError invalid_value for what is no share, or was mistyped */
export function parseShare(text: string): RecoveryShare {
  if (text.length > MAX_TEXT) throw refuse('it is too long for a share');
  const lines = text.split('\n').filter((line) => !line.startsWith('#'));
  const [, digits] = /^\s*twofold-share-1\s([\s\S]*)$/iu.exec(lines.join('\n')) ?? [];
  if (digits === undefined) throw refuse(`it does not begin with ${PREFIX}`);
  const bytes = decodeBase32(digits);
  const body = bytes.subarray(0, -CHECKSUM_LENGTH);
  try {
    if (!equalBytes(checksumOf(body), bytes.subarray(-CHECKSUM_LENGTH))) {
      throw refuse('its checksum is wrong: a character was mistyped or left out');
    }
    return readBody(body);
  } finally {
    wipe(bytes);
  }
}

function readBody(body: Uint8Array): RecoveryShare {
  const at = 1 + SET_LENGTH;
  const [index = 0, threshold = 0, shares = 0] = body.subarray(at, at + 3);
  const length = HEAD_LENGTH + SEED_LENGTH + MARK_LENGTH * shares;
  if (body[0] !== VERSION || body.length !== length) throw refuse('it is no share of version 1');
  if (threshold < 2 || threshold > shares || index < 1 || index > shares || shares > MAX_HOLDERS) {
    throw refuse('its numbers make no sense');
  }
  const marks = HEAD_LENGTH + SEED_LENGTH;
  return {
    set: hex(body.subarray(1, at)),
    index,
    threshold,
    shares,
    fingerprint: hex(body.subarray(at + 3, HEAD_LENGTH)),
    value: SecretBytes.copyOf(body.subarray(HEAD_LENGTH, marks)),
    roll: Array.from({ length: shares }, (_, place) =>
      hex(body.subarray(marks + place * MARK_LENGTH, marks + (place + 1) * MARK_LENGTH)),
    ),
  };
}

/** A share as it was given: where it is from, and its text. */
export interface GivenShare {
  readonly name: string;
  readonly text: string;
}

export interface ShareFinding {
  readonly name: string;
  readonly index: number | null;
  readonly set: string | null;
  /** Null for a share that is good. */
  readonly problem: string | null;
}

export interface ShareCheck {
  readonly findings: readonly ShareFinding[];
  /** Those that are good, of one set; the caller wipes them. */
  readonly good: readonly RecoveryShare[];
  /** Whether `good` make the key. */
  readonly enough: boolean;
  /** What keeps them from it, in words; null where nothing does. */
  readonly problem: string | null;
}

interface Read {
  readonly name: string;
  readonly share: RecoveryShare | null;
  readonly problem: string | null;
}

function read({ name, text }: GivenShare): Read {
  try {
    return { name, share: parseShare(text), problem: null };
  } catch (error) {
    if (!TwofoldError.is(error)) throw error;
    return { name, share: null, problem: error.message };
  }
}

/** What is the same in all shares of a set. */
const common = ({ set, threshold, shares, fingerprint, roll }: RecoveryShare): string =>
  [set, threshold, shares, fingerprint, ...roll].join(' ');

/** The set of most shares; of several, the one that was given first. */
function usualOf(shares: readonly RecoveryShare[]): string | null {
  const counts = new Map<string, number>();
  for (const share of shares) counts.set(common(share), (counts.get(common(share)) ?? 0) + 1);
  let usual: string | null = null;
  for (const [each, count] of counts) {
    if (usual === null || count > (counts.get(usual) ?? 0)) usual = each;
  }
  return usual;
}

/** Says of each share whether it is good, and of all whether they make the key. */
export function checkShares(given: readonly GivenShare[]): ShareCheck {
  const reads = given.map(read);
  const whole = reads.flatMap(({ share }) => (share === null ? [] : [share]));
  const usual = usualOf(whole);
  const good: RecoveryShare[] = [];
  const findings = reads.map(({ name, share, problem: unread }): ShareFinding => {
    const problem = share === null ? unread : problemOf(share, usual, good);
    if (share !== null && problem === null) good.push(share);
    else wipe(share?.value);
    return { name, index: share?.index ?? null, set: share?.set ?? null, problem };
  });
  return { findings, good, ...judged(whole, findings, good) };
}

function problemOf(
  share: RecoveryShare,
  usual: string | null,
  good: readonly RecoveryShare[],
): string | null {
  const mark = markOf(bytesOf(share.set), share.index, share.value.reveal());
  if (hex(mark) !== share.roll[share.index - 1]) {
    return 'it is not the share that was made: its value is another';
  }
  if (common(share) !== usual) return `it is of another set (${share.set})`;
  return good.some(({ index }) => index === share.index) ? 'it was given twice' : null;
}

function judged(
  whole: readonly RecoveryShare[],
  findings: readonly ShareFinding[],
  good: readonly RecoveryShare[],
): Pick<ShareCheck, 'enough' | 'problem'> {
  const sets = new Set(whole.map(({ set }) => set));
  const bad = findings.filter(({ problem }) => problem !== null);
  if (sets.size > 1) {
    const each = [...sets].map((set) => {
      const of = findings.filter((finding) => finding.set === set);
      return `${set}: ${of.map(({ name }) => name).join(', ')}`;
    });
    return { enough: false, problem: `shares of ${String(sets.size)} sets (${each.join('; ')})` };
  }
  const [first] = bad;
  if (first !== undefined) {
    return { enough: false, problem: `${first.name}: ${first.problem ?? ''}` };
  }
  const threshold = good[0]?.threshold ?? 2;
  const enough = good.length >= threshold;
  const has = `${String(good.length)} of the ${String(threshold)} shares that are needed`;
  return { enough, problem: enough ? null : `there are ${has}` };
}

/**
 * The seed; the caller wipes it.
 * @throws TwofoldError invalid_value, which names the share that is wrong
 */
export function seedOf(given: readonly GivenShare[]): SecretBytes {
  const { good, enough, problem } = checkShares(given);
  try {
    const threshold = good[0]?.threshold;
    if (!enough || threshold === undefined) {
      throw refuse(`The shares do not make the recovery key: ${problem ?? 'there is none'}.`);
    }
    const points = good.slice(0, threshold).map(({ index, value }) => ({
      index,
      value: value.reveal(),
    }));
    return SecretBytes.own(combine(points));
  } finally {
    wipe(...good.map(({ value }) => value));
  }
}

/** Whether the shares say that they are of this key. */
export const isOfKey = ({ fingerprint }: Pick<RecoveryShare, 'fingerprint'>, key: Uint8Array) =>
  equalBytes(utf8(fingerprint), utf8(hex(fingerprintOf(key).subarray(0, FINGERPRINT_LENGTH))));
