/**
 * Announces a new version to the providers of a key, once every live instance has confirmed the epoch
 * under which it was made: from then on each of them opens what another seals with it.
 *
 * An instance that is not live (closed, fenced, or silent for longer than its heartbeats may be) confirms by
 * what it has to do before it can answer anything: its audit entries commit under the newest epoch only.
 * One that may answer without a commit for a while counts however silent it is, until it is fenced.
 */
import { randomUUID } from 'node:crypto';

import type { Grant, Operation } from '../access/grant.ts';
import type { Authorizer } from '../access/ports.ts';
import { KUBERNETES } from '../access/system.ts';
import { StaleAnswer } from '../audit/ports.ts';
import { isProviderSuite } from '../crypto/suite.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { versionOf } from '../keyring/catalog.ts';
import { actInUse } from '../keyring/in-use.ts';
import type { NamespacesInUse } from '../keyring/in-use.ts';
import type { ChangeRun, KeyManage, KeyRead, KeyView } from '../keyring/operations.ts';
import type { InstanceStore } from '../keyring/instance-ports.ts';
import { formatRecord, hasEnded, providerLabel, recordsOf } from '../keyring/provider-record.ts';
import type { ProviderRecord } from '../keyring/provider-record.ts';

/** Keys with a version to announce that are remembered. */
const MOST_PENDING = 1_000;

export interface AnnouncerParts {
  readonly read: Pick<KeyRead, 'fresh'>;
  readonly manage: Pick<KeyManage, 'update'>;
  readonly instances: Pick<InstanceStore, 'confirmed'>;
  readonly namespaces: NamespacesInUse;
  /** By the policies about the service itself. */
  readonly authorizer: Pick<Authorizer, 'authorize'>;
  readonly onTrouble: (error: unknown) => void;
}

interface Pending {
  readonly namespace: string;
  readonly id: string;
  /** The version, and the epoch by which it was there; null before that was read. */
  readonly awaited: { readonly version: number; readonly epoch: number } | null;
}

const isBehind = (record: ProviderRecord, primary: number): boolean =>
  !hasEnded(record) && record.announced < primary;

/**
 * Whether one of the key's providers has not announced its primary version yet. One of a suite that no provider
 * seals with (it was made before there was a provider, and became the primary by itself) never is.
 */
export function awaitsAnnouncement(view: KeyView): boolean {
  const { key } = view;
  const { primary } = key;
  if (primary === null) return false;
  if (!isProviderSuite(findSuiteByNumber(versionOf(view, primary).suite))) return false;
  return [...recordsOf(key.labels).values()].some((record) => isBehind(record, primary));
}

export class Announcer {
  readonly #parts: AnnouncerParts;
  readonly #pending = new Map<string, Pending>();

  constructor(parts: AnnouncerParts) {
    this.#parts = parts;
  }

  /** Keys with a version that waits for its announcement. */
  get pending(): number {
    return this.#pending.size;
  }

  /** Told of a key that was read. */
  consider(view: KeyView): void {
    const { id, namespace } = view.key;
    if (this.#pending.has(id) || this.#pending.size >= MOST_PENDING) return;
    if (awaitsAnnouncement(view)) this.#pending.set(id, { id, namespace, awaited: null });
  }

  /** Announces what has been confirmed by now. Never rejects. */
  async tick(): Promise<void> {
    for (const pending of [...this.#pending.values()]) {
      try {
        await this.#look(pending);
      } catch (error) {
        if (isMoot(error)) this.#pending.delete(pending.id);
        else if (!wasOvertaken(error)) this.#parts.onTrouble(error);
      }
    }
  }

  /**
   * Makes the record of a provider that has none: it begins with the primary version.
   * @throws TwofoldError version_not_usable, namespace_suspended, conflict where another instance does the same now
   */
  async register(view: KeyView, cluster: string, provider: string): Promise<ProviderRecord> {
    const { primary, namespace, id } = view.key;
    if (primary === null) throw new TwofoldError('version_not_usable', 'No version is active.');
    const record = { provider, announced: primary, retired: 0, proof: null };
    try {
      await this.#write(namespace, id, { [providerLabel(cluster)]: formatRecord(record) }, view);
    } catch (error) {
      if (!wasOvertaken(error)) throw error;
      throw new TwofoldError('conflict', 'Another change of the key came first: ask again.');
    }
    return record;
  }

  async #look({ id, namespace, awaited }: Pending): Promise<void> {
    const view = await this.#parts.read.fresh(this.#grant('keys.read', namespace, id));
    const { primary } = view.key;
    if (primary === null || !awaitsAnnouncement(view)) {
      this.#pending.delete(id);
      return;
    }
    // After the version was read: the epoch by then is that of its commit, or a later one.
    const { epoch, least } = await this.#parts.instances.confirmed();
    if (awaited?.version !== primary) {
      this.#pending.set(id, { id, namespace, awaited: { version: primary, epoch } });
      if (least < epoch) return;
    } else if (least < awaited.epoch) return;
    const labels = [...recordsOf(view.key.labels)]
      .filter(([, record]) => isBehind(record, primary))
      .map(([cluster, record]) => {
        const announced = formatRecord({ ...record, announced: primary });
        return [providerLabel(cluster), announced] as const;
      });
    await this.#write(namespace, id, Object.fromEntries(labels), view);
    this.#pending.delete(id);
  }

  async #write(
    namespace: string,
    id: string,
    labels: Readonly<Record<string, string>>,
    { key }: KeyView,
  ): Promise<void> {
    const { namespaces, manage } = this.#parts;
    const mint = () => this.#grant('keys.update', namespace, id);
    // Another instance may have done it meanwhile: then the revision is another one.
    await actInUse(namespaces, namespace, mint, () =>
      manage.update(mint(), { labels, announcing: true }, ownRun(key.revision)),
    );
  }

  #grant<O extends Operation>(operation: O, namespace: string, key: string): Grant<O> {
    return this.#parts.authorizer.authorize(KUBERNETES, operation, { namespace, key });
  }
}

/** By another change of the key, such as another instance's announcement: the next look sees it. */
const wasOvertaken = (error: unknown): boolean =>
  error instanceof StaleAnswer || TwofoldError.is(error, 'etag_mismatch');

/** The key is gone, or nothing is done in its namespace: whoever reads the key once that is over tells of it again. */
const isMoot = (error: unknown): boolean =>
  TwofoldError.is(error, 'key_not_found') || TwofoldError.is(error, 'namespace_suspended');

/** A change that no request asked for. */
const ownRun = (revision: number): ChangeRun => ({
  dryRun: false,
  requestId: randomUUID(),
  ended: Promise.resolve(),
  source: 'kubernetes',
  ifMatch: revision,
  idempotency: null,
  render: ({ after }) => ({ status: 200, body: JSON.stringify({ revision: after.key.revision }) }),
});
