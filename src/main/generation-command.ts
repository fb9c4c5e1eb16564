/**
 * `twofold hsm generations`, `hsm generation add` and `hsm generation retire N`: the ceremonies by which
 * the root is replaced, beside a running service.
 *
 * Each step is durable before the next and looked up first, so a command that was killed is completed by
 * running it again. An added generation: intent row, object on the token (in the ceremony process, with
 * the PIN of the security officer), attacks and known answers, its keys and canary, row completed. A
 * retirement: every zone has the one in force; the database proves in one transaction that nothing is under the generation; every
 * instance that lives shuts it; the object is destroyed.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { operatorGrant } from '../access/local-access.ts';
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { ROOT_NAMESPACE } from '../governance/namespaces.ts';
import { commitRetirement } from '../governance/root-retirement.ts';
import { requireInEveryZone } from '../governance/root-zones.ts';
import type { RootOnToken } from '../hsm/port.ts';
import { runRootDestruction } from '../hsm/run-ceremony.ts';
import { IMPORT_LIFETIME_MS } from '../keyring/import-parameters.ts';
import { IntegrityWatch } from '../keyring/integrity.ts';
import type { RootGeneration } from '../keyring/ports.ts';
import { openRoot } from '../keyring/root-opening.ts';
import type { RootHolder } from '../keyring/root-ports.ts';
import { UsageCounters } from '../keyring/usage.ts';
import type { Store } from '../store/store.ts';
import { besides, deviceBeside, instanceBeside, operator, storeBeside } from './beside.ts';
import { tokenPlace } from './device.ts';
import { ceremonyOf, completeHere, isSame, placeFit, requireFit } from './generation-object.ts';
import type { Adding } from './generation-object.ts';
import { ADD_GENERATION, alone } from '../store/command-lock.ts';
import { SILENT } from './silent-log.ts';
import type { Unwinding } from './unwinding.ts';

const ADD_FLAGS = { 'so-pin-file': 'value', 'allow-extractable': 'switch' } as const;
const RETIRE_FLAGS = { 'strand-imports': 'switch', 'without-zone': 'list' } as const;
/** How long instances are waited for that have a generation open. */
const SHUT_PATIENCE_MS = 60_000;
const LOOK_MS = 500;

type Print = (line: string) => void;

const refused = (detail: string) => new TwofoldError('invalid_value', detail);
const conflict = (detail: string) => new TwofoldError('conflict', detail);

/** @throws TwofoldError invalid_value for what is no command of these */
export async function generationCommand(
  config: Config,
  argv: readonly string[],
  print: Print,
): Promise<void> {
  const [noun, action, ...others] = argv;
  if (noun === 'generations') {
    if (action !== undefined) throw refused(`${action} is not an argument of this command.`);
    print(JSON.stringify(await besides((unwinding) => listed(config, unwinding))));
    return;
  }
  if (action === 'add') {
    const parsed = parseFlags(others, ADD_FLAGS);
    requireNothingMore(parsed);
    const wanted = {
      soPinFile: parsed.values.get('so-pin-file')?.[0],
      allowExtractable: parsed.values.has('allow-extractable'),
    };
    print(JSON.stringify(await besides((unwinding) => added(config, wanted, unwinding))));
    return;
  }
  if (action === 'retire') {
    const parsed = parseFlags(others, RETIRE_FLAGS);
    const retiring = {
      generation: numberOf(parsed.positional),
      strandImports: parsed.values.has('strand-imports'),
      withoutZones: parsed.values.get('without-zone') ?? [],
    };
    print(JSON.stringify(await besides((unwinding) => retired(config, retiring, unwinding))));
    return;
  }
  throw refused(
    'The commands are: twofold hsm generations, hsm generation add, and hsm generation retire N',
  );
}

function numberOf([text = '', more]: readonly string[]): number {
  if (more !== undefined) throw refused(`${more} is not an argument of this command.`);
  if (!/^[1-9]\d{0,8}$/u.test(text)) throw refused('retire takes the number of a generation.');
  return Number(text);
}

/** Every generation of database and token, also those that only one of them has. */
async function listed(config: Config, unwinding: Unwinding): Promise<object> {
  const store = await storeBeside(config, unwinding);
  const { hsm } = await deviceBeside(config, unwinding);
  const [rows, roots] = [await store.roots.generations(), await hsm.roots()];
  const references = await store.rootRotations.references();
  const onToken = (row: RootOnToken) => roots.some((root) => isSame(root, row));
  return {
    generations: rows.map((row) => ({
      ...{ generation: row.generation, installation: row.installation, state: row.state },
      onToken: onToken(row),
      references: Object.fromEntries(
        references
          .filter(({ generation }) => generation === row.generation)
          .map(({ what, rows: many }) => [what, many]),
      ),
    })),
    onTokenAlone: roots.filter((root) => !rows.some((row) => isSame(root, row))),
  };
}

async function added(config: Config, wanted: Adding, unwinding: Unwinding): Promise<object> {
  const store = await storeBeside(config, unwinding);
  return alone(store.pool, ADD_GENERATION, () => addedAlone(config, store, wanted, unwinding));
}

