/** A call that is refused before anything is asked has its trace like any other: who plants a value in etcd is seen. */
import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { PolicyAuthorizer, systemPolicies } from '../../src/access/authorize.ts';
import type { AuditDraft } from '../../src/audit/ports.ts';
import { HttpConnection } from '../../src/client/http-connection.ts';
import { KubernetesOverHttp } from '../../src/client/kubernetes-service.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { TwofoldError } from '../../src/errors.ts';
import { KeyManagement } from '../../src/kubernetes/key-management.ts';
import { KeyringService } from '../../src/kubernetes/keyring-service.ts';
import type { DecryptRequest } from '../../src/kubernetes/protocol.ts';
import { NAME } from '../../src/name.ts';
import { openWorld } from '../keyring/world.ts';
import type { World } from '../keyring/world.ts';
import { SILENT_LOG, openAgentForm } from './agent-form.ts';
import { announcerOf } from './announcer.ts';
import { PluginClient } from './apiserver.ts';
import { ALL_IN_USE } from './in-use.ts';
import { NO_COUNTS } from './no-counts.ts';

const PATIENCE = { milliseconds: Infinity };
const about = { cluster: 'c1', provider: 'twofold', key: 'secrets' };

describe('in the server', () => {
  let world: World;
  let management: KeyManagement;
  let drafts: AuditDraft[];
  let broken: boolean;
  let genuine: Omit<DecryptRequest, 'uid'>;

  beforeEach(async () => {
    world = await openWorld();
    await world.create({ name: about.key, suite: 'MLKEM768-P256' });
    drafts = [];
    broken = false;
    const { epoch, keyring, audit } = world;
    const authorizer = PolicyAuthorizer.of({ epoch, policies: systemPolicies() });
    const service = new KeyringService({
      ...{ use: keyring.use, read: keyring.read, authorizer, epoch, namespace: 'default' },
      ...about,
      audit: {
        record: (draft, standing) => {
          if (broken) return Promise.reject(new TwofoldError('database_unavailable'));
          drafts.push(draft);
          return audit.record(draft, standing);
        },
        refusal: (operation) => audit.refusal(operation),
        leaving: (id, standing) => audit.leaving(id, standing),
      },
      announcer: announcerOf(world, authorizer),
      namespaces: ALL_IN_USE,
      engineOf: () => 'native',
      counts: NO_COUNTS,
    });
    management = new KeyManagement({ service, ...about });
    const request = { plaintext: randomBytes(32), uid: randomUUID() };
    genuine = await management.encrypt(request, PATIENCE);
    drafts.length = 0;
  });
  afterEach(() => world.stop());

  const decrypt = (changes: Partial<DecryptRequest>) =>
    management.decrypt({ ...genuine, uid: randomUUID(), ...changes }, PATIENCE);

  it.each<[string, string, Partial<DecryptRequest>]>([
    ['an empty uid', 'invalid_value', { uid: '' }],
    ['a key_id of another plugin', 'invalid_value', { keyId: 'vault:v1' }],
    [
      'an annotation that is not ours',
      'invalid_value',
      { annotations: { 'a.example': Uint8Array.of(1) } },
    ],
    ['a ciphertext that is too long', 'invalid_value', { ciphertext: new Uint8Array(1_025) }],
  ])('%s', async (_what, code, changes) => {
    await expect(decrypt(changes)).rejects.toMatchObject({ code });
    expect(drafts).toMatchObject([
      {
        operation: 'unwrap',
        outcome: code,
        actor: { subject: 'kubernetes' },
        keyRef: about.key,
        source: 'kubernetes',
        detail: { 'kubernetes/cluster': 'c1', 'kubernetes/provider': 'twofold' },
      },
    ]);
    expect(drafts[0]?.detail).not.toHaveProperty('probe');
  });

  it('a value as anyone makes it who knows the public key', async () => {
    const head = Uint8Array.from(genuine.annotations[NAME.kubernetesAnnotation] ?? []);
    // The mode: base, where the service makes psk.
    head[1] = 0;
    const planted = { annotations: { [NAME.kubernetesAnnotation]: head } };
    await expect(decrypt(planted)).rejects.toMatchObject({ code: 'invalid_envelope' });
    expect(drafts).toMatchObject([{ operation: 'unwrap', outcome: 'invalid_envelope' }]);
  });

  it('a plaintext that has no room', async () => {
    const request = { plaintext: randomBytes(1_025), uid: randomUUID() };
    await expect(management.encrypt(request, PATIENCE)).rejects.toMatchObject({
      code: 'invalid_value',
    });
    expect(drafts).toMatchObject([
      { operation: 'wrap', outcome: 'invalid_value', detail: { uid: request.uid } },
    ]);
  });

  it('without an entry there is no answer but that', async () => {
    broken = true;
    await expect(decrypt({ uid: '' })).rejects.toMatchObject({ code: 'audit_unavailable' });
    expect(drafts).toEqual([]);
  });
});

it('the agent, which asks no service about it, says so in its log, and quotes nothing', async () => {
  const warnings: object[] = [];
  const log = { ...SILENT_LOG, warn: (fields: object) => void warnings.push(fields) };
  const form = await openAgentForm('A256GCM', { log });
  const plugin = new PluginClient(form.socket);
  try {
    const value = await plugin.encrypt(randomBytes(32));
    const uid = randomUUID();
    await expect(plugin.decrypt({ ...value, keyId: 'planted' }, uid)).rejects.toMatchObject({
      code: 3,
    });
    await expect(plugin.decrypt({ ...value, keyId: 'planted' }, 'a secret')).rejects.toMatchObject({
      code: 3,
    });
    expect(warnings).toEqual([
      { operation: 'unwrap', code: 'invalid_value', uid },
      { operation: 'unwrap', code: 'invalid_value' },
    ]);
  } finally {
    plugin.close();
    await form.close();
  }
});

it('the agent seals nothing under a key of one half, whatever its record says', async () => {
  const form = await openAgentForm('A256GCM');
  const connection = new HttpConnection({
    url: new URL(form.service.url),
    authorization: () => `Bearer ${readFileSync(form.tokenFile, 'utf8').trim()}`,
  });
  const service = new KubernetesOverHttp({
    ...{ endpoints: [connection], namespace: 'default', cluster: 'c1', provider: 'twofold' },
    key: 'half',
  });
  try {
    await form.world.create({ name: 'half', suite: 'ML-KEM-768' });
    using plaintext = SecretBytes.own(randomBytes(32));
    const call = { plaintext, keyVersion: 1, context: { a: 'b' }, uid: null };
    await expect(service.wrap(call, AbortSignal.timeout(5_000))).rejects.toMatchObject({
      code: 'wrong_purpose',
    });
  } finally {
    service.close();
    await form.close();
  }
});
