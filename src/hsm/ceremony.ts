/**
 * Entry file of the ceremony process. Reads one request as JSON from standard input, answers one
 * line of JSON on standard output; PINs come from files and appear in neither, nor in arguments.
 *
 * A kill at any point is completed by the next run: a ceremony takes a lock that the kernel drops
 * with its process, session objects die with it, and what is on the token is looked up first.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { NAME } from '../name.ts';
import { destroyRoot, makeRoot } from './ceremony-root.ts';
import type { RootDestroyed, RootMade } from './ceremony-root.ts';
import { ensurePin, pinOf } from './ceremony-pin.ts';
import type { Cryptoki } from './cryptoki.ts';
import { ensureSoftToken, ensureToken, initialiseToken } from './ceremony-token.ts';
import type { TokenFound, TokenInitialised } from './ceremony-token.ts';
import { TwofoldError } from '../errors.ts';
import { failureOf } from './failures.ts';
import { loadAlone } from './module.ts';
import { PinFile, pinScope } from './pin.ts';
import { PIN_LOCK } from './pin-turn.ts';
import type { PinRole } from './pin.ts';
import type { RootOnToken } from './port.ts';
import type { JoinEnded, JoinOffer } from './ceremony-join.ts';
import { performOffer, performTransport } from './perform-transport.ts';
import type { EscrowText, OfferRequest, TransportRequest } from './perform-transport.ts';
import type { TokenSelector } from './protocol.ts';

export type CeremonyRequest =
  | {
      /** `init-token` makes missing PINs and always a new token; `ensure-soft-token` neither. */
      readonly action: 'init-token' | 'ensure-soft-token';
      readonly module: string;
      readonly label: string;
      readonly pinFile: string;
      readonly soPinFile: string;
      /** Of `ensure-soft-token`: a token of another module is looked for instead of refused. */
      readonly leaveForeign?: boolean;
    }
  | {
      readonly action: 'make-root';
      readonly module: string;
      readonly moduleParameters: string | undefined;
      readonly tokenSelector: TokenSelector;
      readonly pinFile: string;
      readonly soPinFile: string | undefined;
      /** Where the marks of refused PINs lie. */
      readonly stateDir: string;
      readonly root: RootOnToken;
      readonly unlessAny: boolean;
      readonly allowExtractable: boolean;
    }
  | {
      readonly action: 'destroy-root';
      readonly module: string;
      readonly moduleParameters: string | undefined;
      readonly tokenSelector: TokenSelector;
      readonly pinFile: string;
      readonly stateDir: string;
      readonly root: RootOnToken;
    }
  | TransportRequest
  | OfferRequest;

export type CeremonyResult =
  RootMade | RootDestroyed | TokenInitialised | TokenFound | EscrowText | JoinOffer | JoinEnded;

export type CeremonyAnswer =
  | { readonly ok: true; readonly result: CeremonyResult }
  | { readonly ok: false; readonly code: string; readonly detail: string };

const LOCK_PATIENCE_MS = 60_000;
const LOCK_POLL_MS = 50;

/**
 * One ceremony at a time per token on this machine. An abstract socket name ends with the process,
 * so that a killed ceremony leaves no lock behind, and an orphan that still runs holds it.
 */
async function lock(name: string): Promise<() => void> {
  const path = `\0${NAME.tokenLabel}-ceremony-${createHash('sha256').update(name).digest('hex')}`;
  const limit = Date.now() + LOCK_PATIENCE_MS;
  for (;;) {
    const server = createServer();
    const held = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(path, () => resolve(true));
    });
    if (held) return () => server.close();
    if (Date.now() > limit) {
      throw new TwofoldError('hsm_busy', 'another ceremony holds the token');
    }
    await delay(LOCK_POLL_MS);
  }
}

type OfRoot = Extract<OwnRequest, { readonly root: RootOnToken }>;

const isOfRoot = (request: OwnRequest): request is OfRoot =>
  request.action === 'make-root' || request.action === 'destroy-root';

