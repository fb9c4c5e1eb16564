/** `twofold kms-plugin config`: prints an EncryptionConfiguration. Its input may hold keys, and so its output. */
import { isAbsolute } from 'node:path';

import { one, parseFlags, requireNothingMore } from '../../cli/arguments.ts';
import type { Flags } from '../../cli/arguments.ts';
import { readOwnerOnlyFile } from '../../config.ts';
import { writeEncryptionConfiguration } from '../../kubernetes/encryption-configuration.ts';
import { DEFAULT_PROVIDER, label, needed, refuse } from './flags.ts';

const FLAGS = {
  socket: 'value',
  provider: 'value',
  resource: 'list',
  before: 'value',
  'read-only': 'switch',
  only: 'switch',
} as const satisfies Flags;

const RESOURCE = /^(?:\*\.|\*\.\*|[a-z0-9*](?:[-.a-z0-9]{0,200}[a-z0-9])?)$/u;

/** Of an API server's file, which only root and its user read. */
export const configurationFile = (path: string): string =>
  Buffer.from(readOwnerOnlyFile(path, 0o007)).toString('utf8');

export function printConfiguration(argv: readonly string[], print: (line: string) => void): number {
  const flags = parseFlags(argv, FLAGS);
  requireNothingMore(flags);
  const socket = needed(flags, 'socket', 'PATH');
  if (!isAbsolute(socket)) throw refuse('--socket is an absolute path, as the API server sees it.');
  const resources = flags.values.get('resource') ?? ['secrets'];
  const odd = resources.find((name) => !RESOURCE.test(name));
  if (odd !== undefined) throw refuse(`--resource ${odd} is not of the form name or name.group.`);
  const before = one(flags, 'before');
  const only = flags.values.has('only');
  if (only && (before === undefined || flags.values.has('read-only'))) {
    throw refuse(
      '--only takes the former providers out of --before FILE, and goes with no --read-only.',
    );
  }
  const written = writeEncryptionConfiguration({
    name: label(one(flags, 'provider') ?? DEFAULT_PROVIDER, 'provider'),
    socket,
    resources,
    before: before === undefined ? null : configurationFile(before),
    readOnly: flags.values.has('read-only'),
    only,
  });
  print(written.trimEnd());
  return 0;
}
