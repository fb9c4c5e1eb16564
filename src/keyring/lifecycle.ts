/**
 * The life of a key version: one pure function over SP 800-57 part 1 section 7's states.
 *
 *     pre-active ─activate→ active ─suspend→ suspended ─resume→ active
 *     active ─deactivate→ deactivated
 *     pre-active, active, suspended, deactivated ─compromise→ compromised
 *     pre-active, suspended, deactivated, compromised ─destroy→ destroyed
 *
 * Deactivated versions still open what they protected, so a suspended one is not deactivated, neither
 * by hand, by the clock nor by a policy: that would undo the suspension without a resume. It is resumed
 * first, or compromised, or destroyed from where it is.
 *
 * An active version is deactivated before it is destroyed, so that no primary can vanish in one step,
 * and no version is destroyed whose destruction was not scheduled before and is due. What is set in
 * advance (`schedule-…`) changes no state: it says when an event will come by itself.
 * The function never looks at a clock: the event carries its time.
 */
import { TwofoldError } from '../errors.ts';
import type { Destroyed, Destruction, Key, KeyVersion, Suspension, VersionState } from './model.ts';

export type VersionEvent =
  | { readonly kind: 'activate'; readonly at: Date }
  | { readonly kind: 'suspend'; readonly at: Date; readonly reason: string }
  | { readonly kind: 'resume'; readonly at: Date }
  | { readonly kind: 'deactivate'; readonly at: Date; readonly reason: string }
  | { readonly kind: 'compromise'; readonly at: Date; readonly reason: string }
  | { readonly kind: 'destroy'; readonly at: Date }
  /** When it activates by itself; null: when told. */
  | { readonly kind: 'schedule-activation'; readonly activateAt: Date | null }
  /** When it stops protecting; null: when told. */
  | { readonly kind: 'schedule-deactivation'; readonly deactivateAt: Date | null }
  | { readonly kind: 'schedule-destruction'; readonly destruction: Destruction }
  | { readonly kind: 'cancel-destruction' };

export type VersionEventKind = VersionEvent['kind'];

/** From which states each event may come; the whole transition relation. */
export const ALLOWED = {
  activate: ['pre-active'],
  suspend: ['active'],
  resume: ['suspended'],
  deactivate: ['active'],
  compromise: ['pre-active', 'active', 'suspended', 'deactivated'],
  destroy: ['pre-active', 'suspended', 'deactivated', 'compromised'],
  'schedule-activation': ['pre-active'],
  'schedule-deactivation': ['active', 'suspended'],
  'schedule-destruction': ['pre-active', 'suspended', 'deactivated', 'compromised'],
  'cancel-destruction': ['pre-active', 'suspended', 'deactivated', 'compromised'],
} as const satisfies Readonly<Record<VersionEventKind, readonly VersionState[]>>;

type From<K extends VersionEventKind> = Extract<
  KeyVersion,
  { readonly state: (typeof ALLOWED)[K][number] }
>;

function comesFrom<K extends VersionEventKind>(version: KeyVersion, kind: K): version is From<K> {
  const states: readonly VersionState[] = ALLOWED[kind];
  return states.includes(version.state);
}

/** @throws TwofoldError version_not_usable when the state does not allow the event */
function from<K extends VersionEventKind>(version: KeyVersion, kind: K): From<K> {
  if (comesFrom(version, kind)) return version;
  throw new TwofoldError(
    'version_not_usable',
    `A version that is ${version.state} cannot be changed by ${kind}.`,
  );
}

const coreOf = (version: KeyVersion) => ({
  keyId: version.keyId,
  version: version.version,
  suite: version.suite,
  origin: version.origin,
  createdAt: version.createdAt,
  certificateChain: version.certificateChain,
  revision: version.revision + 1,
});

/**
 * The version after `event`, with `revision + 1`.
 * @throws TwofoldError version_not_usable when the state does not allow the event, or the destruction
 *   is not due
 */
export function transition(version: KeyVersion, event: VersionEvent): KeyVersion {
  const core = coreOf(version);
  switch (event.kind) {
    case 'activate': {
      const { material } = from(version, event.kind);
      return { ...core, state: 'active', material, activatedAt: event.at, deactivateAt: null };
    }
    case 'suspend': {
      const suspension: Suspension = { at: event.at, reason: event.reason };
      return {
        ...from(version, event.kind),
        ...core,
        state: 'suspended',
        suspension,
        destruction: null,
      };
    }
    case 'resume': {
      const { material, activatedAt, deactivateAt, destruction } = from(version, event.kind);
      requireSpared(destruction);
      return { ...core, state: 'active', material, activatedAt, deactivateAt };
    }
    case 'deactivate': {
      const { material, activatedAt } = from(version, event.kind);
      const { at: deactivatedAt, reason } = event;
      const state = 'deactivated';
      return { ...core, state, material, activatedAt, deactivatedAt, reason, destruction: null };
    }
    case 'compromise': {
      const before = from(version, event.kind);
      return {
        ...core,
        state: 'compromised',
        material: before.material,
        activatedAt: before.state === 'pre-active' ? null : before.activatedAt,
        compromisedAt: event.at,
        reason: event.reason,
        destruction: destructionOf(before),
      };
    }
    case 'destroy': {
      const { destruction } = from(version, event.kind);
      requireDue(destruction, event.at);
      return destroyed(version, event.at, destruction.reason);
    }
    case 'schedule-activation':
      return { ...from(version, event.kind), ...core, activateAt: event.activateAt };
    case 'schedule-deactivation':
      return { ...from(version, event.kind), ...core, deactivateAt: event.deactivateAt };
    case 'schedule-destruction':
      return { ...from(version, event.kind), ...core, destruction: event.destruction };
    case 'cancel-destruction':
      return { ...from(version, event.kind), ...core, destruction: null };
  }
}

