/**
 * `twofold audit forget-sink NAME`: removes how far a sink is that was taken out of the configuration, so that it
 * keeps nothing from cold storage any more. On the host, as the owner of the tables, in a lane of its own.
 */
import type { ArchiveStore } from '../audit/archive-ports.ts';
import type { AuditDraft } from '../audit/ports.ts';
import type { SinkPositions } from '../audit/sinks/ports.ts';
import { parseFlags } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { openRoot } from '../keyring/root-opening.ts';
import { UsageCounters } from '../keyring/usage.ts';
import { OutcomeUnknown } from '../outcome.ts';
import { openOwned } from './audit-archive-command.ts';
import { besides, deviceBeside, instanceBeside, operator, storeBeside } from './beside.ts';

const OPERATION = 'audit.sink.forget';
/** A sink that was served so lately is in use: one that does not move says each minute that it is. */
const QUIET_MS = 180_000;

export interface ForgettingParts {
  readonly positions: Pick<SinkPositions, 'all'>;
  readonly store: Pick<ArchiveStore, 'forgetSink'>;
  /** Resolves once an entry of ours with this operation and detail is durable. */
  readonly record: (operation: string, detail: AuditDraft['detail']) => Promise<unknown>;
}

/**
 * Says so in the log before and after: one entry that begins, and none that ends, is a command
 * that was killed, or that never heard what became of it.
 * @returns index of the first entry that it kept
 * @throws TwofoldError not_found, conflict while it moves, and what `record` throws
 */
export async function forgetSink(
  { positions, store, record }: ForgettingParts,
  sink: string,
  who: string,
): Promise<number> {
  const found = (await positions.all()).find(({ name }) => name === sink);
  if (found === undefined) throw new TwofoldError('not_found', 'No sink of this name has a place.');
  if (found.quietMs < QUIET_MS) throw inUse(sink);
  const about = { sink, next: found.next, operator: who };
  await record(OPERATION, { state: 'begun', ...about });
  const forgotten = await store.forgetSink(sink, found.next).catch(async (error: unknown) => {
    // It may be gone: then nothing says that it ended.
    if (error instanceof OutcomeUnknown) throw error;
    const { code } = TwofoldError.from(error);
    await record(OPERATION, { state: 'failed', ...about, code }).catch(() => undefined);
    throw error;
  });
  if (!forgotten) {
    await record(OPERATION, { state: 'failed', ...about, code: 'conflict' });
    throw inUse(sink);
  }
  await record(OPERATION, { state: 'done', ...about });
  return found.next;
}

const inUse = (sink: string): TwofoldError =>
  new TwofoldError('conflict', `The sink ${sink} is served: take it out of every configuration.`);

/** @returns the exit code */
export async function forgetSinkCommand(
  config: Config,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const [sink, ...more] = parseFlags(argv, {}).positional;
  if (sink === undefined || more.length > 0) {
    throw new TwofoldError('invalid_value', 'The command is: twofold audit forget-sink NAME');
  }
  if (config.audit.sinks.some(({ name }) => name === sink)) {
    throw new TwofoldError('conflict', `The sink ${sink} is in this configuration (audit.sinks).`);
  }
  const next = await besides(async (unwinding) => {
    const store = await storeBeside(config, unwinding);
    const { hsm } = await deviceBeside(config, unwinding);
    const root = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
    const owned = openOwned(config, unwinding);
    const { audit } = await instanceBeside(config, store, root, unwinding);
    const record: ForgettingParts['record'] = (operation, detail) =>
      audit.recordOwn(operation, detail);
    return forgetSink({ positions: store.sinks, store: owned.store, record }, sink, operator());
  });
  print(JSON.stringify({ sink, next }));
  return 0;
}
