/**
 * What the service knows secretly of itself, changed under it: certificates of the listeners, the
 * password of the database, the user PIN, the keys of the issuers. Their files are looked at once a
 * second (`file-watch.ts`), and all of them at once on SIGHUP. Each change is said in the log and in an
 * audit entry `system.reload`, by names and fingerprints alone.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import type { TokenAuthenticator } from '../access/authenticate.ts';
import type { KeySetChange } from '../access/issuers.ts';
import type { AuditDraft } from '../audit/ports.ts';
import type { RunningAuditLog } from '../audit/log.ts';
import type { Config } from '../config.ts';
import { readPin } from '../hsm/pin.ts';
import type { HttpServer } from '../http/server.ts';
import type { Store } from '../store/store.ts';
import { FileWatch } from './file-watch.ts';
import type { WatchLog } from './file-watch.ts';
import { assertValidAt, readTlsIdentity } from './tls-identity.ts';
import type { TlsIdentity } from './tls-identity.ts';
import type { Unwinding } from './unwinding.ts';
import type { ListenerName } from './workers/protocol.ts';

export interface ReloadLog extends WatchLog {
  warn(fields: object, message: string): void;
}

const LISTENERS = ['http', 'admin', 'metrics'] as const;
/** How often issuers are asked whether their keys are due. */
const REFRESH_MS = 1_000;
/** Least time between two readings on request. */
const BETWEEN_MS = 100;
/** How long the same failure of an issuer's keys is not said again. */
const SAME_MS = 60_000;
/** Thumbprints of keys in one entry: what matters is that something changed, and roughly what. */
const MAX_NAMED = 8;

export class Reloads {
  readonly #log: ReloadLog;
  readonly #audit: () => RunningAuditLog | null;
  readonly #watch: FileWatch;
  readonly #identities = new Map<ListenerName, TlsIdentity>();
  #authenticator: TokenAuthenticator | undefined;
  #asked = false;
  #reloading: Promise<void> | undefined;

