/**
 * The keyring's operations as the routes call them. Every one redeems a grant (promise P4).
 *
 * Errors are `TwofoldError`s: `key_not_found`, `version_not_found`, `wrong_purpose`,
 * `version_not_usable`, `suite_unavailable_here`, `zone_lacks_material`, `hsm_*`, `integrity_failed`,
 * plus those named at each operation. Secret results are the caller's to wipe.
 */
import type { Grant } from '../access/grant.ts';
import type { RequestFacts } from '../audit/ports.ts';
import type { CertificateChain } from '../crypto/certificate-chain.ts';
import type { RequestContent } from '../crypto/csr.ts';
import type { FlattenedJws } from '../crypto/jws.ts';
import type { ExportedKey, ExportRecipient } from '../crypto/export-envelope.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import type { Suite } from '../crypto/suite.ts';
import type { Settled } from '../settled.ts';
import type { Key, KeyVersion, Labels, Purpose, Tombstone } from './model.ts';
import type { AfterUser, KeyWrite } from './ports.ts';
import type { Announcement } from './announcement.ts';
import type { KeyPolicyEffects } from './policy-effects.ts';
import type { PolicyTerms } from './rotation-policy.ts';
import type { KeyUses, UsesAbout, VersionUser } from './use-report.ts';

/** What was used; part of every crypto answer and of its audit entry. */
export interface Used {
  readonly key: string;
  readonly keyId: string;
  readonly keyVersion: number;
  /** Suite id. */
  readonly suite: string;
  readonly suiteNumber: number;
}

/** What a ciphertext is bound to; both are non-secret and must be given again to open it. */
export interface Binding {
  readonly encryptionContext: Readonly<Record<string, string>>;
  readonly aad: Uint8Array;
}

/** `anyone`: made with the public key alone; `service`: also bound to a secret of the key version. */
export type Origin = 'anyone' | 'service';

export type DigestAlgorithm = 'SHA-256' | 'SHA-384' | 'SHA-512';

/**
 * What is signed: the message, its digest by the suite's pre-hash, or ML-DSA's mu (FIPS 204 algorithm
 * 7 line 6, 64 bytes). `invalid_value` for one that the suite does not take, or a context beside mu.
 */
export type SignInput =
  | { readonly message: Uint8Array }
  | { readonly digest: { readonly algorithm: DigestAlgorithm; readonly value: Uint8Array } }
  | { readonly mu: Uint8Array };

/** Told what is used as soon as it is known, so that a failed use is recorded with it. */
export interface Selecting {
  /** The key, before a version of it is looked for. */
  readonly onKey?: ((id: string) => void) | undefined;
  readonly onSelected?: ((used: Used) => void) | undefined;
}

export interface WrapInput extends Selecting {
  readonly plaintext: SecretBytes;
  readonly binding: Binding;
  /** Defaults to the primary. */
  readonly keyVersion?: number;
}

export interface Wrapped {
  readonly used: Used;
  /** The binary envelope. */
  readonly ciphertext: Uint8Array;
  readonly refreshAfter: Date | null;
}

export interface UnwrapInput extends Selecting {
  readonly ciphertext: Uint8Array;
  readonly binding: Binding;
}

export interface Opened {
  readonly used: Used;
  readonly plaintext: SecretBytes;
  readonly origin: Origin;
}

export interface Rewrapped {
  readonly used: Used;
  /** What the ciphertext was opened with. */
  readonly from: Used;
  readonly ciphertext: Uint8Array;
  readonly changed: boolean;
}

