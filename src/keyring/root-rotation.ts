/**
 * A rotation of the root, as the instance that leads carries it out: every row that has something under
 * an older generation gets it under the one in force.
 *
 * A row is verified under the generation that it states before anything of it is made anew, so nothing
 * that was altered becomes genuine. It is written where it still has the MAC that it was read with, in
 * one transaction with the rest of its batch, the progress and the audit entry: a kill leaves whole
 * batches, and the next leader finds what is left by looking for it. No row says anything new, so no
 * epoch rises and nothing that was read before becomes wrong while the older generation is open.
 */
import type { Grant } from '../access/grant.ts';
import type { LogKey } from '../audit/key-ports.ts';

import { StaleAnswer } from '../audit/ports.ts';
import type { CommitOutcome } from '../audit/ports.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import { attempt, isFailed } from '../settled.ts';
import { Changes, draftOf, plainPlan } from './changes.ts';
import type { OperationView } from './job-operations.ts';
import { OperationBook, SILENCE_MS } from './long-operations.ts';
import type { OperationParts } from './long-operations.ts';
import type { KeyVersion } from './model.ts';
import type { OperationProgress, RootStore } from './ports.ts';
import type { Root, ToMac } from './root.ts';
import { changeOfRoot, unasked } from './root-change.ts';
import { partsOf, taken, withParts } from './root-halves.ts';
import { generationOf } from './root-mac.ts';
import { ROOT_ROTATION, ROOT_TABLES, movedName } from './root-ports.ts';
import type { RemadeRow, RootRotationStore, RootRow, RootTable } from './root-ports.ts';
import * as rows from './row-mac.ts';

const OVERTAKEN_LIMIT = 20;
/** Rows that are made anew at a time: what requests wait for on the main thread is a millisecond or two. */
const SLICE = 16;

/** What it counts. `altered` rows stay as they are, and keep the old generation from retiring. */
interface Counts {
  readonly total: number;
  readonly versions: number;
  readonly halves: number;
  readonly altered: number;
}

export interface RootRotationParts extends OperationParts {
  readonly root: Root;
  readonly roots: RootStore;
  readonly rotations: RootRotationStore;
  /** Canonical forms of what `governance/` and `audit/` write. */
  readonly forms: GovernedForms;
  /** Rows of one transaction at most. */
  readonly batch: number;
  /** Waits after each few rows, so that requests come first. Resolves at once when the service stops. */
  readonly rest: (worked: { readonly rows: number; readonly ms: number }) => Promise<void>;
  /** Told of rows that were altered, and of batches that failed. */
  readonly onFailure: (what: string, error: unknown) => void;
}

/** What the MACs of rows are made over that others write. */
export interface GovernedForms {
  readonly member: (value: Extract<RootRow, { table: 'member' }>['value']) => Uint8Array;
  readonly seal: (value: Extract<RootRow, { table: 'seal' }>['value']) => Uint8Array;
  readonly approval: (value: Extract<RootRow, { table: 'approval' }>['value']) => Uint8Array;
  readonly logName: (value: Extract<RootRow, { table: 'log-name' }>['value']) => Uint8Array;
  readonly logKey: (value: LogKey) => Uint8Array;
}

/** Under which grants the leader works. */
export interface RootRotationGrants {
  readonly oversee: () => Grant<'operations.oversee'>;
  readonly carryOut: () => Grant<'root.carry-out'>;
}

/** What a look at a table came to. */
type Walked = 'done' | 'stopped';

export class RootRotation {
  readonly #parts: RootRotationParts;
  readonly #book: OperationBook;
  readonly #grants: RootRotationGrants;

  constructor(parts: RootRotationParts, grants: RootRotationGrants) {
    this.#parts = parts;
    this.#book = new OperationBook(parts);
    this.#grants = grants;
  }

