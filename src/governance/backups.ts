/**
 * Backups as whoever administers the root namespace asks for them and looks after them. What one holds and
 * how it is taken stands in `backup/`; what it can be opened with, nobody has here.
 */
import type { Grant } from '../access/grant.ts';
import type { BackupPlace, BackupRequest, BackupRow, EntriesKept } from '../backup/ports.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { isUuid } from '../crypto/uuid.ts';
import { TwofoldError } from '../errors.ts';
import { requireRoot } from './namespaces.ts';

export interface BackupsParts {
  readonly rows: {
    find(id: string): Promise<BackupRow | null>;
    /** What was begun under an idempotency key. */
    requested(
      by: NonNullable<BackupRow['requestedBy']>,
      key: string,
    ): Promise<{ readonly row: BackupRow; readonly hash: Uint8Array } | null>;
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
    readonly request: BackupRequest | null;
  }) => Promise<BackupBegun>;
  readonly clock: () => Date;
}

export interface BackupBegun {
  readonly row: BackupRow;
  /** Of one whose request came to nothing: once it ends it is not taken, and its key may be used again. */
  readonly giveUp: () => Promise<void>;
}

/** A backup, and how long ago its snapshot was taken, ms. */
export interface BackupView extends BackupRow {
  readonly ageMs: number;
}

/** One that was asked for; `replayed` where the same request had begun it before. */
export interface BackupAsked extends Pick<BackupBegun, 'giveUp'> {
  readonly view: BackupView;
  readonly replayed: boolean;
}

export class Backups {
  readonly #parts: BackupsParts;

  constructor(parts: BackupsParts) {
    this.#parts = parts;
  }

  /**
   * Under a key that began one before it is that one, as it stands.
   * @throws TwofoldError as `BackupsParts.begin`, idempotency_mismatch
   */
  async take(
    grant: Grant<'backups.take'>,
    wanted: {
      readonly entries: EntriesKept | null;
      readonly dryRun: boolean;
      readonly request: BackupRequest | null;
    },
  ): Promise<BackupAsked> {
    requireRoot(grant);
    const { issuer, subject } = grant.principal;
    const requestedBy = { issuer, subject };
    const known = await this.#known(requestedBy, wanted.request);
    // One that runs may be of a process that is gone: whether it is, who begins another finds out.
    if (known !== null && known.view.state !== 'running') return known;
    try {
      const { row, giveUp } = await this.#parts.begin({ requestedBy, ...wanted });
      return { view: this.#view(row), giveUp, replayed: false };
    } catch (error) {
      // The same request may have come in between.
      if (!TwofoldError.is(error, 'conflict')) throw error;
      const meanwhile = await this.#known(requestedBy, wanted.request);
      if (meanwhile === null) throw error;
      return meanwhile;
    }
  }

  async #known(
    by: NonNullable<BackupRow['requestedBy']>,
    request: BackupRequest | null,
  ): Promise<BackupAsked | null> {
    if (request === null) return null;
    const found = await this.#parts.rows.requested(by, request.key);
    if (found === null) return null;
    if (!equalBytes(found.hash, request.hash)) throw new TwofoldError('idempotency_mismatch');
    return { view: this.#view(found.row), giveUp: () => Promise.resolve(), replayed: true };
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
