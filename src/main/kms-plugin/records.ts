/** `twofold kms-plugin register`, and what is changed at the record of a provider: the operator's, by a token. */
import { one, parseFlags, requireNothingMore } from '../../cli/arguments.ts';
import type { Flags, ParsedFlags } from '../../cli/arguments.ts';
import { CONNECTION_FLAGS, connectionOptions } from '../../cli/connection.ts';
import { HttpConnection } from '../../client/http-connection.ts';
import { ProviderRecords } from '../../client/provider-records.ts';
import type { Changed } from '../../client/provider-records.ts';
import { DEFAULT_PROVIDER, clusterOf, label, needed } from './flags.ts';

export const RECORD_FLAGS = {
  ...CONNECTION_FLAGS,
  key: 'value',
  cluster: 'value',
  namespace: 'value',
  approval: 'value',
} as const satisfies Flags;

/** Runs with the record that the flags name. */
export async function withRecords<T>(
  flags: ParsedFlags,
  work: (records: ProviderRecords) => Promise<T>,
): Promise<T> {
  const place = {
    namespace: one(flags, 'namespace') ?? 'default',
    key: needed(flags, 'key', 'NAME'),
    cluster: clusterOf(flags),
    approval: one(flags, 'approval') ?? null,
  };
  const connection = new HttpConnection(connectionOptions(flags, new AbortController().signal));
  try {
    return await work(new ProviderRecords(connection, place));
  } finally {
    connection.close();
  }
}

export async function registerProvider(
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const flags = parseFlags(argv, { ...RECORD_FLAGS, provider: 'value' });
  requireNothingMore(flags);
  const provider = label(one(flags, 'provider') ?? DEFAULT_PROVIDER, 'provider');
  const changed = await withRecords(flags, (records) => records.register(provider));
  const { version } = changed;
  return tell(
    changed,
    print,
    `provider ${provider} of cluster ${clusterOf(flags)} begins with version ${String(version)}`,
  );
}

/** @returns the exit code: 1 where others are asked first */
export function tell({ waitsFor }: Changed, print: (line: string) => void, done: string): number {
  print(
    waitsFor === null ? done : `others are asked: once it is approved, add --approval ${waitsFor}`,
  );
  return waitsFor === null ? 0 : 1;
}
