/** `twofold export …`: the recipient's side of an export. Needs no service. */
import { one, parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Flags, ParsedFlags } from '../cli/arguments.ts';
import { readPassphrase } from '../cli/passphrase.ts';
import { ClientError, fileFailure } from '../client/client-error.ts';
import { describeRecipient, openExported, recipientOf } from '../client/export-opening.ts';
import type { RecipientKeys } from '../client/export-opening.ts';
import { readPrivateKey } from '../client/private-key-file.ts';
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { readCarriedBytes, readCarriedFile } from '../recovery/carried-file.ts';
import { writeNew } from './new-file.ts';

interface Output {
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

const KEYS = { 'ml-kem': 'value', classical: 'value', 'passphrase-file': 'value' } as const;
const OPEN = { ...KEYS, out: 'value' } as const satisfies Flags;

const USAGE = `usage: twofold export COMMAND …
  recipient --ml-kem FILE --classical FILE               what a request for an export names: suite, public key, fingerprint
  open EXPORT --ml-kem FILE --classical FILE --out FILE  the private key in what the service answered
  [--passphrase-file FILE] of both keys`;

const refuse = (why: string) => new TwofoldError('invalid_value', why);

/**
 * @returns the exit code
 * @throws TwofoldError invalid_value
 * @throws ClientError key_unreadable, key_unfit, passphrase_needed, passphrase_wrong, unexpected_answer,
 *   decryption_failed, file_failed
 */
export async function exportCommand(
  argv: readonly string[],
  { print, complain }: Output,
): Promise<number> {
  const [command, ...others] = argv;
  if (command === 'recipient') {
    const flags = parseFlags(others, KEYS);
    requireNothingMore(flags);
    print(JSON.stringify(describeRecipient(recipientOf(await keysOf(flags))), null, 2));
    return 0;
  }
  if (command === 'open') return open(parseFlags(others, OPEN), print);
  complain(USAGE);
  return 2;
}

async function open(flags: ParsedFlags, print: Output['print']): Promise<number> {
  const [file, more] = flags.positional;
  const out = one(flags, 'out');
  if (file === undefined || out === undefined) throw refuse('Name the export, and --out FILE.');
  if (more !== undefined) throw refuse(`${more} is not an argument of this command.`);
  const opened = await openExported(jsonIn(file), await keysOf(flags));
  try {
    writeNew(out, opened.content.reveal(), 0o600);
  } catch (error) {
    throw fileFailure(error);
  } finally {
    wipe(opened.content);
  }
  const { keyId, key, version, suite } = opened;
  print(`${out}: ${keyId} (${key}), version ${String(version)}, ${suite}`);
  return 0;
}

function jsonIn(file: string): unknown {
  try {
    return JSON.parse(readCarriedFile(file));
  } catch (error) {
    throw error instanceof SyntaxError ? refuse(`${file} is not JSON.`) : error;
  }
}

async function keysOf(flags: ParsedFlags): Promise<RecipientKeys> {
  return { mlKem: await keyIn(flags, 'ml-kem'), classical: await keyIn(flags, 'classical') };
}

async function keyIn(flags: ParsedFlags, name: 'ml-kem' | 'classical') {
  const file = one(flags, name);
  if (file === undefined) throw refuse(`--${name} FILE is needed.`);
  const bytes = readCarriedBytes(file);
  try {
    const passphrase = () => readPassphrase(one(flags, 'passphrase-file'));
    const read = await readPrivateKey(bytes, { raw: false, passphrase });
    if (read.kind === 'pair') return read.key;
    wipe(read.bytes);
    throw new ClientError('key_unfit', `${file} holds no private key of a pair.`);
  } finally {
    wipe(bytes);
  }
}
