/** From what happened to what is appended: places, chain of hashes, index columns, batch HMAC. */
import { createHmac } from 'node:crypto';
import {
  NO_PREVIOUS,
  batchMacInput,
  contextMacInput,
  encodeEntry,
  encodeFacts,
  itemKeyInput,
  leafHash,
} from './entry.ts';
import { TwofoldError } from '../errors.ts';
import type { Facts } from './entry.ts';
import { NO_CIRCUMSTANCES } from './ports.ts';
import type { Actor, AuditItem, AppendBatch, AppendEntry, AuditDraft } from './ports.ts';

/**
 * Full-length HMAC-SHA-256 by `root-mac` (`Hsm.mac`); with `like`, a MAC as it is stated, under the
 * generation of the root that made that one.
 */
export type MacFunction = (data: Uint8Array, like?: Uint8Array) => Promise<Uint8Array>;

/** Where the next entry of a lane goes. */
export interface Position {
  readonly lane: number;
  readonly next: number;
  readonly previous: Uint8Array;
}

/** An entry but for its place. */
export interface Unplaced {
  readonly facts: Uint8Array;
  readonly index: AppendEntry['index'];
}

export const startOf = (lane: number): Position => ({ lane, next: 1, previous: NO_PREVIOUS });

/** Gives the entries the next places; pure, so a batch that was not written is placed again. */
export function chain(
  position: Position,
  epoch: number,
  parts: readonly Unplaced[],
): { readonly entries: readonly AppendEntry[]; readonly after: Position } {
  const { lane } = position;
  let { next, previous } = position;
  const entries = parts.map(({ facts, index }) => {
    const body = encodeEntry({ lane, n: next, previous, epoch }, facts);
    const leaf = leafHash(body);
    next += 1;
    previous = leaf;
    return { leaf, body, index };
  });
  return { entries, after: { lane, next, previous } };
}

/** A batch whose bytes stand; `after` holds once it is durable. */
export interface Sealed {
  readonly batch: AppendBatch;
  readonly after: Position;
}

/** @throws whatever the HSM throws; then nothing was sent */
export async function seal(
  mac: MacFunction,
  position: Position,
  epoch: number,
  parts: readonly Unplaced[],
): Promise<Sealed> {
  const { entries, after } = chain(position, epoch, parts);
  const { lane, next: first } = position;
  const input = batchMacInput({ lane, first, count: entries.length, last: after.previous });
  return { batch: { lane, first, epoch, entries, hmac: await mac(input) }, after };
}

/** Who writes, and when. */
export type Origin = Pick<Facts, 'at' | 'zone' | 'instance'>;

/**
 * Fixes everything about an entry but its place.
 * @throws TwofoldError `audit_unavailable` when the HSM does not MAC the context, `internal` when the
 *   draft has no canonical form or would be over 65,535 bytes
 */
export async function unplaced(
  draft: AuditDraft,
  origin: Origin,
  mac: MacFunction,
): Promise<Unplaced> {
  const { contextValues, aad } = draft;
  if (contextValues === null && aad === null && draft.items.length === 0) {
    return encoded({ ...draft, ...origin, contextHmac: null, aadHmac: null });
  }
  const hashed = (values: Uint8Array | null) =>
    values === null ? Promise.resolve(null) : valueMac(mac, values);
  const [contextHmac, aadHmac, items] = await Promise.all([
    hashed(contextValues),
    hashed(aad),
    keyedItems(mac, draft.items),
  ]);
  return encoded({ ...draft, ...origin, contextHmac, aadHmac, items });
}

/**
 * Under a key, as every other value that is not in clear: a name and a context are guessed easily. Of one MAC
 * by the HSM, whatever the number of items.
 */
async function keyedItems(
  mac: MacFunction,
  items: readonly AuditItem[],
): Promise<readonly AuditItem[]> {
  if (items.length === 0) return items;
  const key = await itemKey(mac);
  let last = { plain: NO_HASH, keyed: NO_HASH };
  return items.map((item) => {
    if (item.hash !== last.plain) last = { plain: item.hash, keyed: keyedHash(key, item.hash) };
    return { ...item, hash: last.keyed };
  });
}

const ITEM_HASH_BYTES = 16;
const NO_HASH: Uint8Array = new Uint8Array(ITEM_HASH_BYTES);

const keyedHash = (key: Uint8Array, item: Uint8Array): Uint8Array =>
  createHmac('sha256', key).update(item).digest().subarray(0, ITEM_HASH_BYTES);

/** As the hash of an item stands in entries. @throws TwofoldError `audit_unavailable` */
export async function itemMac(mac: MacFunction, item: Uint8Array): Promise<Uint8Array> {
  return keyedHash(await itemKey(mac), item);
}

/** Not ours to wipe: who makes MACs may remember them. It opens nothing, it only keeps values from being guessed. */
const itemKey = (mac: MacFunction): Promise<Uint8Array> => macOf(mac, itemKeyInput());

/** The same for an entry of the log's own, which no request caused. */
export function ownUnplaced(
  operation: string,
  detail: AuditDraft['detail'],
  origin: Origin,
): Unplaced {
  return encoded({
    ...origin,
    operation,
    detail,
    requestId: '',
    actor: OWN,
    ...NO_CIRCUMSTANCES,
    namespace: 'default',
    keyRef: null,
    keyId: null,
    keyVersion: null,
    suite: null,
    outcome: 'ok',
    decision: null,
    source: '',
    contextKeys: [],
    contextHmac: null,
    aadHmac: null,
    loggedContext: {},
    items: [],
  });
}

const OWN: Actor = {
  ...{ issuer: '', subject: 'system', method: 'system', session: null },
  ...{ acr: null, amr: [], roles: [] },
};

const encoded = (facts: Facts): Unplaced => ({
  facts: encodeFacts(facts),
  index: indexOf(facts),
});

/** @throws TwofoldError `audit_unavailable` */
export const valueMac = (mac: MacFunction, values: Uint8Array): Promise<Uint8Array> =>
  macOf(mac, contextMacInput(values));

async function macOf(mac: MacFunction, input: Uint8Array): Promise<Uint8Array> {
  try {
    return await mac(input);
  } catch (error) {
    throw new TwofoldError('audit_unavailable', undefined, { cause: error });
  }
}

/** Columns that filters use; they prove nothing, so they may be shortened. */
export function indexOf(facts: Facts): AppendEntry['index'] {
  return {
    at: facts.at,
    namespace: indexText(facts.namespace),
    operation: indexText(facts.operation),
    keyId: facts.keyId,
    keyRef: facts.keyRef === null ? null : indexText(facts.keyRef),
    subject: indexText(facts.actor.subject),
    outcome: indexText(facts.outcome),
  };
}

const INDEX_CHARACTERS = 256;

/**
 * A text as its index column holds it. PostgreSQL takes no NUL in text and no index row over 2.7 kB;
 * one caller's odd name must not make the append of everybody's batch fail.
 */
export function indexText(value: string): string {
  const text = value.slice(0, INDEX_CHARACTERS).toWellFormed();
  return text.includes('\0') ? text.replaceAll('\0', '\uFFFD') : text;
}
