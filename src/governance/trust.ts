/** What authentication asks of what is stored; it keeps the keys of the issuers that are asked for. */
import { BoundedCache } from '../access/bounded-cache.ts';
import type { CertificateIssuerSettings } from '../access/certificate-issuer.ts';
import { Issuer } from '../access/issuers.ts';
import type { IssuerOptions } from '../access/issuers.ts';
import type { CredentialFacts, StoredTrust, TrustedIssuer } from '../access/trust.ts';
import { settingsOf } from './issuers.ts';
import type { StoredTokenIssuer } from './issuers.ts';
import type { Member } from './sealed-set.ts';
import { ROOT_NAMESPACE } from './namespaces.ts';
import type { Governance } from './governance.ts';

/** Issuers whose keys are kept at one time. */
const MAX_OPEN = 1_000;

interface Opened {
  readonly revision: number;
  readonly issuer: Promise<Issuer>;
}

export interface TrustOptions extends IssuerOptions {
  /** Hosts of stored issuers that may have internal addresses. */
  readonly internal: readonly string[];
}

export class GovernedTrust implements StoredTrust {
  readonly #governance: Pick<Governance, 'denials' | 'issuers' | 'namespaces'>;
  readonly #options: TrustOptions;
  readonly #opened = new BoundedCache<string, Opened>(MAX_OPEN);

  constructor(
    governance: Pick<Governance, 'denials' | 'issuers' | 'namespaces'>,
    options: TrustOptions,
  ) {
    this.#governance = governance;
    this.#options = options;
  }

  async issuer(namespace: string, name: string): Promise<TrustedIssuer | null> {
    const known = await this.#known(namespace);
    const found = await this.#governance.issuers.find(known, name);
    if (found === null) return null;
    const { member } = found;
    const { value } = member;
    // Where the namespace is not there, nothing but what is good everywhere is.
    if (!value.shared && found.namespace !== namespace) return null;
    // It vouches by certificates; a token that names it is nobody's.
    if (value.kind === 'mtls') return null;
    const issuer = await this.#open({ ...member, value }, found.namespace);
    return { issuer, namespace: value.shared ? null : found.namespace };
  }

  async certificateIssuers(namespace: string): Promise<readonly CertificateIssuerSettings[]> {
    const known = await this.#known(namespace);
    const found = await this.#governance.issuers.certificates(known);
    if (known === namespace) return found;
    return found.filter((each) => each.namespace === undefined);
  }

  async isDenied(namespace: string, facts: CredentialFacts): Promise<boolean> {
    return this.#governance.denials.denies(await this.#known(namespace), facts);
  }

  async refresh(): Promise<void> {
    await this.#each((issuer) => issuer.refresh());
  }

  async reload(): Promise<void> {
    await this.#each((issuer) => issuer.reload());
  }

  /** Where there is no such namespace, nothing of it is looked for. */
  async #known(namespace: string): Promise<string> {
    const standing = await this.#governance.namespaces.standing(namespace);
    return standing === 'absent' ? ROOT_NAMESPACE : namespace;
  }

  /** Kept for the revision that it was opened for. */
  #open({ name, revision, value }: Member<StoredTokenIssuer>, namespace: string): Promise<Issuer> {
    const slot = JSON.stringify([namespace, name]);
    const known = this.#opened.get(slot);
    if (known?.revision === revision) return known.issuer;
    const issuer = Issuer.open(settingsOf(value, this.#options.internal), this.#options);
    this.#opened.set(slot, { revision, issuer });
    issuer.catch(() => this.#opened.delete(slot));
    return issuer;
  }

  async #each(act: (issuer: Issuer) => Promise<void>): Promise<void> {
    const opened = [...this.#opened.values()].map(async ({ issuer }) => act(await issuer));
    await Promise.allSettled(opened);
  }
}
