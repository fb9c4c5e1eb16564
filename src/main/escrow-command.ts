/** `twofold hsm escrow`: the generations of the root, wrapped for the recovery key, into the database. */
import { readFileSync } from 'node:fs';

import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import { moduleEnvironment } from '../config.ts';
import type { Config } from '../config.ts';
import { nativeEngine } from '../crypto/native-engine.ts';
import { TwofoldError } from '../errors.ts';
import { runEscrowCeremony } from '../hsm/run-ceremony.ts';
import { isLive } from '../keyring/root-opening.ts';
import { decodePublicKey, fingerprintText } from '../recovery/key.ts';
import { openStore } from '../store/store.ts';
import { tokenPlace } from './device.ts';
import { databaseUrls } from './doctor-command.ts';
import { SILENT } from './silent-log.ts';
import { Unwinding } from './unwinding.ts';

const FLAGS = { recovery: 'value', 'so-pin-file': 'value' } as const;

/** @throws TwofoldError invalid_value */
export function readRecoveryKey(file: string): Uint8Array {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    throw new TwofoldError('invalid_value', `${file} cannot be read: ${code}.`);
  }
  return decodePublicKey(nativeEngine, text);
}

/** What a ceremony needs of the configured token. */
export async function ceremonyPlace(config: Config, soPinFile: string) {
  const place = await tokenPlace(config, SILENT, false);
  const { moduleParameters } = config.hsm;
  return {
    module: place.module,
    ...(moduleParameters === undefined ? {} : { moduleParameters }),
    tokenSelector: place.selector,
    pinFile: place.pinFile,
    soPinFile,
    stateDir: config.dataDir,
    softhsmConf: place.softhsmConf,
    environment: moduleEnvironment(),
  };
}

/**
 * Every generation in use that is not wrapped for this key yet, one ceremony each: run again after a kill, it goes
 * on with the next.
 */
export async function escrowCommand(
  config: Config,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<void> {
  const parsed = parseFlags(argv, FLAGS);
  requireNothingMore(parsed);
  const one = (name: string) => parsed.values.get(name)?.[0];
  const [file, soPinFile] = [one('recovery'), one('so-pin-file')];
  if (file === undefined || soPinFile === undefined) {
    throw new TwofoldError('invalid_value', '--recovery FILE and --so-pin-file FILE are needed.');
  }
  const publicKey = readRecoveryKey(file);
  const unwinding = new Unwinding((step, error) => {
    process.emitWarning(`${step} could not be closed: ${String(error)}`);
  });
  try {
    const { tls, caFile } = config.database;
    const { app } = await databaseUrls(config, unwinding);
    const store = openStore({ url: app, tls, caFile, max: 2 });
    unwinding.add('database pool', () => store.close());
    const place = await ceremonyPlace(config, soPinFile);
    const there = await store.backups.escrowed(publicKey);
    const escrowed: number[] = [];
    for (const { generation, installation, state } of await store.roots.generations()) {
      // One that was retired has gone from the token, and nothing is under it.
      if (!isLive({ state }) || there.includes(generation)) continue;
      const root = { generation, installation };
      const escrow = await runEscrowCeremony({ ...place, root, publicKey });
      await store.backups.addEscrow({ ...escrow, generation, installation });
      escrowed.push(generation);
    }
    print(JSON.stringify({ escrowed, fingerprint: fingerprintText(publicKey) }));
  } finally {
    await unwinding.unwind();
  }
}
