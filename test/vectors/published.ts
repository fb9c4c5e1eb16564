/**
 * Published test vectors, brought to one shape of our own: flat records with hex strings.
 *
 * They are read from `../shared/vectors` beside the repository (or VECTORS_DIR). Where that folder
 * is absent the extract beside this file stands in, and the output says how many did not run; with
 * CI=true an absent folder is a failure. `make-extract.ts` writes the extract.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { SUITES } from '../../src/crypto/suites.ts';
import type {
  FalconParameterSet,
  MlDsaParameterSet,
  MlKemParameterSet,
  SlhDsaParameterSet,
} from '../../src/crypto/engine.ts';

export interface HpkePqVector {
  readonly mode: number;
  readonly kem_id: number;
  readonly kdf_id: number;
  readonly aead_id: number;
  readonly info: string;
  readonly ikmR: string;
  readonly skRm: string;
  readonly pkRm: string;
  readonly enc: string;
  readonly shared_secret: string;
  readonly key: string;
  readonly base_nonce: string;
  readonly exporter_secret: string;
  readonly encryptions: readonly Record<'aad' | 'ct' | 'nonce' | 'pt', string>[];
  readonly exports: readonly {
    readonly exporter_context: string;
    readonly L: number;
    readonly exported_value: string;
  }[];
}

/** Of RFC 9180, its first encryptions alone; key and nonce are empty where the AEAD is export-only. */
export interface Rfc9180Vector extends HpkePqVector {
  /** Modes 1 and 3. */
  readonly psk?: string;
  readonly psk_id?: string;
}

export interface XWingVector {
  readonly seed: string;
  readonly eseed: string;
  readonly pk: string;
  readonly ct: string;
  readonly ss: string;
}

export interface HybridVector {
  readonly suite: string;
  readonly seed: string;
  readonly randomness: string;
  readonly pk: string;
  readonly ct: string;
  readonly ss: string;
}

export interface CompositeSignatureVector {
  readonly suite: string;
  readonly message: string;
  readonly context: string;
  readonly pk: string;
  readonly sk: string;
  /** The certificate's bytes before the raw public key. */
  readonly beforeKey: string;
  readonly signature: string;
}

/** A self-signed certificate of a composite key. */
export interface CompositeCertificateVector {
  readonly suite: string;
  readonly pk: string;
  readonly certificate: string;
}

export interface CompositeKemVector {
  readonly arc: number;
  readonly ek: string;
  readonly certificate: string;
  readonly dk: string;
  readonly c: string;
  readonly k: string;
}

/** One JWE of draft-jose-hpke-pq in its flattened form; all but `alg` and `aad` are hex. */
export interface JoseHpkeVector {
  readonly alg: string;
  readonly pub: string;
  readonly priv: string;
  readonly enc: string;
  readonly ciphertext: string;
  /** The JWE's additional authenticated data, text. */
  readonly aad: string;
}

/** A private key of the LAMPS documents as PEM, with its public key, or null when it must be refused. */
export interface X509KeyVector {
  readonly name: string;
  readonly algorithm: string;
  readonly privateKey: string;
  readonly publicKey: string | null;
}

/** A certificate of the LAMPS documents, self-signed but for ML-KEM, as PEM. */
export interface X509CertificateVector {
  readonly name: string;
  readonly algorithm: string;
  readonly certificate: string;
  readonly publicKey: string;
}

/** A JWS of the JOSE documents with the public members of its key. */
export interface JoseSignatureVector {
  readonly name: string;
  readonly jwk: Readonly<Record<'kid' | 'kty' | 'alg' | 'pub', string>>;
  readonly jws: string;
}

/** A public AKP key of draft-ietf-jose-hpke-pq-pqt. */
export interface JoseHpkeKeyVector {
  readonly alg: string;
  readonly jwk: Readonly<Record<'kid' | 'kty' | 'alg' | 'pub', string>>;
}

/** A COSE_Key and a COSE_Sign1 of the COSE documents, hex. */
export interface CoseSignatureVector {
  readonly name: string;
  readonly key: string;
  readonly sign1: string;
  readonly publicKey: string;
  readonly toBeSigned: string;
  readonly signature: string;
}

