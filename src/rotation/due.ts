/**
 * What is due for one key, and when something next will be. Pure: the clock enters as `now` alone.
 *
 * Three kinds of actions: what an operator set in advance (activation, deactivation, destruction of a
 * version or of the key) runs whatever the policy says and also while the key is suspended; what the
 * policy asks for (rotation, retirement) waits while the policy is paused, the key is suspended or its
 * destruction is planned, and while the key has no active primary, which is an operator's case after a
 * compromise; the limit of AES-GCM rotates an enabled key without a policy or with a paused one too.
 *
 * Under a policy with `notice` a version is retired no sooner than so long after that was announced. Another
 * policy or revision of it, a retirement that moves to later, and a version that was retired and then opened
 * again by hand are announced anew, and so is whatever did not come within a day of its announced time.
 *
 * `dueAt` comes from stored facts, so a clock that goes back makes nothing due that was not, and
 * what was done is known by (key, policy revision, `identityOf`, `dueAt`). After an action the key is
 * another one: run the first, read the key again, ask again. An interval that was missed many times
 * (a pause, an outage) is due once, since the age counts from the primary that there is.
 */
import { earlier, later, storedDuration } from '../keyring/durations.ts';
import type { RotationPolicy } from '../keyring/rotation-policy.ts';
import { nextRotation, suiteOfRotation } from './next-rotation.ts';
import type { RotationCause } from './next-rotation.ts';
import { activePrimary, isGoverned, OWN_POLICY, rotationFacts } from './scheduled-key.ts';
import type { ScheduledKey, ScheduledVersion } from './scheduled-key.ts';

/** How long after its announced time a retirement may still come without being announced again. */
const STANDS_MS = 86_400_000;

/** Of the policy that asked; 0 for the limit of AES-GCM where no policy applies. */
interface ByPolicy {
  readonly policyRevision: number;
}

export interface RotateAction extends ByPolicy {
  readonly kind: 'rotate';
  /** For the causes `uses` and `gcm-limit` the activation of the primary: see `PlannedRotation`. */
  readonly dueAt: Date;
  readonly cause: RotationCause;
  /** The primary that is superseded; a rotation is done when the key has another one. */
  readonly primary: number;
  /** The newest version as it was read. */
  readonly latest: number;
  /** Suite number of the new version. */
  readonly suite: number;
}

export interface VersionAction {
  readonly kind: 'activate' | 'deactivate' | 'destroy-version';
  readonly version: number;
  readonly dueAt: Date;
}

/** Deactivate the version, and raise `minUsableVersion` to the one above it. */
export interface RetireAction extends ByPolicy {
  readonly kind: 'retire';
  readonly version: number;
  readonly dueAt: Date;
  readonly cause: 'keep-versions' | 'after';
  /** Revision of the key as it was read. */
  readonly keyRevision: number;
}

export interface DestroyKeyAction {
  readonly kind: 'destroy-key';
  readonly dueAt: Date;
}

interface Notice extends ByPolicy {
  readonly kind: 'notice';
  /** When that which is announced is due. */
  readonly for: Date;
  readonly dueAt: Date;
}

interface SetNotice extends Notice {
  readonly of: 'rotation' | 'deactivation' | 'destruction';
  /** Null when it is about the whole key. */
  readonly version: number | null;
}

/** Here `for` is the earliest moment of the retirement, which depends on when the notice is given. */
interface RetirementNotice extends Notice {
  readonly of: 'retirement';
  readonly version: number;
  /** When the policy asks for it. */
  readonly asked: Date;
  /** Whose policy asks: a name of the namespace, or null for the key's own. */
  readonly policyName: string | null;
  /** Revision of the key at which the version was retired before and then opened again; 0 where it was not. */
  readonly retired: number;
  /** Announcements of this version before; it makes another one of each, whatever the clock did. */
  readonly earlier: number;
}

export type NoticeAction = SetNotice | RetirementNotice;

export type DueAction =
  RotateAction | VersionAction | RetireAction | DestroyKeyAction | NoticeAction;

/**
 * Names an action among all of its key: with (key, policy revision, due time) the key under which it
 * happens once.
 */
