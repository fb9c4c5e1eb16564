/**
 * Sets of what governs access, as a change writes them and as their storage gives them back.
 *
 * A set is all members of one kind in one namespace. Its seal stands for all of them at once, so that a
 * member which somebody inserted, deleted or put back in the database is found.
 */
import type { Attested } from './attested.ts';

/** JSON without fractions: what its canonical form can say. */
export type Json = string | number | boolean | null | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

/** A member as it was written; `value` is null where that took it away. */
export interface SetMember {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** That of the set which the change made. */
  readonly revision: number;
  readonly at: Date;
  readonly by: { readonly issuer: string; readonly subject: string };
  readonly value: JsonObject | null;
}

export interface SetSeal {
  readonly kind: string;
  readonly namespace: string;
  /** Rises with each change of any member, and never falls. */
  readonly revision: number;
  /** SHA-256 over the canonical forms of all members, in the byte order of their names. */
  readonly hash: Uint8Array;
}

/** Kinds of sets that belong to one key begin so. */
export const KEY_SET_PREFIX = 'grant/';

export type SetWrite =
  /** Refuses with `quota_exceeded` what leaves more than so many; null: any number. */
  | {
      readonly kind: 'require-quota';
      readonly namespace: string;
      readonly keys: number | null;
      readonly versions: number | null;
    }
  /** What rows of the namespace refer to. */
  | { readonly kind: 'insert-namespace'; readonly name: string }
  /**
   * The change takes effect only where the namespace has no key that is not destroyed
   * (`namespace_not_empty`), and no member of a set but those of destroyed keys (`conflict`).
   */
  | { readonly kind: 'require-empty-namespace'; readonly name: string }
  /** In force from now on, and in the history for ever. */
  | { readonly kind: 'put-member'; readonly row: Attested<SetMember> }
  /** The set as it is after the change; `expected` is its revision before, 0 when there was none. */
  | { readonly kind: 'put-seal'; readonly row: Attested<SetSeal>; readonly expected: number }
  /** The change takes effect only while the set is at this revision: `conflict`. */
  | {
      readonly kind: 'require-seal';
      readonly set: string;
      readonly namespace: string;
      readonly revision: number;
    };

export interface StoredMember extends Attested<SetMember> {
  /** 32 bytes, of all columns of the row: the same for as long as nobody has written it. */
  readonly digest: Uint8Array;
}

export interface StoredSet {
  /** Null while the set never had a member. */
  readonly seal: Attested<SetSeal> | null;
  /** The newest revision in its history; 0 while there is none. */
  readonly newest: number;
  /** In byte order of their names. */
  readonly members: readonly StoredMember[];
}

/** A set as it is, for who knows what it was at an earlier revision. */
export interface SetSince {
  readonly seal: Attested<SetSeal> | null;
  readonly newest: number;
  /** Members that were written after that revision, in byte order of their names. */
  readonly written: readonly StoredMember[];
  /** Names that a later revision took away; of those that came back, there is a member as well. */
  readonly removed: readonly string[];
  /** SHA-256 of the digests of all other members, one after the other in byte order of their names. */
  readonly rest: Uint8Array;
}

/** What of a set's history is asked for, newest first. */
export interface HistoryQuery {
  readonly kind: string;
  readonly namespace: string;
  /** Of this member alone; null: of all. */
  readonly name: string | null;
  /** Revisions before this one, and of this one the names before `beforeName`; null: from the newest. */
  readonly before: { readonly revision: number; readonly name: string } | null;
  readonly pageSize: number;
}

export interface SetStore {
  /**
   * One snapshot of a set, read as `KeyStore.find` reads; nothing is verified.
   * Throws `integrity_failed` for rows that mean nothing, `database_unavailable`.
   */
  set(kind: string, namespace: string, epoch: number): Promise<StoredSet>;
  /** The same snapshot, with no more of it than came after `revision`. */
  since(kind: string, namespace: string, epoch: number, revision: number): Promise<SetSince>;
  /** Kinds of which the namespace has members, in byte order, but for those of single keys. */
  kinds(namespace: string): Promise<readonly string[]>;
  history(query: HistoryQuery): Promise<readonly Attested<SetMember>[]>;
  /** Every member as it stood at a revision, in byte order of their names. */
  membersAt(
    kind: string,
    namespace: string,
    revision: number,
  ): Promise<readonly Attested<SetMember>[]>;
}
