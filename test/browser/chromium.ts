/** Chromium without a window, by its DevTools protocol over a pipe. Nothing of it outlives `close`. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];

/** The browser of this machine, or the one that CHROMIUM names; undefined without any. */
export function findChromium(): string | undefined {
  const named = process.env['CHROMIUM'] ?? '';
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const places = folders.flatMap((folder) => NAMES.map((name) => join(folder, name)));
  return (named === '' ? places : [named]).find((place) => {
    try {
      accessSync(place, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly message: string };
}

type Params = Readonly<Record<string, unknown>>;
type Waiting = PromiseWithResolvers<Readonly<Record<string, unknown>>>;

const FLAGS = [
  '--headless',
  '--remote-debugging-pipe',
  '--disable-gpu',
  '--disable-lcd-text',
  '--font-render-hinting=none',
  '--hide-scrollbars',
  '--no-first-run',
  // Its children would be left to a container's first process, which may reap nobody.
  '--no-zygote',
  '--disable-background-networking',
  '--disable-component-update',
  // Containers are often run as root and with a small /dev/shm.
  '--no-sandbox',
  '--disable-dev-shm-usage',
];

/** One page of a browser of its own. */
export class Browser {
  readonly #child: ChildProcess;
  readonly #profile: string;
  readonly #pipe: Writable;
  readonly #waiting = new Map<number, Waiting>();
  readonly #complaints: string[] = [];
  readonly #fetched: string[] = [];
  #session: string | undefined;
  #loaded = Promise.withResolvers<undefined>();
  #rest = '';
  #last = 0;

  private constructor(program: string) {
    this.#profile = mkdtempSync(join(tmpdir(), 'twofold-browser-'));
    this.#child = spawn(program, [...FLAGS, `--user-data-dir=${this.#profile}`], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    });
    const [, , , to, from] = this.#child.stdio;
    this.#pipe = to as Writable;
    (from as Readable).setEncoding('utf8').on('data', (text: string) => this.#read(text));
    this.#child.once('exit', () => this.#fail('the browser has ended'));
    this.#pipe.on('error', () => this.#fail('the browser does not listen'));
  }

  static async open(program: string): Promise<Browser> {
    const browser = new Browser(program);
    const { targetId } = await browser.send('Target.createTarget', { url: 'about:blank' });
    const attached = await browser.send('Target.attachToTarget', { targetId, flatten: true });
    browser.#session = String(attached['sessionId']);
    for (const domain of ['Page', 'Runtime', 'Log', 'Network', 'Audits']) {
      await browser.send(`${domain}.enable`);
    }
    return browser;
  }

  /** What the console, the policy and the network complained of since the page was asked for. */
  get complaints(): readonly string[] {
    return this.#complaints;
  }

  /** Addresses that were asked for since the page was. */
  get fetched(): readonly string[] {
    return this.#fetched;
  }

  async visit(url: string, width: number, scheme: 'light' | 'dark'): Promise<void> {
    const size = { width, height: 900, deviceScaleFactor: 1, mobile: width < 600 };
    await this.send('Emulation.setDeviceMetricsOverride', size);
    const features = [{ name: 'prefers-color-scheme', value: scheme }];
    await this.send('Emulation.setEmulatedMedia', { features });
    this.#complaints.length = this.#fetched.length = 0;
    this.#loaded = Promise.withResolvers();
    await this.send('Page.navigate', { url });
    await this.#loaded.promise;
    // Two frames later everything is laid out, and what was forbidden is reported.
    const frames =
      'new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))';
    await this.send('Runtime.evaluate', { expression: frames, awaitPromise: true });
  }

  /** The value of an expression in the page, as JSON carries it. */
  async evaluate(expression: string): Promise<unknown> {
    const answer = await this.send('Runtime.evaluate', { expression, returnByValue: true });
    const { exceptionDetails, result } = answer as { exceptionDetails?: object; result?: Params };
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return result?.['value'];
  }

  /** The whole page as PNG. */
  async picture(): Promise<Buffer> {
    const { cssContentSize } = await this.send('Page.getLayoutMetrics');
    const clip = { ...(cssContentSize as Params), x: 0, y: 0, scale: 1 };
    const shot = { format: 'png', captureBeyondViewport: true, clip };
    const { data } = await this.send('Page.captureScreenshot', shot);
    return Buffer.from(String(data), 'base64');
  }

  async send(method: string, params: Params = {}): Promise<Params> {
    const id = ++this.#last;
    const waiting: Waiting = Promise.withResolvers();
    this.#waiting.set(id, waiting);
    const to = this.#session === undefined ? {} : { sessionId: this.#session };
    this.#pipe.write(`${JSON.stringify({ id, method, params, ...to })}\0`);
    return waiting.promise;
  }

  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit');
      this.#session = undefined;
      this.send('Browser.close').catch(() => undefined);
      const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5_000);
      await ended;
      clearTimeout(timer);
    }
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  #read(text: string): void {
    const messages = (this.#rest + text).split('\0');
    this.#rest = messages.pop() ?? '';
    for (const message of messages) this.#receive(JSON.parse(message) as Message);
  }

  #receive({ id, method = '', params = {}, result, error }: Message): void {
    const waiting = this.#waiting.get(id ?? -1);
    if (waiting !== undefined && id !== undefined) {
      this.#waiting.delete(id);
      if (error === undefined) waiting.resolve(result ?? {});
      else waiting.reject(new Error(error.message));
    }
    if (method === 'Page.loadEventFired') this.#loaded.resolve(undefined);
    if (method === 'Network.requestWillBeSent') {
      this.#fetched.push(String((params['request'] as Params)['url']));
    }
    if (COMPLAINTS.has(method)) this.#complaints.push(`${method} ${JSON.stringify(params)}`);
  }

  #fail(reason: string): void {
    for (const { reject } of this.#waiting.values()) reject(new Error(reason));
    this.#waiting.clear();
    this.#loaded.resolve(undefined);
  }
}

const COMPLAINTS = new Set([
  'Log.entryAdded',
  'Runtime.consoleAPICalled',
  'Runtime.exceptionThrown',
  'Audits.issueAdded',
  'Network.loadingFailed',
]);
