/**
 * The development administrator's token as files, so that it never stands in process arguments:
 * `admin.token` holds the token, `admin.header` the header line for `curl -H @admin.header`.
 */
import { join } from 'node:path';
import type { DevelopmentIssuer } from './development-issuer.ts';
import { writePrivateFile } from './private-file.ts';

export const ADMIN_TOKEN_FILE = 'admin.token';
export const ADMIN_HEADER_FILE = 'admin.header';

const LIFETIME_SECONDS = 43_200;
/** How often the wall clock is looked at; a sleeping machine's timers stand still. */
const CHECK_MS = 60_000;

export interface AdminTokenOptions {
  readonly issuer: DevelopmentIssuer;
  /** The data folder, mode 0700. */
  readonly folder: string;
  /** Told when a renewal failed; it is tried again a minute later. */
  readonly onFailure?: ((error: unknown) => void) | undefined;
  readonly now?: (() => Date) | undefined;
  /** For tests. */
  readonly checkMs?: number | undefined;
}

export class AdminToken {
  readonly #options: AdminTokenOptions;
  readonly #now: () => Date;
  #renewAt = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  private constructor(options: AdminTokenOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
  }

  /** Writes both files and keeps renewing them at half their life until `stop`. */
  static async start(options: AdminTokenOptions): Promise<AdminToken> {
    const admin = new AdminToken(options);
    await admin.renew();
    admin.#timer = setInterval(() => void admin.#check(), options.checkMs ?? CHECK_MS);
    admin.#timer.unref();
    return admin;
  }

  /** Replaces both files by a new token at once. */
  renew(): Promise<void> {
    const renewal = this.#running.then(() => this.#write());
    this.#running = renewal.catch(() => undefined);
    return renewal;
  }

  /** Ends the renewals; resolves when none is under way. The files stay, for the next start. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  async #check(): Promise<void> {
    await this.#running;
    if (this.#now().getTime() < this.#renewAt) return;
    await this.renew().catch((error: unknown) => this.#options.onFailure?.(error));
  }

  async #write(): Promise<void> {
    const { folder, issuer } = this.#options;
    const now = this.#now().getTime();
    const { token } = await issuer.issueToken({
      roles: ['admin'],
      ttlSeconds: LIFETIME_SECONDS,
      subject: 'development-admin',
    });
    await writePrivateFile(join(folder, ADMIN_TOKEN_FILE), `${token}\n`);
    await writePrivateFile(join(folder, ADMIN_HEADER_FILE), `Authorization: Bearer ${token}\n`);
    this.#renewAt = now + (LIFETIME_SECONDS / 2) * 1000;
  }
}
