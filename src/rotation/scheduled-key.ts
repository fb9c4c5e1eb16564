/** What a plan needs to know of a key: a projection of it and of its versions. */
import { destructionOf } from '../keyring/lifecycle.ts';
import type { Key, KeyVersion, Labels, Purpose, VersionState } from '../keyring/model.ts';
import type { RotationFacts } from './next-rotation.ts';

export interface ScheduledVersion {
  readonly version: number;
  readonly state: VersionState;
  readonly suite: number;
  readonly createdAt: Date;
  readonly activateAt: Date | null;
  readonly activatedAt: Date | null;
  readonly deactivateAt: Date | null;
  readonly destroyAt: Date | null;
  /** When a higher version became active first; null while none did. */
  readonly supersededAt: Date | null;
  /** Revision of the key at which a policy retired it last, 0 for never; it may have been opened again since. */
  readonly retired: number;
}

export interface ScheduledKey {
  readonly id: string;
  readonly purpose: Purpose;
  readonly labels: Labels;
  readonly primary: number | null;
  readonly minUsableVersion: number;
  /** Of its row. */
  readonly revision: number;
  /** Of the policy in effect; null for its own, and where none is. */
  readonly policyName: string | null;
  readonly suspended: boolean;
  /** When the whole key is to be destroyed; null while that is not planned. */
  readonly destroyAt: Date | null;
  readonly destroyedAt: Date | null;
  /** Protecting uses of the primary; blocks reserved by instances count whole. */
  readonly uses: number;
  /** Every version, in order. */
  readonly versions: readonly ScheduledVersion[];
  /** `identityOf` of notices that were given; they are not due again. */
  readonly noticed: readonly string[];
  /** Retirements that were announced. */
  readonly retiring: readonly AnnouncedRetirement[];
}

export interface AnnouncedRetirement {
  readonly version: number;
  /** When the policy asked for it, as of then. */
  readonly asked: Date;
  readonly policyName: string | null;
  readonly policyRevision: number;
  /** As of then: see `ScheduledVersion`. Times do not tell what came first where the clock went back. */
  readonly retired: number;
  readonly givenAt: Date;
}

/** A notice or a retirement that ran, by `identityOf`. */
export interface RanBefore {
  readonly action: string;
  readonly policyRevision: number;
  readonly doneAt: Date;
}

/** What the rows of a key do not say. */
export interface ScheduleFacts {
  readonly uses: number;
  readonly ran: readonly RanBefore[];
  /** See `ScheduledKey`. */
  readonly policyName: string | null;
}

/** In the place of a policy's name, which it cannot be. */
export const OWN_POLICY = '-';
const ANNOUNCED =
  /^notice\/retirement\/(?<version>\d+)\/(?<asked>\d+)\/(?<policy>[^/]+)\/(?<retired>\d+)\/\d+$/;
const RETIRED = /^retire\/(\d+)\/(\d+)$/;

function retirementsIn(ran: readonly RanBefore[]): readonly AnnouncedRetirement[] {
  return ran.flatMap(({ action, policyRevision, doneAt: givenAt }) => {
    const { version, asked, policy, retired } = ANNOUNCED.exec(action)?.groups ?? {};
    if (version === undefined || policy === undefined) return [];
    return [
      {
        version: Number(version),
        asked: new Date(Number(asked)),
        policyName: policy === OWN_POLICY ? null : policy,
        policyRevision,
        retired: Number(retired),
        givenAt,
      },
    ];
  });
}

/** By version, at which revision of the key it was retired last. */
function retiredIn(ran: readonly RanBefore[]): ReadonlyMap<number, number> {
  const last = new Map<number, number>();
  for (const { action } of ran) {
    const [found, version, revision] = RETIRED.exec(action) ?? [];
    if (found === undefined) continue;
    last.set(Number(version), Math.max(Number(revision), last.get(Number(version)) ?? 0));
  }
  return last;
}

const timeOf = (version: KeyVersion, name: string): Date | null =>
  (version as unknown as Readonly<Record<string, Date | null | undefined>>)[name] ?? null;

/** Of any of these versions; null while none is activated. */
function firstActivation(versions: readonly KeyVersion[]): Date | null {
  const times = versions.flatMap((each) => timeOf(each, 'activatedAt')?.getTime() ?? []);
  return times.length === 0 ? null : new Date(Math.min(...times));
}

/** `versions` are all of the key's, in order. */
export function scheduledKey(
  key: Key,
  versions: readonly KeyVersion[],
  { uses, ran, policyName }: ScheduleFacts,
): ScheduledKey {
  // The first by time: one that a clock ran ahead for does not keep the older ones open once there is a later one.
  const supersededAt = (index: number): Date | null => firstActivation(versions.slice(index + 1));
  const retired = retiredIn(ran);
  return {
    id: key.id,
    purpose: key.purpose,
    labels: key.labels,
    primary: key.primary,
    minUsableVersion: key.minUsableVersion,
    revision: key.revision,
    policyName,
    suspended: key.suspension !== null,
    destroyAt: key.destruction?.at ?? null,
    destroyedAt: key.destroyedAt,
    uses,
    versions: versions.map((version, index) => ({
      version: version.version,
      state: version.state,
      suite: version.suite,
      createdAt: version.createdAt,
      activateAt: timeOf(version, 'activateAt'),
      activatedAt: timeOf(version, 'activatedAt'),
      deactivateAt: timeOf(version, 'deactivateAt'),
      destroyAt: destructionOf(version)?.at ?? null,
      supersededAt: supersededAt(index),
      retired: retired.get(version.version) ?? 0,
    })),
    noticed: ran.map(({ action }) => action),
    retiring: retirementsIn(ran),
  };
}

/** The primary where it protects; null after its compromise, and where it is not active. */
export function activePrimary(key: ScheduledKey): ScheduledVersion | null {
  const primary = key.versions.find(({ version }) => version === key.primary);
  return primary?.state === 'active' ? primary : null;
}

/** Whether policies may change the key at all; a key without an active primary waits for an operator. */
export function isGoverned(key: ScheduledKey): boolean {
  return !key.suspended && key.destroyAt === null && key.destroyedAt === null;
}

/**
 * From when the age counts: the activation of the primary, or of a later version that it was put in
 * the place of by hand. An undone rotation comes again when its interval has passed, not at once.
 */
function lastRotation({ versions }: ScheduledKey, primary: ScheduledVersion): Date | null {
  const times = versions
    .filter(({ version }) => version >= primary.version)
    .flatMap(({ activatedAt }) => (activatedAt === null ? [] : [activatedAt.getTime()]));
  return times.length === 0 ? null : new Date(Math.max(...times));
}

export function rotationFacts(key: ScheduledKey): RotationFacts {
  const primary = isGoverned(key) ? activePrimary(key) : null;
  const activatedAt = primary === null ? null : lastRotation(key, primary);
  return {
    id: key.id,
    purpose: key.purpose,
    primary:
      primary === null || activatedAt === null
        ? null
        : { suite: primary.suite, activatedAt: activatedAt.getTime(), uses: key.uses },
  };
}
