/** The test double itself: what other tests rely on it to assert and to break. */
import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { FAULTS, SoftwareHsm, SoftwareToken } from './software-hsm.ts';
import { ROOT } from './token-fixture.ts';

const AES = { kind: 'aes', bits: 256 } as const;
const X25519 = { kind: 'x25519', use: 'derive' } as const;
const TEXT = Buffer.from('text');

describe('software port', () => {
  let token: SoftwareToken;
  let hsm: SoftwareHsm;

  beforeEach(async () => {
    token = new SoftwareToken();
    token.makeRoot(ROOT);
    hsm = new SoftwareHsm(token);
    await hsm.useRoot(ROOT);
  });

  it('fails before an effect, and after it', async () => {
    const objectId = new Uint8Array(37);
    const make = () => hsm.generate(X25519, { custody: 'hsm-token', objectId });
    hsm.inject({ call: 'generate', when: 'before', error: FAULTS.deviceMemory });
    await expect(make()).rejects.toMatchObject({ code: 'hsm_full' });
    expect(token.objects.size).toBe(0);
    hsm.inject({ call: 'generate', when: 'after', error: FAULTS.sessionLost });
    await expect(make()).rejects.toMatchObject({ code: 'hsm_unavailable' });
    expect(token.objects.size).toBe(1);
    await make();
    expect(hsm.calls.get('generate')).toBe(3);
  });

  it('asserts that an id means one key', async () => {
    const [first, second] = [
      await hsm.generate(AES, { custody: 'hsm-wrapped' }),
      await hsm.generate(AES, { custody: 'hsm-wrapped' }),
    ];
    const id = randomUUID();
    await hsm.encrypt({ id, spec: AES, material: first }, TEXT, TEXT);
    const mixed = hsm.encrypt({ id, spec: AES, material: second }, TEXT, TEXT);
    await expect(mixed).rejects.toThrow('means two keys');
  });

  it('refuses a second root of one generation', () => {
    expect(() => token.makeRoot(ROOT)).toThrow('second root');
  });

  it('tells the truth about its state, and keeps its keys over a restart', async () => {
    const material = await hsm.generate(AES, { custody: 'hsm-wrapped' });
    const key = { id: randomUUID(), spec: AES, material };
    const sealed = await hsm.encrypt(key, TEXT, TEXT);
    hsm.setState('session-lost');
    expect(hsm.status().ready).toBe(false);
    await expect(hsm.random(8)).rejects.toMatchObject({ code: 'hsm_unavailable' });
    await hsm.close();
    const next = new SoftwareHsm(token);
    await expect(next.decrypt(key, sealed, TEXT)).rejects.toMatchObject({
      code: 'zone_lacks_material',
    });
    await next.useRoot(ROOT);
    expect((await next.decrypt(key, sealed, TEXT)).length).toBe(TEXT.length);
  });

  it('lacks what it is told to lack', async () => {
    const poor = new SoftwareHsm(token, { lacks: ['x25519', 'aes-gcm'] });
    await poor.useRoot(ROOT);
    const call = poor.generate(AES, { custody: 'hsm-wrapped' });
    await expect(call).rejects.toMatchObject({ code: 'suite_unavailable_here' });
    const named = poor.status().capabilities.filter(({ available }) => !available);
    expect(named.map(({ name }) => name)).toEqual(['x25519', 'aes-gcm']);
  });
});