export function identityOf(action: DueAction): string {
  switch (action.kind) {
    case 'rotate':
      // By the newest version too: a rotation that was undone may come again.
      return `rotate/${String(action.primary)}/${String(action.latest)}`;
    case 'destroy-key':
      return action.kind;
    case 'notice':
      return noticeIdentity(action);
    case 'activate':
    case 'deactivate':
    case 'destroy-version':
      return `${action.kind}/${String(action.version)}`;
    case 'retire':
      // The window may be opened again by hand, and the policy closes it again.
      return `retire/${String(action.version)}/${String(action.keyRevision)}`;
  }
}

function noticeIdentity(notice: NoticeAction): string {
  const name = `notice/${notice.of}/${String(notice.version ?? 0)}`;
  if (notice.of !== 'retirement') return `${name}/${String(notice.for.getTime())}`;
  const { asked, policyName, retired, earlier: before } = notice;
  const parts = [asked.getTime(), policyName ?? OWN_POLICY, retired, before];
  return [name, ...parts].map(String).join('/');
}

/**
 * Actions that are due at `now`, in the order in which they must run: notices; activations; the
 * rotation, before anything is taken from the key; retirements and deactivations, oldest version
 * first; destructions. A key whose own destruction is due needs nothing else.
 */
export function dueActions(
  key: ScheduledKey,
  policy: RotationPolicy | null,
  now: Date,
): readonly DueAction[] {
  const due = planOf(key, policy, now).filter((action) => comesAt(action, now) <= now);
  const end = due.find(({ kind }) => kind === 'destroy-key');
  return end === undefined ? due : [end];
}

/**
 * The earliest moment at which anything is or will be due; null when nothing is planned. It may lie
 * before `now`. It holds until a row of the key, its policy or its use count changes: the scheduler
 * computes it anew with each of those.
 * @param counts which actions; all unless told
 */
export function nextDue(
  key: ScheduledKey,
  policy: RotationPolicy | null,
  now: Date,
  counts: (action: DueAction) => boolean = () => true,
): Date | null {
  return planOf(key, policy, now)
    .filter(counts)
    .map((action) => comesAt(action, now))
    .reduce<Date | null>((first, at) => (first === null || at < first ? at : first), null);
}

/** What is planned after `now`, the earliest first, so many at most. It holds as long as what `nextDue` says. */
export const comingActions = (
  key: ScheduledKey,
  policy: RotationPolicy | null,
  now: Date,
  most: number,
): readonly DueAction[] =>
  planOf(key, policy, now)
    .filter((action) => comesAt(action, now) > now)
    .toSorted((a, b) => a.dueAt.getTime() - b.dueAt.getTime())
    .slice(0, most);

/** Since when the action has been due; null for a rotation by use, whose moment nobody recorded. */
export const dueSince = (action: DueAction): Date | null =>
  action.kind === 'rotate' && (action.cause === 'uses' || action.cause === 'gcm-limit')
    ? null
    : action.dueAt;

/** By use it is due at once, also where the activation of the primary is dated later than now: a clock ran ahead. */
const comesAt = (action: DueAction, now: Date): Date =>
  dueSince(action) === null && action.dueAt > now ? now : action.dueAt;

/** Everything that the facts ask for, due or not, in the order of `dueActions`. */
function planOf(key: ScheduledKey, policy: RotationPolicy | null, now: Date): readonly DueAction[] {
  if (key.destroyedAt !== null) return [];
  const rotation = rotationOf(key, policy, now);
  const set = setInAdvance(key);
  const of = (kind: DueAction['kind']) => set.filter((action) => action.kind === kind);
  const wanted = wantedRetirements(key, policy);
  return [
    ...noticesOf(key, policy, [...rotation, ...set], now),
    ...retirementNotices(key, policy, wanted, now),
    ...of('activate'),
    ...rotation,
    ...retirementsOf(key, policy, wanted, now),
    ...of('deactivate'),
    ...of('destroy-version'),
    ...of('destroy-key'),
  ];
}

function rotationOf(
  key: ScheduledKey,
  policy: RotationPolicy | null,
  now: Date,
): readonly RotateAction[] {
  const facts = rotationFacts(key);
  const planned = nextRotation(facts, policy);
  if (planned === null || key.primary === null) return [];
  const at = Math.max(planned.dueAt, now.getTime());
  return [
    {
      kind: 'rotate',
      dueAt: new Date(planned.dueAt),
      cause: planned.cause,
      primary: key.primary,
      latest: key.versions.length,
      suite: suiteOfRotation(planned.cause, facts, policy, at),
      policyRevision: policy?.revision ?? 0,
    },
  ];
}

