/** Further services on the database and the token of one that runs; they tell each other nothing. */
import { copyFileSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { SEED_FILE } from '../../src/access/development-issuer.ts';
import { findSoftHsm } from '../../src/config.ts';
import { NAME } from '../../src/name.ts';
import { findEmbedded } from '../../src/store/embedded.ts';
import { TestService } from './service.ts';

/** A service with a data folder of its own (`dataDir`: that of one that ended); stop it before the first one, whose database it uses. */
export async function startBeside(
  first: TestService,
  environment: Readonly<Record<string, string>> = {},
  dataDir = mkdtempSync(join(tmpdir(), 'twofold-e2e-')),
): Promise<TestService> {
  copyFileSync(join(first.dataDir, SEED_FILE), join(dataDir, SEED_FILE));
  const hsm = join(first.dataDir, 'hsm');
  return TestService.start({
    dataDir,
    environment: {
      ...databaseOf(first, dataDir),
      TWOFOLD_PKCS11_MODULE: findSoftHsm() ?? '',
      TWOFOLD_HSM_TOKEN_LABEL: `${NAME.tokenLabel}-development`,
      TWOFOLD_HSM_PIN_FILE: join(hsm, 'user.pin'),
      SOFTHSM2_CONF: join(hsm, 'softhsm2.conf'),
      ...environment,
    },
  });
}

/** Of the embedded one, if that is what the first has: any other the caller names. */
export function databaseOf(first: TestService, dataDir: string): Readonly<Record<string, string>> {
  const embedded = findEmbedded(first.dataDir);
  if (embedded === null) return {};
  const url = new URL(embedded.appUrl);
  const passwordFile = join(dataDir, 'database.password');
  // Services of copied folders have the same password: another test's `doctor secrets` looks for it here.
  writeFileSync(passwordFile, decodeURIComponent(url.password), { mode: 0o600 });
  url.password = '';
  return { DATABASE_URL: url.href, TWOFOLD_DATABASE_PASSWORD_FILE: passwordFile };
}