async function addedAlone(
  config: Config,
  store: Store,
  wanted: Adding,
  unwinding: Unwinding,
): Promise<object> {
  const rows = await store.roots.generations();
  const inForce = rows.find(({ state }) => state === 'in-force');
  const newest = rows.at(-1);
  if (inForce === undefined || newest === undefined) {
    throw conflict('There is no root in force: the first one is made before the first start.');
  }
  const { installation } = inForce;
  const waits = newest.state === 'intended' || newest.state === 'complete';
  const generation = waits ? newest.generation : newest.generation + 1;
  const root = { generation, installation };
  const row = await store.roots.intend(generation, installation);
  if (row.installation !== installation) throw conflict('Two installations share a database.');
  const { hsm } = await deviceBeside(config, unwinding);
  await hsm.useRoot(inForce);
  const before = hsm.status().custody;
  const candidate = { config, store, hsm, root };
  const placed = row.state === 'intended' ? await placeFit(candidate, wanted, before) : null;
  const completed = await completeHere(candidate, row);
  const custody = placed ?? (await hsm.tryRoot(root));
  requireFit(before, custody);
  const opened = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
  const { audit } = await instanceBeside(config, store, opened, unwinding);
  await audit.recordOwn('root.add', { generation, custody, operator: operator() });
  return { ...root, state: completed.state, custody, made: row.state === 'intended' };
}

interface Retiring {
  readonly generation: number;
  /** Whether import parameters that can still be used are given up. */
  readonly strandImports: boolean;
  /** Zones that are given up: without the old generation they open nothing. */
  readonly withoutZones: readonly string[];
}

async function retired(
  config: Config,
  { generation, strandImports, withoutZones }: Retiring,
  unwinding: Unwinding,
): Promise<object> {
  const store = await storeBeside(config, unwinding);
  const rows = await store.roots.generations();
  const row = rows.find((each) => each.generation === generation);
  const inForce = rows.find(({ state }) => state === 'in-force');
  if (row === undefined || inForce === undefined) {
    throw new TwofoldError('not_found', 'There is no such generation.');
  }
  await requireUnreferenced(store, row);
  await requireInEveryZone(store.rootRotations, {
    ...{ generation: inForce.generation, others: config.zone.others },
    ...{ without: withoutZones, say: '--without-zone ZONE' },
  });
  if (!strandImports) await requireNoImports(store, row);
  const { hsm } = await deviceBeside(config, unwinding);
  const root = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
  const beside = await instanceBeside(config, store, root, unwinding);
  const { instance, epoch, refreshEpoch, audit } = beside;
  if (row.state === 'retiring') {
    const parts = { store: store.keys, audit, epoch, refreshEpoch, mac: root.mac };
    const about = { operator: operator(), namespace: ROOT_NAMESPACE, epoch };
    const grant = operatorGrant('root.retire', about);
    await commitRetirement({ ...parts, integrity: new IntegrityWatch() }, grant, generation);
  }
  await untilShut(store, instance, generation);
  const token = await tokenPlace(config, SILENT, false);
  const { installation } = row;
  const { destroyed } = await runRootDestruction({
    ...ceremonyOf(config, token),
    ...{ generation, installation },
  });
  await audit.recordOwn('root.destroy', { generation, destroyed, operator: operator() });
  return { generation, installation, state: 'retired', destroyed };
}

/** The same is proved again in the transaction that retires it. */
async function requireUnreferenced(store: Store, { generation, state }: RootGeneration) {
  if (state !== 'retiring' && state !== 'retired') {
    throw conflict(`Generation ${String(generation)} is ${state}: no later one is in force.`);
  }
  const left = (await store.rootRotations.references()).filter(
    (each) => each.generation === generation,
  );
  if (left.length === 0) return;
  const named = left.map(({ what, rows }) => `${String(rows)} ${what}`).join(', ');
  throw conflict(`Generation ${String(generation)} still has something under it: ${named}.`);
}

/** What keys are being sealed to at this moment would open nothing afterwards. */
async function requireNoImports(store: Store, { generation, state }: RootGeneration) {
  if (state !== 'retiring') return;
  const given = await store.rootRotations.importsGivenAt(generation, IMPORT_LIFETIME_MS);
  if (given === null) return;
  const until = new Date(given.getTime() + IMPORT_LIFETIME_MS).toISOString();
  throw conflict(
    `Import parameters under generation ${String(generation)} can be used until ${until}: ` +
      'run the command then, or say --strand-imports.',
  );
}

/** @throws TwofoldError conflict where an instance has it open for longer than it should take */
async function untilShut(store: Store, own: string, generation: number): Promise<void> {
  const limit = performance.now() + SHUT_PATIENCE_MS;
  const holding = async (): Promise<readonly RootHolder[]> =>
    (await store.rootRotations.holders()).filter(
      ({ id, generations }) => id !== own && generations.includes(generation),
    );
  for (;;) {
    const [first] = await holding();
    if (first === undefined) return;
    if (performance.now() > limit) {
      throw conflict(
        `Instance ${first.id} in zone ${first.zone} has generation ${String(generation)} open: ` +
          'restart it, and run the command again.',
      );
    }
    await sleep(LOOK_MS);
  }
}
