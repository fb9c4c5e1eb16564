/** What a rotation of the root needs of the database (`store/root-rotation-store.ts`). */
import type { LogKey, LogName } from '../audit/key-ports.ts';
import type { CommitOutcome } from '../audit/ports.ts';
import type { WrappedMaterial } from '../hsm/port.ts';
import type { Approval } from './approval-ports.ts';
import type { Key, KeyVersion } from './model.ts';
import type {
  Attested,
  IdempotencyRecord,
  NamespacePolicy,
  OperationCommit,
  OperationIdentity,
  PolicySetSeal,
  TokenIntent,
} from './ports.ts';
import type { SetMember, SetSeal } from './set-ports.ts';

/** `kind` of an operation that rotates the root. */
export const ROOT_ROTATION = 'root-rotation';

/**
 * Under what name the security changes are that concern generations: no key can have it. From the first
 * on, the generation is in force; from the second on, nothing is under it; with the third, everything is
 * under it.
 */
export const enforcedName = (generation: number): string => `root/in-force/${String(generation)}`;
export const retiredName = (generation: number): string => `root/retired/${String(generation)}`;
export const movedName = (generation: number): string => `root/moved/${String(generation)}`;

/** Whether rows that were read before say of their halves what is no longer so. */
export const outdatesRows = (keyName: string | null): boolean =>
  /^root\/(?:moved|retired)\//u.test(keyName ?? '');

/** What a security change says of the root; null for one that is not of it. */
export function rootChange(
  keyName: string | null,
): { readonly act: 'in-force' | 'retired'; readonly generation: number } | null {
  const [, act, generation] = /^root\/(in-force|retired)\/(\d{1,10})$/u.exec(keyName ?? '') ?? [];
  if (act !== 'in-force' && act !== 'retired') return null;
  return { act, generation: Number(generation) };
}

/** Everything that has a MAC by `root-mac`, in the order in which a rotation goes through it. */
export interface RootTables {
  readonly version: KeyVersion;
  readonly key: Key;
  readonly intent: TokenIntent;
  readonly idempotency: IdempotencyRecord;
  readonly operation: OperationIdentity;
  readonly policy: NamespacePolicy;
  readonly 'policy-set': PolicySetSeal;
  readonly member: SetMember;
  readonly history: SetMember;
  readonly seal: SetSeal;
  readonly approval: Approval;
  readonly 'log-name': LogName;
  readonly 'log-key': LogKey;
}

export type RootTable = keyof RootTables;

export const ROOT_TABLES = [
  'version',
  'key',
  'policy',
  'policy-set',
  'member',
  'history',
  'seal',
  'approval',
  'log-name',
  'log-key',
  'operation',
  'intent',
  'idempotency',
] as const satisfies readonly RootTable[];

/** A row as it was read. */
export type RootRow = {
  readonly [T in RootTable]: { readonly table: T } & Attested<RootTables[T]>;
}[RootTable];

/** A row with its new MAC, and in its value the new material; `old` is the MAC that it was read with. */
export type RemadeRow =
  | (RootRow & { readonly old: Uint8Array })
  | {
      /** `root-mac` of an old generation for the audit log; `old` null where none was kept before. */
      readonly table: 'kept';
      readonly generation: number;
      readonly value: WrappedMaterial;
      readonly mac: Uint8Array;
      readonly old: Uint8Array | null;
    };

export interface RootPage {
  readonly rows: readonly RootRow[];
  /** Rows that have no meaning: somebody wrote them who may not. */
  readonly malformed: number;
  /** Where the next page goes on; null at the end of the table. */
  readonly next: string | null;
}

/** How many rows refer to a generation, by what they have under it. */
export interface RootReference {
  readonly generation: number;
  readonly what: RootTable | 'classical' | 'pq' | 'psk' | 'log-seed' | 'kept';
  readonly rows: number;
}

/** An instance that lives, and the generations that it has opened. */
export interface RootHolder {
  readonly id: string;
  readonly zone: string;
  readonly generations: readonly number[];
  /** The security epoch that its last heartbeat said it knows. */
  readonly epochSeen: number;
}

/** What else a retirement asks (`hsm generation retire`). */
export interface RootRetirementReads {
  /**
   * When import parameters were last given out under a generation that a later one has replaced, within the
   * milliseconds before now; null where none were. They lie with who asked for them, so nothing refers to it.
   */
  importsGivenAt(generation: number, withinMs: number): Promise<Date | null>;
}

export interface RootRotationStore {
  /**
   * Rows of a table of which something is under another generation than `generation`, from the place
   * `after` on; `first` is the generation of MACs that state none.
   */
  page(
    table: RootTable,
    generations: { readonly generation: number; readonly first: number },
    after: string | null,
    limit: number,
  ): Promise<RootPage>;
  /**
   * The rows, the step of the operation and its audit entry in one transaction, under the epoch barrier
   * as an append is. Throws `conflict` when a row or the operation moved: then nothing was written.
   */
  commitBatch(step: OperationCommit, rows: readonly RemadeRow[]): Promise<CommitOutcome>;
  references(): Promise<readonly RootReference[]>;
  holders(): Promise<readonly RootHolder[]>;
  /** Zones of which an instance has opened the generation, whether or not it lives still. */
  zonesHolding(generation: number): Promise<readonly string[]>;
  /** The id of the rotation that runs. */
  running(): Promise<string | null>;
}
