/** `twofold conformance` on other modules than SoftHSM; what is not installed is named and skipped. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from '@jest/globals';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { SUITES } from '../../src/crypto/suites.ts';
import type { ConformanceReportFile } from '../../src/main/conformance-report.ts';
import { createHsm } from '../../src/hsm/pool.ts';
import { runRootCeremony } from '../../src/hsm/run-ceremony.ts';
import { nss, OTHER_MODULES } from '../hsm/other-modules.ts';
import type { OtherToken } from '../hsm/other-modules.ts';
import { ROOT, SILENT, temporaryFolder } from '../hsm/token-fixture.ts';
import { COMMAND } from './conformance-runs.ts';

function reportOn(token: OtherToken): ConformanceReportFile {
  const folder = temporaryFolder();
  const json = join(folder, 'report.json');
  const env = { ...COMMAND_ENVIRONMENT, ...token.env };
  try {
    const argv = ['conformance', ...token.argv, '--yes', '--json', json];
    const run = spawnSync(COMMAND, argv, { encoding: 'utf8', env });
    if (run.status !== 0) throw new Error(`${run.stdout}${run.stderr}`);
    return JSON.parse(readFileSync(json, 'utf8')) as ConformanceReportFile;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const here = (name: string) =>
  OTHER_MODULES.some((module) => module.name === name && module.missing === undefined);

(here('NSS softokn') ? describe : describe.skip)('a module with parameters of its own', () => {
  it('gets a root by the ceremony and serves the port', async () => {
    const token = await nss();
    const stateDir = temporaryFolder();
    if (token.options === undefined) throw new Error('no options');
    const { options } = token;
    try {
      const made = await runRootCeremony({ ...options, stateDir, ...ROOT, allowExtractable: true });
      expect(made).toEqual({ made: true, root: ROOT, custody: 'extractableByPinHolder' });
      const more = { workers: 2, queueLimit: 16, deadlineMs: 10_000, log: SILENT };
      const hsm = await createHsm({ ...options, ...more, stateDir });
      await hsm.useRoot(ROOT);
      expect(hsm.status()).toMatchObject({ ready: true, custody: 'extractableByPinHolder' });
      const spec = { kind: 'aes', bits: 256 } as const;
      const material = await hsm.generate(spec, { custody: 'hsm-wrapped' });
      const key = { id: 'a', spec, material };
      const text = Buffer.from('text');
      const opened = await hsm.decrypt(key, await hsm.encrypt(key, text, text), text);
      expect(Buffer.from(opened.reveal()).toString()).toBe('text');
      await hsm.close();
    } finally {
      await token.remove();
      rmSync(stateDir, { recursive: true });
    }
  }, 60_000);
});

describe.each(OTHER_MODULES.map((module) => [module.name, module] as const))(
  'conformance: %s',
  (name, { missing, serves, make }) => {
    if (missing !== undefined) process.stdout.write(`${name} was not tried: ${missing}\n`);
    const run = missing === undefined ? it : it.skip;

    run(
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
