/**
 * What both forms of `hsm join` do on a token: the roots wrapped in the zone that has them, and placed in
 * the zone that joins. By which way offer and answer travelled makes no difference here.
 */
import type { RunningAuditLog } from '../audit/log.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import type { JoinEnded } from '../hsm/ceremony-join.ts';
import type { RootMade } from '../hsm/ceremony-root.ts';
import type { EscrowedRoot } from '../hsm/ceremony-transport.ts';
import type { Hsm, RootOnToken } from '../hsm/port.ts';
import {
  runEscrowCeremony,
  runJoinAcceptance,
  runJoinEnd,
  runRootDestruction,
} from '../hsm/run-ceremony.ts';
import type { RootGeneration } from '../keyring/ports.ts';
import { isLive, openGeneration, openRoot } from '../keyring/root-opening.ts';
import type { Root } from '../keyring/root.ts';
import { UsageCounters } from '../keyring/usage.ts';
import type { Store } from '../store/store.ts';
import { deviceBeside, instanceBeside } from './beside.ts';
import { ceremonyPlace as placeOf } from './escrow-command.ts';
import type { Answer } from './join-text.ts';
import type { Unwinding } from './unwinding.ts';

/** Of one process of a ceremony; what it was killed in is done again by the next run. */
const LONGEST_CEREMONY_MS = 300_000;

/** The configured token, with an end to how long one answer of it is waited for. */
export async function ceremonyPlace(config: Config, soPinFile = '') {
  const signal = AbortSignal.timeout(LONGEST_CEREMONY_MS);
  return { ...(await placeOf(config, soPinFile)), signal };
}

/** The root as the database has it, opened on this zone's token. */
export async function rootHere(config: Config, store: Store, unwinding: Unwinding): Promise<Root> {
  const { hsm } = await deviceBeside(config, unwinding);
  return openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
}

/** Every generation in use, each wrapped for an offer inside the token. */
export async function wrapRoots(
  config: Config,
  store: Store,
  wanted: { readonly publicKey: Uint8Array; readonly soPinFile: string },
): Promise<readonly EscrowedRoot[]> {
  const { publicKey, soPinFile } = wanted;
  const roots: EscrowedRoot[] = [];
  for (const row of (await store.roots.generations()).filter(isLive)) {
    const { generation, installation } = row;
    const root = { generation, installation };
    const place = await ceremonyPlace(config, soPinFile);
    roots.push(await runEscrowCeremony({ ...place, root, publicKey }));
  }
  return roots;
}

export interface Placing {
  readonly config: Config;
  readonly given: Answer;
  readonly soPinFile: string;
  readonly store: Store;
  readonly unwinding: Unwinding;
  /**
   * Once every canary has opened, and before the offer is destroyed; runs again after a kill. The log is
   * opened when it is asked for.
   */
  readonly settle: (
    opened: Root,
    audit: () => Promise<RunningAuditLog>,
    made: number,
  ) => Promise<void>;
}

/**
 * The roots onto this token; they stay only if what the database holds opens under each.
 * @throws TwofoldError conflict, integrity_failed
 */
export async function placeRoots(placing: Placing): Promise<readonly RootMade[]> {
  const { config, given, soPinFile, store, unwinding, settle } = placing;
  const rows = await store.roots.generations();
  requireKnown(rows, given);
  const placed: RootMade[] = [];
  let hsm: Hsm | undefined;
  try {
    for (const escrow of inForceFirst(rows, given)) {
      const place = await ceremonyPlace(config, soPinFile);
      placed.push(await runJoinAcceptance({ ...place, escrow }));
    }
    ({ hsm } = await deviceBeside(config, unwinding));
    const opened = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
    let audit: RunningAuditLog | undefined;
    const log = async () =>
      (audit ??= (await instanceBeside(config, store, opened, unwinding)).audit);
    await settle(opened, log, madeIn(placed));
  } catch (error) {
    // What does not open here is nobody's root; anything else is tried again with what is there.
    if (!TwofoldError.is(error, 'integrity_failed')) throw error;
    hsm ??= placed.length > 0 ? (await deviceBeside(config, unwinding)).hsm : undefined;
    if (hsm !== undefined) await destroyWrong(hsm, placing, placed);
    throw error;
  }
  await runJoinEnd(await ceremonyPlace(config));
  return placed.toSorted((one, other) => one.root.generation - other.root.generation);
}

/** Without the one in force, nothing says of the others after a kill whether they open. */
function inForceFirst(rows: readonly RootGeneration[], { roots }: Answer): EscrowedRoot[] {
  const inForce = rows.find(({ state }) => state === 'in-force');
  const last = ({ root }: EscrowedRoot) => Number(inForce === undefined || !isSame(inForce, root));
  return roots.toSorted((one, other) => last(one) - last(other));
}

const isSame = (one: RootOnToken, other: RootOnToken): boolean =>
  one.generation === other.generation && one.installation === other.installation;

/**
 * A join is over: the private halves of its offer go, and unless it was accepted whatever the offer placed
 * on the token, of a run before this one too. Nothing is placed, and no answer is looked at.
 *
 * @param publicKey of the offer that ends; another that is open here stays. Undefined: whichever is open
 */
export async function endJoin(
  config: Config,
  publicKey: Uint8Array | undefined,
  { accepted }: { readonly accepted: boolean },
): Promise<JoinEnded> {
  return runJoinEnd({ ...(await ceremonyPlace(config)), publicKey, roots: !accepted });
}

export const madeIn = (placed: readonly RootMade[]): number =>
  placed.filter(({ made }) => made).length;

/** Also of a run before this one that was killed, but never what another has placed. */
async function destroyWrong(
  hsm: Hsm,
  { config, soPinFile, store }: Omit<Placing, 'settle'>,
  placed: readonly RootMade[],
): Promise<void> {
  const ours = placed.filter(({ ofThisOffer }) => ofThisOffer === true);
  if (ours.length === 0) return;
  const place = await ceremonyPlace(config, soPinFile);
  for (const root of await thatDoNotOpen(hsm, store, ours)) {
    await runRootDestruction({ ...place, ...root });
  }
}

/** Of those that were placed, whose canary is not opened by what is on the token, or is not there. */
async function thatDoNotOpen(
  hsm: Hsm,
  store: Store,
  placed: readonly RootMade[],
): Promise<readonly RootOnToken[]> {
  const rows = (await store.roots.generations()).filter(isLive);
  const inForce = rows.find(({ state }) => state === 'in-force');
  // Nothing opens before the one in force is selected; where it is not there, nothing does.
  const selectable = inForce !== undefined && (await hsm.roots()).some((on) => isSame(on, inForce));
  if (!selectable) return placed.map(({ root }) => root);
  await hsm.useRoot(inForce);
  const wrong: RootOnToken[] = [];
  for (const { root } of placed) {
    const row = rows.find((each) => isSame(each, root));
    if (row === undefined) {
      wrong.push(root);
      continue;
    }
    await openGeneration(hsm, row).catch((error: unknown) => {
      if (!TwofoldError.is(error, 'integrity_failed')) throw error;
      wrong.push(root);
    });
  }
  return wrong;
}

/** @throws TwofoldError conflict for roots that the database does not know */
export function requireKnown(rows: readonly RootGeneration[], { roots }: Answer): void {
  for (const { root } of roots) {
    const known = rows.some((row) => isSame(row, root) && isLive(row));
    if (!known) {
      throw new TwofoldError(
        'conflict',
        `Generation ${String(root.generation)} of installation ${root.installation} is not in use ` +
          'in this database: the answer is of another installation, or too old. Nothing was done.',
      );
    }
  }
}
