/** Reading keys: one, or a page of them. Never answers material. */
import type { Grant } from '../access/grant.ts';
import type { Engine } from '../crypto/engine.ts';
import { readChain } from './certificates.ts';
import { versionOf } from './catalog.ts';
import type { KeyCatalog } from './catalog.ts';
import { inTurns } from './in-turns.ts';
import type { CertificateChainView, KeyRead, KeyView } from './operations.ts';
import type { KeyStore } from './ports.ts';
import type { UseReport } from './use-report.ts';
import { tombstonesOf } from './tombstones.ts';

/** Verified at a time, so that a long page leaves the HSM's queue to others. */
const KEYS_AT_ONCE = 4;

interface ReadParts {
  readonly store: KeyStore;
  readonly catalog: KeyCatalog;
  readonly engine: Engine;
  readonly report: UseReport;
}

export class KeyReading implements KeyRead {
  readonly #store: KeyStore;
  readonly #catalog: KeyCatalog;
  readonly #engine: Engine;
  readonly #report: UseReport;

  constructor({ store, catalog, engine, report }: ReadParts) {
    this.#engine = engine;
    this.#store = store;
    this.#catalog = catalog;
    this.#report = report;
  }

  get(grant: Grant<'keys.read'>): Promise<KeyView> {
    return this.#catalog.get(grant.namespace, grant.key ?? '');
  }

  fresh(grant: Grant<'keys.read'>): Promise<KeyView> {
    return this.#catalog.fresh(grant.namespace, grant.key ?? '');
  }

  tombstones(_grant: Grant<'keys.read'>, view: KeyView): ReturnType<KeyRead['tombstones']> {
    return tombstonesOf(this.#store, view);
  }

  certificateChain(grant: Grant<'keys.read'>, version: number): Promise<CertificateChainView> {
    const { namespace } = grant;
    const key = grant.key ?? '';
    const what = JSON.stringify(['certificate-chain', namespace, key, version]);
    const parts = { store: this.#store, catalog: this.#catalog, engine: this.#engine };
    return this.#catalog.integrity.over(what, () => readChain(parts, { namespace, key, version }));
  }

  async uses(
    grant: Grant<'versions.uses'>,
    { pageSize, afterVersion }: Parameters<KeyRead['uses']>[1],
  ): ReturnType<KeyRead['uses']> {
    const view = await this.#catalog.get(grant.namespace, grant.key ?? '');
    const rest = view.versions.filter(({ version }) => version > afterVersion);
    const shown = rest.slice(0, pageSize);
    const [from, until] = [shown.at(0)?.version ?? 1, shown.at(-1)?.version ?? 0];
    const uses = await this.#report.usesOf(view.key.id, { from, until });
    const nextVersion = shown.length < rest.length ? until : null;
    return { view, versions: shown, uses, nextVersion };
  }

  async users(
    grant: Grant<'versions.uses'>,
    { version, pageSize, after }: Parameters<KeyRead['users']>[1],
  ): ReturnType<KeyRead['users']> {
    const view = await this.#catalog.get(grant.namespace, grant.key ?? '');
    const { keyId } = versionOf(view, version);
    return { view, ...(await this.#report.usersOf(keyId, version, pageSize, after)) };
  }

  list(
    grant: Grant<'keys.list'>,
    query: Parameters<KeyRead['list']>[1],
  ): ReturnType<KeyRead['list']> {
    const what = JSON.stringify([grant.namespace, query]);
    return this.#catalog.integrity.over(what, () => this.#page(grant, query));
  }

  async #page(
    grant: Grant<'keys.list'>,
    query: Parameters<KeyRead['list']>[1],
  ): ReturnType<KeyRead['list']> {
    const { suite } = query;
    const page = await this.#store.list({ ...query, namespace: grant.namespace });
    const items = await inTurns(page.keys, KEYS_AT_ONCE, (row) => this.#catalog.listed(row, suite));
    return { items, nextName: page.next };
  }
}
