/**
 * `twofold import`: a private key of elsewhere becomes a key of the service. It is read and sealed here, and
 * leaves this process only sealed; secrets are no arguments.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

import { z } from 'zod';

import { one, parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Flags, ParsedFlags } from '../cli/arguments.ts';
import { CONNECTION_FLAGS, connectionOptions } from '../cli/connection.ts';
import { readPassphrase } from '../cli/passphrase.ts';
import { ClientError, fileFailure } from '../client/client-error.ts';
import { HttpConnection } from '../client/http-connection.ts';
import { materialFor, prepareImport, sendImport, suiteOf } from '../client/key-import.ts';
import type { ImportAs, ImportRequest } from '../client/key-import.ts';
import { readPrivateKey } from '../client/private-key-file.ts';
import type { ForeignKey } from '../client/private-key-file.ts';
import { purpose } from '../contract/keys.ts';
import { MAX_DER_LENGTH } from '../crypto/der.ts';
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { readCarriedFile } from '../recovery/carried-file.ts';
import { writeNew } from './new-file.ts';

interface Output {
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

const FLAGS = {
  ...CONNECTION_FLAGS,
  name: 'value',
  suite: 'value',
  purpose: 'value',
  label: 'list',
  'deletion-protection': 'switch',
  publish: 'switch',
  namespace: 'value',
  'passphrase-file': 'value',
  raw: 'switch',
  'dry-run': 'switch',
  resume: 'value',
  approval: 'value',
} as const satisfies Flags;

/** What a resumed import has no say in: it was sealed as it is. */
const OF_A_NEW_ONE = [
  'name',
  'suite',
  'purpose',
  'label',
  'deletion-protection',
  'publish',
  'namespace',
  'passphrase-file',
  'raw',
] as const;

const USAGE = `usage: twofold import FILE --name NAME --suite SUITE …
  FILE is PEM or DER (PKCS #8, also encrypted; SEC 1; PKCS #1), PKCS #12 or JWK; with --raw, a secret or a seed itself
  [--passphrase-file FILE] [--raw] [--dry-run] [--namespace NAME]
  [--purpose wrap | kem | sign | mac] [--label KEY=VALUE …] [--deletion-protection] [--publish]
       twofold import --resume REQUEST --approval ID           what somebody has approved meanwhile
  [--url http://127.0.0.1:8370] [--authorization .twofold/admin.header] [--ca FILE]`;

/** Exit code of an import that waits for its approval. */
const WAITS = 3;

const refuse = (why: string) => new TwofoldError('invalid_value', why);

/**
 * @returns the exit code: 0, 2 for a call without arguments, 3 where an approval was asked for
 * @throws TwofoldError invalid_value, unknown_suite
 * @throws ClientError key_unreadable, key_unfit, passphrase_needed, passphrase_wrong, file_failed, and
 *   what the service answered
 */
export async function importCommand(
  argv: readonly string[],
  { print, complain }: Output,
): Promise<number> {
  if (argv.length === 0) {
    complain(USAGE);
    return 2;
  }
  const flags = parseFlags(argv, FLAGS);
  const resumed = one(flags, 'resume');
  const connection = new HttpConnection(connectionOptions(flags, new AbortController().signal));
  try {
    const request =
      resumed === undefined
        ? await newRequest(connection, flags, complain)
        : resumedRequest(resumed, flags);
    return await send(connection, request, { flags, print, complain });
  } finally {
    connection.close();
  }
}

async function newRequest(
  connection: HttpConnection,
  flags: ParsedFlags,
  complain: Output['complain'],
): Promise<ImportRequest> {
  const { file, suite, namespace, as } = wantedOf(flags);
  const foreign = await readKeyFile(file, flags, complain);
  try {
    const material = await materialFor(suite, foreign);
    try {
      return await prepareImport(connection, namespace, as, material);
    } finally {
      wipe(material.key);
    }
  } finally {
    if (foreign.kind === 'bytes') wipe(foreign.bytes);
  }
}

function wantedOf(flags: ParsedFlags) {
  const [file, more] = flags.positional;
  if (file === undefined) throw refuse('Name the file of the private key.');
  if (more !== undefined) throw refuse(`${more} is not an argument of this command.`);
  if (flags.values.has('approval')) throw refuse('--approval goes with --resume.');
  const [name, suite] = [one(flags, 'name'), one(flags, 'suite')];
  if (name === undefined || suite === undefined) {
    throw refuse('--name NAME and --suite SUITE are needed.');
  }
  const serves = purpose.optional().safeParse(one(flags, 'purpose'));
  if (!serves.success) throw refuse('--purpose is one of wrap, kem, sign and mac.');
  const labels = labelsOf(flags.values.get('label') ?? []);
  const as: ImportAs = {
    name,
    ...(serves.data === undefined ? {} : { purpose: serves.data }),
    ...(labels === null ? {} : { labels }),
    ...(flags.values.has('deletion-protection') ? { deletionProtection: true } : {}),
    ...(flags.values.has('publish') ? { publish: true } : {}),
  };
  return { file, suite: suiteOf(suite), namespace: one(flags, 'namespace') ?? 'default', as };
}

