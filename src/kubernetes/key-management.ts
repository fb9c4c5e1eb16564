/**
 * The KMS v2 service: Status, Encrypt and Decrypt by the protocol's rules, over a `KeyService`.
 *
 * Nothing that breaks a limit of the protocol is answered, nothing but what the service made is opened,
 * and no call takes longer than its deadline.
 */
import { SecretBytes, wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { within } from './deadline.ts';
import type { AnnouncedMemory, KeyService, Refused, ValueContext } from './ports.ts';
import type {
  DecryptRequest,
  DecryptResponse,
  EncryptRequest,
  EncryptResponse,
  StatusResponse,
} from './protocol.ts';
import { ProviderStatus } from './provider-status.ts';
import {
  MAX_KEY_ID,
  joinEnvelope,
  keyIdOf,
  parseKeyId,
  requireUnder,
  splitEnvelope,
} from './stored-value.ts';
import type { JoinedEnvelope } from './stored-value.ts';

/** Below the 3 s that an API server waits. */
export const DEADLINE_MS = 2_500;
export const STATUS_PERIOD_MS = 10_000;
/** A failed call may take 2.5 s, and an API server that is asked about its readiness asks every 3 s. */
const FAILED_PERIOD_MS = 2_000;
/** As long as a fail-over of the database may take. */
export const STATUS_GRACE_MS = 30_000;

/** The longest plaintext that can come back within the protocol's limit on ciphertexts. */
const MAX_PLAINTEXT = 1_024;
const LONGEST_UID = 256;

export interface KeyManagementOptions {
  readonly service: KeyService;
  /** `name` of the provider in the EncryptionConfiguration. */
  readonly provider: string;
  readonly cluster: string;
  /** The key's own name. */
  readonly key: string;
  readonly memory?: AnnouncedMemory | null;
  readonly deadlineMs?: number;
  readonly statusPeriodMs?: number;
  readonly statusGraceMs?: number;
  /** Monotonic, ms. */
  readonly now?: () => number;
}

/** How long the caller waits yet, ms; `Infinity` where it does not say. */
export interface Patience {
  readonly milliseconds: number;
}

type Bound = Pick<KeyManagementOptions, 'provider' | 'cluster' | 'key'>;

const boundTo = ({ provider, cluster, key }: Bound): ValueContext => ({
  'kubernetes/provider': provider,
  'kubernetes/cluster': cluster,
  'kubernetes/key': key,
});

/** What binds every value of a provider to it: a value of another cluster or version does not open. */
export const valueContext = (bound: Bound, version: number): ValueContext => ({
  ...boundTo(bound),
  'kubernetes/version': String(version),
});

const invalid = (detail: string) => new TwofoldError('invalid_value', detail);

function checkUid(uid: string): void {
  if (uid === '') throw invalid('The uid is empty.');
  if (Buffer.byteLength(uid) > LONGEST_UID) throw invalid('The uid is longer than 256 bytes.');
}

function checkEncrypt(plaintext: SecretBytes, uid: string): void {
  checkUid(uid);
  if (plaintext.length > MAX_PLAINTEXT) throw invalid('The plaintext is longer than 1024 bytes.');
}

/** What a check gives, or the refusal that it throws. */
function refusalOf<T>(check: () => T): T | TwofoldError {
  try {
    return check();
  } catch (error) {
    return TwofoldError.from(error);
  }
}

export class KeyManagement {
  readonly #options: KeyManagementOptions;
  readonly #status: ProviderStatus;

  constructor(options: KeyManagementOptions) {
    this.#options = options;
    this.#status = new ProviderStatus({
      service: options.service,
      key: options.key,
      contextOf: (version) => valueContext(options, version),
      periodMs: options.statusPeriodMs ?? STATUS_PERIOD_MS,
      failedPeriodMs: Math.min(FAILED_PERIOD_MS, options.statusPeriodMs ?? STATUS_PERIOD_MS),
      graceMs: options.statusGraceMs ?? STATUS_GRACE_MS,
      deadlineMs: this.#deadline({ milliseconds: Infinity }),
      memory: options.memory ?? null,
      now: options.now ?? (() => performance.now()),
    });
  }

  /** @throws TwofoldError as `ProviderStatus.tell`: what is not well is never answered, as that would extend writes */
  async status(): Promise<StatusResponse> {
    const { keyId } = await this.#status.tell();
    return { version: 'v2', healthz: 'ok', keyId };
  }

  /** Asks the service nothing more by itself. */
  close(): void {
    this.#status.close();
  }

  /**
   * Under the version that Status announced.
   * @param request its plaintext is wiped
   * @throws TwofoldError invalid_value for an empty uid or a plaintext that has no room, key_mismatch where the
   *   service sealed under another key; the service's
   */
  async encrypt(request: EncryptRequest, patience: Patience): Promise<EncryptResponse> {
    using plaintext = SecretBytes.own(request.plaintext);
    const refusal = refusalOf(() => checkEncrypt(plaintext, request.uid));
    if (refusal instanceof TwofoldError) {
      return await this.#refuse('wrap', request, refusal, patience);
    }
    const { envelope, keyId } = await within(this.#deadline(patience), async (signal) => {
      const { state, keyId } = await this.#status.standing();
      const { announced: keyVersion } = state;
      const context = valueContext(this.#options, keyVersion);
      const call = { plaintext, keyVersion, context, uid: request.uid };
      return { envelope: await this.#options.service.wrap(call, signal), keyId };
    });
    requireUnder(keyId, envelope);
    return { ...splitEnvelope(envelope), keyId };
  }

  /**
   * @returns a plaintext that is the caller's to wipe
   * @throws TwofoldError invalid_value, invalid_envelope, unknown_suite, unsupported_envelope_version,
   *   key_mismatch, version_not_usable, decryption_failed; the service's
   */
  async decrypt(request: DecryptRequest, patience: Patience): Promise<DecryptResponse> {
    const checked = refusalOf(() => this.#check(request));
    if (checked instanceof TwofoldError) return this.#refuse('unwrap', request, checked, patience);
    const { bytes, envelope } = checked;
    const context = valueContext(this.#options, envelope.keyVersion);
    const call = { envelope: bytes, context, uid: request.uid };
    const { plaintext, origin } = await within(
      this.#deadline(patience),
      (signal) => this.#options.service.unwrap(call, signal),
      (late) => wipe(late.plaintext),
    );
    using opened = plaintext;
    if (origin !== 'service') throw new TwofoldError('decryption_failed');
    return { plaintext: Uint8Array.from(opened.reveal()) };
  }

  /** What leaves the process is a refusal either way: with its trace, or for want of one. */
  #refuse(
    operation: Refused['operation'],
    { uid }: { readonly uid: string },
    failure: TwofoldError,
    patience: Patience,
  ): Promise<never> {
    const refused = { operation, context: boundTo(this.#options), uid, failure };
    return within(this.#deadline(patience), (signal) =>
      this.#options.service.refuse(refused, signal),
    );
  }

  #check(request: DecryptRequest): JoinedEnvelope {
    checkUid(request.uid);
    const joined = this.#envelopeOf(request);
    this.#checkVersion(joined.envelope);
    return joined;
  }

  #envelopeOf({ ciphertext, annotations, keyId }: DecryptRequest): JoinedEnvelope {
    if (Buffer.byteLength(keyId) > MAX_KEY_ID) throw invalid('The key_id is too long.');
    const { keyVersion, ...named } = parseKeyId(keyId);
    const joined = joinEnvelope({ ciphertext, annotations });
    const { envelope } = joined;
    if (keyIdOf(envelope) === keyIdOf({ ...named, keyVersion })) return joined;
    throw invalid('The key_id is not that of the ciphertext.');
  }

  /** As far as it is known: a value can be opened before the service has told where it stands. */
  #checkVersion({ keyId, keyVersion }: JoinedEnvelope['envelope']): void {
    const known = this.#status.known?.state;
    if (known === undefined) return;
    if (known.keyId !== keyId) throw new TwofoldError('key_mismatch');
    const retired = known.versions.some(
      ({ version, state }) => version === keyVersion && state === 'retired',
    );
    if (retired) {
      throw new TwofoldError(
        'version_not_usable',
        `Version ${String(keyVersion)} was retired for this provider.`,
      );
    }
  }

  #deadline({ milliseconds }: Patience): number {
    return Math.min(milliseconds, this.#options.deadlineMs ?? DEADLINE_MS);
  }
}
