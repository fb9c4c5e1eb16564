/**
 * An HSM in memory that can fail before or after acting, for the faults of the keyring's own steps.
 * It keeps the port's rules that the keyring relies on: a wrapped key opens only under the root that
 * wrapped it, an object id exists once, check values are compared.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from 'node:crypto';
import { x25519 } from '@noble/curves/ed25519.js';
import { p256, p384 } from '@noble/curves/nist.js';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { TwofoldError } from '../../src/errors.ts';
import type {
  GenerateOptions,
  Hsm,
  HsmKey,
  HsmKeySpec,
  HsmMaterial,
  HsmStatus,
  RootOnToken,
  TokenMaterial,
} from '../../src/hsm/port.ts';

export type HsmCall = Exclude<keyof Hsm, 'status'>;
/** `before`: nothing happened. `after`: it happened, and the caller is told that it failed. */
export type HsmFault = 'none' | 'before' | 'after' | TwofoldError;

const CAPABILITIES = [
  'ecdh:P-256',
  'ecdh:P-384',
  'ecdsa:P-256',
  'ecdsa:P-384',
  'x25519',
  'aes-gcm',
  'hmac:SHA-256',
];

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const rootId = ({ generation, installation }: RootOnToken) => `${generation}/${installation}`;

function curveOf(spec: HsmKeySpec) {
  if (spec.kind === 'x25519') return x25519;
  if (spec.kind === 'ec') return spec.curve === 'P-256' ? p256 : p384;
  throw new TwofoldError('wrong_purpose');
}

function newValue(spec: HsmKeySpec): Uint8Array {
  return spec.kind === 'aes' || spec.kind === 'hmac'
    ? Uint8Array.from(randomBytes(32))
    : curveOf(spec).utils.randomSecretKey();
}

function checkOf(spec: HsmKeySpec, value: Uint8Array): Uint8Array {
  if (spec.kind === 'x25519') return x25519.getPublicKey(value);
  if (spec.kind === 'ec') return (spec.curve === 'P-256' ? p256 : p384).getPublicKey(value, false);
  return Uint8Array.from(createHash('sha256').update(value).digest().subarray(0, 3));
}

function gcmSeal(key: Uint8Array, plaintext: Uint8Array, aad: Uint8Array) {
  const iv = Uint8Array.from(randomBytes(12));
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(aad);
  const body = [cipher.update(plaintext), cipher.final(), cipher.getAuthTag()];
  return { iv, ciphertext: Uint8Array.from(Buffer.concat(body)) };
}

function gcmOpen(key: Uint8Array, iv: Uint8Array, sealed: Uint8Array, aad: Uint8Array): Uint8Array {
  try {
    const split = sealed.length - 16;
    const cipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: 16 });
    cipher.setAAD(aad).setAuthTag(sealed.subarray(split));
    const opened = Buffer.concat([cipher.update(sealed.subarray(0, split)), cipher.final()]);
    return Uint8Array.from(opened);
  } catch {
    throw new TwofoldError('decryption_failed');
  }
}

export class MemoryHsm implements Hsm {
  fault: (call: HsmCall) => HsmFault = () => 'none';
  /** Replaces the name's capability; all are there by default. */
  readonly missing = new Set<string>();
  readonly objects = new Map<
    string,
    { spec: HsmKeySpec; value: Uint8Array; material: TokenMaterial }
  >();
  readonly forgotten: string[] = [];
  readonly calls: HsmCall[] = [];
  /** Secrets that were given out and are not wiped yet are found through here. */
  readonly given: SecretBytes[] = [];
  readonly #roots = new Map<string, { root: RootOnToken; key: Uint8Array }>();
  #selected: RootOnToken | null = null;

  status(): HsmStatus {
    const capabilities = CAPABILITIES.map((name) => ({
      name,
      available: !this.missing.has(name),
      reason: this.missing.has(name) ? 'removed by a test' : '',
    }));
    const token = { serial: 'S1', label: 'l', model: 'm', manufacturer: 'm', firmware: '1' };
    const known = {
      ready: true,
      state: 'ok',
      detail: '',
      tokenEpoch: 1,
      custody: 'unknown',
    } as const;
    return { ...known, token, capabilities };
  }

  /** What the ceremony does. */
  makeRoot(root: RootOnToken): void {
    this.#roots.set(rootId(root), { root, key: Uint8Array.from(randomBytes(32)) });
  }

  roots(): Promise<readonly RootOnToken[]> {
    return this.#do('roots', () => [...this.#roots.values()].map(({ root }) => root));
  }