function labelsOf(texts: readonly string[]): Readonly<Record<string, string>> | null {
  if (texts.length === 0) return null;
  const pairs = texts.map((text) => {
    const [, key, value] = /^([^=]+)=(.*)$/su.exec(text) ?? [];
    if (key === undefined || value === undefined) throw refuse('A label is KEY=VALUE.');
    return [key, value] as const;
  });
  const labels = new Map(pairs);
  if (labels.size !== pairs.length) throw refuse('A label is given twice.');
  return Object.fromEntries(labels);
}

async function readKeyFile(
  path: string,
  flags: ParsedFlags,
  complain: Output['complain'],
): Promise<ForeignKey> {
  const bytes = readBounded(path, complain);
  try {
    return await readPrivateKey(bytes, {
      raw: flags.values.has('raw'),
      passphrase: () => readPassphrase(one(flags, 'passphrase-file')),
    });
  } catch (error) {
    if (!ClientError.is(error)) throw error;
    throw new ClientError(error.code, `${path}: ${error.message}`, error.cause);
  } finally {
    wipe(bytes);
  }
}

/** One byte more than is read at most tells that there is more. */
function readBounded(path: string, complain: Output['complain']): Uint8Array {
  let descriptor: number | undefined;
  const buffer = Buffer.alloc(MAX_DER_LENGTH + 1);
  try {
    // Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { mode } = fstatSync(descriptor);
    if ((mode & 0o170000) !== 0o100000) {
      throw new ClientError('file_failed', `${path} is not a regular file.`);
    }
    if ((mode & 0o077) !== 0) complain(`${path} is open to others; run: chmod 600 ${path}`);
    let length = 0;
    for (let read = -1; read !== 0 && length < buffer.length; length += read) {
      read = readSync(descriptor, buffer, length, buffer.length - length, null);
    }
    return buffer.subarray(0, length);
  } catch (error) {
    throw fileFailure(error);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** What waits for its approval, as `keep` wrote it. @throws TwofoldError invalid_value */
function resumedRequest(path: string, flags: ParsedFlags): ImportRequest {
  requireNothingMore(flags);
  const beside = OF_A_NEW_ONE.find((name) => flags.values.has(name));
  if (beside !== undefined) throw refuse(`--${beside} is of a new import, not of a resumed one.`);
  const approval = z.uuid().safeParse(one(flags, 'approval'));
  if (!approval.success) throw refuse('--resume goes with --approval ID, a UUID.');
  let json: unknown;
  try {
    json = JSON.parse(readCarriedFile(path));
  } catch (error) {
    throw error instanceof SyntaxError ? refuse(`${path} is not JSON.`) : error;
  }
  const { namespace, body, ...more } = isRecord(json) ? json : {};
  if (typeof namespace !== 'string' || !isRecord(body) || Object.keys(more).length > 0) {
    throw refuse(`${path} is not what this command kept of an import.`);
  }
  return { namespace, body };
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The sealed request, of which the approval is; nothing in it is secret. */
function keep(request: ImportRequest, approval: string): string {
  const path = `import-${approval}.json`;
  try {
    writeNew(path, JSON.stringify(request), 0o600);
  } catch (error) {
    throw fileFailure(error);
  }
  return path;
}

async function send(
  connection: HttpConnection,
  request: ImportRequest,
  { flags, print, complain }: Output & { readonly flags: ParsedFlags },
): Promise<number> {
  const approval = one(flags, 'approval');
  const answer = await sendImport(connection, request, {
    dryRun: flags.values.has('dry-run'),
    // Of one approval there is one import: sent again, a lost answer is given again.
    idempotencyKey: approval ?? randomUUID(),
    ...(approval === undefined ? {} : { approval }),
  });
  if (answer.kind === 'waits') {
    const kept = keep(request, answer.approval);
    complain(`An approval is needed, and was asked for: ${answer.approval}`);
    complain('When it is given, and before the parameters expire, an hour from now:');
    complain(`  twofold import --resume ${kept} --approval ${answer.approval}`);
    return WAITS;
  }
  const { id, name } = answer.key;
  print(answer.kind === 'tried' ? `${name} would be imported` : `${name} is imported: ${id}`);
  return 0;
}
