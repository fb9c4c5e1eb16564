import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  batchMacInput,
  contextMacInput,
  encodeEntry,
  encodeFacts,
  leafHash,
  MAX_ENTRY_BYTES,
  NO_PREVIOUS,
} from '../../src/audit/entry.ts';
import type { Facts, Place } from '../../src/audit/entry.ts';
import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { assertEntryFits, entryBytesAtMost } from '../../src/audit/entry-size.ts';
import { decodeCbor, encodeCbor } from '../../src/crypto/cbor.ts';
import type { CborValue } from '../../src/crypto/cbor.ts';
import { ERRORS } from '../../src/errors.ts';
import { draftOf, INSTANCE } from './drafts.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const factsOf = (changes: Partial<Facts> = {}): Facts => {
  return {
    ...draftOf(),
    at: new Date(1_790_000_000_123),
    zone: 'zone-a',
    instance: INSTANCE,
    contextHmac: new Uint8Array(32).fill(0xcc),
    aadHmac: null,
    items: [{ keyVersion: 2, outcome: 'decryption_failed', hash: new Uint8Array(16).fill(0xdd) }],
    detail: { state: 'suspended', count: 3, flag: true, nothing: null },
    ...changes,
  };
};
interface Vectors {
  readonly entries: readonly {
    readonly name: string;
    readonly version: number;
    readonly place: object;
    readonly facts: object;
    readonly hex: string;
    readonly leaf: string;
  }[];
}
/** `{"hex":"…"}` stands for bytes, `at` for a time. */
const VECTORS = JSON.parse(
  readFileSync(new URL('../vectors/audit-entries.json', import.meta.url), 'utf8'),
) as Vectors;
function revived(value: unknown, name = ''): unknown {
  if (name === 'at') return new Date(value as string);
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((each) => revived(each));
  const pairs = Object.entries(value);
  const [[only, text] = []] = pairs;
  if (pairs.length === 1 && only === 'hex')
    return Uint8Array.from(Buffer.from(String(text), 'hex'));
  return Object.fromEntries(pairs.map(([key, each]) => [key, revived(each, key)]));
}

const place: Place = { lane: 4, n: 17, previous: new Uint8Array(32).fill(0xaa), epoch: 9 };

const arbitraryFacts: fc.Arbitrary<Facts> = fc.record({
  at: fc.integer({ min: 0, max: 8_640_000_000_000_000 }).map((ms) => new Date(ms)),
  zone: fc.string({ unit: 'grapheme' }),
  instance: fc.uuid(),
  requestId: fc.string(),
  actor: fc.record({
    issuer: fc.string(),
    subject: fc.string({ unit: 'grapheme' }),
    method: fc.constantFrom('jwt', 'mtls', 'system'),
    session: fc.option(fc.uint8Array({ minLength: 16, maxLength: 16 })),
    acr: fc.option(fc.string()),
    amr: fc.array(fc.string()),
    roles: fc.option(fc.array(fc.string({ unit: 'grapheme' }))),
  }),
  operation: fc.string(),
  namespace: fc.string(),
  keyRef: fc.option(fc.string()),
  keyId: fc.option(fc.uuid()),
  keyVersion: fc.option(fc.nat()),
  suite: fc.option(fc.nat(0xffff)),
  outcome: fc.constantFrom('ok', ...Object.keys(ERRORS)),
  decision: fc.option(fc.record({ revision: fc.string(), policies: fc.array(fc.string()) })),
  source: fc.string(),
  contextKeys: fc.array(fc.string()),
  contextHmac: fc.option(fc.uint8Array({ minLength: 32, maxLength: 32 })),
  items: fc.array(
    fc.record({
      keyVersion: fc.option(fc.nat()),
      outcome: fc.string(),
      hash: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    }),
  ),
  detail: fc.dictionary(
    fc.string(),
    fc.oneof(fc.string(), fc.boolean(), fc.maxSafeInteger(), fc.constant(null)),
  ),
  tlsGroup: fc.option(fc.string()),
  grantId: fc.option(fc.uuid()),
  approvalId: fc.option(fc.uuid()),
  engine: fc.option(fc.constantFrom('native', 'portable', 'token')),
  origin: fc.option(fc.constantFrom('anyone', 'service')),
  durationUs: fc.option(fc.nat()),
  loggedContext: fc.dictionary(fc.string(), fc.string({ unit: 'grapheme' })),
  aadHmac: fc.option(fc.uint8Array({ minLength: 32, maxLength: 32 })),
});
const arbitraryPlace = fc.record({
  lane: fc.nat(),
  n: fc.nat(),
  previous: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  epoch: fc.nat(),
});

