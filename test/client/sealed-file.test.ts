/** Sealing and restoring: every size around the borders of chunks, and every change refused. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { sealChunk } from '../../src/client/chunk-cipher.ts';
import { placeOf } from '../../src/client/chunk-layout.ts';
import { deriveContentKey } from '../../src/client/content-key.ts';
import { FIXED_HEADER_START } from '../../src/client/fixed-header.ts';
import { encodeRecipients } from '../../src/client/recipients.ts';
import { rewrapFile } from '../../src/client/rewrap.ts';
import { readParts } from '../../src/client/sealed-file-parts.ts';
import { SealedFile } from '../../src/client/sealed-file.ts';
import { SourceFile } from '../../src/client/source-file.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { CHUNK, codeOf, SealedFolder } from './sealed-files.ts';

let folder: SealedFolder;
beforeAll(() => {
  folder = new SealedFolder();
});
afterAll(() => {
  folder.remove();
});

const FULL = CHUNK + 16;
const manifestOf = (path: string) => readFileSync(`${path}.manifest`);
/** What any refusal of changed bytes may say. */
const REFUSALS = [
  'content_mismatch',
  'decryption_failed',
  'forbidden',
  'invalid_manifest',
  'invalid_sealed_file',
  'signature_invalid',
  'unknown_signer',
  'unsupported_sealed_file',
  'version_not_found',
];

describe('a round trip', () => {
  const borders = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1];
  it.each(borders)('gives the same %d bytes, in no more chunks than needed', async (size) => {
    const plaintext = randomBytes(size);
    const path = await folder.seal(plaintext);
    const chunks = Math.max(1, Math.ceil(size / CHUNK));
    expect(readFileSync(path).length).toBe(16_384 + 4_096 + size + chunks * 16);
    expect(await folder.restore(path)).toEqual(plaintext);
  });

  it('gives the same bytes for any size and context', async () => {
    const contexts = fc.dictionary(fc.string({ minLength: 1, maxLength: 20 }), fc.string(), {
      maxKeys: 8,
    });
    await fc.assert(
      fc.asyncProperty(fc.nat(5 * CHUNK), contexts, async (size, encryptionContext) => {
        const plaintext = randomBytes(size);
        const path = await folder.seal(plaintext, { encryptionContext });
        expect(await folder.restore(path)).toEqual(plaintext);
        rmSync(path);
      }),
      { numRuns: 40 },
    );
  }, 60_000);

  it('of several threads gives the same bytes', async () => {
    const plaintext = randomBytes(20_000_001);
    const path = await folder.seal(plaintext, { chunkSize: 65_536 });
    expect((await folder.restore(path)).equals(plaintext)).toBe(true);
  });

  it('never writes the same bytes twice', async () => {
    const plaintext = randomBytes(CHUNK);
    const [a, b] = [await folder.seal(plaintext), await folder.seal(plaintext)];
    expect(readFileSync(a).subarray(-FULL).equals(readFileSync(b).subarray(-FULL))).toBe(false);
  });
});

