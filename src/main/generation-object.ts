/**
 * The object of a generation that is being added: placed on the token, and destroyed again where it can never
 * be that generation's. Such are one that the PIN's holder can extract beside a root that he cannot, two of
 * one name, and one whose row another zone completed with an object of its own. Left there, they would keep
 * the zone from its next start, and the installation from its next root.
 *
 * Destroyed is only what the database says that nothing is under: the row is `intended`, so that no key of
 * this generation exists, or it is `complete`, and the object is the only one and does not open its canary.
 */
import { moduleEnvironment } from '../config.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import type { RootMade } from '../hsm/ceremony-root.ts';
import type { Hsm, HsmStatus, RootOnToken } from '../hsm/port.ts';
import { runRootCeremony, runRootDestruction } from '../hsm/run-ceremony.ts';
import type { RootGeneration } from '../keyring/ports.ts';
import { completeRoot, openGeneration, openRoot } from '../keyring/root-opening.ts';
import { UsageCounters } from '../keyring/usage.ts';
import type { Store } from '../store/store.ts';
import { besides, instanceBeside, operator } from './beside.ts';
import { tokenPlace } from './device.ts';
import { SILENT } from './silent-log.ts';

export interface Adding {
  readonly soPinFile: string | undefined;
  readonly allowExtractable: boolean;
}

/** A generation that nothing is under yet, and the token that is to have it. */
export interface Candidate {
  readonly config: Config;
  readonly store: Store;
  readonly hsm: Hsm;
  readonly root: RootOnToken;
}

type Custody = HsmStatus['custody'];

const refused = (detail: string) => new TwofoldError('invalid_value', detail);
const conflict = (detail: string) => new TwofoldError('conflict', detail);

const onlyTrusted = () =>
  new TwofoldError(
    'suite_unavailable_here',
    'Keys of the root in force can only be wrapped under one that is trusted as well.',
  );

const toJoin = ({ generation }: RootOnToken, what: string, cause?: unknown) =>
  new TwofoldError(
    'zone_lacks_material',
    `Generation ${String(generation)} is complete, and ${what}. Bring it from a zone that has it: ` +
      'twofold hsm join.',
    { cause },
  );

export const isSame = (a: RootOnToken, b: RootOnToken): boolean =>
  a.generation === b.generation && a.installation === b.installation;

/**
 * Of a row that is still `intended`: its object is on the token, the only one, and as good as the root in
 * force. What is there and is not is destroyed.
 */
export async function placeFit(
  candidate: Candidate,
  wanted: Adding,
  before: Custody,
): Promise<Custody> {
  const { hsm, root } = candidate;
  // Of several none can be selected; two hosts on one token made them at once.
  if ((await countOf(hsm, root)) > 1) await discard(candidate, 'intended', 'several');
  if ((await place(candidate, wanted, before)) === 'extractableByPinHolder') {
    if (before === 'non-extractable') {
      await discard(candidate, 'intended', 'extractable');
      await place(candidate, wanted, before);
    }
  }
  const custody = await hsm.tryRoot(root);
  // What is not known is tried again; what an attack has shown stays so.
  if (before === 'non-extractable' && custody === 'extractableByPinHolder') {
    await discard(candidate, 'intended', 'extractable');
  }
  requireFit(before, custody);
  return custody;
}

/** @throws TwofoldError suite_unavailable_here */
export function requireFit(before: Custody, custody: Custody): void {
  if (before === 'non-extractable' && custody !== before) throw onlyTrusted();
}

/**
 * The row, complete, and its canary opened by what is on the token.
 * @throws TwofoldError zone_lacks_material where another zone completed it and its object is not here
 */
export async function completeHere(
  candidate: Candidate,
  row: RootGeneration,
): Promise<RootGeneration> {
  const { store, hsm, root } = candidate;
  const there = await countOf(hsm, root);
  if (there === 0) throw toJoin(root, 'not on this token');
  if (there > 1 && row.state === 'complete') throw several(root);
  try {
    const completed = await completeRoot(hsm, store.roots, row, 'complete');
    await openGeneration(hsm, completed);
    return completed;
  } catch (error) {
    if (!TwofoldError.is(error, 'integrity_failed')) throw error;
    const now = await rowOf(candidate);
    if (now?.state !== 'complete' || (await opens(hsm, now))) throw error;
    await discard(candidate, 'complete', 'another');
    throw toJoin(root, 'what this token had in its place opened nothing and was destroyed', error);
  }
}

