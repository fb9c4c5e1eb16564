/** Classical keys of suites for measurements: in the token, or by node:crypto beside it. */
import { diffieHellman, generateKeyPair, randomBytes, randomUUID } from 'node:crypto';
import { promisify } from 'node:util';

import { exportPublicKey, importPublicKey } from '../src/crypto/curve.ts';
import type { HsmKeySpec } from '../src/crypto/hsm-key.ts';
import { SecretBytes } from '../src/crypto/secret.ts';
import type { Suite } from '../src/crypto/suite.ts';
import type { Hsm } from '../src/hsm/port.ts';
import { usualCustody } from '../src/keyring/material.ts';

const generatePair = promisify(generateKeyPair);

/** One pair, as a suite's callbacks ask for it. */
export interface ClassicalKey {
  readonly publicKey: Uint8Array;
  /** Bytes that lie in the database for it; null where nothing leaves the token, or there is none. */
  readonly stored: number | null;
  readonly decapsulate: (ciphertext: Uint8Array) => Promise<SecretBytes>;
  readonly sign: (input: Uint8Array) => Promise<Uint8Array>;
  readonly drop: () => Promise<void>;
}

export interface ClassicalHalves {
  readonly where: 'token' | 'software';
  readonly make: (suite: Suite, spec: HsmKeySpec) => Promise<ClassicalKey>;
}

export function tokenHalves(token: Hsm): ClassicalHalves {
  return {
    where: 'token',
    async make(suite, spec) {
      const custody = usualCustody(token, suite) ?? 'hsm-wrapped';
      const objectId = custody === 'hsm-token' ? { objectId: randomBytes(37) } : {};
      const material = await token.generate(spec, { custody, ...objectId });
      const key = { id: randomUUID(), spec, material };
      return {
        publicKey: material.check,
        stored: material.custody === 'hsm-wrapped' ? material.blob.length : null,
        decapsulate: (ciphertext) =>
          spec.kind === 'rsa' ? token.decryptOaep(key, ciphertext) : token.ecdh(key, ciphertext),
        sign: (input) => token.sign(key, input),
        async drop() {
          await token.forget(key.id);
          if (material.custody === 'hsm-token') await token.destroyTokenKey(material);
        },
      };
    },
  };
}

/** Diffie-Hellman alone: node:crypto signs no digests, which a composite's half is asked for. */
export const softwareHalves: ClassicalHalves = {
  where: 'software',
  async make(_suite, spec) {
    if (!('use' in spec) || spec.use !== 'derive') throw new Error('not a Diffie-Hellman half');
    const curve = spec.kind === 'x25519' ? 'X25519' : spec.curve;
    const { publicKey, privateKey } =
      spec.kind === 'x25519'
        ? await generatePair('x25519')
        : await generatePair('ec', { namedCurve: spec.curve });
    return {
      publicKey: exportPublicKey(publicKey),
      stored: null,
      decapsulate: (peer) => {
        const agreed = diffieHellman({ privateKey, publicKey: importPublicKey(curve, peer) });
        return Promise.resolve(SecretBytes.own(agreed));
      },
      sign: () => Promise.reject(new Error('a key that derives')),
      drop: () => Promise.resolve(),
    };
  },
};
