/**
 * The port in software, for tests: the same contract on node:crypto, with the port's rules asserted
 * and faults that can be injected before or after an operation takes effect.
 *
 * Under test/ only: its "HSM" is this process's memory.
 */
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createECDH,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  privateDecrypt,
  privateEncrypt,
  randomBytes,
  sign,
} from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { p256, p384, p521 } from '@noble/curves/nist.js';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { TwofoldError } from '../../src/errors.ts';
import {
  macHash,
  requireAes,
  requireCiphertext,
  requireGenerate,
  requireHmac,
  requirePeer,
  requireRandomLength,
  requireSealed,
  requireSignInput,
  signingSpec,
  uuidText,
} from '../../src/hsm/inputs.ts';
import type { SigningSpec } from '../../src/hsm/inputs.ts';
import type {
  GenerateOptions,
  Hsm,
  HsmHash,
  HsmKey,
  HsmKeySpec,
  HsmMaterial,
  HsmStatus,
  RootOnToken,
  ToDecrypt,
  ToEncrypt,
  ToRewrap,
  TokenMaterial,
  WrappedImport,
  WrappedMaterial,
} from '../../src/hsm/port.ts';
import type { Sealed } from '../../src/hsm/protocol.ts';
import { nodeHash } from '../../src/crypto/digests.ts';
import { digestInfo } from '../../src/hsm/rsa.ts';
import { encodePss } from './pss.ts';
import { attempt } from '../../src/settled.ts';
import type { Settled } from '../../src/settled.ts';

type Call = Exclude<keyof Hsm, 'status' | 'close'>;

export interface Fault {
  readonly call: Call;
  /** `after`: the effect took place, only the answer is lost. */
  readonly when: 'before' | 'after';
  readonly error: TwofoldError;
  /** How many calls fail; one when absent. */
  readonly times?: number;
}

/** CKR_DEVICE_MEMORY and a lost session as the service sees them. */
export const FAULTS = {
  deviceMemory: new TwofoldError('hsm_full', 'the token has no room for another object'),
  sessionLost: new TwofoldError('hsm_unavailable', 'the session with the token was lost'),
  busy: new TwofoldError('hsm_busy', 'too many calls wait for the HSM', { retryAfter: 1 }),
} as const;

const CAPABILITIES = [
  'ecdh:P-256',
  'ecdh:P-384',
  'ecdsa:P-256',
  'ecdsa:P-384',
  'ecdsa:P-521',
  'x25519',
  'ed25519',
  'rsa-pss:SHA-256',
  'rsa-pss:SHA-384',
  'rsa-pss:SHA-512',
  'rsa-pkcs1:SHA-256',
  'rsa-pkcs1:SHA-384',
  'rsa-pkcs1:SHA-512',
  'rsa-oaep:SHA-256',
  'aes-gcm',
  'hmac:SHA-256',
  'hmac:SHA-384',
  'hmac:SHA-512',
  'wrap',
  'wrap:ec',
  'wrap:rsa',
  'random',
].map((name) => ({ name, available: true, reason: '' }));

interface TokenObject {
  readonly material: TokenMaterial;
  readonly secret: Buffer;
}

/** One token's state, which outlives the port that opened it. */
export class SoftwareToken {
  readonly serial = randomBytes(8).toString('hex');
  readonly roots = new Map<string, Buffer>();
  readonly objects = new Map<string, TokenObject>();
  /** Names of those that whoever has the PIN put there. */
  readonly planted = new Set<string>();
  /** Installations whose roots a database has held. */
  readonly used = new Set<string>();

  makeRoot(root: RootOnToken): void {
    const name = nameOf(root);
    if (this.roots.has(name)) throw new Error('a second root of one generation');
    this.roots.set(name, randomBytes(32));
  }

  /** In the place of what is there. */
  plantRoot(root: RootOnToken): void {
    this.roots.set(nameOf(root), randomBytes(32));
    this.planted.add(nameOf(root));
  }

  custodyOf(root: RootOnToken): HsmStatus['custody'] {
    return this.planted.has(nameOf(root)) ? 'extractableByPinHolder' : 'non-extractable';
  }
}

