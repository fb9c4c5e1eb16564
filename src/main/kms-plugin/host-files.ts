/**
 * Who the agent is, from files in a folder of the host: a token or a client certificate, and the authorities
 * of the service. They are read again when they change; what cannot be used leaves in force what was there.
 */
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';

import type { TlsIdentity } from '../../client/http-connection.ts';
import { readOwnerOnlyFile } from '../../config.ts';
import { TwofoldError } from '../../errors.ts';
import { FileWatch } from '../file-watch.ts';
import type { WatchLog } from '../file-watch.ts';

export interface HostPaths {
  /** Holds a token alone, or a line `Authorization: Bearer …`; mode 0600. */
  readonly token?: string;
  /** Certificate chain and key (mode 0600), PEM. */
  readonly certificate?: { readonly cert: string; readonly key: string };
  readonly ca?: string;
  /** Whose token and key may be beside ours and root's: of the agent, where another looks at what it has. */
  readonly owner?: number | null;
}

const TOKEN = /^(?:Authorization: Bearer )?([A-Za-z0-9._-]+)$/u;
const NOT_READ = new TwofoldError('token_missing', "The agent's files were not read yet.");

/** Something that is read from files and stands once it was read. */
interface Held<T> {
  readonly value: () => T;
}

export class HostFiles {
  readonly #watch: FileWatch;
  readonly #token: Held<string> | null;
  readonly #identity: Held<TlsIdentity>;

  private constructor(paths: HostPaths, log: WatchLog) {
    this.#watch = new FileWatch(log);
    const { token, certificate, ca, owner = null } = paths;
    this.#token =
      token === undefined ? null : this.#hold('token', [token], () => tokenOf(token, owner));
    const files = [certificate?.cert, certificate?.key, ca].filter((path) => path !== undefined);
    this.#identity =
      files.length === 0
        ? { value: () => NO_IDENTITY }
        : this.#hold('certificates', files, () => identityOf(paths));
  }

  /** Reads them once; what cannot be read is said when it is asked for. */
  static async open(paths: HostPaths, log: WatchLog): Promise<HostFiles> {
    const files = new HostFiles(paths, log);
    await files.#watch.reload();
    files.#watch.start();
    return files;
  }

  /** Reads them now. */
  reload(): Promise<void> {
    return this.#watch.reload();
  }

  /** Of each request; null where a certificate says who asks. @throws TwofoldError token_missing */
  authorization(): string | null {
    return this.#token?.value() ?? null;
  }

  /** The same object until the files change. @throws TwofoldError token_missing */
  identity(): TlsIdentity {
    return this.#identity.value();
  }

  close(): Promise<void> {
    return this.#watch.close();
  }

  #hold<T>(name: string, paths: readonly string[], read: () => T): Held<T> {
    let held: { readonly value: T } | null = null;
    let refusal = NOT_READ;
    this.#watch.add({
      name,
      paths,
      read: () => {
        try {
          const value = read();
          return () => {
            held = { value };
          };
        } catch (error) {
          const { detail } = TwofoldError.from(error);
          refusal = new TwofoldError('token_missing', detail, { cause: error });
          throw error;
        }
      },
    });
    return {
      value: () => {
        if (held === null) throw refusal;
        return held.value;
      },
    };
  }
}

const NO_IDENTITY: TlsIdentity = {};

function tokenOf(path: string, owner: number | null): string {
  const text = Buffer.from(readOwnerOnlyFile(path, 0o077, owner)).toString('latin1');
  const [, token] = TOKEN.exec(text) ?? [];
  if (token !== undefined) return `Bearer ${token}`;
  throw new TwofoldError('invalid_value', `${path} does not hold a token`);
}

function identityOf({ certificate, ca, owner = null }: HostPaths): TlsIdentity {
  const identity = {
    ...(ca === undefined ? {} : { ca: publicFile(ca) }),
    ...(certificate === undefined
      ? {}
      : {
          cert: publicFile(certificate.cert),
          key: Buffer.from(readOwnerOnlyFile(certificate.key, 0o077, owner)).toString('latin1'),
        }),
  };
  try {
    // Also tells a key that is another certificate's: its renewal may be half done.
    createSecureContext(identity);
  } catch (cause) {
    const named = [certificate?.cert, certificate?.key, ca].filter((path) => path !== undefined);
    throw new TwofoldError('invalid_value', `${named.join(', ')} cannot be used for TLS`, {
      cause,
    });
  }
  return identity;
}

function publicFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new TwofoldError('invalid_value', `${path} cannot be read`, { cause });
  }
}
