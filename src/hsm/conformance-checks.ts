/**
 * What every implementation of the port must do, written against the port alone. Run by the tests on
 * SoftHSM and on the software port, and by `npm run conformance` on any module.
 *
 * A check throws when the implementation fails it; it leaves nothing on the token.
 */
import assert from 'node:assert/strict';
import { createECDH, createPublicKey, diffieHellman, generateKeyPairSync } from 'node:crypto';
import { randomBytes, randomUUID } from 'node:crypto';
import { LOW_ORDER_X25519 } from '../crypto/point.ts';
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { equal, refused, withTokenKey, wrapped } from './conformance-keys.ts';
import type { Check } from './conformance-keys.ts';
import { SIGNING_CHECKS } from './conformance-signing.ts';
import type { Encrypted, Hsm, HsmHash, HsmKey, HsmKeySpec, WrappedMaterial } from './port.ts';
import { HASH_BYTES } from './rsa.ts';

type Curve = 'P-256' | 'P-384';

const CURVES: readonly Curve[] = ['P-256', 'P-384'];
const HASHES: readonly HsmHash[] = ['SHA-256', 'SHA-384', 'SHA-512'];
const NODE_CURVE = { 'P-256': 'prime256v1', 'P-384': 'secp384r1' } as const;
const AES: HsmKeySpec = { kind: 'aes', bits: 256 };
const HMAC: HsmKeySpec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 };
const X25519: HsmKeySpec = { kind: 'x25519', use: 'derive' };
const AAD = Buffer.from('associated data');
const NOTHING = new Uint8Array();

const derives = (curve: Curve): HsmKeySpec => ({ kind: 'ec', curve, use: 'derive' });
const signs = (curve: Curve): HsmKeySpec => ({ kind: 'ec', curve, use: 'sign' });

export const CHECKS: readonly Check[] = [
  ...CURVES.flatMap((curve): Check[] => [
    {
      name: `ECDH on ${curve} agrees with another implementation`,
      needs: ['wrap:ec', `ecdh:${curve}`],
      run: async (hsm) => agrees(hsm, await wrapped(hsm, derives(curve)), curve),
    },
    {
      name: `ECDH on ${curve} refuses what is no public key`,
      needs: ['wrap:ec', `ecdh:${curve}`],
      run: async (hsm) => {
        const key = await wrapped(hsm, derives(curve));
        for (const point of badPoints(curve)) {
          await refused(hsm.ecdh(key, point), 'invalid_value');
        }
        await agrees(hsm, key, curve);
      },
    },
  ]),
  ...SIGNING_CHECKS,
  { name: 'AES-GCM opens what it sealed', needs: ['wrap', 'aes-gcm'], run: sealsAndOpens },
  { name: 'AES-GCM refuses every change', needs: ['wrap', 'aes-gcm'], run: refusesChanges },
  { name: 'AES-GCM of many items settles each', needs: ['wrap', 'aes-gcm'], run: settlesEach },
  { name: 'AES-GCM never repeats an IV', needs: ['wrap', 'aes-gcm'], run: freshIvs },
  ...HASHES.map((hash) => ({
    name: `HMAC with ${hash} is a function of key and data`,
    needs: ['wrap', `hmac:${hash}`],
    run: (hsm: Hsm) => macs(hsm, hash),
  })),
  { name: 'random is random and bounded', needs: ['random'], run: randomness },
  {
    name: 'a damaged or foreign secret is never used',
    needs: ['wrap', 'aes-gcm', 'hmac:SHA-256'],
    run: refusesForeignSecrets,
  },
  {
    name: 'a damaged or foreign private key is never used',
    needs: ['wrap:ec', 'ecdh:P-256'],
    run: refusesForeignKeys,
  },
  {
    name: 'an unknown root generation is refused',
    needs: ['wrap', 'aes-gcm'],
    run: async (hsm, root) => {
      const generation = root.generation + 1000;
      await refused(hsm.useRoot({ ...root, generation }), 'zone_lacks_material');
      const key = await wrapped(hsm, AES);
      const elsewhere = { ...key.material, generation } as WrappedMaterial;
      const call = hsm.encrypt({ ...key, id: randomUUID(), material: elsewhere }, AAD, AAD);
      await refused(call, 'zone_lacks_material');
    },
  },
  {
    name: 'a key serves its own use only',
    needs: ['wrap:ec', 'ecdh:P-256', 'ecdsa:P-256'],
    run: async (hsm) => {
      const key = await wrapped(hsm, derives('P-256'));
      await refused(hsm.sign(key, Buffer.alloc(32)), 'wrong_purpose');
      await refused(hsm.encrypt(key, AAD, AAD), 'wrong_purpose');
      await refused(hsm.mac(key, AAD), 'wrong_purpose');
      const signing = await wrapped(hsm, signs('P-256'));
      await refused(hsm.ecdh(signing, softPoint('P-256').point), 'wrong_purpose');
    },
  },
  { name: 'a token key lives and dies by its id', needs: ['x25519'], run: tokenKeyLife },
  ...CURVES.flatMap((curve): Check[] => [
    {
      name: `a token key on ${curve} derives`,
      needs: [`ecdh:${curve}`],
      run: (hsm) => withTokenKey(hsm, derives(curve), (key) => agrees(hsm, key, curve)),
    },
  ]),
  {
    name: 'X25519 refuses points of small order',
    needs: ['x25519'],
    run: (hsm) =>
      withTokenKey(hsm, X25519, async (key) => {
        for (const point of SMALL_ORDER) await refused(hsm.ecdh(key, point), 'invalid_value');
      }),
  },
  {
    name: 'calls beside each other do not mix',
    needs: ['wrap', 'wrap:ec', 'ecdh:P-256', 'aes-gcm', 'hmac:SHA-256', 'ecdsa:P-256'],
    run: beside,
  },
  {
    name: 'a forgotten key is unwrapped again',
    needs: ['wrap', 'hmac:SHA-256'],
    run: async (hsm) => {
      const key = await wrapped(hsm, HMAC);
      const before = await hsm.mac(key, AAD);
      await hsm.forget(key.id);
      assert.ok(equal(await hsm.mac(key, AAD), before));
    },
  },
];