export class SoftwareHsm implements Hsm {
  readonly token: SoftwareToken;
  /** How often each call was made. */
  readonly calls = new Map<Call, number>();
  readonly #faults: { fault: Fault; left: number }[] = [];
  /** The same id always means the same key: the port's rule, asserted. */
  readonly #ids = new Map<string, string>();
  readonly #lacks: ReadonlySet<string>;
  #root: RootOnToken | undefined;
  #custody: HsmStatus['custody'] = 'unknown';
  #closed = false;
  #state = 'ok';

  constructor(token: SoftwareToken, options: { readonly lacks?: readonly string[] } = {}) {
    this.token = token;
    this.#lacks = new Set(options.lacks ?? []);
  }

  inject(fault: Fault): void {
    this.#faults.push({ fault, left: fault.times ?? 1 });
  }

  /** Makes every call fail until it is called with `ok`. */
  setState(state: 'ok' | 'session-lost' | 'pin-refused' | 'token-absent'): void {
    this.#state = state;
  }

  status(): HsmStatus {
    return {
      ready: this.#state === 'ok' && !this.#closed,
      state: this.#closed ? 'closed' : this.#state,
      detail: '',
      tokenEpoch: 1,
      token: {
        serial: this.token.serial,
        label: 'software',
        model: 'test double',
        manufacturer: 'tests',
        firmware: '0.0',
      },
      custody: this.#custody,
      capabilities: CAPABILITIES.map((one) =>
        this.#lacks.has(one.name) ? { ...one, available: false, reason: 'not offered' } : one,
      ),
      // There is no PKCS #11 call under this port by which its root could be attacked.
      rootAttacks: null,
    };
  }

