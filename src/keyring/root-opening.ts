/**
 * Which generations of the root there are, and how each is begun, completed and opened.
 *
 * What the database holds and what the token has must be the same, or nothing starts: no root is ever
 * made in the place of another. A generation's canary is opened before any use of it. One whose ceremony
 * has not ended (`intended`) beside others is nobody's yet, and left to that ceremony.
 */
import { createHash, randomUUID } from 'node:crypto';

import { concatBytes, equalBytes, uint32, utf8 } from '../crypto/bytes.ts';
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm, HsmMaterial, RootOnToken } from '../hsm/port.ts';
import { NAME } from '../name.ts';
import type { RootGeneration, RootStore } from './ports.ts';
import { IV_LENGTH, MAC_SPEC, Root, SEAL_SPEC, TAG_LENGTH, rootKey, underRoot } from './root.ts';
import type { OpenedGeneration } from './root.ts';
import { canonicalKept } from './row-mac.ts';
import type { UsageCounters } from './usage.ts';

/**
 * The canary binds `root-mac` too: the row of a generation has no MAC, and a user's HMAC key put in
 * the place of `root-mac` would let its users make row MACs.
 */
const canaryAad = (root: RootOnToken, mac: HsmMaterial) =>
  concatBytes(
    utf8(NAME.canary),
    utf8(root.installation),
    uint32(root.generation),
    createHash('sha256')
      .update(mac.custody === 'hsm-wrapped' ? mac.blob : mac.objectId)
      .digest(),
  );

const stop = (detail: string) => new TwofoldError('integrity_failed', detail);

const isFor = (row: RootOnToken, root: RootOnToken): boolean =>
  root.generation === row.generation && root.installation === row.installation;

const onToken = (roots: readonly RootOnToken[], row: RootOnToken): RootOnToken | undefined =>
  roots.find((root) => isFor(row, root));

/** Whether something may be under it. */
export const isLive = ({ state }: Pick<RootGeneration, 'state'>): boolean =>
  state === 'complete' || state === 'in-force' || state === 'retiring';

/** What the caller does to make `root-wrap` exist: the ceremony in a process of its own. */
export type Ceremony = (root: RootOnToken) => Promise<void>;

/**
 * Opens every generation, beginning or completing the first one where that is safe.
 *
 * `ceremony` null: roots are made by the operator (production); a missing one is then an error. `without`:
 * a generation that nothing is under yet stays shut, as it may be another's object that the token has.
 * @throws TwofoldError integrity_failed when token and database do not belong together
 */
export async function openRoot(
  hsm: Hsm,
  store: RootStore,
  uses: UsageCounters,
  ceremony: Ceremony | null,
  without?: number,
): Promise<Root> {
  const all = await rowsInUse(hsm, store, ceremony);
  const rows = all.filter(({ generation }) => generation !== without);
  const inForce = rows.find(({ state }) => state === 'in-force');
  if (inForce === undefined) throw stop('No generation of the root is in force.');
  const { installation } = inForce;
  await selectInForce(hsm, rows, inForce);
  const generations = [await openGeneration(hsm, inForce)];
  for (const row of rows.filter((each) => isLive(each) && each !== inForce)) {
    if (row.generation > inForce.generation) await requireNoWeaker(hsm, row);
    generations.push(await openGeneration(hsm, row));
  }
  const root = new Root(hsm, uses, {
    installation,
    first: Math.min(...rows.map(({ generation }) => generation)),
    inForce: inForce.generation,
    generations,
    kept: new Map(),
  });
  await takeKept(root, rows);
  // The rows are durable: from now on a database without them is another one.
  await hsm.noteUse(installation);
  return root;
}

/**
 * What happened to the generations since: one that is complete is opened, or shut where it has gone from the
 * token again; the one in force is enforced, and one that is retired is shut where that may be (`mayShut`:
 * nothing here stands on it any more).
 * @throws TwofoldError when one of them cannot be opened here; those before it are
 */
export async function followRoot(
  hsm: Hsm,
  store: RootStore,
  root: Root,
  mayShut: (generation: number) => boolean,
): Promise<void> {
  const rows = (await store.generations()).filter(
    ({ installation }) => installation === root.installation,
  );
  await shutGone(hsm, root, rows);
  const known = new Set(root.generations);
  for (const row of rows.filter((each) => isLive(each) && !known.has(each.generation))) {
    const roots = await hsm.roots();
    if (onToken(roots, row) === undefined) throw missing(row);
    await requireNoWeaker(hsm, row);
    root.add(await openGeneration(hsm, row));
  }
  for (const row of rows) if (row.state === 'in-force') root.enforce(row.generation);
  await takeKept(root, rows);
  for (const { generation, state } of rows) {
    if (state === 'retired' && mayShut(generation)) root.shut(generation);
  }
  await root.whenSelected();
}

/**
 * Those before it first, whatever their rows say: nothing weaker is selected where one of them withstands what
 * whoever has the PIN can try. Such a generation is never added (`hsm generation add`), but whoever has the PIN
 * and writes the database can plant one.
 */
