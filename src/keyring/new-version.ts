/**
 * Plans that give a key a new version (create and rotate). The material is made while planning, so
 * that no HSM call runs while the epoch barrier is held.
 */
import { ENVELOPE_VERSION } from '../crypto/envelope.ts';
import type { Engine } from '../crypto/engine.ts';
import type { Suite } from '../crypto/suite.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm } from '../hsm/port.ts';
import { plainPlan } from './changes.ts';
import type { Plan } from './changes.ts';
import { custodyFor, requireAvailable, unavailability } from './material.ts';
import type { Custody, MadeMaterial, MaterialMaker } from './material.ts';
import type { Active, Key, KeyVersion, Origin, PreActive } from './model.ts';
import type { KeyView } from './operations.ts';
import type { LiveInstances } from './instance-ports.ts';
import type { KeyWrite } from './ports.ts';
import { attestKey, attestVersion } from './row-mac.ts';
import type { RowMac } from './row-mac.ts';
import { admits, requireAdmitted } from './suite-policy.ts';
import type { SuitePolicy } from './suite-policy.ts';

export interface NewVersionParts {
  readonly maker: Pick<MaterialMaker, 'make'>;
  readonly hsm: Hsm;
  readonly engine: Engine;
  readonly mac: RowMac;
  readonly instances: LiveInstances;
  /** Which suites the operator admits. */
  readonly suites: SuitePolicy;
  readonly clock: () => Date;
  /** What is said of a token of this serial that is not here, with where it is; no more than that unless told. */
  readonly lacking?: ((tokenSerial: string) => Promise<TwofoldError>) | undefined;
  /** Most living keys and versions of a namespace; nothing is limited unless told. */
  readonly quotas?: ((namespace: string) => Promise<NamespaceQuotas>) | undefined;
}

/** Null: any number. */
export interface NamespaceQuotas {
  readonly keys: number | null;
  readonly versions: number | null;
}

export interface NewVersion {
  /** Null for a key that does not exist yet. */
  readonly before: KeyView | null;
  /** The key as it will be: its latest version is the new one. */
  readonly key: Key;
  readonly suite: Suite;
  /** Null where the suite has no half in the HSM. */
  readonly custody: Custody | null;
  /** When it activates by itself; at once unless told. */
  readonly activateAt?: Date;
  /** `generated` unless told. */
  readonly origin?: Origin;
  /** Another version as the same change leaves it. */
  readonly changed?: KeyVersion;
}

/**
 * The custody that a new version of `suite` gets here.
 * @throws TwofoldError suite_unavailable_here when the operator does not admit it, or the token or a
 *   live instance cannot serve it; database_unavailable while nothing is known of those
 */
export async function writableCustody(
  { hsm, engine, instances, suites, clock }: Omit<NewVersionParts, 'maker'>,
  suite: Suite,
  wanted: Custody | undefined,
): Promise<Custody | null> {
  requireAdmitted(suites, suite, clock());
  requireAvailable(hsm, engine, suite);
  if (!(await instances.allRead(suite.number, ENVELOPE_VERSION))) {
    throw new TwofoldError(
      'suite_unavailable_here',
      'A live instance does not read this suite yet.',
    );
  }
  return custodyFor(hsm, suite, wanted, suites.tokenKeysNamed);
}

/** Why the operator or the token has no new version of `suite` at `at`, in words; null where they do. */
export function refusalOf(
  { suites, hsm, engine }: Pick<NewVersionParts, 'suites' | 'hsm' | 'engine'>,
  suite: Suite,
  at: Date,
): string | null {
  return admits(suites, suite, at) ?? unavailability(hsm, engine, suite);
}

/** A dry run makes no material, and its `after` shows no new version. */
export async function planNewVersion(
  parts: NewVersionParts,
  wanted: NewVersion,
  dryRun: boolean,
): Promise<Plan> {
  const { before, key, suite, custody, activateAt, changed, origin } = wanted;
  const facts = {
    before,
    used: {
      key: key.name,
      keyId: key.id,
      keyVersion: key.latestVersion,
      suite: suite.id,
      suiteNumber: suite.number,
    },
    detail: {
      suite: suite.id,
      custody: custody ?? 'sealed',
      version: key.latestVersion,
      ...(origin === undefined ? {} : { origin }),
      ...(activateAt === undefined ? {} : { activateAt: activateAt.toISOString() }),
    },
    changes: true,
  };
  const versions = (before?.versions ?? []).map((version) =>
    version.version === changed?.version ? changed : version,
  );
  if (dryRun) return plainPlan({ ...facts, after: { key, versions } }, []);
  const request = { suite, keyId: key.id, version: key.latestVersion, custody };
  const made = await parts.maker.make(request);
  try {
    const version = newVersion(wanted, made, parts.clock());
    const writes = [
      ...(await writesOf(parts.mac, wanted, version, made)),
      ...(await quotaWrites(parts, key.namespace, before === null)),
    ];
    const after = { key, versions: [...versions, version] };
    return { change: { ...facts, after }, writes, discard: made.discard };
  } catch (error) {
    await made.discard();
    throw error;
  }
}

async function writesOf(
  mac: RowMac,
  { before, key, changed }: NewVersion,
  version: Active | PreActive,
  { objectId }: MadeMaterial,
): Promise<readonly KeyWrite[]> {
  const row = await attestKey(mac, key);
  return [
    before === null
      ? { kind: 'insert-key', row }
      : { kind: 'update-key', row, expected: before.key.revision },
    { kind: 'insert-version', row: await attestVersion(mac, version) },
    ...(changed === undefined ? [] : [await changedWrite(mac, changed)]),
    ...(objectId === null ? [] : [{ kind: 'complete-intent', objectId } as const]),
  ];
}

/** Counted with what the change itself adds, where no other change comes between. */
async function quotaWrites(
  { quotas }: NewVersionParts,
  namespace: string,
  isNew: boolean,
): Promise<readonly KeyWrite[]> {
  const { keys, versions } = (await quotas?.(namespace)) ?? { keys: null, versions: null };
  if (keys === null && versions === null) return [];
  return [{ kind: 'require-quota', namespace, keys: isNew ? keys : null, versions }];
}

async function changedWrite(mac: RowMac, changed: KeyVersion): Promise<KeyWrite> {
  const row = await attestVersion(mac, changed);
  return { kind: 'update-version', row, expected: changed.revision - 1 };
}

function newVersion(
  { key, suite, activateAt, origin = 'generated' }: NewVersion,
  { material }: MadeMaterial,
  now: Date,
): Active | PreActive {
  const core = {
    keyId: key.id,
    version: key.latestVersion,
    suite: suite.number,
    origin,
    createdAt: now,
    certificateChain: null,
    revision: 1,
    material,
  };
  return activateAt === undefined
    ? { ...core, state: 'active', activatedAt: now, deactivateAt: null }
    : { ...core, state: 'pre-active', activateAt, destruction: null };
}
