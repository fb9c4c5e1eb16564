/**
 * Which keys the values of etcd are under, by files that etcd 3.4.23 wrote: 40 Secrets under version 1, 30 of them
 * written again under 2, one of 200 kB, one removed, values of other providers and in the clear.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { EtcdSnapshot } from '../../src/kubernetes/etcd-snapshot.ts';
import { readDump } from '../../src/kubernetes/etcd-dump.ts';
import { countStoredKeys, namingUpTo } from '../../src/kubernetes/stored-keys.ts';
import type { StoredKeys } from '../../src/kubernetes/stored-keys.ts';
import { kmsPluginCommand } from '../../src/main/kms-plugin-command.ts';
import { KEY_UUID, encryptedObject, etcdValue, keyIdOfVersion } from './stored-objects.ts';

let folder: string;
const unpacked = (name: string) =>
  gunzipSync(readFileSync(join(import.meta.dirname, 'etcd-files', `${name}.gz`)));
const [snap, compacted, dump] = ['snap.db', 'compacted.db', 'dump.json'].map(unpacked) as [
  Buffer,
  Buffer,
  Buffer,
];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'etcd-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const fileOf = (bytes: Uint8Array): string => {
  const path = join(folder, 'file');
  writeFileSync(path, bytes);
  return path;
};

async function inSnapshot(bytes: Uint8Array): Promise<StoredKeys> {
  const snapshot = new EtcdSnapshot(fileOf(bytes));
  try {
    return await countStoredKeys(snapshot.records());
  } finally {
    snapshot.close();
  }
}

async function* inPieces(text: string, length: number): AsyncGenerator<string> {
  for (let at = 0; at < text.length; at += length) {
    yield await Promise.resolve(text.slice(at, at + length));
  }
}
const inDump = (text: string, length = 65_536) => countStoredKeys(readDump(inPieces(text, length)));

const counted = ({ under }: StoredKeys) =>
  under.map(({ kind, name, reference, current, earlier }) => [
    kind,
    name,
    reference?.keyVersion ?? null,
    current,
    earlier,
  ]);

const sealedUnder = (keyId: string, name = 'twofold'): Buffer =>
  etcdValue(encryptedObject({ keyId, ciphertext: Buffer.alloc(50, 1), annotations: {} }), name);

const NOW = [
  ['aescbc', 'key1', null, 1, 0],
  ['identity', '', null, 5, 0],
  ['kms-v2', 'twofold', 1, 10, 0],
  ['kms-v2', 'twofold', 2, 31, 0],
  ['kms-v2', 'vault', null, 1, 0],
];
const VERSION_1 = { keyId: KEY_UUID, keyVersion: 1 };

describe('a snapshot of etcd', () => {
  it('says what values are under, and what earlier revisions are', async () => {
    const stored = await inSnapshot(snap);
    const earlier = NOW.map((row) => (row[2] === 1 ? [...row.slice(0, 4), 31] : row)).toSorted(
      (a, b) => Number(a[1] === 'vault') - Number(b[1] === 'vault'),
    );
    expect(stored.unreadable).toEqual([]);
    expect(counted(stored)).toEqual(earlier);
    expect(stored.values).toBe(48);
    expect(namingUpTo(stored, VERSION_1)).toMatchObject([{ current: 10, earlier: 31 }]);
  });

  it('that was compacted has no earlier ones', async () => {
    expect(counted(await inSnapshot(compacted))).toEqual(NOW);
  });

  it('as it lies in a member, without its hash, is read too', async () => {
    expect(counted(await inSnapshot(compacted.subarray(0, -32)))).toEqual(NOW);
  });

  it.each<[string, (bytes: Buffer) => Uint8Array]>([
    ['with a changed byte', (bytes) => bytes.fill(bytes[9_000] === 1 ? 2 : 1, 9_000, 9_001)],
    ['that ends early', (bytes) => bytes.subarray(0, 40_960)],
    ['that is empty', () => new Uint8Array(0)],
    ['that is something else', () => Buffer.from('{}'.repeat(10_000))],
    [
      'whose meta pages are both broken',
      (bytes) => bytes.subarray(0, -32).fill(0, 20, 30).fill(0, 4_116, 4_126),
    ],
  ])('%s is refused', async (_name, change) => {
    await expect(inSnapshot(change(Buffer.from(snap)))).rejects.toMatchObject({
      code: 'invalid_value',
    });
  });

  it('that was changed on purpose ends, whatever it says', async () => {
    // Without the hash, so that pages are what is looked at.
    const plain = snap.subarray(0, -32);
    for (let at = 8_192; at < plain.length; at += 6_131) {
      const changed = Buffer.from(plain);
      changed.writeUInt32LE(0xff_ff_ff_ff, Math.min(at, changed.length - 4));
      await inSnapshot(changed).catch((error: unknown) =>
        expect(error).toMatchObject({ code: 'invalid_value' }),
      );
    }
  });

  it('whose pages go in circles is refused', async () => {
    const changed = Buffer.from(snap.subarray(0, -32));
    let circles = 0;
    for (let at = 8_192; at < changed.length; at += 4_096) {
      if (changed.readUInt16LE(at + 8) !== 0x01) continue;
      for (let index = 0; index < changed.readUInt16LE(at + 10); index += 1) {
        changed.writeBigUInt64LE(BigInt(at / 4_096), at + 16 + index * 16 + 8);
        circles += 1;
      }
    }
    expect(circles).toBeGreaterThan(0);
    await expect(inSnapshot(changed)).rejects.toMatchObject({ code: 'invalid_value' });
  });
});

describe('a dump of etcd', () => {
  it.each([1, 7, 1_000, 1_000_000])('says the same, in pieces of %i', async (length) => {
    const text = dump.toString('latin1');
    // Byte by byte takes long for a value of 200 kB.
    const short = text.replace(/"value":"[A-Za-z0-9+/=]{100000,}"/u, `"value":"azhz"`);
    const stored = await inDump(length < 1_000 ? short : text, length);
    if (length >= 1_000) expect(counted(stored)).toEqual(NOW);
    expect(stored.values).toBe(48);
  });

  it.each<[string, (text: string) => string]>([
    ['that ends early', (text) => text.slice(0, -100)],
    ['whose last line is missing', (text) => text.slice(0, text.lastIndexOf(']') + 1)],
    [
      'of which a part was asked for',
      (text) => text.replace(/"count":48/u, '"more":true,"count":48'),
    ],
    ['that lacks a key', (text) => text.replace(/\{"key":[^}]*\},/u, '')],
    ['of values alone', () => '[]'],
    ['with a value that is not base64', (text) => text.replace(/"value":"..../u, '"value":"****')],
    ['that is empty', () => ''],
  ])('%s is refused', async (_name, change) => {
    await expect(inDump(change(dump.toString('latin1')))).rejects.toMatchObject({
      code: expect.stringMatching(/^invalid_(?:value|base64)$/u) as unknown,
    });
  });
});

describe('verify-rotation', () => {
  const run = async (...argv: string[]) => {
    const lines: string[] = [];
    const print = (line: string) => void lines.push(line);
    const code = await kmsPluginCommand(['verify-rotation', ...argv], { print, complain: print });
    return { code, text: lines.join('\n') };
  };

  it('counts, and ends well where nothing is asked', async () => {
    const { code, text } = await run('--snapshot', fileOf(snap));
    expect(code).toBe(0);
    expect(text).toContain('10 values,     31 earlier revisions  kms-v2 twofold');
    expect(text).toContain('in the clear');
  });

  it('says what is in the way of retiring a version, by name', async () => {
    const { code, text } = await run('--dump', fileOf(dump), '--key-id', keyIdOfVersion(1));
    expect(code).toBe(1);
    expect(text).toMatch(
      /REMAINS version 1: 10 values and 0 earlier revisions, such as \/registry\//u,
    );
  });

  it('proves that nothing names a version', async () => {
    const bytes = dump.toString('latin1').replace(/\{"key":[^}]*\},?/gu, (piece) => {
      const value = Buffer.from(/"value":"([^"]*)"/u.exec(piece)?.[1] ?? '', 'base64');
      const old = value.includes(keyIdOfVersion(1));
      return old ? '' : piece;
    });
    const whole = bytes.replace(/,\]/u, ']').replace('"count":48', '"count":38');
    const path = fileOf(Buffer.from(whole));
    const { code, text } = await run('--dump', path, '--key-id', keyIdOfVersion(1));
    expect([code, text]).toEqual([
      0,
      expect.stringMatching(/proof \(SHA-256 of the file\): [-_\w]{43}/u),
    ]);
    expect((await run('--dump', path, '--key-id', keyIdOfVersion(2))).code).toBe(1);
  });

  it('shows what somebody wrote into etcd as text, which begins no line and steers no terminal', async () => {
    const spoof = '\u001b[2J\nno value names version 1 of it\u009b8m\u202e';
    const pairs: readonly [string, Buffer][] = [
      [`/registry/secrets/a/${spoof}`, sealedUnder(keyIdOfVersion(1))],
      ['/registry/secrets/a/b', sealedUnder(spoof)],
      ['/registry/secrets/a/c', sealedUnder(keyIdOfVersion(2), spoof)],
    ];
    const kvs = pairs.map(([key, value]) => ({
      key: Buffer.from(key).toString('base64'),
      value: value.toString('base64'),
    }));
    const file = { header: { revision: 1 }, kvs, count: kvs.length };
    const path = fileOf(Buffer.from(JSON.stringify(file)));
    const { code, text } = await run('--dump', path, '--key-id', keyIdOfVersion(1));
    expect(code).toBe(1);
    expect(
      text.split('\n').every((line) => /^(?: {7}1 values|REMAINS version 1)/u.test(line)),
    ).toBe(true);
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/u);
    const json = (await run('--dump', path, '--json')).text;
    expect(json).toMatch(/^[ -~]*$/u);
    const { under } = JSON.parse(json) as StoredKeys;
    expect(under.map(({ keyId }) => keyId)).toContain(spoof);
  });

  it('retires nothing by a part of an etcd', async () => {
    const retire = ['--retire', '--key-id', keyIdOfVersion(1), '--key', 'k', '--cluster', 'c'];
    const { code, text } = await run('--dump', fileOf(dump), ...retire);
    expect(code).toBe(1);
    expect(text).toContain('REMAINS no namespace, and every cluster has some');
    const kvs = ['/registry/secrets/namespaces', '/registry/namespaces/default'].map((key) => ({
      key: Buffer.from(key).toString('base64'),
      value: Buffer.from('k8s').toString('base64'),
    }));
    const of = (pairs: typeof kvs) =>
      inDump(JSON.stringify({ header: { revision: 1 }, kvs: pairs, count: pairs.length }));
    expect(await of(kvs)).toMatchObject({ hasNamespaces: true });
    expect(await of(kvs.slice(0, 1))).toMatchObject({ hasNamespaces: false });
  });

  it.each([
    [[]],
    [['--snapshot', 'a', '--dump', 'b']],
    [['--snapshot', '/nonexistent']],
    [['--dump', '/nonexistent']],
    [['--dump', 'a', '--key-id', 'x']],
    [['--dump', 'a', '--retire']],
    [['--frobnicate']],
  ])('refuses %j', async (argv) => {
    await expect(run(...argv)).rejects.toMatchObject({ code: 'invalid_value' });
  });
});
