/** The parsers of sealed files and manifests: strict, and encoding again gives what was parsed. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';

import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { threadsFor } from '../../src/client/chunk-crew.ts';
import { chunkNonce, layoutOfPlaintext, layoutOfSealed } from '../../src/client/chunk-layout.ts';
import { ClientError } from '../../src/client/client-error.ts';
import { deriveContentKey } from '../../src/client/content-key.ts';
import { encodeFixedHeader, parseFixedHeader } from '../../src/client/fixed-header.ts';
import {
  encodeManifest,
  encodeSignedManifest,
  parseSignedManifest,
} from '../../src/client/manifest.ts';
import { encodeRecipients, parseRecipients, recipientsArea } from '../../src/client/recipients.ts';
import {
  describeSigner,
  fingerprint,
  parseSigner,
  signsManifests,
} from '../../src/client/signer.ts';
import { decodeCbor, encodeCbor } from '../../src/crypto/cbor.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { SUITES } from '../../src/crypto/suites.ts';
import { SoftwareKeyService } from './software-service.ts';
import type { Manifest } from '../../src/client/manifest.ts';

/** The code that a call throws, or undefined. */
function refusal(call: () => unknown): string | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    if (ClientError.is(error)) return error.code;
    throw error;
  }
}

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const headers = fc.record({
  chunkSize: fc.integer({ min: 12, max: 23 }).map((power) => 2 ** power),
  fileId: bytesOf(16),
  noncePrefix: bytesOf(7),
  recipientsArea: fc.nat(1_048_576),
  encryptionContext: fc
    .dictionary(fc.string({ minLength: 1, maxLength: 9, unit: 'binary' }), fc.string(), {
      maxKeys: 16,
    })
    .filter((pairs) => Object.entries(pairs).flat().join('').isWellFormed()),
});
const plain = { chunkSize: 4096, fileId: randomBytes(16), noncePrefix: randomBytes(7) };
const header = { ...plain, recipientsArea: 4096, encryptionContext: { model: 'a', stage: 'b' } };

describe('the fixed header', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(headers, (one) => {
        const encoded = encodeFixedHeader(one);
        const parsed = parseFixedHeader(encoded);
        expect(encodeFixedHeader(parsed)).toEqual(encoded);
        expect({ ...parsed.encryptionContext }).toEqual({ ...one.encryptionContext });
      }),
    );
  });

  it('of any bytes is refused, or encodes to them again', () => {
    const encoded = encodeFixedHeader(header);
    fc.assert(
      fc.property(fc.nat(encoded.length - 1), fc.nat(255), (at, value) => {
        const changed = Uint8Array.from(encoded);
        changed[at] = value;
        const code = refusal(() => {
          expect(encodeFixedHeader(parseFixedHeader(changed))).toEqual(changed);
        });
        expect([undefined, 'invalid_sealed_file', 'unsupported_sealed_file']).toContain(code);
      }),
      { numRuns: 1_000 },
    );
  });

  const put = (change: (view: DataView, bytes: Uint8Array) => void) => {
    const bytes = encodeFixedHeader(header);
    change(new DataView(bytes.buffer), bytes);
    return refusal(() => parseFixedHeader(bytes));
  };
  it.each<[string, string, (view: DataView, bytes: Uint8Array) => void]>([
    ['another beginning', 'invalid_sealed_file', (view) => view.setUint8(0, 0x55)],
    ['version 0', 'unsupported_sealed_file', (view) => view.setUint8(7, 0)],
    ['version 2', 'unsupported_sealed_file', (view) => view.setUint8(7, 2)],
    ['another content suite', 'unsupported_sealed_file', (view) => view.setUint16(8, 0x0702)],
    ['chunks of 2 KiB', 'invalid_sealed_file', (view) => view.setUint32(10, 2_048)],
    ['chunks of 16 MiB', 'invalid_sealed_file', (view) => view.setUint32(10, 16_777_216)],
    ['chunks of 5000 bytes', 'invalid_sealed_file', (view) => view.setUint32(10, 5_000)],
    ['chunks of 2^31 bytes', 'invalid_sealed_file', (view) => view.setUint32(10, 2 ** 31)],
    ['room of over 1 MiB', 'invalid_sealed_file', (view) => view.setUint32(37, 1_048_577)],
    ['a longer context', 'invalid_sealed_file', (view) => view.setUint16(41, 65_535)],
    ['pairs out of order', 'invalid_sealed_file', (_, bytes) => bytes.set([0x7a], 47)],
    ['a context that is not UTF-8', 'invalid_sealed_file', (_, bytes) => bytes.set([0xff], 47)],
    ['more pairs than there are', 'invalid_sealed_file', (view) => view.setUint16(43, 3)],
    ['fewer pairs than there are', 'invalid_sealed_file', (view) => view.setUint16(43, 1)],
    ['an aad', 'invalid_sealed_file', (view, bytes) => view.setUint32(bytes.length - 4, 1)],
  ])('with %s is refused', (_name, code, change) => {
    expect(put(change)).toBe(code);
  });
});