export interface KeyUse {
  wrap(
    grant: Grant<'wrap'> | Grant<'data-keys.create'> | Grant<'data-keys.create-wrapped'>,
    input: WrapInput,
  ): Promise<Wrapped>;
  /** Each item as by `wrap`, in order. Never rejects: what concerns the key is every item's error. */
  wrapMany(
    grant: Grant<'wrap'>,
    inputs: readonly WrapInput[],
  ): Promise<readonly Settled<Wrapped>[]>;
  /** `key_mismatch` when the envelope names another key; `decryption_failed` for everything after that. */
  unwrap(grant: Grant<'unwrap'>, input: UnwrapInput): Promise<Opened>;
  /** Each item as by `unwrap`, in order. Never rejects. */
  unwrapMany(
    grant: Grant<'unwrap'>,
    inputs: readonly UnwrapInput[],
  ): Promise<readonly Settled<Opened>[]>;
  /**
   * To the primary of `to` (default: of the same key; another key takes a grant of its own).
   * `changed: false` and the same bytes when it is there already. `origin_would_rise` as in the design.
   */
  rewrap(
    grant: Grant<'rewrap'>,
    to: Grant<'rewrap'> | null,
    input: UnwrapInput,
  ): Promise<Rewrapped>;
  /** Each item as by `rewrap`, in order. Never rejects: what concerns a key is every item's error. */
  rewrapMany(
    grant: Grant<'rewrap'>,
    to: Grant<'rewrap'> | null,
    inputs: readonly UnwrapInput[],
  ): Promise<readonly Settled<Rewrapped>[]>;
  /** For keys of purpose `kem`: 32 bytes of HPKE export, never the KEM secret. */
  encapsulate(
    grant: Grant<'encapsulate'>,
    input: { readonly keyVersion?: number } & Selecting,
  ): Promise<{
    readonly used: Used;
    readonly sharedSecret: SecretBytes;
    readonly encapsulation: Uint8Array;
  }>;
  decapsulate(
    grant: Grant<'decapsulate'>,
    input: { readonly encapsulation: Uint8Array; readonly keyVersion: number } & Selecting,
  ): Promise<{ readonly used: Used; readonly sharedSecret: SecretBytes }>;
  sign(
    grant: Grant<'sign'>,
    input: SignInput & {
      readonly signatureContext: Uint8Array;
      readonly keyVersion?: number;
    } & Selecting,
  ): Promise<{ readonly used: Used; readonly signature: Uint8Array }>;
  /** Without `keyVersion`: `ambiguous_version` when several versions are usable. */
  verify(
    grant: Grant<'verify'>,
    input: SignInput & {
      readonly signatureContext: Uint8Array;
      readonly signature: Uint8Array;
      readonly keyVersion?: number;
    } & Selecting,
  ): Promise<{ readonly used: Used; readonly valid: boolean }>;
  /** A JWS over a payload; `kid` is `<key UUID>.<version>`. `invalid_value` without a JOSE name. */
  signJws(
    grant: Grant<'sign'>,
    input: { readonly payload: Uint8Array; readonly keyVersion?: number } & Selecting,
  ): Promise<{ readonly used: Used; readonly jws: FlattenedJws }>;
  /**
   * A compact JWS, strictly: `invalid_value` when it is malformed or its `alg` is not that of the key,
   * `key_mismatch` when its `kid` is one of ours and names another key.
   */
  verifyJws(
    grant: Grant<'verify'>,
    input: { readonly jws: string; readonly keyVersion?: number } & Selecting,
  ): Promise<{ readonly used: Used; readonly valid: boolean }>;
  /** A certification request (PKCS #10) in PEM. `invalid_value` without an X.509 identifier. */
  requestCertificate(
    grant: Grant<'csr'>,
    input: { readonly content: RequestContent; readonly keyVersion?: number } & Selecting,
  ): Promise<{ readonly used: Used; readonly pem: string }>;
  mac(
    grant: Grant<'mac'>,
    input: { readonly message: Uint8Array; readonly keyVersion?: number } & Selecting,
  ): Promise<{ readonly used: Used; readonly mac: SecretBytes }>;
  verifyMac(
    grant: Grant<'verify-mac'>,
    input: {
      readonly message: Uint8Array;
      readonly mac: Uint8Array;
      readonly keyVersion?: number;
    } & Selecting,
  ): Promise<{ readonly used: Used; readonly valid: boolean }>;
  /** 1 to 4,096 bytes from the HSM. */
  random(
    grant: Grant<'random'> | Grant<'data-keys.create'> | Grant<'data-keys.create-wrapped'>,
    bytes: number,
  ): Promise<SecretBytes>;
}