export interface MlKemKeyGenVector {
  readonly set: MlKemParameterSet;
  readonly d: string;
  readonly z: string;
  readonly ek: string;
  readonly dk: string;
}

/** Fields are present as the function needs them. */
export interface MlKemVector {
  readonly set: MlKemParameterSet;
  readonly function:
    'encapsulation' | 'decapsulation' | 'encapsulationKeyCheck' | 'decapsulationKeyCheck';
  readonly ek?: string;
  readonly m?: string;
  readonly dk?: string;
  readonly c?: string;
  readonly k?: string;
  readonly testPassed?: boolean;
}

export interface MlDsaKeyGenVector {
  readonly set: MlDsaParameterSet;
  readonly seed: string;
  readonly pk: string;
  readonly sk: string;
}

interface MlDsaVector {
  readonly set: MlDsaParameterSet;
  readonly interface: 'pure' | 'preHash' | 'internal' | 'externalMu';
  readonly hashAlg?: string;
  /** The message, or mu for `externalMu`. */
  readonly message: string;
  readonly context: string;
  readonly signature: string;
}

export interface MlDsaSigGenVector extends MlDsaVector {
  readonly sk: string;
  /** Absent: deterministic. */
  readonly rnd?: string;
}

export interface MlDsaSigVerVector extends MlDsaVector {
  readonly pk: string;
  readonly testPassed: boolean;
}

export interface SlhDsaKeyGenVector {
  readonly set: SlhDsaParameterSet;
  /** SK.seed ‖ SK.prf ‖ PK.seed. */
  readonly seed: string;
  readonly pk: string;
  readonly sk: string;
}

/** The internal interface (FIPS 205 algorithm 20): the message is what is hashed, without context. */
export interface SlhDsaSigVerVector {
  readonly set: SlhDsaParameterSet;
  readonly pk: string;
  readonly sk: string;
  readonly message: string;
  readonly signature: string;
  readonly testPassed: boolean;
}

/** Round 3; the attached signature of the file, taken apart. */
export interface FalconVector {
  readonly set: FalconParameterSet;
  /** Starts NIST's generator, of which key generation takes 48 bytes. */
  readonly seed: string;
  readonly pk: string;
  readonly sk: string;
  readonly message: string;
  readonly nonce: string;
  /** The compressed polynomial alone, without a header. */
  readonly s2: string;
}

/** One decryption of Wycheproof; all but `result` are hex. */
export interface RsaOaepVector {
  /** PKCS#8 DER of the private key. */
  readonly key: string;
  readonly ct: string;
  readonly msg: string;
  readonly label: string;
  readonly result: 'valid' | 'invalid';
}

/** An edge case of Ed25519's points (C2SP's CCTV); key and signature are hex, the message is text. */
export interface Ed25519PointVector {
  readonly number: number;
  readonly key: string;
  readonly sig: string;
  readonly msg: string;
  readonly flags: readonly string[];
}

/** PQClean's one record of each file; the attached signature taken apart, whole and in its form. */
export interface FalconPqcleanVector {
  readonly set: FalconParameterSet;
  readonly padded: boolean;
  readonly seed: string;
  readonly pk: string;
  readonly message: string;
  /** Header ‖ nonce ‖ s2, with its padding. */
  readonly signature: string;
}

/** Of the draft of FIPS 203 (CCTV's intermediate values): no seed of ours gives this key. */
export interface MlKemIntermediateVector {
  readonly set: MlKemParameterSet;
  readonly ek: string;
  readonly dk: string;
  readonly m: string;
  readonly c: string;
  readonly K: string;
}

/** A message that the key of the zero seed signs, of CCTV's targets; ASCII. */
export interface MlDsaMessageVector {
  readonly set: MlDsaParameterSet;
  readonly alternate: boolean;
  readonly message: string;
}

