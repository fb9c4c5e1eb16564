/** The release before this tree's: which commit it is, and what of its schema may be gone by now. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { z } from 'zod';

/** Something of the schema that the previous release is known not to need. */
export interface Contract {
  /** As `changesFor` calls it. */
  readonly object: string;
  /** The migration since which no program uses it, or none is hindered by it. */
  readonly unneededSince: string;
  readonly why: string;
}

/** A table of the previous release that a migration since reads from end to end, and why it may. */
export interface WholeRead {
  readonly migration: string;
  readonly table: string;
  readonly why: string;
}

export interface Previous {
  /** Forty hex digits. */
  readonly commit: string;
  /** Its last migration. */
  readonly migration: string;
  readonly why: string;
  /** Emptied at each release. */
  readonly contracts: readonly Contract[];
  /** Emptied at each release. */
  readonly wholeReads: readonly WholeRead[];
}

const MIGRATION = z.string().regex(/^\d{4}_[a-z_0-9]+$/u);

const PREVIOUS = z.strictObject({
  commit: z.string().regex(/^[0-9a-f]{40}$/u),
  migration: MIGRATION,
  why: z.string().min(1),
  contracts: z.array(
    z.strictObject({ object: z.string(), unneededSince: MIGRATION, why: z.string().min(1) }),
  ),
  wholeReads: z.array(
    z.strictObject({ migration: MIGRATION, table: z.string(), why: z.string().min(1) }),
  ),
});

export const readPrevious = (): Previous =>
  PREVIOUS.parse(JSON.parse(readFileSync(join(import.meta.dirname, 'previous.json'), 'utf8')));
