/** The agent's form for tests: agents before services over HTTP, which share one keyring in memory. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { startAgent } from '../../src/main/kms-plugin/agent.ts';
import type { Agent, AgentOptions } from '../../src/main/kms-plugin/agent.ts';
import { openServiceOver } from '../http/service.ts';
import type { Service, ServiceOptions } from '../http/service.ts';
import { aRun, openWorld } from '../keyring/world.ts';
import type { World } from '../keyring/world.ts';
import { PluginClient } from './apiserver.ts';
import type { Encrypted } from './apiserver.ts';
import { ELSEWHERE } from './conformance.ts';
import type { Form } from './conformance.ts';

export const silent = () => undefined;
export const SILENT_LOG = {
  trace: silent,
  debug: silent,
  info: silent,
  warn: silent,
  error: silent,
  fatal: silent,
};

export interface AgentForm extends Form {
  readonly world: World;
  readonly service: Service;
  readonly folder: string;
  readonly tokenFile: string;
  readonly agent: Agent;
  /** What an agent is started with; another one for the same cluster takes them as they are. */
  readonly options: AgentOptions;
}

/** What the operator's hand does to the key `secrets` of a keyring. */
export function handOn(world: World, id: string) {
  const { keyring } = world;
  return {
    rotate: async () => {
      await keyring.manage.rotate(world.grant('keys.rotate', 'secrets'), {}, aRun());
    },
    setPrimary: async (version: number) => {
      const input = { version, reason: 'a test', acceptQuantumVulnerable: false };
      await keyring.manage.setPrimary(world.grant('keys.set-primary', 'secrets'), input, aRun());
    },
    suspend: async () => {
      await keyring.manage.suspend(world.grant('keys.suspend', id), { reason: 'a test' }, aRun());
    },
    resume: async () => {
      await keyring.manage.resume(world.grant('keys.resume', id), { reason: 'a test' }, aRun());
    },
  };
}

export async function openAgentForm(
  suite: string,
  changes: Partial<AgentOptions> = {},
  serviceOptions: ServiceOptions = {},
): Promise<AgentForm> {
  const world = await openWorld();
  const id = await world.create({ name: 'secrets', suite });
  const service = await openServiceOver(world, serviceOptions);
  const folder = mkdtempSync(join(tmpdir(), 'kms-agent-'));
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, `${await service.token('admin')}\n`, { mode: 0o600 });
  /** As the service does once every instance has confirmed the version. */
  const announce = async (version: number) => {
    const labels = { 'kubernetes/c1': `provider=twofold announced=${String(version)}` };
    const grant = world.grant('keys.update', 'secrets');
    await world.keyring.manage.update(grant, { labels, announcing: true }, aRun());
  };
  await announce(1);
  let announced = 1;
  const hand = handOn(world, id);
  let past = 0;
  const socket = join(folder, 'kms.sock');
  const options: AgentOptions = {
    servers: [new URL(service.url)],
    files: { token: tokenFile },
    namespace: 'default',
    key: 'secrets',
    cluster: 'c1',
    provider: 'twofold',
    socket,
    announced: null,
    group: null,
    metricsPort: null,
    log: SILENT_LOG,
    now: () => performance.now() + past,
    ...changes,
  };
  const start = async () => {
    const agent = await startAgent(options);
    await agent.served;
    return agent;
  };
  let agent = await start();
  /** By an agent of another cluster, at a socket of its own. */
  const sealedFor = async (
    [cluster, provider]: readonly [string, string],
    seed: Uint8Array,
  ): Promise<Encrypted> => {
    const { primary } = (await world.keyring.read.fresh(world.grant('keys.read', 'secrets'))).key;
    const record = `provider=${provider} announced=${String(primary)}`;
    const grant = world.grant('keys.update', 'secrets');
    const labels = { [`kubernetes/${cluster}`]: record };
    await world.keyring.manage.update(grant, { labels }, aRun());
    const its = { cluster, provider, socket: join(folder, `${cluster}.sock`) };
    const other = await startAgent({ ...options, ...its });
    const client = new PluginClient(its.socket);
    try {
      await other.served;
      return await client.encrypt(seed);
    } finally {
      client.close();
      await other.stop();
    }
  };
  return {
    world,
    service,
    folder,
    tokenFile,
    options,
    socket,
    get agent() {
      return agent;
    },
    ...hand,
    rotate: async () => {
      await hand.rotate();
      announced += 1;
      await announce(announced);
    },
    replace: async () => {
      await agent.stop();
      agent = await start();
    },
    sealedElsewhere: async (seed) => {
      const values: Encrypted[] = [];
      for (const elsewhere of ELSEWHERE) values.push(await sealedFor(elsewhere, seed));
      return values;
    },
    expire: () => {
      past += 11_000;
    },
    close: async () => {
      await agent.stop();
      await service.stop();
      rmSync(folder, { recursive: true });
    },
  };
}
