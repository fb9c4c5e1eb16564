/**
 * Keys that are shown without a token. Whoever has none may ask for any name as often as the gate
 * lets it, so a name is first looked for among those that are published, in memory: what is not there
 * costs no lookup, and a key that is not published answers as fast as none. What is there is read and
 * verified like any other key.
 *
 * What is remembered of a namespace ends with every change of one of its keys that is learnt, and is read again
 * when somebody asks: so a name that is not there costs no statement, and a change one at most.
 */
import type { SecurityChange, SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import type { KeyCatalog } from './catalog.ts';
import type { KeyView, PublishedKeys, PublishedView } from './operations.ts';
import type { KeyStore } from './ports.ts';

/** Published keys of a namespace. */
const MOST_PUBLISHED = 10_000;
/** Let in beyond that by requests that were judged at the same time: they are found as well. */
const OVERSHOOT = 1_000;
/** Names of published keys that are remembered over all namespaces, each of which counts as one more. */
const MOST_REMEMBERED = 50_000;
/** How often a reading is begun again that a change overtook. */
const ATTEMPTS = 8;

export interface PublishingParts {
  readonly store: Pick<KeyStore, 'countPublished'>;
  /** `MOST_PUBLISHED` unless told. */
  readonly mostPublished?: number;
}

/**
 * Before a key is published that was not. What is so already stays: suspended ones count, as they may come back.
 * @throws TwofoldError quota_exceeded
 */
export async function requireRoomToPublish(
  { store, mostPublished = MOST_PUBLISHED }: PublishingParts,
  namespace: string,
): Promise<void> {
  if ((await store.countPublished(namespace, mostPublished)) < mostPublished) return;
  const detail = `A namespace has at most ${String(mostPublished)} published keys.`;
  throw new TwofoldError('quota_exceeded', detail);
}

/** By name and by id. */
type Names = ReadonlySet<string>;

/** By namespace, the one that was asked for longest ago first. */
class RememberedNames {
  readonly #read: (namespace: string) => Promise<Names>;
  readonly #most: number;
  readonly #readings = new Map<string, { readonly names: Promise<Names>; counts: number }>();
  #count = 0;

  constructor(read: (namespace: string) => Promise<Names>, most: number) {
    this.#read = read;
    this.#most = most;
  }

  /** Read once for all who ask meanwhile, and again when it failed. */
  async of(namespace: string): Promise<Names> {
    const known = this.#readings.get(namespace);
    if (known !== undefined) {
      this.#readings.delete(namespace);
      this.#readings.set(namespace, known);
      return known.names;
    }
    const reading = { names: this.#read(namespace), counts: 1 };
    this.#readings.set(namespace, reading);
    this.#count += 1;
    const isCurrent = () => this.#readings.get(namespace) === reading;
    try {
      const names = await reading.names;
      if (isCurrent()) {
        reading.counts += names.size;
        this.#count += names.size;
        this.#makeRoom(namespace);
      }
      return names;
    } catch (error) {
      if (isCurrent()) this.forget(namespace);
      throw error;
    }
  }

  forget(namespace: string): void {
    this.#count -= this.#readings.get(namespace)?.counts ?? 0;
    this.#readings.delete(namespace);
  }

  forgetAll(): void {
    this.#readings.clear();
    this.#count = 0;
  }

  /** All but the one that was just read, where that alone is more. */
  #makeRoom(newest: string): void {
    for (const namespace of this.#readings.keys()) {
      if (this.#count <= this.#most) return;
      if (namespace !== newest) this.forget(namespace);
    }
  }
}

export interface PublicationLimits {
  /** Found of a namespace. */
  readonly perNamespace?: number;
  readonly remembered?: number;
}

export class Publication implements PublishedKeys {
  readonly #catalog: Pick<KeyCatalog, 'find'>;
  readonly #names: RememberedNames;
  #generation = 0;

  constructor(
    store: Pick<KeyStore, 'published'>,
    catalog: Pick<KeyCatalog, 'find'>,
    epoch: SecurityEpoch,
    {
      perNamespace = MOST_PUBLISHED + OVERSHOOT,
      remembered = MOST_REMEMBERED,
    }: PublicationLimits = {},
  ) {
    this.#catalog = catalog;
    this.#names = new RememberedNames(async (namespace) => {
      const keys = await store.published(namespace, epoch.current, perNamespace);
      return new Set(keys.flatMap(({ id, name }) => [id, name]));
    }, remembered * 2);
    epoch.onChange((change) => this.#learn(change));
  }

  get generation(): number {
    return this.#generation;
  }

  #learn({ scope, namespace, keyId, keyName }: SecurityChange): void {
    if (scope === 'access') return;
    this.#generation += 1;
    if (keyId === null && keyName === null) this.#names.forgetAll();
    else this.#names.forget(namespace);
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
    const names = await this.#names.of(namespace);
    if (!names.has(ref)) return null;
    const view = await this.#catalog.find(namespace, ref);
    if (view === null) return null;
    const { publish, suspension, destruction, destroyedAt } = view.key;
    const enabled = suspension === null && destruction === null && destroyedAt === null;
    return publish && enabled ? view : null;
  }
}