function softPoint(curve: Curve) {
  const ecdh = createECDH(NODE_CURVE[curve]);
  ecdh.generateKeys();
  return { point: Uint8Array.from(ecdh.getPublicKey()), ecdh };
}

async function agrees(hsm: Hsm, key: HsmKey, curve: Curve): Promise<void> {
  for (let round = 0; round < 8; round += 1) {
    const { point, ecdh } = softPoint(curve);
    const given = Uint8Array.from(point);
    const secret = await hsm.ecdh(key, given);
    assert.ok(equal(secret.reveal(), ecdh.computeSecret(key.material.check)));
    assert.ok(equal(given, point), 'the caller’s buffer was changed');
    wipe(secret);
  }
}

function badPoints(curve: Curve): Uint8Array[] {
  const { point } = softPoint(curve);
  const changed = (index: number, value: number) => {
    const copy = Uint8Array.from(point);
    copy[index] = value;
    return copy;
  };
  const last = point.length - 1;
  return [
    changed(last, (point[last] ?? 0) ^ 1),
    changed(0, 0x06),
    changed(0, 0x07),
    changed(0, 0x00),
    point.subarray(0, last),
    Uint8Array.from([...point, 0]),
    Uint8Array.from([0x04, point.length, ...point]),
    Uint8Array.from([0x02, ...point.subarray(1, 1 + last / 2)]),
    Uint8Array.of(0),
    new Uint8Array(),
    Uint8Array.from(point, (_, index) => (index === 0 ? 0x04 : 0)),
    Uint8Array.from(point, (_, index) => (index === 0 ? 0x04 : 0xff)),
  ];
}

async function sealsAndOpens(hsm: Hsm): Promise<void> {
  const key = await wrapped(hsm, AES);
  for (const length of [0, 1, 15, 16, 32, 1000, 65_536]) {
    const plaintext = Uint8Array.from(randomBytes(length));
    const given = Uint8Array.from(plaintext);
    for (const aad of [new Uint8Array(), AAD]) {
      const sealed = await hsm.encrypt(key, given, aad);
      assert.equal(sealed.iv.length, 12);
      assert.equal(sealed.ciphertext.length, length + 16);
      const opened = await hsm.decrypt(key, sealed, aad);
      assert.ok(equal(Uint8Array.from(opened.reveal()), plaintext));
    }
    assert.ok(equal(given, plaintext), 'the caller’s buffer was changed');
  }
}

