/** Checks of the keys that sign, and of RSA keys that decrypt; see conformance-checks.ts. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { verifiesAs } from './check-value.ts';
import { equal, refused, withTokenKey, wrapped } from './conformance-keys.ts';
import type { Check } from './conformance-keys.ts';
import type { SigningSpec } from './inputs.ts';
import { inputOf } from './mechanisms.ts';
import type { Hsm, HsmHash, HsmKey, RsaBits, WrappedMaterial } from './port.ts';
import { encryptOaep, HASH_BYTES, modulusOf } from './rsa.ts';
import type { RsaSigningSpec } from './rsa.ts';

const CURVES = ['P-256', 'P-384', 'P-521'] as const;
const HASHES: readonly HsmHash[] = ['SHA-256', 'SHA-384', 'SHA-512'];
const SIGNATURE_BYTES = { 'P-256': 64, 'P-384': 96, 'P-521': 132 } as const;
const DIGEST_BYTES = { 'P-256': 32, 'P-384': 48, 'P-521': 64 } as const;
const ED25519 = { kind: 'ed25519', use: 'sign' } as const;
const DECRYPTS = { kind: 'rsa', bits: 2048, use: 'decrypt', hash: 'SHA-256' } as const;
/** The overhead of OAEP with SHA-256. */
const OAEP_BYTES = 66;

const ecdsa = (curve: (typeof CURVES)[number]) => ({ kind: 'ec', curve, use: 'sign' }) as const;
const rsa = (padding: 'pss' | 'pkcs1', hash: HsmHash, bits: RsaBits = 2048): RsaSigningSpec => ({
  kind: 'rsa',
  bits,
  use: 'sign',
  padding,
  hash,
});

export const SIGNING_CHECKS: readonly Check[] = [
  ...CURVES.flatMap((curve): Check[] => [
    {
      name: `ECDSA on ${curve} verifies, and takes only the curve’s digest`,
      needs: ['wrap:ec', `ecdsa:${curve}`],
      run: async (hsm) => signsDigests(hsm, await wrapped(hsm, ecdsa(curve))),
    },
    {
      name: `a token key on ${curve} signs`,
      needs: [`ecdsa:${curve}`],
      run: (hsm) => withTokenKey(hsm, ecdsa(curve), (key) => signsDigests(hsm, key)),
    },
  ]),
  {
    name: 'Ed25519 signs messages of any length',
    needs: ['ed25519'],
    run: (hsm) => withTokenKey(hsm, ED25519, (key) => signsMessages(hsm, key)),
  },
  ...(['pss', 'pkcs1'] as const).flatMap((padding) =>
    HASHES.map((hash) => ({
      name: `RSA (${padding}, ${hash}) verifies, and takes only a digest`,
      needs: ['wrap:rsa', `rsa-${padding}:${hash}`],
      run: async (hsm: Hsm) => signsDigests(hsm, await wrapped(hsm, rsa(padding, hash))),
    })),
  ),
  {
    name: 'RSA keys of 3072 and 4096 bits sign',
    needs: ['wrap:rsa', 'rsa-pss:SHA-256'],
    run: async (hsm) => {
      for (const bits of [3072, 4096] as const) {
        await signsDigests(hsm, await wrapped(hsm, rsa('pss', 'SHA-256', bits)), 1);
      }
    },
  },
  {
    name: 'an RSA token key signs',
    needs: ['rsa-pkcs1:SHA-256'],
    run: (hsm) => withTokenKey(hsm, rsa('pkcs1', 'SHA-256'), (key) => signsDigests(hsm, key)),
  },
  {
    name: 'RSA-OAEP opens what another implementation sealed',
    needs: ['wrap:rsa', 'rsa-oaep:SHA-256'],
    run: async (hsm) => opens(hsm, await wrapped(hsm, DECRYPTS)),
  },
  {
    name: 'RSA-OAEP fails alike whatever is wrong',
    needs: ['wrap:rsa', 'rsa-oaep:SHA-256'],
    run: async (hsm) => failsAlike(hsm, await wrapped(hsm, DECRYPTS)),
  },
  {
    name: 'an RSA token key decrypts',
    needs: ['rsa-oaep:SHA-256'],
    run: (hsm) => withTokenKey(hsm, DECRYPTS, (key) => opens(hsm, key)),
  },
  {
    name: 'an RSA key serves its own use only',
    needs: ['wrap:rsa', 'rsa-oaep:SHA-256', 'rsa-pkcs1:SHA-256'],
    run: servesOwnUse,
  },
  {
    name: 'a damaged or foreign RSA key is never used',
    needs: ['wrap:rsa', 'rsa-oaep:SHA-256', 'rsa-pkcs1:SHA-256'],
    run: refusesForeign,
  },
];

const signingSpecOf = (key: HsmKey) => key.spec as SigningSpec;

async function signsOnce(hsm: Hsm, key: HsmKey, message: Uint8Array): Promise<void> {
  const spec = signingSpecOf(key);
  const { check } = key.material;
  const signature = await hsm.sign(key, inputOf(spec, message));
  assert.equal(signature.length, signatureBytes(spec));
  assert.ok(verifiesAs(spec, check, message, signature));
  assert.ok(!verifiesAs(spec, check, Buffer.concat([message, Buffer.of(1)]), signature));
}

