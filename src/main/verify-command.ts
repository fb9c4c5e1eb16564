/** `twofold hsm verify`: whether the token holds every generation in use, as it should, and nothing else of ours. */
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm, RootOnToken } from '../hsm/port.ts';
import { isLive, openGeneration } from '../keyring/root-opening.ts';
import type { RootGeneration } from '../keyring/ports.ts';
import { besides, deviceBeside, storeBeside } from './beside.ts';

interface Verified extends RootOnToken {
  readonly state: string;
  /** `opens`, or why not. */
  readonly canary: string;
  readonly custody: string;
}

/**
 * @returns the exit code: 0, or 1 where a generation does not open, the PIN alone could extract it, or the
 *   token holds one that was retired, or that the database does not know
 */
export async function verifyCommand(
  config: Config,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  requireNothingMore(parseFlags(argv, {}));
  return besides(async (unwinding) => {
    const store = await storeBeside(config, unwinding);
    const { hsm } = await deviceBeside(config, unwinding);
    const [rows, roots] = [await store.roots.generations(), await hsm.roots()];
    const generations: Verified[] = [];
    // Nothing opens before the one in force is selected.
    const first = (row: RootGeneration) => (row.state === 'in-force' ? 0 : 1);
    const live = rows.filter(isLive).toSorted((a, b) => first(a) - first(b));
    for (const row of live) generations.push(await verified(hsm, row));
    const rowOf = (root: RootOnToken) => rows.find((row) => isSame(row, root));
    const unknown = roots.filter((root) => rowOf(root) === undefined);
    // Whoever has the token and an old copy of the database can still open what was under them.
    const retired = roots.filter((root) => rowOf(root)?.state === 'retired');
    const sound = generations.every(
      ({ canary, custody }) => canary === 'opens' && custody === 'non-extractable',
    );
    const ok = sound && generations.length > 0 && unknown.length + retired.length === 0;
    const serial = hsm.status().token?.serial ?? null;
    const { name: zone } = config.zone;
    print(JSON.stringify({ ok, zone, token: serial, generations, retired, unknown }));
    return ok ? 0 : 1;
  });
}

const isSame = (row: RootGeneration, root: RootOnToken): boolean =>
  row.generation === root.generation && row.installation === root.installation;

/** The one in force is selected, as a start does it; either way the token is attacked as the PIN's holder could. */
async function custodyOf(hsm: Hsm, row: RootGeneration): Promise<string> {
  if (row.state !== 'in-force') return hsm.tryRoot(row);
  await hsm.useRoot(row);
  return hsm.status().custody;
}

async function verified(hsm: Hsm, row: RootGeneration): Promise<Verified> {
  const { generation, installation, state } = row;
  const root = { generation, installation };
  try {
    const custody = await custodyOf(hsm, row);
    await openGeneration(hsm, row);
    return { ...root, state, canary: 'opens', custody };
  } catch (error) {
    const { code, detail } = TwofoldError.from(error);
    return { ...root, state, canary: `${code}: ${detail}`, custody: 'unknown' };
  }
}
