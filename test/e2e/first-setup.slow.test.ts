/**
 * `npm start` of a pristine clone on a machine that has no PKCS#11 module yet, as root and as a named
 * account with sudo: the real apt-get, sudo, npm and terminal.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ACCOUNT, hasBareMachine, openBareMachine } from './bare-machine.ts';
import type { BareMachine } from './bare-machine.ts';
import { openWorkshop } from './fresh-clone.ts';
import type { FreshClone, RunOptions, Workshop } from './fresh-clone.ts';

const COMMAND = '(apt-get update && )?apt-get install -y --no-install-recommends libsofthsm2';
const BY_SUDO = new RegExp(`^setup: {3}sudo sh -c '${COMMAND}'\\r?$`, 'mu');
const START = ['npm', 'start'] as const;

const free = { TWOFOLD_PORT: '0', TWOFOLD_METRICS_PORT: '0' };

const installed = (machine: BareMachine): boolean =>
  machine.shell('dpkg -s libsofthsm2 && ls /usr/lib/softhsm/libsofthsm2.so').status === 0;

/** Waits for words in what a process prints; its end before them is an error. */
class Watched {
  readonly child: ChildProcess;
  output = '';

  constructor(child: ChildProcess) {
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => (this.output += chunk.toString('utf8')));
    }
  }

  async until(words: string, seconds: number): Promise<void> {
    const end = performance.now() + seconds * 1000;
    while (!this.output.includes(words)) {
      if (this.child.exitCode !== null || performance.now() > end) {
        throw new Error(`"${words}" was not printed:\n${this.output}`);
      }
      await sleep(50);
    }
  }

  type(text: string): void {
    this.child.stdin?.write(text);
  }

  async end(): Promise<number | null> {
    if (this.child.exitCode === null) await once(this.child, 'close');
    return this.child.exitCode;
  }
}

/** The commands that a start printed, run as its user. */
const tour = async (clone: FreshClone, output: string, options: RunOptions): Promise<void> => {
  const text = output.replaceAll('\r\n', '\n');
  const [, commands = ''] = /in this folder:\n\n([\s\S]*?)\n\nCtrl-C/u.exec(text) ?? [];
  const toured = await clone.run(['bash', '-c', `set -e\n${commands}`], options);
  expect(toured.output.match(/same\n/gu)).toHaveLength(2);
};

const describeMachine = hasBareMachine ? describe : describe.skip;

describeMachine('the first start where no module is installed', () => {
  let workshop: Workshop;
  let clone: FreshClone;
  let machine: BareMachine;

  beforeAll(async () => {
    workshop = openWorkshop();
    clone = await workshop.clone(10);
    machine = await openBareMachine();
  }, 120_000);

  afterAll(async () => {
    await machine.remove();
    workshop.remove();
  });

  it('is done at once for root, through the first unwrap', async () => {
    expect(installed(machine)).toBe(false);
    const options = { machine, environment: free };
    const started = new Watched(clone.start(START, options));
    await started.until('Ctrl-C stops it.', 400);
    expect(started.output).toMatch(new RegExp(`^setup: {3}${COMMAND}$`, 'mu'));
    expect(installed(machine)).toBe(true);
    await tour(clone, started.output, options);
    process.kill(-(started.child.pid ?? 0), 'SIGINT');
    await started.end();
    await machine.remove();
  }, 600_000);

  describe('for an ordinary account with sudo', () => {
    beforeAll(async () => {
      clone.remove();
      clone = await workshop.clone(11);
      machine = await openBareMachine(true);
      clone.giveTo(Number(machine.shell(`id -u ${ACCOUNT}`).output));
    }, 120_000);

    it('prints the exact command and stops when there is no terminal', async () => {
      const { status, output } = await clone.run(START, { machine, account: ACCOUNT });
      expect(status).toBe(1);
      expect(output).toMatch(BY_SUDO);
      expect(installed(machine)).toBe(false);
      expect(existsSync(join(clone.folder, 'node_modules'))).toBe(false);
    }, 60_000);

    it('installs nothing when the answer on the terminal is no', async () => {
      const options = { machine, account: ACCOUNT, terminal: true };
      const started = new Watched(clone.start(START, options));
      await started.until('[y/N] ', 30);
      started.type('n\n');
      expect(await started.end()).toBe(1);
      expect(started.output).toMatch(BY_SUDO);
      expect(installed(machine)).toBe(false);
      expect(existsSync(join(clone.folder, 'node_modules'))).toBe(false);
    }, 60_000);

    it('installs by sudo after a yes and goes on to the first unwrap and Ctrl-C', async () => {
      const options = { machine, account: ACCOUNT, environment: free };
      const started = new Watched(clone.start(START, { ...options, terminal: true }));
      await started.until('[y/N] ', 30);
      started.type('y\n');
      await started.until('Ctrl-C stops it.', 400);
      expect(installed(machine)).toBe(true);
      await tour(clone, started.output, options);
      const { uid } = statSync(join(clone.folder, '.twofold/db'));
      expect(uid).toBe(Number(machine.shell(`id -u ${ACCOUNT}`).output));
      started.type('\u0003');
      await started.end();
      expect(existsSync(join(clone.folder, '.twofold/db/cluster/postmaster.pid'))).toBe(false);
    }, 600_000);

    it('installs by sudo unasked with TWOFOLD_SETUP=yes', async () => {
      machine.shell('dpkg --purge libsofthsm2 softhsm2-common');
      expect(installed(machine)).toBe(false);
      const environment = { TWOFOLD_SETUP: 'yes' };
      const ran = await clone.run(['npm', 'run', 'prestart'], {
        machine,
        account: ACCOUNT,
        environment,
      });
      expect({ status: ran.status, output: ran.status === 0 ? '' : ran.output }).toEqual({
        status: 0,
        output: '',
      });
      expect(installed(machine)).toBe(true);
    }, 120_000);
  });
});
