/**
 * Entry file of the ceremony process. Reads one request as JSON from standard input, answers one
 * line of JSON on standard output; PINs come from files and appear in neither, nor in arguments.
 *
 * A kill at any point is completed by the next run: a ceremony takes a lock that the kernel drops
 * with its process, session objects die with it, and what is on the token is looked up first.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { NAME } from '../name.ts';
import { makeRoot } from './ceremony-root.ts';
import type { RootMade } from './ceremony-root.ts';
import { ensurePin, readPin } from './ceremony-pin.ts';
import type { Cryptoki } from './cryptoki.ts';
import { initialiseToken } from './ceremony-token.ts';
import type { TokenInitialised } from './ceremony-token.ts';
import { failureOf } from './failures.ts';
import { loadAlone } from './module.ts';
import type { RootOnToken } from './port.ts';
import type { TokenSelector } from './protocol.ts';

export type CeremonyRequest =
  | {
      readonly action: 'init-token';
      readonly module: string;
      readonly label: string;
      readonly pinFile: string;
      readonly soPinFile: string;
    }
  | {
      readonly action: 'make-root';
      readonly module: string;
      readonly tokenSelector: TokenSelector;
      readonly pinFile: string;
      readonly soPinFile: string | undefined;
      readonly root: RootOnToken;
      readonly unlessAny: boolean;
    };

export type CeremonyAnswer =
  | { readonly ok: true; readonly result: RootMade | TokenInitialised }
  | { readonly ok: false; readonly code: string; readonly detail: string; readonly pin: boolean };

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
    if (Date.now() > limit) throw new Error('another ceremony holds the token');
    await delay(LOCK_POLL_MS);
  }
}

function perform(cryptoki: Cryptoki, request: CeremonyRequest): RootMade | TokenInitialised {
  if (request.action === 'init-token') {
    const [pin, soPin] = [ensurePin(request.pinFile), ensurePin(request.soPinFile)];
    return initialiseToken(cryptoki, request.label, pin, soPin);
  }
  const { module, tokenSelector, root, soPinFile, unlessAny } = request;
  const pin = readPin(request.pinFile);
  const soPin = soPinFile === undefined ? undefined : readPin(soPinFile);
  return makeRoot(cryptoki, { module, tokenSelector, pin, soPin, root, unlessAny });
}

async function run(request: CeremonyRequest): Promise<CeremonyAnswer> {
  const unlock = await lock(lockName(request));
  const cryptoki = loadAlone(request.module);
  try {
    return { ok: true, result: perform(cryptoki, request) };
  } catch (error) {
    const { code, detail, consequence, returnValue } = failureOf(error, 'make');
    const seen = returnValue === undefined ? '' : ` (CKR 0x${returnValue.toString(16)})`;
    return { ok: false, code, detail: `${detail}${seen}`, pin: consequence === 'pin' };
  } finally {
    cryptoki.C_Finalize();
    unlock();
  }
}

/** The PIN file stands for the token: one token has one, wherever its module sees it. */
function lockName(request: CeremonyRequest): string {
  return `${request.module}\n${request.pinFile}`;
}

const request = JSON.parse(readFileSync(0, 'utf8')) as CeremonyRequest;
process.stdout.write(`${JSON.stringify(await run(request))}\n`);