describe('the layout', () => {
  const place = { dataOffset: 100, chunkSize: 4096 };

  it('of every length agrees in both directions, or there is no such file', () => {
    const lengths = new Set<number>();
    for (let size = 0; size <= 3 * 4096 + 2; size += 1) {
      const layout = layoutOfPlaintext(size, place);
      const length = 100 + size + 16 * layout.chunks;
      // A matcher for each of twelve thousand would take most of the time.
      if (!isDeepStrictEqual(layoutOfSealed(length, place), layout)) {
        expect([size, layoutOfSealed(length, place)]).toEqual([size, layout]);
      }
      lengths.add(length);
    }
    for (let length = 0; length < Math.max(...lengths); length += 1) {
      if (lengths.has(length)) continue;
      expect(refusal(() => layoutOfSealed(length, place))).toBe('invalid_sealed_file');
    }
  });

  it('has 2^32 chunks at most', () => {
    const most = 2 ** 32 * 4096;
    expect(layoutOfPlaintext(most, place).chunks).toBe(2 ** 32);
    expect(refusal(() => layoutOfPlaintext(most + 1, place))).toBe('invalid_value');
    const length = 100 + most + 16 * 2 ** 32;
    expect(layoutOfSealed(length, place).chunks).toBe(2 ** 32);
    expect(refusal(() => layoutOfSealed(length + 17, place))).toBe('invalid_sealed_file');
  });

  it('gives each chunk a nonce of its own', () => {
    const prefix = Uint8Array.of(1, 2, 3, 4, 5, 6, 7);
    expect([...chunkNonce(prefix, 0x0a0b0c0d, true)].slice(7)).toEqual([10, 11, 12, 13, 1]);
    expect([...chunkNonce(prefix, 2 ** 32 - 1, false)].slice(7)).toEqual([255, 255, 255, 255, 0]);
    expect(() => chunkNonce(prefix, 2 ** 32, false)).toThrow(RangeError);
  });
});

describe("the recipients' area", () => {
  const service = new SoftwareKeyService();
  const dataKey = SecretBytes.own(Uint8Array.from(randomBytes(32)));
  const binding = { aad: randomBytes(32), encryptionContext: {} };
  const envelope = () => service.wrap('model', dataKey, binding);

  it('comes back as it was, and its length keeps chunks at a multiple of 4,096', async () => {
    const envelopes = [await envelope(), await envelope()];
    const area = recipientsArea(61, envelopes.length);
    expect((61 + area) % 4_096).toBe(0);
    const parsed = parseRecipients(encodeRecipients(envelopes, area));
    expect(parsed.map((one) => one.envelope)).toEqual(envelopes);
  });

  it('holds 64 recipients of the largest suite', async () => {
    service.addWrapKey('large', 'MLKEM1024-P384');
    const large = await service.wrap('large', dataKey, binding);
    const many = Array.from({ length: 64 }, () => large);
    const area = recipientsArea(61, 64);
    expect(parseRecipients(encodeRecipients(many, area))).toHaveLength(64);
    expect(refusal(() => encodeRecipients([...many, large], area))).toBe('invalid_value');
    expect(refusal(() => encodeRecipients([], area))).toBe('invalid_value');
  });

  it('is refused with anything else in it', async () => {
    const area = encodeRecipients([await envelope()], 4_096);
    const used = 4 + (await envelope()).length;
    const put = (offset: number, value: number) => {
      const copy = Uint8Array.from(area);
      new DataView(copy.buffer).setUint16(offset, value);
      return refusal(() => parseRecipients(copy));
    };
    const changes: [number, number][] = [
      [0, 0],
      [0, 2],
      [0, 65],
      [2, 0],
      [2, 4_096],
      [used, 1],
      [4_094, 1],
      [4, 0x0200],
    ];
    for (const [offset, value] of changes) expect(put(offset, value)).toBe('invalid_sealed_file');
    for (const length of [0, 1, 2, 3, used - 1]) {
      expect(refusal(() => parseRecipients(area.subarray(0, length)))).toBe('invalid_sealed_file');
    }
    expect(parseRecipients(area.subarray(0, used))).toHaveLength(1);
  });
});

describe('the content key', () => {
  it('takes a data key of 32 bytes and no other', () => {
    for (const length of [0, 16, 31, 33]) {
      const dataKey = SecretBytes.own(new Uint8Array(length));
      expect(refusal(() => deriveContentKey(dataKey, randomBytes(32)))).toBe('content_mismatch');
    }
  });
});

