/** A model of keys whose changes are written as the service writes them, with the rows they lead to. */
import { uuid } from '../../src/audit/verify/key-states.ts';
import type { Draft } from './synthetic.ts';

interface ModelVersion {
  readonly version: number;
  revision: number;
  state: string;
}

export class ModelKey {
  readonly keyId: string;
  readonly namespace: string;
  readonly #name: string;
  #revision = 1;
  #state = 'enabled';
  #primary: number | null = 1;
  #min = 1;
  #latest = 1;
  readonly #versions: ModelVersion[] = [{ version: 1, revision: 1, state: 'active' }];

  constructor(number: number, namespace: string) {
    this.keyId = number.toString(16).padStart(32, '0');
    this.namespace = namespace;
    this.#name = `key-${number}`;
  }

  get destroyed(): boolean {
    return this.#state === 'destroyed';
  }

  row() {
    return {
      keyId: uuid(this.keyId),
      namespace: this.namespace,
      name: this.#name,
      revision: this.#revision,
      state: this.#state,
      primary: this.#primary,
      minUsableVersion: this.#min,
      latestVersion: this.#latest,
      versions: this.#versions.map((version) => ({ ...version })),
    };
  }

  create(lane: number): Draft {
    const detail = {
      keyRevision: 1,
      versionRevision: 1,
      suite: 'MLKEM768-P256',
      custody: 'sealed',
    };
    const created = {
      name: this.#name,
      purpose: 'wrap',
      labelNames: '[]',
      deletionProtection: false,
    };
    return this.#draft(lane, 'keys.create', 1, {
      ...detail,
      version: 1,
      ...created,
      publish: false,
    });
  }

  /** One of the changes that are possible now. */
  change(lane: number, choice: number): Draft {
    const possible = [
      () => this.#rotate(lane),
      () => (this.#state === 'suspended' ? this.#resume(lane) : this.#suspend(lane)),
      () => this.#deactivate(lane),
      () => this.#compromise(lane),
      () => this.#destroyVersion(lane),
      () => this.#raiseWindow(lane),
    ];
    const draft = possible[choice % possible.length]?.() ?? this.#rotate(lane);
    return draft;
  }

  destroy(lane: number): Draft {
    const changed = {
      primary: [this.#primary, null],
      destruction: [{ at: 'then', reason: 'r' }, null],
      destroyedAt: [null, '2026-01-01T00:00:00.000Z'],
    };
    this.#primary = null;
    this.#state = 'destroyed';
    const standing = this.#versions.at(-1);
    if (standing === undefined) throw new Error('no version');
    const before = standing.state;
    for (const version of this.#versions) {
      if (version.state === 'destroyed') continue;
      version.state = 'destroyed';
      version.revision += 1;
    }
    const state = before === 'destroyed' ? {} : { state: [before, 'destroyed'] };
    return this.#changed(
      lane,
      'keys.destroy',
      standing,
      { ...changed, ...state },
      { reason: 'over' },
    );
  }

  #rotate(lane: number, more: Record<string, unknown> = {}): Draft {
    const made = { version: this.#latest + 1, revision: 1, state: 'active' };
    const changed = {
      primary: [this.#primary, made.version],
      latestVersion: [this.#latest, made.version],
      ...more,
    };
    this.#versions.push(made);
    [this.#primary, this.#latest] = [made.version, made.version];
    return this.#changed(lane, 'keys.rotate', made, changed, { version: made.version });
  }

  #suspend(lane: number): Draft {
    this.#state = 'suspended';
    const changed = { suspension: [null, { at: 'now', reason: 'r' }] };
    return this.#changed(lane, 'keys.suspend', this.#standing(), changed, { reason: 'r' });
  }

  #resume(lane: number): Draft {
    this.#state = 'enabled';
    const changed = { suspension: [{ at: 'now', reason: 'r' }, null] };
    return this.#changed(lane, 'keys.resume', this.#standing(), changed, { reason: 'r' });
  }

  #deactivate(lane: number): Draft | undefined {
    const version = this.#versions.find(
      (each) => each.state === 'active' && each.version !== this.#primary,
    );
    return version && this.#transition(lane, 'versions.deactivate', version, 'deactivated');
  }

  #destroyVersion(lane: number): Draft | undefined {
    const version = this.#versions.find((each) => each.state === 'deactivated');
    return version && this.#transition(lane, 'versions.destroy', version, 'destroyed');
  }

  /** With a replacement: the entry is about the version that falls. */
  #compromise(lane: number): Draft | undefined {
    const version = this.#versions.find(
      (each) => each.version === this.#primary && each.state === 'active',
    );
    if (version === undefined) return undefined;
    const made = { version: this.#latest + 1, revision: 1, state: 'active' };
    const changed = {
      primary: [this.#primary, made.version],
      latestVersion: [this.#latest, made.version],
      state: [version.state, 'compromised'],
    };
    this.#versions.push(made);
    [this.#primary, this.#latest] = [made.version, made.version];
    version.state = 'compromised';
    version.revision += 1;
    const detail = { version: made.version, replacement: made.version, reason: 'r' };
    return this.#changed(lane, 'versions.compromise', version, changed, detail);
  }

  #raiseWindow(lane: number): Draft | undefined {
    if (this.#min >= this.#latest) return undefined;
    const changed = { minUsableVersion: [this.#min, this.#min + 1] };
    this.#min += 1;
    return this.#changed(lane, 'keys.update', this.#standing(), changed, {
      deletionProtection: false,
    });
  }

  #transition(lane: number, operation: string, version: ModelVersion, state: string): Draft {
    const changed = { state: [version.state, state] };
    version.state = state;
    version.revision += 1;
    return this.#changed(lane, operation, version, changed, { reason: 'r' });
  }

  #standing(): ModelVersion {
    const version = this.#versions[(this.#primary ?? this.#latest) - 1];
    if (version === undefined) throw new Error('no version');
    return version;
  }

  #changed(
    lane: number,
    operation: string,
    version: ModelVersion,
    changed: Record<string, unknown>,
    detail: Record<string, string | number | boolean>,
  ): Draft {
    this.#revision += 1;
    return this.#draft(lane, operation, version.version, {
      ...detail,
      keyRevision: this.#revision,
      versionRevision: version.revision,
      changed: JSON.stringify(changed),
    });
  }

  #draft(
    lane: number,
    operation: string,
    keyVersion: number,
    detail: NonNullable<Draft['detail']>,
  ): Draft {
    const { keyId, namespace } = this;
    return { lane, operation, keyId, keyVersion, namespace, detail };
  }
}
