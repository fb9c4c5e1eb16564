/**
 * Fixed sealed files: they are read for ever, byte for byte the same. An independent reader, written
 * from the specification, reads them too, and what is sealed today.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { deriveContentKey } from '../../src/client/content-key.ts';
import { encodeFixedHeader, parseFixedHeader } from '../../src/client/fixed-header.ts';
import { encodeManifest, encodeSignedManifest } from '../../src/client/manifest.ts';
import { parseSignedManifest } from '../../src/client/manifest.ts';
import { encodeRecipients, parseRecipients } from '../../src/client/recipients.ts';
import { restoreFile } from '../../src/client/restore.ts';
import { fingerprint, parseSigner } from '../../src/client/signer.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { parseEnvelope } from '../../src/crypto/envelope.ts';
import { openEnvelope } from '../../src/crypto/wrap.ts';
import { hex, kemKey, toHex } from '../crypto/software-halves.ts';
import { CHUNK, codeOf, SealedFolder } from './sealed-files.ts';
import * as independent from './independent-reader.ts';
import { SoftwareKeyService } from './software-service.ts';
import type { KemEnvelope } from '../../src/crypto/envelope.ts';
import type { Binding } from '../../src/client/key-service.ts';
import type { FixedHeader } from '../../src/client/fixed-header.ts';
import type { KemSuite } from '../../src/crypto/suite.ts';

interface Files {
  readonly name: string;
  readonly sealed: string;
  readonly signedManifest: string;
}

interface Vectors {
  readonly signer: { readonly raw: string };
  readonly fingerprint: string;
  readonly recipients: readonly Record<'suite' | 'keyId' | 'seed' | 'scalar', string>[];
  readonly files: readonly (Files & {
    readonly size: number;
    readonly header: Omit<FixedHeader, 'fileId' | 'noncePrefix'>;
    readonly fixedHeader: string;
    readonly headerHash: string;
    readonly dataKey: string;
    readonly contentKey: string;
    readonly keyCommitment: string;
    readonly chunkHashes: readonly string[];
    readonly contentHash: string;
    readonly manifest: string;
  })[];
  readonly refused: readonly (Files & { readonly code: string })[];
}

const path = join(import.meta.dirname, '../vectors/sealed-files.json');
const vectors = JSON.parse(readFileSync(path, 'utf8')) as Vectors;
const base64 = (text: string) => Buffer.from(text, 'base64');
const plaintextOf = (size: number) =>
  Buffer.from(Uint8Array.from({ length: size }, (_, i) => (7 * i + 3) & 0xff));

/** Opens what is wrapped for the recipients of the vectors. */
class VectorService extends SoftwareKeyService {
  override async unwrap(name: string, envelope: Uint8Array, binding: Binding) {
    const recipient = vectors.recipients.find(({ keyId }) => keyId === name);
    if (recipient === undefined) throw new Error('not a recipient of the vectors');
    const suite = findSuite(recipient.suite) as KemSuite;
    const key = kemKey(nativeEngine, suite, hex(recipient.seed), hex(recipient.scalar));
    const request = { publicKey: key.publicKey, halves: key.halves, context: binding };
    return openEnvelope(parseEnvelope(envelope) as KemEnvelope, request);
  }
}

let folder: SealedFolder;
beforeAll(() => {
  folder = new SealedFolder();
});
afterAll(() => {
  folder.remove();
});

const signer = parseSigner(vectors.signer);
const service = new VectorService();
const restore = async ({ sealed, signedManifest }: Files) => {
  const target = folder.newPath();
  const planted = folder.plant(base64(sealed), base64(signedManifest));
  await restoreFile({ service, path: planted, signers: [signer], target });
  return readFileSync(target);
};

it('the signer of the vectors has its fingerprint', () => {
  expect(fingerprint(signer)).toBe(vectors.fingerprint);
});

