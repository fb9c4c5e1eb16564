/**
 * A zone joins: its token offers a key, another zone's token wraps the root for it (`escrowRoot`), and the
 * root is unwrapped on this token. Runs in the ceremony process; each step in one of its own.
 *
 * The offer's P-384 half is made on the token and never leaves it, so it is a token object until the end;
 * its ML-KEM-1024 half is a seed in a file of the data folder (mode 0600). Both are destroyed at the end, and
 * by the next offer: what was wrapped for them then opens nowhere.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { concatBytes } from '../crypto/bytes.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import type { RootMade } from './ceremony-root.ts';
import { login } from './ceremony-root.ts';
import { Bench, ephemeral, isMarked, receiveRoot } from './ceremony-transport.ts';
import type { EscrowedRoot, Transport } from './ceremony-transport.ts';
import { CKA, CKO, CKU } from './cryptoki.ts';
import type { Cryptoki, Handle } from './cryptoki.ts';
import { leftBeside, writeDurably } from './durable.ts';
import { findObjects } from './objects.ts';
import type { RootOnToken } from './port.ts';
import { forgetUse, rootsOn } from './roots.ts';
import { attributes } from './templates.ts';

const LABEL = `${NAME.tokenLabel}-join`;
const ID_BYTES = 16;
/** d ‖ z of ML-KEM-1024. */
const SEED_BYTES = 64;

/** The private half of the offer that is open, in the data folder. */
export const joinFile = (stateDir: string): string => join(stateDir, 'join.offer');

export interface JoinOffer {
  /** ek ‖ Q, base64. */
  readonly publicKey: string;
}

export interface JoinEnded {
  /** How many private halves were on the token. */
  readonly destroyed: number;
  /** The roots that the offer had placed and that were destroyed. */
  readonly roots: readonly RootOnToken[];
}

export interface JoinEnding {
  /** Base64: only this offer ends, and another that is open here stays. Absent: whichever is open. */
  readonly publicKey: string | undefined;
  /** Destroys what the offer placed on the token as well: a join that was not accepted leaves nothing. */
  readonly roots: boolean;
}

type Offering = Pick<Transport, 'tokenSelector' | 'user' | 'engine'> & {
  readonly stateDir: string;
};

interface OpenOffer {
  readonly id: string;
  readonly seed: string;
  readonly publicKey: string;
}

const all = () => [
  ...attributes({ class: CKO.PRIVATE_KEY, token: true }),
  { type: CKA.LABEL, value: LABEL },
];

/** A new offer in the place of any other. */
export async function offerJoin(cryptoki: Cryptoki, offering: Offering): Promise<JoinOffer> {
  const { tokenSelector, user, engine, stateDir } = offering;
  const bench = new Bench(cryptoki, tokenSelector);
  const seed = SecretBytes.own(randomBytes(SEED_BYTES));
  try {
    await login(cryptoki, bench.session, CKU.USER, user);
    forget(bench, stateDir);
    const id = randomBytes(ID_BYTES);
    const named = [
      { type: CKA.LABEL, value: LABEL },
      { type: CKA.ID, value: id },
    ];
    const { point } = ephemeral(bench, named);
    const ek = engine.mlKem.publicKey('ML-KEM-1024', seed);
    const publicKey = Buffer.from(concatBytes(ek, point)).toString('base64');
    const open: OpenOffer = {
      id: id.toString('hex'),
      seed: Buffer.from(seed.reveal()).toString('base64'),
      publicKey,
    };
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    await writeDurably(joinFile(stateDir), JSON.stringify(open));
    return { publicKey };
  } finally {
    wipe(seed);
    bench.clear();
  }
}

/**
 * @throws TwofoldError conflict where no offer is open here: it was never made, is another's, or has ended;
 *   integrity_failed for a root that was wrapped for another offer, or was altered
 */
export async function acceptJoin(
  cryptoki: Cryptoki,
  request: Transport & { readonly escrow: EscrowedRoot; readonly stateDir: string },
): Promise<RootMade> {
  forgetLeft(request.stateDir);
  const { id, seed, publicKey } = openOffer(request.stateDir);
  const pqSeed = SecretBytes.own(Uint8Array.from(Buffer.from(seed, 'base64')));
  try {
    const receiver = {
      what: 'offer',
      publicKey: Uint8Array.from(Buffer.from(publicKey, 'base64')),
      pqSeed,
      privateKey: (bench: Bench) => privateHalf(bench, Buffer.from(id, 'hex')),
      mark: markOf(id),
    };
    return await receiveRoot(cryptoki, { ...request, receiver });
  } finally {
    wipe(pqSeed);
  }
}

/** Idempotent; places nothing. What of the roots is the offer's, its mark in their labels says. */
export async function endJoin(
  cryptoki: Cryptoki,
  offering: Offering & JoinEnding,
): Promise<JoinEnded> {
  const { stateDir, publicKey, roots: withRoots } = offering;
  const bench = new Bench(cryptoki, offering.tokenSelector);
  await login(cryptoki, bench.session, CKU.USER, offering.user);
  const open = offerHere(stateDir);
  const another = open !== null && publicKey !== undefined && publicKey !== open.publicKey;
  if (another) return { destroyed: 0, roots: [] };
  // Before the name of the offer goes, by which they are found.
  const roots = withRoots && open !== null ? destroyPlaced(bench, open.id) : [];
  return { destroyed: forget(bench, stateDir), roots };
}

const markOf = (id: string): string => ` offer ${id}`;

function destroyPlaced({ cryptoki, session }: Bench, id: string): RootOnToken[] {
  const placed = rootsOn(cryptoki, session).filter(({ handle }) =>
    isMarked(cryptoki, session, handle, markOf(id)),
  );
  for (const { handle } of placed) cryptoki.C_DestroyObject(session, handle);
  for (const { root } of placed) forgetUse(cryptoki, session, root.installation);
  return placed.map(({ root }) => root);
}

const noOffer = () =>
  new TwofoldError(
    'conflict',
    'no offer is open here: it was accepted, replaced, or made elsewhere',
  );

function openOffer(stateDir: string): OpenOffer {
  const open = offerHere(stateDir);
  if (open === null) throw noOffer();
  return open;
}

function offerHere(stateDir: string): OpenOffer | null {
  try {
    return JSON.parse(readFileSync(joinFile(stateDir), 'utf8')) as OpenOffer;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

function privateHalf({ cryptoki, session }: Bench, id: Buffer): Handle {
  const template = [...all(), { type: CKA.ID, value: id }];
  const [found] = findObjects(cryptoki, session, template);
  if (found === undefined) throw noOffer();
  return found;
}

/** A seed that a killed run wrote; one ceremony runs at a time. */
function forgetLeft(stateDir: string): void {
  for (const file of leftBeside(joinFile(stateDir))) rmSync(file, { force: true });
}

function forget({ cryptoki, session }: Bench, stateDir: string): number {
  const found = findObjects(cryptoki, session, all());
  for (const handle of found) cryptoki.C_DestroyObject(session, handle);
  rmSync(joinFile(stateDir), { force: true });
  forgetLeft(stateDir);
  return found.length;
}
