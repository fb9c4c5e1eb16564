/** `twofold hsm make-root`: the root ceremony on a configured token, run by its operator. */
import { randomUUID } from 'node:crypto';

import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import { moduleEnvironment } from '../config.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { runRootCeremony } from '../hsm/run-ceremony.ts';

const FLAGS = {
  'so-pin-file': 'value',
  installation: 'value',
  'allow-extractable': 'switch',
} as const;

/**
 * The SO PIN is read from its file by the ceremony process alone. Where the SO has no part, or the
 * token knows no trusted keys with templates, a root is made only with `--allow-extractable`: whoever
 * holds the PIN can extract it, and the service then says so. Without `--installation` a token that
 * holds a root already is left as it is: `"made":false`.
 */
export async function hsmCommand(
  config: Config,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const [action, ...others] = argv;
  if (action !== 'make-root') {
    throw new TwofoldError('invalid_value', 'The command is: twofold hsm make-root');
  }
  const parsed = parseFlags(others, FLAGS);
  requireNothingMore(parsed);
  const { module, slot, tokenLabel, pinFile } = config.hsm;
  if (module === undefined || pinFile === undefined) {
    throw new TwofoldError('invalid_value', 'hsm.module and hsm.pinFile are not configured.');
  }
  const soPinFile = parsed.values.get('so-pin-file')?.[0];
  const installation = parsed.values.get('installation')?.[0];
  const made = await runRootCeremony({
    module,
    tokenSelector: {
      ...(slot === undefined ? {} : { slot }),
      ...(tokenLabel === undefined ? {} : { label: tokenLabel }),
    },
    pinFile,
    ...(soPinFile === undefined ? {} : { soPinFile }),
    installation: installation ?? randomUUID(),
    generation: 1,
    // Run twice, or over a token whose root is in use, the command finds the root and leaves it.
    unlessAny: installation === undefined,
    allowExtractable: parsed.values.has('allow-extractable'),
    stateDir: config.dataDir,
    environment: moduleEnvironment(),
  });
  const { root, ...rest } = made;
  print(JSON.stringify({ ...rest, ...root }));
  return 0;
}
