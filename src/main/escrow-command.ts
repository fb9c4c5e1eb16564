/** `twofold hsm escrow`: the generations of the root, wrapped for the recovery key, into the database. */
import { attested, isAttested } from '../backup/escrow-mac.ts';
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import { moduleEnvironment } from '../config.ts';
import type { Config } from '../config.ts';
import { nativeEngine } from '../crypto/native-engine.ts';
import { TwofoldError } from '../errors.ts';
import { runEscrowCeremony } from '../hsm/run-ceremony.ts';
import { isLive, openRoot } from '../keyring/root-opening.ts';
import type { Root } from '../keyring/root.ts';
import { UsageCounters } from '../keyring/usage.ts';
import { readCarriedFile } from '../recovery/carried-file.ts';
import { decodePublicKey, fingerprintText } from '../recovery/key.ts';
import type { Store } from '../store/store.ts';
import { besides, deviceBeside, instanceBeside, operator, storeBeside } from './beside.ts';
import type { InstanceBeside } from './beside.ts';
import { tokenPlace } from './device.ts';
import { SILENT } from './silent-log.ts';
import type { Unwinding } from './unwinding.ts';

const FLAGS = { recovery: 'value', 'so-pin-file': 'value' } as const;

/** @throws TwofoldError invalid_value */
export function readRecoveryKey(file: string): Uint8Array {
  return decodePublicKey(nativeEngine, readCarriedFile(file));
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
 * Every generation in use that is not wrapped for this key yet, or whose row is not the one that was
 * stored, one ceremony each: run again after a kill, it goes on with the next. An entry of the audit log
 * is durable before a wrapped root is kept.
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
  print(
    JSON.stringify(await besides((unwinding) => wrapAll(config, publicKey, soPinFile, unwinding))),
  );
}

async function wrapAll(
  config: Config,
  publicKey: Uint8Array,
  soPinFile: string,
  unwinding: Unwinding,
): Promise<object> {
  const store = await storeBeside(config, unwinding);
  const { hsm } = await deviceBeside(config, unwinding);
  const opened = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
  const place = await ceremonyPlace(config, soPinFile);
  const there = await attestedGenerations(store, publicKey, opened);
  const recoveryKey = fingerprintText(publicKey);
  const escrowed: number[] = [];
  let audit: InstanceBeside['audit'] | undefined;
  for (const { generation, installation, state } of await store.roots.generations()) {
    // One that was retired has gone from the token, and nothing is under it.
    if (!isLive({ state }) || there.has(generation)) continue;
    const root = { generation, installation };
    const made = await runEscrowCeremony({ ...place, root, publicKey });
    audit ??= (await instanceBeside(config, store, opened, unwinding)).audit;
    await audit.recordOwn('root.escrow', { generation, recoveryKey, operator: operator() });
    await store.backups.addEscrow(await attested({ ...made, ...root }, opened.auditMac));
    escrowed.push(generation);
  }
  return { escrowed, fingerprint: recoveryKey };
}

async function attestedGenerations(
  store: Store,
  publicKey: Uint8Array,
  root: Root,
): Promise<ReadonlySet<number>> {
  const found = new Set<number>();
  for (const escrow of await store.backups.escrowed(publicKey)) {
    if (await isAttested(escrow, root.auditMac)) found.add(escrow.generation);
  }
  return found;
}
