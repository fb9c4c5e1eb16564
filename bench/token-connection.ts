/** The port on the token of a service's data folder, for measurements beside that service. */
import { join } from 'node:path';

import { findSoftHsm } from '../src/config.ts';
import { createHsm } from '../src/hsm/pool.ts';

/** Its root is selected; the caller closes it. */
export async function openToken(dataDir: string, deadlineMs = 3_000) {
  const folder = join(dataDir, 'hsm');
  const module = findSoftHsm();
  if (module === undefined) throw new Error('SoftHSM is not installed');
  const quiet = () => undefined;
  const hsm = await createHsm({
    module,
    tokenSelector: { label: 'twofold-development' },
    pinFile: join(folder, 'user.pin'),
    workers: 2,
    queueLimit: 512,
    deadlineMs,
    stateDir: dataDir,
    env: { SOFTHSM2_CONF: join(folder, 'softhsm2.conf') },
    log: { info: quiet, warn: quiet, error: quiet },
  });
  const [root] = await hsm.roots();
  if (root === undefined) throw new Error('the token has no root');
  await hsm.useRoot(root);
  return hsm;
}