export interface VectorSets {
  readonly 'ed25519-points': Ed25519PointVector;
  readonly 'falcon-pqclean': FalconPqcleanVector;
  readonly 'ml-kem-intermediate': MlKemIntermediateVector;
  readonly 'ml-dsa-messages': MlDsaMessageVector;
  readonly 'hpke-pq': HpkePqVector;
  readonly 'hpke-rfc9180': Rfc9180Vector;
  readonly xwing: XWingVector;
  readonly 'cfrg-hybrids': HybridVector;
  readonly 'composite-sigs': CompositeSignatureVector;
  readonly 'composite-sigs-certificates': CompositeCertificateVector;
  readonly 'composite-sigs-not-offered': Pick<CompositeSignatureVector, 'suite'>;
  readonly 'composite-kem': CompositeKemVector;
  readonly 'jose-hpke': JoseHpkeVector;
  readonly 'jose-hpke-keys': JoseHpkeKeyVector;
  readonly 'jose-signatures': JoseSignatureVector;
  readonly 'cose-signatures': CoseSignatureVector;
  readonly 'x509-keys': X509KeyVector;
  readonly 'x509-certificates': X509CertificateVector;
  readonly 'ml-kem-keygen': MlKemKeyGenVector;
  readonly 'ml-kem-encapdecap': MlKemVector;
  readonly 'ml-dsa-keygen': MlDsaKeyGenVector;
  readonly 'ml-dsa-siggen': MlDsaSigGenVector;
  readonly 'ml-dsa-sigver': MlDsaSigVerVector;
  readonly 'slh-dsa-keygen': SlhDsaKeyGenVector;
  readonly 'slh-dsa-sigver': SlhDsaSigVerVector;
  readonly falcon: FalconVector;
  readonly 'rsa-oaep': RsaOaepVector;
}
export type VectorSet = keyof VectorSets;

/** Published counts, of the suites that this service has. */
export const TOTALS: Readonly<Record<VectorSet, number>> = {
  'ed25519-points': 914,
  'falcon-pqclean': 4,
  'ml-kem-intermediate': 3,
  'ml-dsa-messages': 898,
  'hpke-pq': 13,
  'hpke-rfc9180': 128,
  xwing: 3,
  'cfrg-hybrids': 30,
  'composite-sigs': 30,
  'composite-sigs-certificates': 15,
  'composite-sigs-not-offered': 3,
  'composite-kem': 3,
  'jose-hpke': 3,
  'jose-hpke-keys': 10,
  'jose-signatures': 9,
  'cose-signatures': 9,
  'x509-keys': 26,
  'x509-certificates': 7,
  'ml-kem-keygen': 75,
  'ml-kem-encapdecap': 165,
  'ml-dsa-keygen': 75,
  'ml-dsa-siggen': 360,
  'ml-dsa-sigver': 180,
  'slh-dsa-keygen': 120,
  'slh-dsa-sigver': 45,
  falcon: 200,
  'rsa-oaep': 37,
};

export const EXTRACT = resolve(import.meta.dirname, 'extract');
/** Where the whole published folder is, or would be. */
export const FOLDER = resolve(
  process.env['VECTORS_DIR'] ?? resolve(import.meta.dirname, '../../../shared/vectors'),
);

