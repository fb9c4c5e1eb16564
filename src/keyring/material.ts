/**
 * Makes the material of a new key version: the classical half in the HSM, the post-quantum half in
 * software and sealed at once; a suite of one half has just that. The halves are generated separately, from no common seed
 * (draft-irtf-cfrg-hybrid-kems permits it for HSMs), and never enter another suite.
 */
import { randomBytes, randomUUID } from 'node:crypto';

import { concatBytes, uint32 } from '../crypto/bytes.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import type { Engine, SeedPair } from '../crypto/engine.ts';
import type { HsmKeySpec } from '../crypto/hsm-key.ts';
import type { Suite } from '../crypto/suite.ts';
import { TwofoldError } from '../errors.ts';
import { GenerationTimes } from './generation-times.ts';
import type { GenerationMeasures, GenerationTime, MeasuredGeneration } from './generation-times.ts';
import type { Hsm, HsmKey, HsmMaterial } from '../hsm/port.ts';
import type { Material } from './model.ts';
import type { KeyStore } from './ports.ts';
import type { Root } from './root.ts';
import { attestIntent } from './row-mac.ts';

const PSK_LENGTH = 32;

/** The capability name that `Hsm.status()` lists for a key. */
export function capabilityOf(spec: HsmKeySpec): string {
  switch (spec.kind) {
    case 'ec':
      return `${spec.use === 'derive' ? 'ecdh' : 'ecdsa'}:${spec.curve}`;
    case 'x25519':
    case 'ed25519':
      return spec.kind;
    case 'rsa':
      return `rsa-${spec.use === 'sign' ? spec.padding : 'oaep'}:${spec.hash}`;
    case 'aes':
      return 'aes-gcm';
    case 'hmac':
      return `hmac:${spec.hash}`;
  }
}

/** The capability by which keys of each kind leave the token; null: no token that we know lets them. */
const WRAP_OF: Readonly<Record<HsmKeySpec['kind'], string | null>> = {
  ec: 'wrap:ec',
  x25519: null,
  ed25519: null,
  rsa: 'wrap:rsa',
  aes: 'wrap',
  hmac: 'wrap',
};

export function wrapCapabilityOf(spec: HsmKeySpec): string | null {
  return WRAP_OF[spec.kind];
}

/** Why a suite cannot be served here, in words; null when it can. */
export function unavailability(hsm: Hsm, engine: Engine, suite: Suite): string | null {
  if (suite.pq !== null && engine.implementationOf(suite.pq) === null) {
    return `The self-test of ${suite.pq} failed.`;
  }
  if (suite.hsm === null) return null;
  const name = capabilityOf(suite.hsm);
  const capability = hsm.status().capabilities.find((candidate) => candidate.name === name);
  if (capability === undefined) return `The token was not probed for ${name}.`;
  return capability.available ? null : capability.reason;
}

/** @throws TwofoldError suite_unavailable_here with the reason */
export function requireAvailable(hsm: Hsm, engine: Engine, suite: Suite): void {
  const reason = unavailability(hsm, engine, suite);
  if (reason !== null) throw new TwofoldError('suite_unavailable_here', reason);
}

/** The HSM key of a version's classical half. */
export function classicalKey(
  spec: HsmKeySpec,
  keyId: string,
  version: number,
  hsm: HsmMaterial,
): HsmKey {
  return { id: handleId(keyId, version), spec, material: hsm };
}

export function handleId(keyId: string, version: number): string {
  return `${keyId}/${String(version)}`;
}

const ATTEMPT_LENGTH = 8;

/**
 * CKA_ID of a token key: installation (16 bytes) ‖ first 8 bytes of the key id ‖ 8 random bytes ‖
 * u32 version ‖ u8 part. An orphan names its origin, and two attempts at one version, of which one
 * is undone, never share an object.
 */
export function tokenObjectId(installation: string, keyId: string, version: number): Uint8Array {
  const uuid = (text: string) => Buffer.from(text.replaceAll('-', ''), 'hex');
  return concatBytes(
    uuid(installation),
    uuid(keyId).subarray(0, ATTEMPT_LENGTH),
    randomBytes(ATTEMPT_LENGTH),
    uint32(version),
    Uint8Array.of(1),
  );
}

export type Custody = 'hsm-wrapped' | 'hsm-token';

