/**
 * What this token can do, tried out: for each use the service has, the mechanism must be listed and
 * must compute a known answer. Tokens that import no keys are checked for consistency instead: a key
 * made on the token against node:crypto.
 */
import { createECDH, createPublicKey, diffieHellman, generateKeyPairSync } from 'node:crypto';
import { verifiesAs } from './check-value.ts';
import type { Connection } from './connection.ts';
import { CKA, CKK, CKM, CKO, returnValueOf } from './cryptoki.ts';
import type { Attribute } from './cryptoki.ts';
import { failureOf } from './failures.ts';
import { ECDH_ANSWERS, ED25519_ANSWER, GCM_ANSWER, HMAC_ANSWER } from './known-answers.ts';
import { gcmDecrypt, gcmEncrypt, hmac, random, rawEcdh, signMessage } from './mechanisms.ts';
import type { Curve } from '../crypto/suite.ts';
import type { HsmCapability, HsmHash, HsmKeySpec } from './port.ts';
import { generateSecret, importKey, MESSAGE, same, secretImport } from './probe-keys.ts';
import { TO_BE_WRAPPED, using, usingPair, wrappedAndBack } from './probe-keys.ts';
import type { Trial, Verdict } from './probe-keys.ts';
import { rsaTrials, RsaTrialKeys, rsaWrapTrial } from './probe-rsa.ts';
import type { ProbeReport } from './protocol.ts';
import { HASH_BYTES } from './rsa.ts';
import { attributes, ecParams } from './templates.ts';
import type { PairSpec } from './templates.ts';

type EcSpec = Exclude<PairSpec, { kind: 'rsa' }>;
type DerivingSpec = Extract<HsmKeySpec, { use: 'derive' }>;

const EC_GENERATION = ['CKM_EC_KEY_PAIR_GEN', [CKM.EC_KEY_PAIR_GEN]] as const;
const ECDH = ['CKM_ECDH1_DERIVE', [CKM.ECDH1_DERIVE]] as const;
const ECDSA = ['CKM_ECDSA', [CKM.ECDSA]] as const;
const HMAC = {
  'SHA-256': ['CKM_SHA256_HMAC', [CKM.SHA256_HMAC]],
  'SHA-384': ['CKM_SHA384_HMAC', [CKM.SHA384_HMAC]],
  'SHA-512': ['CKM_SHA512_HMAC', [CKM.SHA512_HMAC]],
} as const;
const WRAP = ['CKM_AES_KEY_WRAP_PAD', [CKM.AES_KEY_WRAP_PAD, CKM.AES_KEY_WRAP_KWP]] as const;

const trialsOf = (rsa: RsaTrialKeys): readonly Trial[] => [
  ...(['P-256', 'P-384'] as const).flatMap((curve) => [ecdhTrial(curve), ecdsaTrial(curve)]),
  ecdsaTrial('P-521'),
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
  {
    name: 'ed25519',
    mechanisms: [
      ['CKM_EC_EDWARDS_KEY_PAIR_GEN', [CKM.EC_EDWARDS_KEY_PAIR_GEN]],
      ['CKM_EDDSA', [CKM.EDDSA]],
    ],
    run: tryEd25519,
  },
  ...rsaTrials(rsa),
  { name: 'aes-gcm', mechanisms: [['CKM_AES_GCM', [CKM.AES_GCM]]], run: tryGcm },
  ...(['SHA-256', 'SHA-384', 'SHA-512'] as const).map((hash) => ({
    name: `hmac:${hash}`,
    mechanisms: [HMAC[hash]],
    run: (connection: Connection) => tryHmac(connection, hash),
  })),
  { name: 'wrap', mechanisms: [WRAP], run: tryWrapSecret },
  { name: 'wrap:ec', mechanisms: [EC_GENERATION, WRAP], run: tryWrapPair },
  rsaWrapTrial(rsa),
  { name: 'random', mechanisms: [], run: tryRandom },
];

/** Runs every trial. A lost session is thrown; anything else is a capability with its reason. */
export function probe(connection: Connection): ProbeReport {
  const rsa = new RsaTrialKeys(connection);
  try {
    const capabilities = trialsOf(rsa).map((trial) => attempt(connection, trial));
    const wrong = capabilities.filter(({ reason }) => reason === WRONG).map(({ name }) => name);
    return { capabilities, wrong };
  } finally {
    rsa.release();
  }
}

const WRONG = 'the token computed a wrong answer';

