/**
 * Destruction: scheduled, cancelled until it runs, and run once it is due. There is no act that
 * destroys at once. What is destroyed stays as a row without material, whose name is never reused.
 */
import { TwofoldError } from '../errors.ts';
import { versionOf } from './catalog.ts';
import { plainPlan } from './changes.ts';
import type { Plan } from './changes.ts';
import { checkAhead } from './lead-time.ts';
import { destroyKey, destructionOf, transition } from './lifecycle.ts';
import type { Destruction, KeyVersion } from './model.ts';
import { checkReason } from './names.ts';
import type { DestructionTime, ReasonedDestruction } from './lifecycle-operations.ts';
import type { KeyView } from './operations.ts';
import type { KeyStore, KeyWrite } from './ports.ts';
import { requireNotHeld } from './provider-record.ts';
import { attestKey, attestVersion } from './row-mac.ts';
import type { RowMac } from './row-mac.ts';
import {
  planKeyChange,
  planNothing,
  planVersionChange,
  planVersionRow,
  standing,
} from './row-plans.ts';
import { usedOf } from './selection.ts';
import type { TokenRemovals } from './token-removals.ts';

/** How long a destruction waits, and how long copies outlive it; milliseconds. */
export interface DestructionRules {
  readonly minimumWaitMs: number;
  readonly defaultWaitMs: number;
  /** How long backups of the database are kept; null: not said. */
  readonly backupHorizonMs: number | null;
}

const DAY_MS = 86_400_000;
export const DEFAULT_DESTRUCTION_RULES: DestructionRules = Object.freeze({
  minimumWaitMs: 7 * DAY_MS,
  defaultWaitMs: 30 * DAY_MS,
  backupHorizonMs: null,
});

export interface DestructionParts {
  readonly store: Pick<KeyStore, 'wallClock'>;
  readonly mac: RowMac;
  readonly clock: () => Date;
  readonly rules: DestructionRules;
  readonly removals: TokenRemovals;
}

/** By the later of the clocks of this server and of the database: one that lags shortens no wait. */
async function laterNow({ store, clock }: DestructionParts): Promise<Date> {
  const theirs = await store.wallClock();
  const ours = clock();
  return theirs !== null && theirs > ours ? theirs : ours;
}

/** @throws TwofoldError invalid_value for a time that is sooner than the least wait */
async function destructionAt(
  parts: DestructionParts,
  { at, afterMs, reason }: ReasonedDestruction,
): Promise<Destruction> {
  checkReason(reason);
  const { rules } = parts;
  const now = await laterNow(parts);
  const time = at ?? new Date(now.getTime() + (afterMs ?? rules.defaultWaitMs));
  checkAhead(at === undefined ? 'after' : 'at', time, now, rules.minimumWaitMs);
  return { at: time, requestedAt: now, reason };
}

/** `version`: null, the whole key. @throws TwofoldError deletion_protected */
function requireUnprotected({ key }: KeyView, version: number | null): void {
  if (key.deletionProtection) throw new TwofoldError('deletion_protected');
  requireNotHeld(key, version);
}

/**
 * Protection would let a destruction that is scheduled fail for ever, without cancelling it.
 * @throws TwofoldError version_not_usable
 */
export function requireNothingDoomed({ key, versions }: KeyView): void {
  if (key.destruction === null && versions.every((each) => destructionOf(each) === null)) return;
  throw new TwofoldError('version_not_usable', 'A destruction is scheduled; cancel it first.');
}

const same = (standing: Destruction | null, { at, reason }: Destruction): boolean =>
  standing?.at.getTime() === at.getTime() && standing.reason === reason;

/** What the entry says of the copies that a destruction does not reach. */
function copiesDetail({ rules }: DestructionParts, at: Date, versions: readonly KeyVersion[]) {
  const { backupHorizonMs } = rules;
  return {
    rootGeneration: rootGenerationOf(versions),
    backupsUntil:
      backupHorizonMs === null ? null : new Date(at.getTime() + backupHorizonMs).toISOString(),
  };
}

/** The newest root generation under which material of these versions is wrapped or sealed. */
export function rootGenerationOf(versions: readonly KeyVersion[]): number | null {
  const generations = versions.flatMap((version) => {
    if (!('material' in version)) return [];
    const { classical, pq, psk } = version.material;
    const hsm = classical?.hsm;
    const wrapped = hsm?.custody === 'hsm-wrapped' ? [hsm.generation] : [];
    return [...wrapped, ...[pq?.half, psk].flatMap((half) => (half ? [half.generation] : []))];
  });
  return generations.length === 0 ? null : Math.max(...generations);
}