describe('the manifest', () => {
  const manifest: Manifest = {
    fileId: randomBytes(16),
    headerHash: randomBytes(32),
    contentHash: randomBytes(32),
    keyCommitment: randomBytes(32),
    size: 2 ** 40,
    name: 'model.safetensors',
    sealedAt: new Date('2026-11-28T08:00:00.123Z'),
    signer: { keyId: '0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0', keyVersion: 7, suite: 0x0401 },
  };
  const signed = (members: unknown) =>
    encodeSignedManifest(encodeCbor(members as never), Uint8Array.of(1));
  const members = decodeCbor(encodeManifest(manifest)) as Map<string, never>;
  const changed = (name: string, value: unknown) => signed(new Map([...members, [name, value]]));
  const without = (name: string) => signed(new Map([...members].filter(([key]) => key !== name)));

  it('comes back as it was', () => {
    const { manifest: parsed, signature } = parseSignedManifest(signed(members));
    const plainBytes = (one: Manifest) => encodeManifest(one);
    expect(plainBytes(parsed)).toEqual(plainBytes(manifest));
    expect(parsed).toMatchObject({ size: 2 ** 40, sealedAt: manifest.sealedAt });
    expect([...signature]).toEqual([1]);
  });

  it('is refused without a member, with another one, and with values outside their range', () => {
    const bad = [
      ...[...members.keys()].map(without),
      changed('more', 1),
      changed('format', 'twofold/sealed-file-manifest/2'),
      changed('fileId', new Uint8Array(15)),
      changed('headerHash', 'text'),
      changed('size', -1),
      changed('size', 2n ** 53n),
      changed('name', 'a/b'),
      changed('name', '..'),
      changed('name', ''),
      changed('name', 'a\0'),
      changed('name', 'ä'.repeat(128)),
      changed('sealedAt', Date.UTC(10_000, 0)),
      changed('signer', null),
      changed('signer', { keyId: new Uint8Array(16), keyVersion: 0, suite: 1 }),
      changed('signer', { keyId: new Uint8Array(16), keyVersion: 1, suite: 65_536 }),
      encodeCbor([encodeManifest(manifest)]),
      encodeCbor([encodeManifest(manifest), 'text']),
      encodeCbor(encodeManifest(manifest)),
      Buffer.concat([signed(members), Uint8Array.of(0)]),
      new Uint8Array(0),
      new Uint8Array(65_537),
    ];
    for (const one of bad) expect(refusal(() => parseSignedManifest(one))).toBe('invalid_manifest');
  });
});

describe('a signer', () => {
  const service = new SoftwareKeyService();

  it('comes back from its description, with the same fingerprint', async () => {
    const signer = parseSigner(await service.publicKey('signer'));
    const again = parseSigner(JSON.parse(JSON.stringify(describeSigner(signer))));
    expect(again).toEqual(signer);
    expect(fingerprint(again)).toBe(fingerprint(signer));
    expect(fingerprint(signer)).toMatch(/^SHA256:[0-9a-f]{64}$/);
  });

  it('is refused unless it is the raw public key of a signature suite', async () => {
    const good = (await service.publicKey('signer')) as { raw: string };
    const zeros = Buffer.alloc(2_017).toString('base64');
    const bad = [
      null,
      'text',
      {},
      { ...good, raw: undefined },
      { ...good, raw: good.raw.slice(4) },
      { ...good, raw: `${good.raw.slice(0, -1)} ` },
      { ...good, raw: zeros },
      { ...good, suite: 'MLKEM768-P256' },
      { ...good, suite: 'MLDSA87-ECDSA-P384-SHA512' },
      { ...good, suite: 'toString' },
      { ...good, keyId: 'signer' },
      { ...good, keyVersion: 0 },
      { ...good, state: 'compromised' },
    ];
    expect(parseSigner({ ...good, state: 'deactivated' })).toEqual(parseSigner(good));
    for (const one of bad) expect(refusal(() => parseSigner(one))).toBe('invalid_signer');
  });

  it('is of a suite that docs/sealed-files.md names, and of no classical one', async () => {
    const page = readFileSync(join(import.meta.dirname, '../../docs/sealed-files.md'), 'utf8');
    const [, said = ''] = /pre-hash is SHA-512: ([^.]+)\./u.exec(page) ?? [];
    const named = [...said.matchAll(/(0x[\da-f]{4})(?: to (0x[\da-f]{4}))?/gu)].flatMap(
      ([, first = '', last = first]) =>
        Array.from({ length: Number(last) - Number(first) + 1 }, (_, at) => Number(first) + at),
    );
    const taken = Object.values(SUITES)
      .filter((suite) => suite.kind === 'signature')
      .filter(signsManifests);
    expect(taken.map(({ number }) => number).sort()).toEqual(named.sort());
    service.addSigner('composite', 'MLDSA87-ECDSA-P521-SHA512');
    expect(parseSigner(await service.publicKey('composite')).suite.number).toBe(0x0405);
    service.addSigner('classical', 'ECDSA-P521-SHA512');
    const classical = await service.publicKey('classical');
    expect(refusal(() => parseSigner(classical))).toBe('invalid_signer');
  });
});

describe('the threads of a file', () => {
  it('are fewer where chunks are large, and never none', () => {
    const sizes = [4_096, 1_048_576, 2_097_152, 4_194_304, 8_388_608];
    expect(sizes.map((size) => threadsFor(size, 64))).toEqual([4, 4, 3, 1, 1]);
    expect(sizes.map((size) => threadsFor(size, 2))).toEqual([2, 2, 2, 1, 1]);
  });
});