  /** `audit`: null before the log is open. */
  constructor(log: ReloadLog, audit: () => RunningAuditLog | null, unwinding: Unwinding) {
    this.#log = log;
    this.#audit = audit;
    this.#watch = new FileWatch(log);
    unwinding.add('file watch', () => this.#watch.close());
    this.#watch.start();
  }

  /** Names of what is not used as it stands in its files or at its address now. */
  get refused(): readonly string[] {
    const issuers = this.#authenticator?.failing.length ?? 0;
    return [...this.#watch.refused, ...(issuers > 0 ? ['issuers'] : [])];
  }

  /** 1 for what is refused, 0 for the rest of what is watched. */
  refusals(): Readonly<Record<string, number>> {
    const refused = this.refused;
    const names = [...this.#watch.names, 'issuers'];
    return Object.fromEntries(names.map((name) => [name, refused.includes(name) ? 1 : 0]));
  }

  /** Seconds until the certificates in use expire, by listener; negative afterwards. */
  expiries(): Readonly<Record<string, number>> {
    const seconds = ({ validTo }: TlsIdentity) =>
      Math.floor((validTo.getTime() - Date.now()) / 1e3);
    return Object.fromEntries([...this.#identities].map(([name, of]) => [name, seconds(of)]));
  }

  /** Reads everything again now; requests that come meanwhile make one more reading. Never rejects. */
  reload(): Promise<void> {
    this.#asked = true;
    this.#reloading ??= this.#reloadWhileAsked().finally(() => (this.#reloading = undefined));
    return this.#reloading;
  }

  async #reloadWhileAsked(): Promise<void> {
    while (this.#asked) {
      this.#asked = false;
      await Promise.all([this.#watch.reload(), this.#authenticator?.reload()]);
      this.#log.info({ refused: this.refused }, 'secrets were read again on request');
      await sleep(BETWEEN_MS, undefined, { ref: false });
    }
  }

  /** `identities` are those with which the listeners begin. */
  watchTls(config: Config, identities: ReadonlyMap<ListenerName, TlsIdentity>, http: HttpServer) {
    for (const listener of LISTENERS) {
      const files = config[listener]?.tls;
      const identity = identities.get(listener);
      if (files === undefined || identity === undefined) continue;
      this.#identities.set(listener, identity);
      const { certFile, keyFile, caFile } = files;
      this.#watch.add({
        name: `${listener}.tls`,
        paths: [certFile, keyFile, ...(caFile === undefined ? [] : [caFile])],
        read: () => {
          const found = readTlsIdentity(files);
          if (found.digest !== this.#identities.get(listener)?.digest) {
            assertValidAt(found, new Date());
          }
          return () => this.#takeTls(listener, found, http);
        },
      });
    }
  }

  /** Each new connection reads the file anyway; this tells whether it is right before one is needed. */
  watchPassword({ database }: Config, store: Store): void {
    const { url, passwordFile } = database;
    if (url === undefined || passwordFile === undefined) return;
    const read = async () => {
      await store.tryPassword();
      return () => undefined;
    };
    this.#watch.add({ name: 'database.password', paths: [passwordFile], read });
  }

  /** Each login reads the file anyway; a file that could not be read then is found before. */
  watchPin(pinFile: string): void {
    let known = false;
    this.#watch.add({
      name: 'hsm.pin',
      paths: [pinFile],
      read: async () => {
        (await readPin(pinFile)).fill(0);
        return () => {
          if (known)
            this.changed({ what: 'hsm.pin' }, 'the PIN file has changed, for the next login');
          known = true;
        };
      },
    });
  }

  /** Key sets that are due are read though no token asks, so that a key that was taken away ends in time. */
  watchIssuers(authenticator: TokenAuthenticator, unwinding: Unwinding): void {
    this.#authenticator = authenticator;
    const timer = setInterval(() => void authenticator.refresh(), REFRESH_MS).unref();
    unwinding.add('issuers', () => clearInterval(timer));
  }

  keysChanged({ issuer, added, removed }: KeySetChange): void {
    if (added.length + removed.length === 0) return;
    const named = (keys: readonly string[]) => keys.slice(0, MAX_NAMED).join(' ');
    const detail = { issuer, added: named(added), removed: named(removed) };
    this.changed({ what: 'issuers', ...detail }, 'the keys of an issuer have changed');
  }

  /** Says in the log and in an audit entry what is in force from now on. */
  changed(detail: NonNullable<AuditDraft['detail']> & { what: string }, message: string): void {
    this.#log.info(detail, message);
    const audit = this.#audit();
    if (audit === null) return;
    audit.recordOwn('system.reload', detail).catch((err: unknown) => {
      this.#log.warn({ err, what: detail.what }, 'a reload has no audit entry');
    });
  }

  #takeTls(listener: ListenerName, found: TlsIdentity, http: HttpServer): void {
    const before = this.#identities.get(listener);
    if (found.digest === before?.digest) return;
    http.setTls(listener, found.options);
    this.#identities.set(listener, found);
    const detail = {
      what: `${listener}.tls`,
      certificate: found.fingerprint,
      before: before?.fingerprint ?? '',
      validTo: found.validTo.toISOString(),
    };
    this.changed(detail, 'the certificate of a listener has changed');
  }
}

/** Tells of a failure of an issuer's keys when it is another than the last one told, of a minute or less ago. */
export function onceEach(tell: (issuer: string, error: unknown) => void) {
  const told = new Map<string, { readonly what: string; readonly at: number }>();
  return (issuer: string, error: unknown): void => {
    const [what, at] = [String(error), performance.now()];
    const last = told.get(issuer);
    if (last?.what === what && at - last.at < SAME_MS) return;
    told.set(issuer, { what, at });
    tell(issuer, error);
  };
}
