/** Which version an operation uses, and whether it may. */
import { findSuiteByNumber } from '../crypto/suites.ts';
import type { Purpose, Suite } from '../crypto/suite.ts';
import { TwofoldError } from '../errors.ts';
import { versionOf } from './catalog.ts';
import { obstacle, requireUsable } from './lifecycle.ts';
import type { Key, KeyVersion, Material } from './model.ts';
import type { KeyView, Selecting, Used } from './operations.ts';

/** A version that may be used, with its suite's row and its material. */
export interface Selected {
  readonly key: Key;
  readonly keyId: string;
  readonly version: number;
  readonly suite: Suite;
  readonly material: Material;
  readonly used: Used;
}

/** @throws TwofoldError wrong_purpose */
export function requirePurpose(view: KeyView, purpose: Purpose): void {
  if (view.key.purpose !== purpose) {
    throw new TwofoldError('wrong_purpose', `The key is for ${view.key.purpose}, not ${purpose}.`);
  }
}

export function usedOf(key: Key, version: KeyVersion): Used {
  const suite = findSuiteByNumber(version.suite);
  return {
    key: key.name,
    keyId: key.id,
    keyVersion: version.version,
    suite: suite.id,
    suiteNumber: suite.number,
  };
}

/** Whatever its state allows; for what is said of a version rather than done with it. */
export const selectionOf = (key: Key, version: KeyVersion): Selected => select(key, version);

function select(key: Key, version: KeyVersion): Selected {
  if (!('material' in version)) throw new TwofoldError('version_not_usable');
  return {
    key,
    keyId: key.id,
    version: version.version,
    suite: findSuiteByNumber(version.suite),
    material: version.material,
    used: usedOf(key, version),
  };
}

/**
 * The named version, else the primary; `now` in milliseconds since the epoch.
 * @throws TwofoldError version_not_found, version_not_usable
 */
export function toProtect(view: KeyView, wanted: number | undefined, now: number): Selected {
  const number = wanted ?? view.key.primary;
  if (number === null) {
    throw new TwofoldError('version_not_usable', 'The key has no primary version; rotate it.');
  }
  const version = versionOf(view, number);
  requireUsable(view.key, version, 'protect', now);
  return select(view.key, version);
}

/** The version that a ciphertext or request names. @throws as `toProtect` */
export function toProcess(view: KeyView, number: number, now: number): Selected {
  const version = versionOf(view, number);
  requireUsable(view.key, version, 'process', now);
  return select(view.key, version);
}

/** The one usable version, when none is named. @throws TwofoldError ambiguous_version */
export function toVerify(view: KeyView, wanted: number | undefined, now: number): Selected {
  if (wanted !== undefined) return toProcess(view, wanted, now);
  const usable = view.versions.filter(
    (version) => obstacle(view.key, version, 'process', now) === null,
  );
  const [only, another] = usable;
  if (another !== undefined) {
    throw new TwofoldError('ambiguous_version', 'Name keyVersion: several versions are usable.');
  }
  if (only === undefined) throw new TwofoldError('version_not_usable', 'No version is usable.');
  return select(view.key, only);
}

/**
 * Looks for the version that an operation uses, telling `selecting` what is known as soon as it is.
 * @throws as `select`
 */
export function selectTelling(
  view: KeyView,
  { onKey, onSelected }: Selecting,
  select: (view: KeyView) => Selected,
): Selected {
  onKey?.(view.key.id);
  const selected = select(view);
  onSelected?.(selected.used);
  return selected;
}
