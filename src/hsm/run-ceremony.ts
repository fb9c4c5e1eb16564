/** Starts the ceremony process and reads its answer. The caller never sees the SO PIN. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { ERRORS, TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import type { CeremonyAnswer, CeremonyRequest } from './ceremony.ts';
import type { JoinEnded, JoinOffer } from './ceremony-join.ts';
import type { RootDestroyed, RootMade } from './ceremony-root.ts';
import type { TokenFound, TokenInitialised } from './ceremony-token.ts';
import type { EscrowedRoot } from './ceremony-transport.ts';
import { escrowOf, escrowText } from './escrow-text.ts';
import type { EscrowText } from './escrow-text.ts';
import type { RootOnToken } from './port.ts';
import type { TokenSelector } from './protocol.ts';
import { isFull, tokenFolderOf } from './token-folder.ts';
import { keepTokenObjects, MENDED, mendTokenObjects } from './token-object.ts';

export interface CeremonyProcess {
  /** Path of the SoftHSM configuration, where the module is SoftHSM. */
  readonly softhsmConf: string | undefined;
  /** The child's whole environment: what the module reads from it. Empty unless given. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Aborting kills the ceremony; the next run completes it. One of `AbortSignal.timeout` is `hsm_unavailable`. */
  readonly signal?: AbortSignal;
}

export interface RootCeremony {
  readonly module: string;
  /** Text that the module takes at C_Initialize. */
  readonly moduleParameters?: string;
  readonly tokenSelector: TokenSelector;
  readonly pinFile: string;
  /** Absent: the SO has no part, and a root is made only with `allowExtractable`. */
  readonly soPinFile?: string;
  /** Folder of the marks of refused PINs: the data folder, so that the server sees them too. */
  readonly stateDir: string;
  readonly installation: string;
  readonly generation: number;
  /** Leave a token that holds any root of ours as it is; false unless given. */
  readonly unlessAny?: boolean;
  /** Take a root with custody `extractableByPinHolder` where there is no better; false unless given. */
  readonly allowExtractable?: boolean;
}

const ENTRY = fileURLToPath(new URL('./ceremony.ts', import.meta.url));

/** Makes the root of one generation, or finds it made. Never makes a second one. */
export async function runRootCeremony(
  options: RootCeremony & Partial<CeremonyProcess>,
): Promise<RootMade> {
  const { module, tokenSelector, pinFile, soPinFile, stateDir } = options;
  const { installation, generation, moduleParameters } = options;
  const root: RootOnToken = { installation, generation };
  const request = {
    action: 'make-root',
    module,
    moduleParameters,
    tokenSelector,
    pinFile,
    soPinFile,
    stateDir,
    root,
    unlessAny: options.unlessAny ?? false,
    allowExtractable: options.allowExtractable ?? false,
  } as const;
  return (await runCeremony(request, processOf(options))) as RootMade;
}

/** Destroys the root of one generation, or finds it gone. Needs no PIN of the security officer. */
export async function runRootDestruction(
  options: Omit<RootCeremony, 'soPinFile' | 'unlessAny' | 'allowExtractable'> &
    Partial<CeremonyProcess>,
): Promise<RootDestroyed> {
  const { module, tokenSelector, pinFile, stateDir } = options;
  const { installation, generation, moduleParameters } = options;
  const root: RootOnToken = { installation, generation };
  const request = {
    action: 'destroy-root',
    ...{ module, moduleParameters, tokenSelector, pinFile, stateDir, root },
  } as const;
  return (await runCeremony(request, processOf(options))) as RootDestroyed;
}

type Travelling = Pick<
  RootCeremony,
  'module' | 'moduleParameters' | 'tokenSelector' | 'pinFile' | 'stateDir'
> & { readonly soPinFile: string } & Partial<CeremonyProcess>;

function placed(options: Omit<Travelling, 'soPinFile'>) {
  const { module, moduleParameters, tokenSelector, pinFile, stateDir } = options;
  return { module, moduleParameters, tokenSelector, pinFile, stateDir } as const;
}

function travelling(options: Travelling) {
  return { ...placed(options), soPinFile: options.soPinFile } as const;
}

/** A root wrapped for the recovery key; the root itself is readable at no point. */
export async function runEscrowCeremony(
  options: Travelling & { readonly root: RootOnToken; readonly publicKey: Uint8Array },
): Promise<EscrowedRoot> {
  const publicKey = Buffer.from(options.publicKey).toString('base64');
  const request = { action: 'escrow-root', ...travelling(options), root: options.root, publicKey };
  return escrowOf(
    (await runCeremony(request as CeremonyRequest, processOf(options))) as EscrowText,
  );
}

/** The root of an escrow onto this token; `shareFiles` are read by the ceremony process alone. */
export async function runPlacementCeremony(
  options: Travelling & { readonly escrow: EscrowedRoot; readonly shareFiles: readonly string[] },
): Promise<RootMade> {
  const { shareFiles } = options;
  const escrow = escrowText(options.escrow);
  const request = { action: 'place-root', ...travelling(options), escrow, shareFiles };
  return (await runCeremony(request as CeremonyRequest, processOf(options))) as RootMade;
}

/** What another zone wraps the root for; the private halves stay here until `runJoinEnd`. */
export async function runJoinOffer(
  options: Omit<Travelling, 'soPinFile'>,
): Promise<{ readonly publicKey: Uint8Array }> {
  const request = { action: 'offer-join', ...placed(options) } as const;
  const { publicKey } = (await runCeremony(request, processOf(options))) as JoinOffer;
  return { publicKey: Uint8Array.from(Buffer.from(publicKey, 'base64')) };
}