async function refusesChanges(hsm: Hsm): Promise<void> {
  const key = await wrapped(hsm, AES);
  const other = await wrapped(hsm, AES);
  const sealed = await hsm.encrypt(key, AAD, AAD);
  const flip = (bytes: Uint8Array, index: number) =>
    bytes.map((byte, at) => (at === index ? byte ^ 0x80 : byte));
  for (let index = 0; index < sealed.ciphertext.length; index += 1) {
    const ciphertext = flip(sealed.ciphertext, index);
    await refused(hsm.decrypt(key, { ...sealed, ciphertext }, AAD), 'decryption_failed');
  }
  const short = (length: number) => ({ ...sealed, ciphertext: sealed.ciphertext.slice(0, length) });
  for (const changed of [
    { ...sealed, iv: flip(sealed.iv, 0) },
    { ...sealed, iv: sealed.iv.slice(0, 8) },
    { ...sealed, iv: new Uint8Array() },
    ...[0, 4, 12, 15, 16, sealed.ciphertext.length - 1].map(short),
  ]) {
    await refused(hsm.decrypt(key, changed, AAD), 'decryption_failed');
  }
  await refused(hsm.decrypt(key, sealed, Buffer.from('other')), 'decryption_failed');
  await refused(hsm.decrypt(other, sealed, AAD), 'decryption_failed');
}

async function settlesEach(hsm: Hsm): Promise<void> {
  const key = await wrapped(hsm, AES);
  const items = [0, 1, 65_536, ...Array.from({ length: 97 }, (_, index) => index)].map(
    (length, index) => ({ plaintext: randomBytes(length), aad: index % 2 === 0 ? AAD : NOTHING }),
  );
  const sealed = await hsm.encryptMany(key, items);
  assert.equal(sealed.length, items.length);
  const changed = items.map(({ aad }, index) => {
    const { iv, ciphertext } = sealed[index] as Encrypted;
    const bad = Uint8Array.from(ciphertext);
    if (index % 5 === 1) bad[bad.length - 1] = (bad.at(-1) ?? 0) ^ 1;
    return { iv: index % 5 === 2 ? iv.subarray(1) : iv, ciphertext: bad, aad };
  });
  const opened = await hsm.decryptMany(key, changed);
  assert.equal(opened.length, items.length);
  for (const [index, each] of opened.entries()) {
    const fails = index % 5 === 1 || index % 5 === 2;
    assert.equal(TwofoldError.is(each, 'decryption_failed'), fails);
    if (TwofoldError.is(each)) continue;
    assert.ok(equal(each.reveal(), items[index]?.plaintext ?? NOTHING));
    each.wipe();
  }
  assert.deepEqual(await hsm.decryptMany(key, []), []);
}

async function freshIvs(hsm: Hsm): Promise<void> {
  const key = await wrapped(hsm, AES);
  const sealed = await Promise.all(Array.from({ length: 64 }, () => hsm.encrypt(key, AAD, AAD)));
  const items = Array.from({ length: 64 }, () => ({ plaintext: AAD, aad: AAD }));
  const many = (await hsm.encryptMany(key, items)) as readonly Encrypted[];
  const ivs = [...sealed, ...many].map(({ iv }) => Buffer.from(iv).toString('hex'));
  assert.equal(new Set(ivs).size, 128);
}

async function macs(hsm: Hsm, hash: HsmHash): Promise<void> {
  const spec: HsmKeySpec = { kind: 'hmac', hash, bytes: HASH_BYTES[hash] };
  const [key, other] = [await wrapped(hsm, spec), await wrapped(hsm, spec)];
  const mac = await hsm.mac(key, AAD);
  assert.equal(mac.length, HASH_BYTES[hash]);
  assert.ok(equal(await hsm.mac(key, AAD), mac));
  assert.ok(!equal(await hsm.mac(other, AAD), mac));
  assert.ok(!equal(await hsm.mac(key, AAD.subarray(1)), mac));
  assert.equal((await hsm.mac(key, new Uint8Array())).length, HASH_BYTES[hash]);
}

async function randomness(hsm: Hsm): Promise<void> {
  const [first, second] = [await hsm.random(32), await hsm.random(32)];
  assert.equal(first.length, 32);
  assert.ok(!equal(first, second));
  for (const bytes of [0, -1, 1.5, Number.NaN, 1e9]) {
    await refused(hsm.random(bytes), 'invalid_value');
  }
}

