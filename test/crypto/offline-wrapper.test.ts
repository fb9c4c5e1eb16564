/**
 * A client that holds only a public key and its description wraps for the service. Everything here
 * but the last step is written from the documented rules, its KEMs on another library, so that the documents
 * and the service are compared, not the service with itself.
 */
import { createCipheriv, randomBytes, randomUUID } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import { sha256 } from '@noble/hashes/sha2.js';
import { shake256 } from '@noble/hashes/sha3.js';
import { ml_kem1024_p384, ml_kem768_p256, ml_kem768_x25519 } from '@noble/post-quantum/hybrid.js';

import {
  encodeEnvelopeText,
  decodeEnvelopeText,
  parseEnvelope,
} from '../../src/crypto/envelope.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { openEnvelope, sealEnvelope } from '../../src/crypto/wrap.ts';
import { randomKemKey } from './software-halves.ts';
import type { KemEnvelope } from '../../src/crypto/envelope.ts';
import type { KemSuite } from '../../src/crypto/suite.ts';

/** What `GET /v1/keys/{key}/public-key` tells an offline wrapper. */
interface Description {
  readonly suite: string;
  readonly suiteNumber: number;
  readonly kemId: number;
  readonly keyId: string;
  readonly keyVersion: number;
  readonly publicKey: Uint8Array;
}

const HYBRIDS = {
  'MLKEM768-P256': { kem: ml_kem768_p256, number: 0x0101, kemId: 0x0050 },
  'MLKEM768-X25519': { kem: ml_kem768_x25519, number: 0x0102, kemId: 0x647a },
  'MLKEM1024-P384': { kem: ml_kem1024_p384, number: 0x0103, kemId: 0x0051 },
} as const;
type HybridId = keyof typeof HYBRIDS;

const be = (value: number, width: number) => {
  const bytes = Buffer.alloc(width);
  bytes.writeUIntBE(value, 0, width);
  return bytes;
};
const lp = (bytes: Uint8Array) => Buffer.concat([be(bytes.length, 2), bytes]);
const ascii = (text: string) => Buffer.from(text, 'ascii');

function header(description: Description, mode: number): Buffer {
  const { suiteNumber, keyId, keyVersion } = description;
  const id = Buffer.from(keyId.replaceAll('-', ''), 'hex');
  return Buffer.concat([be(1, 1), be(mode, 1), be(suiteNumber, 2), id, be(keyVersion, 4)]);
}

/** The documented canonical context, for ASCII names. */
function contextHash(pairs: Readonly<Record<string, string>>, aad: Uint8Array): Uint8Array {
  const names = Object.keys(pairs).sort();
  const encoded = names.flatMap((name) => [lp(ascii(name)), lp(ascii(pairs[name] ?? ''))]);
  return sha256(Buffer.concat([be(names.length, 2), ...encoded, be(aad.length, 4), aad]));
}

/** HPKE single shot: SHAKE256 one-stage schedule (KDF 0x0011), AES-256-GCM (0x0002), no AAD. */
function hpkeSeal(
  kemId: number,
  sharedSecret: Uint8Array,
  info: Uint8Array,
  plaintext: Uint8Array,
  psk?: { readonly secret: Uint8Array; readonly id: Uint8Array },
): Uint8Array {
  const nothing = Buffer.alloc(0);
  const length = 32 + 12 + 64;
  const input = Buffer.concat([
    lp(psk?.secret ?? nothing),
    lp(sharedSecret),
    ascii('HPKE-v1'),
    ascii('HPKE'),
    be(kemId, 2),
    be(0x0011, 2),
    be(0x0002, 2),
    lp(ascii('secret')),
    be(length, 2),
    be(psk === undefined ? 0 : 1, 1),
    lp(psk?.id ?? nothing),
    lp(info),
  ]);
  const secret = shake256(input, { dkLen: length });
  const cipher = createCipheriv('aes-256-gcm', secret.subarray(0, 32), secret.subarray(32, 44));
  const body = [cipher.update(plaintext), cipher.final()];
  return Uint8Array.from(Buffer.concat([...body, cipher.getAuthTag()]));
}