async function perform(cryptoki: Cryptoki, request: CeremonyRequest): Promise<CeremonyResult> {
  switch (request.action) {
    case 'escrow-root':
    case 'place-root':
    case 'accept-join':
      return performTransport(cryptoki, request);
    case 'offer-join':
    case 'end-join':
      return performOffer(cryptoki, request);
    case 'init-token':
    case 'ensure-soft-token':
    case 'make-root':
    case 'destroy-root':
      return performOwn(cryptoki, request);
  }
}

type OwnRequest = Exclude<CeremonyRequest, TransportRequest | OfferRequest>;

/** What a token gets for itself, and loses. */
async function performOwn(cryptoki: Cryptoki, request: OwnRequest): Promise<CeremonyResult> {
  if (!isOfRoot(request)) {
    const { label, pinFile, soPinFile } = request;
    const ours = request.action === 'init-token';
    const text = ours ? ensurePin : pinOf;
    const [pin, soPin] = [await text(pinFile), await text(soPinFile)];
    if (ours) return initialiseToken(cryptoki, label, pin, soPin);
    const ensure = request.leaveForeign === true ? ensureToken : ensureSoftToken;
    return ensure(cryptoki, label, pin, soPin);
  }
  const { module, tokenSelector, root, stateDir } = request;
  const pinFile = (path: string, role: PinRole) =>
    new PinFile(path, stateDir, pinScope(module, tokenSelector), role);
  const user = pinFile(request.pinFile, 'user');
  if (request.action === 'destroy-root') {
    return destroyRoot(cryptoki, { tokenSelector, user, root });
  }
  const { soPinFile, unlessAny, allowExtractable } = request;
  const officer = soPinFile === undefined ? undefined : pinFile(soPinFile, 'so');
  const policy = { unlessAny, allowExtractable };
  return makeRoot(cryptoki, { module, tokenSelector, user, officer, root, ...policy });
}

async function run(request: CeremonyRequest): Promise<CeremonyAnswer> {
  let cryptoki: Cryptoki | undefined;
  let unlock: (() => void) | undefined;
  try {
    unlock = await lock(lockName(request));
    const parameters = 'moduleParameters' in request ? request.moduleParameters : undefined;
    cryptoki = loadAlone(request.module, parameters);
    return { ok: true, result: await withoutNewFolder(request, cryptoki) };
  } catch (error) {
    return { ok: false, ...explained(error) };
  } finally {
    cryptoki?.C_Finalize();
    unlock?.();
  }
}

/** The operator may be root: a data folder that is not there yet is the server's to make. */
async function withoutNewFolder(
  request: CeremonyRequest,
  cryptoki: Cryptoki,
): Promise<CeremonyResult> {
  const folder = 'stateDir' in request ? request.stateDir : undefined;
  const isNew = folder !== undefined && !existsSync(folder);
  try {
    return await perform(cryptoki, request);
  } finally {
    if (isNew) removeIfEmpty(folder);
  }
}

function removeIfEmpty(folder: string): void {
  try {
    rmSync(join(folder, PIN_LOCK), { force: true });
    rmdirSync(folder);
  } catch {
    // A mark is in it, or it was never made.
  }
}

/** What an operator can act on: a return value of the token, or what the system said of a file. */
function explained(error: unknown): { readonly code: string; readonly detail: string } {
  const { code, detail, returnValue } = failureOf(error, 'make');
  if (returnValue !== undefined) {
    return { code, detail: `${detail} (CKR 0x${returnValue.toString(16)})` };
  }
  const cause = error instanceof TwofoldError ? error.cause : error;
  const system = (cause as NodeJS.ErrnoException | undefined)?.code;
  if (typeof system !== 'string') return { code, detail };
  const full = system === 'ENOSPC' || system === 'EDQUOT';
  const text = error === cause ? (cause as Error).message : `${detail} (${system})`;
  return { code: full ? 'storage_full' : 'hsm_unavailable', detail: text };
}

/** The PIN file stands for the token: one token has one, wherever its module sees it. */
function lockName(request: CeremonyRequest): string {
  return `${request.module}\n${request.pinFile}`;
}

const request = JSON.parse(readFileSync(0, 'utf8')) as CeremonyRequest;
process.stdout.write(`${JSON.stringify(await run(request))}\n`);
