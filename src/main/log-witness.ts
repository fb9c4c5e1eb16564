/** This instance as a witness of other logs: its keys and its memory lie in the data folder. */
import { join } from 'node:path';
import { parseVkey } from '../audit/notes.ts';
import { openCosigner } from '../audit/witness/cosigner.ts';
import type { CosignerParts } from '../audit/witness/cosigner.ts';
import { WitnessStates } from '../audit/witness/state.ts';
import { Witness } from '../audit/witness/witness.ts';
import type { WitnessedLog } from '../audit/witness/witness.ts';
import type { RunningAuditLog } from '../audit/log.ts';
import type { Config } from '../config.ts';
import { logSeals } from '../keyring/log-keys.ts';
import type { Root } from '../keyring/root.ts';
import type { Log } from '../telemetry/logs.ts';
import { readTlsIdentity } from './tls-identity.ts';
import type { Unwinding } from './unwinding.ts';
import { openWitnessListener } from './witness-listener.ts';

export interface WitnessingParts extends Pick<CosignerParts, 'hsm' | 'engine'> {
  readonly config: Pick<Config, 'audit' | 'dataDir'>;
  readonly root: Root;
  readonly audit: Pick<RunningAuditLog, 'recordOwn'>;
  readonly log: Log;
}

const FOLDER = 'witness';

/** Each item is of one log, whose name its keys have. */
const logsOf = (logs: readonly { readonly vkeys: readonly string[] }[]): WitnessedLog[] =>
  logs.flatMap(({ vkeys }) => {
    const keys = vkeys.map(parseVkey).filter((key) => key !== null);
    const [first] = keys;
    return first === undefined ? [] : [{ origin: first.name, keys }];
  });

/** Answers the vkeys by which its cosignatures are known; none where it is no witness. */
export async function openLogWitness(
  { config, root, hsm, engine, audit, log }: WitnessingParts,
  unwinding: Unwinding,
): Promise<readonly string[]> {
  const { witness: settings, acceptRollback } = config.audit;
  if (settings === undefined) return [];
  const folder = join(config.dataDir, FOLDER);
  const states = new WitnessStates(folder);
  await states.open();
  const seals = logSeals(root);
  const cosigner = await openCosigner({ folder, name: settings.name, hsm, engine, seals });
  const witness = new Witness({ logs: logsOf(settings.logs), states, cosigner });
  const record = async (checkpoint: string, origin: string): Promise<void> => {
    const reason = acceptRollback?.reason ?? '';
    await audit.recordOwn('audit.witness.give-up', { origin, checkpoint, reason });
  };
  for (const checkpoint of acceptRollback?.checkpoints ?? []) {
    await witness.giveUp(checkpoint, (origin) => record(checkpoint, origin));
  }
  const { host, port, tls } = settings;
  const at = { host, port, ...(tls === undefined ? {} : { tls: readTlsIdentity(tls).options }) };
  const listener = await openWitnessListener(witness, at, (err) =>
    log.error({ err }, 'a checkpoint could not be cosigned'),
  );
  unwinding.add('witness', () => listener.close());
  log.info({ ...listener.address, vkeys: witness.vkeys }, 'this instance is a witness');
  return witness.vkeys;
}
