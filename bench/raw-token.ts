/** Raw rates of the token of a data folder, as JSON; a process of its own, for the module's sake. */
import { join } from 'node:path';

import { findSoftHsm } from '../src/config.ts';
import { measureRawToken } from '../src/hsm/bench-raw.ts';

const [dataDir = '.twofold'] = process.argv.slice(2);
const hsm = join(dataDir, 'hsm');
const module = findSoftHsm();
if (module === undefined) throw new Error('SoftHSM is not installed');
const result = await measureRawToken({
  module,
  tokenSelector: { label: 'twofold-development' },
  pinFile: join(hsm, 'user.pin'),
  env: { SOFTHSM2_CONF: join(hsm, 'softhsm2.conf') },
  milliseconds: 2_000,
});
process.stdout.write(JSON.stringify(result));
