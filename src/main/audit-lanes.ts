/**
 * The audit log of this process: first what earlier ones left in their spools, then lanes of its own, and
 * with a grace a spool and what changes wait for.
 */
import { join } from 'node:path';

import { SpoolFile, keptSpools } from '../audit/grace/spool-file.ts';
import { Teller, returnSpools } from '../audit/grace/returning.ts';
import type { Returned } from '../audit/grace/returning.ts';
import { createAuditLog } from '../audit/log.ts';
import type { RunningAuditLog } from '../audit/log.ts';
import type { AuditStore } from '../audit/ports.ts';
import type { Config } from '../config.ts';
import { configurationHash } from '../config/fingerprint.ts';
import { TwofoldError } from '../errors.ts';
import { rememberedMac } from '../keyring/remembered-mac.ts';
import type { Root } from '../keyring/root.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';
import { Confirmations } from './confirmations.ts';
import type { Incarnation } from './incarnation.ts';
import { whenReachable } from './patience.ts';
import { laneCounts } from './sequencing.ts';
import type { Unwinding } from './unwinding.ts';

const FOLDER = 'spool';
/** Encryption contexts whose MAC is remembered: callers send the same few again and again. */
const REMEMBERED_VALUES = 1_000;

export interface AuditLaneParts {
  readonly config: Config;
  readonly store: Pick<Store, 'grace'>;
  /** Fenced. */
  readonly entries: AuditStore;
  readonly root: Root;
  readonly incarnation: Incarnation;
  /** From 1. */
  readonly worker: number;
  /** Whether no other worker runs yet: whoever wrote in the folder is dead. */
  readonly first: boolean;
  readonly log: Log;
}

export interface AuditLanes {
  readonly audit: RunningAuditLog;
  readonly confirmations: Confirmations;
}

/** Both lanes are open, and `system.start` is durable, when it resolves. */
export async function openAuditLanes(
  parts: AuditLaneParts,
  unwinding: Unwinding,
): Promise<AuditLanes> {
  const { config, store, entries, root, incarnation, log } = parts;
  const { epoch, id: instance, lease } = incarnation;
  const returned = await returnLeft(parts, unwinding);
  unwinding.check();
  const confirmations = new Confirmations({
    store: store.grace,
    instance,
    known: () => epoch.current,
    learn: incarnation.refresh,
    onFenced: (ids) => log.warn({ ids }, 'instances that nobody could reach were fenced'),
  });
  unwinding.add('waits of changes', () => confirmations.stop());
  const folder = join(config.dataDir, FOLDER);
  const tell = (one: Returned): Promise<unknown> => audit.recordOwn('audit.spool', { ...one });
  const teller = new Teller({
    folder,
    record: tell,
    onTrouble: (err) =>
      log.warn({ err }, 'the audit log could not be told of a lost spool; trying on'),
    isOver: () => unwinding.begun,
  });
  const onKept = (): void => void teller.tellAtLast(ownPrefix(parts));
  const audit: RunningAuditLog = createAuditLog({
    store: entries,
    ...{ mac: root.auditMac, values: rememberedMac(root.valueMac, REMEMBERED_VALUES) },
    epoch,
    instance,
    zone: config.zone.name,
    started: { configuration: configurationHash(config) },
    confirmed: confirmations.settle,
    grace: lease.enabled ? { lease, store: store.grace, ...spooling(parts), onKept } : undefined,
  });
  await audit.start();
  incarnation.announce(() => laneCounts(audit));
  unwinding.add('audit lanes', async () => {
    // Once fenced, no last entry can be written.
    const { closed } = await audit.stop(incarnation.end === null ? undefined : 0);
    if (!closed) throw new TwofoldError('audit_unavailable', 'The last entries are not durable.');
  });
  for (const one of returned) if (one.state === 'returned') await tell(one);
  await teller.tell(prefixOf(parts));
  return { audit, confirmations };
}

/** A name is used once: another outage of the same lane has another file. */
function spooling({ config, incarnation, worker, log }: AuditLaneParts) {
  const folder = join(config.dataDir, FOLDER);
  const instance = incarnation.id;
  let files = 0;
  return {
    open: (lane: number) => {
      files += 1;
      const name = `w${String(worker)}-${instance}-${String(lane)}-${String(files)}`;
      return SpoolFile.create(folder, name, { instance, lane });
    },
    onTrouble: (err: unknown) => log.error({ err }, 'the audit spool failed'),
  };
}

const ownPrefix = ({ worker }: Pick<AuditLaneParts, 'worker'>): string => `w${String(worker)}-`;

/** Of this worker's predecessors; where no other runs, of all. */
const prefixOf = (parts: Pick<AuditLaneParts, 'worker' | 'first'>): string =>
  parts.first ? 'w' : ownPrefix(parts);

async function returnLeft(
  lanes: AuditLaneParts,
  unwinding: Unwinding,
): Promise<readonly Returned[]> {
  const { config, store, entries, root, log } = lanes;
  const folder = join(config.dataDir, FOLDER);
  const prefix = prefixOf(lanes);
  const kept = await keptSpools(folder, prefix);
  if (kept.length > 0) log.warn({ folder, kept }, 'spools whose entries were lost are kept');
  const parts = { store: store.grace, entries, mac: root.auditMac, folder, prefix };
  const returned: Returned[] = [];
  try {
    await whenReachable(() => returnSpools(parts, returned), unwinding);
  } finally {
    // Said whatever comes of the start.
    for (const one of returned) say(one, log);
  }
  return returned;
}

function say(one: Returned, log: Log): void {
  if (one.state === 'returned')
    log.info(one, 'entries of the last process came back from its spool');
  else log.error(one, 'entries of the last process are lost: its spool is kept beside');
}
