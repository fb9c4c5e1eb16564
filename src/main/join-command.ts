/**
 * `twofold hsm join offer | answer | accept`: the ceremony by which the token of a new zone receives the
 * root, each command on its own side, with files that anybody may carry.
 *
 * Two people see to it, one on each side: who answers must be told the offer's fingerprint, who accepts the
 * answer's transcript, by another way than the files came. An entry of the audit log is durable before an
 * answer is written, and after the roots were proved by their canaries.
 */
import { accessSync, constants, lstatSync } from 'node:fs';
import { dirname } from 'node:path';

import { parseFlags } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { runJoinOffer } from '../hsm/run-ceremony.ts';
import { readCarriedFile } from '../recovery/carried-file.ts';
import { besides, instanceBeside, operator, storeBeside } from './beside.ts';
import { joinOnline, ONLINE_USAGE } from './join-online.ts';
import { ceremonyPlace, madeIn, placeRoots, rootHere, wrapRoots } from './join-roots.ts';
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
import { writeNew } from './new-file.ts';
import type { Unwinding } from './unwinding.ts';

const USAGE = `The commands are:
  twofold hsm join offer --out OFFER                                                        in the zone that joins
  twofold hsm join answer OFFER --fingerprint HEX --so-pin-file FILE --out ANSWER           in a zone that has the root
  twofold hsm join accept ANSWER --transcript HEX --so-pin-file FILE                        in the zone that joins
${ONLINE_USAGE}`;

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
    const done = await joinOnline(config, argv);
    if (done === null) throw refused(USAGE);
    print(JSON.stringify(done));
  }
}

function read(
  argv: readonly string[],
  flags: Readonly<Record<string, 'value'>>,
  count: number,
): { readonly values: Values; readonly files: readonly string[] } {
  const { values, positional } = parseFlags(argv, flags);
  if (positional.length !== count) throw refused(USAGE);
  return { values, files: positional };
}

function needed(values: Values, name: string): string {
  const value = values.get(name)?.[0];
  if (value === undefined) throw refused(`--${name} is needed.\n${USAGE}`);
  return value;
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
function writeText(file: string, text: string): void {
  try {
    writeNew(file, text, 0o644);
  } catch (error) {
    throw unwritable(file, (error as NodeJS.ErrnoException).code);
  }
}

async function offer(config: Config, out: string): Promise<object> {
  requireWritable(out);
  const { publicKey } = await runJoinOffer(await ceremonyPlace(config));
  const made = { zone: config.zone.name, publicKey };
  writeText(out, offerText(made));
  return { offer: out, zone: made.zone, fingerprint: fingerprintOfOffer(made) };
}

/** Every generation in use, each wrapped for the offer inside the token. */
async function answer(
  config: Config,
  values: Values,
  [file = '']: readonly string[],
  unwinding: Unwinding,
): Promise<object> {
  const offered = parseOffer(readCarriedFile(file, MOST_TEXT_BYTES));
  const fingerprint = fingerprintOfOffer(offered);
  requireSame(needed(values, 'fingerprint'), fingerprint, 'fingerprint of the offer');
  const [out, soPinFile] = [needed(values, 'out'), needed(values, 'so-pin-file')];
  requireWritable(out);
  const store = await storeBeside(config, unwinding);
  const opened = await rootHere(config, store, unwinding);
  const { publicKey } = offered;
  const roots = await wrapRoots(config, store, { publicKey, soPinFile });
  const made: Answer = { zone: config.zone.name, roots };
  const transcript = transcriptOfAnswer(made);
  const { audit } = await instanceBeside(config, store, opened, unwinding);
  const generations = roots.map(({ root }) => root.generation);
  await audit.recordOwn('root.join', {
    ...{ step: 'answer', zone: offered.zone, fingerprint, transcript, operator: operator() },
    generations: generations.join(' '),
  });
  writeText(out, answerText(made));
  return { answer: out, for: offered.zone, generations, fingerprint, transcript };
}

async function accept(
  config: Config,
  values: Values,
  [file = '']: readonly string[],
  unwinding: Unwinding,
): Promise<object> {
  const given = parseAnswer(readCarriedFile(file, MOST_TEXT_BYTES));
  const transcript = transcriptOfAnswer(given);
  requireSame(needed(values, 'transcript'), transcript, 'transcript of the answer');
  const soPinFile = needed(values, 'so-pin-file');
  const store = await storeBeside(config, unwinding);
  const { name: zone } = config.zone;
  const placed = await placeRoots({
    ...{ config, given, soPinFile, store, unwinding },
    settle: async (_, audit, made) => {
      await (
        await audit()
      ).recordOwn('root.join', {
        ...{ step: 'accept', zone, from: given.zone, transcript, operator: operator(), made },
      });
    },
  });
  const generations = given.roots.map(({ root }) => root.generation);
  const custodies = placed.map(({ custody }) => custody);
  return { zone, generations, made: madeIn(placed), custodies, transcript };
}
