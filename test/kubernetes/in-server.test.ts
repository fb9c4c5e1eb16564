/** The form inside the server, over the real keyring and audit log; HSM and database are in memory. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

import { PolicyAuthorizer, systemPolicies } from '../../src/access/authorize.ts';
import { openGovernance } from '../../src/governance/governance.ts';
import { KeyManagement } from '../../src/kubernetes/key-management.ts';
import { KeyringService } from '../../src/kubernetes/keyring-service.ts';
import { KmsServer } from '../../src/kubernetes/server.ts';
import { aKey, aRun, openWorld } from '../keyring/world.ts';
import type { World } from '../keyring/world.ts';
import { announcerOf } from './announcer.ts';
import type { Encrypted } from './apiserver.ts';
import { ELSEWHERE, providesForApiServers } from './conformance.ts';
import type { Form } from './conformance.ts';
import { ALL_IN_USE } from './in-use.ts';
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
      namespaces: ALL_IN_USE,
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

describe('in a namespace of its own', () => {
  const about = { cluster: 'c1', provider: 'twofold', key: 'secrets' };
  const patience = { milliseconds: Infinity };
  const setRun = () => ({
    ...aRun(),
    ifMatch: null,
    render: () => ({ status: 200, body: '{}' }),
  });
  let world: World;
  let management: KeyManagement;
  let past = 0;
  /** Runs once, when a seed has been sealed and its answer has not left. */
  let meanwhile: (() => Promise<unknown>) | null = null;

  const act = (what: 'suspend' | 'resume') =>
    openGovernance(world.governing).namespaces[what](
      world.grant('namespaces.change', null),
      { name: 'team-a', reason: 'a test' },
      setRun(),
    );
  const seal = () => {
    const request = { plaintext: Uint8Array.from(randomBytes(32)), uid: randomUUID() };
    return management.encrypt(request, patience);
  };
  const status = () => {
    past += 11_000;
    return management.status();
  };
  const refusal = { code: 'namespace_suspended' };

  beforeAll(async () => {
    world = await openWorld();
    const { epoch, keyring, audit } = world;
    const { namespaces } = openGovernance(world.governing);
    await namespaces.create(
      world.grant('namespaces.change', null),
      { name: 'team-a', description: '' },
      setRun(),
    );
    const grant = world.grant('keys.create', 'secrets', 'team-a');
    await keyring.manage.create(grant, aKey({ name: 'secrets', suite: 'A256GCM' }), aRun());
    const authorizer = PolicyAuthorizer.of({ epoch, policies: systemPolicies() });
    const service = new KeyringService({
      ...{ ...about, read: keyring.read, audit, authorizer, epoch, namespaces },
      use: {
        wrap: async (...call) => {
          const wrapped = await keyring.use.wrap(...call);
          const act = meanwhile;
          meanwhile = null;
          await act?.();
          return wrapped;
        },
        unwrap: (...call) => keyring.use.unwrap(...call),
      },
      namespace: 'team-a',
      announcer: announcerOf(world, authorizer, namespaces),
      engineOf: () => 'native',
      counts: NO_COUNTS,
    });
    management = new KeyManagement({
      ...{ service, ...about, now: () => performance.now() + past },
    });
  });
  afterAll(() => world.stop());

  test('its suspension ends every use at once, of remembered seeds too, until it is resumed', async () => {
    await status();
    const value = { ...(await seal()), uid: randomUUID() };
    await management.decrypt(value, patience);
    await act('suspend');
    await expect(seal()).rejects.toMatchObject(refusal);
    await expect(management.decrypt(value, patience)).rejects.toMatchObject(refusal);
    await expect(status()).rejects.toMatchObject(refusal);
    await act('resume');
    await status();
    expect((await management.decrypt(value, patience)).plaintext).toHaveLength(32);
    await seal();
  });

  test('one that comes while a seed is sealed overtakes its answer', async () => {
    await status();
    meanwhile = () => act('suspend');
    await expect(seal()).rejects.toMatchObject(refusal);
    await act('resume');
  });
});
