/** The commands of `protect-checkpoint`. */
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';

import { parseFlags } from '../../src/cli/arguments.ts';
import { ClientError, throwIfAborted } from '../../src/client/client-error.ts';
import { restoreFile } from '../../src/client/restore.ts';
import { rewrapFile } from '../../src/client/rewrap.ts';
import { MANIFEST_SUFFIX, sealFile } from '../../src/client/seal.ts';
import { SealedFile } from '../../src/client/sealed-file.ts';
import { describeSigner, fingerprint, parseSigner } from '../../src/client/signer.ts';
import { CONNECTION_FLAGS, connect } from './connection.ts';
import type { Flags, ParsedFlags } from '../../src/cli/arguments.ts';
import type { Manifest } from '../../src/client/manifest.ts';
import type { Signer } from '../../src/client/signer.ts';

export const USAGE = `usage: protect-checkpoint COMMAND …
  seal FILE --recipient KEY [--recipient KEY]… --sign-with KEY [--out FILE] [--context NAME=VALUE]…
  signer KEY --out FILE                    fetch a signer's public key once, to pin it
  verify FILE --signer FILE…               signature and content, without key and without a request
  restore FILE --signer FILE… --out FILE
  read FILE --signer FILE… --offset BYTES --length BYTES        a range, to standard output
  rewrap FILE                              after a rotation: to the newest version of each recipient
All but verify: [--url http://127.0.0.1:8370] [--authorization .twofold/admin.header] [--ca FILE]
verify, restore and read: [--manifest FILE], FILE.manifest unless given`;

interface Invocation {
  readonly argv: readonly string[];
  readonly print: (line: string) => void;
  /** Resolves once standard output has the bytes; rejects once it takes nothing more. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
  /** Aborts when the process was told to stop. */
  readonly signal: AbortSignal;
}

type Command = (invocation: Invocation) => Promise<void>;

/** The one file and the flags of a command. */
class Arguments {
  readonly subject: string;
  readonly #parsed: ParsedFlags;

  constructor(argv: readonly string[], flags: Flags) {
    this.#parsed = parseFlags(argv, flags);
    const [subject, ...more] = this.#parsed.positional;
    if (subject === undefined || more.length > 0) {
      throw new ClientError('invalid_value', 'The command takes one name beside its flags.');
    }
    this.subject = subject;
  }

  all(flag: string): readonly string[] {
    return this.#parsed.values.get(flag) ?? [];
  }

  optional(flag: string): string | undefined {
    return this.all(flag)[0];
  }

  required(flag: string): string {
    const value = this.optional(flag);
    if (value === undefined) throw new ClientError('invalid_value', `--${flag} is missing.`);
    return value;
  }

  number(flag: string): number {
    const text = this.required(flag);
    if (/^\d{1,15}$/u.test(text)) return Number(text);
    throw new ClientError('invalid_value', `--${flag} is a number of bytes.`);
  }

  connect(signal: AbortSignal) {
    return connect(this.#parsed, signal);
  }
}

function contextOf(pairs: readonly string[]): Record<string, string> {
  const entries = pairs.map((pair): [string, string] => {
    const split = pair.indexOf('=');
    if (split < 1) throw new ClientError('invalid_value', '--context is NAME=VALUE.');
    return [pair.slice(0, split), pair.slice(split + 1)];
  });
  const context = Object.fromEntries(entries);
  if (Object.keys(context).length === pairs.length) return context;
  throw new ClientError('invalid_value', 'A name of --context is given twice.');
}

const MAX_SIGNER_FILE = 65_536;

/** A regular file of at most 64 KiB; a pipe is refused instead of waited for. */
function readSmallFile(path: string): Buffer {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile() || stat.size > MAX_SIGNER_FILE) {
      throw new ClientError('invalid_signer', `${path} is not a file of at most 64 KiB.`);
    }
    return readFileSync(file);
  } finally {
    closeSync(file);
  }
}

/** @throws ClientError file_failed, invalid_signer */
function readSigner(path: string): Signer {
  let text: string;
  try {
    text = readSmallFile(path).toString('utf8');
  } catch (cause) {
    if (ClientError.is(cause)) throw cause;
    throw new ClientError('file_failed', `${path} cannot be read.`, cause);
  }
  try {
    return parseSigner(JSON.parse(text));
  } catch (error) {
    if (ClientError.is(error)) throw error;
    throw new ClientError('invalid_signer', `${path} is not JSON.`, error);
  }
}

const PINNED = { signer: 'list', manifest: 'value' } as const;

function pinned(given: Arguments) {
  given.required('signer');
  const manifest = given.optional('manifest');
  return {
    path: given.subject,
    signers: given.all('signer').map(readSigner),
    ...(manifest === undefined ? {} : { manifest }),
  };
}

const bySigner = ({ key, keyId, keyVersion }: Signer) => `${key} (${keyId}) version ${keyVersion}`;

