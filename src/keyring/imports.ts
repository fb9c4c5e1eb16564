/**
 * Import of keys (docs/import.md). A classical or secret key is opened by the HSM alone; the seed of a
 * post-quantum key is in the clear from the envelope's opening until it is sealed. An imported key has
 * a suite of one half: the hybrid drafts forbid to bring a key of elsewhere into a hybrid.
 */
import { randomBytes, randomUUID } from 'node:crypto';

import type { Grant } from '../access/grant.ts';
import { wipe } from '../crypto/secret.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { isServiceRsaKey } from '../crypto/raw-public-key.ts';
import type { Suite } from '../crypto/suite.ts';
import { TwofoldError } from '../errors.ts';
import { Changes, OF_KEYS } from './changes.ts';
import type { ChangeParts, Plan } from './changes.ts';
import type { KeyCatalog } from './catalog.ts';
import { makeParameters, openContent, openParameters, toUnwrap } from './import-parameters.ts';
import type { ImportParameters, ImportParts, OpenedParameters } from './import-parameters.ts';
import { makePsk, requireAvailable, wrapCapabilityOf } from './material.ts';
import type { MadeMaterial, MaterialRequest } from './material.ts';
import type { Key, Labels, Purpose } from './model.ts';
import { checkName, mergeLabels } from './names.ts';
import { planNewVersion, writableCustody } from './new-version.ts';
import type { NewVersionParts } from './new-version.ts';
import type { ChangeDone, ChangeRun, PreparedChange } from './operations.ts';
import { requireNoRecords } from './provider-record.ts';
import { requireRoomToPublish } from './published.ts';
import type { PublishingParts } from './published.ts';
import { requirePublishable, requireServes } from './succession.ts';

const NOTHING = new Uint8Array(0);
const TRIAL_BYTES = 32;

export interface ImportKey {
  readonly name: string;
  readonly suite: Suite;
  readonly purpose?: Purpose;
  readonly labels: Labels;
  readonly deletionProtection: boolean;
  readonly publish: boolean;
  /** The text of import parameters. */
  readonly parameters: string;
  readonly envelope: Uint8Array;
  /** Raw; null for secret keys. */
  readonly publicKey: Uint8Array | null;
}

export interface KeyImports {
  /**
   * @throws TwofoldError import_not_offered for suites that take no keys from outside, suite_unavailable_here
   */
  parameters(grant: Grant<'keys.import-parameters'>, suite: Suite): Promise<ImportParameters>;
  /**
   * @throws TwofoldError import_parameters_invalid, import_parameters_expired, import_parameters_used,
   *   import_invalid, import_mismatch, and as `parameters` and the creation of a key do
   */
  import(grant: Grant<'keys.import'>, input: ImportKey, run: ChangeRun): Promise<ChangeDone>;
}

export interface KeyImportParts
  extends
    Omit<ChangeParts, 'integrity'>,
    Omit<NewVersionParts, 'maker'>,
    ImportParts,
    Pick<PublishingParts, 'mostPublished'> {
  readonly catalog: KeyCatalog;
}

/**
 * @throws TwofoldError import_not_offered with the reason
 */
export function requireImportable(suite: Suite): void {
  if (suite.pq !== null && suite.hsm !== null) {
    throw new TwofoldError(
      'import_not_offered',
      'The suite is a hybrid: its halves are made here, together, and serve nothing else.',
    );
  }
  if (suite.hsm !== null && wrapCapabilityOf(suite.hsm) === null) {
    throw new TwofoldError(
      'import_not_offered',
      'No token that is known unwraps private keys of this kind.',
    );
  }
}

