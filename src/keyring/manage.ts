/** The administrative operations: create, update, rotate, suspend, resume. */
import { randomUUID } from 'node:crypto';

import type { Grant, Operation } from '../access/grant.ts';
import { StaleAnswer } from '../audit/ports.ts';
import type { Engine } from '../crypto/engine.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { versionOf } from './catalog.ts';
import type { KeyCatalog } from './catalog.ts';
import { planDeleteAlias, planPutAlias } from './aliases.ts';
import { planDeleteChain, planPutChain } from './certificates.ts';
import { Changes, OF_KEYS } from './changes.ts';
import type { ChangeParts, Plan } from './changes.ts';
import { DEFAULT_DESTRUCTION_RULES } from './destruction.ts';
import type { DestructionRules } from './destruction.ts';
import { planExport, requireExportable } from './exports.ts';
import { requireNothingDoomed } from './destruction.ts';
import type { Announcement } from './announcement.ts';
import { checkAhead } from './lead-time.ts';
import { LifecycleAdministration } from './manage-lifecycle.ts';
import type { Key } from './model.ts';
import { checkName, checkReason, mergeLabels, sameLabels } from './names.ts';
import { planNewVersion, writableCustody } from './new-version.ts';
import type { NewVersionParts } from './new-version.ts';
import { checkRecords, requireNoRecords, requireNotHeld } from './provider-record.ts';
import type {
  ChangeDone,
  ChangeRun,
  CreateKey,
  ExportKey,
  ChangeOrder,
  KeyManage,
  KeyView,
  PolicyChange,
  PreparedChange,
  PutCertificateChain,
  RotateKey,
  SetPrimary,
  UpdateKey,
} from './operations.ts';
import type { PolicyPreviews } from './policy-effects.ts';
import { planPolicyChange } from './rotation-changes.ts';
import { requireRoomToPublish } from './published.ts';
import type { PublishingParts } from './published.ts';
import type { PolicyLimits } from './rotation-policy.ts';
import type { Root } from './root.ts';
import { planKeyChange, planNothing, planVersionChange, standing } from './row-plans.ts';
import { planSuccessor, requirePublishable, requireServes } from './succession.ts';
import { affectedBy } from './change-facts.ts';
import { usesAbout } from './use-report.ts';
import type { UseReport } from './use-report.ts';
import { checkWindow, planRetire, planSetPrimary } from './windows.ts';
import type { PrimaryParts } from './windows.ts';

export interface ManageParts
  extends Omit<ChangeParts, 'integrity'>, NewVersionParts, Pick<PublishingParts, 'mostPublished'> {
  readonly engine: Engine;
  readonly catalog: KeyCatalog;
  readonly root: Pick<Root, 'unseal'>;
  readonly turns: ChangeOrder;
  readonly policyLimits: PolicyLimits;
  readonly report: UseReport;
  readonly rotationPolicies?: PrimaryParts['rotationPolicies'];
  readonly policyPreview?: PolicyPreviews['ofKey'] | undefined;
  /** UUID of this incarnation, for the intents of token objects. */
  readonly instance: string;
  /** `DEFAULT_DESTRUCTION_RULES` unless told. */
  readonly destruction?: DestructionRules;
}

interface Reasoned {
  readonly reason: string;
}

interface VersionReasoned extends Reasoned {
  readonly version: number;
}

export class KeyAdministration implements KeyManage {
  readonly #parts: ManageParts;
  readonly #changes: Changes<PreparedChange>;
  readonly lifecycle: LifecycleAdministration;

