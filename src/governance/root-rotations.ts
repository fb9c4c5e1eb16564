/**
 * The root as whoever administers the root namespace sees it, and the beginning of its rotation. What a
 * rotation does is carried out in the background (`keyring/root-rotation.ts`).
 *
 * It begins with a change of the whole installation: from the epoch that it raises on, every instance
 * makes new material, seals and MACs under the new generation, because whatever it planned under the old
 * one is refused as stale. So the generation must be open in every instance before.
 */
import type { Grant } from '../access/grant.ts';
import { Changes, plainPlan } from '../keyring/changes.ts';
import type { OperationRun, OperationView } from '../keyring/job-operations.ts';
import { OperationBook } from '../keyring/long-operations.ts';
import type { OperationParts } from '../keyring/long-operations.ts';
import { checkReason } from '../keyring/names.ts';
import type { ChangeDone } from '../keyring/operations.ts';
import type { OperationQuery, RootGeneration, RootStore } from '../keyring/ports.ts';
import type { Root } from '../keyring/root.ts';
import { changeOfRoot } from '../keyring/root-change.ts';
import type { RootChange } from '../keyring/root-change.ts';
import { ROOT_ROTATION, enforcedName } from '../keyring/root-ports.ts';
import type { RootHolder, RootReference, RootRotationStore } from '../keyring/root-ports.ts';
import { TwofoldError } from '../errors.ts';
import { requireRoot } from './namespaces.ts';
import { requireInEveryZone } from './root-zones.ts';

export interface RootRotationsParts extends OperationParts {
  readonly root: Pick<Root, 'generation' | 'installation' | 'generations' | 'first'>;
  readonly roots: Pick<RootStore, 'generations'>;
  readonly rotations: RootRotationStore;
  /** Names of the other zones of the configuration. */
  readonly otherZones: readonly string[];
}

/** Of one generation. */
export interface RootStanding {
  readonly generation: number;
  readonly state: RootGeneration['state'];
  readonly references: readonly RootReference[];
  /** Instances that live and have not opened it. */
  readonly missing: readonly RootHolder[];
}

export interface RootFacts {
  readonly installation: string;
  readonly inForce: number;
  readonly generations: readonly RootStanding[];
}

export interface BeginRotation {
  /** The newest unless told. */
  readonly generation: number | null;
  /** Zones that are given up: what moves is lost to them. */
  readonly withoutZones: readonly string[];
  readonly reason: string;
}

const SUBJECT = changeOfRoot(enforcedName);

export class RootRotations {
  readonly #parts: RootRotationsParts;
  readonly #book: OperationBook;
  readonly #changes: Changes<RootChange>;

  constructor(parts: RootRotationsParts) {
    this.#parts = parts;
    this.#book = new OperationBook(parts);
    this.#changes = new Changes(parts, SUBJECT);
  }

  async facts(grant: Grant<'root.read'>): Promise<RootFacts> {
    requireRoot(grant);
    const { root, roots, rotations } = this.#parts;
    const [references, holders] = [await rotations.references(), await rotations.holders()];
    const generations = (await roots.generations()).map(({ generation, state }) => ({
      generation,
      state,
      references: references.filter((each) => each.generation === generation),
      missing: holders.filter((each) => !each.generations.includes(generation)),
    }));
    return { installation: root.installation, inForce: root.generation, generations };
  }

  /** @throws TwofoldError not_found */
  async get(grant: Grant<'root.read'>, id: string): Promise<OperationView> {
    requireRoot(grant);
    const view = await this.#book.get(grant, grant, id);
    if (view.kind !== ROOT_ROTATION) throw new TwofoldError('not_found');
    return view;
  }

  /** Newest first. */
  async list(
    grant: Grant<'root.read'>,
    query: Pick<OperationQuery, 'pageSize'> & { readonly after: string | null },
  ): ReturnType<OperationBook['list']> {
    requireRoot(grant);
    return this.#book.list(grant, grant, { ...query, kind: ROOT_ROTATION, state: null });
  }

  /**
   * @throws TwofoldError conflict while another rotation runs, where there is no complete generation that
   *   is newer, while an instance that lives has not opened it, or no instance of a zone ever has
   */
  begin(
    grant: Grant<'root.rotate'>,
    wanted: BeginRotation,
    run: OperationRun,
  ): Promise<ChangeDone<RootChange>> {
    requireRoot(grant);
    let planned: Awaited<ReturnType<OperationBook['prepare']>> | undefined;
    const render = () => {
      if (planned === undefined) throw new TwofoldError('internal');
      return run.render(planned.view);
    };
    return this.#changes.run(grant, { ...run, ifMatch: null, render }, async () => {
      checkReason(wanted.reason);
      const generation = await this.#startable(wanted);
      planned = await this.#book.prepare(grant, {
        kind: ROOT_ROTATION,
        keyId: null,
        request: { generation, note: wanted.reason },
        rate: 1,
        counts: { total: await this.#below(generation), versions: 0, halves: 0, altered: 0 },
      });
      const operation = planned.stored;
      const operationId = operation.identity.value.id;
      const { reason, withoutZones } = wanted;
      const givenUp = withoutZones.length > 0 ? { withoutZones: withoutZones.join(',') } : {};
      const detail = { operationId, kind: ROOT_ROTATION, generation, reason, ...givenUp };
      return plainPlan({ detail, generation }, [
        { kind: 'begin-root-rotation', generation, operation },
      ]);
    });
  }

  /** Rows that have something under an older generation. */
  async #below(generation: number): Promise<number> {
    const parts: ReadonlySet<string> = new Set(['classical', 'pq', 'psk', 'log-seed', 'kept']);
    return (await this.#parts.rotations.references())
      .filter((each) => each.generation !== generation && !parts.has(each.what))
      .reduce((sum, { rows }) => sum + rows, 0);
  }

  async #startable({ generation: wanted, withoutZones }: BeginRotation): Promise<number> {
    const { root, roots, rotations, otherZones } = this.#parts;
    const running = await rotations.running();
    if (running !== null) throw conflict(`The rotation ${running} runs.`);
    const all = await roots.generations();
    const candidates = all.filter(({ state }) => state === 'complete' || state === 'in-force');
    const newest = candidates.at(-1);
    const generation = wanted ?? newest?.generation;
    const row = candidates.find((each) => each.generation === generation);
    if (row === undefined || generation === undefined || row !== newest) {
      throw conflict('It is not the newest generation, or its ceremony has not ended.');
    }
    const isNew = row.state === 'complete';
    if (!isNew && (await this.#below(generation)) === 0) {
      throw conflict(
        'Everything is under the newest generation. Place another: twofold hsm generation add.',
      );
    }
    const without = (await rotations.holders()).filter(
      (each) => !each.generations.includes(generation),
    );
    if (!root.generations.includes(generation) || without.length > 0) {
      const named = without.map(({ id, zone }) => `${id} in zone ${zone}`).slice(0, 5);
      throw conflict(
        `Generation ${String(generation)} is not open in every instance: ${named.join(', ')}.`,
      );
    }
    const zones = { others: otherZones, without: withoutZones, say: 'withoutZones' };
    await requireInEveryZone(rotations, { generation, ...zones });
    return generation;
  }
}

const conflict = (detail: string) => new TwofoldError('conflict', detail);
