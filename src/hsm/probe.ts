/**
 * What this token can do, tried out: for each use the service has, the mechanism must be listed and
 * must compute a known answer. Tokens that import no keys are checked for consistency instead: a key
 * made on the token against node:crypto.
 */
import {
  createECDH,
  diffieHellman,
  generateKeyPairSync,
  timingSafeEqual,
  verify,
} from 'node:crypto';
import { createPublicKey } from 'node:crypto';
import { publicKey } from './check-value.ts';
import type { Connection } from './connection.ts';
import { CKA, CKK, CKM, CKO, returnValueOf } from './cryptoki.ts';
import type { Attribute, Handle } from './cryptoki.ts';
import { failureOf } from './failures.ts';
import { ECDH_ANSWERS, GCM_ANSWER, HMAC_ANSWER } from './known-answers.ts';
import { gcmDecrypt, gcmEncrypt, hmac, random, rawEcdh, rawEcdsa } from './mechanisms.ts';
import { pairMechanism, requirePublicKey } from './pairs.ts';
import type { Curve } from '../crypto/suite.ts';
import type { HsmCapability, HsmKeySpec } from './port.ts';
import type { ProbeReport } from './protocol.ts';
import { wrapMechanism } from './roots.ts';
import { attributes, ecParams, privateTemplate, publicTemplate } from './templates.ts';
import type { Residence } from './templates.ts';

type Verdict = 'known-answer' | 'consistency' | 'wrong';

interface Trial {
  readonly name: string;
  readonly mechanisms: readonly (readonly [name: string, oneOf: readonly number[]])[];
  readonly run: (connection: Connection) => Verdict;
}

/** Many tokens make no private key that may leave them: only trials of wrapping ask for one. */
const SESSION = { kind: 'session' } as const;
/** Wrapped by a key that lives as long as the trial. */
const TO_BE_WRAPPED = { kind: 'to-be-wrapped', trusted: false } as const;

const MESSAGE = Buffer.from('known answer');

const EC_GENERATION = ['CKM_EC_KEY_PAIR_GEN', [CKM.EC_KEY_PAIR_GEN]] as const;
const ECDH = ['CKM_ECDH1_DERIVE', [CKM.ECDH1_DERIVE]] as const;
const ECDSA = ['CKM_ECDSA', [CKM.ECDSA]] as const;

const TRIALS: readonly Trial[] = [
  ...(['P-256', 'P-384'] as const).flatMap((curve) => [
    {
      name: `ecdh:${curve}`,
      mechanisms: [EC_GENERATION, ECDH],
      run: (connection: Connection) => tryEcdh(connection, { kind: 'ec', curve, use: 'derive' }),
    },
    {
      name: `ecdsa:${curve}`,
      mechanisms: [EC_GENERATION, ECDSA],
      run: (connection: Connection) => tryEcdsa(connection, curve),
    },
  ]),
  {
    name: 'x25519',
    mechanisms: [
      [
        'CKM_EC_MONTGOMERY_KEY_PAIR_GEN',
        [CKM.EC_MONTGOMERY_KEY_PAIR_GEN, CKM.EC_EDWARDS_KEY_PAIR_GEN],
      ],
      ECDH,
    ],
    run: (connection) => tryEcdh(connection, { kind: 'x25519', use: 'derive' }),
  },
  { name: 'aes-gcm', mechanisms: [['CKM_AES_GCM', [CKM.AES_GCM]]], run: tryGcm },
  { name: 'hmac:SHA-256', mechanisms: [['CKM_SHA256_HMAC', [CKM.SHA256_HMAC]]], run: tryHmac },
  {
    name: 'wrap',
    mechanisms: [['CKM_AES_KEY_WRAP_PAD', [CKM.AES_KEY_WRAP_PAD, CKM.AES_KEY_WRAP_KWP]]],
    run: tryWrapSecret,
  },
  {
    name: 'wrap:ec',
    mechanisms: [
      EC_GENERATION,
      ['CKM_AES_KEY_WRAP_PAD', [CKM.AES_KEY_WRAP_PAD, CKM.AES_KEY_WRAP_KWP]],
    ],
    run: tryWrapPair,
  },
  { name: 'random', mechanisms: [], run: tryRandom },
];

/** Runs every trial. A lost session is thrown; anything else is a capability with its reason. */
export function probe(connection: Connection): ProbeReport {
  const capabilities = TRIALS.map((trial) => attempt(connection, trial));
  const wrong = capabilities.filter(({ reason }) => reason === WRONG).map(({ name }) => name);
  return { capabilities, wrong };
}

const WRONG = 'the token computed a wrong answer';