/** A root that was wrapped for the offer that is open here. */
export async function runJoinAcceptance(
  options: Travelling & { readonly escrow: EscrowedRoot },
): Promise<RootMade> {
  const escrow = escrowText(options.escrow);
  const request = { action: 'accept-join', ...travelling(options), escrow } as const;
  return (await runCeremony(request, processOf(options))) as RootMade;
}

/**
 * Destroys the private halves of offers: what was wrapped for them opens nowhere any more. With `publicKey`
 * only where that offer is the one that is open here; with `roots` what it placed on the token as well.
 */
export async function runJoinEnd(
  options: Omit<Travelling, 'soPinFile'> & {
    readonly publicKey?: Uint8Array | undefined;
    readonly roots?: boolean;
  },
): Promise<JoinEnded> {
  const publicKey = options.publicKey && Buffer.from(options.publicKey).toString('base64');
  const ending = { publicKey, roots: options.roots ?? false };
  const request = { action: 'end-join', ...placed(options), ...ending } as const;
  return (await runCeremony(request, processOf(options))) as JoinEnded;
}

export interface TokenCeremony {
  readonly module: string;
  readonly label: string;
  readonly pinFile: string;
  readonly soPinFile: string;
}

/** A new token on a module whose token folder is ours. */
export async function runTokenCeremony(
  request: TokenCeremony & { readonly action: 'init-token' },
  process: CeremonyProcess,
): Promise<TokenInitialised> {
  return (await runCeremony(request, process)) as TokenInitialised;
}

/**
 * A token of a configured SoftHSM, found or made. Any other module is refused, or with `leaveForeign` its
 * token looked for.
 */
export async function runSoftTokenCeremony(
  token: TokenCeremony & { readonly leaveForeign?: boolean },
  process: CeremonyProcess,
): Promise<TokenFound> {
  return (await runCeremony({ action: 'ensure-soft-token', ...token }, process)) as TokenFound;
}

function processOf(options: Partial<CeremonyProcess>): CeremonyProcess {
  const { softhsmConf, environment = {}, signal } = options;
  return { softhsmConf, environment, ...(signal === undefined ? {} : { signal }) };
}

async function runCeremony(request: CeremonyRequest, options: CeremonyProcess): Promise<unknown> {
  const { softhsmConf, environment, signal } = options;
  // Nothing is inherited: NODE_OPTIONS could open an inspector beside the SO PIN, and the settings of
  // the service hold passwords.
  const env: Readonly<Record<string, string>> = {
    ...environment,
    ...(softhsmConf === undefined ? {} : { SOFTHSM2_CONF: softhsmConf }),
  };
  try {
    const tokenFolder = softhsmConf === undefined ? undefined : await tokenFolderOf(softhsmConf);
    if (tokenFolder === undefined) return await perform(request, env, signal);
    const selector = 'tokenSelector' in request ? request.tokenSelector : { label: request.label };
    // Where it cannot be mended the module finds no token, and says so.
    const { mended } = await mendTokenObjects(tokenFolder, selector);
    for (const folder of mended) process.emitWarning(`${MENDED}: ${folder}`);
    const result = await perform(request, env, signal);
    // Where it cannot be copied, who opens the token says so.
    await keepTokenObjects(tokenFolder, selector);
    return result;
  } catch (error) {
    if (isOverdue(signal)) throw overdue(error);
    throw await namingFull(error, env['SOFTHSM2_CONF']);
  }
}

async function perform(
  request: CeremonyRequest,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<unknown> {
  const child = spawn(process.execPath, ['--disable-sigusr1', ENTRY], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env,
    ...(signal === undefined ? {} : { signal, killSignal: 'SIGKILL' as const }),
  });
  const closed = once(child, 'close');
  child.stdin.on('error', () => {
    // A child that was killed before it read its request; its end is what is reported.
  });
  child.stdin.end(JSON.stringify(request));
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  return resultOf(out, err);
}

const isOverdue = (signal: AbortSignal | undefined): boolean =>
  signal?.aborted === true &&
  (signal.reason as Partial<Error> | undefined)?.name === 'TimeoutError';

const overdue = (cause: unknown) =>
  new TwofoldError('hsm_unavailable', 'the ceremony took too long and was ended', { cause });

/** SoftHSM on a full disk answers with any return value, of which none says so. */
async function namingFull(error: unknown, softhsmConf: string | undefined): Promise<unknown> {
  if (softhsmConf === undefined || !TwofoldError.is(error, 'hsm_unavailable')) return error;
  const folder = await tokenFolderOf(softhsmConf);
  const full = folder !== undefined && (await isFull(folder).catch(() => false));
  if (!full) return error;
  const detail = 'the file system under the token is full';
  return new TwofoldError('storage_full', detail, { cause: error });
}

function resultOf(out: string, err: string): unknown {
  const answer = parse(out);
  if (answer === undefined) {
    throw new TwofoldError('hsm_unavailable', 'the ceremony ended without an answer', {
      cause: new Error(err.slice(-2000).trim()),
    });
  }
  if (answer.ok) return answer.result;
  const code: ErrorCode = answer.code in ERRORS ? (answer.code as ErrorCode) : 'internal';
  throw new TwofoldError(code, answer.detail);
}

function parse(out: string): CeremonyAnswer | undefined {
  try {
    return JSON.parse(out) as CeremonyAnswer;
  } catch {
    return undefined;
  }
}