/** Nothing is activated in a key that is going to be destroyed. */
function setInAdvance(key: ScheduledKey): readonly (VersionAction | DestroyKeyAction)[] {
  const { destroyAt } = key;
  const end: DestroyKeyAction[] =
    destroyAt === null ? [] : [{ kind: 'destroy-key', dueAt: destroyAt }];
  const ofVersions = key.versions.flatMap((version) => setOnVersion(version));
  return [...ofVersions.filter(({ kind }) => kind !== 'activate' || destroyAt === null), ...end];
}

function setOnVersion({
  version,
  state,
  activateAt,
  deactivateAt,
  destroyAt,
}: ScheduledVersion): readonly VersionAction[] {
  const action = (kind: VersionAction['kind'], dueAt: Date | null): readonly VersionAction[] =>
    dueAt === null ? [] : [{ kind, version, dueAt }];
  switch (state) {
    case 'pre-active':
      // What is to be destroyed is not activated before.
      if (destroyAt !== null) return action('destroy-version', destroyAt);
      return action('activate', activateAt);
    case 'active':
      return action('deactivate', deactivateAt);
    // Its deactivation waits until it is resumed: a deactivated version opens what it protected.
    case 'suspended':
    case 'deactivated':
    case 'compromised':
      return action('destroy-version', destroyAt);
    case 'destroyed':
      return [];
  }
}

const isUsable = ({ state }: ScheduledVersion): boolean =>
  state === 'active' || state === 'deactivated';

/** Versions that the policy may still retire, newest first. */
function superseded(key: ScheduledKey, primary: ScheduledVersion): readonly ScheduledVersion[] {
  const open = key.versions.filter(
    (each) =>
      each.version < primary.version && each.version >= key.minUsableVersion && isUsable(each),
  );
  return open.toSorted((a, b) => b.version - a.version);
}

const earlierOf = (a: Date | null, b: Date | null): Date | null =>
  a !== null && b !== null && b < a ? b : a;

/** A version that the policy does not keep, and since when or from when on. */
interface Wanted {
  readonly version: ScheduledVersion;
  readonly at: Date;
  readonly cause: RetireAction['cause'];
  /** From when on it could be announced: that `at` will come was not known before. */
  readonly known: Date;
}

/**
 * Oldest first. A suspended version counts as kept for nobody, and is not retired before it is resumed.
 */
function wantedRetirements(key: ScheduledKey, policy: RotationPolicy | null): readonly Wanted[] {
  const primary = activePrimary(key);
  const retire = policy?.paused === null ? policy.retire : null;
  if (policy === null || retire === null || primary === null || !isGoverned(key)) return [];
  const open = superseded(key, primary);
  const kept = [primary, ...open];
  const byCount = (version: ScheduledVersion): Date | null => {
    if (retire.keepVersions === null) return null;
    // The version whose activation left too many; null while there are not. It did so no later than another took its place.
    const pusher = kept[kept.indexOf(version) - retire.keepVersions];
    return earlierOf(pusher?.activatedAt ?? null, pusher?.supersededAt ?? null);
  };
  const byTime = ({ supersededAt }: ScheduledVersion): Date | null =>
    retire.after === null || supersededAt === null
      ? null
      : new Date(later(supersededAt.getTime(), storedDuration(retire.after)));
  return open
    .toReversed()
    .map((version) => wanted(version, byCount(version), byTime(version)))
    .filter((each) => each !== null);
}

function wanted(
  version: ScheduledVersion,
  byCount: Date | null,
  byTime: Date | null,
): Wanted | null {
  if (byCount !== null && (byTime === null || byCount <= byTime)) {
    return { version, at: byCount, cause: 'keep-versions', known: byCount };
  }
  return byTime && { version, at: byTime, cause: 'after', known: version.supersededAt ?? byTime };
}

/** Oldest first; one that may not be retired yet holds those above it, which it would be closed with. */
function retirementsOf(
  key: ScheduledKey,
  policy: RotationPolicy | null,
  versions: readonly Wanted[],
  now: Date,
): readonly RetireAction[] {
  const actions: RetireAction[] = [];
  if (policy === null) return actions;
  let after = new Date(0);
  for (const { version, at, cause } of versions) {
    const closes =
      policy.notice === null ? at : announcedFor(key, policy, { version, at }, now).closes;
    if (closes === null) break;
    if (policy.notice !== null && closes > after) after = closes;
    actions.push({
      kind: 'retire',
      version: version.version,
      cause,
      dueAt: policy.notice === null ? at : after,
      policyRevision: policy.revision,
      keyRevision: key.revision,
    });
  }
  return actions;
}

