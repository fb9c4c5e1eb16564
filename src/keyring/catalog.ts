/**
 * Keys by name or id, with their MACs verified, cached for as long as no change touches them.
 *
 * A cached view is valid at the current security epoch: every change that is learnt drops what it
 * names, and a view whose reading overlapped such a change is handed out but not kept.
 */
import type { SecurityChange, SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import type { KeyView } from './operations.ts';
import type { KeyVersion } from './model.ts';
import type { KeyStore, StoredKey } from './ports.ts';
import { verifyStored } from './row-mac.ts';
import type { RowMac } from './row-mac.ts';

const MAX_KEYS = 10_000;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** How a request names a key: a UUID is always an id, for no name parses as one. */
export function keyReference(ref: string): { readonly id: string } | { readonly name: string } {
  return UUID.test(ref) ? { id: ref } : { name: ref };
}

export class KeyCatalog {
  readonly #store: KeyStore;
  readonly #mac: RowMac;
  readonly #epoch: SecurityEpoch;
  readonly #views = new Map<string, KeyView>();
  readonly #reading = new Map<string, Promise<KeyView | null>>();

  constructor(store: KeyStore, mac: RowMac, epoch: SecurityEpoch) {
    this.#store = store;
    this.#mac = mac;
    this.#epoch = epoch;
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
    if (cached !== undefined) return cached;
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

  /** Rows from a list, verified; not cached. */
  async view(stored: StoredKey): Promise<KeyView> {
    await verifyStored(this.#mac, stored);
    return { key: stored.key.value, versions: stored.versions.map(({ value }) => value) };
  }

  async #read(slot: string, namespace: string, ref: string): Promise<KeyView | null> {
    const began = this.#epoch.current;
    const stored = await this.#store.find(namespace, keyReference(ref));
    if (stored === null) return null;
    const view = await this.view(stored);
    const { id, name } = view.key;
    const belongs = view.key.namespace === namespace && (ref === id || ref === name);
    if (!belongs) throw new TwofoldError('integrity_failed', `Rows of key ${id} were altered.`);
    const standing = { epoch: began, namespace, keyId: id, keyName: name };
    if (!this.#epoch.touches(standing)) this.#keep(slot, view);
    return view;
  }

  #keep(slot: string, view: KeyView): void {
    this.#views.set(slot, view);
    const [oldest] = this.#views.keys();
    if (this.#views.size > MAX_KEYS && oldest !== undefined) this.#views.delete(oldest);
  }

  #drop({ scope, namespace, keyId, keyName }: SecurityChange): void {
    if (scope !== 'key') return;
    for (const ref of [keyId, keyName]) {
      if (ref === null) continue;
      this.#views.delete(`${namespace}\n${ref}`);
      this.#reading.delete(`${namespace}\n${ref}`);
    }
  }
}

/** @throws TwofoldError version_not_found */
export function versionOf(view: KeyView, version: number): KeyVersion {
  const found = view.versions[version - 1];
  if (found?.version !== version) throw new TwofoldError('version_not_found');
  return found;
}