  /**
   * Carries out the rotation that runs, if one does, until nothing is left or it may not go on.
   * @throws TwofoldError when HSM or database do not answer: the next run goes on
   */
  async run(mayGoOn: () => Promise<boolean>): Promise<void> {
    const id = await this.#parts.rotations.running();
    if (id === null) return;
    const grant = this.#grants.oversee();
    let view = await this.#book.get(grant, grant, id);
    if (view.state !== 'running' || view.kind !== ROOT_ROTATION) return;
    const generation = Number(view.request['generation']);
    // Another instance may have begun it before this one has learnt so.
    if (this.#parts.root.generation !== generation) return;
    await this.#parts.root.whenSelected();
    for (;;) {
      const before = view.position;
      view = { ...view, counts: { ...view.counts, altered: 0 } };
      for (const table of ROOT_TABLES) {
        const walked = await this.#walk(table, generation, view, mayGoOn);
        ({ view } = walked);
        if (walked.how === 'stopped') return;
      }
      view = await this.#takeOver(generation, view);
      if (view.position === before) break;
    }
    await this.#end(generation, view);
  }

  async #walk(
    table: RootTable,
    generation: number,
    from: OperationView,
    mayGoOn: () => Promise<boolean>,
  ): Promise<{ readonly how: Walked; readonly view: OperationView }> {
    const { rotations, root, batch } = this.#parts;
    const wanted = { generation, first: root.first };
    let view = from;
    let after: string | null = null;
    for (;;) {
      if (!(await mayGoOn())) return { how: 'stopped', view };
      const page = await rotations.page(table, wanted, after, batch);
      if (page.malformed > 0) view = altered(view, page.malformed);
      if (page.rows.length > 0) {
        const { remade, few, began } = await this.#remadeInSlices(page.rows, generation);
        view = altered(view, page.rows.length - remade.length);
        const written = remade.length === 0 ? view : await this.#commit(view, remade);
        if (written === null) {
          // A row moved meanwhile: the same page is read again, as everything else that moved.
          view = await this.#again(view);
          continue;
        }
        view = written;
        await this.#parts.rest({ rows: few, ms: performance.now() - began });
      }
      if (page.next === null) return { how: 'done', view };
      after = page.next;
    }
  }