function attempt(connection: Connection, { name, mechanisms, run }: Trial): HsmCapability {
  const missing = mechanisms.find(([, oneOf]) => !oneOf.some((m) => connection.mechanisms.has(m)));
  if (missing !== undefined) return absent(name, `the token has no ${missing[0]}`);
  try {
    const verdict = run(connection);
    if (verdict === 'wrong') return absent(name, WRONG);
    return { name, available: true, reason: '', checked: verdict };
  } catch (error) {
    if (failureOf(error, 'produce').consequence === 'lost') throw error;
    const value = returnValueOf(error);
    const seen = value === undefined ? 'an error' : `CKR 0x${value.toString(16)}`;
    return absent(name, `the token answered ${seen} when it was tried`);
  }
}

function absent(name: string, reason: string): HsmCapability {
  return { name, available: false, reason };
}

function tryEcdh(connection: Connection, spec: HsmKeySpec): Verdict {
  const curve: Curve = spec.kind === 'ec' ? spec.curve : 'X25519';
  const answer = ECDH_ANSWERS[curve];
  const imported = importKey(connection, [
    ...privateImport(spec),
    { type: CKA.VALUE, value: Buffer.from(answer.privateKey) },
  ]);
  if (imported === undefined) return ecdhConsistency(connection, spec, curve);
  return using(connection, imported, () =>
    same(rawEcdh(connection, curve, imported, answer.peer), answer.secret, 'known-answer'),
  );
}

function ecdhConsistency(connection: Connection, spec: HsmKeySpec, curve: Curve): Verdict {
  return usingPair(connection, spec, (handle, point) => {
    const peer = curve === 'X25519' ? softX25519(point) : softEcdh(curve, point);
    return same(rawEcdh(connection, curve, handle, peer.point), peer.secret, 'consistency');
  });
}

function tryEcdsa(connection: Connection, curve: 'P-256' | 'P-384'): Verdict {
  return usingPair(connection, { kind: 'ec', curve, use: 'sign' }, (handle, point) => {
    const signature = rawEcdsa(connection, curve, handle, MESSAGE);
    const key = { key: publicKey(curve, point), dsaEncoding: 'ieee-p1363' } as const;
    const hash = curve === 'P-256' ? 'sha256' : 'sha384';
    return verify(hash, MESSAGE, key, signature) ? 'consistency' : 'wrong';
  });
}

function tryGcm(connection: Connection): Verdict {
  const imported = importKey(connection, [
    ...secretImport(CKK.AES, { encrypt: true, decrypt: true }),
    { type: CKA.VALUE, value: Buffer.from(GCM_ANSWER.key) },
  ]);
  if (imported !== undefined) {
    return using(connection, imported, () => {
      const opened = gcmDecrypt(connection, imported, GCM_ANSWER, new Uint8Array());
      return same(opened, GCM_ANSWER.plaintext, 'known-answer');
    });
  }
  const spec: HsmKeySpec = { kind: 'aes', bits: 256 };
  const handle = generateSecret(connection, CKM.AES_KEY_GEN, spec);
  return using(connection, handle, () => {
    const sealed = gcmEncrypt(connection, handle, MESSAGE, MESSAGE);
    return same(gcmDecrypt(connection, handle, sealed, MESSAGE), MESSAGE, 'consistency');
  });
}

function tryHmac(connection: Connection): Verdict {
  const imported = importKey(connection, [
    ...secretImport(CKK.GENERIC_SECRET, { sign: true, verify: true }),
    { type: CKA.VALUE, value: Buffer.from(HMAC_ANSWER.key) },
  ]);
  if (imported !== undefined) {
    return using(connection, imported, () =>
      same(hmac(connection, imported, HMAC_ANSWER.data), HMAC_ANSWER.mac, 'known-answer'),
    );
  }
  const spec: HsmKeySpec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 };
  const handle = generateSecret(connection, CKM.GENERIC_SECRET_KEY_GEN, spec);
  return using(connection, handle, () =>
    same(
      hmac(connection, handle, MESSAGE),
      hmac(connection, handle, Buffer.from(MESSAGE)),
      'consistency',
    ),
  );
}

/** A wrapped secret key must come back as itself, under a wrapping key that lives for the trial. */
function tryWrapSecret(connection: Connection): Verdict {
  const spec: HsmKeySpec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 };
  const made = generateSecret(connection, CKM.GENERIC_SECRET_KEY_GEN, spec, TO_BE_WRAPPED);
  return using(connection, made, () =>
    wrappedAndBack(connection, spec, made, (copy) =>
      same(hmac(connection, copy, MESSAGE), hmac(connection, made, MESSAGE), 'consistency'),
    ),
  );
}

