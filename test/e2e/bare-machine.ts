/**
 * This host as it was before SoftHSM was installed: its own file system under an overlay in a private
 * mount namespace, where the real apt-get and sudo install. Nothing of it reaches the host but /tmp.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// A pivot, not a chroot: user namespaces, in which the database runs, cannot be made in a chroot.
const ENTER = `set -e
mount -t tmpfs -o mode=755 twofold-machine "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work twofold-machine root
for folder in dev proc sys tmp; do mount --rbind "/$folder" "root/$folder"; done
cd root
mkdir -p mnt/host
pivot_root . mnt/host
umount -l /mnt/host
dpkg --purge libsofthsm2 softhsm2-common
echo is ready
exec sleep 3600`;

/** An account of the machine that may use sudo without a password. */
export const ACCOUNT = 'twofold-tester';

const ADD_ACCOUNT = `set -e
command -v sudo || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends sudo; }
useradd --create-home ${ACCOUNT}
echo '${ACCOUNT} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/${ACCOUNT}`;

export interface BareMachine {
  /** The command that runs `command` there, as root or as ACCOUNT; the environment is the caller's. */
  inside(command: readonly string[], folder: string, as?: string): string[];
  /** What a shell there prints, both streams. */
  shell(script: string): { readonly status: number | null; readonly output: string };
  remove(): Promise<void>;
}

const canMount = (): boolean => {
  const script = `mount -t tmpfs none /mnt && cd /mnt && mkdir u w r &&
    mount -t overlay -o lowerdir=/,upperdir=u,workdir=w none r && test -x /usr/bin/dpkg`;
  return spawnSync('unshare', ['--mount', 'sh', '-c', script]).status === 0;
};

/** Whether such machines can be made here: Debian, and the privilege to mount. In CI they must be. */
export const hasBareMachine = ((): boolean => {
  const possible = canMount();
  if (!possible && process.env['CI'] === 'true') {
    throw new Error('no overlay can be mounted here: the installation of SoftHSM cannot be tested');
  }
  return possible;
})();

const untilReady = async (holder: ChildProcess): Promise<void> => {
  let output = '';
  const exited = once(holder, 'exit').then(() => 'exit');
  for (const stream of [holder.stdout, holder.stderr]) {
    stream?.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
  }
  while (!output.includes('is ready')) {
    const event = await Promise.race([exited, once(holder.stdout ?? holder, 'data')]);
    if (event === 'exit') throw new Error(`no bare machine:\n${output}`);
  }
};

const mountNamespace = (pid: string): string | undefined => {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`);
  } catch {
    return undefined;
  }
};

/** Ends the machine's processes: what a failed test left there, and at last the holder. */
const powerOff = async (holder: ChildProcess): Promise<void> => {
  const ended = holder.exitCode !== null || holder.signalCode !== null;
  const own = ended ? undefined : mountNamespace(String(holder.pid));
  if (own === undefined || own === mountNamespace('self')) return;
  const exit = once(holder, 'exit');
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/u.test(name))) {
    if (mountNamespace(pid) === own) spawnSync('kill', ['-9', pid]);
  }
  await exit;
};

/** Makes a machine without SoftHSM; `account` adds sudo and ACCOUNT. */
export const openBareMachine = async (account = false): Promise<BareMachine> => {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-machine-'));
  const holder = spawn(
    'unshare',
    ['--mount', '--propagation', 'private', 'sh', '-c', ENTER, 'sh', folder],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const inside: BareMachine['inside'] = (command, at, as = 'root') => [
    'nsenter',
    `--target=${String(holder.pid)}`,
    '--mount',
    `--wdns=${at}`,
    ...(as === 'root' ? [] : ['setpriv', `--reuid=${as}`, `--regid=${as}`, '--init-groups']),
    ...command,
  ];
  const machine: BareMachine = {
    inside,
    shell: (script) => {
      const [file = '', ...args] = inside(['sh', '-c', script], '/');
      const { status, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8' });
      return { status, output: stdout + stderr };
    },
    remove: async () => {
      await powerOff(holder);
      rmSync(folder, { recursive: true, force: true });
    },
  };
  try {
    await untilReady(holder);
    if (account) {
      const { status, output } = machine.shell(ADD_ACCOUNT);
      if (status !== 0) throw new Error(`no account could be made:\n${output}`);
    }
  } catch (error) {
    await machine.remove();
    throw error;
  }
  return machine;
};