  useRoot(root: RootOnToken): Promise<void> {
    return this.#do('useRoot', () => {
      if (!this.#roots.has(rootId(root))) throw new TwofoldError('zone_lacks_material');
      this.#selected = root;
    });
  }

  generate(spec: HsmKeySpec, { custody, objectId }: GenerateOptions): Promise<HsmMaterial> {
    return this.#do('generate', () => {
      const value = newValue(spec);
      const check = checkOf(spec, value);
      if (custody === 'hsm-token') return this.#object(spec, value, objectId);
      const { root, key } = this.#root();
      const { iv, ciphertext } = gcmSeal(key, value, Buffer.from(spec.kind));
      const blob = Uint8Array.from([...iv, ...ciphertext]);
      return { custody, generation: root.generation, blob, check };
    });
  }

  destroyTokenKey({ objectId }: TokenMaterial): Promise<void> {
    return this.#do('destroyTokenKey', () => {
      this.objects.delete(hex(objectId));
    });
  }

  tokenKeys(installation: string): Promise<readonly TokenMaterial[]> {
    return this.#do('tokenKeys', () =>
      [...this.objects.values()]
        .map(({ material }) => material)
        .filter((material) => material.installation === installation),
    );
  }

  ecdh(key: HsmKey, peer: Uint8Array): Promise<SecretBytes> {
    return this.#do('ecdh', () => {
      const shared = curveOf(key.spec).getSharedSecret(this.#value(key), peer);
      return this.#give(key.spec.kind === 'x25519' ? shared : shared.slice(1));
    });
  }

  sign(key: HsmKey, digest: Uint8Array): Promise<Uint8Array> {
    return this.#do('sign', () => {
      const curve = curveOf(key.spec);
      if (curve === x25519) throw new TwofoldError('wrong_purpose');
      return (curve as typeof p256).sign(digest, this.#value(key), { prehash: false });
    });
  }

  encrypt(key: HsmKey, plaintext: Uint8Array, aad: Uint8Array) {
    return this.#do('encrypt', () => gcmSeal(this.#value(key), plaintext, aad));
  }

  decrypt(
    key: HsmKey,
    { iv, ciphertext }: { readonly iv: Uint8Array; readonly ciphertext: Uint8Array },
    aad: Uint8Array,
  ): Promise<SecretBytes> {
    return this.#do('decrypt', () => this.#give(gcmOpen(this.#value(key), iv, ciphertext, aad)));
  }

  mac(key: HsmKey, data: Uint8Array): Promise<Uint8Array> {
    return this.#do('mac', () =>
      Uint8Array.from(createHmac('sha256', this.#value(key)).update(data).digest()),
    );
  }

  random(bytes: number): Promise<Uint8Array> {
    return this.#do('random', () => Uint8Array.from(randomBytes(bytes)));
  }

  forget(id: string): Promise<void> {
    return this.#do('forget', () => {
      this.forgotten.push(id);
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #do<T>(call: HsmCall, act: () => T): Promise<T> {
    this.calls.push(call);
    const fault = this.fault(call);
    await Promise.resolve();
    if (fault instanceof TwofoldError) throw fault;
    if (fault === 'before') throw new TwofoldError('hsm_unavailable');
    const result = act();
    if (fault === 'after') throw new TwofoldError('hsm_unavailable');
    return result;
  }

  #object(spec: HsmKeySpec, value: Uint8Array, objectId: Uint8Array | undefined): TokenMaterial {
    if (objectId?.length !== 37) throw new TypeError('a token key needs an id of 37 bytes');
    if (this.objects.has(hex(objectId))) throw new TypeError('the object id exists');
    const id = hex(objectId.subarray(0, 16));
    const installation = id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    const material: TokenMaterial = {
      custody: 'hsm-token',
      tokenSerial: 'S1',
      installation,
      objectId,
      check: checkOf(spec, value),
    };
    this.objects.set(hex(objectId), { spec, value, material });
    return material;
  }

  #root() {
    const selected = this.#selected && this.#roots.get(rootId(this.#selected));
    if (!selected) throw new TwofoldError('hsm_unavailable', 'no root is selected');
    return selected;
  }

  #value({ spec, material }: HsmKey): Uint8Array {
    const value =
      material.custody === 'hsm-token'
        ? this.objects.get(hex(material.objectId))?.value
        : this.#unwrap(spec, material.blob);
    if (value === undefined) throw new TwofoldError('zone_lacks_material');
    if (hex(checkOf(spec, value)) !== hex(material.check)) {
      throw new TwofoldError('integrity_failed');
    }
    return value;
  }

  #unwrap(spec: HsmKeySpec, blob: Uint8Array): Uint8Array {
    try {
      return gcmOpen(
        this.#root().key,
        blob.subarray(0, 12),
        blob.subarray(12),
        Buffer.from(spec.kind),
      );
    } catch {
      throw new TwofoldError('integrity_failed');
    }
  }

  #give(bytes: Uint8Array): SecretBytes {
    const secret = SecretBytes.own(bytes);
    this.given.push(secret);
    return secret;
  }
}

/** Whether the bytes behind a secret are gone. */
export function isWiped(secret: SecretBytes): boolean {
  try {
    secret.reveal();
    return false;
  } catch {
    return true;
  }
}