/** The public key that is stated: of the suite's form, and none that is weak. */
function requirePublicKey(parts: ImportParts, suite: Suite, publicKey: Uint8Array | null): void {
  if (suite.kind === 'aead' || suite.kind === 'mac') {
    if (publicKey === null) return;
    throw new TwofoldError('invalid_value', 'A secret key has no public key.');
  }
  if (publicKey === null) {
    throw new TwofoldError('invalid_value', 'The public key is needed, to be compared.');
  }
  const halves =
    suite.pq === null
      ? { pq: NOTHING, classical: publicKey }
      : { pq: publicKey, classical: NOTHING };
  if (suite.kind === 'kem') suite.kem.joinPublicKey(parts.engine, halves);
  else suite.signer.joinPublicKey(halves);
  if (suite.hsm?.kind === 'rsa' && !isServiceRsaKey(suite.hsm.bits, publicKey)) {
    throw new TwofoldError('import_invalid', 'An RSA key has the exponent 65537 here.');
  }
}

const discardNothing = () => Promise.resolve();

export class ImportAdministration implements KeyImports {
  readonly #parts: KeyImportParts;
  readonly #changes: Changes<PreparedChange>;

  constructor(parts: KeyImportParts) {
    this.#parts = parts;
    this.#changes = new Changes({ ...parts, integrity: parts.catalog.integrity }, OF_KEYS);
  }

