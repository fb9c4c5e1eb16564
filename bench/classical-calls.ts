/** Classical verification and the ephemeral side of ECDH, by node:crypto and by the service. */
import {
  constants,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import type { KeyObject, VerifyKeyObjectInput } from 'node:crypto';

import { ecdsaScheme, ed25519Scheme, rsaScheme } from '../src/crypto/classical-signature.ts';
import { agreeEphemeral } from '../src/crypto/curve.ts';
import type { ClassicalScheme } from '../src/crypto/classical-signature.ts';
import type { Call } from './slices.ts';

const MESSAGE = randomBytes(128);

export interface Calls {
  readonly name: string;
  readonly bare: Call;
  readonly ours: Call;
}

interface Verification {
  readonly name: string;
  readonly scheme: ClassicalScheme;
  readonly pair: { readonly publicKey: KeyObject; readonly privateKey: KeyObject };
  readonly hash: string | null;
  /** The key as the service has it, and how node takes it. */
  readonly raw: Uint8Array;
  readonly importRaw: (raw: Buffer) => KeyObject;
  readonly options?: Omit<VerifyKeyObjectInput, 'key'>;
}

function calls({ name, scheme, pair, hash, raw, importRaw, options = {} }: Verification): Calls {
  const signature = sign(hash, MESSAGE, { key: pair.privateKey, ...options });
  const required = (valid: boolean) => {
    if (!valid) throw new Error('not a signature');
  };
  return {
    name: `${name} verify`,
    bare: () =>
      new Promise<void>((resolve, reject) => {
        const key = importRaw(Buffer.from(raw));
        verify(hash, MESSAGE, { key, ...options }, signature, (error, valid) => {
          if (error === null && valid) resolve();
          else reject(error ?? new Error('not a signature'));
        });
      }),
    ours: async () => {
      required(await scheme.verify(raw, MESSAGE, signature));
    },
  };
}

function ecdsa(curve: 'P-256' | 'P-384' | 'P-521', hash: 'SHA-256' | 'SHA-384' | 'SHA-512'): Calls {
  const pair = generateKeyPairSync('ec', { namedCurve: curve });
  return calls({
    name: `ECDSA ${curve}`,
    scheme: ecdsaScheme(curve, hash),
    pair,
    hash: hash.replace('-', ''),
    raw: Uint8Array.from(
      pair.publicKey.export({ format: 'raw-public', type: 'uncompressed' } as const),
    ),
    importRaw: (key) =>
      createPublicKey({ key, format: 'raw-public', asymmetricKeyType: 'ec', namedCurve: curve }),
  });
}

function ed25519(): Calls {
  const pair = generateKeyPairSync('ed25519');
  return calls({
    name: 'Ed25519',
    scheme: ed25519Scheme,
    pair,
    hash: null,
    raw: Uint8Array.from(pair.publicKey.export({ format: 'raw-public' })),
    importRaw: (key) =>
      createPublicKey({ key, format: 'raw-public', asymmetricKeyType: 'ed25519' }),
  });
}

function rsa(padding: 'pss' | 'pkcs1'): Calls {
  const pair = generateKeyPairSync('rsa', { modulusLength: 3072 });
  return calls({
    name: `RSA-3072 ${padding}`,
    scheme: rsaScheme(3072, padding, 'SHA-256'),
    pair,
    hash: 'sha256',
    raw: Uint8Array.from(pair.publicKey.export({ format: 'der', type: 'pkcs1' })),
    importRaw: (key) => createPublicKey({ key, format: 'der', type: 'pkcs1' }),
    options:
      padding === 'pss'
        ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }
        : { padding: constants.RSA_PKCS1_PADDING },
  });
}

export const CLASSICAL: readonly Calls[] = [
  ecdsa('P-256', 'SHA-256'),
  ecdsa('P-384', 'SHA-384'),
  ecdsa('P-521', 'SHA-512'),
  ed25519(),
  rsa('pss'),
  rsa('pkcs1'),
];

/** P-384 runs in a thread in the service, and so has no bare call like it on this one. */
function exchange(curve: 'P-256' | 'X25519'): Calls {
  const generate = () =>
    curve === 'X25519'
      ? generateKeyPairSync('x25519')
      : generateKeyPairSync('ec', { namedCurve: curve });
  const show = (key: KeyObject): Buffer =>
    curve === 'X25519'
      ? key.export({ format: 'raw-public' })
      : key.export({ format: 'raw-public', type: 'uncompressed' });
  const peer = Uint8Array.from(show(generate().publicKey));
  return {
    name: `ephemeral ECDH ${curve}`,
    bare: () => {
      const key = Buffer.from(peer);
      const publicKey =
        curve === 'X25519'
          ? createPublicKey({ key, format: 'raw-public', asymmetricKeyType: 'x25519' })
          : createPublicKey({
              key,
              format: 'raw-public',
              asymmetricKeyType: 'ec',
              namedCurve: curve,
            });
      const { privateKey, publicKey: own } = generate();
      diffieHellman({ privateKey, publicKey });
      show(own);
    },
    ours: async () => {
      const { secret } = await agreeEphemeral(curve, peer);
      secret.wipe();
    },
  };
}

export const EXCHANGES: readonly Calls[] = [exchange('P-256'), exchange('X25519')];
