/**
 * The service inside the server: over the keyring, with the provider as the principal.
 *
 * Each call is authorized by the policies about the service itself (P4) and has its audit entry, without
 * which nothing leaves (P3); one that a change overtook runs again (P5).
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Grant, Operation } from '../access/grant.ts';
import type { Authorizer } from '../access/ports.ts';
import { KUBERNETES } from '../access/system.ts';
import { NO_CIRCUMSTANCES, StaleAnswer, actorOf } from '../audit/ports.ts';
import type { AuditDraft, AuditEngine, AuditLog } from '../audit/ports.ts';
import { canonicalContext } from '../crypto/context.ts';
import { wipe } from '../crypto/secret.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { isUuid } from '../crypto/uuid.ts';
import type { EpochStanding, SecurityEpoch } from '../epoch.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import { versionOf } from '../keyring/catalog.ts';
import type { NamespacesInUse } from '../keyring/in-use.ts';
import type { KeyRead, KeyUse, KeyView, Used } from '../keyring/operations.ts';
import { recordsOf, requireProviderSuite, requireServing } from '../keyring/provider-record.ts';
import type { ProviderRecord } from '../keyring/provider-record.ts';
import type { Announcer } from './announcer.ts';
import { OpenedSeeds } from './opened-seeds.ts';
import type {
  KeyService,
  ProviderState,
  ProviderVersionState,
  Refused,
  Unwrapped,
  UseCounts,
  ValueContext,
} from './ports.ts';
import { nameOf } from './single-flight.ts';

/** How often a call runs before changes that keep overtaking it make it fail. */
const ATTEMPTS = 40;
const PAUSE_MS = 1;
const NO_AAD = new Uint8Array(0);

export interface KeyringServiceParts {
  readonly use: Pick<KeyUse, 'wrap' | 'unwrap'>;
  readonly read: Pick<KeyRead, 'fresh'>;
  readonly audit: Pick<AuditLog, 'record' | 'refusal' | 'leaving'>;
  /** By the policies about the service itself. */
  readonly authorizer: Pick<Authorizer, 'authorize'>;
  readonly epoch: SecurityEpoch;
  readonly namespaces: NamespacesInUse;
  readonly namespace: string;
  /** The key's own name. */
  readonly key: string;
  readonly cluster: string;
  readonly provider: string;
  readonly announcer: Pick<Announcer, 'consider' | 'register'>;
  readonly engineOf: (suite: string) => AuditEngine | null;
  readonly counts: UseCounts;
}

/** What one call is, for its audit entry. */
interface Asked {
  readonly operation: 'wrap' | 'unwrap';
  readonly context: ValueContext;
  readonly uid: string | null;
  readonly started: number;
  /** It was refused before, for another reason. */
  readonly isRefused: boolean;
  /** Once, however often the call runs. */
  readonly counted: Counted;
}

/** What one run of it came to know. */
interface Noted {
  keyId: string | null;
  used: Used | null;
  origin: AuditDraft['origin'];
  /** What refused it. */
  limit: string | null;
}

/** One call's count against limits; what the provider asks for its own Status has none. */
class Counted {
  readonly #counts: UseCounts | null;
  #taken: Promise<() => void> | null = null;

  constructor(counts: UseCounts, uid: string | null) {
    this.#counts = uid === null ? null : counts;
  }

  async once(): Promise<void> {
    this.#taken ??= this.#counts?.count() ?? null;
    await this.#taken;
  }

  async giveBack(): Promise<void> {
    const taken = this.#taken;
    this.#taken = null;
    (await taken?.catch(() => null))?.();
  }
}

export class KeyringService implements KeyService {
  readonly #parts: KeyringServiceParts;
  readonly #seeds: OpenedSeeds;

  constructor(parts: KeyringServiceParts) {
    this.#parts = parts;
    this.#seeds = new OpenedSeeds(parts.epoch);
  }

  /** Seeds remembered at the moment. */
  get cached(): number {
    return this.#seeds.size;
  }

  /** Wipes what is remembered. */
  close(): void {
    this.#seeds.clear();
  }

