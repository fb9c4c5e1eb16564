/** Starts the steps of a conformance run, each in a process of its own, and reads what they report. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { ERRORS, TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import type { ConformanceReport, Conformed, RunRoot } from './conformance.ts';
import type {
  ConformancePlace,
  Finished,
  Prepared,
  Step,
  StepLine,
  StepRequest,
} from './conformance-child.ts';
import type { Speed } from './conformance-speed.ts';

export type { ConformancePlace, Finished, Prepared } from './conformance-child.ts';

/** For a call that hangs. */
const STOP_PATIENCE_MS = 10_000;

const ENTRY = fileURLToPath(new URL('./conformance-child.ts', import.meta.url));

interface StepOptions {
  readonly report?: ConformanceReport;
  readonly signal?: AbortSignal;
}

/** The steps of one run, in this order; `finish` also after one that failed or was aborted. */
export class ConformanceRun {
  readonly #place: ConformancePlace;
  readonly #environment: Readonly<Record<string, string>>;
  #opened = false;

  /** `environment` is all that the module sees of this process's own. */
  constructor(place: ConformancePlace, environment: Readonly<Record<string, string>>) {
    this.#place = place;
    this.#environment = environment;
  }

  /** Whether a step was logged in: before that, nothing can have been made on the token. */
  get opened(): boolean {
    return this.#opened;
  }

  /**
   * Removes what interrupted runs left, says what the token is and can, and makes a wrapping key where
   * the token has no root.
   *
   * @throws TwofoldError `hsm_unavailable` for a module, token or PIN that is not usable
   */
  prepare(signal: AbortSignal): Promise<Prepared> {
    return this.#step({ step: 'prepare' }, { signal });
  }

  check(root: RunRoot | null, report: ConformanceReport, signal: AbortSignal): Promise<Conformed> {
    return this.#step({ step: 'check', root }, { report, signal });
  }

  measure(
    available: readonly string[],
    milliseconds: number,
    signal: AbortSignal,
  ): Promise<readonly Speed[]> {
    return this.#step({ step: 'measure', available, milliseconds }, { signal });
  }

  /** Removes the run's objects; never aborted. */
  finish(): Promise<Finished> {
    return this.#step({ step: 'finish' }, {});
  }

  async #step<Result>(step: Step, { report, signal }: StepOptions): Promise<Result> {
    signal?.throwIfAborted();
    const child = spawn(process.execPath, ['--disable-sigusr1', ENTRY], {
      stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
      env: this.#environment,
      // Out of the terminal's group: Ctrl-C ends a step by this process, and never the clean-up.
      detached: true,
    });
    child.on('error', () => undefined);
    const stop = () => end(child);
    signal?.addEventListener('abort', stop);
    const ended = new Promise<NodeJS.Signals | null>((resolve) => {
      child.once('close', (_code, by) => resolve(by));
    });
    send(child, { ...step, place: this.#place });
    const last = await this.#read(child, report);
    const by = await ended;
    signal?.removeEventListener('abort', stop);
    signal?.throwIfAborted();
    return resultOf(last, by) as Result;
  }

  /** The last line, which is the result or the failure. */
  async #read(
    child: ChildProcess,
    report: ConformanceReport | undefined,
  ): Promise<StepLine | undefined> {
    let last: StepLine | undefined;
    for await (const text of createInterface({ input: child.stdio[3] as Readable })) {
      const line = JSON.parse(text) as StepLine;
      if ('row' in line) report?.(line.row);
      else if ('opened' in line) this.#opened = true;
      else last = line;
    }
    return last;
  }
}

/** After the call under way: one that is cut off could leave half an object on the token. */
function end(child: ChildProcess): void {
  child.stdin?.end();
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_PATIENCE_MS);
  child.once('close', () => clearTimeout(timer));
}

/** Standard input stays open: its end, as when this process dies, ends the step. */
function send(child: ChildProcess, request: StepRequest): void {
  child.stdin?.on('error', () => undefined);
  child.stdin?.write(`${JSON.stringify(request)}\n`);
}

function resultOf(line: StepLine | undefined, by: NodeJS.Signals | null): unknown {
  if (line !== undefined && 'result' in line) return line.result;
  if (line !== undefined && 'failure' in line) {
    const { code, detail } = line.failure;
    throw new TwofoldError(code in ERRORS ? (code as ErrorCode) : 'internal', detail);
  }
  const how = by === null ? 'ended' : `was ended by ${by}`;
  throw new TwofoldError('hsm_unavailable', `the process that called the module ${how}`);
}