  roots(): Promise<readonly RootOnToken[]> {
    return this.#call('roots', () =>
      [...this.token.roots.keys()].map((name) => {
        const [installation = '', generation] = name.split('/');
        return { installation, generation: Number(generation) };
      }),
    );
  }

  isUsed(installation: string): Promise<boolean> {
    return this.#call('isUsed', () => this.token.used.has(installation));
  }

  noteUse(installation: string): Promise<void> {
    return this.#call('noteUse', () => {
      this.token.used.add(installation);
    });
  }

  useRoot(root: RootOnToken, known?: ToRewrap): Promise<void> {
    return this.#call('useRoot', () => {
      const key = this.#rootKey(root);
      const custody = this.token.custodyOf(root);
      const isLater = root.generation >= (this.#root?.generation ?? 0);
      if (isLater && this.#custody === 'non-extractable' && custody !== this.#custody) {
        throw new TwofoldError('integrity_failed', `the root’s custody is ${custody}`);
      }
      if (known !== undefined) this.#unwrapUnder(key, known);
      this.#root = root;
      this.#custody = custody;
    });
  }

  tryRoot(root: RootOnToken): Promise<HsmStatus['custody']> {
    return this.#call('tryRoot', () => {
      this.#rootKey(root);
      return this.token.custodyOf(root);
    });
  }

  rewrap(items: readonly ToRewrap[]): Promise<readonly Settled<WrappedMaterial>[]> {
    const one = ({ spec, material }: ToRewrap) => {
      const secret = this.#unwrap({ id: '', spec, material });
      if (!checkOf(spec, secret).equals(material.check)) {
        throw new TwofoldError('integrity_failed');
      }
      return this.#wrap(spec, { secret, check: material.check });
    };
    // What fails before it begins fails every item: the call itself never rejects.
    return this.#call('rewrap', () => items.map((item) => attempt(() => one(item)))).catch(
      (error: unknown) => items.map(() => TwofoldError.from(error)),
    );
  }

  generate(spec: HsmKeySpec, options: GenerateOptions): Promise<HsmMaterial> {
    return this.#call('generate', () => {
      requireGenerate(spec, options);
      this.#requireCapability(spec);
      const made = makeKey(spec);
      return options.custody === 'hsm-token'
        ? this.#store(made, options.objectId ?? new Uint8Array())
        : this.#wrap(spec, made);
    });
  }

  importKey(spec: HsmKeySpec, wrapped: WrappedImport): Promise<WrappedMaterial> {
    return this.#call('importKey', () => {
      requirePeer(wrapped.key, wrapped.peer);
      const shared = this.#with(wrapped.key, (secret) =>
        derive(wrapped.key.spec, secret, wrapped.peer),
      );
      const secret = foreignSecret(spec, openForeign(shared, wrapped));
      const check = checkOf(spec, secret);
      if (wrapped.publicKey !== null && !check.equals(wrapped.publicKey)) {
        throw new TwofoldError('import_mismatch');
      }
      return this.#wrap(spec, { secret, check: Uint8Array.from(check) });
    });
  }

  destroyTokenKey(material: TokenMaterial): Promise<void> {
    return this.#call('destroyTokenKey', () => {
      if (material.tokenSerial !== this.token.serial) throw elsewhere();
      this.token.objects.delete(hex(material.objectId));
    });
  }

  tokenKeys(installation: string): Promise<readonly TokenMaterial[]> {
    return this.#call('tokenKeys', () =>
      [...this.token.objects.values()]
        .filter(({ material }) => material.installation === installation)
        .map(({ material }) => ({ ...material, check: new Uint8Array() })),
    );
  }

  ecdh(key: HsmKey, peer: Uint8Array): Promise<SecretBytes> {
    return this.#call('ecdh', () => {
      requirePeer(key, peer);
      return SecretBytes.own(this.#with(key, (secret) => derive(key.spec, secret, peer)));
    });
  }

  sign(key: HsmKey, input: Uint8Array): Promise<Uint8Array> {
    return this.#call('sign', () => {
      requireSignInput(key, input);
      return this.#with(key, (secret) => signWith(signingSpec(key.spec), secret, input));
    });
  }

  decryptOaep(key: HsmKey, ciphertext: Uint8Array): Promise<SecretBytes> {
    return this.#call('decryptOaep', () => {
      requireCiphertext(key, ciphertext);
      return SecretBytes.own(this.#with(key, (secret) => openOaep(secret, ciphertext)));
    });
  }

  encrypt(key: HsmKey, plaintext: Uint8Array, aad: Uint8Array): Promise<Sealed> {
    return this.#call('encrypt', () => {
      requireAes(key);
      return this.#with(key, (secret) => seal(secret, plaintext, aad));
    });
  }

  decrypt(key: HsmKey, sealed: Sealed, aad: Uint8Array): Promise<SecretBytes> {
    return this.#call('decrypt', () => {
      requireAes(key);
      requireSealed(sealed);
      return SecretBytes.own(this.#with(key, (secret) => unseal(secret, sealed, aad)));
    });
  }

  encryptMany(key: HsmKey, items: readonly ToEncrypt[]): Promise<readonly Settled<Sealed>[]> {
    return this.#call('encryptMany', () => {
      requireAes(key);
      return items.map(({ plaintext, aad }) =>
        attempt(() => this.#with(key, (secret) => seal(secret, plaintext, aad))),
      );
    });
  }

  decryptMany(key: HsmKey, items: readonly ToDecrypt[]): Promise<readonly Settled<SecretBytes>[]> {
    return this.#call('decryptMany', () => {
      requireAes(key);
      const open = (item: ToDecrypt) =>
        this.#with(key, (secret) => unseal(secret, requireSealed(item), item.aad));
      return items.map((item) => attempt(() => SecretBytes.own(open(item))));
    });
  }

  mac(key: HsmKey, data: Uint8Array): Promise<Uint8Array> {
    return this.#call('mac', () => {
      requireHmac(key);
      return this.#with(key, (secret) => hmac(secret, data, macHash(key.spec)));
    });
  }

  macMany(key: HsmKey, items: readonly Uint8Array[]): Promise<readonly Settled<Uint8Array>[]> {
    return this.#call('macMany', () => {
      requireHmac(key);
      return this.#with(key, (secret) =>
        items.map((data) => hmac(secret, data, macHash(key.spec))),
      );
    });
  }

  random(bytes: number): Promise<Uint8Array> {
    return this.#call('random', () => {
      requireRandomLength(bytes);
      return Uint8Array.from(randomBytes(bytes));
    });
  }

  forget(id: string): Promise<void> {
    return this.#call('forget', () => {
      this.#ids.delete(id);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  /** Asynchronous as the real port is, so that nobody comes to rely on the order of calls. */
  async #call<Result>(call: Call, run: () => Result): Promise<Result> {
    this.calls.set(call, (this.calls.get(call) ?? 0) + 1);
    await new Promise((resolve) => setImmediate(resolve));
    if (this.#closed || this.#state !== 'ok') throw FAULTS.sessionLost;
    this.#fail(call, 'before');
    const result = run();
    this.#fail(call, 'after');
    return result;
  }

  #fail(call: Call, when: Fault['when']): void {
    const found = this.#faults.find(
      ({ fault, left }) => left > 0 && fault.call === call && fault.when === when,
    );
    if (found === undefined) return;
    found.left -= 1;
    throw found.fault.error;
  }

  #requireCapability(spec: HsmKeySpec): void {
    const name = capabilityOf(spec);
    if (this.#lacks.has(name)) throw new TwofoldError('suite_unavailable_here', name);
  }

  #rootKey(root: RootOnToken): Buffer {
    const key = this.token.roots.get(nameOf(root));
    if (key === undefined) throw new TwofoldError('zone_lacks_material', 'no such generation');
    return key;
  }

  #store(made: MadeKey, objectId: Uint8Array): TokenMaterial {
    const material = {
      custody: 'hsm-token',
      tokenSerial: this.token.serial,
      installation: uuidText(objectId.subarray(0, 16)),
      objectId: Uint8Array.from(objectId),
      check: made.check,
    } as const;
    this.token.objects.set(hex(objectId), { material, secret: made.secret });
    return material;
  }

  #wrap(spec: HsmKeySpec, made: MadeKey): WrappedMaterial {
    if (spec.kind === 'x25519' || spec.kind === 'ed25519') {
      throw new TwofoldError('suite_unavailable_here', 'not wrappable');
    }
    if (this.#root === undefined) throw new TwofoldError('zone_lacks_material', 'no root');
    const { iv, ciphertext } = seal(this.#rootKey(this.#root), made.secret, label(spec));
    const blob = Uint8Array.from(Buffer.concat([iv, ciphertext]));
    const { generation } = this.#root;
    return { custody: 'hsm-wrapped', generation, blob, check: made.check };
  }

  #with<Result>(key: HsmKey, use: (secret: Buffer) => Result): Result {
    this.#assertSameBytes(key);
    const secret = this.#unwrap(key);
    if (!checkOf(key.spec, secret).equals(key.material.check)) {
      throw new TwofoldError('integrity_failed');
    }
    return use(secret);
  }

  #unwrap({ material, spec }: HsmKey): Buffer {
    if (material.custody === 'hsm-token') {
      const object = this.token.objects.get(hex(material.objectId));
      if (material.tokenSerial !== this.token.serial || object === undefined) throw elsewhere();
      return object.secret;
    }
    if (this.#root === undefined) throw new TwofoldError('zone_lacks_material', 'no root');
    const { installation } = this.#root;
    const root = this.#rootKey({ installation, generation: material.generation });
    return this.#unwrapUnder(root, { material, spec });
  }

  #unwrapUnder(root: Buffer, { material, spec }: ToRewrap): Buffer {
    const sealed = { iv: material.blob.subarray(0, 12), ciphertext: material.blob.subarray(12) };
    try {
      return Buffer.from(unseal(root, sealed, label(spec)));
    } catch {
      throw new TwofoldError('integrity_failed', 'a wrapped key does not open');
    }
  }

  #assertSameBytes(key: HsmKey): void {
    const { material } = key;
    // A key that is wrapped anew is the same key: its check value says so.
    const bytes = material.custody === 'hsm-wrapped' ? new Uint8Array() : material.objectId;
    const seen = `${hex(bytes)}/${hex(material.check)}`;
    const before = this.#ids.get(key.id);
    if (before !== undefined && before !== seen) throw new Error(`id ${key.id} means two keys`);
    this.#ids.set(key.id, seen);
  }
}