  async state(): Promise<ProviderState> {
    // First: of a namespace that is not there it says that the key is not.
    const view = await this.#parts.read.fresh(this.#grant('keys.read'));
    await this.#requireInUse();
    const record = await this.#recordOf(view);
    requireProviderSuite(findSuiteByNumber(versionOf(view, record.announced).suite));
    return providerState(view, record);
  }

  async wrap({
    plaintext,
    keyVersion,
    context,
    uid,
  }: Parameters<KeyService['wrap']>[0]): Promise<Uint8Array> {
    const asked = this.#asked('wrap', context, uid);
    return this.#recorded(asked, async (noted) => {
      const binding = { encryptionContext: context, aad: NO_AAD };
      const input = { plaintext, binding, keyVersion, ...notedBy(noted) };
      const { ciphertext } = await this.#parts.use.wrap(this.#grant('wrap', context), input);
      return ciphertext;
    });
  }

  async unwrap(request: Parameters<KeyService['unwrap']>[0]): Promise<Unwrapped> {
    const { envelope, context, uid } = request;
    const asked = this.#asked('unwrap', context, uid);
    const name = nameOf(request);
    return this.#recorded(
      asked,
      async (noted, standing) => {
        const grant = this.#grant('unwrap', context);
        const binding = { encryptionContext: context, aad: NO_AAD };
        const input = { ciphertext: envelope, binding, ...notedBy(noted) };
        const { plaintext, origin, used } = await this.#seeds.open(name, standing, () =>
          this.#parts.use.unwrap(grant, input),
        );
        noted.used = used;
        noted.origin = origin;
        return { plaintext, origin };
      },
      ({ plaintext }) => wipe(plaintext),
    );
  }

  refuse({ operation, context, uid, failure }: Refused): Promise<never> {
    const asked = { ...this.#asked(operation, context, uid), isRefused: true };
    return this.#recorded(asked, () => Promise.reject(failure));
  }

  /** Read once after a change of access, and remembered. @throws TwofoldError namespace_suspended */
  async #requireInUse(): Promise<void> {
    const { namespaces, namespace } = this.#parts;
    if (!(await namespaces.isInUse(namespace))) throw new TwofoldError('namespace_suspended');
  }

  #asked(operation: Asked['operation'], context: ValueContext, uid: string | null): Asked {
    const counted = new Counted(this.#parts.counts, uid);
    return { operation, context, uid, started: performance.now(), isRefused: false, counted };
  }

  async #recordOf(view: KeyView): Promise<ProviderRecord> {
    const { announcer, cluster, provider } = this.#parts;
    const record = recordsOf(view.key.labels).get(cluster);
    if (record === undefined) return announcer.register(view, cluster, provider);
    requireServing(record, { cluster, provider });
    announcer.consider(view);
    return record;
  }

  #grant<O extends Operation>(operation: O, encryptionContext?: ValueContext): Grant<O> {
    const { authorizer, namespace, key } = this.#parts;
    const facts = encryptionContext === undefined ? undefined : { encryptionContext };
    return authorizer.authorize(KUBERNETES, operation, { namespace, key }, facts);
  }

  /** Runs it until no change overtakes it; what is given and not answered is dropped. */
  async #recorded<T>(
    asked: Asked,
    run: (noted: Noted, standing: EpochStanding) => Promise<T>,
    drop: (unanswered: T) => void = () => undefined,
  ): Promise<T> {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      try {
        return await this.#attempt(asked, run, drop);
      } catch (error) {
        if (!(error instanceof StaleAnswer)) {
          if (ERRORS[TwofoldError.from(error).code].status >= 500) await asked.counted.giveBack();
          throw error;
        }
        await sleep(Math.random() * PAUSE_MS * attempt);
      }
    }
    throw new TwofoldError('conflict', 'Changes kept overtaking the request.');
  }

  async #attempt<T>(
    asked: Asked,
    run: (noted: Noted, standing: EpochStanding) => Promise<T>,
    drop: (unanswered: T) => void,
  ): Promise<T> {
    const { namespace, key, epoch, audit } = this.#parts;
    const standing = { epoch: epoch.current, namespace, keyId: null, keyName: key };
    const noted: Noted = { keyId: null, used: null, origin: null, limit: null };
    const refusal = audit.refusal(asked.operation);
    if (refusal !== null) {
      // Where no entry can be made, that is the refusal.
      if (refusal.code !== 'audit_unavailable') {
        await this.#record(asked, noted, refusal.code, standing);
      }
      throw refusal;
    }
    let given: T;
    try {
      // After the epoch was read: a suspension that comes later makes the entry stale.
      if (!asked.isRefused) await this.#requireInUse();
      await asked.counted.once();
      given = await run(noted, standing);
    } catch (error) {
      if (error instanceof StaleAnswer) throw error;
      const failure = TwofoldError.from(error);
      if (!this.#isSummed(asked, noted, failure)) {
        await this.#record(asked, noted, failure.code, standing);
      }
      throw failure;
    }
    try {
      const id = await this.#record(asked, noted, 'ok', standing);
      audit.leaving(id, standing);
      return given;
    } catch (error) {
      drop(given);
      throw error;
    }
  }

  #isSummed(asked: Asked, noted: Noted, failure: TwofoldError): boolean {
    noted.limit = this.#parts.counts.limitOf(failure);
    if (noted.limit === null) return false;
    return this.#parts.counts.isSummed(failure, this.#draft(asked, noted, failure.code));
  }

  /** @throws StaleAnswer, TwofoldError audit_unavailable */
  async #record(
    asked: Asked,
    noted: Noted,
    outcome: string,
    standing: EpochStanding,
  ): Promise<string> {
    try {
      return await this.#parts.audit.record(this.#draft(asked, noted, outcome), standing);
    } catch (error) {
      if (error instanceof StaleAnswer || TwofoldError.is(error, 'audit_unavailable')) throw error;
      throw new TwofoldError('audit_unavailable', undefined, { cause: error });
    }
  }

  #draft(asked: Asked, { keyId, used, origin, limit }: Noted, outcome: string): AuditDraft {
    const { operation, context, uid, started } = asked;
    const { namespace, key, engineOf } = this.#parts;
    const { decision } = this.#grant(operation, context);
    // As API servers make it: anything else could hold what no entry may.
    const named = uid !== null && isUuid(uid);
    return {
      ...NO_CIRCUMSTANCES,
      requestId: randomUUID(),
      actor: actorOf(KUBERNETES),
      operation,
      namespace,
      keyRef: key,
      keyId: used?.keyId ?? keyId,
      keyVersion: used?.keyVersion ?? null,
      suite: used?.suiteNumber ?? null,
      outcome,
      decision,
      engine: used === null ? null : engineOf(used.suite),
      origin,
      source: 'kubernetes',
      contextKeys: Object.keys(context).toSorted(),
      contextValues: canonicalContext({ encryptionContext: context }),
      aad: null,
      loggedContext: {},
      items: [],
      durationUs: Math.max(0, Math.round((performance.now() - started) * 1e3)),
      // Names of the configuration, which are no secret: whose values these are.
      detail: {
        ...context,
        ...(named && { uid }),
        ...(uid === null && { probe: true }),
        ...(limit !== null && { limit }),
      },
    };
  }
}

/** What a record says of the versions of its key. */
export function providerState(
  { key, versions }: KeyView,
  { announced, retired }: ProviderRecord,
): ProviderState {
  const states = versions
    .filter(({ state }) => state !== 'destroyed')
    .map(({ version }) => ({ version, state: stateOf(version, announced, retired) }));
  return { keyId: key.id, keyName: key.name, announced, versions: states };
}

function stateOf(version: number, announced: number, retired: number): ProviderVersionState {
  if (version > announced) return 'pending';
  return version <= retired ? 'retired' : 'active';
}

const notedBy = (noted: Noted) => ({
  onKey: (id: string) => {
    noted.keyId = id;
  },
  onSelected: (used: Used) => {
    noted.used = used;
  },
});
