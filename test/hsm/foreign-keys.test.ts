/** Keys from outside through a real token: right ones serve as those made there, wrong ones are refused. */
import {
  createCipheriv,
  createECDH,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  randomBytes,
} from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { verifiesAs } from '../../src/hsm/check-value.ts';
import { messageHash, inputOf } from '../../src/hsm/mechanisms.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import type { Hsm, HsmKeySpec, WrappedImport } from '../../src/hsm/port.ts';
import { codeOf } from '../keyring/world.ts';
import { makeToken, ROOT } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';
import { SoftwareHsm, SoftwareToken } from './software-hsm.ts';

const DERIVING = { kind: 'ec', curve: 'P-256', use: 'derive' } as const;
const NAMES = { 'P-256': 'prime256v1', 'P-384': 'secp384r1', 'P-521': 'secp521r1' } as const;

let fixture: TokenFixture;
let token: PooledHsm;
const software = new SoftwareHsm(new SoftwareToken());
beforeAll(async () => {
  fixture = await makeToken();
  token = await fixture.open();
  await token.useRoot(ROOT);
  software.token.makeRoot(ROOT);
  await software.useRoot(ROOT);
}, 60_000);
afterAll(async () => {
  await token.close();
  fixture.remove();
});

/** RFC 5649 by OpenSSL: an implementation of its own. */
function kwp(key: Uint8Array, plaintext: Uint8Array): Buffer {
  const cipher = createCipheriv('id-aes256-wrap-pad', key, Buffer.from('a65959a6', 'hex'));
  return Buffer.concat([cipher.update(plaintext), cipher.final()]);
}

let count = 0;
async function wrapFor(
  hsm: Hsm,
  plaintext: Uint8Array,
  publicKey: Uint8Array | null,
): Promise<WrappedImport> {
  const material = await hsm.generate(DERIVING, { custody: 'hsm-wrapped' });
  count += 1;
  const key = { id: `import/${String(count)}`, spec: DERIVING, material };
  const ephemeral = createECDH('prime256v1');
  ephemeral.generateKeys();
  const derivation = randomBytes(32);
  const shared = ephemeral.computeSecret(material.check);
  const cbc = createCipheriv('aes-256-cbc', shared, Buffer.alloc(16)).setAutoPadding(false);
  const kek = Buffer.concat([cbc.update(derivation), cbc.final()]);
  const blob = kwp(kek, plaintext);
  return { key, peer: ephemeral.getPublicKey(), derivation, blob, publicKey };
}

function ecPair(curve: keyof typeof NAMES) {
  const pair = generateKeyPairSync('ec', { namedCurve: NAMES[curve] });
  return {
    pkcs8: pair.privateKey.export({ format: 'der', type: 'pkcs8' }),
    point: pair.publicKey.export({ format: 'der', type: 'spki' }).subarray(-pointBytes(curve)),
    ...pair,
  };
}
const pointBytes = (curve: keyof typeof NAMES) =>
  ({ 'P-256': 65, 'P-384': 97, 'P-521': 133 })[curve];

function rsaPair(bits: number, publicExponent = 65_537) {
  const pair = generateKeyPairSync('rsa', { modulusLength: bits, publicExponent });
  return {
    pkcs8: pair.privateKey.export({ format: 'der', type: 'pkcs8' }),
    point: pair.publicKey.export({ format: 'der', type: 'pkcs1' }),
  };
}

const RSA = { kind: 'rsa', bits: 2048, use: 'sign', padding: 'pss', hash: 'SHA-256' } as const;
const message = Buffer.from('imported');