/** The custody of a new classical half that the token can give, wrapped where it can. */
export function usualCustody(hsm: Hsm, suite: Suite): Custody | null {
  if (suite.hsm === null) return null;
  const wrapping = wrapCapabilityOf(suite.hsm);
  const found = hsm.status().capabilities.find(({ name }) => name === wrapping);
  return wrapping === null || found?.available === false ? 'hsm-token' : 'hsm-wrapped';
}

/**
 * Where the classical half of a new version lives; null where the suite has none. X25519 and Ed25519
 * keys cannot be wrapped by the tokens we know, and some tokens wrap no private key at all; those live
 * on the token only where the request says so, or where `named` is false and there is no other way.
 *
 * @throws TwofoldError suite_unavailable_here with the reason; invalid_value for a custody that is
 *   asked for a suite without a half in the HSM
 */
export function custodyFor(
  hsm: Hsm,
  suite: Suite,
  wanted: Custody | undefined,
  named = false,
): Custody | null {
  if (suite.hsm === null) {
    if (wanted === undefined) return null;
    throw new TwofoldError('invalid_value', 'The suite has no half in the HSM; name no custody.');
  }
  const wrapping = wrapCapabilityOf(suite.hsm);
  const onTokenOnly = wrapping === null;
  if (wanted === 'hsm-wrapped' && onTokenOnly) {
    throw new TwofoldError(
      'suite_unavailable_here',
      'The classical half of this suite cannot be wrapped; its custody is hsm-token.',
    );
  }
  if (named && wanted === undefined && onTokenOnly) {
    throw new TwofoldError(
      'suite_unavailable_here',
      'The classical half of this suite lives and dies with the token of one zone; name the custody hsm-token.',
    );
  }
  const custody = wanted ?? (onTokenOnly ? 'hsm-token' : 'hsm-wrapped');
  const unwrappable = hsm.status().capabilities.find(({ name }) => name === wrapping);
  if (custody === 'hsm-wrapped' && unwrappable?.available === false) {
    throw new TwofoldError(
      'suite_unavailable_here',
      `Keys of this suite cannot be wrapped here (${unwrappable.reason}); name the custody hsm-token.`,
    );
  }
  return custody;
}

export interface MaterialRequest {
  readonly suite: Suite;
  readonly keyId: string;
  readonly version: number;
  /** Null where the suite has no half in the HSM. */
  readonly custody: Custody | null;
}

/** Material plus how to undo it, for a change that then does not commit. */
export interface MadeMaterial {
  readonly material: Material;
  /** The intent to complete in the commit; null for `hsm-wrapped`. */
  readonly objectId: Uint8Array | null;
  /** Never rejects: what it could not remove, the intent names for the next start. */
  readonly discard: () => Promise<void>;
}

/** What a token that cannot make a key now answers; whoever only wants to know how long it takes goes without. */
const NOT_NOW = ['hsm_unavailable', 'hsm_busy', 'hsm_full', 'suite_unavailable_here'] as const;
/** Of a suite that was not made here yet; one before them is not counted, since it includes self-tests. */
const TRIALS = 3;

export class MaterialMaker implements GenerationMeasures {
  readonly #hsm: Hsm;
  readonly #engine: Engine;
  readonly #root: Root;
  readonly #store: KeyStore;
  readonly #instance: string;
  readonly #times = new GenerationTimes();
  /** Of trials, which what was made for use displaces. */
  readonly #trials = new GenerationTimes();

  constructor(parts: { hsm: Hsm; engine: Engine; root: Root; store: KeyStore; instance: string }) {
    this.#hsm = parts.hsm;
    this.#engine = parts.engine;
    this.#root = parts.root;
    this.#store = parts.store;
    this.#instance = parts.instance;
  }

  async make(request: MaterialRequest): Promise<MadeMaterial> {
    const { made, time } = await this.#make(request);
    this.#times.record(request.suite.number, time);
    return made;
  }

