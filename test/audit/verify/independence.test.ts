/** The verifier shares nothing with the service but the tree and its notes. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, it } from '@jest/globals';

const audit = resolve(import.meta.dirname, '../../../src/audit');

/** What files of a folder import, from `src/` on; Node's own modules as they are named. */
function importsOf(folder: string): string[] {
  const names = readdirSync(join(audit, folder));
  expect(names.length).toBeGreaterThan(5);
  const all = names.flatMap((name) => {
    const path = join(audit, folder, name);
    const found = readFileSync(path, 'utf8').matchAll(/\bfrom '([^']+)'/gu);
    return [...found].map(([, from = '']) =>
      from.startsWith('.') ? resolve(path, '..', from).slice(audit.length - 'audit'.length) : from,
    );
  });
  return [...new Set(all)];
}

const TREE = [/^node:crypto$/, /^audit\/tree\//, /^errors\.ts$/, /^crypto\/(bytes|base64)\.ts$/];

it('imports the tree, Node and errors alone', () => {
  const allowed = [...TREE, /^node:(fs|path)$/, /^audit\/verify\//];
  const others = importsOf('verify').filter((from) => !allowed.some((each) => each.test(from)));
  expect(others).toEqual([]);
});

it('so does the tree', () => {
  const others = importsOf('tree').filter((from) => !TREE.some((each) => each.test(from)));
  expect(others).toEqual([]);
});