interface MadeKey {
  readonly secret: Buffer;
  readonly check: Uint8Array;
}

function makeKey(spec: HsmKeySpec): MadeKey {
  const secret = newSecret(spec);
  return { secret, check: Uint8Array.from(checkOf(spec, secret)) };
}

const CURVES = {
  'P-256': { name: 'prime256v1', size: 32, group: p256 },
  'P-384': { name: 'secp384r1', size: 48, group: p384 },
  'P-521': { name: 'secp521r1', size: 66, group: p521 },
} as const;
const PKCS8 = { format: 'der', type: 'pkcs8' } as const;

/** The capability that a key of this kind needs. */
function capabilityOf(spec: HsmKeySpec): string {
  switch (spec.kind) {
    case 'ec':
      return `${spec.use === 'sign' ? 'ecdsa' : 'ecdh'}:${spec.curve}`;
    case 'rsa':
      return spec.use === 'sign' ? `rsa-${spec.padding}:${spec.hash}` : `rsa-oaep:${spec.hash}`;
    case 'aes':
      return 'aes-gcm';
    case 'hmac':
      return `hmac:${spec.hash}`;
    case 'x25519':
    case 'ed25519':
      return spec.kind;
  }
}

function newSecret(spec: HsmKeySpec): Buffer {
  switch (spec.kind) {
    case 'ec': {
      const { name, size } = CURVES[spec.curve];
      const ecdh = createECDH(name);
      ecdh.generateKeys();
      return Buffer.concat([Buffer.alloc(size), ecdh.getPrivateKey()]).subarray(-size);
    }
    case 'x25519':
      return generateKeyPairSync('x25519').privateKey.export(PKCS8);
    case 'ed25519':
      return generateKeyPairSync('ed25519').privateKey.export(PKCS8);
    case 'rsa':
      return generateKeyPairSync('rsa', { modulusLength: spec.bits }).privateKey.export(PKCS8);
    case 'aes':
      return randomBytes(spec.bits / 8);
    case 'hmac':
      return randomBytes(spec.bytes);
  }
}

