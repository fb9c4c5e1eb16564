/**
 * Makes the material of a new key version: the classical half in the HSM, the post-quantum half in
 * software and sealed at once. The halves are generated separately, from no common seed
 * (draft-irtf-cfrg-hybrid-kems permits it for HSMs), and never enter another suite.
 */
import { randomBytes } from 'node:crypto';

import { concatBytes, uint32 } from '../crypto/bytes.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import type { Engine } from '../crypto/engine.ts';
import type { HsmNeed, Suite } from '../crypto/suite.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm, HsmKey, HsmKeySpec, HsmMaterial } from '../hsm/port.ts';
import type { Material } from './model.ts';
import type { KeyStore } from './ports.ts';
import type { Root } from './root.ts';
import { attestIntent } from './row-mac.ts';

const PSK_LENGTH = 32;

/** The capability name that `Hsm.status()` lists for a need. */
export function capabilityOf(need: HsmNeed): string {
  switch (need.kind) {
    case 'ec':
      if (need.curve === 'X25519') return 'x25519';
      return `${need.use === 'derive' ? 'ecdh' : 'ecdsa'}:${need.curve}`;
    case 'aes':
      return 'aes-gcm';
    case 'hmac':
      return `hmac:${need.hash}`;
  }
}

export function specOf(need: HsmNeed): HsmKeySpec {
  switch (need.kind) {
    case 'ec':
      return need.curve === 'X25519'
        ? { kind: 'x25519', use: 'derive' }
        : { kind: 'ec', curve: need.curve, use: need.use };
    case 'aes':
      return { kind: 'aes', bits: need.bits };
    case 'hmac':
      if (need.hash !== 'SHA-256') {
        throw new TwofoldError(
          'suite_unavailable_here',
          `HMAC with ${need.hash} is not served yet.`,
        );
      }
      return { kind: 'hmac', hash: need.hash, bytes: 32 };
  }
}

/** Why this token cannot serve a suite, in words; null when it can. */
export function unavailability(hsm: Hsm, suite: Suite): string | null {
  const name = capabilityOf(suite.hsm);
  const capability = hsm.status().capabilities.find((candidate) => candidate.name === name);
  if (capability === undefined) return `The token was not probed for ${name}.`;
  return capability.available ? null : capability.reason;
}

/** @throws TwofoldError suite_unavailable_here with the reason */
export function requireAvailable(hsm: Hsm, suite: Suite): void {
  const reason = unavailability(hsm, suite);
  if (reason !== null) throw new TwofoldError('suite_unavailable_here', reason);
}

/** The HSM key of a version's classical half. */
export function classicalKey(
  suite: Suite,
  keyId: string,
  version: number,
  hsm: HsmMaterial,
): HsmKey {
  return { id: handleId(keyId, version), spec: specOf(suite.hsm), material: hsm };
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

/**
 * X25519 keys cannot be wrapped by the tokens we know, and some tokens wrap no private key at all; those
 * live on the token only where the request says so.
 *
 * @throws TwofoldError suite_unavailable_here with the reason
 */
export function custodyFor(hsm: Hsm, suite: Suite, wanted: Custody | undefined): Custody {
  const onTokenOnly = suite.hsm.kind === 'ec' && suite.hsm.curve === 'X25519';
  if (wanted === 'hsm-wrapped' && onTokenOnly) {
    throw new TwofoldError(
      'suite_unavailable_here',
      'The classical half of this suite cannot be wrapped; its custody is hsm-token.',
    );
  }
  const custody = wanted ?? (onTokenOnly ? 'hsm-token' : 'hsm-wrapped');
  const unwrappable = hsm
    .status()
    .capabilities.find(({ name }) => name === WRAP_OF[suite.hsm.kind]);
  if (custody === 'hsm-wrapped' && unwrappable?.available === false) {
    throw new TwofoldError(
      'suite_unavailable_here',
      `Keys of this suite cannot be wrapped here (${unwrappable.reason}); name the custody hsm-token.`,
    );
  }
  return custody;
}

/** The capability by which keys of each kind leave the token. */
const WRAP_OF: Readonly<Record<HsmNeed['kind'], string>> = {
  ec: 'wrap:ec',
  aes: 'wrap',
  hmac: 'wrap',
};

export interface MaterialRequest {
  readonly suite: Suite;
  readonly keyId: string;
  readonly version: number;
  readonly custody: Custody;
}

/** Material plus how to undo it, for a change that then does not commit. */
export interface MadeMaterial {
  readonly material: Material;
  /** The intent to complete in the commit; null for `hsm-wrapped`. */
  readonly objectId: Uint8Array | null;
  /** Never rejects: what it could not remove, the intent names for the next start. */
  readonly discard: () => Promise<void>;
}

export class MaterialMaker {
  readonly #hsm: Hsm;
  readonly #engine: Engine;
  readonly #root: Root;
  readonly #store: KeyStore;
  readonly #instance: string;

  constructor(parts: { hsm: Hsm; engine: Engine; root: Root; store: KeyStore; instance: string }) {
    this.#hsm = parts.hsm;
    this.#engine = parts.engine;
    this.#root = parts.root;
    this.#store = parts.store;
    this.#instance = parts.instance;
  }

  async make(request: MaterialRequest): Promise<MadeMaterial> {
    requireAvailable(this.#hsm, request.suite);
    const intent = request.custody === 'hsm-token' ? await this.#intend(request) : null;
    const classical = await this.#hsm.generate(specOf(request.suite.hsm), {
      custody: request.custody,
      ...(intent === null ? {} : { objectId: intent }),
    });
    const discard = () => this.#discard(classical, intent);
    try {
      const [pq, psk] = [await this.#pqHalf(request), await this.#psk(request)];
      const isPair = request.suite.hsm.kind === 'ec';
      const half = { public: isPair ? classical.check : null, hsm: classical };
      return { material: { classical: half, pq, psk }, objectId: intent, discard };
    } catch (error) {
      await discard();
      throw error;
    }
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

  async #discard(classical: HsmMaterial, intent: Uint8Array | null): Promise<void> {
    if (classical.custody !== 'hsm-token' || intent === null) return;
    try {
      await this.#hsm.destroyTokenKey(classical);
      await this.#store.dropIntent(intent);
    } catch {
      // The intent stays, and with it the knowledge of what to remove; the first error is the caller's.
    }
  }

  async #pqHalf(request: MaterialRequest): Promise<Material['pq']> {
    const { suite, keyId, version } = request;
    if (suite.kind !== 'kem' && suite.kind !== 'signature') return null;
    const pair =
      suite.kind === 'kem'
        ? await this.#engine.mlKem.generate(suite.pq)
        : await this.#engine.signatures.generate(suite.pq);
    try {
      const binding = { keyId, version, suite: suite.number, part: 'pq' } as const;
      return { public: pair.publicKey, half: await this.#root.seal(pair.seed, binding) };
    } finally {
      wipe(pair.seed);
    }
  }

  async #psk({ suite, keyId, version }: MaterialRequest): Promise<Material['psk']> {
    if (suite.kind !== 'kem') return null;
    const psk = SecretBytes.own(await this.#hsm.random(PSK_LENGTH));
    try {
      return await this.#root.seal(psk, { keyId, version, suite: suite.number, part: 'psk' });
    } finally {
      wipe(psk);
    }
  }
}