/** A key with its versions, MACs verified. */
export interface KeyView {
  readonly key: Key;
  /** Ascending. */
  readonly versions: readonly KeyVersion[];
}

/** A key of a list. */
export interface KeySummary {
  readonly key: Key;
  readonly primary: KeyVersion | null;
}

export interface CertificateChainView {
  readonly view: KeyView;
  /** Canonical PEM, leaf first. */
  readonly pem: string;
  readonly chain: CertificateChain;
}

export interface KeyRead {
  get(grant: Grant<'keys.read'>): Promise<KeyView>;
  /** As it stands in the database now, past every cache. */
  fresh(grant: Grant<'keys.read'>): Promise<KeyView>;
  /** Of the destroyed versions of a view that `get` answered, by number. */
  tombstones(grant: Grant<'keys.read'>, view: KeyView): Promise<ReadonlyMap<number, Tombstone>>;
  /** `not_found` when the version has no chain; `integrity_failed` when it is not the one attested. */
  certificateChain(grant: Grant<'keys.read'>, version: number): Promise<CertificateChainView>;
  /** How much versions were used, a page of them ascending. @throws as `get`, database_unavailable */
  uses(
    grant: Grant<'versions.uses'>,
    query: { readonly pageSize: number; readonly afterVersion: number },
  ): Promise<{
    readonly view: KeyView;
    /** The versions of the page. */
    readonly versions: readonly KeyVersion[];
    readonly uses: KeyUses;
    readonly nextVersion: number | null;
  }>;
  /** Who used one version, the most recent first. `version_not_found`, and as `uses`. */
  users(
    grant: Grant<'versions.uses'>,
    query: {
      readonly version: number;
      readonly pageSize: number;
      readonly after: AfterUser | null;
    },
  ): Promise<{
    readonly view: KeyView;
    readonly items: readonly VersionUser[];
    readonly next: AfterUser | null;
  }>;
  list(
    grant: Grant<'keys.list'>,
    query: {
      readonly pageSize: number;
      readonly afterName: string | null;
      readonly namePrefix: string | null;
      readonly labels: Labels;
      /** Number of a suite that the key has a version of. */
      readonly suite: number | null;
      readonly state: 'enabled' | 'suspended' | 'pending-destruction' | 'destroyed' | null;
    },
  ): Promise<{ readonly items: readonly KeySummary[]; readonly nextName: string | null }>;
}

/** A published key as it stood at a generation; null for every other. */
export interface PublishedView {
  readonly view: KeyView | null;
  readonly generation: number;
}

/** Keys that are published: what is shown without a token, and so the one reading without a grant. */
export interface PublishedKeys {
  /**
   * By name or id; null for every key that is not published, or not enabled, and for what is no key.
   * Asks the database for no name that is not a published key's.
   * @throws TwofoldError integrity_failed, database_unavailable, conflict
   */
  find(namespace: string, ref: string): Promise<PublishedView>;
  /** Rises with every change of any key: what was made under another one is no longer current. */
  readonly generation: number;
}

export interface CreateKey {
  readonly name: string;
  readonly suite: Suite;
  /** Only `kem` needs to be said: a KEM suite serves `wrap` otherwise. */
  readonly purpose?: Purpose;
  readonly labels: Labels;
  readonly deletionProtection: boolean;
  /** Whether its public keys are shown without a token; false unless told. */
  readonly publish?: boolean;
  /** Naming `hsm-token` accepts that the key lives and dies with one token. */
  readonly custody?: 'hsm-wrapped' | 'hsm-token';
  /** When its version activates by itself; at once unless told. */
  readonly activateAt?: Date;
  /** Whether its versions may leave, sealed and approved; false unless told. */
  readonly exportable?: boolean;
}

export interface ExportKey {
  readonly version: number;
  readonly recipient: ExportRecipient;
}

