/** Token objects that a killed process left, removed at the start and told in the log. */
import type { RunningAuditLog } from '../audit/log.ts';
import type { Hsm } from '../hsm/port.ts';
import { removeOrphans } from '../keyring/orphans.ts';
import type { Root } from '../keyring/root.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';

export async function removeOwnOrphans(
  store: Pick<Store, 'keys'>,
  hsm: Hsm,
  { mac, installation }: Root,
  audit: Pick<RunningAuditLog, 'recordOwn'>,
  log: Log,
): Promise<void> {
  const record: RunningAuditLog['recordOwn'] = (...entry) => audit.recordOwn(...entry);
  const orphans = await removeOrphans({ hsm, store: store.keys, mac, installation, record });
  if (orphans.removed > 0) log.warn(orphans, 'orphans were removed');
  if (orphans.refused > 0) log.error(orphans, 'intents of token objects were altered or planted');
}
