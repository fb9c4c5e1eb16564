/**
 * `twofold kms-plugin doctor`: looks at a provider from all sides, one line for each thing: its socket and a round
 * trip through it, the service behind it (files, clock, policy, key), the EncryptionConfiguration, and a value of
 * etcd. What is not given is not looked at, and said.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { lstatSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

import { one, parseFlags, requireNothingMore } from '../../cli/arguments.ts';
import type { Flags } from '../../cli/arguments.ts';
import { TwofoldError } from '../../errors.ts';
import {
  entryFor,
  parseEncryptionConfiguration,
} from '../../kubernetes/encryption-configuration.ts';
import type { Provider as Configured } from '../../kubernetes/encryption-configuration.ts';
import { parseEtcdValue } from '../../kubernetes/etcd-value.ts';
import type { EtcdValue } from '../../kubernetes/etcd-value.ts';
import { PluginClient } from '../../kubernetes/plugin-client.ts';
import { causeOf } from '../../kubernetes/provider-status.ts';
import { referenceOf } from '../../kubernetes/stored-keys.ts';
import { configurationFile } from './configuration.ts';
import { PROVIDER_FLAGS, DEFAULT_PROVIDER, providerOf } from './flags.ts';
import { lookAtService } from './service-checks.ts';
import type { Look } from './service-checks.ts';

const FLAGS = {
  ...PROVIDER_FLAGS,
  socket: 'value',
  config: 'value',
  value: 'value',
} as const satisfies Flags;

export interface Finding {
  readonly what: string;
  readonly well: boolean;
  readonly said: string;
}

const wrong = (why: string) => new TwofoldError('invalid_value', why);

/** As an API server calls it. */
async function lookAtSocket(path: string, look: Look): Promise<void> {
  await look('socket', () => {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found === undefined)
      throw wrong(`${path} is not there: the provider does not run, or waits for another.`);
    if (!found.isSocket()) throw wrong(`${path} is no socket.`);
    const mode = found.mode & 0o777;
    if ((mode & 0o007) !== 0)
      throw wrong(`${path} is open to everybody (mode ${mode.toString(8)}).`);
    return `${path}, mode 0${mode.toString(8)}, user ${found.uid}, group ${found.gid}`;
  });
  const plugin = new PluginClient(path);
  try {
    let keyId = '';
    await look('status', async () => {
      const status = await plugin.status();
      if (status.healthz !== 'ok') throw wrong(status.healthz);
      keyId = status.keyId;
      return `${status.version}, ok, key_id ${describeKeyId(keyId)}`;
    });
    await look('round trip', async () => {
      const seed = randomBytes(32);
      const began = performance.now();
      const sealed = await plugin.encrypt({ plaintext: Uint8Array.from(seed), uid: randomUUID() });
      const middle = performance.now();
      const { plaintext } = await plugin.decrypt({ ...sealed, uid: randomUUID() });
      const end = performance.now();
      if (Buffer.compare(plaintext, seed) !== 0) throw wrong('what came back is something else');
      if (keyId !== '' && sealed.keyId !== keyId)
        throw wrong("Encrypt's key_id is not that of Status");
      return `Encrypt ${(middle - began).toFixed(1)} ms, Decrypt ${(end - middle).toFixed(1)} ms`;
    });
  } finally {
    plugin.close();
  }
}

function describeKeyId(keyId: string): string {
  const reference = referenceOf(keyId);
  return reference === null
    ? `${keyId} (of another plugin)`
    : `${keyId} (version ${reference.keyVersion} of key ${reference.keyId})`;
}

/** What a configuration says of a provider, for the resources where it is. */
function lookAtConfiguration(source: string, name: string, socket: string | undefined): string {
  const configuration = parseEncryptionConfiguration(source);
  const lines = configuration.entries.flatMap((entry) => {
    const { resources, providers } = entry;
    const at = providers.findIndex((each) => each.kind === 'kms' && each.name === name);
    const found = providers[at];
    if (found?.kind !== 'kms') return [];
    if (found.apiVersion !== 'v2')
      throw wrong(`the provider ${name} is of version ${found.apiVersion}, not v2`);
    if (socket !== undefined && found.endpoint !== `unix://${socket}`) {
      throw wrong(`the provider ${name} is at ${found.endpoint}, not at unix://${socket}`);
    }
    if (found.timeoutMs < 3_000)
      throw wrong(`the provider ${name} has ${found.timeoutMs} ms: give it 3s`);
    const others = providers.filter((_, n) => n !== at).map(nameOf);
    const beside = others.length === 0 ? '' : `, beside ${others.join(', ')}`;
    // An API server asks the providers of an entry behind those of every earlier one that names the resource.
    const firsts = Map.groupBy(resources, (each) => entryFor(configuration, each) ?? entry);
    return [...firsts].map(([first, named]) => {
      const [writer] = first.providers;
      const role = writer === found ? 'writes and reads' : `only reads; ${nameOf(writer)} writes`;
      return `${named.join(', ')}: ${name} ${role}${beside}`;
    });
  });
  if (lines.length === 0) throw wrong(`no entry has a kms provider ${name}`);
  return lines.join('; ');
}