function printRate(print: (line: string) => void, { size }: Manifest, began: number): void {
  const seconds = (performance.now() - began) / 1_000;
  const rss = process.resourceUsage().maxRSS / 1_000;
  const rate = `${(size / 1e6 / seconds).toFixed(0)} MB/s`;
  print(`rate      ${rate} (${seconds.toFixed(2)} s), with ${rss.toFixed(0)} MB of memory at most`);
}

const seal: Command = async ({ argv, print, signal }) => {
  const lists = { recipient: 'list', context: 'list' } as const;
  const flags = { ...CONNECTION_FLAGS, ...lists, 'sign-with': 'value', out: 'value' } as const;
  const given = new Arguments(argv, flags);
  given.required('recipient');
  const began = performance.now();
  const target = given.optional('out') ?? `${given.subject}.sealed`;
  const { service, close } = given.connect(signal);
  try {
    const { manifest, signer } = await sealFile({
      service,
      source: given.subject,
      target,
      recipients: given.all('recipient'),
      signer: given.required('sign-with'),
      encryptionContext: contextOf(given.all('context')),
      signal,
    });
    print(`sealed    ${target}, ${manifest.size} bytes of plaintext`);
    print(`manifest  ${target}${MANIFEST_SUFFIX}`);
    print(`signer    ${bySigner(signer)}, ${fingerprint(signer)}`);
    printRate(print, manifest, began);
  } finally {
    close();
  }
};

/** A file that was not there, whole or not at all. */
function writeNew(path: string, text: string): void {
  const failed = (what: string, cause: unknown) =>
    new ClientError('file_failed', `${path} ${what}.`, cause);
  let file: number;
  try {
    file = openSync(path, 'wx');
  } catch (cause) {
    throw failed('exists, or cannot be made', cause);
  }
  try {
    writeFileSync(file, text, { flush: true });
  } catch (cause) {
    rmSync(path, { force: true });
    throw failed('could not be written, and is not there', cause);
  } finally {
    closeSync(file);
  }
}

const signer: Command = async ({ argv, print, signal }) => {
  const given = new Arguments(argv, { ...CONNECTION_FLAGS, out: 'value' });
  const out = given.required('out');
  const { service, close } = given.connect(signal);
  try {
    const fetched = parseSigner(await service.publicKey(given.subject));
    const text = `${JSON.stringify(describeSigner(fetched), null, 2)}\n`;
    writeNew(out, text);
    print(`signer    ${bySigner(fetched)}`);
    print(`pinned    ${out}; compare its fingerprint by another way before you trust it:`);
    print(fingerprint(fetched));
  } finally {
    close();
  }
};

function printVerified(print: (line: string) => void, manifest: Manifest, by: Signer): void {
  const { name, size, sealedAt } = manifest;
  print(`verified  ${JSON.stringify(name)}, ${size} bytes, sealed at ${sealedAt.toISOString()}`);
  print(`signer    ${bySigner(by)}, ${fingerprint(by)}`);
}

const verify: Command = async ({ argv, print, signal }) => {
  const given = new Arguments(argv, PINNED);
  const began = performance.now();
  const file = await SealedFile.open(pinned(given));
  try {
    await file.verify(signal);
    printVerified(print, file.manifest, file.signer);
    printRate(print, file.manifest, began);
  } finally {
    file.close();
  }
};

const restore: Command = async ({ argv, print, signal }) => {
  const given = new Arguments(argv, { ...CONNECTION_FLAGS, ...PINNED, out: 'value' });
  const began = performance.now();
  const target = given.required('out');
  const { service, close } = given.connect(signal);
  try {
    const { manifest, signer: by } = await restoreFile({
      ...pinned(given),
      service,
      target,
      signal,
    });
    printVerified(print, manifest, by);
    print(`restored  ${target}`);
    printRate(print, manifest, began);
  } finally {
    close();
  }
};

const read: Command = async ({ argv, write, signal }) => {
  const flags = { ...CONNECTION_FLAGS, ...PINNED, offset: 'value', length: 'value' } as const;
  const given = new Arguments(argv, flags);
  const { service, close } = given.connect(signal);
  const file = await SealedFile.open(pinned(given));
  try {
    await file.unlock(service);
    for (const piece of file.read(given.number('offset'), given.number('length'))) {
      throwIfAborted(signal);
      await write(piece);
    }
  } finally {
    file.close();
    close();
  }
};

const rewrap: Command = async ({ argv, print, signal }) => {
  const given = new Arguments(argv, CONNECTION_FLAGS);
  const { service, close } = given.connect(signal);
  try {
    const result = await rewrapFile({ service, path: given.subject, signal });
    print(`rewrapped ${result.changed} of ${result.recipients} recipients of ${given.subject}`);
  } finally {
    close();
  }
};

export const commands: Readonly<Record<string, Command>> = {
  seal,
  signer,
  verify,
  restore,
  read,
  rewrap,
};
