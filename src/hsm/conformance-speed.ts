/**
 * How fast a token does what the service asks of it: synchronous calls on one session of one process,
 * on session objects made for the purpose.
 */
import { generatorOf } from '../crypto/point.ts';
import type { Curve } from '../crypto/suite.ts';
import { X25519_BASE } from './check-value.ts';
import type { Connection } from './connection.ts';
import { CKM, returnValueOf } from './cryptoki.ts';
import type { Handle } from './cryptoki.ts';
import type { SigningSpec } from './inputs.ts';
import { gcmDecrypt, gcmEncrypt, hmac, inputOf, random, rawEcdh, sign } from './mechanisms.ts';
import { openOaep, opensOwn } from './oaep-call.ts';
import { pairMechanism, requirePublicKey } from './pairs.ts';
import type { HsmHash, HsmKeySpec, RsaBits } from './port.ts';
import { encryptOaep, HASH_BYTES } from './rsa.ts';
import { wrapMechanism } from './roots.ts';
import { attributes, isPair, privateTemplate, publicTemplate } from './templates.ts';
import type { PairSpec, Residence } from './templates.ts';

export interface Speed {
  /** The capability that was used. */
  readonly use: string;
  readonly operation: string;
  /** Null where the token failed the call; `detail` says how. */
  readonly microseconds: number | null;
  readonly perSecond: number | null;
  readonly detail: string;
}

interface Trial {
  readonly use: string;
  readonly operation: string;
  /** Makes what the call needs. */
  readonly prepare: (connection: Connection) => () => unknown;
}

const SESSION = { kind: 'session' } as const;
const TO_BE_WRAPPED = { kind: 'to-be-wrapped', trusted: false } as const;
const AES: HsmKeySpec = { kind: 'aes', bits: 256 };
const PAIR: HsmKeySpec = { kind: 'ec', curve: 'P-256', use: 'derive' };
const HMAC: HsmKeySpec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 };
const RSA: HsmKeySpec = rsaSigns('pkcs1', 'SHA-256');
const DATA = Buffer.alloc(64, 2);
const BLOB_ROOM = 4096;

const TRIALS: readonly Trial[] = [
  derives('ecdh:P-256', { kind: 'ec', curve: 'P-256', use: 'derive' }, 'P-256'),
  derives('ecdh:P-384', { kind: 'ec', curve: 'P-384', use: 'derive' }, 'P-384'),
  derives('x25519', { kind: 'x25519', use: 'derive' }, 'X25519'),
  ...(['P-256', 'P-384', 'P-521'] as const).map((curve) =>
    signs(`ecdsa:${curve}`, `ECDSA on ${curve}`, { kind: 'ec', curve, use: 'sign' }),
  ),
  signs('ed25519', 'Ed25519 of 64 B', { kind: 'ed25519', use: 'sign' }),
  ...(['pss', 'pkcs1'] as const).flatMap((padding) => [
    signs(`rsa-${padding}:SHA-256`, 'RSA-2048 sign', rsaSigns(padding, 'SHA-256')),
    signs(`rsa-${padding}:SHA-256`, 'RSA-3072 sign', rsaSigns(padding, 'SHA-256', 3072)),
    signs(`rsa-${padding}:SHA-384`, 'RSA-4096 sign', rsaSigns(padding, 'SHA-384', 4096)),
  ]),
  opens(2048),
  opens(3072),
  {
    use: 'aes-gcm',
    operation: 'AES-GCM encrypt 64 B',
    prepare: (connection) => {
      const key = makeSecret(connection, AES);
      return () => gcmEncrypt(connection, key, DATA, DATA);
    },
  },
  {
    use: 'aes-gcm',
    operation: 'AES-GCM decrypt 64 B',
    prepare: (connection) => {
      const key = makeSecret(connection, AES);
      const sealed = gcmEncrypt(connection, key, DATA, DATA);
      return () => gcmDecrypt(connection, key, sealed, DATA);
    },
  },
  ...(['SHA-256', 'SHA-384', 'SHA-512'] as const).map((hash) => ({
    use: `hmac:${hash}`,
    operation: 'HMAC of 64 B',
    prepare: (connection: Connection) => {
      const key = makeSecret(connection, { kind: 'hmac', hash, bytes: HASH_BYTES[hash] });
      return () => hmac(connection, hash, key, DATA);
    },
  })),
  { use: 'wrap', operation: 'unwrap an HMAC key', prepare: (on) => unwraps(on, HMAC) },
  { use: 'wrap:ec', operation: 'unwrap a P-256 key', prepare: (on) => unwraps(on, PAIR) },
  { use: 'wrap:rsa', operation: 'unwrap an RSA-2048 key', prepare: (on) => unwraps(on, RSA) },
  {
    use: 'random',
    operation: 'random 32 B',
    prepare: (connection) => () => random(connection, 32),
  },
];