const nameOf = (provider: Configured | undefined): string => {
  if (provider === undefined) return 'nobody';
  return provider.kind === 'kms' ? `kms ${provider.name}` : provider.kind;
};

/**
 * Whose the agent's files are, as root sees it: of who has its socket, or that one's folder while no agent runs. Null for anybody
 * else, who reads what is their own.
 */
function agentsUser(socket: string | undefined): number | null {
  if (socket === undefined || process.geteuid?.() !== 0) return null;
  const found = [socket, dirname(socket)].map((path) => lstatSync(path, { throwIfNoEntry: false }));
  return found.find((each) => each !== undefined)?.uid ?? null;
}

/** A file that `etcdctl get KEY --print-value-only` wrote, with the line break that it adds or without. */
function readValue(path: string): EtcdValue {
  if (statSync(path).size > 4_194_304) throw wrong(`${path} is too large for a value of etcd`);
  const bytes = readFileSync(path);
  try {
    return parseEtcdValue(bytes);
  } catch (error) {
    if (bytes.at(-1) !== 0x0a) throw error;
    return parseEtcdValue(bytes.subarray(0, -1));
  }
}

/** Whether an API server finds a provider's key, or the provider itself, by what the value begins with. */
function opens(provider: Configured, value: Exclude<EtcdValue, { kind: 'identity' }>): boolean {
  if (provider.kind === 'identity') return false;
  if (provider.kind !== 'kms') {
    return provider.kind === value.kind && provider.keys.includes(value.name);
  }
  return `kms-${provider.apiVersion}` === value.kind && provider.name === value.name;
}

function lookAtValue(value: EtcdValue, source: string | null): string {
  if (value.kind === 'identity') return 'in the clear: no provider sealed it';
  const configured = source === null ? null : parseEncryptionConfiguration(source);
  const reads = configured?.entries.some(({ providers }) =>
    providers.some((each) => opens(each, value)),
  );
  if (reads === false)
    throw wrong(`sealed by ${value.kind} ${value.name}, which the configuration does not have`);
  if (value.kind !== 'kms-v2') return `sealed by ${value.kind}, key or provider ${value.name}`;
  const { keyId, ciphertext, annotations, dataLength } = value.object;
  const sizes = Object.entries(annotations).map(([name, bytes]) => `${name} ${bytes.length} bytes`);
  const parts = [`ciphertext ${ciphertext.length} bytes`, ...sizes, `data ${dataLength} bytes`];
  return `sealed by kms v2 provider ${value.name}, key_id ${describeKeyId(keyId)}; ${parts.join(', ')}`;
}

function inspection(): { look: Look; findings: Finding[] } {
  const findings: Finding[] = [];
  const look: Look = async (what, work) => {
    try {
      findings.push({ what, well: true, said: await work() });
    } catch (error) {
      const own =
        TwofoldError.is(error, 'invalid_value') || TwofoldError.is(error, 'service_unreachable');
      const said = own ? (error.detail ?? error.message) : causeOf(error);
      findings.push({ what, well: false, said });
    }
  };
  return { look, findings };
}

/** @returns the exit code: 1 where something is wrong */
export async function doctorPlugin(
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const flags = parseFlags(argv, FLAGS);
  requireNothingMore(flags);
  const [socket, config, value] = ['socket', 'config', 'value'].map((name) => one(flags, name));
  const { look, findings } = inspection();
  const provider = flags.values.has('server') ? providerOf(flags) : null;
  if (socket !== undefined) await lookAtSocket(socket, look);
  if (provider !== null) {
    const files = { ...provider.files, owner: agentsUser(socket) };
    await lookAtService({ ...provider, files }, look);
  }
  const name = one(flags, 'provider') ?? DEFAULT_PROVIDER;
  let source: string | null = null;
  if (config !== undefined) {
    await look('configuration', () => {
      source = configurationFile(config);
      return lookAtConfiguration(source, name, socket);
    });
  }
  if (value !== undefined) await look('value', () => lookAtValue(readValue(value), source));
  for (const { what, well, said } of findings)
    print(`${well ? 'ok   ' : 'WRONG'} ${what}: ${said}`);
  const given = {
    '--socket': socket,
    '--server': flags.values.get('server'),
    '--config': config,
    '--value': value,
  };
  const missing = Object.entries(given).filter(([, each]) => each === undefined);
  if (missing.length > 0) print(`not looked at: ${missing.map(([flag]) => flag).join(', ')}`);
  return findings.some(({ well }) => !well) || findings.length === 0 ? 1 : 0;
}
