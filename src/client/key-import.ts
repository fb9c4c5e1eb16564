/**
 * Import of a key, from the importer's side (docs/import.md): what of a private key the suite needs, sealed to
 * parameters that are asked for, and sent.
 */
import { createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import { approval } from '../contract/approvals.ts';
import { importKey, importParameters } from '../contract/imports.ts';
import { decodeBase64, encodeBase64 } from '../crypto/base64.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { IMPORT_ENVELOPE, sealImport, wrapForHsm } from '../crypto/import-envelope.ts';
import { nativeEngine } from '../crypto/native-engine.ts';
import { parsePrivateKey, wipePrivateKey } from '../crypto/private-key.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import { parseSpki } from '../crypto/spki.ts';
import { findSuite, SUITES } from '../crypto/suites.ts';
import type { Suite } from '../crypto/suite.ts';
import { NAME } from '../name.ts';
import { TwofoldError } from '../errors.ts';
import { ClientError } from './client-error.ts';
import { JSON_TYPE, jsonOf, unexpected } from './http-connection.ts';
import type { HttpConnection } from './http-connection.ts';
import type { ForeignKey } from './private-key-file.ts';

/** What is sealed, and what is told of it. */
export interface ImportMaterial {
  readonly suite: Suite;
  /** PKCS #8 in DER, a secret, or a seed. The caller wipes it. */
  readonly key: SecretBytes;
  /** Raw; null for a secret key. */
  readonly publicKey: Uint8Array | null;
}

/** The row of a suite, before anything secret is read. @throws TwofoldError unknown_suite */
export const suiteOf = (id: string): Suite => findSuite(id);

const unfit = (what: string) => new ClientError('key_unfit', what);
const isUnfit = (error: unknown) => TwofoldError.is(error, 'invalid_value');

/**
 * @throws ClientError key_unfit for a key of another kind than the suite's; where there are suites that it fits,
 *   the message names them
 */
export async function materialFor(suite: Suite, foreign: ForeignKey): Promise<ImportMaterial> {
  if (suite.pq !== null && suite.hsm !== null) {
    throw unfit(`${suite.id} is a hybrid, whose halves are made by the service alone.`);
  }
  if (foreign.kind === 'bytes') return bytesMaterial(suite, foreign.bytes);
  if (!fits(suite, foreign.key)) throw unfit(fittingTo(foreign.key));
  return suite.pq === null ? pkcs8Material(suite, foreign.key) : seedMaterial(suite, foreign.key);
}

type Keyed = Extract<Suite, { kind: 'kem' | 'signature' }>;

function fits(suite: Suite, key: KeyObject): suite is Keyed {
  if (!('encoding' in suite) || (suite.pq !== null && suite.hsm !== null)) return false;
  try {
    rawPublicKey(suite, key);
    return true;
  } catch (error) {
    if (isUnfit(error)) return false;
    throw error;
  }
}

function rawPublicKey({ encoding }: Keyed, key: KeyObject): Uint8Array {
  return parseSpki(encoding, createPublicKey(key).export({ format: 'der', type: 'spki' }));
}

function fittingTo(key: KeyObject): string {
  const ids = Object.values(SUITES).flatMap((suite) => (fits(suite, key) ? [suite.id] : []));
  const kind = `Its key is of the kind ${key.asymmetricKeyType ?? 'unknown'}`;
  return ids.length === 0
    ? `${kind}, and no suite is made of such a key.`
    : `${kind}, and is for one of: ${ids.join(', ')}.`;
}

/** As Node writes it: without attributes. */
async function pkcs8Material(suite: Keyed, key: KeyObject): Promise<ImportMaterial> {
  const der = SecretBytes.own(key.export({ format: 'der', type: 'pkcs8' }));
  try {
    const { material } = await parsePrivateKey(suite.encoding, der.reveal(), null);
    wipePrivateKey(material);
    return { suite, key: der, publicKey: rawPublicKey(suite, key) };
  } catch (error) {
    wipe(der);
    throw isUnfit(error) ? unfit('Its private key is not one of the suite.') : error;
  }
}

async function seedMaterial(suite: Keyed, key: KeyObject): Promise<ImportMaterial> {
  const seed = seedOf(suite, key);
  try {
    const publicKey = await publicKeyOf(suite, seed);
    if (equalBytes(publicKey, rawPublicKey(suite, key))) return { suite, key: seed, publicKey };
    throw unfit('Its public key is not that of its seed.');
  } catch (error) {
    wipe(seed);
    throw error;
  }
}

/** The private key of SLH-DSA begins with what FIPS 205 makes it of. */
export function seedOf(suite: Keyed, key: KeyObject): SecretBytes {
  const format = key.asymmetricKeyType?.startsWith('slh') === true ? 'raw-private' : 'raw-seed';
  let bytes: Buffer;
  try {
    bytes = key.export({ format });
  } catch {
    throw unfit('It has the expanded key alone: a seed is what is imported.');
  }
  try {
    return SecretBytes.copyOf(bytes.subarray(0, suite.parts[0]?.seedLength ?? 0));
  } finally {
    wipe(bytes);
  }
}

export async function publicKeyOf(suite: Suite, seed: SecretBytes): Promise<Uint8Array> {
  const { mlKem, signatures } = nativeEngine;
  if (suite.kind === 'kem' && suite.pq !== null) return mlKem.publicKey(suite.pq, seed);
  if (suite.kind === 'signature' && suite.pq !== null) {
    return signatures.publicKey(suite.pq, seed);
  }
  throw unfit(`${suite.id} is no suite of a seed or a secret: its keys come as PEM, DER or JWK.`);
}

async function bytesMaterial(suite: Suite, bytes: SecretBytes): Promise<ImportMaterial> {
  const secret = suite.kind === 'aead' ? suite.aead : suite.kind === 'mac' ? suite.mac : null;
  const length = secret?.keyLength ?? suite.parts[0]?.seedLength;
  if (length !== null && length !== undefined && bytes.length !== length) {
    throw unfit(`A key of ${suite.id} is made of ${String(length)} bytes.`);
  }
  const key = SecretBytes.copyOf(bytes.reveal());
  try {
    return { suite, key, publicKey: secret === null ? await publicKeyOf(suite, key) : null };
  } catch (error) {
    wipe(key);
    throw error;
  }
}

/** What the key is called here, and becomes; as the route has it. */
export interface ImportAs {
  readonly name: string;
  readonly purpose?: 'wrap' | 'kem' | 'sign' | 'mac';
  readonly labels?: Readonly<Record<string, string>>;
  readonly deletionProtection?: true;
  readonly publish?: true;
}

/** What is sent; nothing in it is secret. */
export interface ImportRequest {
  readonly namespace: string;
  readonly body: Readonly<Record<string, unknown>>;
}

interface Schema<T> {
  safeParse(value: unknown): { success: boolean; data?: T; error?: unknown };
}

function readAs<T>(schema: Schema<T>, body: Uint8Array): T {
  const parsed = schema.safeParse(jsonOf(body));
  if (parsed.success && parsed.data !== undefined) return parsed.data;
  throw unexpected('The answer has not the form that it is to have.', parsed.error);
}

const inNamespace = (namespace: string) => ({ [`${NAME.header}Namespace`]: namespace });

/**
 * Asks for parameters, and seals to them.
 * @throws ClientError of the service's code, `service_unreachable` or `unexpected_answer`
 */
export async function prepareImport(
  connection: HttpConnection,
  namespace: string,
  as: ImportAs,
  { suite, key, publicKey }: ImportMaterial,
): Promise<ImportRequest> {
  const path = `/v1/admin/imports/parameters?suite=${encodeURIComponent(suite.id)}`;
  const headers = inNamespace(namespace);
  const answer = await connection.send({ method: 'GET', path, accept: JSON_TYPE, headers });
  const given = readAs(importParameters.response, answer.body);
  const { id, envelope, importingKey, parameters } = given;
  if (envelope.suite !== IMPORT_ENVELOPE.id) throw unexpected('Its envelope is of another suite.');
  const binding = { id, namespace, suite, publicKey };
  const importing = importingKey === null ? null : decodeBase64(importingKey, 'importingKey');
  if ((importing === null) !== (suite.hsm === null))
    throw unexpected('Its importing key is not expected.');
  const content = importing === null ? key : SecretBytes.own(wrapForHsm(binding, importing, key));
  const target = decodeBase64(envelope.publicKey, 'envelope.publicKey');
  try {
    const sealed = await sealImport(nativeEngine, target, binding, content);
    const body = {
      ...as,
      suite: suite.id,
      parameters,
      envelope: encodeBase64(sealed),
      ...(publicKey === null ? {} : { publicKey: encodeBase64(publicKey) }),
    };
    return { namespace, body };
  } finally {
    if (content !== key) wipe(content);
  }
}

/** `waits`: somebody else has to approve the very request before. */
export type ImportAnswer =
  | {
      readonly kind: 'imported' | 'tried';
      readonly key: { readonly id: string; readonly name: string };
    }
  | { readonly kind: 'waits'; readonly approval: string; readonly expiresAt: string };

export interface SendOptions {
  readonly dryRun: boolean;
  readonly approval?: string;
  /** The same for as long as it may be that the request was done and the answer was lost. */
  readonly idempotencyKey: string;
}

/** @throws ClientError of the service's code, `service_unreachable` or `unexpected_answer` */
export async function sendImport(
  connection: HttpConnection,
  { namespace, body }: ImportRequest,
  { dryRun, approval: id, idempotencyKey }: SendOptions,
): Promise<ImportAnswer> {
  const answer = await connection.send({
    method: 'POST',
    changes: true,
    path: `/v1/admin/imports${dryRun ? '?dryRun=true' : ''}`,
    accept: JSON_TYPE,
    contentType: JSON_TYPE,
    body: Buffer.from(JSON.stringify(body)),
    statuses: [200, 201, 202],
    headers: {
      ...inNamespace(namespace),
      ...(dryRun ? {} : { 'Idempotency-Key': idempotencyKey }),
      ...(id === undefined ? {} : { [`${NAME.header}Approval`]: id }),
    },
  });
  if (answer.status === 202) {
    const { id: asked, expiresAt } = readAs(approval, answer.body);
    return { kind: 'waits', approval: asked, expiresAt };
  }
  return { kind: dryRun ? 'tried' : 'imported', key: readAs(importKey.response, answer.body) };
}
