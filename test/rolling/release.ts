/** The sources of a release, made from the clone's history so that they run. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';

export const TREE = join(import.meta.dirname, '../..');

/** Prisma loads no engine where it is told of one. */
const NO_ENGINE = { PRISMA_SCHEMA_ENGINE_BINARY: '/bin/true', CHECKPOINT_DISABLE: '1' };

/** Whether this clone has the commit; a shallow one may not. */
export const hasCommit = (commit: string): boolean =>
  spawnSync('git', ['cat-file', '-e', `${commit}^{commit}`], { cwd: TREE }).status === 0;

const same = (folder: string, name: string): boolean =>
  readFileSync(join(folder, name)).equals(readFileSync(join(TREE, name)));

/** A folder with the sources of a commit, its packages and its database client; whoever asks removes it. */
export function extractRelease(commit: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-release-'));
  const archive = execFileSync('git', ['archive', '--format=tar', commit], {
    cwd: TREE,
    maxBuffer: 1 << 28,
  });
  execFileSync('tar', ['x', '-C', folder], { input: archive });
  if (same(folder, 'package-lock.json')) {
    symlinkSync(join(TREE, 'node_modules'), join(folder, 'node_modules'));
  } else {
    execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: folder });
  }
  const generated = 'src/store/generated';
  if (same(folder, 'prisma/schema.prisma')) {
    mkdirSync(join(folder, generated), { recursive: true });
    cpSync(join(TREE, generated), join(folder, generated), { recursive: true });
  } else {
    const node = execFileSync('sh', ['scripts/find-node'], { cwd: folder, encoding: 'utf8' });
    const prisma = ['node_modules/prisma/build/index.js', 'generate'];
    execFileSync(node.trim(), [...prisma, '--schema', 'prisma/schema.prisma'], {
      cwd: folder,
      env: { ...COMMAND_ENVIRONMENT, ...NO_ENGINE, HOME: folder },
      stdio: 'pipe',
    });
  }
  return folder;
}