interface Announced {
  /** When the version may be closed; null where that was not announced, or is to be announced anew. */
  readonly closes: Date | null;
  /** From when on it is announced anew; null where it was not announced. */
  readonly lapses: Date | null;
}

/**
 * By the announcements for `at` or later. One that was given later than now does not count, and one does not
 * stand for ever: who put an older version to use again meanwhile is told again before it closes.
 */
function announcedFor(
  { retiring, policyName }: ScheduledKey,
  { notice, revision }: RotationPolicy,
  { version: { version, retired }, at }: Pick<Wanted, 'version' | 'at'>,
  now: Date,
): Announced {
  if (notice === null) return { closes: at, lapses: null };
  const length = storedDuration(notice);
  const ends = retiring
    .filter((given) => given.version === version && given.retired === retired)
    .filter((given) => given.policyName === policyName && given.policyRevision === revision)
    .filter(({ givenAt }) => givenAt <= now)
    .map(({ asked, givenAt }) => Math.max(asked.getTime(), later(givenAt.getTime(), length)))
    .filter((end) => end >= at.getTime());
  if (ends.length === 0) return { closes: null, lapses: null };
  const standing = ends.filter((end) => now.getTime() < end + STANDS_MS);
  return {
    closes: standing.length === 0 ? null : new Date(Math.min(...standing)),
    lapses: new Date(Math.max(...ends) + STANDS_MS),
  };
}

/** Due also when the retirement is, which waits for them. Of what was announced: once that lapses. */
function retirementNotices(
  key: ScheduledKey,
  policy: RotationPolicy | null,
  versions: readonly Wanted[],
  now: Date,
): readonly NoticeAction[] {
  if (policy === null || policy.notice === null) return [];
  const notice = storedDuration(policy.notice);
  return versions.map((wanting) => {
    const { at, known } = wanting;
    const { version, retired } = wanting.version;
    const { lapses } = announcedFor(key, policy, wanting, now);
    return {
      kind: 'notice',
      of: 'retirement',
      version,
      asked: at,
      policyName: key.policyName,
      retired,
      earlier: key.retiring.filter((given) => given.version === version).length,
      for: new Date(Math.max(at.getTime(), later(now.getTime(), notice))),
      dueAt: lapses ?? new Date(Math.max(earlier(at.getTime(), notice), known.getTime())),
      policyRevision: policy.revision,
    };
  });
}

/**
 * A rotation by use announces itself by nothing, an activation is not announced, and of retirements that
 * is another matter (`retirementNotices`).
 */
function announced(action: DueAction): Pick<SetNotice, 'of' | 'version'> | null {
  switch (action.kind) {
    case 'rotate':
      return action.cause === 'interval' || action.cause === 'upgrade'
        ? { of: 'rotation', version: null }
        : null;
    case 'deactivate':
      return { of: 'deactivation', version: action.version };
    case 'destroy-version':
      return { of: 'destruction', version: action.version };
    case 'destroy-key':
      return { of: 'destruction', version: null };
    case 'activate':
    case 'retire':
    case 'notice':
      return null;
  }
}

/** A notice is due until that which it announces is; after it, it would say nothing new. */
function noticesOf(
  key: ScheduledKey,
  policy: RotationPolicy | null,
  actions: readonly DueAction[],
  now: Date,
): readonly NoticeAction[] {
  if (policy === null || policy.notice === null || policy.paused !== null) return [];
  const notice = storedDuration(policy.notice);
  return actions.flatMap((action): NoticeAction[] => {
    const about = announced(action);
    if (about === null || action.dueAt <= now) return [];
    const dueAt = new Date(earlier(action.dueAt.getTime(), notice));
    const { revision: policyRevision } = policy;
    const given: NoticeAction = {
      kind: 'notice',
      ...about,
      for: action.dueAt,
      dueAt,
      policyRevision,
    };
    return key.noticed.includes(identityOf(given)) ? [] : [given];
  });
}
