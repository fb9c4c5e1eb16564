/** A token that takes long to make a key: the client is not cut off, and others are served meanwhile. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const STALLED_MS = 200;
const b64 = (text: string) => Buffer.from(text).toString('base64');

let service: Service;
let made: PromiseWithResolvers<undefined>;
let begun: PromiseWithResolvers<undefined>;

beforeEach(async () => {
  service = await openService({ options: { limits: { stalledMs: STALLED_MS } } });
  for (const [name, suite] of [
    ['rsa', 'RSA-OAEP-2048-SHA256'],
    ['other', 'A256GCM'],
  ]) {
    await service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite } });
  }
  [made, begun] = [Promise.withResolvers(), Promise.withResolvers()];
  service.world.device.meanwhile = async (call) => {
    if (call !== 'generate') return;
    begun.resolve(undefined);
    await made.promise;
  };
});
afterEach(async () => {
  made.resolve(undefined);
  await service.stop();
});

const wrap = (name: string) =>
  service.call('user', 'POST', `/v1/keys/${name}/wrap`, { json: { plaintext: b64('x') } });

describe('while the token makes a key', () => {
  it('the connection that waits for it outlives the limit of those that stall', async () => {
    const json = { name: 'new', suite: 'RSA-PSS-4096-SHA512' };
    const creation = service.call('admin', 'POST', '/v1/admin/keys', { json });
    await begun.promise;
    await sleep(4 * STALLED_MS);
    made.resolve(undefined);
    expect(await creation).toMatchObject({ status: 201, json: { name: 'new' } });
    const signed = await service.call('admin', 'POST', '/v1/keys/new/sign', {
      json: { message: b64('m') },
    });
    expect(signed.status).toBe(200);
  }, 60_000);

  it('other keys are used and changed, and so is the version before', async () => {
    const rotation = service.call('admin', 'POST', '/v1/admin/keys/rsa/rotate', { json: {} });
    await begun.promise;
    const before = await wrap('rsa');
    expect(before).toMatchObject({ status: 200, json: { keyVersion: 1 } });
    expect(await wrap('other')).toMatchObject({ status: 200 });
    const json = { labels: { team: 'ml' } };
    const changed = await service.call('admin', 'PATCH', '/v1/admin/keys/other', { json });
    expect(changed).toMatchObject({ status: 200, json });
    const same = service.call('admin', 'PATCH', '/v1/admin/keys/rsa', { json });
    made.resolve(undefined);
    expect(await rotation).toMatchObject({ status: 200, json: { primary: 2 } });
    expect(await same).toMatchObject({ status: 200, json: { primary: 2, labels: json.labels } });
    const { ciphertext } = before.json;
    const opened = await service.call('user', 'POST', '/v1/keys/rsa/unwrap', {
      json: { ciphertext },
    });
    expect(opened).toMatchObject({ status: 200, json: { plaintext: b64('x') } });
  }, 60_000);

  it('a suspension waits for its turn and then ends all use', async () => {
    const rotation = service.call('admin', 'POST', '/v1/admin/keys/rsa/rotate', { json: {} });
    await begun.promise;
    const json = { reason: 'stolen' };
    const suspended = service.call('admin', 'POST', '/v1/admin/keys/rsa/suspend', { json });
    made.resolve(undefined);
    expect(await rotation).toMatchObject({ status: 200 });
    expect(await suspended).toMatchObject({ status: 200, json: { state: 'suspended' } });
    expect((await wrap('rsa')).json).toMatchObject({ code: 'version_not_usable' });
  }, 60_000);
});
