/** Requests that never authenticated: counted per source and outcome, one entry per interval. */
import { isIPv4, isIPv6 } from 'node:net';

/** Pairs of source and outcome in one interval; what comes after is counted under `other`. */
const MAX_PAIRS = 512;
/**
 * Pairs a second in the long run. An interval is half a second and a pair some 45 bytes: without this, whoever has
 * 512 addresses, or one network of IPv6, writes 4 GB a day.
 */
const PAIRS_PER_SECOND = 32;
/** Further pairs, all of source `other`. */
const MAX_OVERFLOW = 64;
const MAX_TEXT = 40;
const OTHER = 'other';

export interface AnonymousInterval {
  /** `<source> <outcome>` to count; for the entry's detail. */
  readonly counts: Readonly<Record<string, number>>;
  /** Requests in all. */
  readonly requests: number;
}

export class AnonymousCounts {
  #counts = new Map<string, number>();
  readonly #monotonic: () => number;
  /** Pairs that may still be told apart, as of `#at`. */
  #left = MAX_PAIRS;
  #at: number;

  /** @param monotonic milliseconds that only rise */
  constructor(monotonic: () => number = () => performance.now()) {
    this.#monotonic = monotonic;
    this.#at = monotonic();
  }

  get empty(): boolean {
    return this.#counts.size === 0;
  }

  count(source: string, outcome: string): void {
    const what = outcome.slice(0, MAX_TEXT);
    const pair = `${sourceGroup(source)} ${what}`;
    const key = this.#counts.has(pair) || this.#mayAdd() ? pair : this.#overflow(what);
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  /** What was counted since the last call. */
  take(): AnonymousInterval {
    const counts = Object.fromEntries(this.#counts);
    const requests = [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
    this.#counts = new Map();
    return { counts, requests };
  }

  #mayAdd(): boolean {
    const now = this.#monotonic();
    const regained = ((now - this.#at) * PAIRS_PER_SECOND) / 1_000;
    this.#left = Math.min(MAX_PAIRS, this.#left + regained);
    this.#at = now;
    if (this.#counts.size >= MAX_PAIRS || this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }

  /** Outcomes are codes of ours and few; the cap holds even if they were not. */
  #overflow(outcome: string): string {
    const pair = `${OTHER} ${outcome}`;
    return this.#counts.size < MAX_PAIRS + MAX_OVERFLOW || this.#counts.has(pair)
      ? pair
      : `${OTHER} ${OTHER}`;
  }
}

/**
 * What a source is counted under: an IPv4 address, the /64 of an IPv6 address (one customer's worth
 * of addresses), an IPv4-mapped address as its IPv4 address, `other` for anything else.
 */
export function sourceGroup(source: string): string {
  if (source !== last.source) last = { source, group: groupOf(source) };
  return last.group;
}

/** Requests of one source come in rows. */
let last = { source: '', group: OTHER };

function groupOf(source: string): string {
  const address = source.split('%', 1)[0] ?? '';
  if (isIPv4(address)) return address;
  if (!isIPv6(address)) return OTHER;
  const groups = groupsOf(address);
  const mapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  if (mapped) return dotted(groups[6] ?? 0, groups[7] ?? 0);
  return `${groups
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':')}::/64`;
}

/** The eight 16-bit groups of a valid IPv6 address (RFC 4291 section 2.2). */
function groupsOf(address: string): readonly number[] {
  const [head = '', tail] = address.split('::', 2);
  const before = parts(head);
  if (tail === undefined) return before;
  const after = parts(tail);
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => 0);
  return [...before, ...zeros, ...after];
}

const parts = (text: string): number[] =>
  text === ''
    ? []
    : text.split(':').flatMap((part) => (part.includes('.') ? halves(part) : [parseInt(part, 16)]));

function halves(ipv4: string): number[] {
  const [a = 0, b = 0, c = 0, d = 0] = ipv4.split('.').map(Number);
  return [a * 256 + b, c * 256 + d];
}

const dotted = (high: number, low: number): string =>
  [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
