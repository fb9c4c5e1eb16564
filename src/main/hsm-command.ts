/** `twofold hsm …`: what an operator does to a configured token, with the security officer's PIN. */
import { randomUUID } from 'node:crypto';

import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Flags } from '../cli/arguments.ts';
import { moduleEnvironment } from '../config.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { runRootCeremony, runSoftTokenCeremony } from '../hsm/run-ceremony.ts';

const ROOT_FLAGS = {
  'so-pin-file': 'value',
  installation: 'value',
  'allow-extractable': 'switch',
} as const;

const TOKEN_FLAGS = { 'so-pin-file': 'value' } as const;

const INIT_FLAGS = { ...TOKEN_FLAGS, 'allow-extractable': 'switch' } as const;

/** The SO PIN is read from its file by the ceremony process alone. */
export async function hsmCommand(
  config: Config,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const [action, ...others] = argv;
  if (action === 'init') {
    print(JSON.stringify(await init(config, flagsOf(others, INIT_FLAGS))));
  } else if (action === 'make-root') {
    print(JSON.stringify(await makeRoot(config, flagsOf(others, ROOT_FLAGS))));
  } else if (action === 'init-token') {
    print(JSON.stringify(await initToken(config, flagsOf(others, TOKEN_FLAGS))));
  } else {
    const detail = 'The command is: twofold hsm init, init-token or make-root';
    throw new TwofoldError('invalid_value', detail);
  }
  return 0;
}

type Values = ReadonlyMap<string, readonly string[]>;

function flagsOf(argv: readonly string[], declared: Flags): Values {
  const parsed = parseFlags(argv, declared);
  requireNothingMore(parsed);
  return parsed.values;
}

function configured({ hsm: { module, moduleParameters, pinFile } }: Config) {
  if (module === undefined || pinFile === undefined) {
    throw new TwofoldError('invalid_value', 'hsm.module and hsm.pinFile are not configured.');
  }
  return {
    module,
    pinFile,
    ...(moduleParameters === undefined ? {} : { moduleParameters }),
  };
}

/**
 * Where the SO has no part, or the token knows no trusted keys with templates, a root is made only
 * with `--allow-extractable`: whoever holds the PIN can extract it, and the service then says so.
 * Without `--installation` a token that holds a root already is left as it is: `"made":false`.
 */
async function makeRoot(config: Config, flags: Values): Promise<object> {
  const { slot, tokenLabel } = config.hsm;
  const soPinFile = flags.get('so-pin-file')?.[0];
  const installation = flags.get('installation')?.[0];
  const { root, ...rest } = await runRootCeremony({
    ...configured(config),
    tokenSelector: {
      ...(slot === undefined ? {} : { slot }),
      ...(tokenLabel === undefined ? {} : { label: tokenLabel }),
    },
    ...(soPinFile === undefined ? {} : { soPinFile }),
    installation: installation ?? randomUUID(),
    generation: 1,
    // Run twice, or over a token whose root is in use, the command finds the root and leaves it.
    unlessAny: installation === undefined,
    allowExtractable: flags.has('allow-extractable'),
    stateDir: config.dataDir,
    environment: moduleEnvironment(),
  });
  return { ...rest, ...root };
}

/**
 * The first token of an installation in one command: `init-token`, then `make-root`. Where the module is
 * another vendor's, whose tool initialises its tokens, the token must be there already. Both steps leave
 * what is there as it is, so a command that was killed is run again.
 */
async function init(config: Config, flags: Values): Promise<object> {
  const token = await initToken(config, flags, true);
  return { token, root: await makeRoot(config, flags) };
}

/**
 * For SoftHSM alone, in places that have none of its tools: both PINs must be in their files already,
 * and a token of the configured label that is there is left as it is.
 */
async function initToken(config: Config, flags: Values, leaveForeign = false): Promise<object> {
  const soPinFile = flags.get('so-pin-file')?.[0];
  const label = config.hsm.tokenLabel;
  if (soPinFile === undefined || label === undefined) {
    throw new TwofoldError('invalid_value', '--so-pin-file and hsm.tokenLabel are needed.');
  }
  return runSoftTokenCeremony(
    { ...configured(config), label, soPinFile, leaveForeign },
    { softhsmConf: undefined, environment: moduleEnvironment() },
  );
}
