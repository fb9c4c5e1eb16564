/** Roles of those whose credentials name none. */

export interface RoleMapping {
  /** A subject, or with `*` at its end all that begin so. */
  readonly subject: string;
  readonly roles: readonly string[];
}

export function mappedRoles(mappings: readonly RoleMapping[], subject: string): readonly string[] {
  return mappings
    .filter((mapping) =>
      mapping.subject.endsWith('*')
        ? subject.startsWith(mapping.subject.slice(0, -1))
        : subject === mapping.subject,
    )
    .flatMap(({ roles }) => roles);
}
