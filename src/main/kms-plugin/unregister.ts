/**
 * `twofold kms-plugin unregister`: ends a provider, by the proof that no value of etcd is under its key any more.
 * Its record stays, and remembers what was announced.
 */
import { parseFlags, requireNothingMore } from '../../cli/arguments.ts';
import type { Flags } from '../../cli/arguments.ts';
import { clusterOf } from './flags.ts';
import { RECORD_FLAGS, tell, withRecords } from './records.ts';
import { hindrances, incompleteness, verifyFile } from './verify-rotation.ts';

const FLAGS = { ...RECORD_FLAGS, snapshot: 'value', dump: 'value' } as const satisfies Flags;

/** Of any version. */
const LAST_VERSION = 0xffff_ffff;

/** @returns the exit code: 1 where something stands in the way, or others are asked first */
export async function unregisterProvider(
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const flags = parseFlags(argv, FLAGS);
  requireNothingMore(flags);
  const { stored, proof } = await verifyFile(flags);
  return withRecords(flags, async (records) => {
    const keyId = await records.keyId();
    const against = hindrances(stored, { keyId, keyVersion: LAST_VERSION });
    against.push(...incompleteness(stored));
    for (const each of against) print(`REMAINS ${each}`);
    if (against.length > 0) return 1;
    const done = `the provider of cluster ${clusterOf(flags)} has ended; proof (SHA-256 of the file): ${proof}`;
    return tell(await records.end(proof), print, done);
  });
}
