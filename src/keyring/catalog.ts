/**
 * Keys by name or id, with their MACs verified, cached for as long as no change touches them.
 *
 * A cached view is valid at the current security epoch: every change that is learnt drops what it
 * names, and a view whose reading overlapped such a change is handed out but not kept.
 */
import { isUuid } from '../crypto/uuid.ts';
import type { SecurityChange, SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { IntegrityWatch } from './integrity.ts';
import type { KeySummary, KeyView } from './operations.ts';
import type { KeyVersion } from './model.ts';
import { isName } from './names.ts';
import type { KeyStore, ListedKey } from './ports.ts';
import { rememberedMac } from './remembered-mac.ts';
import { outdatesRows } from './root-ports.ts';
import { verifyListed, verifyStored } from './row-mac.ts';
import type { RowMac } from './row-mac.ts';

const MAX_KEYS = 10_000;
/** Two for each key that lists have shown. */
const LISTED_MACS = 20_000;

type Reference = { readonly id: string } | { readonly name: string };

/** How a request names a key: a UUID is always an id, for no name parses as one. Null names nothing. */
function keyReference(ref: string): Reference | null {
  if (isUuid(ref)) return { id: ref };
  return isName(ref) ? { name: ref } : null;
}

export interface CatalogOptions {
  /** Views kept at a time; 10,000 unless told. */
  readonly maxKeys?: number;
  /** A change touched the key of a view that was kept. */
  readonly onDrop?: (view: KeyView) => void;
}

export class KeyCatalog {
  readonly #store: Pick<KeyStore, 'find'>;
  readonly #mac: RowMac;
  readonly #listedMac: RowMac;
  readonly #epoch: SecurityEpoch;
  readonly #maxKeys: number;
  readonly #onDrop: (view: KeyView) => void;
  /** Least recently used first. */
  readonly #views = new Map<string, KeyView>();
  readonly #reading = new Map<string, Promise<KeyView | null>>();
  /** What was found altered by reading it here. */
  readonly integrity = new IntegrityWatch();

  constructor(
    store: Pick<KeyStore, 'find'>,
    mac: RowMac,
    epoch: SecurityEpoch,
    options: CatalogOptions = {},
  ) {
    this.#store = store;
    this.#mac = mac;
    this.#listedMac = rememberedMac(mac, LISTED_MACS);
    this.#epoch = epoch;
    this.#maxKeys = options.maxKeys ?? MAX_KEYS;
    this.#onDrop = options.onDrop ?? (() => undefined);
    epoch.onChange((change) => this.#drop(change));
  }

  get size(): number {
    return this.#views.size;
  }

  /** @throws TwofoldError key_not_found, integrity_failed */
  async get(namespace: string, ref: string): Promise<KeyView> {
    const view = await this.find(namespace, ref);
    if (view === null) throw new TwofoldError('key_not_found');
    return view;
  }

  async find(namespace: string, ref: string): Promise<KeyView | null> {
    const slot = `${namespace}\n${ref}`;
    const cached = this.#views.get(slot);
    if (cached !== undefined) {
      this.#keep(slot, cached);
      return cached;
    }
    const shared = this.#reading.get(slot);
    if (shared !== undefined) return shared;
    const reading = this.#read(slot, namespace, ref);
    this.#reading.set(slot, reading);
    try {
      return await reading;
    } finally {
      if (this.#reading.get(slot) === reading) this.#reading.delete(slot);
    }
  }

  /**
   * Read now, verified, not cached: what a change is planned on.
   * @throws TwofoldError key_not_found, integrity_failed
   */
  async fresh(namespace: string, ref: string): Promise<KeyView> {
    const view = await this.#load(namespace, ref);
    if (view === null) throw new TwofoldError('key_not_found');
    return view;
  }

  /**
   * Rows of a list, by `suite` where it is given, verified; not cached.
   * @throws TwofoldError integrity_failed
   */
  async listed(rows: ListedKey, suite: number | null): Promise<KeySummary> {
    await verifyListed(this.#listedMac, rows, suite);
    const key = rows.key.value;
    const primary = rows.versions.find(({ value }) => value.version === key.primary);
    return { key, primary: primary?.value ?? null };
  }

  #load(namespace: string, ref: string): Promise<KeyView | null> {
    return this.integrity.over(`${namespace}\n${ref}`, () => this.#verified(namespace, ref));
  }

  async #verified(namespace: string, ref: string): Promise<KeyView | null> {
    const reference = keyReference(ref);
    if (reference === null) return null;
    const stored = await this.#store.find(namespace, reference, this.#epoch.current);
    if (stored === null) return null;
    await verifyStored(this.#mac, stored);
    const view = { key: stored.key.value, versions: stored.versions.map(({ value }) => value) };
    const { id, name, aliases } = view.key;
    const named = ref === id || ref === name || aliases.includes(ref);
    const belongs = view.key.namespace === namespace && named;
    if (!belongs) throw new TwofoldError('integrity_failed', `Rows of key ${id} were altered.`);
    return view;
  }

  async #read(slot: string, namespace: string, ref: string): Promise<KeyView | null> {
    const began = this.#epoch.current;
    const view = await this.#load(namespace, ref);
    if (view === null) return null;
    // By `ref` too: an alias may have moved meanwhile.
    const { id } = view.key;
    const standing = { epoch: began, namespace, keyId: id, keyName: ref };
    if (!this.#epoch.touches(standing)) this.#keep(slot, view);
    return view;
  }

  #keep(slot: string, view: KeyView): void {
    this.#views.delete(slot);
    this.#views.set(slot, view);
    const [oldest] = this.#views.keys();
    if (this.#views.size > this.#maxKeys && oldest !== undefined) this.#views.delete(oldest);
  }

  #drop({ scope, namespace, keyId, keyName, also = [] }: SecurityChange): void {
    // What was read before may be wrapped under a generation of the root that is left now.
    const outdated = scope === 'access' && outdatesRows(keyName);
    if (scope !== 'key' && !outdated) return;
    const any = outdated || (keyId === null && keyName === null);
    const slots = any
      ? [...this.#views.keys(), ...this.#reading.keys()]
      : [keyId, keyName, ...also].flatMap((ref) => (ref === null ? [] : [`${namespace}\n${ref}`]));
    for (const slot of slots) {
      const view = this.#views.get(slot);
      this.#views.delete(slot);
      this.#reading.delete(slot);
      if (view !== undefined) this.#onDrop(view);
    }
  }
}

/** @throws TwofoldError version_not_found */
export function versionOf(view: KeyView, version: number): KeyVersion {
  const found = view.versions[version - 1];
  if (found?.version !== version) throw new TwofoldError('version_not_found');
  return found;
}
