/** `twofold conformance` on other modules than SoftHSM; what is not installed is named and skipped. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from '@jest/globals';
import { SUITES } from '../../src/crypto/suites.ts';
import type { ConformanceReportFile } from '../../src/main/conformance-report.ts';
import { OTHER_MODULES } from '../hsm/other-modules.ts';
import type { OtherToken } from '../hsm/other-modules.ts';
import { temporaryFolder } from '../hsm/token-fixture.ts';
import { COMMAND } from './conformance-runs.ts';

function reportOn(token: OtherToken): ConformanceReportFile {
  const folder = temporaryFolder();
  const json = join(folder, 'report.json');
  const env = { PATH: process.env['PATH'] ?? '', ...token.env };
  try {
    const argv = ['conformance', ...token.argv, '--yes', '--json', json];
    const run = spawnSync(COMMAND, argv, { encoding: 'utf8', env });
    if (run.status !== 0) throw new Error(`${run.stdout}${run.stderr}`);
    return JSON.parse(readFileSync(json, 'utf8')) as ConformanceReportFile;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe.each(OTHER_MODULES.map((module) => [module.name, module] as const))(
  'conformance: %s',
  (name, { missing, serves, make }) => {
    if (missing !== undefined) process.stdout.write(`${name} was not tried: ${missing}\n`);
    const here = missing === undefined ? it : it.skip;

    here(
      'serves what README.md says, fails no check and leaves the token as it was',
      async () => {
        const token = await make();
        try {
          const report = reportOn(token);
          expect(report.summary.failed).toBe(0);
          expect(report.objects).toMatchObject({ leftovers: 0, unchanged: true });
          const served = report.suites.filter((suite) => suite.served).map(({ suite }) => suite);
          expect(served).toEqual(expect.arrayContaining([...serves]));
          expect(report.suites.map(({ suite }) => suite)).toEqual(Object.keys(SUITES));
          for (const { served: works, reason } of report.suites) expect(reason === '').toBe(works);
        } finally {
          await token.remove();
        }
      },
      120_000,
    );
  },
);
