/** Instances of the service as the audit log sees them, over a real database. */
import { randomUUID } from 'node:crypto';
import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import type { Entry } from '../../src/audit/entry.ts';
import { batchMacInput, leafHash, NO_PREVIOUS } from '../../src/audit/entry.ts';
import { createAuditLog } from '../../src/audit/log.ts';
import type { AuditLogOptions, RunningAuditLog } from '../../src/audit/log.ts';
import type { AuditId } from '../../src/audit/ports.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import type { SecurityChange } from '../../src/epoch.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import type { TestDatabase } from '../store/database.ts';
import { withOwner } from '../store/owner.ts';
import { draftOf } from './drafts.ts';
import { softwareMac } from './memory-store.ts';

export interface TestInstance {
  readonly id: string;
  readonly store: Store;
  readonly epoch: SecurityEpoch;
  readonly log: RunningAuditLog;
  /** A change that writes nothing but its entry, its record and the epoch. */
  suspend(scope: Omit<SecurityChange, 'epoch'>): Promise<{ epoch: number; auditId: AuditId }>;
  stop(): Promise<void>;
}

export async function startInstance(
  url: string,
  options: Partial<AuditLogOptions> = {},
): Promise<TestInstance> {
  const store = openStore({ url });
  const id = randomUUID();
  await store.instances.open({ id, zone: 'zone-a', suites: [], envelopes: [], graceMs: 0 });
  const epoch = new SecurityEpoch((await store.instances.beat(id, 0)).epoch);
  const log = createAuditLog({
    store: store.audit,
    mac: softwareMac,
    epoch,
    instance: id,
    zone: 'zone-a',
    ...options,
  });
  await log.start();
  return {
    id,
    store,
    epoch,
    log,
    suspend: async (scope) => {
      const draft = draftOf({ operation: 'keys.suspend', requestId: randomUUID() });
      const { result, auditId } = await log.change(draft, (entry) =>
        store.keys.commit({
          epoch: entry.epoch,
          writes: [],
          entry,
          scope,
          idempotency: null,
        }),
      );
      return { epoch: result.epoch, auditId };
    },
    stop: async () => {
      await log.stop();
      await store.close();
    },
  };
}

export interface DurableEntry extends Entry {
  readonly id: AuditId;
  readonly leaf: Uint8Array;
  /** Stands at the first entry of a batch. */
  readonly hmac: Uint8Array | null;
}

interface Row {
  readonly lane: number;
  readonly n: string;
  readonly leaf: Buffer;
  readonly body: Buffer;
  readonly batch_hmac: Buffer | null;
}

/** Everything in the table, lane by lane, by a connection that shares nothing with the instances. */
export const durableEntries = (database: TestDatabase): Promise<readonly DurableEntry[]> =>
  withOwner(database, async (client) => {
    const { rows } = await client.query<Row>(
      'select lane, n, leaf, body, batch_hmac from public.entry order by lane, n',
    );
    return rows.map(({ lane, n, leaf, body, batch_hmac: hmac }) => {
      const entry = decodeEntry(Uint8Array.from(body));
      const sound = entry.lane === lane && entry.n === Number(n) && leaf.equals(leafHash(body));
      if (!sound) throw new Error(`entry ${lane}-${n} is not what its place says`);
      return { ...entry, id: `${lane}-${n}`, leaf, hmac };
    });
  });

/** What is wrong with the chains: gaps, and entries that do not name their predecessor. */
export function brokenChains(entries: readonly DurableEntry[]): string[] {
  const leaves = new Map(entries.map(({ id, leaf }) => [id, leaf]));
  return entries.flatMap(({ id, lane, n, previous }) => {
    const before = n === 1 ? NO_PREVIOUS : leaves.get(`${lane}-${n - 1}`);
    if (before === undefined) return [`gap before ${id}`];
    return Buffer.compare(previous, before) === 0 ? [] : [`chain at ${id}`];
  });
}

/** What is wrong with the batch HMACs: every entry belongs to one batch, and its HMAC is the audit key's. */
export async function brokenBatches(entries: readonly DurableEntry[]): Promise<string[]> {
  const broken: string[] = [];
  for (const [index, { id, lane, n: first, hmac }] of entries.entries()) {
    if (hmac === null) {
      if (first === 1) broken.push(`no batch begins at ${id}`);
      continue;
    }
    const rest = entries.slice(index + 1);
    const next = rest.findIndex((entry) => entry.lane !== lane || entry.hmac !== null);
    const count = 1 + (next === -1 ? rest.length : next);
    const last = entries[index + count - 1]?.leaf ?? NO_PREVIOUS;
    const expected = await softwareMac(batchMacInput({ lane, first, count, last }));
    if (Buffer.compare(expected, hmac) !== 0) broken.push(`HMAC of the batch at ${id}`);
  }
  return broken;
}