function readJson(folder: string, path: string): unknown {
  const bytes = readFileSync(join(folder, path));
  return JSON.parse((path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8'));
}

const hexOf = (base64: string) => Buffer.from(base64, 'base64').toString('hex');

interface AcvpGroup {
  readonly tests: readonly Record<string, string | boolean | number>[];
  readonly [parameter: string]: unknown;
}

/** Prompt and expected result of each test in one record, with the parameters of its group. */
function readAcvp(folder: string, name: string): Record<string, unknown>[] {
  const read = (file: string) =>
    (readJson(folder, `acvp/${name}/${file}.json.gz`) as { testGroups: AcvpGroup[] }).testGroups;
  const expected = new Map(
    read('expectedResults').flatMap(({ tests }) => tests.map((test) => [test['tcId'], test])),
  );
  return read('prompt').flatMap(({ tests, parameterSet, ...group }) =>
    tests.map((test) => ({ set: parameterSet, ...group, ...test, ...expected.get(test['tcId']) })),
  );
}

const lower = (value: unknown) => (typeof value === 'string' ? value.toLowerCase() : value);

function pick(record: Record<string, unknown>, fields: readonly string[]) {
  return Object.fromEntries(
    fields.filter((field) => field in record).map((field) => [field, lower(record[field])]),
  );
}

function mlDsaInterface(record: Record<string, unknown>): string {
  if (record['signatureInterface'] === 'external') return String(record['preHash']);
  return record['externalMu'] === true ? 'externalMu' : 'internal';
}

/** sigGen and sigVer share their message side. */
function mlDsaRecord(record: Record<string, unknown>, fields: readonly string[]) {
  return {
    set: record['set'],
    interface: mlDsaInterface(record),
    ...('hashAlg' in record ? { hashAlg: record['hashAlg'] } : {}),
    message: lower(record['message'] ?? record['mu']),
    context: lower(record['context'] ?? ''),
    ...pick(record, fields),
  };
}

interface LampsFile {
  readonly m: string;
  readonly ctx: string;
  readonly tests: readonly Record<string, string>[];
}

/** The composites of the file, which also has ML-DSA alone, by whether this service offers them. */
function compositeTests(folder: string, offered: boolean) {
  const { m, ctx, tests } = readJson(folder, 'composite-sigs/testvectors.json') as LampsFile;
  const composites = tests.map((test) => ({ ...test, suite: (test['tcId'] ?? '').slice(3) }));
  const chosen = composites.filter(
    ({ suite }) => suite.startsWith('MLDSA') && Object.hasOwn(SUITES, suite) === offered,
  );
  return { m, ctx, chosen };
}

function readCompositeSignatures(folder: string): unknown[] {
  const { m, ctx, chosen } = compositeTests(folder, true);
  return chosen.flatMap((test: Readonly<Record<string, string>>) => {
    const hex = (name: string) => hexOf(test[name] ?? '');
    const common = { suite: test['suite'], message: hexOf(m), pk: hex('pk'), sk: hex('sk') };
    const [beforeKey] = hex('x5c').split(common.pk);
    return [
      { ...common, beforeKey, context: '', signature: hex('s') },
      { ...common, beforeKey, context: hexOf(ctx), signature: hex('sWithContext') },
    ];
  });
}

function readCompositeKems(folder: string): unknown[] {
  const { tests } = readJson(folder, 'composite-kem/testvectors.json') as LampsFile;
  const names = {
    58: 'id-MLKEM768-X25519-SHA3-256',
    59: 'id-MLKEM768-ECDH-P256-SHA3-256',
    63: 'id-MLKEM1024-ECDH-P384-SHA3-256',
  };
  return Object.entries(names).map(([arc, name]) => {
    const test = tests.find(({ tcId }) => tcId === name) ?? {};
    const fields = ['ek', 'dk', 'c', 'k'].map((field) => [field, hexOf(test[field] ?? '')]);
    return Object.fromEntries([
      ['arc', Number(arc)],
      ['certificate', hexOf(test['x5c'] ?? '')],
      ...fields,
    ]) as unknown;
  });
}

interface JoseHpkeFile {
  readonly alg: string;
  readonly jwk: Readonly<Record<'alg' | 'pub' | 'priv', string>>;
  readonly flattened: Readonly<
    Record<'protected' | 'aad' | 'encrypted_key' | 'ciphertext', string>
  >;
}

function readJoseHpke(folder: string): unknown[] {
  const all = readJson(folder, 'jose-cose/hpke-pq/jose-vectors.json') as JoseHpkeFile[];
  const ours = all.filter(({ alg }) => ['HPKE-8', 'HPKE-9', 'HPKE-10'].includes(alg));
  return ours.map(({ alg, jwk, flattened }) => ({
    alg,
    pub: hexOf(jwk.pub),
    priv: hexOf(jwk.priv),
    enc: hexOf(flattened.encrypted_key),
    ciphertext: hexOf(flattened.ciphertext),
    aad: `${flattened.protected}.${flattened.aad}`,
  }));
}

const LAMPS_FOLDERS = ['ml-dsa', 'ml-kem', 'slh-dsa'];

/** `ML-DSA-44` of `bad-ML-DSA-44-1.priv`, `SLH-DSA-SHA2-128s` of `id-slh-dsa-sha2-128s.priv`. */
function lampsAlgorithm(name: string): string {
  const set = /ML-(?:DSA|KEM)-\d+/.exec(name);
  return set?.[0] ?? 'SLH-DSA-SHA2-128s';
}

/** Every file of the LAMPS examples with this ending; the public key is the file's beside it. */
function readLamps(folder: string, ending: string) {
  return LAMPS_FOLDERS.flatMap((part) => {
    const read = (name: string) => readFileSync(join(folder, 'x509', part, name), 'utf8');
    const names = readdirSync(join(folder, 'x509', part)).sort();
    return names
      .filter((name) => name.endsWith(ending))
      .map((name) => {
        const stem = name.replace(/(?:-(?:both|expanded|seed))?\.[a-z]+$/, '');
        return {
          name,
          algorithm: lampsAlgorithm(name),
          text: read(name),
          publicKey: name.startsWith('bad') ? null : read(`${stem}.pub`),
        };
      });
  });
}

/** The JOSE and COSE files: ML-DSA, and the composites of draft-ietf-jose-pq-composite-sigs. */
function readSignatureFiles(folder: string, ending: string) {
  return ['ml-dsa', 'composite'].flatMap((part) =>
    readdirSync(join(folder, 'jose-cose', part))
      .filter((name) => name.endsWith(ending))
      .sort()
      .map((name) => {
        const path = `jose-cose/${part}/${name}`;
        return { name, file: readJson(folder, path) as Record<string, unknown> };
      }),
  );
}

function readJoseSignatures(folder: string): unknown[] {
  return readSignatureFiles(folder, '.jose.json').map(({ name, file }) => ({
    name,
    jwk: publicMembers(file['jwk'] as Record<string, unknown>),
    jws: file['jws'],
  }));
}

function publicMembers(jwk: Record<string, unknown>) {
  return Object.fromEntries(Object.entries(jwk).filter(([name]) => name !== 'priv'));
}

function readCoseSignatures(folder: string): unknown[] {
  return readSignatureFiles(folder, '.cose.json').map(({ name, file }) => ({
    name,
    key: file['key'],
    sign1: file['sign1'],
    publicKey: file['raw_public_key'],
    toBeSigned: file['raw_to_be_signed'],
    signature: file['raw_signature'],
  }));
}

function readHybrids(folder: string): unknown[] {
  const suites = ['MLKEM768-P256', 'MLKEM768-X25519', 'MLKEM1024-P384'];
  return suites.flatMap((suite) => {
    const file = `hybrid-kems/test-vectors-${suite.replace('-', '')}.json`;
    const fields = ['seed', 'randomness', 'pk', 'ct', 'ss'];
    return (readJson(folder, file) as Record<string, unknown>[]).map((vector) => ({
      suite,
      ...pick(vector, fields),
    }));
  });
}

function readSlhDsaKeys(folder: string): unknown[] {
  return readAcvp(folder, 'SLH-DSA-keyGen-FIPS205').map((record) => ({
    set: record['set'],
    seed: ['skSeed', 'skPrf', 'pkSeed'].map((field) => lower(record[field])).join(''),
    ...pick(record, ['pk', 'sk']),
  }));
}

interface Projection {
  readonly testGroups: readonly AcvpGroup[];
}

function readSlhDsaVerifications(folder: string): unknown[] {
  const file = 'acvp/SLH-DSA-sigVer-FIPS205-internalProjection/internalProjection.json.gz';
  const { testGroups } = readJson(folder, file) as Projection;
  return testGroups.flatMap(({ tests, parameterSet }) =>
    tests.map((test) => ({
      set: parameterSet,
      ...pick(test, ['pk', 'sk', 'message', 'signature', 'testPassed']),
    })),
  );
}

/** `sm` is u16 length of the signature ‖ nonce (40) ‖ message ‖ header ‖ s2. */
function readFalcon(folder: string): unknown[] {
  return [512, 1024].flatMap((degree) => {
    const bytes = readFileSync(join(folder, `falcon/round3/falcon${String(degree)}-KAT.rsp.gz`));
    const blocks = gunzipSync(bytes).toString('ascii').split('\n\n');
    const records = blocks.filter((block) => block.includes('seed = '));
    return records.map((block) => {
      const entries = block.split('\n').map((line) => line.split(' = '));
      const field = (name: string) =>
        (entries.find(([key]) => key === name)?.[1] ?? '').trim().toLowerCase();
      const signed = field('sm');
      const end = 2 * (42 + Number(field('mlen')));
      return {
        set: `Falcon-${String(degree)}`,
        seed: field('seed'),
        pk: field('pk'),
        sk: field('sk'),
        message: field('msg'),
        nonce: signed.slice(4, 84),
        s2: signed.slice(end + 2),
      };
    });
  });
}

/** PQClean's `sm`: padded, the signature ‖ message; else as of round 3. */
function readPqclean(folder: string): unknown[] {
  return [512, 1024].flatMap((degree) =>
    [false, true].map((padded) => {
      const name = `falcon${padded ? '-padded' : ''}-${String(degree)}`;
      const text = readFileSync(join(folder, `falcon/pqclean/nistkat_out_${name}_clean`), 'utf8');
      const entries = new Map(
        text.split('\n').map((line) => line.split(' = ') as [string, string]),
      );
      const field = (key: string) => (entries.get(key) ?? '').trim().toLowerCase();
      const [signed, message] = [field('sm'), field('msg')];
      const end = 84 + message.length;
      return {
        set: `Falcon-${String(degree)}`,
        padded,
        seed: field('seed'),
        pk: field('pk'),
        message,
        signature: padded
          ? signed.slice(0, signed.length - message.length)
          : `${degree === 512 ? '39' : '3a'}${signed.slice(4, 84)}${signed.slice(end + 2)}`,
      };
    }),
  );
}

/** The lines `name = hex` of a file of C2SP's CCTV. */
function readMlKemIntermediate(folder: string): unknown[] {
  return ['ML-KEM-512', 'ML-KEM-768', 'ML-KEM-1024'].map((set) => {
    const text = readFileSync(join(folder, 'cctv/ML-KEM/intermediate', `${set}.txt`), 'utf8');
    const lines = text.split('\n').map((line) => line.split(' = ') as [string, string]);
    return { set, ...pick(Object.fromEntries(lines), ['ek', 'dk', 'm', 'c', 'K']) };
  });
}

function readMlDsaMessages(folder: string): unknown[] {
  return ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'].flatMap((set) =>
    [false, true].flatMap((alternate) => {
      const file = `cctv/ML-DSA/benchmark/${set}${alternate ? '.alt' : ''}.json`;
      const messages = readJson(folder, file) as string[];
      return messages.map((message) => ({ set, alternate, message }));
    }),
  );
}

interface WycheproofOaep {
  readonly testGroups: readonly {
    readonly privateKeyPkcs8: string;
    readonly tests: readonly Record<string, unknown>[];
  }[];
}

function readRsaOaep(folder: string): unknown[] {
  const file = 'wycheproof/testvectors_v1/rsa_oaep_3072_sha256_mgf1sha256_test.json.gz';
  return (readJson(folder, file) as WycheproofOaep).testGroups.flatMap(
    ({ privateKeyPkcs8: key, tests }) =>
      tests.map((test) => ({ key, ...pick(test, ['ct', 'msg', 'label', 'result']) })),
  );
}

const RFC_9180_FIELDS = [
  ...['mode', 'kem_id', 'kdf_id', 'aead_id', 'info', 'ikmR', 'skRm', 'pkRm', 'enc', 'psk'],
  ...['psk_id', 'shared_secret', 'key', 'base_nonce', 'exporter_secret', 'exports'],
];

function readRfc9180(folder: string): unknown[] {
  const all = readJson(folder, 'hpke/vectors_rfc9180_5f503c5.json.gz') as HpkePqVector[];
  return all.map((vector) => ({
    ...pick({ ...vector }, RFC_9180_FIELDS),
    encryptions: vector.encryptions.slice(0, 2),
  }));
}

const READERS: Readonly<Record<VectorSet, (folder: string) => unknown[]>> = {
  'hpke-pq': (folder) => readJson(folder, 'hpke/hpke-pq-test-vectors.json') as unknown[],
  'hpke-rfc9180': readRfc9180,
  xwing: (folder) =>
    (readJson(folder, 'xwing/test-vectors.json') as Record<string, unknown>[]).map((vector) =>
      pick(vector, ['seed', 'eseed', 'pk', 'ct', 'ss']),
    ),
  'cfrg-hybrids': readHybrids,
  'composite-sigs': readCompositeSignatures,
  'composite-sigs-certificates': (folder) =>
    compositeTests(folder, true).chosen.map((test: Readonly<Record<string, string>>) => ({
      suite: test['suite'],
      pk: hexOf(test['pk'] ?? ''),
      certificate: hexOf(test['x5c'] ?? ''),
    })),
  'composite-sigs-not-offered': (folder) =>
    compositeTests(folder, false).chosen.map(({ suite }) => ({ suite })),
  'composite-kem': readCompositeKems,
  'jose-hpke': readJoseHpke,
  'jose-hpke-keys': (folder) =>
    (readJson(folder, 'jose-cose/hpke-pq/jose-vectors.json') as JoseHpkeFile[]).map(
      ({ alg, jwk }) => ({ alg, jwk: publicMembers(jwk) }),
    ),
  'jose-signatures': readJoseSignatures,
  'cose-signatures': readCoseSignatures,
  'x509-keys': (folder) =>
    readLamps(folder, '.priv').map(({ text, ...key }) => ({ ...key, privateKey: text })),
  'x509-certificates': (folder) =>
    [...readLamps(folder, '.crt'), ...readLamps(folder, '.pem')].map(({ text, ...key }) => ({
      ...key,
      certificate: text,
    })),
  'ml-kem-keygen': (folder) =>
    readAcvp(folder, 'ML-KEM-keyGen-FIPS203').map((record) => ({
      set: record['set'],
      ...pick(record, ['d', 'z', 'ek', 'dk']),
    })),
  'ml-kem-encapdecap': (folder) =>
    readAcvp(folder, 'ML-KEM-encapDecap-FIPS203').map((record) => ({
      set: record['set'],
      function: record['function'],
      ...pick(record, ['ek', 'm', 'dk', 'c', 'k', 'testPassed']),
    })),
  'ml-dsa-keygen': (folder) =>
    readAcvp(folder, 'ML-DSA-keyGen-FIPS204').map((record) => ({
      set: record['set'],
      ...pick(record, ['seed', 'pk', 'sk']),
    })),
  'ml-dsa-siggen': (folder) =>
    readAcvp(folder, 'ML-DSA-sigGen-FIPS204').map((record) =>
      mlDsaRecord(record, ['sk', 'rnd', 'signature']),
    ),
  'ml-dsa-sigver': (folder) =>
    readAcvp(folder, 'ML-DSA-sigVer-FIPS204').map((record) =>
      mlDsaRecord(record, ['pk', 'signature', 'testPassed']),
    ),
  'slh-dsa-keygen': readSlhDsaKeys,
  'slh-dsa-sigver': readSlhDsaVerifications,
  falcon: readFalcon,
  'ed25519-points': (folder) =>
    (readJson(folder, 'cctv/ed25519/ed25519vectors.json.gz') as Ed25519PointVector[]).map(
      ({ flags, ...vector }) => ({ ...vector, flags: (flags as readonly string[] | null) ?? [] }),
    ),
  'falcon-pqclean': readPqclean,
  'ml-kem-intermediate': readMlKemIntermediate,
  'ml-dsa-messages': readMlDsaMessages,
  'rsa-oaep': readRsaOaep,
};

/** Whether the whole published folder is at hand. */
export function hasPublishedFolder(): boolean {
  if (existsSync(FOLDER)) return true;
  if (process.env['CI'] === 'true') throw new Error(`the published vectors are not at ${FOLDER}`);
  return false;
}

/** All vectors of a set from the published folder. */
export function readPublished<N extends VectorSet>(name: N): readonly VectorSets[N][] {
  return READERS[name](FOLDER) as VectorSets[N][];
}

/** The whole set where the folder is at hand, else its extract; says which. */
export function vectorsOf<N extends VectorSet>(name: N): readonly VectorSets[N][] {
  const total = TOTALS[name];
  if (hasPublishedFolder()) {
    const vectors = readPublished(name);
    if (vectors.length !== total) {
      throw new Error(`${name}: ${vectors.length} vectors instead of ${total}`);
    }
    report(`vectors ${name}: all ${total}`);
    return vectors;
  }
  const { vectors } = readJson(EXTRACT, `${name}.json`) as { vectors: VectorSets[N][] };
  const left = total - vectors.length;
  const missing = left === 0 ? '' : `, ${left} of ${total} NOT run`;
  report(`vectors ${name}: extract of ${vectors.length}${missing}`);
  return vectors;
}

/** A line of the test output without jest's call site around it. */
export function report(line: string): void {
  process.stdout.write(`${line}\n`);
}