export interface RotateKey {
  /** That of the primary unless told. */
  readonly suite?: Suite;
  /** Naming `hsm-token` accepts that the new version lives and dies with the token of who carries this out. */
  readonly custody?: 'hsm-wrapped' | 'hsm-token';
  /** When the new version activates by itself and becomes the primary; at once unless told. */
  readonly activateAt?: Date;
}

/** Absent members are left as they are; a label set to null is removed. */
export interface UpdateKey {
  readonly labels?: Readonly<Record<string, string | null>>;
  readonly deletionProtection?: boolean;
  readonly publish?: boolean;
  /** At most the primary version: `invalid_value` otherwise. */
  readonly minUsableVersion?: number;
  /** Whether the records of Kubernetes providers may announce a later version: the service itself. */
  readonly announcing?: boolean;
}

/** @see KeyManage */
export interface SetPrimary {
  readonly version: number;
  readonly reason: string;
  /** Without it a key never falls back from a suite that withstands a quantum computer. */
  readonly acceptQuantumVulnerable: boolean;
}

/**
 * A change that was checked and prepared but not yet committed. `Changes` commits it with its audit
 * entry (`AuditLog.change`); a dry run shows `after` and drops it.
 */
export interface PreparedChange {
  readonly before: KeyView | null;
  readonly after: KeyView;
  readonly used: Used;
  /** Non-secret facts for the audit entry. */
  readonly detail: Readonly<Record<string, string | number | boolean | null>>;
  /** Of a dry run: how much what it is about was used. */
  readonly uses?: UsesAbout;
  /** Of the dry run of a change of its rotation policy. */
  readonly effects?: KeyPolicyEffects;
  /** Of an export. */
  readonly exported?: ExportedKey;
  /** Of a key that is to be destroyed: what its destroyed versions leave. */
  readonly tombstones?: ReadonlyMap<number, Tombstone>;
  /** Names and ids of other keys that the change touches: of the one that loses an alias. */
  readonly also?: readonly string[];
  /** The key that loses an alias to this one, as it was. */
  readonly from?: KeyView;
  /**
   * False when the wanted state was there already: no row changes, but the entry and the record of
   * the idempotency key are written and the epoch rises, as with every change.
   */
  readonly changes: boolean;
}

/** The order of changes of one key in this process, also for a use that they keep overtaking. */
export interface ChangeOrder {
  /**
   * Resolves in the request's turn, which lasts until it has `ended` (which never rejects), however
   * often it runs; at once while it is its turn. An `urgent` one (a suspension) waits a short time and
   * then goes ahead without a turn: what it overtakes finds the key suspended and is undone.
   * @throws TwofoldError conflict when its turn did not come in time
   */
  take(
    keyId: string,
    requestId: string,
    ended: Promise<unknown>,
    urgency?: 'urgent',
  ): Promise<void>;
}

/** What is done to a key's own policy; `If-Match` is the caller's to demand. `isPaused`: as the caller believes. */
export type PolicyChange =
  | { readonly kind: 'set'; readonly terms: PolicyTerms; readonly isPaused?: boolean }
  | { readonly kind: 'delete' }
  | { readonly kind: 'pause'; readonly reason: string }
  | { readonly kind: 'resume'; readonly reason: string };

