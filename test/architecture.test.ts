import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { rulesAsMarkdown } from './architecture/rules.ts';
import { suitesAsMarkdown } from './architecture/suite-table.ts';
import { violations } from './architecture/violations.ts';

const root = join(import.meta.dirname, '..');

const sources = (): Map<string, string> => {
  const src = join(root, 'src');
  const paths = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.endsWith('.ts') && !path.startsWith('store/generated/'),
  );
  return new Map(paths.map((path) => [path, readFileSync(join(src, path), 'utf8')]));
};

describe('architecture', () => {
  it('holds in src', () => {
    const files = sources();
    expect(files.size).toBeGreaterThan(2);
    expect(violations(files)).toEqual([]);
  });

  const page = join(root, 'ARCHITECTURE.md');
  (existsSync(page) ? it : it.skip)('is quoted by ARCHITECTURE.md as it stands', () => {
    const cells = (text: string) => text.replace(/ +/gu, ' ').replace(/-{3,}/gu, '---');
    const text = cells(readFileSync(page, 'utf8'));
    expect(text).toContain(cells(rulesAsMarkdown()));
    expect(text).toContain(cells(suitesAsMarkdown()));
  });

  const base: [string, string][] = [
    ['errors.ts', 'export const e = 1;\n'],
    ['hsm/port.ts', 'export interface Port { x: number }\nexport const v = 1;\n'],
    ['keyring/ports.ts', "import type { Port } from '../hsm/port.ts';\nexport type P = Port;\n"],
  ];
  const planted = (path: string, text: string) => violations(new Map([...base, [path, text]]));

  it('accepts what it should', () => {
    expect(violations(new Map(base))).toEqual([]);
    expect(planted('main.ts', "import { v } from './hsm/port.ts';\nconsole.log(v);\n")).toEqual([]);
    expect(planted('config.ts', 'export const home = process.env.HOME;\n')).toEqual([]);
    expect(
      planted('http/app.ts', "import express from 'express';\nexport const x = express;\n"),
    ).toEqual([]);
  });

  it.each([
    [
      'a forbidden edge',
      'forbidden edge',
      'http/a.ts',
      "import { v } from '../hsm/port.ts';\nexport const a = v;\n",
    ],
    [
      'a value import of a type-only port',
      'forbidden edge',
      'keyring/a.ts',
      "import { v } from '../hsm/port.ts';\nexport const a = v;\n",
    ],
    [
      'a dynamic import',
      'forbidden edge',
      'http/a.ts',
      "export const a = import('../hsm/port.ts');\n",
    ],
    [
      'an import type node',
      'forbidden edge',
      'http/a.ts',
      "export type A = import('../hsm/port.ts').Port;\n",
    ],
    [
      'a forbidden worker',
      'forbidden edge',
      'http/a.ts',
      "export const a = new URL('../hsm/port.ts', import.meta.url);\n",
    ],
    [
      'a missing file',
      'no such file',
      'http/a.ts',
      "import { v } from './b.ts';\nexport const a = v;\n",
    ],
    [
      'a package elsewhere',
      'has its own part',
      'keyring/a.ts',
      "import express from 'express';\nexport const a = express;\n",
    ],
    [
      'a package not listed',
      'not in the table',
      'http/a.ts',
      "import x from 'left-pad';\nexport const a = x;\n",
    ],
    [
      'a builtin without its prefix',
      'fs: the package',
      'http/a.ts',
      "import { a } from 'fs';\nexport const b = a;\n",
    ],
    ['a default export', 'default export', 'http/a.ts', 'export default 1;\n'],
    ['a default function', 'default export', 'http/a.ts', 'export default function f() {}\n'],
    ['a barrel', 'barrel file', 'keyring/a.ts', "export { type P } from './ports.ts';\n"],
    ['export *', 'export *', 'keyring/a.ts', "export * from './ports.ts';\nexport const a = 1;\n"],
    ['an index file', 'barrel file', 'keyring/index.ts', 'export const a = 1;\n'],
    ['any', '`any`', 'keyring/a.ts', 'export const a: any = 1;\n'],
    ['non-null', '`!`', 'keyring/a.ts', 'export const f = (x?: number) => x!;\n'],
    ['process.env', 'reads process.env', 'http/a.ts', 'export const a = process.env.HOME;\n'],
    [
      'env of node:process',
      'reads process.env',
      'http/a.ts',
      "import { env } from 'node:process';\nexport const a = env;\n",
    ],
    [
      'a suite by name below the routes',
      'looks a suite up by its id',
      'keyring/a.ts',
      "import { findSuite } from '../crypto/suites.ts';\nexport const a = findSuite('A256GCM');\n",
    ],
    [
      'a suite by name out of the table',
      'looks a suite up by its id',
      'keyring/a.ts',
      "import * as all from '../crypto/suites.ts';\nexport const a = all.SUITES['A256GCM'];\n",
    ],
    ['a long file', '501 lines', 'http/a.ts', 'export {};\n'.repeat(501)],
    ['a folder that says nothing', 'folder name', 'http/utils/a.ts', 'export const a = 1;\n'],
    ['an unknown part', 'not in the table', 'services/a.ts', 'export const a = 1;\n'],
    [
      'a cycle',
      'cycle: hsm/port.ts',
      'hsm/port.ts',
      "import type { C } from './port.ts';\nexport type C2 = C;\n",
    ],
    ['a bare TODO', 'bare TODO', 'http/a.ts', '// TODO later\nexport const a = 1;\n'],
    [
      'a silent disable',
      'without its reason',
      'http/a.ts',
      '// eslint-disable-next-line eqeqeq\nexport const a = 1;\n',
    ],
  ])('refuses %s', (_name, complaint, path, text) => {
    expect(planted(path, text).join('\n')).toContain(complaint);
  });
});