/** @throws TwofoldError deletion_protected, primary_protected, version_not_usable, invalid_value */
export async function planVersionDestruction(
  parts: DestructionParts,
  view: KeyView,
  { version: number, ...wanted }: ReasonedDestruction & { readonly version: number },
): Promise<Plan> {
  const version = versionOf(view, number);
  const destruction = await destructionAt(parts, wanted);
  requireUnprotected(view, number);
  if (view.key.primary === number) throw new TwofoldError('primary_protected');
  const detail = describe(parts, destruction, [version]);
  if (same(destructionOf(version), destruction)) return planNothing(view, detail, version);
  const event = { kind: 'schedule-destruction', destruction } as const;
  return planVersionChange(parts.mac, view, { version, event, detail });
}

const describe = (
  parts: DestructionParts,
  { at, reason }: DestructionTime & { readonly reason: string } & { readonly at: Date },
  versions: readonly KeyVersion[],
) => ({ reason, destroyAt: at.toISOString(), ...copiesDetail(parts, at, versions) });

/** @throws TwofoldError version_not_usable once it has run */
export function planVersionCancellation(
  { mac }: DestructionParts,
  view: KeyView,
  { version: number }: { readonly version: number },
): Promise<Plan> | Plan {
  const version = versionOf(view, number);
  if (version.state === 'destroyed') {
    throw new TwofoldError('version_not_usable', 'The version is destroyed.');
  }
  if (destructionOf(version) === null) return planNothing(view, {}, version);
  const event = { kind: 'cancel-destruction' } as const;
  return planVersionChange(mac, view, { version, event, detail: {} });
}

/** Of the key as it is, whatever its versions are. @throws TwofoldError deletion_protected, invalid_value */
export async function planKeyDestruction(
  parts: DestructionParts,
  view: KeyView,
  wanted: ReasonedDestruction,
): Promise<Plan> {
  const destruction = await destructionAt(parts, wanted);
  requireUnprotected(view, null);
  const detail = describe(parts, destruction, view.versions);
  if (same(view.key.destruction, destruction)) return planNothing(view, detail);
  return planKeyChange(parts.mac, view, { destruction }, detail);
}

export function planKeyCancellation(
  { mac }: DestructionParts,
  view: KeyView,
): Promise<Plan> | Plan {
  if (view.key.destruction === null) return planNothing(view, {});
  return planKeyChange(mac, view, { destruction: null }, {});
}

/**
 * Rows lose their material with the entry, in one transaction; token objects go after it.
 * @throws TwofoldError version_not_usable unless its destruction is due, deletion_protected,
 *   hsm_unavailable when the token that may have an object of it is away
 */
export async function planDestroyedVersion(
  parts: DestructionParts,
  view: KeyView,
  { version: number }: { readonly version: number },
): Promise<Plan> {
  const version = versionOf(view, number);
  if (version.state === 'destroyed') return planNothing(view, {}, version);
  const now = parts.clock();
  const changed = transition(version, { kind: 'destroy', at: now });
  requireUnprotected(view, number);
  const removal = await parts.removals.of([version]);
  const detail = destroyedDetail(parts, now, [version], [changed], removal.objects);
  const { writes } = removal;
  const plan = await planVersionRow(parts.mac, view, { version, changed, detail, writes });
  return { ...plan, settle: removal.settle };
}

/** As `planDestroyedVersion`, of the key with every version of it. */
export async function planDestroyedKey(parts: DestructionParts, view: KeyView): Promise<Plan> {
  const now = parts.clock();
  const after = destroyKey(view.key, view.versions, now);
  requireUnprotected(view, null);
  const removal = await parts.removals.of(view.versions);
  const detail = destroyedDetail(parts, now, view.versions, after.versions, removal.objects);
  const used = usedOf(after.key, standing(after));
  const writes: readonly KeyWrite[] = [
    {
      kind: 'update-key',
      row: await attestKey(parts.mac, after.key),
      expected: view.key.revision,
    },
    ...(await versionWrites(parts.mac, view, after)),
    ...removal.writes,
  ];
  const plan = plainPlan({ before: view, after, used, detail, changes: true }, writes);
  return { ...plan, settle: removal.settle };
}

function versionWrites(mac: RowMac, before: KeyView, after: KeyView): Promise<KeyWrite[]> {
  const changed = after.versions.flatMap((version, index) => {
    const earlier = before.versions[index];
    return earlier === undefined || earlier === version ? [] : [{ version, earlier }];
  });
  return Promise.all(
    changed.map(async ({ version, earlier }) => ({
      kind: 'update-version' as const,
      row: await attestVersion(mac, version),
      expected: earlier.revision,
    })),
  );
}

function destroyedDetail(
  parts: DestructionParts,
  at: Date,
  before: readonly KeyVersion[],
  after: readonly KeyVersion[],
  tokenObjects: number,
) {
  const [first] = after.filter((version, index) => version !== before[index]);
  const reason = first?.state === 'destroyed' ? first.reason : null;
  return { reason, tokenObjects, ...copiesDetail(parts, at, before) };
}
