import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { leafHash } from '../../../src/audit/tree/hashes.ts';
import { EntryView, MalformedEntry } from '../../../src/audit/verify/entry-view.ts';
import { encodeCbor } from '../../../src/crypto/cbor.ts';
import { entryBytes } from '../synthetic.ts';

interface Vector {
  readonly name: string;
  readonly version: number;
  readonly hex: string;
  readonly leaf: string;
  readonly place: { lane: number; n: number; epoch: number; previous: { hex: string } };
  readonly facts: {
    readonly instance: string;
    readonly operation: string;
    readonly outcome: string;
    readonly keyId: string | null;
    readonly keyVersion: number | null;
    readonly detail: Readonly<Record<string, unknown>>;
  };
}

const VECTORS = (
  JSON.parse(
    readFileSync(join(import.meta.dirname, '../../vectors/audit-entries.json'), 'utf8'),
  ) as { entries: Vector[] }
).entries;
const unhex = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));

const PLACE = { n: 17, previous: new Uint8Array(32).fill(0xaa), epoch: 9 };
const KEY = '00112233445566778899aabbccddeeff';
const DRAFT = { lane: 4, operation: 'keys.rotate', keyId: KEY, keyVersion: 70_000 } as const;

function read(bytes: Uint8Array): EntryView {
  const view = new EntryView();
  const padded = Buffer.concat([Uint8Array.of(1, 2, 3), bytes, Uint8Array.of(4)]);
  view.read(padded, 3, padded.length - 1);
  return view;
}

describe('the view of an entry', () => {
  it.each([1, 2] as const)('reads version %i', (version) => {
    const detail = {
      text: 'ü',
      number: -300_000,
      large: 2 ** 40,
      yes: true,
      no: false,
      none: null,
    };
    const view = read(entryBytes({ ...DRAFT, version, detail }, PLACE));
    expect(view).toMatchObject({ lane: 4, n: 17, epoch: 9, keyVersion: 70_000, tells: true });
    expect(Object.fromEntries(view.detail())).toEqual(detail);
    expect([view.operation, view.keyId, view.outcome]).toEqual(['keys.rotate', KEY, 'ok']);
    expect(Buffer.from(view.previous).toString('hex')).toBe('aa'.repeat(32));
  });

  it.each(VECTORS)('reads $name of version $version, as it is published', (vector) => {
    const bytes = unhex(vector.hex);
    const view = read(bytes);
    const { lane, n, epoch, previous } = vector.place;
    const { instance, operation, outcome, keyId, keyVersion, detail } = vector.facts;
    expect(view).toMatchObject({ lane, n, epoch, keyVersion, operation, outcome });
    expect(Buffer.from(view.previous).toString('hex')).toBe(previous.hex);
    expect(view.instance).toBe(instance.replaceAll('-', ''));
    expect(view.keyId).toBe(keyId?.replaceAll('-', '') ?? null);
    expect(Object.fromEntries(view.detail())).toEqual(detail);
    expect(Buffer.from(leafHash(bytes)).toString('hex')).toBe(vector.leaf);
  });

  it('says nothing of what failed', () => {
    const view = read(entryBytes({ ...DRAFT, outcome: 'forbidden', detail: { a: 1 } }, PLACE));
    expect(view.tells).toBe(false);
    expect(read(entryBytes(DRAFT, PLACE)).tells).toBe(false);
  });

  it('refuses a single byte, whatever was read before', () => {
    const view = new EntryView();
    view.read(entryBytes(DRAFT, PLACE), 0, entryBytes(DRAFT, PLACE).length);
    for (let byte = 0; byte < 256; byte += 1) {
      expect(() => view.read(Uint8Array.of(byte), 0, 1)).toThrow(MalformedEntry);
    }
  });

  it('refuses a map whose keys are in another order, or twice', () => {
    const detail = { aa: 1, ab: 2, b: 3 };
    const good = Buffer.from(entryBytes({ ...DRAFT, detail }, PLACE));
    // Shorter ones are first: 61 62, 62 61 61, 62 61 62.
    const at = good.indexOf(Buffer.from('6162036261610162616202', 'hex'));
    expect(at).toBeGreaterThan(0);
    read(good);
    for (const other of [
      '6162036261620262616101',
      '6261610162616202616203',
      '6162036261610162616102',
    ]) {
      const bad = Buffer.from(good);
      bad.write(other, at, 'hex');
      expect(() => read(bad)).toThrow(MalformedEntry);
    }
  });

  it('refuses every other form', () => {
    const good = entryBytes({ ...DRAFT, version: 1 }, PLACE);
    const members = 23;
    const bad = [
      good.subarray(0, good.length - 1),
      Buffer.concat([good, Uint8Array.of(0)]),
      Buffer.concat([Uint8Array.of(0x80 + members - 1), good.subarray(1)]),
      Buffer.concat([good.subarray(0, 1), Uint8Array.of(2), good.subarray(2)]),
      // The lane as 4 in two bytes, as a float, as a tag, negative.
      Buffer.concat([good.subarray(0, 2), Uint8Array.of(0x18, 4), good.subarray(3)]),
      Buffer.concat([good.subarray(0, 2), Uint8Array.of(0xf9, 0, 0), good.subarray(3)]),
      Buffer.concat([good.subarray(0, 2), Uint8Array.of(0xc1, 4), good.subarray(3)]),
      Buffer.concat([good.subarray(0, 2), Uint8Array.of(0x20), good.subarray(3)]),
      encodeCbor([1]),
      new Uint8Array(0),
    ];
    for (const bytes of bad) expect(() => read(bytes)).toThrow(MalformedEntry);
  });

  it('never fails in another way, and never reads beyond the entry', () => {
    const good = entryBytes({ ...DRAFT, detail: { changed: '{}', keyRevision: 3 } }, PLACE);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        (edits) => {
          const bytes = Uint8Array.from(good);
          for (const [at, value] of edits) bytes[at] = value;
          try {
            const view = read(bytes);
            if (view.tells) view.detail();
          } catch (error) {
            expect(error).toBeInstanceOf(MalformedEntry);
          }
        },
      ),
      { numRuns: 3_000 },
    );
  });

  it('takes nested lengths that promise more than there is for what they are', () => {
    const good = entryBytes({ ...DRAFT, version: 1 }, PLACE);
    // The last member, the detail, as a map of 2^32 - 1 pairs.
    const huge = Buffer.concat([good.subarray(0, -1), Uint8Array.of(0xba, 255, 255, 255, 255)]);
    expect(() => read(huge)).toThrow(MalformedEntry);
  });
});