export interface KeyManage {
  /**
   * Seals the seed of a version to the recipient. Stands on an approval always.
   * @throws TwofoldError key_not_exportable, export_not_offered for suites with a half in the HSM,
   *   approval_rule_missing, version_not_found, version_not_usable, quota_exceeded, invalid_value
   */
  export(grant: Grant<'keys.export'>, input: ExportKey, run: ChangeRun): Promise<ChangeDone>;
  create(grant: Grant<'keys.create'>, input: CreateKey, run: ChangeRun): Promise<ChangeDone>;
  update(grant: Grant<'keys.update'>, input: UpdateKey, run: ChangeRun): Promise<ChangeDone>;
  rotate(grant: Grant<'keys.rotate'>, input: RotateKey, run: ChangeRun): Promise<ChangeDone>;
  /** `version_not_usable` when the version could not protect; `suite_unavailable_here` for a fallback. */
  setPrimary(
    grant: Grant<'keys.set-primary'>,
    input: SetPrimary,
    run: ChangeRun,
  ): Promise<ChangeDone>;
  /** `invalid_value` for terms that cannot be, `not_found` where there is no policy to change. */
  changeRotation(
    grant: Grant<'keys.set-rotation'>,
    input: PolicyChange,
    run: ChangeRun,
  ): Promise<ChangeDone>;
  /** Deactivates a version before the primary and closes it with all before it. */
  retireVersion(
    grant: Grant<'versions.retire'>,
    input: { readonly version: number; readonly reason: string },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  /** Writes that something will happen, and changes nothing. */
  announce(grant: Grant<'keys.announce'>, input: Announcement, run: ChangeRun): Promise<ChangeDone>;
  /**
   * Another name for the key. `key_exists` when it names a key already, unless that is the key of
   * `from`, of which it is taken in the same change; `not_found` when that key has no such alias.
   */
  putAlias(
    grant: Grant<'keys.put-alias'>,
    input: { readonly alias: string; readonly from: Grant<'keys.put-alias'> | null },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  deleteAlias(
    grant: Grant<'keys.delete-alias'>,
    input: { readonly alias: string },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  suspend(
    grant: Grant<'keys.suspend'>,
    input: { readonly reason: string },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  resume(
    grant: Grant<'keys.resume'>,
    input: { readonly reason: string },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  suspendVersion(
    grant: Grant<'versions.suspend'>,
    input: { readonly version: number; readonly reason: string },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  resumeVersion(
    grant: Grant<'versions.resume'>,
    input: { readonly version: number; readonly reason: string },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  /** `invalid_value` when the leaf is of another key or the chain is not one. */
  putCertificateChain(
    grant: Grant<'versions.put-certificates'>,
    input: PutCertificateChain,
    run: ChangeRun,
  ): Promise<ChangeDone>;
  deleteCertificateChain(
    grant: Grant<'versions.delete-certificates'>,
    input: { readonly version: number },
    run: ChangeRun,
  ): Promise<ChangeDone>;
}

/** @see KeyManage */
export interface PutCertificateChain {
  readonly version: number;
  /** Strict PEM, leaf first. */
  readonly pem: string;
}

/**
 * How a change runs: with `dryRun` nothing is made or written (`create` and `rotate` make no
 * material; `after` shows what would exist, versions without material omitted).
 * `render` comes from the route: it makes the answer that is kept under the
 * idempotency key, in the same transaction as the effect.
 */
export interface ChangeRun<C = PreparedChange> {
  readonly dryRun: boolean;
  readonly requestId: string;
  /** Resolves once the request will not run again; its turn among changes of the key lasts until then. */
  readonly ended: Promise<unknown>;
  readonly source: string;
  /** What the entry says of the request beside it; absent of what no request caused. */
  readonly request?: () => RequestFacts;
  readonly ifMatch: number | null;
  readonly idempotency: { readonly key: string; readonly requestHash: Uint8Array } | null;
  readonly render: (change: C) => { readonly status: number; readonly body: string };
  /** Rows that are written in the same transaction, whatever the change is: why it was made. */
  readonly alongside?: readonly KeyWrite[];
  /** What its audit entry says beside the change: on whose order or approval it was made. */
  readonly because?: PreparedChange['detail'];
  /** Asked once it is known that the request was not done before; throws what stands in its way. */
  readonly admit?: () => void;
}

/** What a change stands on beside its permission, and spends in its own transaction. */
export type Backing = Required<Pick<ChangeRun, 'alongside' | 'admit' | 'because'>>;

export interface ChangeDone<C = PreparedChange> {
  readonly change: C | null;
  readonly status: number;
  /** JSON of the answer. */
  readonly body: string;
  /** The id of the entry; that of the first request when `replayed`. */
  readonly auditId: string | null;
  /** Answered from the idempotency record; nothing was done. */
  readonly replayed: boolean;
}