/** The wrapped key, opened in the host: there is no token here to do it. */
function openForeign(shared: Uint8Array, { derivation, blob }: WrappedImport): Buffer {
  const cbc = createCipheriv('aes-256-cbc', shared, Buffer.alloc(16)).setAutoPadding(false);
  const key = Buffer.concat([cbc.update(derivation), cbc.final()]);
  try {
    const iv = Buffer.from('a65959a6', 'hex');
    const unwrap = createDecipheriv('id-aes256-wrap-pad', key, iv);
    return Buffer.concat([unwrap.update(blob), unwrap.final()]);
  } catch {
    throw new TwofoldError('import_invalid');
  }
}

function foreignSecret(spec: HsmKeySpec, opened: Buffer): Buffer {
  if (spec.kind === 'aes' || spec.kind === 'hmac') {
    const wanted = spec.kind === 'aes' ? spec.bits / 8 : spec.bytes;
    if (opened.length !== wanted) throw new TwofoldError('import_invalid');
    return opened;
  }
  const key = privateKeyOf(opened);
  if (spec.kind === 'rsa') {
    if (key?.asymmetricKeyType === 'rsa') return key.export(PKCS8);
  } else if (spec.kind === 'ec') {
    const { name, size } = CURVES[spec.curve];
    if (key?.asymmetricKeyDetails?.namedCurve === name) {
      return Buffer.from(key.export({ format: 'jwk' }).d ?? '', 'base64url').subarray(-size);
    }
  }
  throw new TwofoldError('import_invalid');
}

function privateKeyOf(pkcs8: Buffer): KeyObject | undefined {
  try {
    return createPrivateKey({ key: pkcs8, ...PKCS8 });
  } catch {
    return undefined;
  }
}