const several = ({ generation }: RootOnToken) =>
  new TwofoldError(
    'integrity_failed',
    `The token has several objects of generation ${String(generation)}, which is complete: one of them ` +
      'may be the right one, so that none was destroyed. Take the others away with the tool of its vendor.',
  );

const countOf = async (hsm: Hsm, root: RootOnToken): Promise<number> =>
  (await hsm.roots()).filter((each) => isSame(each, root)).length;

const rowOf = async ({ store, root }: Candidate): Promise<RootGeneration | undefined> =>
  (await store.roots.generations()).find((each) => isSame(each, root));

/** `root-wrap` of the generation on the token, or found there; undefined where the service sees to its custody. */
async function place(
  { config, root }: Candidate,
  wanted: Adding,
  before: Custody,
): Promise<RootMade['custody'] | undefined> {
  const token = await tokenPlace(config, SILENT, false);
  const { soPinFile } = wanted;
  if (token.ceremony !== null) {
    if (soPinFile !== undefined || wanted.allowExtractable) {
      throw refused('The token of development is made and kept by the service itself.');
    }
    await token.ceremony(root);
    return undefined;
  }
  const allowExtractable = wanted.allowExtractable && before !== 'non-extractable';
  try {
    const { custody } = await runRootCeremony({
      ...ceremonyOf(config, token),
      ...root,
      ...(soPinFile === undefined ? {} : { soPinFile }),
      allowExtractable,
    });
    return custody;
  } catch (error) {
    // Which says to allow what was allowed.
    const isOverruled = wanted.allowExtractable && !allowExtractable;
    if (isOverruled && TwofoldError.is(error, 'suite_unavailable_here')) throw onlyTrusted();
    throw error;
  }
}

export function ceremonyOf(config: Config, token: Awaited<ReturnType<typeof tokenPlace>>) {
  const { module, selector, pinFile, softhsmConf } = token;
  const { moduleParameters } = config.hsm;
  return {
    ...{ module, tokenSelector: selector, pinFile, softhsmConf },
    ...(moduleParameters === undefined ? {} : { moduleParameters }),
    stateDir: config.dataDir,
    environment: moduleEnvironment(),
  };
}

type Nobodys = 'intended' | 'complete';

/** The log has it before and after. */
async function discard(candidate: Candidate, state: Nobodys, why: string): Promise<void> {
  const { config, store, hsm, root } = candidate;
  await requireNobodys(candidate, state);
  await besides(async (unwinding) => {
    const { generation } = root;
    const uses = new UsageCounters(store.keys);
    const opened = await openRoot(hsm, store.roots, uses, null, generation);
    const { audit } = await instanceBeside(config, store, opened, unwinding);
    const about = { generation, why, operator: operator() };
    await audit.recordOwn('root.discard', { step: 'intent', ...about });
    // That was a commit, which no old primary has: what the database says from here on is so.
    await requireNobodys(candidate, state);
    const token = await tokenPlace(config, SILENT, false);
    const { destroyed } = await runRootDestruction({ ...ceremonyOf(config, token), ...root });
    await audit.recordOwn('root.discard', { step: 'done', ...about, destroyed });
  });
}

/** @throws TwofoldError conflict where something may be under it */
async function requireNobodys(candidate: Candidate, state: Nobodys): Promise<void> {
  const { config, store, hsm, root } = candidate;
  const { generation } = root;
  const row = await rowOf(candidate);
  if (row?.state !== state) {
    throw conflict(`Generation ${String(generation)} changed meanwhile: run the command again.`);
  }
  const kept = (why: string) =>
    conflict(`What the token has of generation ${String(generation)} is left there: ${why}.`);
  const references = await store.rootRotations.references();
  if (references.some((each) => each.generation === generation)) {
    throw kept('the database has something under it');
  }
  const holder = (await store.rootRotations.holders()).find(
    ({ zone, generations }) => zone === config.zone.name && generations.includes(generation),
  );
  if (holder !== undefined) throw kept(`instance ${holder.id} of this zone has it open`);
  if (state === 'intended') return;
  if ((await countOf(hsm, root)) !== 1) throw several(root);
  if (await opens(hsm, row)) throw kept('it opens the canary');
}

async function opens(hsm: Hsm, row: RootGeneration): Promise<boolean> {
  try {
    await openGeneration(hsm, row);
    return true;
  } catch (error) {
    if (TwofoldError.is(error, 'integrity_failed')) return false;
    throw error;
  }
}