async function signsDigests(hsm: Hsm, key: HsmKey, rounds = 8): Promise<void> {
  for (let round = 0; round < rounds; round += 1) await signsOnce(hsm, key, randomBytes(100));
  const wanted = digestBytes(signingSpecOf(key));
  for (const length of [0, 20, 31, 32, 33, 47, 48, 49, 63, 64, 65]) {
    if (length === wanted) continue;
    await refused(hsm.sign(key, new Uint8Array(length)), 'invalid_value');
  }
}

async function signsMessages(hsm: Hsm, key: HsmKey): Promise<void> {
  for (const length of [0, 1, 32, 64, 1000, 65_536, 200_000]) {
    await signsOnce(hsm, key, Uint8Array.from(randomBytes(length)));
  }
}

function signatureBytes(spec: SigningSpec): number {
  if (spec.kind === 'ed25519') return 64;
  return spec.kind === 'ec' ? SIGNATURE_BYTES[spec.curve] : spec.bits / 8;
}

function digestBytes(spec: SigningSpec): number | undefined {
  if (spec.kind === 'ed25519') return undefined;
  return spec.kind === 'ec' ? DIGEST_BYTES[spec.curve] : HASH_BYTES[spec.hash];
}

async function opens(hsm: Hsm, key: HsmKey): Promise<void> {
  for (const length of [0, 1, 32, 255 - OAEP_BYTES, 256 - OAEP_BYTES]) {
    const message = Uint8Array.from(randomBytes(length));
    const ciphertext = encryptOaep(DECRYPTS, key.material.check, message);
    const given = Uint8Array.from(ciphertext);
    const opened = await hsm.decryptOaep(key, given);
    assert.ok(equal(Uint8Array.from(opened.reveal()), message));
    assert.ok(equal(given, ciphertext), 'the caller’s buffer was changed');
    wipe(opened);
  }
}

async function failsAlike(hsm: Hsm, key: HsmKey): Promise<void> {
  const { check } = key.material;
  const modulus = Buffer.from(modulusOf(DECRYPTS.bits, check) ?? []);
  const good = encryptOaep(DECRYPTS, check, randomBytes(32));
  const number = (value: number) => Buffer.concat([Buffer.alloc(255), Buffer.of(value)]);
  const last = modulus.length - 1;
  const below = modulus.map((byte, index) => (index === last ? byte - 1 : byte));
  const random = Array.from({ length: 16 }, () => {
    const bytes = randomBytes(256);
    bytes[0] = 0;
    return bytes;
  });
  const wrong = [
    ...[new Uint8Array(), good.subarray(1), good.subarray(0, 255), Buffer.concat([good, good])],
    ...[Buffer.concat([Buffer.alloc(1), good]), modulus, Buffer.alloc(256, 0xff)],
    ...[number(0), number(1), number(2), below],
    ...random,
  ];
  for (const ciphertext of wrong) {
    const error: unknown = await hsm.decryptOaep(key, Uint8Array.from(ciphertext)).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    assert.ok(TwofoldError.is(error, 'decryption_failed'), String(error));
    assert.ok((error.detail ?? '') === '' && error.cause === undefined, 'an error with a detail');
  }
  await opens(hsm, key);
}

async function servesOwnUse(hsm: Hsm): Promise<void> {
  const decrypts = await wrapped(hsm, DECRYPTS);
  const signing = await wrapped(hsm, rsa('pkcs1', 'SHA-256'));
  const ciphertext = encryptOaep(DECRYPTS, signing.material.check, Buffer.alloc(32));
  await refused(hsm.decryptOaep(signing, ciphertext), 'wrong_purpose');
  await refused(hsm.sign(decrypts, Buffer.alloc(32)), 'wrong_purpose');
  await refused(hsm.ecdh(decrypts, ciphertext), 'wrong_purpose');
  await refused(hsm.encrypt(signing, ciphertext, ciphertext), 'wrong_purpose');
  await refused(hsm.mac(signing, ciphertext), 'wrong_purpose');
}

async function refusesForeign(hsm: Hsm): Promise<void> {
  for (const spec of [DECRYPTS, rsa('pkcs1', 'SHA-256')]) {
    const [key, other] = [await wrapped(hsm, spec), await wrapped(hsm, spec)];
    const material = key.material as WrappedMaterial;
    const use = (changed: Partial<WrappedMaterial>) => {
      const one = { ...key, id: randomUUID(), material: { ...material, ...changed } };
      return spec.use === 'sign'
        ? hsm.sign(one, Buffer.alloc(32))
        : hsm.decryptOaep(one, new Uint8Array(256));
    };
    for (let index = 0; index < material.blob.length; index += 101) {
      const blob = material.blob.map((byte, at) => (at === index ? byte ^ 1 : byte));
      await refused(use({ blob }), 'integrity_failed');
    }
    await refused(use({ blob: (other.material as WrappedMaterial).blob }), 'integrity_failed');
    await refused(use({ check: other.material.check }), 'integrity_failed');
    await refused(use({ check: other.material.check.subarray(1) }), 'integrity_failed');
  }
}
