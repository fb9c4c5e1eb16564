/** What deploy/README.md says that its commands print. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { migrationNames } from '../../src/store/migrate.ts';
import { PROJECT } from './image.ts';

const page = readFileSync(join(PROJECT, 'deploy/README.md'), 'utf8');

describe('deploy/README.md', () => {
  it('shows what `twofold migrate` prints: the names of all migrations, cut or not', () => {
    const [, list = ''] = /`\{"applied":\[([^\]]+)\]\}`/u.exec(page) ?? [];
    const isCut = list.endsWith(',…');
    const shown = JSON.parse(`[${isCut ? list.slice(0, -2) : list}]`) as unknown[];
    const names = migrationNames();
    expect(shown).toEqual(isCut ? names.slice(0, shown.length) : names);
    expect(shown.length).toBeGreaterThan(0);
  });
});