async function selectInForce(
  hsm: Hsm,
  rows: readonly RootGeneration[],
  inForce: RootGeneration,
): Promise<void> {
  const earlier = (await hsm.roots())
    .filter(({ installation }) => installation === inForce.installation)
    .filter(({ generation }) => generation < inForce.generation)
    .toSorted((a, b) => a.generation - b.generation);
  for (const { generation, installation } of [...earlier, inForce]) {
    const row = rows.find((each) => each.generation === generation && isLive(each));
    try {
      await hsm.useRoot({ generation, installation }, underRoot(row?.seal ?? null));
    } catch (error) {
      // One that was retired is destroyed meanwhile.
      if (row !== undefined || !TwofoldError.is(error, 'zone_lacks_material')) throw error;
    }
  }
}

/** @throws TwofoldError integrity_failed for a root that is weaker than the selected one, hsm_unavailable while that is not known */
async function requireNoWeaker(hsm: Hsm, row: RootOnToken): Promise<void> {
  const selected = hsm.status().custody;
  const custody = await hsm.tryRoot(row);
  if (selected !== 'non-extractable' || custody === selected) return;
  const named = `The custody of root generation ${String(row.generation)}`;
  // An attack that had an odd answer shows nothing: it is tried again.
  if (custody === 'unknown')
    throw new TwofoldError('hsm_unavailable', `${named} is not known now.`);
  throw stop(
    `${named} is ${custody}, where that in force is ` +
      `${selected}: what is on the token in its place is not what "hsm generation add" has placed.`,
  );
}

/** Of the one who completes a generation that the ceremony has placed. Resumable; the first to write wins. */
export async function completeRoot(
  hsm: Hsm,
  store: RootStore,
  row: RootGeneration,
  state: 'complete' | 'in-force',
): Promise<RootGeneration> {
  const { generation, installation } = row;
  await hsm.useRoot({ generation, installation }, underRoot(row.seal));
  if (row.state !== 'intended') return row;
  const seal = await hsm.generate(SEAL_SPEC, { custody: 'hsm-wrapped' });
  const mac = await hsm.generate(MAC_SPEC, { custody: 'hsm-wrapped' });
  const sealKey = { id: `root/new/${randomUUID()}`, spec: SEAL_SPEC, material: seal };
  const { iv, ciphertext } = await hsm.encrypt(sealKey, utf8(NAME.canary), canaryAad(row, mac));
  await hsm.forget(sealKey.id);
  const canary = concatBytes(iv, ciphertext);
  const completed = await store.complete({ ...row, state, seal, mac, canary });
  await openGeneration(hsm, completed);
  return completed;
}

/**
 * A join that is withdrawn takes along what it had placed, and what is said to be open lets a rotation begin.
 * Only what nothing is under is given up for one look at the token.
 */
async function shutGone(hsm: Hsm, root: Root, rows: readonly RootGeneration[]): Promise<void> {
  const { generations } = root;
  const open = rows.filter(
    ({ generation, state }) => state === 'complete' && generations.includes(generation),
  );
  if (open.length === 0) return;
  const roots = await hsm.roots();
  const gone = open.filter((row) => onToken(roots, row) === undefined);
  for (const { generation } of gone) root.shut(generation);
}

async function takeKept(root: Root, rows: readonly RootGeneration[]): Promise<void> {
  for (const { generation, kept } of rows) {
    if (kept === null) continue;
    const mac = await root.mac(canonicalKept(generation, kept.value), kept.mac);
    if (!equalBytes(mac, kept.mac)) throw stop('The audit key of an old generation was altered.');
    root.keep(generation, kept.value);
  }
}

async function rowsInUse(
  hsm: Hsm,
  store: RootStore,
  ceremony: Ceremony | null,
): Promise<readonly RootGeneration[]> {
  const [rows, roots] = [await store.generations(), await hsm.roots()];
  const [first, second] = rows;
  if (first === undefined) return begin(hsm, store, roots, ceremony);
  if (second === undefined && first.state === 'intended') {
    return [await completeFirst(hsm, store, await onTokenOrMade(hsm, roots, first, ceremony))];
  }
  for (const row of rows) {
    if (row.installation !== first.installation) throw stop('Two installations share a database.');
    if (isLive(row) && onToken(roots, row) === undefined) throw missing(row);
  }
  const unknown = roots.find(
    (root) => root.installation === first.installation && onToken(rows, root) === undefined,
  );
  if (unknown !== undefined) throw unknownOnToken(unknown);
  return rows;
}

const missing = ({ generation, installation }: RootOnToken) =>
  stop(
    `The database holds root generation ${String(generation)} of installation ` +
      `${installation}, but the token does not. Restore the token from its backup; ` +
      'a new root would make every key unreadable and is never made here.',
  );

const unknownOnToken = ({ generation, installation }: RootOnToken) =>
  stop(
    `The token holds root generation ${String(generation)} of installation ${installation}, of ` +
      'which the database knows nothing. Restore the database from a backup that has it, or, if ' +
      'nothing was ever made under it, take it up with `twofold hsm generation add`.',
  );

