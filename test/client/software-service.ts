/** The service's side of sealed files in software: real envelopes and signatures, keys in memory. */
import { randomBytes, randomUUID } from 'node:crypto';

import { parseEnvelope } from '../../src/crypto/envelope.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { openEnvelope, sealEnvelope } from '../../src/crypto/wrap.ts';
import { ClientError } from '../../src/client/client-error.ts';
import { randomKemKey, randomSignatureKey } from '../crypto/software-halves.ts';
import type { KemSuite, SignatureSuite } from '../../src/crypto/suite.ts';
import type { KemEnvelope } from '../../src/crypto/envelope.ts';
import type { Binding, KeyService, SignRequest } from '../../src/client/key-service.ts';
import type { KemKey, SignatureKey } from '../crypto/software-halves.ts';

interface WrapKey {
  readonly keyId: string;
  readonly versions: KemKey[];
}

const kem = (id: string) => findSuite(id) as KemSuite;

export class SoftwareKeyService implements KeyService {
  readonly #wrapKeys = new Map<string, WrapKey>();
  readonly #signers = new Map<string, { readonly keyId: string; readonly key: SignatureKey }>();
  /** Calls made so far, by name. */
  readonly calls: string[] = [];

  constructor() {
    this.addWrapKey('model');
    this.addSigner('signer');
  }

  addWrapKey(name: string, suite = 'MLKEM768-P256'): string {
    const keyId = randomUUID();
    this.#wrapKeys.set(name, { keyId, versions: [randomKemKey(nativeEngine, kem(suite))] });
    return keyId;
  }

  addSigner(name: string, suite = 'MLDSA65-ECDSA-P256-SHA512'): void {
    const key = randomSignatureKey(nativeEngine, findSuite(suite) as SignatureSuite);
    this.#signers.set(name, { keyId: randomUUID(), key });
  }

  rotate(name: string, suite = 'MLKEM768-P256'): void {
    this.#wrapKey(name).versions.push(randomKemKey(nativeEngine, kem(suite)));
  }

  /** As if the caller may not use it any more. */
  forbid(name: string): void {
    this.#wrapKeys.delete(name);
  }

  async publicKey(name: string): Promise<unknown> {
    this.calls.push('publicKey');
    const { keyId, key } = this.#signer(name);
    const { id, standard } = key.suite;
    const raw = Buffer.from(key.publicKey).toString('base64');
    const rest = { standard, format: 'raw', raw, offline: null };
    return { key: name, keyId, keyVersion: 1, suite: id, ...rest };
  }

  async createDataKey(name: string, bytes: number, binding: Binding) {
    const plaintext = SecretBytes.own(Uint8Array.from(randomBytes(bytes)));
    return { plaintext, envelope: await this.wrap(name, plaintext, binding) };
  }

  async wrap(name: string, plaintext: SecretBytes, binding: Binding): Promise<Uint8Array> {
    this.calls.push('wrap');
    const { keyId, versions } = this.#wrapKey(name);
    const keyVersion = versions.length;
    const key = versions.at(-1);
    if (key === undefined) throw new Error('a key without versions');
    const { suite, publicKey } = key;
    const request = { suite, publicKey, keyId, keyVersion, context: binding, plaintext };
    return sealEnvelope(nativeEngine, request);
  }

  async unwrap(name: string, envelope: Uint8Array, binding: Binding): Promise<SecretBytes> {
    this.calls.push('unwrap');
    const parsed = parseEnvelope(envelope) as KemEnvelope;
    const key = this.#wrapKey(name).versions[parsed.keyVersion - 1];
    if (key === undefined) throw new ClientError('version_not_found', 'no such version');
    const request = { publicKey: key.publicKey, halves: key.halves, context: binding };
    return openEnvelope(parsed, request).catch((cause: unknown) => {
      throw new ClientError('decryption_failed', 'The ciphertext could not be decrypted.', cause);
    });
  }

  async rewrap(name: string, envelope: Uint8Array, binding: Binding) {
    const { keyVersion } = parseEnvelope(envelope);
    if (keyVersion === this.#wrapKey(name).versions.length) return { envelope, changed: false };
    const plaintext = await this.unwrap(name, envelope, binding);
    return { envelope: await this.wrap(name, plaintext, binding), changed: true };
  }

  async sign(name: string, { digest, signatureContext }: SignRequest): Promise<Uint8Array> {
    this.calls.push('sign');
    const { key } = this.#signer(name);
    const input = { digest: { algorithm: 'SHA-512', value: digest } } as const;
    return key.suite.signer.sign(input, signatureContext, key.halves);
  }

  #wrapKey(name: string): WrapKey {
    const found =
      this.#wrapKeys.get(name) ?? [...this.#wrapKeys.values()].find(({ keyId }) => keyId === name);
    if (found === undefined) throw new ClientError('forbidden', 'The principal may not do this.');
    return found;
  }

  #signer(name: string) {
    const found =
      this.#signers.get(name) ?? [...this.#signers.values()].find(({ keyId }) => keyId === name);
    if (found === undefined) throw new ClientError('forbidden', 'The principal may not do this.');
    return found;
  }
}
