/**
 * The latest version that Status named, in a file of the host, so that an agent which starts anew refuses what it
 * would refuse while it runs: an earlier version, of a database that was set back, another one of the same number, or
 * another key's. `probe` was sealed under it; a file of an agent from before has none, and gets one. An agent from before passes over it.
 *
 * A file that cannot be read ends the start, or fails Status: what it holds against is then not known. One that
 * cannot be written is said in the log once, as nothing else is wrong, and is tried again until it can.
 */
import { readPrivateFile, writePrivateFile } from '../../access/private-file.ts';
import { decodeBase64, encodeBase64 } from '../../crypto/base64.ts';
import { TwofoldError } from '../../errors.ts';
import type { Announced, AnnouncedMemory } from '../../kubernetes/ports.ts';
import { keyIdOf, requireUnder } from '../../kubernetes/stored-value.ts';
import type { Log } from '../../telemetry/logs.ts';

/** Whose it is, as the agent's flags say. */
interface About {
  readonly cluster: string;
  readonly provider: string;
  readonly namespace: string;
  readonly key: string;
}

/** A write that takes longer is said: Status does not wait for it. */
const STALLED_MS = 2_000;
const NAMES = ['cluster', 'provider', 'namespace', 'key'] as const;

type FileLog = Pick<Log, 'error' | 'info'>;

export class AnnouncedFile implements AnnouncedMemory {
  readonly place: string;
  readonly #about: About;
  readonly #log: FileLog;
  #isSaid = false;

  private constructor(path: string, about: About, log: FileLog) {
    this.place = path;
    this.#about = about;
    this.#log = log;
  }

  /** @throws TwofoldError invalid_value where it cannot be read, or is another provider's */
  static async open(path: string, about: About, log: FileLog): Promise<AnnouncedFile> {
    const file = new AnnouncedFile(path, about, log);
    await file.last();
    return file;
  }

  /** Read each time: a predecessor at the same socket may have written since. @throws as `open` */
  async last(): Promise<Announced | null> {
    const content = await readPrivateFile(this.place);
    if (content === undefined) return null;
    const held = parsed(Buffer.from(content).toString('utf8'));
    if (held === null) throw this.#refused('does not hold what an agent keeps');
    const other = NAMES.find((name) => held[name] !== this.#about[name]);
    if (other !== undefined) throw this.#refused(`is of another ${other}`);
    return { keyId: held.keyId, announced: held.announced, probe: held.probe };
  }

  async keep({ keyId, announced, probe }: Announced): Promise<boolean> {
    const { cluster, provider, namespace, key } = this.#about;
    const sealed = probe === null ? {} : { probe: encodeBase64(probe) };
    const held = { cluster, provider, namespace, key, keyId, announced, ...sealed };
    const stalled = setTimeout(() => this.#say(announced, 'the disk stalls'), STALLED_MS).unref();
    try {
      await writePrivateFile(this.place, `${JSON.stringify(held)}\n`);
    } catch (err) {
      this.#say(announced, err);
      return false;
    } finally {
      clearTimeout(stalled);
    }
    if (this.#isSaid) this.#log.info({ announced }, 'the announced version is kept over a restart');
    this.#isSaid = false;
    return true;
  }

  #say(announced: number, err: unknown): void {
    if (this.#isSaid) return;
    this.#isSaid = true;
    this.#log.error({ err, announced }, 'the announced version is not kept over a restart');
  }

  #refused(why: string): TwofoldError {
    return new TwofoldError(
      'invalid_value',
      `${this.place} ${why}: remove it where it is meant to begin anew.`,
    );
  }
}

type Held = About & Announced;

function parsed(text: string): Held | null {
  let held: unknown;
  try {
    held = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof held !== 'object' || held === null) return null;
  const { keyId, announced, probe, ...about } = held as Partial<Record<keyof Held, unknown>>;
  if (typeof keyId !== 'string' || typeof announced !== 'number') return null;
  if (!Number.isSafeInteger(announced)) return null;
  if (NAMES.some((name) => typeof about[name] !== 'string')) return null;
  const named = { ...(about as unknown as About), keyId, announced };
  if (probe === undefined) return { ...named, probe: null };
  if (typeof probe !== 'string') return null;
  try {
    const sealed = decodeBase64(probe, 'probe');
    requireUnder(keyIdOf({ keyId, keyVersion: announced }), sealed);
    return { ...named, probe: sealed };
  } catch {
    return null;
  }
}
