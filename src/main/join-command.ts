/**
 * `twofold hsm join offer | answer | accept`: the ceremony by which the token of a new zone receives the
 * root, each command on its own side, with files that anybody may carry.
 *
 * Two people see to it, one on each side: who answers must be told the offer's fingerprint, who accepts the
 * answer's transcript, by another way than the files came. An entry of the audit log is durable before an
 * answer is written, and after the roots were proved by their canaries.
 */
import { accessSync, constants, lstatSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import type { EscrowedRoot } from '../hsm/ceremony-transport.ts';
import type { RootMade } from '../hsm/ceremony-root.ts';
import type { Hsm, RootOnToken } from '../hsm/port.ts';
import {
  runEscrowCeremony,
  runJoinAcceptance,
  runJoinEnd,
  runJoinOffer,
  runRootDestruction,
} from '../hsm/run-ceremony.ts';
import type { RootGeneration } from '../keyring/ports.ts';
import { isLive, openGeneration, openRoot } from '../keyring/root-opening.ts';
import { UsageCounters } from '../keyring/usage.ts';
import type { Store } from '../store/store.ts';
import { besides, deviceBeside, instanceBeside, operator, storeBeside } from './beside.ts';
import { ceremonyPlace } from './escrow-command.ts';
import {
  answerText,
  fingerprintOfOffer,
  MOST_TEXT_BYTES,
  offerText,
  parseAnswer,
  parseOffer,
  requireSame,
  transcriptOfAnswer,
} from './join-text.ts';
import type { Answer } from './join-text.ts';
import type { Unwinding } from './unwinding.ts';

const USAGE = `The commands are:
  twofold hsm join offer --out OFFER                                                        in the zone that joins
  twofold hsm join answer OFFER --fingerprint HEX --so-pin-file FILE --out ANSWER           in a zone that has the root
  twofold hsm join accept ANSWER --transcript HEX --so-pin-file FILE                        in the zone that joins`;

const refused = (detail: string) => new TwofoldError('invalid_value', detail);

type Print = (line: string) => void;
type Values = ReadonlyMap<string, readonly string[]>;

/** @throws TwofoldError invalid_value for what is no command of these */
export async function joinCommand(
  config: Config,
  argv: readonly string[],
  print: Print,
): Promise<void> {
  const [step, ...others] = argv;
  if (step === 'offer') {
    const { values } = read(others, { out: 'value' }, 0);
    print(JSON.stringify(await offer(config, needed(values, 'out'))));
  } else if (step === 'answer') {
    const flags = { fingerprint: 'value', 'so-pin-file': 'value', out: 'value' } as const;
    const { values, files } = read(others, flags, 1);
    print(JSON.stringify(await besides((unwinding) => answer(config, values, files, unwinding))));
  } else if (step === 'accept') {
    const flags = { transcript: 'value', 'so-pin-file': 'value' } as const;
    const { values, files } = read(others, flags, 1);
    print(JSON.stringify(await besides((unwinding) => accept(config, values, files, unwinding))));
  } else {
    throw refused(USAGE);
  }
}

function read(
  argv: readonly string[],
  flags: Readonly<Record<string, 'value'>>,
  count: number,
): { readonly values: Values; readonly files: readonly string[] } {
  const { values, positional } = parseFlags(argv, flags);
  if (positional.length !== count) throw refused(USAGE);
  requireNothingMore({ values, positional: [] });
  return { values, files: positional };
}

function needed(values: Values, name: string): string {
  const value = values.get(name)?.[0];
  if (value === undefined) throw refused(`--${name} is needed.\n${USAGE}`);
  return value;
}

function textOf(file: string): string {
  try {
    if (statSync(file).size > MOST_TEXT_BYTES) throw refused(`${file} is too long.`);
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (TwofoldError.is(error)) throw error;
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    throw refused(`${file} cannot be read: ${code}.`);
  }
}

const unwritable = (file: string, code = 'unknown error') =>
  refused(`${file} cannot be written: ${code}.`);

/** Before anything is done of which the file would be the only trace. */
function requireWritable(file: string): void {
  if (lstatSync(file, { throwIfNoEntry: false }) !== undefined) throw unwritable(file, 'EEXIST');
  try {
    accessSync(dirname(file), constants.W_OK | constants.X_OK);
  } catch (error) {
    throw unwritable(file, (error as NodeJS.ErrnoException).code);
  }
}

/** Never over a file that is there. */
function writeNew(file: string, text: string): void {
  try {
    writeFileSync(file, text, { flag: 'wx', mode: 0o644, flush: true });
  } catch (error) {
    throw unwritable(file, (error as NodeJS.ErrnoException).code);
  }
}

async function offer(config: Config, out: string): Promise<object> {
  requireWritable(out);
  const { publicKey } = await runJoinOffer(await ceremonyPlace(config, ''));
  const made = { zone: config.zone.name, publicKey };
  writeNew(out, offerText(made));
  return { offer: out, zone: made.zone, fingerprint: fingerprintOfOffer(made) };
}

/** Every generation in use, each wrapped for the offer inside the token. */
async function answer(
  config: Config,
  values: Values,
  [file = '']: readonly string[],
  unwinding: Unwinding,
): Promise<object> {
  const offered = parseOffer(textOf(file));
  const fingerprint = fingerprintOfOffer(offered);
  requireSame(needed(values, 'fingerprint'), fingerprint, 'fingerprint of the offer');
  const [out, soPinFile] = [needed(values, 'out'), needed(values, 'so-pin-file')];
  requireWritable(out);
  const store = await storeBeside(config, unwinding);
  const { hsm } = await deviceBeside(config, unwinding);
  const opened = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
  const place = await ceremonyPlace(config, soPinFile);
  const roots: EscrowedRoot[] = [];
  for (const row of (await store.roots.generations()).filter(isLive)) {
    const { generation, installation } = row;
    const root = { generation, installation };
    roots.push(await runEscrowCeremony({ ...place, root, publicKey: offered.publicKey }));
  }
  const made: Answer = { zone: config.zone.name, roots };
  const transcript = transcriptOfAnswer(made);
  const { audit } = await instanceBeside(config, store, opened, unwinding);
  const generations = roots.map(({ root }) => root.generation);
  await audit.recordOwn('root.join', {
    ...{ step: 'answer', zone: offered.zone, fingerprint, transcript, operator: operator() },
    generations: generations.join(' '),
  });
  writeNew(out, answerText(made));
  return { answer: out, for: offered.zone, generations, fingerprint, transcript };
}

/** The roots onto this token; they stay only if what the database holds opens under each. */
async function accept(
  config: Config,
  values: Values,
  [file = '']: readonly string[],
  unwinding: Unwinding,
): Promise<object> {
  const given = parseAnswer(textOf(file));
  const transcript = transcriptOfAnswer(given);
  requireSame(needed(values, 'transcript'), transcript, 'transcript of the answer');
  const place = await ceremonyPlace(config, needed(values, 'so-pin-file'));
  const store = await storeBeside(config, unwinding);
  await requireKnown(store, given);
  const placed: RootMade[] = [];
  let hsm: Hsm | undefined;
  try {
    for (const escrow of given.roots) placed.push(await runJoinAcceptance({ ...place, escrow }));
    ({ hsm } = await deviceBeside(config, unwinding));
    const opened = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
    const { audit } = await instanceBeside(config, store, opened, unwinding);
    await audit.recordOwn('root.join', {
      ...{ step: 'accept', zone: config.zone.name, from: given.zone, transcript },
      ...{ operator: operator(), made: madeIn(placed) },
    });
  } catch (error) {
    // What does not open here is nobody's root; anything else is tried again with what is there.
    if (!TwofoldError.is(error, 'integrity_failed')) throw error;
    // Also of a run before this one that was killed, but never what another has placed.
    const ours = placed.filter(({ ofThisOffer }) => ofThisOffer === true);
    if (ours.length > 0) {
      hsm ??= (await deviceBeside(config, unwinding)).hsm;
      for (const root of await thatDoNotOpen(hsm, store, ours)) {
        await runRootDestruction({ ...place, ...root });
      }
    }
    throw error;
  }
  await runJoinEnd(place);
  const generations = given.roots.map(({ root }) => root.generation);
  const custodies = placed.map(({ custody }) => custody);
  return { zone: config.zone.name, generations, made: madeIn(placed), custodies, transcript };
}

const madeIn = (placed: readonly RootMade[]): number => placed.filter(({ made }) => made).length;

/** Of those that were placed, whose canary is there and is not opened by what is on the token. */
async function thatDoNotOpen(
  hsm: Hsm,
  store: Store,
  placed: readonly RootMade[],
): Promise<readonly RootOnToken[]> {
  const rows = (await store.roots.generations()).filter(isLive);
  const inForce = rows.find(({ state }) => state === 'in-force');
  // Nothing opens before the one in force is selected; where it is not there nothing can be told.
  if (inForce === undefined) return [];
  await hsm.useRoot(inForce);
  const wrong: RootOnToken[] = [];
  for (const { root } of placed) {
    const row = rows.find((each) => each.generation === root.generation);
    if (row === undefined) continue;
    await openGeneration(hsm, row).catch((error: unknown) => {
      if (!TwofoldError.is(error, 'integrity_failed')) throw error;
      wrong.push(root);
    });
  }
  return wrong;
}

/** @throws TwofoldError conflict for roots that the database does not know */
async function requireKnown(store: Store, { roots }: Answer): Promise<void> {
  const rows: readonly RootGeneration[] = await store.roots.generations();
  for (const { root } of roots) {
    const known = rows.some(
      (row) =>
        row.generation === root.generation && row.installation === root.installation && isLive(row),
    );
    if (!known) {
      throw new TwofoldError(
        'conflict',
        `Generation ${String(root.generation)} of installation ${root.installation} is not in use ` +
          'in this database: the answer is of another installation, or too old. Nothing was done.',
      );
    }
  }
}