function attempt(connection: Connection, trial: Trial): HsmCapability {
  const { name, mechanisms, run, served } = trial;
  const missing = mechanisms.find(([, oneOf]) => !oneOf.some((m) => connection.mechanisms.has(m)));
  if (missing !== undefined) return absent(name, `the token has no ${missing[0]}`);
  try {
    const verdict = run(connection);
    if (verdict === 'wrong') return absent(name, WRONG);
    const choice = served === undefined ? {} : { mechanism: served(connection) };
    return { name, available: true, reason: '', checked: verdict, ...choice };
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

function ecdhTrial(curve: 'P-256' | 'P-384'): Trial {
  return {
    name: `ecdh:${curve}`,
    mechanisms: [EC_GENERATION, ECDH],
    run: (connection) => tryEcdh(connection, { kind: 'ec', curve, use: 'derive' }),
  };
}

function ecdsaTrial(curve: 'P-256' | 'P-384' | 'P-521'): Trial {
  return {
    name: `ecdsa:${curve}`,
    mechanisms: [EC_GENERATION, ECDSA],
    run: (connection) => signsConsistently(connection, { kind: 'ec', curve, use: 'sign' }),
  };
}

function tryEcdh(connection: Connection, spec: DerivingSpec): Verdict {
  const curve: Curve = spec.kind === 'ec' ? spec.curve : 'X25519';
  const answer = ECDH_ANSWERS[curve];
  const imported = importKey(connection, privateImport(spec, answer.privateKey));
  if (imported === undefined) return ecdhConsistency(connection, spec, curve);
  return using(connection, imported, () =>
    same(rawEcdh(connection, curve, imported, answer.peer), answer.secret, 'known-answer'),
  );
}

function ecdhConsistency(connection: Connection, spec: DerivingSpec, curve: Curve): Verdict {
  return usingPair(connection, spec, (handle, point) => {
    const peer = curve === 'X25519' ? softX25519(point) : softEcdh(curve, point);
    return same(rawEcdh(connection, curve, handle, peer.point), peer.secret, 'consistency');
  });
}

function signsConsistently(
  connection: Connection,
  spec: Extract<EcSpec, { use: 'sign' }>,
): Verdict {
  return usingPair(connection, spec, (handle, publicKey) => {
    const signature = signMessage(connection, spec, handle, MESSAGE);
    return verifiesAs(spec, publicKey, MESSAGE, signature) ? 'consistency' : 'wrong';
  });
}

/** Ed25519 gives one signature of a message. */
function tryEd25519(connection: Connection): Verdict {
  const spec = { kind: 'ed25519', use: 'sign' } as const;
  const { seed, message, signature } = ED25519_ANSWER;
  const imported = importKey(connection, privateImport(spec, seed));
  if (imported === undefined) return signsConsistently(connection, spec);
  return using(connection, imported, () =>
    same(signMessage(connection, spec, imported, message), signature, 'known-answer'),
  );
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

function tryHmac(connection: Connection, hash: HsmHash): Verdict {
  const imported = importKey(connection, [
    ...secretImport(CKK.GENERIC_SECRET, { sign: true, verify: true }),
    { type: CKA.VALUE, value: Buffer.from(HMAC_ANSWER.key) },
  ]);
  if (imported !== undefined) {
    return using(connection, imported, () => {
      const mac = hmac(connection, hash, imported, HMAC_ANSWER.data);
      return same(mac, HMAC_ANSWER.macs[hash], 'known-answer');
    });
  }
  const spec: HsmKeySpec = { kind: 'hmac', hash, bytes: HASH_BYTES[hash] };
  const handle = generateSecret(connection, CKM.GENERIC_SECRET_KEY_GEN, spec);
  return using(connection, handle, () => {
    const again = hmac(connection, hash, handle, Buffer.from(MESSAGE));
    return same(hmac(connection, hash, handle, MESSAGE), again, 'consistency');
  });
}

/** A wrapped secret key must come back as itself, under a wrapping key that lives for the trial. */
function tryWrapSecret(connection: Connection): Verdict {
  const spec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 } as const;
  const made = generateSecret(connection, CKM.GENERIC_SECRET_KEY_GEN, spec, TO_BE_WRAPPED);
  const mac = (key: typeof made) => hmac(connection, spec.hash, key, MESSAGE);
  return using(connection, made, () =>
    wrappedAndBack(connection, spec, made, (copy) => same(mac(copy), mac(made), 'consistency')),
  );
}

/** The same for a private key, which some tokens keep or take back in another form. */
function tryWrapPair(connection: Connection): Verdict {
  const spec = { kind: 'ec', curve: 'P-256', use: 'derive' } as const;
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

function privateImport(spec: EcSpec, value: Uint8Array): Attribute[] {
  return [
    ...attributes({
      class: CKO.PRIVATE_KEY,
      keyType: spec.kind === 'ec' ? CKK.EC : CKK.EC_EDWARDS,
      token: false,
      private: true,
      sensitive: true,
      extractable: false,
      derive: spec.use === 'derive',
      sign: spec.use === 'sign',
      paramsEC: Buffer.from(ecParams(spec), 'hex'),
    }),
    { type: CKA.VALUE, value: Buffer.from(value) },
  ];
}