  async parameters({ namespace }: Grant<'keys.import-parameters'>, suite: Suite) {
    requireImportable(suite);
    requireAvailable(this.#parts.hsm, this.#parts.engine, suite);
    await writableCustody(this.#parts, suite, suite.hsm === null ? undefined : 'hsm-wrapped');
    return makeParameters(this.#parts, { namespace, suite, now: this.#parts.clock() });
  }

  import(grant: Grant<'keys.import'>, input: ImportKey, run: ChangeRun): Promise<ChangeDone> {
    return this.#changes.run(grant, run, () => this.#plan(grant, input, run));
  }

  async #plan(grant: Grant<'keys.import'>, input: ImportKey, run: ChangeRun): Promise<Plan> {
    const { suite, publicKey, name } = input;
    const { namespace } = grant;
    const now = this.#parts.clock();
    checkName(name);
    requireImportable(suite);
    const purpose = input.purpose ?? suite.class;
    requireServes(suite, purpose);
    requirePublishable(suite, input.publish);
    requirePublicKey(this.#parts, suite, publicKey);
    const custody = await writableCustody(
      this.#parts,
      suite,
      suite.hsm === null ? undefined : 'hsm-wrapped',
    );
    await this.#requireNewName(namespace, name);
    if (input.publish) await requireRoomToPublish(this.#parts, namespace);
    const opened = await openParameters(this.#parts, input.parameters, { namespace, suite, now });
    try {
      // Where it is real, the write says so in the transaction that makes the key.
      if (run.dryRun && (await this.#parts.store.isImportUsed(opened.id))) {
        throw new TwofoldError('import_parameters_used');
      }
      const key = keyOf(input, { namespace, purpose, now });
      const make = (request: MaterialRequest) => this.#material(opened, input, request);
      const parts = { ...this.#parts, maker: { make } };
      const wanted = { before: null, key, suite, custody, origin: 'imported' } as const;
      const plan = await planNewVersion(parts, wanted, run.dryRun);
      const { id, expiresAt } = opened;
      const detail = { ...plan.change.detail, importParameters: id };
      const used = { kind: 'use-import', id, expiresAt } as const;
      return { ...plan, change: { ...plan.change, detail }, writes: [used, ...plan.writes] };
    } finally {
      wipe(opened.seed);
    }
  }

  async #material(
    opened: OpenedParameters,
    { envelope, publicKey }: ImportKey,
    request: MaterialRequest,
  ): Promise<MadeMaterial> {
    const content = await openContent(this.#parts, opened, { envelope, publicKey });
    try {
      const { suite } = request;
      const half =
        suite.hsm === null
          ? { classical: null, pq: await this.#seed(request, content, publicKey ?? NOTHING) }
          : { classical: await this.#classical(opened, content, publicKey), pq: null };
      const material = { ...half, psk: await makePsk(this.#parts, request) };
      return { material, objectId: null, discard: discardNothing };
    } finally {
      wipe(content);
    }
  }

  async #classical(opened: OpenedParameters, content: SecretBytes, publicKey: Uint8Array | null) {
    const { hsm: spec } = opened.suite;
    if (spec === null) throw new TwofoldError('internal');
    const wrapped = toUnwrap(opened, content.reveal(), publicKey);
    return { public: publicKey, hsm: await this.#parts.hsm.importKey(spec, wrapped) };
  }

  /** Sealed only after it was used with the public key that was stated. */
  async #seed({ suite, keyId, version }: MaterialRequest, seed: SecretBytes, stated: Uint8Array) {
    const length = suite.parts[0]?.seedLength;
    if (seed.length !== length) {
      throw new TwofoldError('import_invalid', `The seed does not have ${String(length)} bytes.`);
    }
    const publicKey = await this.#publicKeyOf(suite, seed);
    if (!equalBytes(publicKey, stated)) throw new TwofoldError('import_mismatch');
    await this.#try(suite, seed, publicKey);
    const binding = { keyId, version, suite: suite.number, part: 'pq' } as const;
    return { public: publicKey, half: await this.#parts.root.seal(seed, binding) };
  }

  async #publicKeyOf(suite: Suite, seed: SecretBytes): Promise<Uint8Array> {
    const { mlKem, signatures } = this.#parts.engine;
    if (suite.kind === 'kem' && suite.pq !== null) return mlKem.publicKey(suite.pq, seed);
    if (suite.kind === 'signature' && suite.pq !== null) {
      return signatures.publicKey(suite.pq, seed);
    }
    throw new TwofoldError('internal');
  }

  /** As a new pair is tried before it is given out (FIPS 140-3 IG 10.3.A). */
  async #try(suite: Suite, seed: SecretBytes, publicKey: Uint8Array): Promise<void> {
    const { mlKem, signatures } = this.#parts.engine;
    if (suite.kind === 'kem' && suite.pq !== null) {
      const key = mlKem.importSeed(suite.pq, seed);
      const { sharedSecret, ciphertext } = await mlKem.encapsulate(suite.pq, publicKey);
      const back = await key.decapsulate(ciphertext).finally(() => key.release());
      const agrees = equalBytes(back.reveal(), sharedSecret.reveal());
      wipe(back, sharedSecret);
      if (!agrees) throw new TwofoldError('import_mismatch');
    } else if (suite.kind === 'signature' && suite.pq !== null) {
      const key = signatures.importSeed(suite.pq, seed);
      const trial = randomBytes(TRIAL_BYTES);
      const signature = await key.sign(trial, NOTHING).finally(() => key.release());
      const verifies = await signatures.verify(suite.pq, publicKey, trial, signature, NOTHING);
      if (!verifies) throw new TwofoldError('import_mismatch');
    }
  }

  async #requireNewName(namespace: string, name: string): Promise<void> {
    const { store, epoch } = this.#parts;
    const existing = await store.find(namespace, { name }, epoch.current);
    if (existing === null) return;
    throw new TwofoldError(existing.key.value.destroyedAt === null ? 'key_exists' : 'name_retired');
  }
}

function keyOf(
  input: ImportKey,
  { namespace, purpose, now }: { namespace: string; purpose: Purpose; now: Date },
): Key {
  const labels = mergeLabels({}, input.labels);
  requireNoRecords(labels);
  return {
    id: randomUUID(),
    namespace,
    name: input.name,
    aliases: [],
    purpose,
    labels,
    rotation: null,
    rotationHold: null,
    deletionProtection: input.deletionProtection,
    origin: 'imported',
    exportable: false,
    exports: [],
    publish: input.publish,
    primary: 1,
    minUsableVersion: 1,
    latestVersion: 1,
    suspension: null,
    destruction: null,
    destroyedAt: null,
    createdAt: now,
    revision: 1,
  };
}
