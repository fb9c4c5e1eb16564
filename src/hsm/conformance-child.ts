/**
 * Entry file of one step of a conformance run, a process of its own: a module that crashes or hangs
 * takes neither the report nor the clean-up with it. One request as JSON on standard input; lines of
 * JSON on file descriptor 3, because modules print where they like.
 *
 * Ends when its standard input ends: no step outlives the run. The PIN is offered once.
 */
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { runConformance } from './conformance.ts';
import type { ConformanceRow, Conformed, RunRoot } from './conformance.ts';
import { inventory, keyLabelOf, makeTemporaryRoot } from './conformance-objects.ts';
import { removeLeftovers } from './conformance-objects.ts';
import type { Inventory } from './conformance-objects.ts';
import { measureSpeeds } from './conformance-speed.ts';
import type { Speed } from './conformance-speed.ts';
import { Connection } from './connection.ts';
import type { Cryptoki } from './cryptoki.ts';
import { failureOf } from './failures.ts';
import { describeModule, mechanismsOf } from './module-facts.ts';
import type { ModuleFacts } from './module-facts.ts';
import { loadAlone } from './module.ts';
import { PinFile, pinScope } from './pin.ts';
import type { HsmCapability } from './port.ts';
import { probe } from './probe.ts';
import type { Opened, TokenSelector } from './protocol.ts';
import { listRoots } from './roots.ts';

export interface ConformancePlace {
  readonly module: string;
  readonly moduleParameters?: string;
  readonly tokenSelector: TokenSelector;
  readonly pinFile: string;
  /** For the mark of a refused PIN. */
  readonly stateDir: string;
  /** Name of the run, in the labels of its token objects. */
  readonly run: string;
}

export interface Prepared {
  readonly module: ModuleFacts;
  readonly token: Opened['token'];
  readonly mechanisms: readonly string[];
  /** `wrap` also needs a wrapping key on the token. */
  readonly capabilities: readonly HsmCapability[];
  /** Objects that interrupted runs had left, removed now. */
  readonly removed: number;
  /** What was on the token before the run made anything. */
  readonly before: Inventory;
  /** Null where the token wraps nothing. */
  readonly root: RunRoot | null;
}

export interface Finished {
  readonly removed: number;
  readonly after: Inventory;
}

export type Step =
  | { readonly step: 'prepare' }
  | { readonly step: 'check'; readonly root: RunRoot | null }
  | {
      readonly step: 'measure';
      readonly available: readonly string[];
      readonly milliseconds: number;
    }
  | { readonly step: 'finish' };

export type StepRequest = Step & { readonly place: ConformancePlace };

export type StepLine =
  /** The token took the PIN. */
  | { readonly opened: true }
  | { readonly row: ConformanceRow }
  | { readonly result: Prepared | Conformed | readonly Speed[] | Finished }
  | { readonly failure: { readonly code: string; readonly detail: string } };

const REPORT_FD = 3;
const say = (line: StepLine): void => void writeSync(REPORT_FD, `${JSON.stringify(line)}\n`);
const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

async function perform(
  request: StepRequest,
): Promise<Prepared | Conformed | readonly Speed[] | Finished> {
  const { place } = request;
  switch (request.step) {
    case 'prepare':
      return connected(place, (connection, cryptoki) => prepare(place, connection, cryptoki));
    case 'check':
      return check(place, request.root);
    case 'measure': {
      const available = new Set(request.available);
      return connected(place, (connection) =>
        measureSpeeds(connection, available, request.milliseconds),
      );
    }
    case 'finish':
      return connected(place, async (connection) => {
        const removed = await removeLeftovers(connection, place.run);
        return { removed, after: inventory(connection) };
      });
  }
}

async function prepare(
  place: ConformancePlace,
  connection: Connection,
  cryptoki: Cryptoki,
): Promise<Prepared> {
  const removed = await removeLeftovers(connection, place.run);
  const before = inventory(connection);
  const { capabilities } = probe(connection);
  const wraps = capabilities.some(({ name, available }) => name === 'wrap' && available);
  const { root, noRoot } = wraps ? rootFor(place, connection) : {};
  return {
    module: describeModule(cryptoki, place.module),
    ...connection.describe(),
    mechanisms: mechanismsOf(connection),
    capabilities: noRoot === undefined ? capabilities : withoutWrap(capabilities, noRoot),
    removed,
    before,
    root: root ?? null,
  };
}

function rootFor(
  place: ConformancePlace,
  connection: Connection,
): { readonly root?: RunRoot; readonly noRoot?: string } {
  const [existing] = listRoots(connection);
  if (existing !== undefined) return { root: { ...existing, temporary: false } };
  try {
    return { root: { ...makeTemporaryRoot(connection, place.run), temporary: true } };
  } catch (error) {
    return {
      noRoot: `the token makes no wrapping key as a token object: ${explained(error).detail}`,
    };
  }
}

function withoutWrap(capabilities: readonly HsmCapability[], reason: string): HsmCapability[] {
  return capabilities.map((one) =>
    one.name.startsWith('wrap') ? { name: one.name, available: false, reason } : one,
  );
}

function check(place: ConformancePlace, root: RunRoot | null): Promise<Conformed> {
  const { run, ...options } = place;
  const opened = { ...options, tokenKeyLabel: keyLabelOf(run), log: SILENT };
  return runConformance(opened, root, (row) => say({ row }));
}

async function connected<Result>(
  place: ConformancePlace,
  use: (connection: Connection, cryptoki: Cryptoki) => Promise<Result> | Result,
): Promise<Result> {
  const cryptoki = loadAlone(place.module, place.moduleParameters);
  try {
    const connection = await open(cryptoki, place);
    say({ opened: true });
    try {
      return await use(connection, cryptoki);
    } finally {
      connection.close();
    }
  } finally {
    cryptoki.C_Finalize();
  }
}

async function open(cryptoki: Cryptoki, place: ConformancePlace): Promise<Connection> {
  const { module, tokenSelector, stateDir } = place;
  const file = new PinFile(place.pinFile, stateDir, pinScope(module, tokenSelector));
  const pin = await file.read();
  try {
    return await file.offer(
      pin,
      () => Connection.open(cryptoki, tokenSelector, { op: 'open', tokenEpoch: 1, pin }),
      {
        refuses: (error) => failureOf(error, 'login').consequence === 'pin',
        onUnmarked: () => undefined,
      },
    );
  } finally {
    pin.fill(0);
  }
}

function failed(error: unknown): StepLine {
  return { failure: explained(error) };
}

function explained(error: unknown): { readonly code: string; readonly detail: string } {
  const { code, detail, returnValue } = failureOf(error, 'make');
  const value = returnValue === undefined ? '' : ` (CKR 0x${returnValue.toString(16)})`;
  return { code, detail: `${detail}${value}` };
}

async function main(): Promise<void> {
  const lines = createInterface({ input: process.stdin });
  lines.once('close', () => process.exit(1));
  const [first] = await new Promise<readonly [string]>((resolve) => {
    lines.once('line', (line) => resolve([line]));
  });
  try {
    say({ result: await perform(JSON.parse(first) as StepRequest) });
  } catch (error) {
    say(failed(error));
  }
  // A module's threads, or a call that hangs, would keep the process.
  process.exit(0);
}

await main();
