/** `twofold kms-plugin serve`: the agent, until it is told to stop. */
import { one, parseFlags, requireNothingMore } from '../../cli/arguments.ts';
import type { Flags, ParsedFlags } from '../../cli/arguments.ts';
import { SENSITIVE_FIELDS } from '../../contract/sensitive.ts';
import { createLogs } from '../../telemetry/logs.ts';
import { groupNumber } from '../kubernetes.ts';
import { stopSignals } from '../stop-signals.ts';
import { startAgent } from './agent.ts';
import { PROVIDER_FLAGS, needed, providerOf, refuse } from './flags.ts';

export const SERVE_FLAGS = {
  ...PROVIDER_FLAGS,
  socket: 'value',
  announced: 'value',
  group: 'value',
  'metrics-port': 'value',
} as const satisfies Flags;

function portOf(flags: ParsedFlags): number | null {
  const text = one(flags, 'metrics-port');
  if (text === undefined) return null;
  if (/^(?:0|[1-9]\d{0,4})$/u.test(text) && Number(text) < 65_536) return Number(text);
  throw refuse('--metrics-port is a port.');
}

/** @returns the exit code: 1 where the socket cannot be served */
export async function servePlugin(
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const flags = parseFlags(argv, SERVE_FLAGS);
  requireNothingMore(flags);
  const socket = needed(flags, 'socket', 'PATH');
  const provider = providerOf(flags);
  const group = one(flags, 'group');
  const logs = createLogs({ level: 'info', sensitive: SENSITIVE_FIELDS });
  const log = logs.component('kms-plugin');
  let reload = (): void => undefined;
  const signals = stopSignals({ print, reload: () => reload(), endsWithTerminal: false });
  try {
    const agent = await startAgent({
      ...provider,
      socket,
      announced: one(flags, 'announced') ?? null,
      group: group === undefined ? null : groupNumber(group),
      metricsPort: portOf(flags),
      log,
    });
    reload = () => void agent.reload();
    if (agent.metricsPort !== null) {
      print(`metrics at http://127.0.0.1:${String(agent.metricsPort)}/metrics`);
    }
    try {
      const served = await Promise.race([agent.served.then(() => true), signals.asked]);
      if (served === true) print(`serving ${socket} for cluster ${provider.cluster}`);
      await signals.asked;
    } finally {
      await agent.stop();
      await agent.served.catch(() => undefined);
    }
    return 0;
  } finally {
    logs.flush();
  }
}
