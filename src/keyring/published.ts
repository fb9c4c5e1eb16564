/**
 * Keys that are shown without a token. Whoever has none may ask for any name as often as the gate
 * lets it, so a name is first looked for among those that are published, in memory: what is not there
 * costs no lookup, and a key that is not published answers as fast as none. What is there is read and
 * verified like any other key.
 *
 * Every change of any key that is learnt ends what is remembered here: changes are rare.
 */
import type { SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import type { KeyCatalog } from './catalog.ts';
import type { KeyView, PublishedKeys, PublishedView } from './operations.ts';
import type { KeyStore } from './ports.ts';

/** Published keys that are known at a time; more are not found. */
const MAX_PUBLISHED = 10_000;
/** How often a reading is begun again that a change overtook. */
const ATTEMPTS = 8;

const slotOf = (namespace: string, ref: string) => `${namespace}\n${ref}`;

export class Publication implements PublishedKeys {
  readonly #store: Pick<KeyStore, 'published'>;
  readonly #catalog: Pick<KeyCatalog, 'find'>;
  readonly #epoch: SecurityEpoch;
  #generation = 0;
  #names: Promise<ReadonlySet<string>> | null = null;

  constructor(
    store: Pick<KeyStore, 'published'>,
    catalog: Pick<KeyCatalog, 'find'>,
    epoch: SecurityEpoch,
  ) {
    this.#store = store;
    this.#catalog = catalog;
    this.#epoch = epoch;
    epoch.onChange(({ scope }) => {
      if (scope === 'access') return;
      this.#generation += 1;
      this.#names = null;
    });
  }

  get generation(): number {
    return this.#generation;
  }

  async find(namespace: string, ref: string): Promise<PublishedView> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const generation = this.#generation;
      const view = await this.#read(namespace, ref);
      if (generation === this.#generation) return { view, generation };
    }
    throw new TwofoldError('conflict', 'Changes kept overtaking the request.');
  }

  async #read(namespace: string, ref: string): Promise<KeyView | null> {
    const names = await this.#published();
    if (!names.has(slotOf(namespace, ref))) return null;
    const view = await this.#catalog.find(namespace, ref);
    if (view === null) return null;
    const { publish, suspension, destruction, destroyedAt } = view.key;
    const enabled = suspension === null && destruction === null && destroyedAt === null;
    return publish && enabled ? view : null;
  }

  /** Read once for all who ask meanwhile, and again when it failed. */
  #published(): Promise<ReadonlySet<string>> {
    if (this.#names !== null) return this.#names;
    const reading = this.#readNames();
    this.#names = reading;
    reading.catch(() => {
      if (this.#names === reading) this.#names = null;
    });
    return reading;
  }

  async #readNames(): Promise<ReadonlySet<string>> {
    const keys = await this.#store.published(this.#epoch.current, MAX_PUBLISHED);
    return new Set(
      keys.flatMap(({ namespace, id, name }) => [slotOf(namespace, id), slotOf(namespace, name)]),
    );
  }
}
