/**
 * Backups as whoever administers the root namespace asks for them and looks after them. What one holds and
 * how it is taken stands in `backup/`; what it can be opened with, nobody has here.
 */
import type { Grant } from '../access/grant.ts';
import type { BackupPlace, BackupRow, EntriesKept } from '../backup/ports.ts';
import { isUuid } from '../crypto/uuid.ts';
import { TwofoldError } from '../errors.ts';
import { requireRoot } from './namespaces.ts';

export interface BackupsParts {
  readonly rows: {
    find(id: string): Promise<BackupRow | null>;
    /** Newest first. */
    list(after: BackupPlace | null, limit: number): Promise<readonly BackupRow[]>;
  };
  /**
   * Begins one: resolves with its row once the snapshot is held, and goes on by itself.
   * @throws TwofoldError conflict while another is being taken, or where a generation of the root is not
   *   wrapped; invalid_value where no folder is configured
   */
  readonly begin: (wanted: {
    readonly requestedBy: BackupRow['requestedBy'];
    readonly entries: EntriesKept | null;
    /** Whether it is only looked if one could be taken. */
    readonly dryRun: boolean;
  }) => Promise<BackupBegun>;
  readonly clock: () => Date;
}

export interface BackupBegun {
  readonly row: BackupRow;
  /** Of one whose request came to nothing. */
  readonly giveUp: () => void;
}

/** A backup, and how long ago its snapshot was taken, ms. */
export interface BackupView extends BackupRow {
  readonly ageMs: number;
}

export class Backups {
  readonly #parts: BackupsParts;

  constructor(parts: BackupsParts) {
    this.#parts = parts;
  }

  /** @throws TwofoldError as `BackupsParts.begin` */
  async take(
    grant: Grant<'backups.take'>,
    wanted: { readonly entries: EntriesKept | null; readonly dryRun: boolean },
  ): Promise<{ readonly view: BackupView } & Pick<BackupBegun, 'giveUp'>> {
    requireRoot(grant);
    const { issuer, subject } = grant.principal;
    const begun = await this.#parts.begin({ requestedBy: { issuer, subject }, ...wanted });
    return { view: this.#view(begun.row), giveUp: begun.giveUp };
  }

  /** Newest first. */
  async list(
    grant: Grant<'backups.read'>,
    query: { readonly pageSize: number; readonly after: string | null },
  ): Promise<{ readonly items: readonly BackupView[]; readonly next: string | null }> {
    requireRoot(grant);
    const { pageSize } = query;
    const found = await this.#parts.rows.list(placeOf(query.after), pageSize + 1);
    const items = found.slice(0, pageSize).map((row) => this.#view(row));
    const last = found.length > pageSize ? items.at(-1) : undefined;
    const next = last && `${String(last.createdAt.getTime())} ${last.id}`;
    return { items, next: next ?? null };
  }

  /** @throws TwofoldError not_found */
  async get(grant: Grant<'backups.read'>, id: string): Promise<BackupView> {
    requireRoot(grant);
    const row = isUuid(id) ? await this.#parts.rows.find(id) : null;
    if (row === null) throw new TwofoldError('not_found');
    return this.#view(row);
  }

  #view(row: BackupRow): BackupView {
    const ageMs = Math.max(this.#parts.clock().getTime() - row.createdAt.getTime(), 0);
    return { ...row, ageMs };
  }
}

function placeOf(after: string | null): BackupPlace | null {
  if (after === null) return null;
  const [at = '', id = ''] = after.split(' ');
  return { createdAt: new Date(Number(at)), id };
}
