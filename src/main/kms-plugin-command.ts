/** `twofold kms-plugin …`: the Kubernetes KMS v2 provider on a control-plane node, and its operator's tools. */
import { servePlugin } from './kms-plugin/serve.ts';

interface Output {
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

const USAGE = `usage: twofold kms-plugin COMMAND …
  serve --socket PATH [--group NAME] [--metrics-port PORT] SERVICE     the provider, until it is told to stop
SERVICE: --server URL [--server URL …] --key NAME --cluster ID [--provider twofold] [--namespace default]
  [--ca FILE] (--token-file FILE | --cert FILE --cert-key FILE)`;

/** @returns the exit code */
export async function kmsPluginCommand(
  argv: readonly string[],
  { print, complain }: Output,
): Promise<number> {
  const [command = '', ...rest] = argv;
  // A manifest may name the agent alone.
  if (command.startsWith('--')) return servePlugin(argv, print);
  switch (command) {
    case 'serve':
      return servePlugin(rest, print);
    default:
      complain(USAGE);
      return 2;
  }
}
