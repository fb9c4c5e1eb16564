/** The form inside the server, over the real keyring and audit log; HSM and database are in memory. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { PolicyAuthorizer, systemPolicies } from '../../src/access/authorize.ts';
import { KeyManagement } from '../../src/kubernetes/key-management.ts';
import { KeyringService } from '../../src/kubernetes/keyring-service.ts';
import { KmsServer } from '../../src/kubernetes/server.ts';
import { aRun, openWorld } from '../keyring/world.ts';
import { announcerOf } from './announcer.ts';
import type { Encrypted } from './apiserver.ts';
import { ELSEWHERE, providesForApiServers } from './conformance.ts';
import type { Form } from './conformance.ts';
import { NO_COUNTS } from './no-counts.ts';

async function openForm(suite: string): Promise<Form> {
  const world = await openWorld();
  const id = await world.create({ name: 'secrets', suite });
  const folder = mkdtempSync(join(tmpdir(), 'kms-'));
  const socket = join(folder, 'kms.sock');
  const { epoch, keyring, audit } = world;
  let past = 0;
  const authorizer = PolicyAuthorizer.of({ epoch, policies: systemPolicies() });
  const announcer = announcerOf(world, authorizer);
  const ticking = setInterval(() => void announcer.tick(), 20);
  const manage = (cluster: string, provider: string): KeyManagement => {
    const about = { cluster, provider, key: 'secrets' };
    const service = new KeyringService({
      use: keyring.use,
      read: keyring.read,
      audit,
      authorizer,
      announcer,
      ...about,
      epoch,
      namespace: 'default',
      engineOf: () => 'native',
      counts: NO_COUNTS,
    });
    return new KeyManagement({ service, ...about, now: () => performance.now() + past });
  };
  const open = async (): Promise<KmsServer> => {
    const server = new KmsServer({
      management: manage('c1', 'twofold'),
      path: socket,
      group: null,
      observe: () => undefined,
      onTrouble: () => undefined,
    });
    await server.serve();
    return server;
  };
  let server = await open();
  return {
    socket,
    rotate: async () => {
      await keyring.manage.rotate(world.grant('keys.rotate', 'secrets'), {}, aRun());
    },
    setPrimary: async (version) => {
      const input = { version, reason: 'a test', acceptQuantumVulnerable: false };
      await keyring.manage.setPrimary(world.grant('keys.set-primary', 'secrets'), input, aRun());
    },
    suspend: async () => {
      await keyring.manage.suspend(world.grant('keys.suspend', id), { reason: 'a test' }, aRun());
    },
    resume: async () => {
      await keyring.manage.resume(world.grant('keys.resume', id), { reason: 'a test' }, aRun());
    },
    replace: async () => {
      await server.stop();
      server = await open();
    },
    sealedElsewhere: async (seed) => {
      const values: Encrypted[] = [];
      for (const [cluster, provider] of ELSEWHERE) {
        const request = { plaintext: Uint8Array.from(seed), uid: 'elsewhere' };
        const patience = { milliseconds: Infinity };
        values.push(await manage(cluster, provider).encrypt(request, patience));
      }
      return values;
    },
    expire: () => {
      past += 11_000;
    },
    close: async () => {
      clearInterval(ticking);
      await server.stop();
      await world.stop();
      rmSync(folder, { recursive: true });
    },
  };
}

providesForApiServers('in the server', { suite: 'A256GCM', annotated: false }, openForm);
providesForApiServers('in the server', { suite: 'MLKEM768-P256', annotated: true }, openForm);
