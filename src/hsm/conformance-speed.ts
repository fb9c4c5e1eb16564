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
import { ecdsa, gcmDecrypt, gcmEncrypt, hmac, random, rawEcdh } from './mechanisms.ts';
import { pairMechanism } from './pairs.ts';
import type { HsmKeySpec } from './port.ts';
import { wrapMechanism } from './roots.ts';
import { attributes, isPair, privateTemplate, publicTemplate } from './templates.ts';
import type { Residence } from './templates.ts';

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
const DATA = Buffer.alloc(64, 2);
const DIGEST_BYTES = { 'P-256': 32, 'P-384': 48 } as const;
const BLOB_ROOM = 1024;

const TRIALS: readonly Trial[] = [
  derives('ecdh:P-256', { kind: 'ec', curve: 'P-256', use: 'derive' }, 'P-256'),
  derives('ecdh:P-384', { kind: 'ec', curve: 'P-384', use: 'derive' }, 'P-384'),
  derives('x25519', { kind: 'x25519', use: 'derive' }, 'X25519'),
  signs('P-256'),
  signs('P-384'),
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
  {
    use: 'hmac:SHA-256',
    operation: 'HMAC of 64 B',
    prepare: (connection) => {
      const key = makeSecret(connection, HMAC);
      return () => hmac(connection, key, DATA);
    },
  },
  { use: 'wrap', operation: 'unwrap an HMAC key', prepare: (on) => unwraps(on, HMAC) },
  { use: 'wrap:ec', operation: 'unwrap a P-256 key', prepare: (on) => unwraps(on, PAIR) },
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

function derives(use: string, spec: HsmKeySpec, curve: Curve): Trial {
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

function signs(curve: 'P-256' | 'P-384'): Trial {
  return {
    use: `ecdsa:${curve}`,
    operation: `ECDSA on ${curve}`,
    prepare: (connection) => {
      const key = makePair(connection, { kind: 'ec', curve, use: 'sign' });
      const digest = Buffer.alloc(DIGEST_BYTES[curve], 1);
      return () => ecdsa(connection, curve, key, digest);
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
  spec: HsmKeySpec,
  residence: Residence = SESSION,
): Handle {
  const mechanism = { mechanism: pairMechanism(connection, spec) };
  return connection.run(
    (session, cryptoki) =>
      cryptoki.C_GenerateKeyPair(
        session,
        mechanism,
        publicTemplate(spec),
        privateTemplate(spec, residence),
      ).privateKey,
  );
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