describe('entry bytes', () => {
  it.each(VECTORS.entries.filter(({ version }) => version === 2))(
    'never change ($name)',
    ({ place: where, facts, hex: bytes, leaf }) => {
      const entry = encodeEntry(revived(where) as Place, encodeFacts(revived(facts) as Facts));
      expect(hex(entry)).toBe(bytes);
      expect(hex(leafHash(entry))).toBe(leaf);
    },
  );

  it.each(VECTORS.entries)('of version $version are read ($name)', (vector) => {
    const bytes = Buffer.from(vector.hex, 'hex');
    expect(decodeEntry(bytes)).toEqual({
      version: vector.version,
      ...(revived(vector.place) as Place),
      ...(revived(vector.facts) as Facts),
    });
    expect(hex(leafHash(bytes))).toBe(vector.leaf);
  });

  it('what is MACed never changes (golden)', () => {
    expect(hex(contextMacInput(Uint8Array.of(1, 2, 3)))).toBe(
      '01827574776f666f6c642f61756469742d76616c75652f3143010203',
    );
    const last = new Uint8Array(32).fill(0xee);
    expect(hex(batchMacInput({ lane: 4, first: 17, count: 256, last }))).toBe(
      '01857574776f666f6c642f61756469742d62617463682f3104111901005820eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee',
    );
  });

  it('are one CBOR array in deterministic form', () => {
    fc.assert(
      fc.property(arbitraryPlace, arbitraryFacts, (where, facts) => {
        const entry = encodeEntry(where, encodeFacts(facts));
        const members = decodeCbor(entry);
        expect(Array.isArray(members) && members.length).toBe(33);
        expect(hex(encodeCbor(members as CborValue))).toBe(hex(entry));
      }),
    );
  });

  it('are read back as they were meant', () => {
    fc.assert(
      fc.property(arbitraryPlace, arbitraryFacts, (where, facts) => {
        const bytes = encodeFacts(facts);
        const entry = decodeEntry(encodeEntry(where, bytes));
        expect(hex(encodeEntry(entry, encodeFacts(entry)))).toBe(hex(encodeEntry(where, bytes)));
        expect(entry.at).toEqual(facts.at);
        expect({ ...entry.detail }).toEqual({ ...facts.detail });
        expect({ ...entry.loggedContext }).toEqual({ ...facts.loggedContext });
        const { acr, amr, roles } = facts.actor;
        expect(entry.actor).toMatchObject({ acr, amr, roles });
        const { tlsGroup, grantId, approvalId, engine, origin, durationUs } = facts;
        expect(entry).toMatchObject({ tlsGroup, grantId, approvalId, engine, origin, durationUs });
        expect(entry.actor.subject).toBe(facts.actor.subject);
        expect(entry.keyId).toBe(facts.keyId);
        expect(entry.items.length).toBe(facts.items.length);
      }),
    );
  });

  it('hash as an RFC 6962 leaf', () => {
    const entry = encodeEntry(place, encodeFacts(factsOf()));
    const expected = createHash('sha256')
      .update(Buffer.concat([Buffer.of(0), entry]))
      .digest();
    expect(hex(leafHash(entry))).toBe(hex(expected));
  });

  it('take lone surrogates as U+FFFD', () => {
    const entry = encodeEntry(place, encodeFacts(factsOf({ keyRef: 'a\ud800b' })));
    expect(decodeEntry(entry).keyRef).toBe('a\ufffdb');
  });

  it.each([
    ['a fraction', { detail: { share: 0.5 } }],
    ['an id that is no UUID', { keyId: 'payments' }],
    ['a UUID in capitals', { keyId: '7D3F1C52-8A35-4B0F-9C53-2F6F7A1E2B90' }],
    ['a short item hash', { items: [{ keyVersion: 1, outcome: 'ok', hash: new Uint8Array(15) }] }],
    ['a short HMAC', { contextHmac: new Uint8Array(31) }],
    ['a short HMAC of the aad', { aadHmac: new Uint8Array(31) }],
    ['a grant that is no UUID', { grantId: 'grant' }],
    ['half a microsecond', { durationUs: 0.5 }],
    ['too much', { detail: { reason: 'x'.repeat(MAX_ENTRY_BYTES) } }],
  ])('refuse %s', (_name, changes) => {
    expect(() => encodeFacts(factsOf(changes))).toThrow(
      expect.objectContaining({ code: 'internal' }),
    );
  });

  it('fit the limit whatever their place', () => {
    const room = MAX_ENTRY_BYTES - 64 - encodeFacts(factsOf({ detail: { r: '' } })).length;
    const facts = encodeFacts(factsOf({ detail: { r: 'x'.repeat(room - 2) } }));
    const far = Number.MAX_SAFE_INTEGER;
    const entry = encodeEntry({ lane: far, n: far, previous: NO_PREVIOUS, epoch: far }, facts);
    expect(entry.length).toBeLessThanOrEqual(MAX_ENTRY_BYTES);
    expect(entry.length).toBeGreaterThan(MAX_ENTRY_BYTES - 16);
    expect(() => encodeFacts(factsOf({ detail: { r: 'x'.repeat(room - 1) } }))).toThrow();
  });
});

