/** Sealing, restoring and rewrapping that cannot go on: nothing half made is ever left. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { appendFileSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { statSync, symlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  it,
  jest,
} from '@jest/globals';

import { restoreFile } from '../../src/client/restore.ts';
import { rewrapFile } from '../../src/client/rewrap.ts';
import { ClientError } from '../../src/client/client-error.ts';
import { codeOf, SealedFolder } from './sealed-files.ts';
import type { KeyService } from '../../src/client/key-service.ts';

let folder: SealedFolder;
beforeAll(() => {
  folder = new SealedFolder();
});
afterAll(() => {
  folder.remove();
});

/** The service, but for one call: `act` runs first, and what it returns, if anything, is the answer. */
const butAt = (call: keyof KeyService, act: () => unknown) =>
  new Proxy(folder.service, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== 'function') return member;
      const genuine = member.bind(target) as (...given: unknown[]) => unknown;
      if (name !== call) return genuine;
      return (...given: unknown[]) => act() ?? genuine(...given);
    },
  });

const MEBIBYTE = 1_048_576;
const mount = (path: string) =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', path]).status === 0;
const canMount = (() => {
  const probe = new SealedFolder();
  const mounted = mount(probe.folder);
  if (mounted) spawnSync('umount', [probe.folder]);
  probe.remove();
  return mounted;
})();

(canMount ? describe : describe.skip)('a full disk', () => {
  let small: string;
  beforeEach(() => {
    small = folder.path('small');
    mkdirSync(small);
    expect(mount(small)).toBe(true);
  });
  afterEach(() => {
    spawnSync('umount', [small]);
    rmSync(small, { recursive: true });
  });
  const there = () => readdirSync(small);

  // Few bytes are worked on by one thread, many by several.
  it.each([30 * MEBIBYTE, 5 * MEBIBYTE])('under a sealing of %d bytes', async (size) => {
    writeFileSync(join(small, 'filler'), Buffer.alloc(21 * MEBIBYTE));
    const source = folder.path('source');
    writeFileSync(source, randomBytes(size));
    const options = { chunkSize: MEBIBYTE };
    const seal = folder.sealTo(source, join(small, 'sealed'), options);
    expect(await codeOf(seal)).toBe('storage_full');
    expect(there()).toEqual(['filler']);
    rmSync(source);
  });

  it.each([30 * MEBIBYTE, 5 * MEBIBYTE])('under a restoring of %d bytes', async (size) => {
    writeFileSync(join(small, 'filler'), Buffer.alloc(21 * MEBIBYTE));
    const path = await folder.seal(randomBytes(size), { chunkSize: MEBIBYTE });
    const target = join(small, 'restored');
    const signers = await folder.signers();
    const restore = restoreFile({ service: folder.service, path, signers, target });
    expect(await codeOf(restore)).toBe('storage_full');
    expect(there()).toEqual(['filler']);
  });

  it('under a rewrap leaves the file as it was', async () => {
    const source = folder.path('source');
    writeFileSync(source, randomBytes(14 * MEBIBYTE));
    const path = join(small, 'sealed');
    await folder.sealTo(source, path, { chunkSize: MEBIBYTE });
    const before = readFileSync(path);
    folder.service.rotate('model');
    const rewrap = rewrapFile({ service: folder.service, path });
    expect(await codeOf(rewrap)).toBe('storage_full');
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(there().sort()).toEqual(['sealed', 'sealed.manifest']);
    rmSync(source);
  });
});

describe('an interruption', () => {
  /** Aborts when the service is asked for this. */
  const abortedAt = (call: keyof KeyService) => {
    const controller = new AbortController();
    return { service: butAt(call, () => controller.abort()), signal: controller.signal };
  };

  it('of a sealing leaves neither file', async () => {
    const source = folder.path('source');
    writeFileSync(source, randomBytes(100_000));
    for (const call of ['createDataKey', 'sign'] as const) {
      const seal = folder.sealTo(source, folder.path('sealed'), abortedAt(call));
      expect(await codeOf(seal)).toBe('interrupted');
      expect(readdirSync(folder.folder).filter((name) => /^sealed|partial/u.test(name))).toEqual(
        [],
      );
    }
  });

  it('of a restoring leaves no file', async () => {
    const path = await folder.seal(randomBytes(100_000));
    const target = folder.path('restored');
    const options = { path, target, signers: await folder.signers(), ...abortedAt('unwrap') };
    expect(await codeOf(restoreFile(options))).toBe('interrupted');
    expect(readdirSync(folder.folder)).not.toContain('restored');
    folder.assertNothingTemporary();
  });
});