function wrapOffline(
  description: Description,
  plaintext: Uint8Array,
  context: { readonly pairs: Readonly<Record<string, string>>; readonly aad: Uint8Array },
  psk?: Uint8Array,
): string {
  const { kem } = HYBRIDS[description.suite as HybridId];
  const head = header(description, psk === undefined ? 0 : 1);
  const info = Buffer.concat([
    ascii('twofold/wrap/1'),
    head,
    contextHash(context.pairs, context.aad),
  ]);
  const { cipherText, sharedSecret } = kem.encapsulate(description.publicKey);
  const bound = psk && { secret: psk, id: head.subarray(4, 24) };
  const sealed = hpkeSeal(description.kemId, sharedSecret, info, plaintext, bound);
  const envelope = Buffer.concat([head, cipherText, sealed]);
  return `tf1.${envelope.toString('base64url')}`;
}

describe.each(Object.keys(HYBRIDS) as HybridId[])('an offline wrapper for %s', (id) => {
  const suite = findSuite(id) as KemSuite;
  const key = randomKemKey(nativeEngine, suite);
  const { number, kemId } = HYBRIDS[id];
  const description = {
    suite: id,
    suiteNumber: number,
    kemId,
    keyId: randomUUID(),
    keyVersion: 0x01020304,
    publicKey: key.publicKey,
  };
  const pairs = { tenant: 'a', Zone: 'b', '~': '' };
  const aad = Uint8Array.from(randomBytes(20));
  const context = { encryptionContext: pairs, aad };
  const plaintext = Uint8Array.from(randomBytes(32));
  const open = (text: string, psk?: SecretBytes) => {
    const envelope = parseEnvelope(decodeEnvelopeText(text)) as KemEnvelope;
    const { publicKey, halves } = key;
    const request = { publicKey, halves, context, ...(psk && { psk }) };
    return { envelope, opened: openEnvelope(envelope, request) };
  };

  it('the service opens its base envelope', async () => {
    const { envelope, opened } = open(wrapOffline(description, plaintext, { pairs, aad }));
    const { keyId, keyVersion } = description;
    expect(envelope).toMatchObject({ mode: 'base', keyId, keyVersion });
    expect(envelope.suite).toBe(suite);
    expect((await opened).reveal()).toEqual(plaintext);
  });

  it('and not with another context', async () => {
    const text = wrapOffline(description, plaintext, { pairs: { ...pairs, tenant: 'b' }, aad });
    await expect(open(text).opened).rejects.toMatchObject({ code: 'decryption_failed' });
  });

  it('psk mode is the recipe too, and a wrong psk does not open', async () => {
    const psk = Uint8Array.from(randomBytes(32));
    const text = wrapOffline(description, plaintext, { pairs, aad }, psk);
    const { opened } = open(text, SecretBytes.copyOf(psk));
    expect((await opened).reveal()).toEqual(plaintext);
    const other = SecretBytes.own(Uint8Array.from(randomBytes(32)));
    await expect(open(text, other).opened).rejects.toMatchObject({ code: 'decryption_failed' });
  });

  it('noble opens what the service sealed, given one seed for both halves', async () => {
    const { kem } = HYBRIDS[id];
    const pair = kem.keygen();
    const { keyId, keyVersion } = description;
    const bytes = await sealEnvelope(nativeEngine, {
      suite,
      publicKey: pair.publicKey,
      keyId,
      keyVersion,
      context,
      plaintext: SecretBytes.copyOf(plaintext),
    });
    const { encapsulation, ciphertext } = parseEnvelope(bytes) as KemEnvelope;
    const sharedSecret = kem.decapsulate(encapsulation, pair.secretKey);
    const info = Buffer.concat([
      ascii('twofold/wrap/1'),
      bytes.subarray(0, 24),
      contextHash(pairs, aad),
    ]);
    expect(hpkeSeal(kemId, sharedSecret, info, plaintext)).toEqual(Uint8Array.from(ciphertext));
    expect(encodeEnvelopeText(bytes).startsWith('tf1.AQAB')).toBe(true);
  });
});
