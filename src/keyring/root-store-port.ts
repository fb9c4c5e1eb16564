/** The generations of the root, as the database holds them. */
import type { HsmMaterial, WrappedMaterial } from '../hsm/port.ts';
import type { Attested } from './attested.ts';

/** A root generation as stored; `seal` and `mac` are keys wrapped under its `root-wrap`. */
export interface RootGeneration {
  readonly generation: number;
  readonly installation: string;
  /**
   * `intended`: its ceremony began; `complete`: on the token, with its keys and its canary; `in-force`: new
   * material is made under it; `retiring`: a later one is in force; `retired`: nothing is under it.
   */
  readonly state: 'intended' | 'complete' | 'in-force' | 'retiring' | 'retired';
  readonly seal: HsmMaterial | null;
  readonly mac: HsmMaterial | null;
  /** iv ‖ ciphertext ‖ tag of a known text under `root-seal`. */
  readonly canary: Uint8Array | null;
  /** `mac` wrapped under a later generation, so that the audit log's MACs can be checked for ever. */
  readonly kept: Attested<WrappedMaterial> | null;
}

export interface RootStore {
  /** In the order of their numbers. */
  generations(): Promise<readonly RootGeneration[]>;
  /** First-wins: returns the row that exists afterwards. */
  intend(generation: number, installation: string): Promise<RootGeneration>;
  /** First-wins: material of the winner is what exists afterwards; `state` is what it is to be. */
  complete(root: RootGeneration): Promise<RootGeneration>;
  /** Whether any key row exists: then a missing root is never replaced. */
  hasKeys(): Promise<boolean>;
}
