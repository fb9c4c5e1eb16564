/** Generated files and where they come from; `write` makes them, `check` compares. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeConfig } from '../src/config.ts';
import { chartReference } from './chart-reference.ts';

const root = join(import.meta.dirname, '..');
const OPENAPI = 'src/http/openapi-file.ts';

const openapi = (): string => {
  const run = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', OPENAPI], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (run.status !== 0 || run.stdout === '') throw new Error(`${OPENAPI} failed:\n${run.stderr}`);
  return run.stdout;
};

const files: readonly (readonly [string, () => string])[] = [
  ['openapi.yaml', openapi],
  ['deploy/configuration.md', describeConfig],
  ['deploy/helm/twofold/values.md', chartReference],
];

const [mode] = process.argv.slice(2);
if (mode !== 'write' && mode !== 'check') {
  console.error('usage: scripts/generate write|check');
  process.exit(2);
}

let stale = 0;
for (const [name, make] of files) {
  const path = join(root, name);
  const text = make();
  if (existsSync(path) && readFileSync(path, 'utf8') === text) {
    console.log(`${name}: current`);
  } else if (mode === 'write') {
    writeFileSync(path, text);
    console.log(`${name}: written`);
  } else {
    stale += 1;
    console.error(`${name}: not current; run npm run generate`);
  }
}
process.exitCode = stale === 0 ? 0 : 1;
