/** Whether two processes have the same configuration; what it says of passwords is left out. */
import { createHash } from 'node:crypto';

import { presentConfig } from '../../config.ts';
import type { Config } from '../../config.ts';

export const configurationDigest = (config: Config): string =>
  createHash('sha256')
    .update(JSON.stringify(presentConfig(config)))
    .digest('hex');
