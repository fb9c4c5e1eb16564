/** When a new version is announced: after every live instance has confirmed it, and never for a provider that ended. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';

import { PolicyAuthorizer, systemPolicies } from '../../src/access/authorize.ts';
import type { AuditDraft } from '../../src/audit/ports.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { TwofoldError } from '../../src/errors.ts';
import { Announcer, awaitsAnnouncement } from '../../src/kubernetes/announcer.ts';
import { KeyringService } from '../../src/kubernetes/keyring-service.ts';
import { aRun, openWorld } from '../keyring/world.ts';
import type { World } from '../keyring/world.ts';
import { ALL_IN_USE } from './in-use.ts';
import { NO_COUNTS } from './no-counts.ts';

const LABEL = 'kubernetes/c1';
let world: World;
let announcer: Announcer;
/** What the instance that is furthest behind has confirmed; null: all of them have confirmed all. */
let least: number | null;
const troubles: unknown[] = [];
let inUse: boolean;

const read = () => world.keyring.read.fresh(world.grant('keys.read', 'k'));
const recorded = async () => (await read()).key.labels[LABEL];
const rotate = () => world.keyring.manage.rotate(world.grant('keys.rotate', 'k'), {}, aRun());
const update = (labels: Record<string, string>) =>
  world.keyring.manage.update(world.grant('keys.update', 'k'), { labels }, aRun());
const look = async () => {
  announcer.consider(await read());
  await announcer.tick();
};

beforeEach(async () => {
  world = await openWorld();
  await world.create({ name: 'k', suite: 'A256GCM' });
  const { epoch, keyring } = world;
  least = null;
  inUse = true;
  troubles.length = 0;
  announcer = new Announcer({
    read: keyring.read,
    manage: keyring.manage,
    namespaces: { isInUse: () => Promise.resolve(inUse) },
    instances: {
      confirmed: () => Promise.resolve({ epoch: epoch.current, least: least ?? epoch.current }),
    },
    authorizer: PolicyAuthorizer.of({ epoch, policies: systemPolicies() }),
    onTrouble: (error) => troubles.push(error),
  });
  await update({ [LABEL]: 'provider=twofold announced=1' });
});
afterEach(() => world.stop());

test('an instance that is behind holds an announcement back until it has confirmed', async () => {
  const before = world.epoch.current;
  await rotate();
  least = before;
  for (let n = 0; n < 3; n += 1) {
    await look();
    expect([await recorded(), announcer.pending]).toEqual(['provider=twofold announced=1', 1]);
  }
  // It has seen the rotation; what came after it does not matter.
  least = world.epoch.current;
  await update({ other: 'change' });
  await look();
  expect([await recorded(), announcer.pending]).toEqual(['provider=twofold announced=2', 0]);
  expect(troubles).toEqual([]);
});

test('another rotation meanwhile is waited for anew', async () => {
  const before = world.epoch.current;
  await rotate();
  least = before;
  await look();
  least = world.epoch.current;
  await rotate();
  await look();
  expect(await recorded()).toBe('provider=twofold announced=1');
  least = null;
  await look();
  expect(await recorded()).toBe('provider=twofold announced=3');
});

test('an earlier version that is put back is not announced, nor anything for a provider that ended', async () => {
  await rotate();
  await look();
  const back = { version: 1, reason: 'a test', acceptQuantumVulnerable: false };
  await world.keyring.manage.setPrimary(world.grant('keys.set-primary', 'k'), back, aRun());
  await look();
  expect(await recorded()).toBe('provider=twofold announced=2');
  const ended = `provider=twofold announced=2 retired=2 proof=${'A'.repeat(43)}`;
  await update({ [LABEL]: ended });
  await rotate();
  await look();
  expect([await recorded(), announcer.pending, troubles]).toEqual([ended, 0, []]);
});

test('nothing is announced or registered in a suspended namespace, and nothing is troubled by that', async () => {
  await rotate();
  inUse = false;
  await look();
  expect([await recorded(), announcer.pending]).toEqual(['provider=twofold announced=1', 0]);
  await expect(announcer.register(await read(), 'c2', 'twofold')).rejects.toMatchObject({
    code: 'namespace_suspended',
  });
  inUse = true;
  await look();
  expect([await recorded(), troubles]).toEqual(['provider=twofold announced=2', []]);
});

test('what cannot be read now is said, and looked at again', async () => {
  await rotate();
  announcer.consider(await read());
  const lost = new Announcer({
    read: { fresh: () => Promise.reject(new Error('the database is away')) },
    manage: world.keyring.manage,
    namespaces: ALL_IN_USE,
    instances: { confirmed: () => Promise.resolve({ epoch: 1, least: 1 }) },
    authorizer: PolicyAuthorizer.of({ epoch: world.epoch, policies: systemPolicies() }),
    onTrouble: (error) => troubles.push(error),
  });
  lost.consider(await read());
  await lost.tick();
  // It is looked at again.
  expect([troubles.length, lost.pending]).toEqual([1, 1]);
});

test('two instances that register a provider at once make one record, and neither fails for good', async () => {
  const view = await read();
  const both = await Promise.allSettled(
    ['c2', 'c2'].map((cluster) => announcer.register(view, cluster, 'twofold')),
  );
  const failed = both.flatMap((each) =>
    each.status === 'rejected' ? [each.reason as unknown] : [],
  );
  expect(failed).toMatchObject([{ code: 'conflict' }]);
  expect((await read()).key.labels['kubernetes/c2']).toBe('provider=twofold announced=1');
});

test('what is refused in the grace has its entry, and where none can be made, none', async () => {
  const drafts: AuditDraft[] = [];
  let refused: TwofoldError['code'] = 'read_only_grace';
  const { epoch, keyring } = world;
  const service = new KeyringService({
    use: keyring.use,
    read: keyring.read,
    audit: {
      record: (draft) => {
        drafts.push(draft);
        return Promise.resolve('1-1');
      },
      refusal: () => new TwofoldError(refused),
      leaving: () => 'durable',
    },
    authorizer: PolicyAuthorizer.of({ epoch, policies: systemPolicies() }),
    announcer,
    namespaces: ALL_IN_USE,
    ...{ cluster: 'c1', provider: 'twofold', key: 'k', namespace: 'default', epoch },
    engineOf: () => 'native',
    counts: NO_COUNTS,
  });
  const wrap = () =>
    service.wrap({
      plaintext: SecretBytes.copyOf(new Uint8Array(32)),
      keyVersion: 1,
      context: { cluster: 'c1', provider: 'twofold' },
      uid: null,
    });
  await expect(wrap()).rejects.toMatchObject({ code: refused });
  expect(drafts).toMatchObject([{ operation: 'wrap', outcome: refused, source: 'kubernetes' }]);
  refused = 'audit_unavailable';
  await expect(wrap()).rejects.toMatchObject({ code: refused });
  expect(drafts).toHaveLength(1);
});

test('a version of a suite that no provider seals with is not announced, however it became the primary', async () => {
  const view = await read();
  const [version] = view.versions;
  if (version === undefined) throw new Error('no version');
  const { number: suite } = findSuite('ML-KEM-768');
  const key = { ...view.key, primary: 2, latestVersion: 2 };
  const next = { ...version, version: 2 };
  expect(awaitsAnnouncement({ key, versions: [version, next] })).toBe(true);
  expect(awaitsAnnouncement({ key, versions: [version, { ...next, suite }] })).toBe(false);
});