async function refusesForeignKeys(hsm: Hsm): Promise<void> {
  const [key, other] = [await wrapped(hsm, derives('P-256')), await wrapped(hsm, derives('P-256'))];
  const { point } = softPoint('P-256');
  const material = key.material as WrappedMaterial;
  const use = (changed: Partial<WrappedMaterial>) =>
    hsm.ecdh({ ...key, id: randomUUID(), material: { ...material, ...changed } }, point);
  for (let index = 0; index < material.blob.length; index += 5) {
    const blob = material.blob.map((byte, at) => (at === index ? byte ^ 1 : byte));
    await refused(use({ blob }), 'integrity_failed');
  }
  await refused(use({ blob: material.blob.slice(0, -8) }), 'integrity_failed');
  await refused(use({ blob: new Uint8Array(8) }), 'integrity_failed');
  await refused(use({ blob: (other.material as WrappedMaterial).blob }), 'integrity_failed');
  await refused(use({ check: other.material.check }), 'integrity_failed');
  await agrees(hsm, key, 'P-256');
}

async function refusesForeignSecrets(hsm: Hsm): Promise<void> {
  const [aes, mac] = [await wrapped(hsm, AES), await wrapped(hsm, AES)];
  const swapped = {
    ...aes,
    id: randomUUID(),
    material: { ...aes.material, check: mac.material.check },
  };
  await refused(hsm.encrypt(swapped, AAD, AAD), 'integrity_failed');
  for (const good of [aes, await wrapped(hsm, HMAC)]) {
    const blob = (good.material as WrappedMaterial).blob.map((byte) => byte ^ 0x55);
    const bad = {
      ...good,
      id: randomUUID(),
      material: { ...good.material, blob } as WrappedMaterial,
    };
    const call = good.spec.kind === 'aes' ? hsm.encrypt(bad, AAD, AAD) : hsm.mac(bad, AAD);
    await refused(call, 'integrity_failed');
  }
}

/** Also with the top bit set, which implementations ignore (RFC 7748 section 5). */
const SMALL_ORDER: readonly Uint8Array[] = [...LOW_ORDER_X25519, '00'.repeat(31) + '80'].map(
  (hex) => Uint8Array.from(Buffer.from(hex, 'hex')),
);

function tokenKeyLife(hsm: Hsm): Promise<void> {
  return withTokenKey(hsm, X25519, async (key, installation) => {
    const { material } = key;
    if (material.custody !== 'hsm-token') throw new Error('not a token key');
    const soft = generateKeyPairSync('x25519');
    const point = Buffer.from(soft.publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
    const x = Buffer.from(material.check).toString('base64url');
    const ours = createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x }, format: 'jwk' });
    const expected = diffieHellman({ privateKey: soft.privateKey, publicKey: ours });
    assert.ok(equal(Buffer.from((await hsm.ecdh(key, point)).reveal()), expected));

    const listed = await hsm.tokenKeys(installation);
    assert.equal(listed.length, 1);
    assert.ok(equal(listed[0]?.objectId, material.objectId));
    assert.equal((await hsm.tokenKeys(randomUUID())).length, 0);
    const foreign = { ...material, tokenSerial: 'of another token' };
    const elsewhere = { ...key, id: randomUUID(), material: foreign };
    await refused(hsm.ecdh(elsewhere, point), 'zone_lacks_material');
    await refused(hsm.destroyTokenKey(foreign), 'zone_lacks_material');

    await hsm.destroyTokenKey(material);
    await hsm.destroyTokenKey(material);
    assert.equal((await hsm.tokenKeys(installation)).length, 0);
    await hsm.forget(key.id);
    await refused(hsm.ecdh(key, point), 'zone_lacks_material');
  });
}

async function beside(hsm: Hsm): Promise<void> {
  const keys = await Promise.all(Array.from({ length: 4 }, () => wrapped(hsm, derives('P-256'))));
  const [aes, mac] = [await wrapped(hsm, AES), await wrapped(hsm, HMAC)];
  const expected = await hsm.mac(mac, AAD);
  const once = async (index: number) => {
    const key = keys[index % keys.length];
    if (key !== undefined) await agrees(hsm, key, 'P-256');
    const plaintext = Buffer.from(`message ${index}`);
    const opened = await hsm.decrypt(aes, await hsm.encrypt(aes, plaintext, AAD), AAD);
    assert.ok(equal(Buffer.from(opened.reveal()), plaintext));
    assert.ok(equal(await hsm.mac(mac, AAD), expected));
  };
  await Promise.all(Array.from({ length: 16 }, (_, index) => once(index)));
}
