import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from '@jest/globals';
import { temporaryFolder, tokenIn } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

let fixture: TokenFixture | undefined;

afterEach(() => {
  fixture?.remove();
  fixture = undefined;
});

describe('a development token', () => {
  it('is found again, and what a killed run left beside it is removed', async () => {
    fixture = await tokenIn(temporaryFolder());
    const home = join(fixture.folder, 'hsm');
    const [before] = readdirSync(join(home, 'tokens'));
    // Killed between the rename of the tokens and the removal of the staging folder.
    const staging = join(home, 'staging-1-0123abcd');
    mkdirSync(join(staging, 'tokens'), { recursive: true });
    writeFileSync(join(staging, 'softhsm2.conf'), '');
    await tokenIn(fixture.folder, false);
    expect(existsSync(staging)).toBe(false);
    expect(readdirSync(join(home, 'tokens'))).toEqual([before]);
  });
});