describe.each(['SoftHSM', 'the software port'] as const)('on %s', (name) => {
  const hsm = (): Hsm => (name === 'SoftHSM' ? token : software);

  it.each(['P-256', 'P-384', 'P-521'] as const)('a signing key on %s signs', async (curve) => {
    const spec = { kind: 'ec', curve, use: 'sign' } as const;
    const { pkcs8, point } = ecPair(curve);
    const material = await hsm().importKey(spec, await wrapFor(hsm(), pkcs8, point));
    const key = { id: `signing/${curve}/${name}`, spec, material };
    expect(messageHash(spec)).toBeDefined();
    const signature = await hsm().sign(key, inputOf(spec, message));
    expect(verifiesAs(spec, point, message, signature)).toBe(true);
  });

  it('an RSA key signs, and a deriving key derives', async () => {
    const { pkcs8, point } = rsaPair(2048);
    const material = await hsm().importKey(RSA, await wrapFor(hsm(), pkcs8, point));
    const key = { id: `rsa/${name}`, spec: RSA, material };
    const signature = await hsm().sign(key, inputOf(RSA, message));
    expect(verifiesAs(RSA, point, message, signature)).toBe(true);

    const spec = { kind: 'ec', curve: 'P-384', use: 'derive' } as const;
    const mine = ecPair('P-384');
    const peer = ecPair('P-384');
    const derived = await hsm().importKey(spec, await wrapFor(hsm(), mine.pkcs8, mine.point));
    const secret = await hsm().ecdh({ id: `dh/${name}`, spec, material: derived }, peer.point);
    const { privateKey } = mine;
    const wanted = diffieHellman({ privateKey, publicKey: createPublicKey(peer.privateKey) });
    expect(Buffer.from(secret.reveal()).equals(wanted)).toBe(true);
  });

  it.each([
    { kind: 'aes', bits: 256 },
    { kind: 'hmac', hash: 'SHA-256', bytes: 32 },
    { kind: 'hmac', hash: 'SHA-384', bytes: 48 },
    { kind: 'hmac', hash: 'SHA-512', bytes: 64 },
  ] as const)('a secret serves: $kind $hash', async (spec) => {
    const secret = randomBytes(spec.kind === 'aes' ? 32 : spec.bytes);
    const material = await hsm().importKey(spec, await wrapFor(hsm(), secret, null));
    expect(material).toMatchObject({ custody: 'hsm-wrapped', generation: 1 });
    const cut = spec.kind === 'aes' ? [secret.subarray(1)] : [];
    for (const short of [...cut, secret.subarray(8), Buffer.concat([secret, Buffer.alloc(8)])]) {
      const wrapped = await wrapFor(hsm(), short, null);
      expect(await codeOf(hsm().importKey(spec, wrapped))).toBe('import_invalid');
    }
  });

  it('what does not open, or is another key, is refused', async () => {
    const spec: HsmKeySpec = { kind: 'ec', curve: 'P-256', use: 'sign' };
    const [mine, other, foreign] = [ecPair('P-256'), ecPair('P-256'), ecPair('P-384')];
    const refused = async (of: HsmKeySpec, wrapped: WrappedImport) =>
      codeOf(hsm().importKey(of, wrapped));
    const good = await wrapFor(hsm(), mine.pkcs8, mine.point);
    expect(await refused(spec, await wrapFor(hsm(), mine.pkcs8, other.point))).toBe(
      'import_mismatch',
    );
    const invalid: readonly WrappedImport[] = [
      await wrapFor(hsm(), foreign.pkcs8, mine.point),
      await wrapFor(hsm(), rsaPair(2048).pkcs8, mine.point),
      await wrapFor(hsm(), randomBytes(32), mine.point),
      { ...good, blob: good.blob.map((byte, at) => (at === 20 ? byte ^ 1 : byte)) },
      { ...good, blob: good.blob.subarray(0, -8) },
      { ...good, blob: Buffer.alloc(0) },
      { ...good, derivation: randomBytes(32) },
    ];
    for (const wrapped of invalid) expect(await refused(spec, wrapped)).toBe('import_invalid');
    const [one, two] = [rsaPair(2048), rsaPair(2048)];
    expect(await refused(RSA, await wrapFor(hsm(), one.pkcs8, two.point))).toBe('import_mismatch');
    expect(hsm().status().ready).toBe(true);
    expect(await codeOf(hsm().importKey(spec, good))).toBe('no error');
  });
});
