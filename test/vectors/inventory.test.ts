import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { expect, it } from '@jest/globals';

import { expand, INVENTORY } from './inventory.ts';
import { EXTRACT, FOLDER, hasPublishedFolder, report } from './published.ts';
import { WYCHEPROOF, WYCHEPROOF_FOLDER } from './wycheproof.ts';

const TESTS = resolve(import.meta.dirname, '..');
const listed = INVENTORY.flatMap(({ files }) => files.flatMap(expand));

it('every published file is in the inventory once, and nothing else', () => {
  expect(listed).toEqual([...new Set(listed)]);
  if (!hasPublishedFolder()) {
    report(`inventory of ${listed.length} published files: NOT compared, there is no ${FOLDER}`);
    return;
  }
  const there = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' });
  const files = there.filter((name) => statSync(join(FOLDER, name)).isFile());
  expect([...listed].sort()).toEqual(files.sort());
  for (const row of INVENTORY) {
    if ('because' in row)
      report(`not read, ${row.files.flatMap(expand).length} files: ${row.because}`);
  }
  report(`inventory: ${files.length} published files`);
});

it('the tests that it names are there, and each Wycheproof file has its counts', () => {
  const named = INVENTORY.flatMap((row) => ('by' in row ? row.by : []));
  expect(named.filter((name) => !existsSync(join(TESTS, name)))).toEqual([]);
  const wycheproof = listed.filter((name) => name.startsWith(WYCHEPROOF_FOLDER));
  const counted = Object.keys(WYCHEPROOF).map(
    (name) => `${WYCHEPROOF_FOLDER}/${name}_test.json.gz`,
  );
  expect(counted.sort()).toEqual(wycheproof.sort());
});

it('the extract stays under 2 MB', () => {
  const sizes = readdirSync(EXTRACT).map((name) => statSync(join(EXTRACT, name)).size);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(2_000_000);
});
