/** Certificate chains beside versions. */
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { openService } from './service.ts';
import type { CallInit, Service } from './service.ts';
import { testChain } from './test-chain.ts';

const SIGN = 'MLDSA65-ECDSA-P256-SHA512';
const ADMIN = '/v1/admin/keys/k/versions/1/certificate-chain';
const READ = '/v1/keys/k/versions/1/certificate-chain';

describe('a certificate chain', () => {
  let service: Service;
  let leaf: string;
  let root: string;
  const put = (pem: unknown, path = ADMIN, init: CallInit = {}) =>
    service.call('operator', 'PUT', path, { json: { pem }, ...init });
  const read = (path = READ) => service.call('auditor', 'GET', path);
  const chainFor = async (key: string) => {
    const path = `/v1/keys/${key}/public-key?format=raw`;
    const { json } = await service.call('user', 'GET', path);
    return testChain(String(json['suite']), String(json['raw']));
  };
  const create = (name: string, suite: string) =>
    service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite } });

  beforeEach(async () => {
    service = await openService();
    await create('k', SIGN);
    [leaf, root] = await chainFor('k');
  });
  afterEach(() => service.stop());

  it('is stored, read with what is known of it, replaced and removed', async () => {
    expect((await read()).json['code']).toBe('not_found');
    const stored = await put(leaf + root);
    expect(stored.status).toBe(200);
    const sha256 = createHash('sha256')
      .update(leaf + root)
      .digest('hex');
    expect(stored.json).toMatchObject({ version: 1, certificateChain: sha256, revision: 2 });
    expect(stored.headers.get('etag')).toBe('"2"');
    expect((await read()).json).toEqual({
      pem: leaf + root,
      certificates: [
        {
          subject: 'CN=leaf',
          issuer: 'CN=authority',
          notBefore: '2026-01-01T00:00:00.000Z',
          notAfter: '2046-01-01T00:00:00.000Z',
          signature: 'verified',
        },
        expect.objectContaining({ subject: 'CN=authority', signature: 'verified' }),
      ],
      endsInRoot: true,
      fullyVerified: true,
    });
    await put(leaf);
    expect((await read()).json).toMatchObject({ pem: leaf, endsInRoot: false });
    const removed = await service.call('operator', 'DELETE', ADMIN);
    expect(removed.json).toMatchObject({ certificateChain: null, revision: 4 });
    expect((await read()).json['code']).toBe('not_found');
    expect(service.world.store.rows.chains.size).toBe(0);
    const again = await service.call('operator', 'DELETE', ADMIN);
    expect([again.status, again.json['revision']]).toEqual([200, 4]);
  });

  it('is kept in its canonical text, of which the same is no change', async () => {
    const first = await put((leaf + root).replaceAll('\n', '\r\n').trimEnd());
    expect((await read()).json['pem']).toBe(leaf + root);
    const second = await put(leaf + root);
    expect(second.json['revision']).toBe(first.json['revision']);
  });

  it('is audited as a change, by its hash', async () => {
    await put(leaf + root);
    const { json } = await service.call(
      'admin',
      'GET',
      '/v1/audit/entries?operation=versions.put-certificates',
    );
    const [entry] = json['items'] as {
      detail: Record<string, unknown>;
      key: { version: number };
    }[];
    const sha256 = createHash('sha256')
      .update(leaf + root)
      .digest('hex');
    expect(entry?.key.version).toBe(1);
    expect(entry?.detail['certificates']).toBe(2);
    expect(JSON.parse(String(entry?.detail['changed']))).toEqual({
      certificateChain: [null, sha256],
    });
  });

  it('stays with its version through suspension and rotation', async () => {
    await put(leaf);
    await service.call('admin', 'POST', '/v1/admin/keys/k/rotate', { json: {} });
    const other = '/v1/keys/k/versions/2/certificate-chain';
    expect((await read(other)).json['code']).toBe('not_found');
    const suspend = { json: { reason: 'a drill' } };
    await service.call('admin', 'POST', '/v1/admin/keys/k/versions/1/suspend', suspend);
    expect((await read()).json['pem']).toBe(leaf);
    await service.call('admin', 'POST', '/v1/admin/keys/k/versions/1/resume', suspend);
    expect((await read()).json['pem']).toBe(leaf);
    // What the chain stands beside signs as before.
    const signed = await service.call('user', 'POST', '/v1/keys/k/sign', {
      json: { message: 'AAAA', keyVersion: 1 },
    });
    expect(signed.status).toBe(200);
  });

  it('of a key that wraps is one of its public key', async () => {
    await create('w', 'MLKEM768-P256');
    const [ofWrap, authority] = await chainFor('w');
    const path = '/v1/admin/keys/w/versions/1/certificate-chain';
    expect((await put(ofWrap + authority, path)).status).toBe(200);
    expect((await put(leaf, path)).json['code']).toBe('invalid_value');
  });

  it.each<[string, () => unknown]>([
    ['is of another key', () => root],
    ['is in the wrong order', () => root + leaf],
    ['is not of one chain', () => leaf + leaf],
    ['is empty', () => ''],
    ['is no PEM', () => 'x'],
    ['has text around it', () => `x\n${leaf}`],
    ['is cut', () => leaf.slice(0, 200)],
    ['has another label', () => leaf.replaceAll('CERTIFICATE', 'PUBLIC KEY')],
    ['is too long', () => leaf.repeat(200)],
    ['is no text', () => 7],
  ])('that %s is refused', async (_name, pem) => {
    const refused = await put(pem());
    expect([refused.status, refused.json['code']]).toEqual([400, 'invalid_value']);
    expect((await read()).json['code']).toBe('not_found');
  });

  it('whose signature is false is refused', async () => {
    const [, other] = await chainFor('k');
    expect((await put(leaf + other)).json['code']).toBe('invalid_value');
  });

  it('of a symmetric key, an absent version, or by a user is refused', async () => {
    await create('box', 'A256GCM');
    const codes = [
      await put(leaf, ADMIN.replace('/k/', '/box/')),
      await put(leaf, ADMIN.replace('/1/', '/9/')),
      await put(leaf, ADMIN.replace('/k/', '/none/')),
      await service.call('user', 'PUT', ADMIN, { json: { pem: leaf } }),
      await service.call('auditor', 'DELETE', ADMIN),
    ].map(({ json }) => json['code']);
    expect(codes).toEqual([
      'wrong_purpose',
      'version_not_found',
      'key_not_found',
      'forbidden',
      'forbidden',
    ]);
  });

  it('takes If-Match and a dry run', async () => {
    const stale = await put(leaf, ADMIN, { headers: { 'if-match': '"7"' } });
    expect(stale.json['code']).toBe('etag_mismatch');
    const dry = await put(leaf, `${ADMIN}?dryRun=true`);
    expect(dry.json).toMatchObject({ dryRun: true, revision: 2 });
    expect((await read()).json['code']).toBe('not_found');
    expect((await put(leaf, ADMIN, { headers: { 'if-match': '"1"' } })).status).toBe(200);
  });

  it('that was altered in the database, or is gone from it, is not shown', async () => {
    await put(leaf + root);
    const { chains } = service.world.store.rows;
    const [[slot, text] = ['', '']] = [...chains];
    chains.set(slot, leaf);
    expect((await read()).json['code']).toBe('integrity_failed');
    chains.delete(slot);
    expect((await read()).json['code']).toBe('integrity_failed');
    chains.set(slot, text);
    expect((await read()).status).toBe(200);
  });

  it('that changes between the row and the text is read again', async () => {
    await put(leaf + root);
    await read();
    let changed = false;
    service.world.store.meanwhile = async (call) => {
      if (call !== 'certificateChain' || changed) return;
      changed = true;
      await put(leaf);
    };
    const found = await read();
    expect([found.status, found.json['pem'], changed]).toEqual([200, leaf, true]);
  });
});
