/** The administrative operations: create, update, rotate, suspend, resume. */
import { randomUUID } from 'node:crypto';

import type { Grant, Operation } from '../access/grant.ts';
import { ENVELOPE_VERSION } from '../crypto/envelope.ts';
import { findSuite, findSuiteByNumber } from '../crypto/suites.ts';
import { purposesOf } from '../crypto/suite.ts';
import type { Suite } from '../crypto/suite.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm } from '../hsm/port.ts';
import { keyReference, versionOf } from './catalog.ts';
import type { KeyCatalog } from './catalog.ts';
import { Changes, plainPlan } from './changes.ts';
import type { ChangeParts, Plan } from './changes.ts';
import { transition } from './lifecycle.ts';
import type { VersionEvent } from './lifecycle.ts';
import { custodyFor, requireAvailable } from './material.ts';
import type { Custody, MadeMaterial, MaterialMaker } from './material.ts';
import type { Active, Key, KeyVersion } from './model.ts';
import { checkLabels, checkName, mergeLabels } from './names.ts';
import type {
  ChangeDone,
  ChangeRun,
  CreateKey,
  KeyManage,
  KeyView,
  PreparedChange,
} from './operations.ts';
import type { InstanceStore, KeyWrite } from './ports.ts';
import { attestKey, attestVersion } from './row-mac.ts';
import type { RowMac } from './row-mac.ts';
import { usedOf } from './selection.ts';

export interface ManageParts extends ChangeParts {
  readonly catalog: KeyCatalog;
  readonly maker: MaterialMaker;
  readonly hsm: Hsm;
  readonly mac: RowMac;
  readonly instances: Pick<InstanceStore, 'allRead'>;
  readonly clock: () => Date;
}

/** The facts of a change, for its audit entry. */
type Detail = PreparedChange['detail'];

export class KeyAdministration implements KeyManage {
  readonly #parts: ManageParts;
  readonly #changes: Changes;

  constructor(parts: ManageParts) {
    this.#parts = parts;
    this.#changes = new Changes(parts);
  }