function checkOf(spec: HsmKeySpec, secret: Buffer): Buffer {
  switch (spec.kind) {
    case 'ec': {
      const ecdh = createECDH(CURVES[spec.curve].name);
      ecdh.setPrivateKey(secret);
      return ecdh.getPublicKey();
    }
    case 'rsa': {
      const key = createPublicKey(createPrivateKey({ key: secret, ...PKCS8 }));
      return key.export({ format: 'der', type: 'pkcs1' });
    }
    case 'ed25519':
    case 'x25519': {
      const key = createPublicKey(createPrivateKey({ key: secret, format: 'der', type: 'pkcs8' }));
      return Buffer.from(key.export({ format: 'jwk' }).x ?? '', 'base64url');
    }
    case 'aes':
    case 'hmac':
      return Buffer.from(hmac(secret, Buffer.from('check')).subarray(0, 16));
  }
}

function derive(spec: HsmKeySpec, secret: Buffer, peer: Uint8Array): Uint8Array {
  if (spec.kind === 'ec') {
    const ecdh = createECDH(CURVES[spec.curve].name);
    ecdh.setPrivateKey(secret);
    return Uint8Array.from(ecdh.computeSecret(peer));
  }
  const x = Buffer.from(peer).toString('base64url');
  const publicKey = createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x }, format: 'jwk' });
  const privateKey = createPrivateKey({ key: secret, format: 'der', type: 'pkcs8' });
  return Uint8Array.from(diffieHellman({ privateKey, publicKey }));
}

function signWith(spec: SigningSpec, secret: Buffer, input: Uint8Array): Uint8Array {
  if (spec.kind === 'ec') {
    return CURVES[spec.curve].group.sign(input, secret, { prehash: false, lowS: false });
  }
  const key = createPrivateKey({ key: secret, ...PKCS8 });
  if (spec.kind === 'ed25519') return Uint8Array.from(sign(null, input, key));
  if (spec.padding === 'pkcs1') {
    const padding = constants.RSA_PKCS1_PADDING;
    return Uint8Array.from(privateEncrypt({ key, padding }, digestInfo(spec.hash, input)));
  }
  // node:crypto signs messages, not digests, with PSS.
  const block = encodePss(nodeHash(spec.hash), input, spec.bits);
  return Uint8Array.from(privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, block));
}

function openOaep(secret: Buffer, ciphertext: Uint8Array): Uint8Array {
  const key = createPrivateKey({ key: secret, ...PKCS8 });
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  try {
    return Uint8Array.from(privateDecrypt({ key, padding, oaepHash: 'sha256' }, ciphertext));
  } catch {
    throw new TwofoldError('decryption_failed');
  }
}

function seal(key: Buffer, plaintext: Uint8Array, aad: Uint8Array): Sealed {
  const iv = Uint8Array.from(randomBytes(12));
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(aad);
  const ciphertext = [cipher.update(plaintext), cipher.final(), cipher.getAuthTag()];
  return { iv, ciphertext: Uint8Array.from(Buffer.concat(ciphertext)) };
}

function unseal(key: Buffer, { iv, ciphertext }: Sealed, aad: Uint8Array): Uint8Array {
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, iv).setAAD(aad);
    decipher.setAuthTag(ciphertext.subarray(-16));
    const plaintext = [decipher.update(ciphertext.subarray(0, -16)), decipher.final()];
    return Uint8Array.from(Buffer.concat(plaintext));
  } catch {
    throw new TwofoldError('decryption_failed');
  }
}

function hmac(key: Buffer, data: Uint8Array, hash: HsmHash = 'SHA-256'): Uint8Array {
  return Uint8Array.from(createHmac(nodeHash(hash), key).update(data).digest());
}

/** A key wrapped for one use does not unwrap for another. */
function label(spec: HsmKeySpec): Buffer {
  return Buffer.from(JSON.stringify(spec));
}

function nameOf({ installation, generation }: RootOnToken): string {
  return `${installation}/${generation}`;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function elsewhere(): TwofoldError {
  return new TwofoldError('zone_lacks_material', 'the key lives on another token');
}