  constructor(parts: ManageParts) {
    this.#parts = parts;
    this.#changes = new Changes(
      { ...parts, integrity: parts.catalog.integrity },
      {
        ...OF_KEYS,
        preview: (operation, change) => previewed(parts, operation, change),
      },
    );
    const rules = parts.destruction ?? DEFAULT_DESTRUCTION_RULES;
    this.lifecycle = new LifecycleAdministration({ ...parts, rules }, (...change) =>
      this.#onKey(...change),
    );
  }

  create(grant: Grant<'keys.create'>, input: CreateKey, run: ChangeRun): Promise<ChangeDone> {
    return this.#changes.run(grant, run, async () => {
      checkName(input.name);
      const labels = mergeLabels({}, input.labels);
      requireNoRecords(labels);
      const { suite } = input;
      const purpose = input.purpose ?? suite.class;
      requireServes(suite, purpose);
      requirePublishable(suite, input.publish ?? false);
      if (input.exportable === true) requireExportable(suite);
      const { activateAt } = input;
      if (activateAt !== undefined) checkAhead('activateAt', activateAt, this.#parts.clock());
      const custody = await writableCustody(this.#parts, suite, input.custody);
      await this.#requireNewName(grant.namespace, input.name);
      if (input.publish === true) await requireRoomToPublish(this.#parts, grant.namespace);
      const key: Key = {
        id: randomUUID(),
        namespace: grant.namespace,
        name: input.name,
        aliases: [],
        purpose,
        labels,
        rotation: null,
        rotationHold: null,
        deletionProtection: input.deletionProtection,
        origin: 'generated',
        exportable: input.exportable ?? false,
        exports: [],
        publish: input.publish ?? false,
        primary: activateAt === undefined ? 1 : null,
        minUsableVersion: 1,
        latestVersion: 1,
        suspension: null,
        destruction: null,
        destroyedAt: null,
        createdAt: this.#parts.clock(),
        revision: 1,
      };
      const given = activateAt === undefined ? {} : { activateAt };
      const wanted = { before: null, key, suite, custody, ...given };
      return planNewVersion(this.#parts, wanted, run.dryRun);
    });
  }

  export(grant: Grant<'keys.export'>, input: ExportKey, run: ChangeRun): Promise<ChangeDone> {
    return this.#onKey(grant, run, (view) => planExport(this.#parts, grant, view, { input, run }));
  }

  update(grant: Grant<'keys.update'>, input: UpdateKey, run: ChangeRun): Promise<ChangeDone> {
    return this.#onKey(grant, run, async (view) => {
      const labels = mergeLabels(view.key.labels, input.labels ?? {});
      const deletionProtection = input.deletionProtection ?? view.key.deletionProtection;
      const publish = input.publish ?? view.key.publish;
      const minUsableVersion = input.minUsableVersion ?? view.key.minUsableVersion;
      if (deletionProtection && !view.key.deletionProtection) requireNothingDoomed(view);
      checkWindow(view.key, minUsableVersion);
      checkRecords(
        view.key.labels,
        { ...view.key, labels },
        {
          announcing: input.announcing ?? false,
          suiteOf: (number) => findSuiteByNumber(versionOf(view, number).suite),
        },
      );
      if (minUsableVersion > view.key.minUsableVersion) {
        requireNotHeld({ labels }, minUsableVersion - 1);
      }
      requirePublishable(findSuiteByNumber(standing(view).suite), input.publish ?? false);
      const same =
        deletionProtection === view.key.deletionProtection &&
        publish === view.key.publish &&
        minUsableVersion === view.key.minUsableVersion &&
        sameLabels(labels, view.key.labels);
      if (same) return planNothing(view, {});
      if (publish && !view.key.publish) await requireRoomToPublish(this.#parts, grant.namespace);
      const fields = { labels, deletionProtection, publish, minUsableVersion };
      const labelNames = JSON.stringify(Object.keys(labels).sort());
      const detail = { deletionProtection, labelNames };
      return planKeyChange(this.#parts.mac, view, fields, detail);
    });
  }

  rotate(grant: Grant<'keys.rotate'>, input: RotateKey, run: ChangeRun): Promise<ChangeDone> {
    return this.#onKey(grant, run, (view) => planSuccessor(this.#parts, view, input, run));
  }

  setPrimary(
    grant: Grant<'keys.set-primary'>,
    input: SetPrimary,
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, (view) => planSetPrimary(this.#parts, view, input));
  }

  changeRotation(
    grant: Grant<'keys.set-rotation'>,
    input: PolicyChange,
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, (view) => planPolicyChange(this.#parts, view, input));
  }

  retireVersion(
    grant: Grant<'versions.retire'>,
    input: VersionReasoned,
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, (view) => planRetire(this.#parts, view, input));
  }

  announce(
    grant: Grant<'keys.announce'>,
    input: Announcement,
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, (view) => {
      const { of, at, version } = input;
      const about = version === null ? standing(view) : versionOf(view, version);
      return Promise.resolve(planNothing(view, { of, at: at.toISOString(), version }, about));
    });
  }

  putAlias(
    grant: Grant<'keys.put-alias'>,
    { alias, from }: { readonly alias: string; readonly from: Grant<'keys.put-alias'> | null },
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, async (view) => {
      const { catalog, mac } = this.#parts;
      const holder = from === null ? null : await catalog.fresh(from.namespace, from.key ?? '');
      return planPutAlias(mac, view, { alias, holder });
    });
  }

  deleteAlias(
    grant: Grant<'keys.delete-alias'>,
    { alias }: { readonly alias: string },
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onAnyKey(grant, run, (view) => planDeleteAlias(this.#parts.mac, view, alias));
  }

  suspend(grant: Grant<'keys.suspend'>, { reason }: Reasoned, run: ChangeRun): Promise<ChangeDone> {
    return this.#onKey(
      grant,
      run,
      async (view) => {
        checkReason(reason);
        if (view.key.suspension !== null) return planNothing(view, { reason });
        const suspension = { at: this.#parts.clock(), reason };
        return planKeyChange(this.#parts.mac, view, { suspension }, { reason });
      },
      'urgent',
    );
  }

  resume(grant: Grant<'keys.resume'>, { reason }: Reasoned, run: ChangeRun): Promise<ChangeDone> {
    return this.#onKey(grant, run, async (view) => {
      checkReason(reason);
      if (view.key.suspension === null) return planNothing(view, { reason });
      return planKeyChange(this.#parts.mac, view, { suspension: null }, { reason });
    });
  }

  suspendVersion(
    grant: Grant<'versions.suspend'>,
    { version: number, reason }: VersionReasoned,
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(
      grant,
      run,
      async (view) => {
        checkReason(reason);
        const version = versionOf(view, number);
        if (version.state === 'suspended') return planNothing(view, { reason }, version);
        if (view.key.primary === number) throw new TwofoldError('primary_protected');
        const event = { kind: 'suspend', at: this.#parts.clock(), reason } as const;
        return planVersionChange(this.#parts.mac, view, { version, event, detail: { reason } });
      },
      'urgent',
    );
  }

  resumeVersion(
    grant: Grant<'versions.resume'>,
    { version: number, reason }: VersionReasoned,
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, async (view) => {
      checkReason(reason);
      const version = versionOf(view, number);
      if (version.state === 'active') return planNothing(view, { reason }, version);
      const event = { kind: 'resume', at: this.#parts.clock() } as const;
      return planVersionChange(this.#parts.mac, view, { version, event, detail: { reason } });
    });
  }

  putCertificateChain(
    grant: Grant<'versions.put-certificates'>,
    input: PutCertificateChain,
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, (view) => planPutChain(this.#parts, view, input));
  }

  deleteCertificateChain(
    grant: Grant<'versions.delete-certificates'>,
    { version }: { readonly version: number },
    run: ChangeRun,
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, (view) => planDeleteChain(this.#parts.mac, view, version));
  }

  #onKey(
    grant: Grant<Operation>,
    run: ChangeRun,
    plan: (view: KeyView) => Promise<Plan>,
    urgency?: 'urgent',
  ): Promise<ChangeDone> {
    const living = (view: KeyView): Promise<Plan> => {
      if (view.key.destroyedAt === null) return plan(view);
      throw new TwofoldError('version_not_usable', 'The key is destroyed.');
    };
    return this.#onAnyKey(grant, run, living, urgency);
  }

  /** Of a destroyed one too. Plans on rows read for this change, never on cached ones. */
  #onAnyKey(
    grant: Grant<Operation>,
    run: ChangeRun,
    plan: (view: KeyView) => Promise<Plan>,
    urgency?: 'urgent',
  ): Promise<ChangeDone> {
    return this.#changes.run(grant, run, async () => {
      const view = await this.#parts.catalog.fresh(grant.namespace, grant.key ?? '');
      if (!run.dryRun) await this.#turn(grant, run, view, urgency);
      if (run.ifMatch !== null && run.ifMatch !== view.key.revision) {
        throw new TwofoldError('etag_mismatch');
      }
      return plan(view);
    });
  }

  /** @throws StaleAnswer when the changes before it touched the key: run again, the turn is kept */
  async #turn(
    { epoch, namespace }: Grant<Operation>,
    run: ChangeRun,
    view: KeyView,
    urgency: 'urgent' | undefined,
  ) {
    const { id: keyId, name: keyName } = view.key;
    await this.#parts.turns.take(keyId, run.requestId, run.ended, urgency);
    if (this.#parts.epoch.touches({ epoch, namespace, keyId, keyName })) throw new StaleAnswer();
  }

  async #requireNewName(namespace: string, name: string): Promise<void> {
    const existing = await this.#parts.store.find(namespace, { name }, this.#parts.epoch.current);
    if (existing === null) return;
    throw new TwofoldError(existing.key.value.destroyedAt === null ? 'key_exists' : 'name_retired');
  }
}

/** What a change of a key that existed is about, with how much that was used, and of a policy what it would do. */
async function previewed(
  { report, policyPreview }: Pick<ManageParts, 'report' | 'policyPreview'>,
  operation: Operation,
  change: PreparedChange,
): Promise<PreparedChange> {
  const { before, after, used, from } = change;
  if (before === null) return change;
  const affected = { ...affectedBy(operation, { before, after, version: used.keyVersion }), from };
  if (operation !== 'keys.set-rotation' || policyPreview === undefined) {
    return { ...change, uses: await usesAbout(report, used.keyId, affected) };
  }
  const effects = await policyPreview(before, after);
  const users = effects.closes.map(({ version }) => version);
  const uses = await usesAbout(report, used.keyId, { ...affected, users });
  return { ...change, uses, effects };
}
