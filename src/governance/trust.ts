/** What authentication asks of what is stored. */
import type { CredentialFacts, StoredTrust } from '../access/trust.ts';
import { ROOT_NAMESPACE } from './namespaces.ts';
import type { Governance } from './governance.ts';

export class GovernedTrust implements StoredTrust {
  readonly #governance: Pick<Governance, 'denials' | 'namespaces'>;

  constructor(governance: Pick<Governance, 'denials' | 'namespaces'>) {
    this.#governance = governance;
  }

  issuer(): Promise<null> {
    return Promise.resolve(null);
  }

  async isDenied(namespace: string, facts: CredentialFacts): Promise<boolean> {
    return this.#governance.denials.denies(await this.#known(namespace), facts);
  }

  /** Where there is no such namespace, nothing of it is looked for. */
  async #known(namespace: string): Promise<string> {
    const standing = await this.#governance.namespaces.standing(namespace);
    return standing === 'absent' ? ROOT_NAMESPACE : namespace;
  }
}
