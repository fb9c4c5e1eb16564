/** `twofold kms-plugin …`: the Kubernetes KMS v2 provider on a control-plane node, and its operator's tools. */
import { printable } from '../audit/verify/printable.ts';
import { printConfiguration } from './kms-plugin/configuration.ts';
import { doctorPlugin } from './kms-plugin/doctor.ts';
import { registerProvider } from './kms-plugin/records.ts';
import { servePlugin } from './kms-plugin/serve.ts';
import { unregisterProvider } from './kms-plugin/unregister.ts';
import { verifyRotation } from './kms-plugin/verify-rotation.ts';

interface Output {
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

const USAGE = `usage: twofold kms-plugin COMMAND …
  serve --socket PATH [--announced FILE] [--group NAME] [--metrics-port PORT] SERVICE
                                                                       the provider, until it is told to stop
  register --key NAME --cluster ID [--provider twofold] OPERATOR       makes the provider known to its key
  unregister (--snapshot FILE | --dump FILE) --key NAME --cluster ID OPERATOR
                                                                       ends it, once nothing in etcd is under its key
  config --socket PATH [--provider twofold] [--resource secrets …] [--before FILE] [--read-only | --only]
                                                                       an EncryptionConfiguration
  verify-rotation (--snapshot FILE | --dump FILE) [--key-id ID]        which keys the values of etcd are under
    [--retire --key NAME --cluster ID OPERATOR]
  doctor [--socket PATH] [--config FILE] [--value FILE] [SERVICE]      what is wrong, seen from a control-plane node
SERVICE: --server URL [--server URL …] --key NAME --cluster ID [--provider twofold] [--namespace default]
  [--ca FILE] (--token-file FILE | --cert FILE --cert-key FILE)
OPERATOR: [--url http://127.0.0.1:8370] [--authorization .twofold/admin.header] [--ca FILE] [--namespace default]
  [--approval ID]`;

/** @returns the exit code */
export async function kmsPluginCommand(
  argv: readonly string[],
  { print, complain }: Output,
): Promise<number> {
  const [command = '', ...rest] = argv;
  // Names and key_ids of etcd are whatever somebody wrote there: they begin no line and steer no terminal.
  const show = (line: string) => print(printable(line));
  // A manifest may name the agent alone.
  if (command.startsWith('--')) return servePlugin(argv, print);
  switch (command) {
    case 'serve':
      return servePlugin(rest, print);
    case 'config':
      return printConfiguration(rest, print);
    case 'doctor':
      return doctorPlugin(rest, show);
    case 'register':
      return registerProvider(rest, show);
    case 'unregister':
      return unregisterProvider(rest, show);
    case 'verify-rotation':
      return verifyRotation(rest, show);
    default:
      complain(USAGE);
      return 2;
  }
}