describe('a sealed file of three chunks', () => {
  const plaintext = randomBytes(2 * CHUNK + 100);
  let path: string;
  let other: string;
  let bytes: Buffer;
  let chunksAt: number;
  beforeAll(async () => {
    path = await folder.seal(plaintext);
    other = await folder.seal(randomBytes(2 * CHUNK + 100));
    bytes = readFileSync(path);
    chunksAt = bytes.length - (plaintext.length + 3 * 16);
  });

  const chunk = (of: Buffer, index: number) =>
    of.subarray(chunksAt + index * FULL, Math.min(of.length, chunksAt + (index + 1) * FULL));
  const withChunks = (...chunks: Uint8Array[]) =>
    Buffer.concat([bytes.subarray(0, chunksAt), ...chunks]);

  const flipped = (source: Buffer, bit: number) => {
    const copy = Buffer.from(source);
    copy.writeUInt8(copy.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    return copy;
  };
  const expectRefused = async (planted: string) => {
    expect(REFUSALS).toContain(await folder.refusal(planted));
    rmSync(planted);
    rmSync(`${planted}.manifest`);
  };

  it('is refused with any bit flipped', async () => {
    const everywhere = fc.nat(8 * bytes.length - 1);
    // Most of the file is chunks and zeros: header and envelope get their own share.
    const atTheFront = fc.nat(8 * 1_400);
    await fc.assert(
      fc.asyncProperty(fc.oneof(everywhere, atTheFront), async (bit) => {
        await expectRefused(folder.plant(flipped(bytes, bit), manifestOf(path)));
      }),
      { numRuns: 300 },
    );
  }, 120_000);

  it('is refused with any bit of its manifest flipped', async () => {
    const manifest = manifestOf(path);
    await fc.assert(
      fc.asyncProperty(fc.nat(8 * manifest.length - 1), async (bit) => {
        await expectRefused(folder.plant(bytes, flipped(manifest, bit)));
      }),
      { numRuns: 200 },
    );
  }, 120_000);

  it('is refused when cut short or extended anywhere', async () => {
    const lengths = fc.oneof(
      fc.nat(bytes.length - 1),
      fc.constantFrom(0, FIXED_HEADER_START, chunksAt, chunksAt + FULL, chunksAt + 2 * FULL),
    );
    await fc.assert(
      fc.asyncProperty(lengths, async (length) => {
        await expectRefused(folder.plant(bytes.subarray(0, length), manifestOf(path)));
      }),
      { numRuns: 60 },
    );
    for (const more of [1, 16, 17, FULL]) {
      const longer = Buffer.concat([bytes, randomBytes(more)]);
      await expectRefused(folder.plant(longer, manifestOf(path)));
    }
  }, 60_000);

  it('is refused with its chunks in another order, missing, or twice', async () => {
    const [a, b, c] = [chunk(bytes, 0), chunk(bytes, 1), chunk(bytes, 2)];
    for (const chunks of [[b, a, c], [a, a, c], [a, b, b, c], [a, c], [a, b], [b, c], [c]]) {
      await expectRefused(folder.plant(withChunks(...chunks), manifestOf(path)));
    }
  });

  it('is refused with a chunk, the chunks, the header or the manifest of another file', async () => {
    const theirs = readFileSync(other);
    const [a, , c] = [chunk(bytes, 0), chunk(bytes, 1), chunk(bytes, 2)];
    const spliced = [
      withChunks(a, chunk(theirs, 1), c),
      withChunks(theirs.subarray(chunksAt)),
      Buffer.concat([theirs.subarray(0, chunksAt), bytes.subarray(chunksAt)]),
      Buffer.concat([theirs.subarray(0, FIXED_HEADER_START), bytes.subarray(FIXED_HEADER_START)]),
    ];
    for (const one of spliced) await expectRefused(folder.plant(one, manifestOf(path)));
    await expectRefused(folder.plant(bytes, manifestOf(other)));
    await expectRefused(folder.plant(theirs, manifestOf(path)));
  });

  it('is read in any range, and only with the key that the signer committed to', async () => {
    const file = await SealedFile.open({ path, signers: await folder.signers() });
    try {
      expect(() => [...file.read(0, 1)]).toThrow('not unlocked');
      await file.unlock(folder.service);
      fc.assert(
        fc.property(fc.nat(plaintext.length), fc.nat(plaintext.length), (a, b) => {
          const [from, to] = [Math.min(a, b), Math.max(a, b)];
          const read = Buffer.concat([...file.read(from, to - from)]);
          expect(read.equals(plaintext.subarray(from, to))).toBe(true);
        }),
      );
      const outside = async () => [...file.read(1, plaintext.length)];
      expect(await codeOf(outside())).toBe('invalid_value');
    } finally {
      file.close();
    }
  });

  it('is verified without a key and without a request', async () => {
    const signers = await folder.signers();
    const calls = folder.service.calls.length;
    const verify = async (sealed: string) => {
      const file = await SealedFile.open({ path: sealed, signers });
      try {
        await file.verify();
      } finally {
        file.close();
      }
    };
    await verify(path);
    const changed = folder.plant(flipped(bytes, 8 * bytes.length - 1), manifestOf(path));
    expect(await codeOf(verify(changed))).toBe('content_mismatch');
    expect(folder.service.calls).toHaveLength(calls);
  });
});

describe('someone who may open the file', () => {
  const plaintext = randomBytes(3 * CHUNK);
  const binding = (aad: Uint8Array) => ({ aad, encryptionContext: {} });

  /** What a recipient has: the data key, the header, the bytes. */
  const recipient = async () => {
    const path = await folder.seal(plaintext);
    const file = SourceFile.open(path);
    const parts = readParts(file);
    file.close();
    const envelope = parts.recipients[0]?.envelope ?? new Uint8Array();
    const dataKey = await folder.service.unwrap('model', envelope, binding(parts.headerHash));
    return { path, parts, dataKey, bytes: readFileSync(path) };
  };

  it('cannot put other content under the signature, though every tag verifies', async () => {
    const { path, parts, dataKey, bytes } = await recipient();
    const keys = {
      contentKey: deriveContentKey(dataKey, parts.headerHash).key.reveal(),
      noncePrefix: parts.header.noncePrefix,
      headerHash: parts.headerHash,
    };
    const place = placeOf(parts.layout, 1);
    const chunk = bytes.subarray(place.sealedOffset, place.sealedOffset + place.sealedLength);
    const forged = randomBytes(CHUNK);
    chunk.set(Buffer.concat(sealChunk(keys, { index: 1, last: false }, forged)));
    const planted = folder.plant(bytes, `${path}.manifest`);
    const file = await SealedFile.open({ path: planted, signers: await folder.signers() });
    try {
      await file.unlock(folder.service);
      expect(Buffer.concat([...file.read(CHUNK, CHUNK)]).equals(forged)).toBe(true);
      expect(await codeOf(file.verify())).toBe('content_mismatch');
    } finally {
      file.close();
    }
    expect(await folder.refusal(planted)).toBe('content_mismatch');
  });

  it('cannot put another data key in its place', async () => {
    const { path, parts, bytes } = await recipient();
    const other = SecretBytes.own(Uint8Array.from(randomBytes(32)));
    const envelope = await folder.service.wrap('model', other, binding(parts.headerHash));
    bytes.set(encodeRecipients([envelope], parts.header.recipientsArea), parts.recipientsOffset);
    expect(await folder.refusal(folder.plant(bytes, `${path}.manifest`))).toBe('content_mismatch');
  });

  it('is told of chunks in another order by their tags alone', async () => {
    const { path, bytes } = await recipient();
    const at = bytes.length - 3 * FULL;
    const first = Buffer.from(bytes.subarray(at, at + FULL));
    bytes.copyWithin(at, at + FULL, at + 2 * FULL);
    bytes.set(first, at + FULL);
    const planted = folder.plant(bytes, `${path}.manifest`);
    const file = await SealedFile.open({ path: planted, signers: await folder.signers() });
    try {
      await file.unlock(folder.service);
      const read = async (offset: number) => Buffer.concat([...file.read(offset, 1)]);
      expect(await codeOf(read(0))).toBe('content_mismatch');
      expect(await codeOf(read(CHUNK))).toBe('content_mismatch');
      expect(await read(2 * CHUNK)).toEqual(plaintext.subarray(2 * CHUNK, 2 * CHUNK + 1));
    } finally {
      file.close();
    }
  });
});

describe('several recipients', () => {
  it('each open the file, whatever becomes of the others', async () => {
    folder.service.addWrapKey('a');
    folder.service.addWrapKey('b', 'MLKEM1024-P384');
    const plaintext = randomBytes(10_000);
    const path = await folder.seal(plaintext, { recipients: ['a', 'b'] });
    expect(await folder.restore(path)).toEqual(plaintext);
    folder.service.forbid('a');
    expect(await folder.restore(path)).toEqual(plaintext);
    folder.service.forbid('b');
    expect(await folder.refusal(path)).toBe('forbidden');
  });

  it('are none that a quantum computer opens', async () => {
    const source = folder.newPath();
    writeFileSync(source, 'content');
    for (const suite of ['DHKEM-P256', 'DHKEM-X25519']) {
      folder.service.addWrapKey(suite, suite);
      const seal = folder.sealTo(source, `${source}.sealed`, { recipients: ['model', suite] });
      await expect(seal).rejects.toMatchObject({
        code: 'invalid_value',
        message: `${suite} is of ${suite}, which a quantum computer opens.`,
      });
    }
    expect(existsSync(`${source}.sealed`)).toBe(false);
    folder.assertNothingTemporary();
    folder.service.addWrapKey('pq', 'ML-KEM-768');
    await folder.sealTo(source, `${source}.sealed`, { recipients: ['pq'] });
    expect((await folder.restore(`${source}.sealed`)).toString()).toBe('content');
  });

  it('are none or more than 64', async () => {
    for (const recipients of [[], Array.from({ length: 65 }, () => 'model')]) {
      expect(await codeOf(folder.seal(new Uint8Array(1), { recipients }))).toBe('invalid_value');
    }
    folder.assertNothingTemporary();
  });
});

describe('a rewrap', () => {
  it('after a rotation changes the envelope and no other byte', async () => {
    folder.service.addWrapKey('turning');
    const plaintext = randomBytes(10_000);
    const path = await folder.seal(plaintext, { recipients: ['turning', 'model'] });
    const before = readFileSync(path);
    const rewrap = () => rewrapFile({ service: folder.service, path });
    expect(await rewrap()).toEqual({ recipients: 2, changed: 0 });
    expect(readFileSync(path)).toEqual(before);

    folder.service.rotate('turning', 'MLKEM1024-P384');
    expect(await rewrap()).toEqual({ recipients: 2, changed: 1 });
    const after = readFileSync(path);
    const file = SourceFile.open(path);
    const { recipientsOffset, recipients, layout } = readParts(file);
    file.close();
    expect(after.subarray(0, recipientsOffset)).toEqual(before.subarray(0, recipientsOffset));
    expect(after.subarray(layout.dataOffset)).toEqual(before.subarray(layout.dataOffset));
    expect(recipients.map((one) => one.keyVersion)).toEqual([2, 1]);
    expect(await folder.restore(path)).toEqual(plaintext);
    folder.assertNothingTemporary();
  });

  it('that fails leaves the file as it was', async () => {
    const path = await folder.seal(randomBytes(10_000), { recipients: ['turning', 'model'] });
    const before = readFileSync(path);
    folder.service.rotate('turning');
    const signal = AbortSignal.abort();
    const service = folder.service;
    expect(await codeOf(rewrapFile({ service, path, signal }))).toBe('interrupted');
    folder.service.forbid('turning');
    expect(await codeOf(rewrapFile({ service, path }))).toBe('forbidden');
    expect(readFileSync(path)).toEqual(before);
    folder.assertNothingTemporary();
  });
});