/** In the order of the table; what `available` does not name is left out. */
export function measureSpeeds(
  connection: Connection,
  available: ReadonlySet<string>,
  milliseconds: number,
): Speed[] {
  return TRIALS.filter(({ use }) => available.has(use)).map((trial) =>
    measure(connection, trial, milliseconds),
  );
}

function measure(connection: Connection, trial: Trial, milliseconds: number): Speed {
  const { use, operation } = trial;
  try {
    const call = trial.prepare(connection);
    call();
    const each = meanOf(call, milliseconds);
    const perSecond = Math.round(1e6 / each);
    return { use, operation, microseconds: Math.round(each * 10) / 10, perSecond, detail: '' };
  } catch (error) {
    const value = returnValueOf(error);
    const detail = value === undefined ? 'an error' : `CKR 0x${value.toString(16)}`;
    return { use, operation, microseconds: null, perSecond: null, detail };
  }
}

/** Microseconds of one call, as the mean of as many as fit into the time. */
export function meanOf(call: () => unknown, milliseconds: number): number {
  const begin = performance.now();
  let calls = 0;
  let elapsed = 0;
  while (elapsed < milliseconds) {
    call();
    calls += 1;
    elapsed = performance.now() - begin;
  }
  return (elapsed * 1000) / calls;
}

function rsaSigns(padding: 'pss' | 'pkcs1', hash: HsmHash, bits: RsaBits = 2048): SigningSpec {
  return { kind: 'rsa', bits, use: 'sign', padding, hash };
}

function derives(use: string, spec: PairSpec, curve: Curve): Trial {
  return {
    use,
    operation: `ECDH on ${curve}`,
    prepare: (connection) => {
      const key = makePair(connection, spec);
      const peer = curve === 'X25519' ? X25519_BASE : generatorOf(curve);
      return () => rawEcdh(connection, curve, key, peer);
    },
  };
}

function signs(use: string, operation: string, spec: SigningSpec): Trial {
  return {
    use,
    operation,
    prepare: (connection) => {
      const key = makePair(connection, spec);
      const input = inputOf(spec, DATA);
      return () => sign(connection, spec, key, input);
    },
  };
}

function opens(bits: RsaBits): Trial {
  const spec = { kind: 'rsa', bits, use: 'decrypt', hash: 'SHA-256' } as const;
  return {
    use: 'rsa-oaep:SHA-256',
    operation: `RSA-${bits} decrypt`,
    prepare: (connection) => {
      const { handle, publicKey } = makeReadPair(connection, spec);
      opensOwn(connection, spec, handle, publicKey);
      const ciphertext = encryptOaep(spec, publicKey, DATA);
      return () => openOaep(connection, spec, handle, publicKey, ciphertext);
    },
  };
}

function unwraps(connection: Connection, spec: HsmKeySpec): () => unknown {
  const key = isPair(spec)
    ? makePair(connection, spec, TO_BE_WRAPPED)
    : makeSecret(connection, spec, TO_BE_WRAPPED);
  const mechanism = { mechanism: wrapMechanism(connection) };
  const { wrapping, blob } = connection.run((session, cryptoki) => {
    const made = cryptoki.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, [
      ...attributes({ token: false, private: true, sensitive: true, valueLen: 32 }),
      ...attributes({ wrap: true, unwrap: true }),
    ]);
    const room = Buffer.alloc(BLOB_ROOM);
    return { wrapping: made, blob: cryptoki.C_WrapKey(session, mechanism, made, key, room) };
  });
  return () => {
    const template = privateTemplate(spec, { kind: 'unwrapped', trusted: false });
    const copy = connection.run((session, cryptoki) =>
      cryptoki.C_UnwrapKey(session, mechanism, wrapping, blob, template),
    );
    connection.destroy(copy);
  };
}

export function makePair(
  connection: Connection,
  spec: PairSpec,
  residence: Residence = SESSION,
): Handle {
  return makeReadPair(connection, spec, residence).handle;
}

function makeReadPair(connection: Connection, spec: PairSpec, residence: Residence = SESSION) {
  const mechanism = { mechanism: pairMechanism(connection, spec) };
  // Into the keeper session: a call that fails ends the other one with its objects.
  const pair = connection.run((_, cryptoki) =>
    cryptoki.C_GenerateKeyPair(
      connection.keeper,
      mechanism,
      publicTemplate(spec),
      privateTemplate(spec, residence),
    ),
  );
  const publicKey = requirePublicKey(connection, spec, pair.publicKey);
  return { handle: pair.privateKey, publicKey };
}

export function makeSecret(
  connection: Connection,
  spec: HsmKeySpec,
  residence: Residence = SESSION,
): Handle {
  const mechanism = spec.kind === 'aes' ? CKM.AES_KEY_GEN : CKM.GENERIC_SECRET_KEY_GEN;
  return connection.run((session, cryptoki) =>
    cryptoki.C_GenerateKey(session, { mechanism }, privateTemplate(spec, residence)),
  );
}
