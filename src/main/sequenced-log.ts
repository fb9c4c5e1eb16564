/** The sequenced log in this process: its keys, and the sequencer that signs with them. */
import { openCheckpointKeys } from '../audit/checkpoint-keys.ts';
import type { CheckpointKeyParts, CheckpointKeys } from '../audit/checkpoint-keys.ts';
import type { RunningAuditLog } from '../audit/log.ts';
import type { LogHead } from '../audit/log-ports.ts';
import { parseAuditId } from '../audit/reader.ts';
import type { Config } from '../config.ts';
import { logSeals, logTokenIntents } from '../keyring/log-keys.ts';
import type { KeyStore } from '../keyring/ports.ts';
import type { Root } from '../keyring/root.ts';
import type { ReadinessCheck } from '../http/dependencies.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';
import type { Incarnation } from './incarnation.ts';
import { Sequencing } from './sequencing.ts';
import type { SequencingFacts } from './sequencing.ts';
import type { Unwinding } from './unwinding.ts';

const TEND_MS = 3_000;
/** With entries that wait, a checkpoint that is older is late. */
const LATE_MS = 10_000;

export interface SequencedLogParts {
  readonly config: Config;
  readonly store: Pick<Store, 'sequencer' | 'scheduler' | 'log' | 'logKeys'>;
  /** Fenced. */
  readonly keys: Pick<KeyStore, 'intendTokenObject' | 'dropIntent'>;
  readonly hsm: CheckpointKeyParts['hsm'];
  readonly engine: CheckpointKeyParts['engine'];
  readonly root: Root;
  readonly audit: RunningAuditLog;
  readonly incarnation: Incarnation;
  /** Told of each head after its commit was acknowledged, by the process that made it. */
  readonly publish: (head: LogHead) => void;
  readonly log: Log;
}

export interface SequencedLog {
  readonly keys: CheckpointKeys;
  readonly facts: () => SequencingFacts;
  /** One stable word for `/readyz`; nobody's use waits for the log, so it is never a reason not to be ready. */
  readonly state: () => string;
}

export async function openSequencedLog(
  parts: SequencedLogParts,
  unwinding: Unwinding,
): Promise<SequencedLog> {
  const { config, store, hsm, engine, root, audit, incarnation, log } = parts;
  const clock = (): Date => new Date();
  const keys = await openCheckpointKeys({
    hsm,
    engine,
    seals: logSeals(root),
    intents: logTokenIntents({ hsm, root, store: parts.keys, instance: incarnation.id, clock }),
    store: store.logKeys,
    zone: config.zone.name,
    origin: config.audit.origin,
    record: (operation, detail) => audit.recordOwn(operation, detail),
    sequenced: async (id) => {
      const place = parseAuditId(id);
      return place !== null && (await store.log.indexOf(place.lane, place.n)) !== null;
    },
    clock,
  });
  unwinding.add('keys of the log', () => keys.close());
  tend(keys, parts, unwinding);
  const { publish } = parts;
  const mac = root.auditMac;
  const { signer } = keys;
  const sequencing = new Sequencing({ store, audit, incarnation, mac, signer, publish, log });
  sequencing.start(unwinding);
  const facts = (): SequencingFacts => sequencing.facts();
  return { keys, facts, state: () => stateOf(facts()) };
}

/** One call at a time, until unwound. */
function tend(
  keys: CheckpointKeys,
  { incarnation, log }: SequencedLogParts,
  unwinding: Unwinding,
): void {
  let failing = false;
  let ended = false;
  let timer: NodeJS.Timeout | undefined;
  const turn = async (): Promise<void> => {
    try {
      if (incarnation.end === null) await keys.tend();
      failing = false;
    } catch (err) {
      if (!failing) log.warn({ err }, 'the keys of the log could not be tended; trying on');
      failing = true;
    }
    if (!ended) timer = setTimeout(next, TEND_MS).unref();
  };
  let tending = Promise.resolve();
  const next = (): void => {
    tending = turn();
  };
  next();
  unwinding.add('tending of the keys of the log', async () => {
    ended = true;
    clearTimeout(timer);
    await tending;
    clearTimeout(timer);
  });
}

const stateOf = ({ state, faults, unsequenced, checkpointAgeMs }: SequencingFacts): string => {
  if (state === 'halted' || state === 'failing') return state;
  if (faults.length > 0) return 'lane-at-fault';
  return unsequenced > 0 && (checkpointAgeMs ?? 0) > LATE_MS ? 'behind' : 'ok';
};

/**
 * Nobody's use waits for the log, but an instance that saw it rolled back serves nothing more. That the data
 * folder takes no checkpoint is said and no reason not to be ready: what is in the log is durable.
 */
export const logCheck = ({
  log,
  outside,
}: {
  readonly log: Pick<SequencedLog, 'state'> | null;
  readonly outside: { readonly state: string } | null;
}): ReadinessCheck => {
  const [own, seen] = [log?.state() ?? 'starting', outside?.state ?? 'ok'];
  const rolledBack = seen === 'rolled-back';
  return { name: 'log', ready: !rolledBack, state: rolledBack || own === 'ok' ? seen : own };
};
