/**
 * The life of a key version: one pure function over SP 800-57 part 1 section 7's states.
 *
 *     pre-active ─activate→ active ─suspend→ suspended ─resume→ active
 *     active, suspended ─deactivate→ deactivated
 *     pre-active, active, suspended, deactivated ─compromise→ compromised
 *     pre-active, deactivated, compromised ─destroy→ destroyed
 *
 * An active version is deactivated before it is destroyed, so that no primary can vanish in one step.
 * The function never looks at a clock: the event carries its time.
 */
import { TwofoldError } from '../errors.ts';
import type { Key, KeyVersion, Suspension, VersionState } from './model.ts';

export type VersionEvent =
  | { readonly kind: 'activate'; readonly at: Date }
  | { readonly kind: 'suspend'; readonly at: Date; readonly reason: string }
  | { readonly kind: 'resume'; readonly at: Date }
  | { readonly kind: 'deactivate'; readonly at: Date; readonly reason: string }
  | { readonly kind: 'compromise'; readonly at: Date; readonly reason: string }
  | { readonly kind: 'destroy'; readonly at: Date; readonly reason: string };

export type VersionEventKind = VersionEvent['kind'];

/** From which states each event may come; the whole transition relation. */
export const ALLOWED: Readonly<Record<VersionEventKind, readonly VersionState[]>> = {
  activate: ['pre-active'],
  suspend: ['active'],
  resume: ['suspended'],
  deactivate: ['active', 'suspended'],
  compromise: ['pre-active', 'active', 'suspended', 'deactivated'],
  destroy: ['pre-active', 'deactivated', 'compromised'],
};

const refuse = (from: VersionState, event: VersionEventKind) =>
  new TwofoldError(
    'version_not_usable',
    `A version that is ${from} cannot be changed by ${event}.`,
  );

/**
 * The version after `event`, with `revision + 1`.
 * @throws TwofoldError version_not_usable when the state does not allow the event
 */
export function transition(version: KeyVersion, event: VersionEvent): KeyVersion {
  const { keyId, version: number, suite, createdAt, certificateChain } = version;
  const revision = version.revision + 1;
  const core = { keyId, version: number, suite, createdAt, certificateChain, revision };
  switch (event.kind) {
    case 'activate':
      if (version.state !== 'pre-active') throw refuse(version.state, event.kind);
      return {
        ...core,
        state: 'active',
        material: version.material,
        activatedAt: event.at,
        deactivateAt: null,
      };
    case 'suspend': {
      if (version.state !== 'active') throw refuse(version.state, event.kind);
      const suspension: Suspension = { at: event.at, reason: event.reason };
      return { ...version, ...core, state: 'suspended', suspension };
    }
    case 'resume': {
      if (version.state !== 'suspended') throw refuse(version.state, event.kind);
      const { material, activatedAt, deactivateAt } = version;
      return { ...core, state: 'active', material, activatedAt, deactivateAt };
    }
    case 'deactivate': {
      if (version.state !== 'active' && version.state !== 'suspended') {
        throw refuse(version.state, event.kind);
      }
      const { material, activatedAt } = version;
      return {
        ...core,
        state: 'deactivated',
        material,
        activatedAt,
        deactivatedAt: event.at,
        reason: event.reason,
        destroyAt: null,
      };
    }
    case 'compromise': {
      if (version.state === 'compromised' || version.state === 'destroyed') {
        throw refuse(version.state, event.kind);
      }
      return {
        ...core,
        state: 'compromised',
        material: version.material,
        activatedAt: version.state === 'pre-active' ? null : version.activatedAt,
        compromisedAt: event.at,
        reason: event.reason,
        destroyAt: null,
      };
    }
    case 'destroy': {
      if (
        version.state !== 'pre-active' &&
        version.state !== 'deactivated' &&
        version.state !== 'compromised'
      ) {
        throw refuse(version.state, event.kind);
      }
      return {
        ...core,
        state: 'destroyed',
        destroyedAt: event.at,
        compromisedAt: version.state === 'compromised' ? version.compromisedAt : null,
        reason: event.reason,
      };
    }
  }
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

export function isUsable(key: Key, version: KeyVersion, usage: Usage): boolean {
  return (
    key.suspension === null &&
    key.destroyedAt === null &&
    version.version >= key.minUsableVersion &&
    USABLE[version.state].includes(usage)
  );
}

/** @throws TwofoldError version_not_usable, saying which state stands in the way */
export function requireUsable(key: Key, version: KeyVersion, usage: Usage): void {
  if (isUsable(key, version, usage)) return;
  const why =
    key.destroyedAt !== null
      ? 'The key is destroyed.'
      : key.suspension !== null
        ? 'The key is suspended.'
        : version.version < key.minUsableVersion
          ? `Versions below ${String(key.minUsableVersion)} are closed.`
          : `Version ${String(version.version)} is ${version.state}.`;
  throw new TwofoldError('version_not_usable', why);
}