  async measured(suite: Suite): Promise<MeasuredGeneration | null> {
    const { number } = suite;
    const known = this.#times.of(number) ?? this.#trials.of(number);
    if (known !== null || !this.#mayTry(suite)) return known;
    try {
      await this.#try(suite);
      for (let trial = 0; trial < TRIALS; trial += 1) {
        this.#trials.record(number, await this.#try(suite));
      }
    } catch (error) {
      if (!NOT_NOW.some((code) => TwofoldError.is(error, code))) throw error;
    }
    return this.#trials.of(number);
  }

  #mayTry(suite: Suite): boolean {
    const custody = usualCustody(this.#hsm, suite);
    return suite.hsm?.kind !== 'rsa' && custody !== 'hsm-token';
  }

  /** Makes material that nobody keeps: nothing of it is stored, on the token or elsewhere. */
  async #try(suite: Suite): Promise<GenerationTime> {
    const custody = usualCustody(this.#hsm, suite);
    const { made, time } = await this.#make({ suite, keyId: randomUUID(), version: 1, custody });
    await made.discard();
    return time;
  }

  async #make(
    request: MaterialRequest,
  ): Promise<{ readonly made: MadeMaterial; readonly time: GenerationTime }> {
    const { suite } = request;
    requireAvailable(this.#hsm, this.#engine, suite);
    const intent = request.custody === 'hsm-token' ? await this.#intend(request) : null;
    const began = performance.now();
    const classical = await this.#classicalHalf(request, intent);
    const discard = () => this.#discard(classical?.hsm ?? null, intent);
    try {
      const [{ pq, cpuMs }, psk] = [await this.#pqHalf(request), await this.#newPsk(request)];
      const hsmMs = performance.now() - began - cpuMs;
      const made = { material: { classical, pq, psk }, objectId: intent, discard };
      return { made, time: { hsmMs, cpuMs } };
    } catch (error) {
      await discard();
      throw error;
    }
  }

  async #classicalHalf(
    { suite, custody }: MaterialRequest,
    intent: Uint8Array | null,
  ): Promise<Material['classical']> {
    if (suite.hsm === null || custody === null) return null;
    await this.#root.whenSelected();
    const hsm = await this.#hsm.generate(suite.hsm, {
      custody,
      ...(intent === null ? {} : { objectId: intent }),
    });
    const isPair = suite.kind === 'kem' || suite.kind === 'signature';
    return { public: isPair ? hsm.check : null, hsm };
  }

  async #intend(request: MaterialRequest): Promise<Uint8Array> {
    const serial = this.#hsm.status().token?.serial;
    if (serial === undefined) throw new TwofoldError('hsm_unavailable');
    const { installation } = this.#root;
    const objectId = tokenObjectId(installation, request.keyId, request.version);
    const intent = {
      objectId,
      installation,
      tokenSerial: serial,
      instance: this.#instance,
      createdAt: new Date(),
    };
    await this.#store.intendTokenObject(await attestIntent(this.#root.mac, intent));
    return objectId;
  }

  async #discard(classical: HsmMaterial | null, intent: Uint8Array | null): Promise<void> {
    if (classical?.custody !== 'hsm-token' || intent === null) return;
    try {
      await this.#hsm.destroyTokenKey(classical);
      await this.#store.dropIntent(intent);
    } catch {
      // The intent stays, and with it the knowledge of what to remove; the first error is the caller's.
    }
  }

  /** `cpuMs` is what its generation took, which the HSM has no part in. */
  async #pqHalf(
    request: MaterialRequest,
  ): Promise<{ readonly pq: Material['pq']; readonly cpuMs: number }> {
    const { suite, keyId, version } = request;
    const began = performance.now();
    const pair = await this.#generate(suite);
    const cpuMs = performance.now() - began;
    if (pair === null) return { pq: null, cpuMs };
    try {
      const binding = { keyId, version, suite: suite.number, part: 'pq' } as const;
      const half = await this.#root.seal(pair.seed, binding);
      return { pq: { public: pair.publicKey, half }, cpuMs };
    } finally {
      wipe(pair.seed);
    }
  }

  #newPsk(request: MaterialRequest): Promise<Material['psk']> {
    return makePsk({ hsm: this.#hsm, root: this.#root }, request);
  }

  async #generate(suite: Suite): Promise<SeedPair | null> {
    if (suite.kind === 'kem' && suite.pq !== null) return this.#engine.mlKem.generate(suite.pq);
    if (suite.kind !== 'signature' || suite.pq === null) return null;
    return this.#engine.signatures.generate(suite.pq);
  }
}

/** The secret that `psk` mode binds, for wrap suites with an asymmetric half. */
export async function makePsk(
  { hsm, root }: { readonly hsm: Pick<Hsm, 'random'>; readonly root: Pick<Root, 'seal'> },
  { suite, keyId, version }: MaterialRequest,
): Promise<Material['psk']> {
  if (suite.kind !== 'kem') return null;
  const psk = SecretBytes.own(await hsm.random(PSK_LENGTH));
  try {
    return await root.seal(psk, { keyId, version, suite: suite.number, part: 'psk' });
  } finally {
    wipe(psk);
  }
}
