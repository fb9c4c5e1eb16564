/**
 * Brings published or stored keys into a test token as the service's own keys are there: EC and MAC
 * keys wrapped under the root, X25519 and Ed25519 as token objects. Never offered by the service itself.
 *
 * Needs the module for itself: no pool may be open in the process.
 */
import { createPrivateKey, randomUUID, randomBytes } from 'node:crypto';
import { KeyType, ObjectClass } from 'graphene-pk11';
import { Connection } from '../../src/hsm/connection.ts';
import { CKA, CKK, CKO } from '../../src/hsm/cryptoki.ts';
import type { Attribute, Handle } from '../../src/hsm/cryptoki.ts';
import { OBJECT_ID_BYTES, uuidBytes } from '../../src/hsm/inputs.ts';
import { exportSofthsmConf, loadAlone } from '../../src/hsm/module.ts';
import { readPin } from '../../src/hsm/pin.ts';
import type { HsmKey, HsmKeySpec } from '../../src/hsm/port.ts';
import { findRoot, wrapMechanism } from '../../src/hsm/roots.ts';
import { attributes, ecParams, isPair, TOKEN_KEY_LABEL } from '../../src/hsm/templates.ts';
import type { PairSpec } from '../../src/hsm/templates.ts';
import { ROOT } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

export interface PublishedKey {
  readonly spec: HsmKeySpec;
  /** Big-endian scalar; the 32 bytes of X25519, Ed25519 or of a MAC key; the DER of RSAPrivateKey. */
  readonly scalar: Uint8Array;
  /** Of a MAC key, its check value. */
  readonly publicKey: Uint8Array;
}

/** Runs `use` on a connection of this thread, alone in the process. */
export async function withConnection<Result>(
  fixture: TokenFixture,
  use: (connection: Connection, root: Handle) => Result,
): Promise<Result> {
  return withToken(fixture, (connection) => use(connection, findRoot(connection, ROOT)));
}

/** As `withConnection`, on a token that may have no root. */
export async function withToken<Result>(
  fixture: TokenFixture,
  use: (connection: Connection) => Result,
): Promise<Result> {
  await exportSofthsmConf(fixture.token.softhsmConf);
  const cryptoki = loadAlone(fixture.token.module);
  try {
    const pin = await readPin(fixture.token.pinFile);
    const selector = { label: fixture.token.tokenLabel };
    const request = { op: 'open', tokenEpoch: 1, pin } as const;
    return use(Connection.open(cryptoki, selector, request));
  } finally {
    cryptoki.C_Finalize();
  }
}

export function importKeys(
  fixture: TokenFixture,
  keys: readonly PublishedKey[],
): Promise<readonly HsmKey[]> {
  return withConnection(fixture, (connection, root) =>
    keys.map((key) =>
      key.spec.kind === 'x25519' || key.spec.kind === 'ed25519'
        ? importTokenKey(connection, key)
        : importWrapped(connection, root, key),
    ),
  );
}

function importWrapped(connection: Connection, root: Handle, key: PublishedKey): HsmKey {
  const handle = create(connection, key, { token: false, extractable: true });
  const blob = connection.run((session, cryptoki) => {
    const mechanism = { mechanism: wrapMechanism(connection) };
    return cryptoki.C_WrapKey(session, mechanism, root, handle, Buffer.alloc(4096));
  });
  connection.destroy(handle);
  const { generation } = ROOT;
  const material = {
    custody: 'hsm-wrapped',
    generation,
    blob: Uint8Array.from(blob),
    check: key.publicKey,
  } as const;
  return { id: randomUUID(), spec: key.spec, material };
}

function importTokenKey(connection: Connection, key: PublishedKey): HsmKey {
  const objectId = randomBytes(OBJECT_ID_BYTES);
  uuidBytes(ROOT.installation).copy(objectId);
  create(connection, key, { token: true, label: TOKEN_KEY_LABEL, id: objectId });
  const material = {
    custody: 'hsm-token',
    tokenSerial: connection.serial,
    installation: ROOT.installation,
    objectId: Uint8Array.from(objectId),
    check: key.publicKey,
  } as const;
  return { id: randomUUID(), spec: key.spec, material };
}

const MAC_TEMPLATE = {
  class: ObjectClass.SECRET_KEY,
  keyType: KeyType.GENERIC_SECRET,
  sign: true,
  verify: true,
} as const;

function templateOf(spec: HsmKeySpec): Parameters<typeof attributes>[0] {
  if (!isPair(spec)) return MAC_TEMPLATE;
  return spec.kind === 'rsa' ? rsaTemplate(spec.use) : pairTemplate(spec);
}

function rsaTemplate(use: 'sign' | 'decrypt'): Parameters<typeof attributes>[0] {
  const flags = { sign: use === 'sign', decrypt: use === 'decrypt' };
  return { class: CKO.PRIVATE_KEY, keyType: CKK.RSA, ...flags };
}

const RSA_NUMBERS = [
  ['n', CKA.MODULUS],
  ['e', CKA.PUBLIC_EXPONENT],
  ['d', CKA.PRIVATE_EXPONENT],
  ['p', CKA.PRIME_1],
  ['q', CKA.PRIME_2],
  ['dp', CKA.EXPONENT_1],
  ['dq', CKA.EXPONENT_2],
  ['qi', CKA.COEFFICIENT],
] as const;

function rsaNumbers(der: Uint8Array): Attribute[] {
  const key = createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs1' });
  const jwk = key.export({ format: 'jwk' });
  return RSA_NUMBERS.map(([name, type]) => ({
    type,
    value: Buffer.from(jwk[name] ?? '', 'base64url'),
  }));
}

function pairTemplate(spec: Exclude<PairSpec, { kind: 'rsa' }>): Parameters<typeof attributes>[0] {
  return {
    class: CKO.PRIVATE_KEY,
    keyType: spec.kind === 'ec' ? CKK.EC : CKK.EC_EDWARDS,
    paramsEC: Buffer.from(ecParams(spec), 'hex'),
    derive: spec.use === 'derive',
    sign: spec.use === 'sign',
  };
}

function create(
  connection: Connection,
  { spec, scalar }: PublishedKey,
  more: Parameters<typeof attributes>[0],
): Handle {
  return connection.run((session, cryptoki) =>
    cryptoki.C_CreateObject(session, [
      ...attributes({
        ...templateOf(spec),
        private: true,
        sensitive: true,
        // The root's template wraps nothing that could unwrap.
        unwrap: false,
        ...more,
      }),
      ...(spec.kind === 'rsa'
        ? rsaNumbers(scalar)
        : [{ type: CKA.VALUE, value: Buffer.from(scalar) }]),
    ]),
  );
}
