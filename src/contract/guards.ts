/**
 * What an approval rule can guard: operations, and parts of operations that have a name of their own.
 *
 * Some operations are those of later versions; a rule may name them from the beginning. What stops a use at
 * once is not among them: a key or version is suspended, and what was not denied is denied, by one alone. From
 * `versions.compromise` no way leads back, so it is: a suspension stops the same uses until others have agreed.
 * `denials.change` guards the end of a denial, and its being said anew with no more; `limits.change` what lets more through;
 * `grants.create` what lends a key to others, which a rule about policies alone would leave to one.
 */
import { z } from 'zod';

export const GUARDS = [
  'keys.schedule-destruction',
  'versions.schedule-destruction',
  'versions.compromise',
  'keys.unprotect',
  'keys.update',
  'keys.set-primary',
  'keys.set-rotation',
  'keys.put-alias',
  'keys.delete-alias',
  'keys.import',
  'rotation-policies.change',
  'namespaces.change',
  'namespaces.end',
  'policies.change',
  'issuers.change',
  'denials.change',
  'limits.change',
  'grants.create',
  'approvals.configure',
  'audit.configure',
  'root.rotate',
  'audit.keys.rotate',
  'keys.export',
] as const;
export type Guard = (typeof GUARDS)[number];

/**
 * What decides whose consent counts. In a namespace that has rules each of these is guarded always: by the
 * rules that name it, and where none does, by every rule there is. Else whoever may do it makes the one who
 * consents.
 */
export const DECIDING_CONSENT: ReadonlySet<Guard> = new Set<Guard>([
  'policies.change',
  'issuers.change',
  'denials.change',
  'approvals.configure',
]);

/** Names for several of them at once. */
export const GUARD_GROUPS = {
  destroy: [
    'keys.schedule-destruction',
    'versions.schedule-destruction',
    'versions.compromise',
    'keys.export',
  ],
  govern: [
    'namespaces.change',
    'policies.change',
    'issuers.change',
    'denials.change',
    'limits.change',
    'approvals.configure',
    'audit.configure',
    'root.rotate',
    'audit.keys.rotate',
  ],
} as const satisfies Readonly<Record<string, readonly Guard[]>>;
export type GuardGroup = keyof typeof GUARD_GROUPS;

export const GUARD_NAMES = [...GUARDS, 'destroy', 'govern'] as const satisfies readonly (
  Guard | GuardGroup
)[];
export type GuardName = (typeof GUARD_NAMES)[number];

export const isGuardName = (name: string): name is GuardName =>
  (GUARD_NAMES as readonly string[]).includes(name);

const isGroup = (name: GuardName): name is GuardGroup => Object.hasOwn(GUARD_GROUPS, name);

/** The single ones that names stand for. */
export const guardsOf = (names: readonly GuardName[]): ReadonlySet<Guard> =>
  new Set(names.flatMap((name): readonly Guard[] => (isGroup(name) ? GUARD_GROUPS[name] : [name])));

/** Whether a route of the operation can be guarded, and so reads `Twofold-Approval`. */
export const isGuardable = ({
  plane,
  method,
  operation,
}: {
  readonly plane: string;
  readonly method: string;
  readonly operation: string | null;
}): boolean =>
  plane === 'admin' &&
  method !== 'GET' &&
  operation !== null &&
  (GUARDS as readonly string[]).includes(operation);

/** Header of a request that was approved. */
export const APPROVAL_HEADER = 'twofold-approval';

/** Header of a dry run's answer: the rules whose approval the request itself would take. */
export const APPROVAL_REQUIRED_HEADER = 'Twofold-Approval-Required';

export const approvalHeader = z
  .uuid()
  .toLowerCase()
  .optional()
  .meta({ description: 'Id of the approval under which the very request is repeated.' });
