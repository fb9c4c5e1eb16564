/** Roles of those whose credentials name none. */
import { TwofoldError } from '../errors.ts';

export interface RoleMapping {
  /** A subject; or all that begin so, up to a separator and with `*` after it. */
  readonly subject: string;
  readonly roles: readonly string[];
}

/**
 * A subject, or a beginning of subjects that ends where a part of a name does: `prod*` would be for
 * `prod-evil` too, `prod/*` is not. `*` alone is for everybody.
 */
const PATTERN = /^(?:[^*]+|(?:[^*]*[/:@.#])?\*)$/u;

/** @throws TwofoldError invalid_value */
export function checkMappings(mappings: readonly RoleMapping[]): void {
  const wrong = mappings.find(({ subject }) => !PATTERN.test(subject));
  if (wrong === undefined) return;
  const detail = 'In a subject, * stands alone, or at the end after one of / : @ . #';
  throw new TwofoldError('invalid_value', detail);
}

/** What could not be meant is for nobody. */
export function mappedRoles(mappings: readonly RoleMapping[], subject: string): readonly string[] {
  return mappings
    .filter((mapping) =>
      mapping.subject.endsWith('*')
        ? PATTERN.test(mapping.subject) && subject.startsWith(mapping.subject.slice(0, -1))
        : subject === mapping.subject,
    )
    .flatMap(({ roles }) => roles);
}
