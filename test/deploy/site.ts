/** A site as `deploy/make-site` makes it, in a folder of the test's. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { PROJECT } from './image.ts';

export const makeSite = (folder: string, ...names: readonly string[]): string =>
  execFileSync('sh', [join(PROJECT, 'deploy/make-site'), folder, ...names], { encoding: 'utf8' });

/** A header line of the trial issuer's. */
export const trialHeader = (folder: string, ...roles: readonly string[]): string =>
  execFileSync('sh', [join(PROJECT, 'deploy/trial-token'), folder, ...roles], {
    encoding: 'utf8',
  }).trim();
