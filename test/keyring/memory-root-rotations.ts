/** What a rotation of the root reads and writes, over the rows of a `MemoryStore`. */
import type { CommitOutcome } from '../../src/audit/ports.ts';
import { TwofoldError } from '../../src/errors.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';
import type { KeyVersion } from '../../src/keyring/model.ts';
import type { OperationCommit } from '../../src/keyring/ports.ts';
import { generationOf } from '../../src/keyring/root-mac.ts';
import { ROOT_ROTATION, ROOT_TABLES } from '../../src/keyring/root-ports.ts';
import type {
  RemadeRow,
  RootHolder,
  RootPage,
  RootReference,
  RootRotationStore,
  RootRow,
  RootTable,
} from '../../src/keyring/root-ports.ts';
import type { MemoryStore } from './memory-store.ts';

interface AnyRow {
  readonly value: unknown;
  readonly mac: Uint8Array;
}

type Slot = { readonly row: RootRow; readonly put: (row: RootRow) => void };
export type RotationCall = 'page' | 'commitBatch';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

export class MemoryRootRotations implements RootRotationStore {
  fault: (call: RotationCall) => 'none' | 'before' | 'after' = () => 'none';
  /** Runs inside a call, before it acts. */
  meanwhile: (call: RotationCall) => Promise<void> = () => Promise.resolve();
  instances: RootHolder[] = [];
  /** Instances that live no more. */
  ended: RootHolder[] = [];
  readonly #store: MemoryStore;

  constructor(store: MemoryStore) {
    this.#store = store;
  }

  async page(
    table: RootTable,
    { generation, first }: { readonly generation: number; readonly first: number },
    after: string | null,
    limit: number,
  ): Promise<RootPage> {
    await this.#begin('page');
    const from = after === null ? 0 : Number(after);
    const found = this.#slots(table)
      .map(({ row }, place) => ({ row, place }))
      .filter(({ row, place }) => place >= from && needs(row, generation, first));
    const shown = found.slice(0, limit);
    const last = found.length > limit ? shown.at(-1) : undefined;
    const next = last === undefined ? null : String(last.place + 1);
    return { rows: shown.map(({ row }) => row), malformed: 0, next };
  }

  async commitBatch(step: OperationCommit, rows: readonly RemadeRow[]): Promise<CommitOutcome> {
    await this.#begin('commitBatch');
    const puts = rows.map((row) => this.#swap(row));
    const outcome = await this.#store.operations.commit(step);
    if ('stale' in outcome) return outcome;
    for (const put of puts) put();
    if (this.fault('commitBatch') === 'after') throw new OutcomeUnknown();
    return outcome;
  }

  async references(): Promise<readonly RootReference[]> {
    const first = this.#first();
    const counts = new Map<string, RootReference>();
    const add = (generation: number | null, what: RootReference['what']) => {
      if (generation === null) return;
      const slot = `${String(generation)}/${what}`;
      const { rows = 0 } = counts.get(slot) ?? {};
      counts.set(slot, { generation, what, rows: rows + 1 });
    };
    for (const table of ROOT_TABLES) {
      for (const { row } of this.#slots(table)) {
        add(generationOf(row.mac, first), table);
        for (const [what, generation] of halvesOf(row)) add(generation, what);
      }
    }
    for (const { kept } of this.#store.roots) {
      if (kept === null) continue;
      add(kept.value.generation, 'kept');
      add(generationOf(kept.mac, first), 'kept');
    }
    return [...counts.values()];
  }

  async holders(): Promise<readonly RootHolder[]> {
    return this.instances;
  }

  async zonesHolding(generation: number): Promise<readonly string[]> {
    const held = [...this.instances, ...this.ended];
    return held.flatMap((each) => (each.generations.includes(generation) ? [each.zone] : []));
  }

  async running(): Promise<string | null> {
    for (const [id, { identity, progress }] of this.#store.operations.rows) {
      if (identity.value.kind === ROOT_ROTATION && progress.state === 'running') return id;
    }
    return null;
  }

  async #begin(call: RotationCall): Promise<void> {
    await this.meanwhile(call);
    if (this.fault(call) === 'before') throw new TwofoldError('database_unavailable');
  }

  #first(): number {
    return Math.min(...this.#store.roots.map(({ generation }) => generation));
  }

  #swap(row: RemadeRow): () => void {
    if (row.table === 'kept') {
      const index = this.#store.roots.findIndex((each) => each.generation === row.generation);
      const standing = this.#store.roots[index];
      const before = standing?.kept?.mac ?? null;
      if (standing === undefined || !same(before, row.old)) throw new TwofoldError('conflict');
      return () => {
        this.#store.roots[index] = { ...standing, kept: { value: row.value, mac: row.mac } };
      };
    }
    const { old, ...next } = row;
    const found = this.#slots(row.table).find((slot) => same(slot.row.mac, old));
    if (found === undefined) throw new TwofoldError('conflict');
    return () => found.put(next);
  }

  #slots(table: RootTable): readonly Slot[] {
    const { rows, operations } = this.#store;
    const ofMap = (map: Map<string, AnyRow>): Slot[] =>
      [...map]
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .map(([slot, row]) => ({
          row: { table, ...row } as RootRow,
          put: (next) => {
            map.set(slot, { value: next.value, mac: next.mac });
          },
        }));
    switch (table) {
      case 'version':
        return ofMap(rows.versions);
      case 'key':
        return ofMap(rows.keys);
      case 'intent':
        return ofMap(rows.intents);
      case 'idempotency':
        return ofMap(rows.idempotency);
      case 'policy':
        return ofMap(rows.policies);
      case 'policy-set':
        return ofMap(rows.policySets);
      case 'member':
        return ofMap(rows.sets.members);
      case 'seal':
        return ofMap(rows.sets.seals);
      case 'approval':
        return ofMap(rows.approvals);
      case 'history':
        return rows.sets.history.map((row, index) => ({
          row: { table, ...row },
          put: (next) => {
            if (next.table !== 'history') throw new TypeError('a row of another table');
            rows.sets.history[index] = { value: next.value, mac: next.mac };
          },
        }));
      case 'operation':
        return [...operations.rows].map(([id, stored]) => ({
          row: { table, ...stored.identity },
          put: (next) => {
            if (next.table !== 'operation') throw new TypeError('a row of another table');
            const { progress } = operations.rows.get(id) ?? stored;
            operations.rows.set(id, { identity: { value: next.value, mac: next.mac }, progress });
          },
        }));
      case 'log-name':
      case 'log-key':
        return [];
    }
  }
}

const same = (a: Uint8Array | null, b: Uint8Array | null): boolean =>
  a === null || b === null ? a === b : hex(a) === hex(b);

function halvesOf(row: RootRow): readonly (readonly [RootReference['what'], number])[] {
  if (row.table !== 'version' || !('material' in row.value)) return [];
  const { classical, pq, psk } = row.value.material;
  return [
    ...(classical?.hsm.custody === 'hsm-wrapped'
      ? [['classical', classical.hsm.generation] as const]
      : []),
    ...(pq === null ? [] : [['pq', pq.half.generation] as const]),
    ...(psk === null ? [] : [['psk', psk.generation] as const]),
  ];
}

const needs = (row: RootRow, generation: number, first: number): boolean =>
  generationOf(row.mac, first) !== generation ||
  halvesOf(row).some(([, each]) => each !== generation);

/** The generations under which a version has its halves. */
export const generationsOf = (version: KeyVersion): readonly number[] =>
  halvesOf({ table: 'version', value: version, mac: new Uint8Array(0) }).map(([, each]) => each);
