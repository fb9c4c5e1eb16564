/**
 * `protect-checkpoint`: a file of any size into a sealed file and a signed manifest, and back. The
 * command line of `src/client`; docs/sealed-files.md specifies the bytes.
 */
import { TwofoldError } from '../../src/errors.ts';
import { Output } from '../../src/cli/output.ts';
import { ClientError } from '../../src/client/client-error.ts';
import { commands, USAGE } from './commands.ts';

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** What the service or a file says is shown as text: nothing in it moves the cursor or hides. */
const shown = (line: string): string =>
  line.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const point = character.codePointAt(0) ?? 0;
    return `\\u{${point.toString(16)}}`;
  });
const output = new Output(process.stdout);
const print = (line: string) => {
  output.print(shown(line));
};
const complain = (line: string) => void process.stderr.write(`${shown(line)}\n`);

/** What a file system or network says names a call and an address; of anything else only its name. */
function complaint(error: unknown): string {
  if (ClientError.is(error) || TwofoldError.is(error)) return `${error.message} (${error.code})`;
  return `an unexpected error: ${error instanceof Error ? error.name : typeof error} (internal)`;
}

/** `timeout` and `npm run` send what a terminal has sent already: so soon it is the same signal. */
const SAME_SIGNAL_MS = 1_000;

// What was begun is undone: the first signal asks for it, one after it ends the process at once.
const interruption = new AbortController();
let signalled: number | undefined;
let signalledAt = 0;
for (const [signal, code] of Object.entries(SIGNALS)) {
  process.on(signal, () => {
    if (signalled === undefined) {
      signalled = code;
      signalledAt = performance.now();
      interruption.abort();
    } else if (performance.now() - signalledAt > SAME_SIGNAL_MS) process.exit(code);
  });
}

type Run = (typeof commands)[string];

async function exitCodeOf(command: Run, argv: readonly string[]): Promise<number> {
  const write = (bytes: Uint8Array) => output.write(bytes);
  try {
    await command({ argv, print, write, signal: interruption.signal });
    return 0;
  } catch (error) {
    if (output.isLoss(error)) return 0;
    complain(`protect-checkpoint: ${complaint(error)}`);
    return ClientError.is(error, 'interrupted') ? (signalled ?? 1) : 1;
  }
}

const [name = '', ...argv] = process.argv.slice(2);
const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
if (command === undefined) {
  complain(USAGE);
  process.exitCode = 2;
} else {
  const code = await exitCodeOf(command, argv);
  process.exitCode = await output.exitCode(code, (line) => {
    complain(`protect-checkpoint: ${line}`);
  });
}