  /** The operation as it stands. @throws TwofoldError conflict when it runs no longer */
  async #again(view: OperationView): Promise<OperationView> {
    const grant = this.#grants.oversee();
    const found = await this.#book.get(grant, grant, view.id);
    if (found.state !== 'running') throw new TwofoldError('conflict');
    return { ...found, counts: { ...found.counts, altered: view.counts['altered'] ?? 0 } };
  }

  /** `root-mac` of older generations goes under this one, for the MACs of the audit log. */
  async #takeOver(generation: number, from: OperationView): Promise<OperationView> {
    const { root, roots } = this.#parts;
    let view = from;
    for (const row of await roots.generations()) {
      const { kept } = row;
      if (row.generation === generation || row.mac === null || row.state === 'complete') continue;
      const under = kept === null ? null : generationOf(kept.mac, root.first);
      if (kept?.value.generation === generation && under === generation) continue;
      const value = await root.takeOver(row.generation);
      const mac = await root.mac(rows.canonicalKept(row.generation, value));
      const old = kept?.mac ?? null;
      const remade = { table: 'kept', generation: row.generation, value, mac, old } as const;
      view = (await this.#commit(view, [remade])) ?? (await this.#again(view));
    }
    return view;
  }

  /**
   * A change of the whole installation: what was read before is read anew, and shown under the generation
   * under which it is.
   */
  async #end(generation: number, view: OperationView): Promise<void> {
    const left = (await this.#parts.rotations.references()).filter(
      (each) => each.generation !== generation,
    );
    const many = left.reduce((sum, each) => sum + each.rows, 0);
    const state = many === 0 ? 'succeeded' : 'failed';
    const reason =
      many === 0
        ? null
        : `${String(many)} references to older generations are left: rows that were altered.`;
    // Rows that expired meanwhile were counted and not moved.
    const total = many === 0 ? view.position : (view.counts['total'] ?? 0);
    const ending = { ...view, counts: { ...view.counts, total } };
    const { write } = this.#step(ending, [], { state, reason });
    const detail = this.#detail(view, 0, state);
    await new Changes(this.#parts, OF_END).run(this.#grants.carryOut(), unasked(SOURCE), () =>
      Promise.resolve(plainPlan({ generation, detail }, [{ kind: 'end-root-rotation', write }])),
    );
  }

  /**
   * A few rows at a time, with a rest between them: what a batch takes is spread over the time that it has.
   * @returns also how many the last few were, and when they began (performance.now): they are written before they rest
   */
  async #remadeInSlices(page: readonly RootRow[], generation: number) {
    const remade: RemadeRow[] = [];
    let [few, began] = [0, performance.now()];
    for (let first = 0; first < page.length; first += SLICE) {
      if (few > 0) {
        await this.#parts.rest({ rows: few, ms: performance.now() - began });
        began = performance.now();
      }
      const slice = page.slice(first, first + SLICE);
      remade.push(...(await this.#remade(slice, generation)));
      few = slice.length;
    }
    return { remade, few, began };
  }

  /** The rows under the generation in force; of one that was altered nothing is made. */
  async #remade(page: readonly RootRow[], generation: number): Promise<readonly RemadeRow[]> {
    const moved = await this.#moved(await this.#genuine(page), generation);
    const macs = await this.#macs(moved.map(({ row }) => ({ data: this.#formOf(row) })));
    return moved.map(({ row, old }, index) => ({ ...row, mac: macs[index] ?? missing(), old }));
  }

  async #genuine(page: readonly RootRow[]): Promise<readonly RootRow[]> {
    const said = page.flatMap((row) => {
      const data = attempt(() => this.#formOf(row));
      return isFailed(data) ? [] : [{ row, data, like: row.mac }];
    });
    const macs = await this.#macs(said);
    const genuine = new Set(
      said.flatMap(({ row }, index) =>
        equalBytes(macs[index] ?? missing(), row.mac) ? [row] : [],
      ),
    );
    for (const { table } of page.filter((row) => !genuine.has(row))) {
      this.#parts.onFailure(table, new TwofoldError('integrity_failed', 'A row was altered.'));
    }
    return [...genuine];
  }

  /** @throws TwofoldError when the HSM does not answer for each */
  async #macs(items: readonly ToMac[]): Promise<readonly Uint8Array[]> {
    return (await this.#parts.root.macs(items)).map((each) => {
      if (isFailed(each)) throw each;
      return each;
    });
  }

  /** With their material under the generation: all that is wrapped, and all that is sealed, together. */
  async #moved(
    genuine: readonly RootRow[],
    generation: number,
  ): Promise<readonly { readonly row: RootRow; readonly old: Uint8Array }[]> {
    const { root, onFailure } = this.#parts;
    const parts = genuine.map((row) => partsOf(row, generation));
    const [wrapped, sealed] = await Promise.all([
      root.rewrap(parts.flatMap(({ wraps }) => wraps)),
      root.reseal(parts.flatMap(({ seals }) => seals)),
    ]);
    const [nextWrapped, nextSealed] = [wrapped.values(), sealed.values()];
    return genuine.flatMap((row, index) => {
      const { wraps = [], seals = [] } = parts[index] ?? {};
      const [hsm, halves] = [
        wraps.map(() => taken(nextWrapped)),
        seals.map(() => taken(nextSealed)),
      ];
      const failure = [...hsm, ...halves].find(isFailed);
      if (failure === undefined) {
        return [{ row: withParts(row, generation, hsm, halves), old: row.mac }];
      }
      if (failure.code !== 'integrity_failed') throw failure;
      onFailure(row.table, failure);
      return [];
    });
  }

  #formOf(row: RootRow): Uint8Array {
    const { forms } = this.#parts;
    switch (row.table) {
      case 'key':
        return rows.canonicalKey(row.value);
      case 'version':
        return rows.canonicalVersion(row.value);
      case 'intent':
        return rows.canonicalIntent(row.value);
      case 'idempotency':
        return rows.canonicalIdempotency(row.value);
      case 'operation':
        return rows.canonicalOperation(row.value);
      case 'policy':
        return rows.canonicalPolicy(row.value);
      case 'policy-set':
        return rows.canonicalPolicySet(row.value);
      case 'member':
      case 'history':
        return forms.member(row.value);
      case 'seal':
        return forms.seal(row.value);
      case 'approval':
        return forms.approval(row.value);
      case 'log-name':
        return forms.logName(row.value);
      case 'log-key':
        return forms.logKey(row.value);
    }
  }

  /** The operation after the batch; null when a row of it moved, and nothing was written. */
  async #commit(view: OperationView, batch: readonly RemadeRow[]): Promise<OperationView | null> {
    const { audit, rotations, refreshEpoch } = this.#parts;
    const { write, progress } = this.#step(view, batch, {});
    const draft = draftOf(this.#grants.carryOut(), unasked(SOURCE), {
      ...{ keyRef: null, keyId: null, keyVersion: null, suite: null },
      detail: this.#detail({ ...view, ...progress }, batch.length, progress.state),
    });
    for (let overtaken = 0; overtaken < OVERTAKEN_LIMIT; overtaken += 1) {
      try {
        await audit.change(draft, (entry): Promise<CommitOutcome> => {
          const step = { epoch: entry.epoch, write, entry, idempotency: null };
          return rotations.commitBatch(step, batch);
        });
        return { ...view, ...progress };
      } catch (error) {
        if (TwofoldError.is(error, 'conflict')) return null;
        if (!(error instanceof StaleAnswer)) throw error;
        await refreshEpoch();
      }
    }
    throw new TwofoldError('database_unavailable', 'Changes kept overtaking the rotation.');
  }

  #step(
    view: OperationView,
    batch: readonly RemadeRow[],
    next: Partial<Pick<OperationProgress, 'state' | 'reason'>>,
  ) {
    const now = this.#parts.clock();
    const { state, reason, revision } = view;
    const progress: OperationProgress = {
      state: state === 'expired' ? 'running' : state,
      reason,
      ...next,
      position: view.position + batch.length,
      counts: { ...counted(view, batch) },
      updatedAt: now,
      expiresAt: new Date(now.getTime() + SILENCE_MS),
      revision: revision + 1,
    };
    const write = { kind: 'advance', id: view.id, progress, expected: revision } as const;
    return { write, progress };
  }

  #detail({ id, request, counts }: OperationView, rowsMoved: number, state: string) {
    const generation = Number(request['generation']);
    return { operationId: id, generation, rows: rowsMoved, state, ...counts };
  }
}

const OF_END = changeOfRoot(movedName);
const SOURCE = 'root-rotation';

function missing(): never {
  throw new TwofoldError('internal');
}

const altered = (view: OperationView, rows: number): OperationView => ({
  ...view,
  counts: { ...view.counts, altered: (view.counts['altered'] ?? 0) + rows },
});

function counted(view: OperationView, batch: readonly RemadeRow[]): Counts {
  const versions = batch.filter(({ table }) => table === 'version');
  const halves = versions.reduce((sum, { value }) => sum + halvesOf(value as KeyVersion), 0);
  const { total = 0, versions: before = 0, halves: halvesBefore = 0 } = view.counts;
  return {
    // Rows that came under the old generation as it ended are moved beside those that were counted.
    total: Math.max(total, view.position + batch.length),
    versions: before + versions.length,
    halves: halvesBefore + halves,
    altered: view.counts['altered'] ?? 0,
  };
}

function halvesOf(version: KeyVersion): number {
  if (!('material' in version)) return 0;
  const { classical, pq, psk } = version.material;
  const wrapped = classical?.hsm.custody === 'hsm-wrapped' ? 1 : 0;
  return wrapped + (pq === null ? 0 : 1) + (psk === null ? 0 : 1);
}
