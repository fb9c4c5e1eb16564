/** What a broken or hostile service answers destroys no sealed file, and none is published that no one can read. */
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { MANIFEST_SUFFIX } from '../../src/client/seal.ts';
import { rewrapFile } from '../../src/client/rewrap.ts';
import type { SoftwareKeyService } from './software-service.ts';
import { codeOf, SealedFolder } from './sealed-files.ts';

let folder: SealedFolder;
beforeAll(() => {
  folder = new SealedFolder();
});
afterAll(() => {
  folder.remove();
});

describe('a rewrap', () => {
  const wrong: Readonly<Record<string, (envelope: Uint8Array) => Uint8Array>> = {
    garbage: () => Uint8Array.from(randomBytes(100)),
    nothing: () => new Uint8Array(0),
    'an envelope of another key': (envelope) => envelope.with(4, (envelope[4] ?? 0) ^ 1),
    'an envelope that is cut': (envelope) => envelope.slice(0, 40),
    'an older version': (envelope) => envelope.with(23, 1),
  };

  it.each(Object.entries(wrong))('answered by %s leaves the file as it was', async (_, change) => {
    folder.service.rotate('model');
    const path = await folder.seal(Buffer.from('content'));
    folder.service.rotate('model');
    const before = readFileSync(path);
    const lying = Object.assign(Object.create(folder.service) as SoftwareKeyService, {
      rewrap: async (_name: string, envelope: Uint8Array) => ({
        envelope: change(envelope),
        changed: true,
      }),
    });
    expect(await codeOf(rewrapFile({ service: lying, path }))).toBe('unexpected_answer');
    expect(readFileSync(path).equals(before)).toBe(true);
    folder.assertNothingTemporary();
    expect((await folder.restore(path)).toString()).toBe('content');
  });
});

describe('a rewrap by root', () => {
  it('leaves the file to its owner', async () => {
    if (process.geteuid?.() !== 0) return;
    const path = await folder.seal(Buffer.from('content'));
    chownSync(path, 12_345, 12_346);
    folder.service.rotate('model');
    expect(await rewrapFile({ service: folder.service, path })).toMatchObject({ changed: 1 });
    expect(statSync(path)).toMatchObject({ uid: 12_345, gid: 12_346 });
  });
});

describe('a sealing', () => {
  it('whose further envelope is none publishes nothing', async () => {
    folder.service.addWrapKey('second');
    const genuine = folder.service;
    const lying = {
      publicKey: (name) => genuine.publicKey(name),
      createDataKey: (name, bytes, binding) => genuine.createDataKey(name, bytes, binding),
      wrap: async () => Uint8Array.from(randomBytes(50)),
      unwrap: (name, envelope, binding) => genuine.unwrap(name, envelope, binding),
      rewrap: (name, envelope, binding) => genuine.rewrap(name, envelope, binding),
      sign: (name, request) => genuine.sign(name, request),
    } satisfies Partial<SoftwareKeyService>;
    const source = folder.newPath();
    writeFileSync(source, 'content');
    const target = `${source}.sealed`;
    const recipients = ['model', 'second'];
    const seal = folder.sealTo(source, target, { recipients, service: lying });
    expect(await codeOf(seal)).toBe('unexpected_answer');
    expect([target, target + MANIFEST_SUFFIX].some((path) => existsSync(path))).toBe(false);
    folder.assertNothingTemporary();
  });
});