describe.each(vectors.files)('the sealed file "$name"', (file) => {
  const sealed = base64(file.sealed);
  const parts = independent.partsOf(sealed);

  it('is restored', async () => {
    expect(await restore(file)).toEqual(plaintextOf(file.size));
  });

  it('is made of these parts, which encode to the same bytes again', () => {
    const header = parseFixedHeader(hex(file.fixedHeader));
    expect(toHex(encodeFixedHeader(header))).toBe(file.fixedHeader);
    const { fileId, noncePrefix, encryptionContext, ...sizes } = header;
    const named = { fileId: toHex(fileId), noncePrefix: toHex(noncePrefix) };
    expect({ ...sizes, ...named, encryptionContext: { ...encryptionContext } }).toEqual(
      file.header,
    );
    const areaAt = parts.header.length;
    const area = sealed.subarray(areaAt, areaAt + header.recipientsArea);
    const envelopes = parseRecipients(area).map(({ envelope }) => envelope);
    expect(Buffer.from(encodeRecipients(envelopes, area.length))).toEqual(area);
    const signed = parseSignedManifest(base64(file.signedManifest));
    expect(toHex(encodeManifest(signed.manifest))).toBe(file.manifest);
    expect(Buffer.from(encodeSignedManifest(signed.encoded, signed.signature))).toEqual(
      base64(file.signedManifest),
    );
  });

  it('has these keys and hashes', () => {
    const { key, commitment } = deriveContentKey(
      SecretBytes.own(hex(file.dataKey)),
      hex(file.headerHash),
    );
    expect([toHex(key.reveal()), toHex(commitment)]).toEqual([file.contentKey, file.keyCommitment]);
    const { manifest } = parseSignedManifest(base64(file.signedManifest));
    expect(toHex(manifest.contentHash)).toBe(file.contentHash);
    expect(toHex(manifest.headerHash)).toBe(file.headerHash);
  });

  it('is read by the independent reader', () => {
    expect(toHex(parts.header)).toBe(file.fixedHeader);
    expect(toHex(parts.headerHash)).toBe(file.headerHash);
    const keys = independent.derivedKeys(Buffer.from(file.dataKey, 'hex'), parts.headerHash);
    expect(toHex(keys.commitment)).toBe(file.keyCommitment);
    expect(independent.plaintextOf(parts, keys.contentKey)).toEqual(plaintextOf(file.size));
    expect(toHex(independent.contentHashOf(parts))).toBe(file.contentHash);
    const { encoded, signature, manifest } = independent.manifestOf(base64(file.signedManifest));
    expect(toHex(encoded)).toBe(file.manifest);
    expect([manifest.size, toHex(manifest.contentHash)]).toEqual([file.size, file.contentHash]);
    const publicKey = base64(vectors.signer.raw);
    expect(independent.signatureVerifies(encoded, signature, publicKey)).toBe(true);
  });
});

describe('a file with', () => {
  it.each(vectors.refused)('"$name" is refused as $code', async (file) => {
    expect(await codeOf(restore(file))).toBe(file.code);
    folder.assertNothingTemporary();
  });
});

describe('what is sealed today', () => {
  it.each([0, 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])(
    'of %d bytes is read by the independent reader',
    async (size) => {
      const plaintext = randomBytes(size);
      const encryptionContext = { model: 'a', stage: 'b' };
      const sealed = await folder.seal(plaintext, { encryptionContext });
      const parts = independent.partsOf(readFileSync(sealed));
      const [envelope = Buffer.alloc(0)] = parts.envelopes;
      const binding = { aad: parts.headerHash, encryptionContext };
      const dataKey = await folder.service.unwrap('model', envelope, binding);
      const keys = independent.derivedKeys(Buffer.from(dataKey.reveal()), parts.headerHash);
      expect(independent.plaintextOf(parts, keys.contentKey)).toEqual(plaintext);
      const signed = independent.manifestOf(readFileSync(`${sealed}.manifest`));
      expect(signed.manifest).toMatchObject({
        format: 'twofold/sealed-file-manifest/1',
        fileId: parts.header.subarray(14, 30),
        headerHash: parts.headerHash,
        contentHash: independent.contentHashOf(parts),
        keyCommitment: keys.commitment,
        size,
      });
      const { raw } = (await folder.service.publicKey('signer')) as { raw: string };
      const { encoded, signature } = signed;
      expect(independent.signatureVerifies(encoded, signature, base64(raw))).toBe(true);
    },
  );
});