async function begin(
  hsm: Hsm,
  store: RootStore,
  roots: readonly RootOnToken[],
  ceremony: Ceremony | null,
): Promise<readonly RootGeneration[]> {
  if (await store.hasKeys()) {
    throw stop('The database holds keys but no root generation; restore it from its backup.');
  }
  const [existing, another] = roots;
  if (existing === undefined) {
    // Nothing is intended for a root that an operator will make under a name of its own.
    if (ceremony === null) throw noRoot();
    const row = await store.intend(1, randomUUID());
    return [await completeFirst(hsm, store, await onTokenOrMade(hsm, roots, row, ceremony))];
  }
  if (ceremony !== null) throw noDatabase(existing, OF_DEVELOPMENT);
  const used = await usedOf(hsm, roots);
  if (used !== undefined) {
    // Another instance may have begun since: what the token notes comes after its rows.
    if ((await store.generations()).length > 0) return rowsInUse(hsm, store, ceremony);
    throw noDatabase(used, OF_OPERATORS);
  }
  if (another !== undefined) {
    throw stop('The token holds several roots and the database knows none: which one is unclear.');
  }
  const row = await store.intend(existing.generation, existing.installation);
  if (!isFor(row, existing)) {
    throw stop(
      'Another instance began with the root of another token; every token holds the same.',
    );
  }
  return [await completeFirst(hsm, store, row)];
}

async function usedOf(hsm: Hsm, roots: readonly RootOnToken[]): Promise<RootOnToken | undefined> {
  for (const root of roots) if (await hsm.isUsed(root.installation)) return root;
  return undefined;
}

const OF_DEVELOPMENT =
  'where nothing that was made under it is wanted any more, start with another data folder (--data), or ' +
  'remove this one as a whole';

const OF_OPERATORS =
  'for a new installation name another token (hsm.tokenLabel, hsm.slot), of which "twofold hsm init" makes ' +
  'the root';

const noDatabase = ({ generation, installation }: RootOnToken, otherwise: string) =>
  stop(
    `The token holds root generation ${String(generation)} of installation ${installation}, which is in ` +
      'use, but the database knows no root. Name the database that belongs to it, or restore that from its ' +
      `backup ("twofold backup restore"); ${otherwise}. A used root never begins anew.`,
  );

const noRoot = () =>
  stop(
    'The token does not hold the root of this database. For a new installation make one with the ' +
      'command `hsm make-root --so-pin-file FILE`; otherwise restore the token from its backup. ' +
      'Then start again.',
  );

async function onTokenOrMade(
  hsm: Hsm,
  roots: readonly RootOnToken[],
  row: RootGeneration,
  ceremony: Ceremony | null,
): Promise<RootGeneration> {
  if (onToken(roots, row) !== undefined) return row;
  if (ceremony === null) throw noRoot();
  // Another instance on the same token may have held it since.
  if (onToken(await hsm.roots(), row) !== undefined) return row;
  await ceremony({ generation: row.generation, installation: row.installation });
  if (onToken(await hsm.roots(), row) !== undefined) return row;
  throw stop('The ceremony ended without a root on the token.');
}

/** `root-seal`, `root-mac` and the canary of the first generation. */
async function completeFirst(
  hsm: Hsm,
  store: RootStore,
  row: RootGeneration,
): Promise<RootGeneration> {
  if (row.state === 'intended' && (await store.hasKeys())) return completedMeanwhile(store, row);
  return completeRoot(hsm, store, row, 'in-force');
}

/** Keys exist only under a complete root: another instance was faster, or the row was turned back. */
async function completedMeanwhile(store: RootStore, root: RootOnToken): Promise<RootGeneration> {
  const row = (await store.generations()).find((candidate) => isFor(candidate, root));
  if (row?.state === 'in-force') return row;
  throw stop('The database holds keys but its root is incomplete; restore it from its backup.');
}

/** @throws TwofoldError integrity_failed unless the canary is this generation's */
export async function openGeneration(hsm: Hsm, row: RootGeneration): Promise<OpenedGeneration> {
  const { generation, seal, mac, canary } = row;
  if (seal === null || mac === null || canary === null) throw stop('The root row is incomplete.');
  const wanted = utf8(NAME.canary);
  if (canary.length !== IV_LENGTH + wanted.length + TAG_LENGTH) {
    throw stop('The canary is not ours.');
  }
  const key = rootKey(generation, 'seal', SEAL_SPEC, seal);
  const sealed = { iv: canary.subarray(0, IV_LENGTH), ciphertext: canary.subarray(IV_LENGTH) };
  const opened = await hsm.decrypt(key, sealed, canaryAad(row, mac)).catch((error: unknown) => {
    if (!TwofoldError.is(error, 'decryption_failed')) throw error;
    throw new TwofoldError('integrity_failed', 'The canary of the root generation does not open.', {
      cause: error,
    });
  });
  try {
    if (!equalBytes(opened.reveal(), wanted)) throw stop('The canary is not ours.');
  } finally {
    wipe(opened);
  }
  return { generation, seal, mac };
}
