/**
 * The domain: keys, their versions, and the states of SP 800-57 part 1 section 7.
 *
 * A `Key` is what callers name; a `KeyVersion` is one set of material in one suite. Values here are
 * immutable: a transition makes a new value with `revision + 1`.
 */
import type { HsmMaterial } from '../hsm/port.ts';
import type { Pause, RotationPolicy } from './rotation-policy.ts';

export type Purpose = 'wrap' | 'kem' | 'sign' | 'mac';
export type Labels = Readonly<Record<string, string>>;

/** Whether its private or secret key was made here or came from outside; for ever. */
export type Origin = 'generated' | 'imported';

export interface Suspension {
  readonly at: Date;
  readonly reason: string;
}

/** What an undone rotation leaves (`rotation-hold.ts`). */
export interface RotationHold extends Pause {
  /** The version that was made the primary again. */
  readonly primary: number;
  /** Of the namespace; null: the key's own policy. */
  readonly policy: string | null;
  /** Of the policy when it was held. */
  readonly policyRevision: number;
}

/** A destruction to come; until it runs it can be cancelled, and what it concerns cannot be used. */
export interface Destruction {
  /** Not before then. */
  readonly at: Date;
  readonly requestedAt: Date;
  readonly reason: string;
}

/** That a version of the key left, sealed to a recipient. */
export interface KeyExport {
  readonly version: number;
  readonly at: Date;
  /** Number of the recipient's suite. */
  readonly suite: number;
  /** SHA-256 of the recipient's raw public key. */
  readonly recipient: Uint8Array;
  readonly by: { readonly issuer: string; readonly subject: string };
  /** UUID of the approval that it stood on. */
  readonly approval: string;
}

export interface Key {
  /** UUID, lower case. */
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  /** Further names, in byte order; they share the name space of names. */
  readonly aliases: readonly string[];
  readonly purpose: Purpose;
  readonly labels: Labels;
  /** The key's own policy; null leaves it to those of the namespace. */
  readonly rotation: RotationPolicy | null;
  /** Since a rotation was undone by hand: the policy that made it waits. */
  readonly rotationHold: RotationHold | null;
  readonly deletionProtection: boolean;
  /** Of its first version, by which the key came to be. */
  readonly origin: Origin;
  /** Whether its versions may be exported; said at its creation, for ever. */
  readonly exportable: boolean;
  /** What has left, in the order of time; for ever. */
  readonly exports: readonly KeyExport[];
  /** Its public keys are shown without a token. */
  readonly publish: boolean;
  /** The version that protects; null before the first activation and after `compromise` of it. */
  readonly primary: number | null;
  /** Versions below are closed for every operation. */
  readonly minUsableVersion: number;
  readonly latestVersion: number;
  /** A key is suspended as a whole, at once, whatever its versions are. */
  readonly suspension: Suspension | null;
  /** Of the key with all its versions. */
  readonly destruction: Destruction | null;
  /** Set once, when the key is destroyed with every version of it; the row stays so that the name is never reused. */
  readonly destroyedAt: Date | null;
  readonly createdAt: Date;
  readonly revision: number;
}

/** A software half sealed under `root-seal`; `sealed` is seal version ‖ iv(12) ‖ ciphertext ‖ tag. */
export interface SealedHalf {
  readonly custody: 'sealed';
  readonly generation: number;
  readonly sealed: Uint8Array;
}

/** The material of a version; which parts exist is said by its suite's row. */
export interface Material {
  readonly classical: { readonly public: Uint8Array | null; readonly hsm: HsmMaterial } | null;
  readonly pq: { readonly public: Uint8Array; readonly half: SealedHalf } | null;
  /** The 32-byte secret that `psk` mode binds; wrap suites with an asymmetric half only. */
  readonly psk: SealedHalf | null;
}

interface VersionCore {
  readonly keyId: string;
  readonly version: number;
  /** Suite number: one construction of one document revision for ever. */
  readonly suite: number;
  readonly origin: Origin;
  readonly createdAt: Date;
  /** SHA-256 of the PEM of the stored certificate chain; null without one. */
  readonly certificateChain: Uint8Array | null;
  readonly revision: number;
}

export interface PreActive extends VersionCore {
  readonly state: 'pre-active';
  readonly material: Material;
  /** Activates by itself then; null waits for `activate`. */
  readonly activateAt: Date | null;
  readonly destruction: Destruction | null;
}

export interface Active extends VersionCore {
  readonly state: 'active';
  readonly material: Material;
  readonly activatedAt: Date;
  /** From then on it protects no more, whether or not `deactivate` has run. */
  readonly deactivateAt: Date | null;
}

export interface Suspended extends VersionCore {
  readonly state: 'suspended';
  readonly material: Material;
  readonly activatedAt: Date;
  /** Waits for its resumption. */
  readonly deactivateAt: Date | null;
  readonly suspension: Suspension;
  readonly destruction: Destruction | null;
}

export interface Deactivated extends VersionCore {
  readonly state: 'deactivated';
  readonly material: Material;
  readonly activatedAt: Date;
  readonly deactivatedAt: Date;
  readonly reason: string;
  readonly destruction: Destruction | null;
}

export interface Compromised extends VersionCore {
  readonly state: 'compromised';
  readonly material: Material;
  readonly activatedAt: Date | null;
  readonly compromisedAt: Date;
  readonly reason: string;
  readonly destruction: Destruction | null;
}

/** Material is gone; metadata stays (SP 800-57: the key's history remains accountable). */
export interface Destroyed extends VersionCore {
  readonly state: 'destroyed';
  readonly destroyedAt: Date;
  readonly compromisedAt: Date | null;
  readonly reason: string;
}

/**
 * What the row of a destroyed version no longer says; those destroyed before it was kept have none. Told
 * and never decided on, hence without a MAC: the entries of the audit log say the same.
 */
export interface Tombstone {
  readonly version: number;
  readonly activatedAt: Date | null;
  readonly deactivatedAt: Date | null;
  /** The newest that wrapped or sealed its material. */
  readonly rootGeneration: number | null;
}

export type KeyVersion = PreActive | Active | Suspended | Deactivated | Compromised | Destroyed;
export type VersionState = KeyVersion['state'];