/** The destruction that is scheduled for a version; null without one. */
export const destructionOf = (version: KeyVersion): Destruction | null =>
  'destruction' in version ? version.destruction : null;

/** An active version has no destruction to come, so resuming would drop one without a word. */
function requireSpared(destruction: Destruction | null): void {
  if (destruction === null) return;
  throw new TwofoldError('version_not_usable', 'The version awaits its destruction; cancel it.');
}

function requireDue(destruction: Destruction | null, at: Date): asserts destruction is Destruction {
  if (destruction !== null && at >= destruction.at) return;
  throw new TwofoldError(
    'version_not_usable',
    'Nothing is destroyed before its destruction is due.',
  );
}

const destroyed = (version: KeyVersion, at: Date, reason: string): Destroyed => ({
  ...coreOf(version),
  state: 'destroyed',
  destroyedAt: at,
  compromisedAt: version.state === 'compromised' ? version.compromisedAt : null,
  reason,
});

/**
 * A key and its versions after the destruction of the key, which takes each version whatever its state. Its aliases
 * stay its own, so that no other key answers by itself to those who use them still.
 * @throws TwofoldError version_not_usable unless a destruction of the key is due
 */
export function destroyKey(
  key: Key,
  versions: readonly KeyVersion[],
  at: Date,
): { readonly key: Key; readonly versions: readonly KeyVersion[] } {
  const { destruction } = key;
  requireDue(destruction, at);
  return {
    key: {
      ...key,
      primary: null,
      destruction: null,
      destroyedAt: at,
      revision: key.revision + 1,
    },
    versions: versions.map((version) =>
      version.state === 'destroyed' ? version : destroyed(version, at, destruction.reason),
    ),
  };
}

/** `protect` makes ciphertexts, signatures and MACs; `process` opens and verifies them. */
export type Usage = 'protect' | 'process';

/**
 * What a state allows. Deactivated versions only process (SP 800-57 part 1 section 7.4); suspended
 * and compromised ones do neither: their use is an exception that an operator makes by resuming, or
 * by a procedure of its own.
 */
const USABLE: Readonly<Record<VersionState, readonly Usage[]>> = {
  'pre-active': [],
  active: ['protect', 'process'],
  suspended: [],
  deactivated: ['process'],
  compromised: [],
  destroyed: [],
};

/**
 * Why a version cannot be used at `now` (milliseconds since the epoch), or null when it can. What
 * stops a use holds from its moment on; what begins one (an activation set in advance) has to be done.
 */
export function obstacle(key: Key, version: KeyVersion, usage: Usage, now: number): string | null {
  const ofAll = keyObstacle(key);
  if (ofAll !== null) return ofAll;
  const { version: number, state } = version;
  if (number < key.minUsableVersion) {
    return `Versions below ${String(key.minUsableVersion)} are closed.`;
  }
  if (destructionOf(version) !== null) return `Version ${String(number)} awaits its destruction.`;
  if (!USABLE[state].includes(usage)) return `Version ${String(number)} is ${state}.`;
  const ended = usage === 'protect' && state === 'active' && isPast(version.deactivateAt, now);
  return ended ? `Version ${String(number)} has reached its deactivation time.` : null;
}

const USAGES = ['protect', 'process'] as const satisfies readonly Usage[];

/** What a request that names the version gets at `now`: the usages in whose way nothing stands. */
export const usagesOf = (key: Key, version: KeyVersion, now: number): readonly Usage[] =>
  USAGES.filter((usage) => obstacle(key, version, usage, now) === null);

/** Why no version of the key can be used at all. */
export function keyObstacle(key: Key): string | null {
  if (key.destroyedAt !== null) return 'The key is destroyed.';
  if (key.destruction !== null) return 'The key awaits its destruction.';
  return key.suspension === null ? null : 'The key is suspended.';
}

const isPast = (time: Date | null, now: number): boolean => time !== null && time.getTime() <= now;

/** @throws TwofoldError version_not_usable, saying what stands in the way */
export function requireUsable(key: Key, version: KeyVersion, usage: Usage, now: number): void {
  const why = obstacle(key, version, usage, now);
  if (why !== null) throw new TwofoldError('version_not_usable', why);
}