describe('reading entries', () => {
  const members = (): unknown[] =>
    decodeCbor(encodeEntry(place, encodeFacts(factsOf()))) as unknown[];
  const withMember = (position: number, value: unknown): Uint8Array =>
    encodeCbor(members().with(position, value) as CborValue);

  it.each([
    ['another version', withMember(0, 3)],
    ['version 1 with what it has not', withMember(0, 1)],
    ['a member more', encodeCbor([...members(), null] as CborValue)],
    ['a member less', encodeCbor(members().slice(0, -1) as CborValue)],
    ['a map', encodeCbor({ version: 1 })],
    ['a negative number', withMember(2, -1)],
    ['a lane beyond safe integers', withMember(1, 2n ** 63n)],
    ['a short previous', withMember(3, new Uint8Array(31))],
    ['a time out of range', withMember(5, 9_000_000_000_000_000)],
    ['text for bytes', withMember(7, 'zone')],
    ['an unknown method', withMember(9, ['i', 's', 'basic', null])],
    ['an actor too long', withMember(9, ['i', 's', 'jwt', null, null])],
    ['a missing outcome', withMember(16, null)],
    ['a decision without policies', withMember(17, ['r'])],
    ['an item too long', withMember(21, [[1, 'ok', new Uint8Array(16), 1]])],
    ['a detail that is no map', withMember(22, [])],
    ['a detail with integer keys', withMember(22, new Map([[1, 'a']]))],
    ['a nested detail', withMember(22, { a: ['b'] })],
    ['a strength of one', withMember(23, ['acr'])],
    ['a role that is no text', withMember(24, [1])],
    ['a grant that is no UUID', withMember(26, 'grant')],
    ['an unknown engine', withMember(28, 'quantum')],
    ['an unknown origin', withMember(29, 'nobody')],
    ['a negative duration', withMember(30, -1)],
    ['a number in clear', withMember(31, new Map([['a', 1]]))],
    ['a short HMAC of the aad', withMember(32, new Uint8Array(31))],
  ])('refuses %s', (_name, bytes) => {
    expect(() => decodeEntry(bytes)).toThrow(expect.objectContaining({ code: 'integrity_failed' }));
  });

  it('refuses every truncation and a byte more', () => {
    const entry = encodeEntry(place, encodeFacts(factsOf()));
    for (let length = 0; length < entry.length; length += 1) {
      expect(() => decodeEntry(entry.subarray(0, length))).toThrow();
    }
    expect(() => decodeEntry(Buffer.concat([entry, Buffer.of(0)]))).toThrow();
  });

  it('never reads a changed byte as the same entry', () => {
    const entry = encodeEntry(place, encodeFacts(factsOf()));
    for (let index = 0; index < entry.length; index += 1) {
      const changed = Uint8Array.from(entry);
      changed[index] = (changed[index] ?? 0) ^ 1;
      try {
        const read = decodeEntry(changed);
        expect(hex(encodeEntry(read, encodeFacts(read)))).toBe(hex(changed));
      } catch (error) {
        expect(error).toMatchObject({ code: 'integrity_failed' });
      }
    }
  });
});

describe('the size asked before the work', () => {
  const longest = Object.keys(ERRORS).reduce((a, b) => (a.length >= b.length ? a : b));

  it('is never less than the entry turns out', () => {
    fc.assert(
      fc.property(arbitraryFacts, fc.nat(40), (facts, count) => {
        const item = { keyVersion: 0xffff_ffff, outcome: longest, hash: new Uint8Array(16) };
        const items = Array.from({ length: count }, () => item);
        const far = Number.MAX_SAFE_INTEGER;
        const where = { lane: far, n: far, previous: NO_PREVIOUS, epoch: far };
        const entry = encodeEntry(where, encodeFacts({ ...facts, items }));
        const bound = entryBytesAtMost(facts, count, { zone: facts.zone });
        expect(bound).toBeGreaterThanOrEqual(entry.length);
      }),
    );
  });

  it('lets a batch of a thousand items through, and refuses what could be too much', () => {
    expect(() => assertEntryFits(draftOf(), 1000)).not.toThrow();
    expect(() => assertEntryFits(draftOf(), 1300)).toThrow(
      expect.objectContaining({ code: 'batch_too_large' }),
    );
    const contextKeys = ['k'.repeat(60_000)];
    expect(() => assertEntryFits(draftOf({ contextKeys }), 200)).toThrow();
    expect(() => assertEntryFits(draftOf(), 1000, { room: 20_000 })).toThrow();
  });
});