/** The same for a private key, which some tokens keep or take back in another form. */
function tryWrapPair(connection: Connection): Verdict {
  const spec: HsmKeySpec = { kind: 'ec', curve: 'P-256', use: 'derive' };
  return usingPair(
    connection,
    spec,
    (handle, point) =>
      wrappedAndBack(connection, spec, handle, (copy) => {
        const peer = softEcdh('P-256', point);
        return same(rawEcdh(connection, 'P-256', copy, peer.point), peer.secret, 'consistency');
      }),
    TO_BE_WRAPPED,
  );
}

function wrappedAndBack(
  connection: Connection,
  spec: HsmKeySpec,
  key: Handle,
  use: (copy: Handle) => Verdict,
): Verdict {
  const wrapping = connection.run((session, cryptoki) =>
    cryptoki.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, [
      ...attributes({ token: false, private: true, sensitive: true, valueLen: 32 }),
      ...attributes({ wrap: true, unwrap: true }),
    ]),
  );
  const mechanism = { mechanism: wrapMechanism(connection) };
  return using(connection, wrapping, () => {
    const copy = connection.run((session, cryptoki) => {
      const blob = cryptoki.C_WrapKey(session, mechanism, wrapping, key, Buffer.alloc(1024));
      const template = privateTemplate(spec, { kind: 'unwrapped', trusted: false });
      return cryptoki.C_UnwrapKey(session, mechanism, wrapping, blob, template);
    });
    return using(connection, copy, () => use(copy));
  });
}

function tryRandom(connection: Connection): Verdict {
  const [first, second] = [random(connection, 32), random(connection, 32)];
  const repeats = Buffer.compare(first, second) === 0 || first.every((byte) => byte === 0);
  return repeats ? 'wrong' : 'consistency';
}

function softEcdh(curve: 'P-256' | 'P-384', point: Uint8Array) {
  const soft = createECDH(curve === 'P-256' ? 'prime256v1' : 'secp384r1');
  soft.generateKeys();
  return { point: soft.getPublicKey(), secret: soft.computeSecret(point) };
}

function softX25519(point: Uint8Array) {
  const soft = generateKeyPairSync('x25519');
  const jwk = (x: string) => ({ kty: 'OKP', crv: 'X25519', x });
  const x = soft.publicKey.export({ format: 'jwk' }).x ?? '';
  const peer = createPublicKey({
    key: jwk(Buffer.from(point).toString('base64url')),
    format: 'jwk',
  });
  return {
    point: Buffer.from(x, 'base64url'),
    secret: diffieHellman({ privateKey: soft.privateKey, publicKey: peer }),
  };
}

function privateImport(spec: HsmKeySpec): Attribute[] {
  return attributes({
    class: CKO.PRIVATE_KEY,
    keyType: spec.kind === 'x25519' ? CKK.EC_EDWARDS : CKK.EC,
    token: false,
    private: true,
    sensitive: true,
    extractable: false,
    derive: true,
    paramsEC: Buffer.from(ecParams(spec), 'hex'),
  });
}

function secretImport(keyType: number, use: Parameters<typeof attributes>[0]): Attribute[] {
  const base = { class: CKO.SECRET_KEY, keyType, token: false, private: true, sensitive: true };
  return attributes({ ...base, ...use });
}

/** A session object, or `undefined` where the token's policy refuses clear keys. */
function importKey(connection: Connection, template: Attribute[]): Handle | undefined {
  try {
    return connection.run((session, cryptoki) => cryptoki.C_CreateObject(session, template));
  } catch (error) {
    if (failureOf(error, 'produce').consequence === 'lost') throw error;
    return undefined;
  }
}

function generateSecret(
  connection: Connection,
  mechanism: number,
  spec: HsmKeySpec,
  residence: Residence = SESSION,
): Handle {
  return connection.run((session, cryptoki) =>
    cryptoki.C_GenerateKey(session, { mechanism }, privateTemplate(spec, residence)),
  );
}

function usingPair(
  connection: Connection,
  spec: HsmKeySpec,
  use: (handle: Handle, point: Uint8Array) => Verdict,
  residence: Residence = SESSION,
): Verdict {
  const pair = connection.run((session, cryptoki) =>
    cryptoki.C_GenerateKeyPair(
      session,
      { mechanism: pairMechanism(connection, spec) },
      publicTemplate(spec),
      privateTemplate(spec, residence),
    ),
  );
  return using(connection, pair.publicKey, () =>
    using(connection, pair.privateKey, () =>
      use(pair.privateKey, requirePublicKey(connection, spec, pair.publicKey)),
    ),
  );
}

function using<Result>(connection: Connection, handle: Handle, use: () => Result): Result {
  connection.objects += 1;
  try {
    return use();
  } finally {
    connection.destroy(handle);
  }
}

function same(seen: Uint8Array, wanted: Uint8Array, verdict: Verdict): Verdict {
  return seen.length === wanted.length && timingSafeEqual(seen, wanted) ? verdict : 'wrong';
}
