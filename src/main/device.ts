/** The HSM of a configuration: the SoftHSM token of development, or the module that is named. */
import { findSoftHsm, moduleEnvironment } from '../config.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import type { HsmLog } from '../hsm/attachment.ts';
import { ensureDevelopmentToken, hasDevelopmentToken } from '../hsm/development-token.ts';
import { createHsm } from '../hsm/pool.ts';
import type { PooledHsm } from '../hsm/pool.ts';
import { runRootCeremony } from '../hsm/run-ceremony.ts';
import type { Ceremony } from '../keyring/root-opening.ts';
import type { Unwinding } from './unwinding.ts';

/** Where a token is, and how to make its root; null where only the operator may. */
export interface TokenPlace {
  readonly module: string;
  readonly selector: { readonly slot?: number; readonly label?: string };
  readonly pinFile: string;
  readonly softhsmConf: string | undefined;
  readonly ceremony: Ceremony | null;
}

export interface Device {
  readonly hsm: PooledHsm;
  readonly pinFile: string;
  readonly ceremony: Ceremony | null;
}

async function developmentPlace(
  config: Config,
  log: HsmLog,
  mayMake: boolean,
): Promise<TokenPlace> {
  const module = findSoftHsm();
  if (module === undefined) {
    throw new TwofoldError(
      'invalid_value',
      'No PKCS#11 module is configured and SoftHSM is not installed; run scripts/setup.',
    );
  }
  if (!mayMake && !hasDevelopmentToken(config.dataDir)) {
    throw new TwofoldError(
      'integrity_failed',
      `The database holds a root, but ${config.dataDir}/hsm holds no token. Restore that folder from ` +
        'its backup; a new token would make every key unreadable and is never made here.',
    );
  }
  const environment = moduleEnvironment();
  const token = await ensureDevelopmentToken({
    dataDir: config.dataDir,
    module,
    log,
    environment,
  });
  const { softhsmConf, pinFile } = token;
  const tokenSelector = { label: token.tokenLabel };
  return {
    module,
    selector: tokenSelector,
    pinFile,
    softhsmConf,
    ceremony: async (root) => {
      await runRootCeremony({ ...token, tokenSelector, environment, ...root });
    },
  };
}

/**
 * The configured token, or the one of the data folder, which is made where it is missing if `mayMake`.
 *
 * @throws TwofoldError integrity_failed when it is missing and not to be made
 */
export async function tokenPlace(
  config: Config,
  log: HsmLog,
  mayMake: boolean,
): Promise<TokenPlace> {
  const { module, slot, tokenLabel, pinFile } = config.hsm;
  if (module === undefined) return developmentPlace(config, log, mayMake);
  if (pinFile === undefined) throw new TwofoldError('invalid_value', 'hsm.pinFile is missing.');
  return {
    module,
    selector: {
      ...(slot === undefined ? {} : { slot }),
      ...(tokenLabel === undefined ? {} : { label: tokenLabel }),
    },
    pinFile,
    softhsmConf: undefined,
    ceremony: null,
  };
}

/** `pinFile`: another than the configured one, for who has to show that he knows the PIN. */
export async function openDevice(
  config: Config,
  log: HsmLog,
  unwinding: Unwinding,
  mayMake: boolean,
  pinFile?: string,
): Promise<Device> {
  const found = await tokenPlace(config, log, mayMake);
  const place = pinFile === undefined ? found : { ...found, pinFile };
  const { module, moduleParameters, workers, queueLimit, deadlineMs } = config.hsm;
  const hsm = await createHsm({
    module: place.module,
    ...(module === undefined || moduleParameters === undefined ? {} : { moduleParameters }),
    tokenSelector: place.selector,
    pinFile: place.pinFile,
    workers,
    queueLimit,
    deadlineMs,
    stateDir: config.dataDir,
    ...(place.softhsmConf === undefined ? {} : { env: { SOFTHSM2_CONF: place.softhsmConf } }),
    log,
  });
  unwinding.add('HSM sessions', () => hsm.close());
  return { hsm, pinFile: place.pinFile, ceremony: place.ceremony };
}