describe('a service that fails', () => {
  const failing = (call: keyof KeyService, code: 'service_unreachable' | 'hsm_unavailable') =>
    butAt(call, () => Promise.reject(new ClientError(code, 'not now')));

  it.each(['publicKey', 'createDataKey', 'sign'] as const)('at %s leaves nothing', async (call) => {
    const source = folder.path('source');
    writeFileSync(source, randomBytes(100_000));
    const service = failing(call, 'service_unreachable');
    const seal = folder.sealTo(source, folder.path('sealed'), { service });
    expect(await codeOf(seal)).toBe('service_unreachable');
    expect(readdirSync(folder.folder).filter((name) => /^sealed|partial/u.test(name))).toEqual([]);
  });

  it('keeps its own code', async () => {
    const path = await folder.seal(randomBytes(10));
    const target = folder.path('restored');
    const service = failing('unwrap', 'hsm_unavailable');
    const restore = restoreFile({ service, path, target, signers: await folder.signers() });
    expect(await codeOf(restore)).toBe('hsm_unavailable');
  });

  it('to answer is not asked for each recipient', async () => {
    const recipients = ['model', 'model', 'model'];
    const path = await folder.seal(randomBytes(10), { recipients });
    const target = folder.path('restored');
    const signers = await folder.signers();
    for (const [code, calls] of [
      ['service_unreachable', 1],
      ['hsm_unavailable', 3],
    ] as const) {
      let asked = 0;
      const service = butAt('unwrap', () => {
        asked += 1;
        return Promise.reject(new ClientError(code, 'not now'));
      });
      expect(await codeOf(restoreFile({ service, path, target, signers }))).toBe(code);
      expect(asked).toBe(calls);
    }
  });

  it('is not believed when its signature is of something else', async () => {
    const source = folder.path('source');
    writeFileSync(source, randomBytes(10));
    const signature = await folder.service.sign('signer', {
      digest: randomBytes(64),
      signatureContext: new Uint8Array(),
      keyVersion: 1,
    });
    const service = butAt('sign', () => Promise.resolve(signature));
    const seal = folder.sealTo(source, folder.path('sealed'), { service });
    expect(await codeOf(seal)).toBe('unexpected_answer');
    expect(readdirSync(folder.folder)).not.toContain('sealed');
    folder.assertNothingTemporary();
  });
});

describe('a folder that cannot be flushed', () => {
  let sync: { mockRestore(): void };
  const failing = async (code: string) => {
    const handle = await open(folder.folder, 'r');
    const of = Object.getPrototypeOf(handle) as FileHandle;
    await handle.close();
    const error = Object.assign(new Error(`${code}: fsync`), { code, syscall: 'fsync' });
    sync = jest.spyOn(of, 'sync').mockRejectedValue(error);
  };
  afterEach(() => {
    sync.mockRestore();
  });

  // What a network share says whose file system has no such operation.
  it.each(['EINVAL', 'EBADF', 'ENOTSUP'])(
    'as there is no such thing (%s) holds nothing up',
    async (code) => {
      await failing(code);
      const path = await folder.seal(randomBytes(100));
      folder.service.rotate('model');
      expect(await rewrapFile({ service: folder.service, path })).toMatchObject({ changed: 1 });
      expect(await folder.restore(path)).toHaveLength(100);
    },
  );

  it('leaves no sealed file, and a rewrapped one with a code of its own', async () => {
    const path = await folder.seal(randomBytes(100));
    const before = readFileSync(path);
    folder.service.rotate('model');
    await failing('EIO');
    const source = folder.path('source');
    writeFileSync(source, randomBytes(100));
    expect(await codeOf(folder.sealTo(source, folder.path('another')))).toBe('file_failed');
    expect(readdirSync(folder.folder).filter((name) => name.startsWith('another'))).toEqual([]);
    const rewrap = rewrapFile({ service: folder.service, path });
    expect(await codeOf(rewrap)).toBe('not_durable');
    expect(readFileSync(path).equals(before)).toBe(false);
    folder.assertNothingTemporary();
    expect(await rewrapFile({ service: folder.service, path })).toMatchObject({ changed: 0 });
  });
});

describe('a file', () => {
  it('that is no plain one is refused at once', async () => {
    const pipe = folder.path('pipe');
    spawnSync('mkfifo', [pipe]);
    for (const source of [folder.folder, pipe, '/dev/zero', folder.path('missing')]) {
      expect(await codeOf(folder.sealTo(source, folder.path('sealed')))).toBe('file_failed');
    }
    folder.assertNothingTemporary();
  });

  it('that has more than its size says is refused', async () => {
    expect(statSync('/proc/self/status').size).toBe(0);
    const target = folder.path('sealed');
    expect(await codeOf(folder.sealTo('/proc/self/status', target))).toBe('source_changed');
    expect(readdirSync(folder.folder).filter((name) => /^sealed|partial/u.test(name))).toEqual([]);
  });

  it('that grows while its sealing waits is refused', async () => {
    const source = folder.path('source');
    writeFileSync(source, randomBytes(100));
    const service = butAt('createDataKey', () => appendFileSync(source, 'x'));
    const seal = folder.sealTo(source, folder.path('sealed'), { service });
    expect(await codeOf(seal)).toBe('source_changed');
    expect(readdirSync(folder.folder)).not.toContain('sealed');
  });

  it('behind a symbolic link is rewrapped in its place, with its mode', async () => {
    const path = await folder.seal(randomBytes(100));
    const link = folder.path('link');
    symlinkSync(path, link);
    spawnSync('chmod', ['640', path]);
    folder.service.rotate('model');
    const { changed } = await rewrapFile({ service: folder.service, path: link });
    expect(changed).toBe(1);
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(await folder.restore(path)).toHaveLength(100);
  });
});
