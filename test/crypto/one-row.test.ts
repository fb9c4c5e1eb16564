/** A suite is a row of the table: no other source says its name, so that a new row changes nothing else. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { SUITES } from '../../src/crypto/suites.ts';

const SRC = join(import.meta.dirname, '../../src');
const TABLE = /^crypto\/(?:kem|signature|symmetric)-suites\.ts$/u;
/** Published values of some suites, tried at start; a new row is tried by those of its parts. */
const KNOWN_ANSWERS = /^crypto\/known-answers[a-z-]*\.ts$/u;

/** Not of suites whose name is that of their one algorithm: engines and codecs have to tell those apart. */
const PRIMITIVES = new Set(
  Object.values(SUITES).flatMap(({ parts }) => parts.map(({ algorithm }) => algorithm)),
);
const NAMES = Object.keys(SUITES).filter((id) => !PRIMITIVES.has(id));

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(
  (path) =>
    path.endsWith('.ts') &&
    !path.startsWith('store/generated/') &&
    !TABLE.test(path) &&
    !KNOWN_ANSWERS.test(path),
);

/** The names that whole strings of a source are; comments do not count. */
function namedIn(text: string): readonly string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gmu, '');
  const strings = new Set([...code.matchAll(/['"`]([\w-]+)['"`]/gu)].map(([, inside]) => inside));
  return NAMES.filter((id) => strings.has(id));
}

describe('the table of suites', () => {
  it('is the one place that names them', () => {
    expect(files.length).toBeGreaterThan(300);
    const found = files.flatMap((path) =>
      namedIn(readFileSync(join(SRC, path), 'utf8')).map((id) => `${path}: ${id}`),
    );
    // An example of the API's documentation, and the keys that the tour makes.
    expect(found).toEqual(
      expect.arrayContaining(['contract/scalars.ts: MLKEM768-P256', 'main/tour.ts: MLKEM768-P256']),
    );
    expect(
      found.filter((place) => !/^(?:contract\/scalars|main\/tour)\.ts: /u.test(place)),
    ).toEqual([]);
  });

  it('is where a name would be found', () => {
    expect(namedIn("/* 'HS256' */ find('A256GCM');")).toEqual(['A256GCM']);
    const rows = ['kem', 'signature', 'symmetric'].flatMap((kind) =>
      namedIn(readFileSync(join(SRC, `crypto/${kind}-suites.ts`), 'utf8')),
    );
    expect(rows).toEqual(
      expect.arrayContaining(['MLKEM768-P256', 'RSA-PSS-3072-SHA384', 'A256GCM']),
    );
  });
});
