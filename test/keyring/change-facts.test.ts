/** What the entry of a change says of the rows. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { openService } from '../http/service.ts';
import type { Service } from '../http/service.ts';

let service: Service;
beforeAll(async () => {
  service = await openService();
  const json = { name: 'k', suite: 'A256GCM', labels: { team: 'marker-of-a-label' } };
  await service.call('admin', 'POST', '/v1/admin/keys', { json });
});
afterAll(() => service.stop());

/** Runs a change and answers its entry's detail. */
async function detailOf(method: string, path: string, json: unknown) {
  const etag = (await service.call('admin', 'GET', '/v1/keys/k')).headers.get('etag') ?? '';
  const headers = { 'If-Match': etag };
  const done = await service.call('admin', method, `/v1/admin/keys/k${path}`, { json, headers });
  expect(done.status).toBeLessThan(300);
  const id = done.headers.get('twofold-audit-id') ?? '';
  const entry = await service.call('auditor', 'GET', `/v1/audit/entries/${id}`);
  const body = Buffer.from(String(entry.json['body']), 'base64');
  const { changed, ...detail } = decodeEntry(body).detail;
  return { ...detail, changed: JSON.parse(String(changed)) as unknown };
}

describe('the facts of a change', () => {
  it('say which fields changed from what to what, and the revisions after it', async () => {
    expect(await detailOf('POST', '/rotate', {})).toMatchObject({
      keyRevision: 2,
      versionRevision: 1,
      changed: { primary: [1, 2], latestVersion: [1, 2] },
    });
    expect(await detailOf('POST', '/versions/1/suspend', { reason: 'x' })).toMatchObject({
      keyRevision: 3,
      versionRevision: 2,
      changed: { state: ['active', 'suspended'] },
    });
    expect(await detailOf('PATCH', '', { deletionProtection: true })).toMatchObject({
      keyRevision: 4,
      changed: { deletionProtection: [false, true] },
    });
    expect(await detailOf('PATCH', '', { labels: { team: 'other', area: 'a' } })).toMatchObject({
      changed: { labels: [['team'], ['area', 'team']] },
    });
    expect(await detailOf('PATCH', '', { labels: { team: 'third' } })).toMatchObject({
      changed: {
        labels: [
          ['area', 'team'],
          ['area', 'team'],
        ],
      },
    });
  });

  it('say what became of the record of a Kubernetes provider, by whose proof', async () => {
    const proof = 'A'.repeat(43);
    const record = { provider: 'twofold', announced: 2, retired: 0, proof: null };
    const patch = (text: string) => detailOf('PATCH', '', { labels: { 'kubernetes/c1': text } });
    expect(await patch('provider=twofold announced=2')).toMatchObject({
      changed: { providers: [{}, { c1: record }] },
    });
    expect(await patch(`provider=twofold announced=2 retired=1 proof=${proof}`)).toMatchObject({
      changed: { providers: [{ c1: record }, { c1: { ...record, retired: 1, proof } }] },
    });
  });
});
