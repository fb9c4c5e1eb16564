/** Keys from one root to the next, inside a real token. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { HsmKeySpec, WrappedMaterial } from '../../src/hsm/port.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import { runRootCeremony, runRootDestruction } from '../../src/hsm/run-ceremony.ts';
import { isFailed } from '../../src/settled.ts';
import { codeOf } from '../keyring/world.ts';
import { makeToken, ROOT } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

const SECOND = { ...ROOT, generation: 2 };
const SPECS: readonly HsmKeySpec[] = [
  { kind: 'ec', curve: 'P-256', use: 'derive' },
  { kind: 'ec', curve: 'P-256', use: 'sign' },
  { kind: 'ec', curve: 'P-384', use: 'derive' },
  { kind: 'aes', bits: 256 },
  { kind: 'hmac', hash: 'SHA-256', bytes: 32 },
];

let fixture: TokenFixture;
let hsm: PooledHsm;
const made: { spec: HsmKeySpec; material: WrappedMaterial }[] = [];

const wrappedOf = async (spec: HsmKeySpec): Promise<WrappedMaterial> => {
  const material = await hsm.generate(spec, { custody: 'hsm-wrapped' });
  if (material.custody !== 'hsm-wrapped') throw new TypeError('not wrapped');
  return material;
};

beforeAll(async () => {
  fixture = await makeToken();
  hsm = await fixture.open({ workers: 2 });
  await hsm.useRoot(ROOT);
  for (const spec of SPECS) made.push({ spec, material: await wrappedOf(spec) });
}, 60_000);
afterAll(async () => {
  await hsm.close();
  fixture.remove();
});

const ceremony = () => {
  const { token } = fixture;
  return { ...token, tokenSelector: { label: token.tokenLabel }, ...SECOND };
};

describe('a second root', () => {
  it('is made once, is as hard to extract as the first, and both open what is theirs', async () => {
    expect(await runRootCeremony(ceremony())).toMatchObject({ made: true });
    expect(await runRootCeremony(ceremony())).toMatchObject({ made: false });
    expect(await hsm.tryRoot(SECOND)).toBe('non-extractable');
    // Trying selects nothing.
    expect((await wrappedOf(SPECS[0] as HsmKeySpec)).generation).toBe(1);
    await hsm.useRoot(SECOND);
    expect(hsm.status().custody).toBe('non-extractable');
    expect((await wrappedOf(SPECS[0] as HsmKeySpec)).generation).toBe(2);
  }, 60_000);

  it('takes every kind of key as the key that it is', async () => {
    const data = randomBytes(32);
    const key = { spec: SPECS[4] as HsmKeySpec, material: made[4]?.material as WrappedMaterial };
    const before = await hsm.mac({ id: 'before', ...key }, data);
    const settled = await hsm.rewrap(made);
    for (const [index, material] of settled.entries()) {
      if (isFailed(material)) throw material;
      expect(material).toMatchObject({ generation: 2, check: made[index]?.material.check });
      expect(material.blob).not.toEqual(made[index]?.material.blob);
    }
    const after = settled[4] as WrappedMaterial;
    expect(await hsm.mac({ id: 'after', spec: key.spec, material: after }, data)).toEqual(before);
  }, 60_000);

  it('refuses a damaged blob, and nothing beside it', async () => {
    const [first, , , aes] = made;
    if (first === undefined || aes === undefined) throw new TypeError();
    const damaged = Uint8Array.from(first.material.blob, (byte, at) =>
      at === 9 ? byte ^ 1 : byte,
    );
    const settled = await hsm.rewrap([
      { spec: first.spec, material: { ...first.material, blob: damaged } },
      first,
      aes,
    ]);
    expect(settled.map((each) => (isFailed(each) ? each.code : each.generation))).toEqual([
      'integrity_failed',
      2,
      2,
    ]);
  }, 60_000);

  it('takes the key of another for what it is, which is refused where it is used', async () => {
    const second = made[4];
    if (second === undefined) throw new TypeError();
    const other = await wrappedOf(second.spec);
    const [material] = await hsm.rewrap([
      { spec: second.spec, material: { ...second.material, check: other.check } },
    ]);
    if (material === undefined || isFailed(material)) throw new TypeError('not rewrapped');
    const use = hsm.mac({ id: 'of-another', spec: second.spec, material }, randomBytes(32));
    expect(await codeOf(use)).toBe('integrity_failed');
  }, 60_000);

  it('serves on without the first, which is destroyed once', async () => {
    const settled = await hsm.rewrap(made);
    const first = { ...ceremony(), ...ROOT };
    expect(await runRootDestruction(first)).toMatchObject({ destroyed: true });
    expect(await runRootDestruction(first)).toMatchObject({ destroyed: false });
    const again = await fixture.open({ workers: 1 }).catch(() => null);
    expect(again).toBeNull();
    expect(await hsm.roots()).toEqual([SECOND]);
    const material = settled[3] as WrappedMaterial;
    const aes = { id: 'aes-after', spec: SPECS[3] as HsmKeySpec, material };
    const sealed = await hsm.encrypt(aes, Buffer.from('text'), new Uint8Array(0));
    const opened = await hsm.decrypt(aes, sealed, new Uint8Array(0));
    expect(Buffer.from(opened.reveal()).toString()).toBe('text');
    await hsm.useRoot(SECOND);
    const old = { id: 'old', spec: SPECS[3] as HsmKeySpec, material: made[3]?.material };
    if (old.material === undefined) throw new TypeError();
    const use = hsm.encrypt(
      { ...old, material: old.material },
      Buffer.from('t'),
      new Uint8Array(0),
    );
    expect(await codeOf(use)).toBe('zone_lacks_material');
  }, 60_000);
});
