/** The keyring on a real token: every suite through its life, token objects, and a root that stays. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import type { HsmKeySpec } from '../../src/crypto/hsm-key.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import { tokenObjectId } from '../../src/keyring/material.ts';
import { removeOrphans } from '../../src/keyring/orphans.ts';
import { attestIntent } from '../../src/keyring/row-mac.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import type { Root } from '../../src/keyring/root.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { makeToken, ROOT } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import { MemoryStore } from './memory-store.ts';
import { aRun, codeOf, openInstance, SIGN_SUITES, WRAP_SUITES, toSuite } from './world.ts';
import type { Instance } from './world.ts';

let fixture: TokenFixture;
let hsm: PooledHsm;
let service: Instance;
const store = new MemoryStore();
let root: Root;

async function startOn(device: PooledHsm): Promise<Instance> {
  const uses = new UsageCounters(store);
  root = await openRoot(device, store, uses, null);
  return openInstance({ hsm: device, engine: nativeEngine, store, root, uses });
}

beforeAll(async () => {
  fixture = await makeToken();
  hsm = await fixture.open();
  service = await startOn(hsm);
}, 60_000);
afterAll(async () => {
  await service.stop();
  await hsm.close();
  fixture.remove();
}, 60_000);

const rotate = (key: string, suite: string) =>
  service.keyring.manage.rotate(service.grant('keys.rotate', key), toSuite(suite), aRun());
const signInput = { message: Buffer.from('m'), signatureContext: new Uint8Array(0) };

describe('on SoftHSM', () => {
  it('begins nothing beside an empty database once another has held its root', async () => {
    expect(await hsm.isUsed(ROOT.installation)).toBe(true);
    expect(await hsm.isUsed(randomUUID())).toBe(false);
    const empty = new MemoryStore();
    const beginning = openRoot(hsm, empty, new UsageCounters(empty), null);
    expect(await codeOf(beginning)).toBe('integrity_failed');
    expect(empty.roots).toEqual([]);
    // What says so is no root and no key of the installation.
    expect([await hsm.roots(), await hsm.tokenKeys(ROOT.installation)]).toEqual([[ROOT], []]);
  });

  it('wraps, rotates through every suite, and reads it all after a restart', async () => {
    const id = await service.create({ suite: WRAP_SUITES[0] });
    const old = [await service.wrap(id, WRAP_SUITES[0])];
    for (const suite of WRAP_SUITES.slice(1)) {
      await rotate(id, suite);
      old.push(await service.wrap(id, suite));
    }
    await service.stop();
    await hsm.close();
    hsm = await fixture.open();
    service = await startOn(hsm);
    for (const [index, ciphertext] of old.entries()) {
      expect(await service.unwrap(id, ciphertext)).toBe(WRAP_SUITES[index]);
      const flipped = Uint8Array.from(ciphertext, (byte, at) => (at === 30 ? byte ^ 1 : byte));
      expect(await codeOf(service.unwrap(id, flipped))).toBe('decryption_failed');
    }
  }, 60_000);

  it.each(SIGN_SUITES)('signs and verifies: %s', async (suite) => {
    const id = await service.create({ suite });
    const { use } = service.keyring;
    const { signature } = await use.sign(service.grant('sign', id), signInput);
    const verify = (of: Uint8Array) =>
      use.verify(service.grant('verify', id), { ...signInput, signature: of });
    expect((await verify(signature)).valid).toBe(true);
    expect((await verify(Uint8Array.from(signature, (byte) => byte ^ 1))).valid).toBe(false);
  });

  it('MACs and verifies, and suspends and resumes at once', async () => {
    const id = await service.create({ suite: 'HS256' });
    const { use, manage } = service.keyring;
    const message = Buffer.from('m');
    const { mac } = await use.mac(service.grant('mac', id), { message });
    const verify = () =>
      use.verifyMac(service.grant('verify-mac', id), { message, mac: mac.reveal() });
    expect((await verify()).valid).toBe(true);
    await manage.suspend(service.grant('keys.suspend', id), { reason: 'r' }, aRun());
    expect(await codeOf(verify())).toBe('version_not_usable');
    await manage.resume(service.grant('keys.resume', id), { reason: 'r' }, aRun());
    expect((await verify()).valid).toBe(true);
  });

  it('keeps the handle of a token key to itself: dropped with a change, found again', async () => {
    const id = await service.create({ suite: 'MLKEM768-X25519' });
    const ciphertext = await service.wrap(id, 'x');
    for (let round = 0; round < 5; round += 1) {
      expect(await service.unwrap(id, ciphertext)).toBe('x');
      const input = { labels: { round: String(round) } };
      await service.keyring.manage.update(service.grant('keys.update', id), input, aRun());
    }
    expect(await service.unwrap(id, ciphertext)).toBe('x');
  });

  it('unwraps many at once while the key changes under them', async () => {
    const id = await service.create();
    const ciphertext = await service.wrap(id, 'x');
    const unwraps = Array.from({ length: 60 }, () => service.unwrap(id, ciphertext));
    const changes = [1, 2, 3].map(async (round) => {
      const input = { labels: { round: String(round) } };
      return codeOf(
        service.keyring.manage
          .update(service.grant('keys.update', id), input, aRun())
          .catch(() => undefined),
      );
    });
    expect(new Set(await Promise.all(unwraps))).toEqual(new Set(['x']));
    await Promise.all(changes);
  });

  it.each<readonly [string, HsmKeySpec]>([
    ['X25519', { kind: 'x25519', use: 'derive' }],
    ['Ed25519', { kind: 'ed25519', use: 'sign' }],
  ])('removes the %s object of a maker that died, and nothing else', async (_name, spec) => {
    const id = await service.create({ suite: 'MLKEM768-X25519' });
    const signer = await service.create({ suite: 'Ed25519' });
    const { installation } = ROOT;
    const objectId = tokenObjectId(installation, randomUUID(), 1);
    const tokenSerial = hsm.status().token?.serial ?? '';
    const intent = { objectId, installation, tokenSerial, instance: 'dead', createdAt: new Date() };
    await store.intendTokenObject(await attestIntent(root.mac, intent));
    await hsm.generate(spec, { custody: 'hsm-token', objectId });
    const before = (await hsm.tokenKeys(installation)).length;
    store.dead.add('dead');
    const record = service.audit.recordOwn.bind(service.audit);
    const removed = await removeOrphans({ hsm, store, mac: root.mac, installation, record });
    expect(removed).toEqual({ removed: 1, refused: 0 });
    expect(await hsm.tokenKeys(installation)).toHaveLength(before - 1);
    expect(await service.unwrap(id, await service.wrap(id, 'x'))).toBe('x');
    const signed = await service.keyring.use.sign(service.grant('sign', signer), signInput);
    expect(signed.signature).toHaveLength(64);
  });
});
