import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { lockDataFolder } from '../src/data-folder.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-data-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const mode = (path: string) => statSync(path).mode & 0o7777;

describe('the data folder', () => {
  it('is made private, and tightened where it is empty or ours', async () => {
    const made = join(folder, 'made');
    (await lockDataFolder(made)).release();
    expect(mode(made)).toBe(0o700);
    writeFileSync(join(made, 'ours'), '');
    chmodSync(made, 0o755);
    (await lockDataFolder(made)).release();
    expect(mode(made)).toBe(0o700);
    const empty = join(folder, 'empty');
    mkdirSync(empty, { mode: 0o755 });
    (await lockDataFolder(empty)).release();
    expect(mode(empty)).toBe(0o700);
  });

  it.each([
    ['holds files of others', 0o755, ['a-file']],
    ['is shared by everyone', 0o1777, []],
    ['has a lock of somebody else’s making', 0o755, ['lock', 'a-file']],
  ])('that %s keeps its mode and is refused', async (_, shared, files) => {
    for (const name of files) writeFileSync(join(folder, name), 'something', { mode: 0o600 });
    chmodSync(folder, shared);
    await expect(lockDataFolder(folder)).rejects.toMatchObject({ code: 'invalid_value' });
    expect(mode(folder)).toBe(shared);
  });

  it('is made with the folders above it, none of them open to others', async () => {
    const deep = join(folder, 'a', 'b', 'c');
    (await lockDataFolder(deep)).release();
    for (const path of [join(folder, 'a'), join(folder, 'a', 'b'), deep]) {
      expect(mode(path)).toBe(0o700);
    }
  });

  it.each(['/proc/twofold', '/proc/twofold/data'])('%s is refused, and at once', async (path) => {
    await expect(lockDataFolder(path)).rejects.toMatchObject({ code: 'invalid_value' });
  });

  it('that the operator has closed may hold anything', async () => {
    writeFileSync(join(folder, 'a-file'), '');
    (await lockDataFolder(folder)).release();
    expect(mode(folder)).toBe(0o700);
  });
});

describe('workers that inherit the lock', () => {
  /** Locks the folder, gives a worker the descriptor, and says its process id. */
  const PROGRAM = `
    import { spawn } from 'node:child_process';
    import { lockDataFolder } from ${JSON.stringify(join(import.meta.dirname, '../src/data-folder.ts'))};
    const { descriptor } = await lockDataFolder(process.argv[1]);
    const stdio = ['ignore', 'ignore', 'ignore', descriptor];
    const worker = spawn('sleep', ['60'], { stdio, detached: true });
    worker.unref();
    process.stdout.write(String(worker.pid));
    setInterval(() => undefined, 1000);
  `;

  it('hold it after their supervisor was killed, and a start waits for their end', async () => {
    const argv = ['--input-type=module', '--disable-warning=ExperimentalWarning', '-e', PROGRAM];
    const holder = spawn(process.execPath, [...argv, folder], { stdio: 'pipe' });
    const [worker] = (await once(holder.stdout, 'data')) as [Buffer];
    await expect(lockDataFolder(folder)).rejects.toMatchObject({ code: 'conflict' });
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const held = spawnSync('flock', ['-n', join(folder, 'lock'), 'true']);
    expect(held.status).toBe(1);
    // By another process: this one waits for the lock without a turn for anything else.
    spawn('sh', ['-c', `sleep 0.3; kill -9 ${String(Number(worker))}`], { stdio: 'ignore' });
    (await lockDataFolder(folder)).release();
  });
});

describe('a full disk', () => {
  it('under the data folder is storage_full, also for its lock', () => {
    // A file system with one inode beside its root, in a mount namespace of its own.
    const program = `
      import { lockDataFolder } from ${JSON.stringify(join(import.meta.dirname, '../src/data-folder.ts'))};
      const error = await lockDataFolder(process.argv[1]).catch((thrown) => thrown);
      process.stdout.write(String(error.code));
    `;
    const command = `mount -t tmpfs -o nr_inodes=1,mode=700 none "$1" && exec "$2" --input-type=module -e "$3" "$1"`;
    const { stdout, stderr } = spawnSync(
      'unshare',
      ['-rm', 'sh', '-c', command, 'sh', folder, process.execPath, program],
      { encoding: 'utf8' },
    );
    expect({ stdout, stderr: stdout === '' ? stderr : '' }).toEqual({
      stdout: 'storage_full',
      stderr: '',
    });
  });
});