  create(grant: Grant<'keys.create'>, input: CreateKey, run: ChangeRun): Promise<ChangeDone> {
    return this.#changes.run(grant, run, async () => {
      checkName(input.name);
      checkLabels(input.labels);
      const suite = findSuite(input.suite);
      const purpose = input.purpose ?? suite.class;
      if (!purposesOf(suite).includes(purpose)) {
        throw new TwofoldError('wrong_purpose', `The suite does not serve ${purpose}.`);
      }
      const custody = await this.#requireWritable(suite, input.custody);
      await this.#requireNewName(grant.namespace, input.name);
      const key: Key = {
        id: randomUUID(),
        namespace: grant.namespace,
        name: input.name,
        purpose,
        labels: input.labels,
        rotation: null,
        deletionProtection: input.deletionProtection,
        primary: 1,
        minUsableVersion: 1,
        latestVersion: 1,
        suspension: null,
        destroyedAt: null,
        createdAt: this.#parts.clock(),
        revision: 1,
      };
      const before = { key, versions: [] };
      return this.#withNewVersion(before, suite, custody, run, async (after) => [
        { kind: 'insert-key', row: await attestKey(this.#parts.mac, after.key) },
      ]);
    });
  }

  update(
    grant: Grant<'keys.update'>,
    input: Parameters<KeyManage['update']>[1],
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, async (view) => {
      const labels = mergeLabels(view.key.labels, input.labels ?? {});
      const deletionProtection = input.deletionProtection ?? view.key.deletionProtection;
      const same =
        deletionProtection === view.key.deletionProtection &&
        JSON.stringify(Object.entries(labels)) === JSON.stringify(Object.entries(view.key.labels));
      if (same) return this.#unchanged(view, {});
      return this.#keyChange(view, { labels, deletionProtection }, { deletionProtection });
    });
  }

  rotate(
    grant: Grant<'keys.rotate'>,
    input: { readonly suite?: string },
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, async (view) => {
      const { key } = view;
      if (key.suspension !== null)
        throw new TwofoldError('version_not_usable', 'The key is suspended.');
      const suite =
        input.suite === undefined
          ? findSuiteByNumber(versionOf(view, key.primary ?? key.latestVersion).suite)
          : findSuite(input.suite);
      if (!purposesOf(suite).includes(key.purpose)) {
        throw new TwofoldError('wrong_purpose', `The suite does not serve ${key.purpose}.`);
      }
      const custody = await this.#requireWritable(suite, undefined);
      const version = key.latestVersion + 1;
      const next = { ...key, primary: version, latestVersion: version, revision: key.revision + 1 };
      return this.#withNewVersion(
        { key: next, versions: view.versions },
        suite,
        custody,
        run,
        async (after) => [
          {
            kind: 'update-key',
            row: await attestKey(this.#parts.mac, after.key),
            expected: key.revision,
          },
        ],
      );
    });
  }

  suspend(
    grant: Grant<'keys.suspend'>,
    { reason }: { readonly reason: string },
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, async (view) => {
      if (view.key.suspension !== null) return this.#unchanged(view, { reason });
      const suspension = { at: this.#parts.clock(), reason };
      return this.#keyChange(view, { suspension }, { reason });
    });
  }

  resume(
    grant: Grant<'keys.resume'>,
    { reason }: { readonly reason: string },
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, async (view) => {
      if (view.key.suspension === null) return this.#unchanged(view, { reason });
      return this.#keyChange(view, { suspension: null }, { reason });
    });
  }

  suspendVersion(
    grant: Grant<'versions.suspend'>,
    { version, reason }: { readonly version: number; readonly reason: string },
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, async (view) => {
      const current = versionOf(view, version);
      if (current.state === 'suspended') return this.#unchanged(view, { reason }, current);
      if (view.key.primary === version) throw new TwofoldError('primary_protected');
      const event = { kind: 'suspend', at: this.#parts.clock(), reason } as const;
      return this.#versionChange(view, current, event, { reason });
    });
  }

  resumeVersion(
    grant: Grant<'versions.resume'>,
    { version, reason }: { readonly version: number; readonly reason: string },
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, async (view) => {
      const current = versionOf(view, version);
      if (current.state === 'active') return this.#unchanged(view, { reason }, current);
      const event = { kind: 'resume', at: this.#parts.clock() } as const;
      return this.#versionChange(view, current, event, { reason });
    });
  }

  /** Plans on rows read for this change, never on cached ones. */
  #onKey(
    grant: Grant<Operation>,
    run: ChangeRun,
    plan: (view: KeyView) => Promise<Plan>,
  ): Promise<ChangeDone> {
    return this.#changes.run(grant, run, async () => {
      const stored = await this.#parts.store.find(grant.namespace, keyReference(grant.key ?? ''));
      if (stored === null) throw new TwofoldError('key_not_found');
      const view = await this.#parts.catalog.view(stored);
      if (run.ifMatch !== null && run.ifMatch !== view.key.revision) {
        throw new TwofoldError('etag_mismatch');
      }
      if (view.key.destroyedAt !== null) {
        throw new TwofoldError('version_not_usable', 'The key is destroyed.');
      }
      return plan(view);
    });
  }

  async #requireNewName(namespace: string, name: string): Promise<void> {
    const existing = await this.#parts.store.find(namespace, { name });
    if (existing === null) return;
    throw new TwofoldError(existing.key.value.destroyedAt === null ? 'key_exists' : 'name_retired');
  }

  async #requireWritable(suite: Suite, wanted: Custody | undefined): Promise<Custody> {
    requireAvailable(this.#parts.hsm, suite);
    if (!(await this.#parts.instances.allRead(suite.number, ENVELOPE_VERSION))) {
      throw new TwofoldError(
        'suite_unavailable_here',
        'A live instance does not read this suite yet.',
      );
    }
    return custodyFor(suite, wanted);
  }

  /** `before.key` already counts the new version; a dry run makes no material. */
  async #withNewVersion(
    before: KeyView,
    suite: Suite,
    custody: Custody,
    run: ChangeRun,
    keyWrites: (after: KeyView) => Promise<KeyWrite[]>,
  ): Promise<Plan> {
    const { key } = before;
    const used = {
      key: key.name,
      keyId: key.id,
      keyVersion: key.latestVersion,
      suite: suite.id,
      suiteNumber: suite.number,
    };
    const detail = { suite: suite.id, custody, version: key.latestVersion };
    if (run.dryRun) return plainPlan({ before, after: before, used, detail, changes: true }, []);
    const request = { suite, keyId: key.id, version: key.latestVersion, custody };
    const made = await this.#parts.maker.make(request);
    try {
      const version = this.#activeVersion(key, suite, made);
      const after = { key, versions: [...before.versions, version] };
      const writes: KeyWrite[] = [
        ...(await keyWrites(after)),
        { kind: 'insert-version', row: await attestVersion(this.#parts.mac, version) },
      ];
      if (made.objectId !== null) writes.push({ kind: 'complete-intent', objectId: made.objectId });
      return {
        change: { before, after, used, detail, changes: true },
        writes,
        discard: made.discard,
      };
    } catch (error) {
      await made.discard();
      throw error;
    }
  }

  #activeVersion(key: Key, suite: Suite, made: MadeMaterial): Active {
    const now = this.#parts.clock();
    return {
      keyId: key.id,
      version: key.latestVersion,
      suite: suite.number,
      createdAt: now,
      revision: 1,
      state: 'active',
      material: made.material,
      activatedAt: now,
      deactivateAt: null,
    };
  }

  async #keyChange(view: KeyView, fields: Partial<Key>, detail: Detail): Promise<Plan> {
    const key = { ...view.key, ...fields, revision: view.key.revision + 1 };
    const after = { key, versions: view.versions };
    const row = await attestKey(this.#parts.mac, key);
    return plainPlan(
      { before: view, after, used: usedOf(key, latest(after)), detail, changes: true },
      [{ kind: 'update-key', row, expected: view.key.revision }],
    );
  }

  async #versionChange(
    view: KeyView,
    current: KeyVersion,
    event: VersionEvent,
    detail: Detail,
  ): Promise<Plan> {
    const changed = transition(current, event);
    const versions = view.versions.map((version) => (version === current ? changed : version));
    // The key's revision moves too: its ETag stands for the whole, and two changes cannot cross.
    const key = { ...view.key, revision: view.key.revision + 1 };
    const { mac } = this.#parts;
    return plainPlan(
      { before: view, after: { key, versions }, used: usedOf(key, changed), detail, changes: true },
      [
        { kind: 'update-key', row: await attestKey(mac, key), expected: view.key.revision },
        {
          kind: 'update-version',
          row: await attestVersion(mac, changed),
          expected: current.revision,
        },
      ],
    );
  }

  #unchanged(view: KeyView, detail: Detail, version: KeyVersion = latest(view)): Plan {
    const used = usedOf(view.key, version);
    return plainPlan({ before: view, after: view, used, detail, changes: false }, []);
  }
}

function latest(view: KeyView): KeyVersion {
  return versionOf(view, view.key.primary ?? view.key.latestVersion);
}
