/**
 * What someone with the user PIN and the database would try against a root, tried.
 *
 * Each attack that the token allows is a finding, and one finding makes the custody
 * `extractableByPinHolder`. Only an answer that refuses counts as a refusal: a token that cannot
 * unwrap even what it should, or fails otherwise, leaves the custody `unknown`. Attacks use keys made for the purpose and change nothing that stays: the
 * one that would set an attribute sets the value it has.
 */
import { TwofoldError } from '../errors.ts';
import type { Connection } from './connection.ts';
import { CKA, CKK, CKM, CKO, CKR, CKZ_DATA_SPECIFIED, CK_PARAMS } from './cryptoki.ts';
import { returnValueOf } from './cryptoki.ts';
import type { Attribute, Cryptoki, Handle, Mechanism } from './cryptoki.ts';
import { failureOf } from './failures.ts';
import { RSA_KEY } from './known-answers-rsa.ts';
import { readFlag } from './objects.ts';
import type { HsmKeySpec, HsmStatus, RootAttack } from './port.ts';
import type { RootReport } from './protocol.ts';
import { isTrusted, wrapMechanism } from './roots.ts';
import { PUBLIC_EXPONENT } from './rsa.ts';
import { attributes, isPair, privateTemplate, publicTemplate } from './templates.ts';

interface Field {
  readonly connection: Connection;
  readonly cryptoki: Cryptoki;
  readonly session: Handle;
  readonly root: Handle;
  readonly mechanism: { readonly mechanism: number };
  /** A private key wrapped under the root, as the database holds them. */
  readonly wrappedPair: Buffer;
  /** An AES key wrapped under the root. */
  readonly wrappedSecret: Buffer;
}

interface Attack {
  readonly name: string;
  /** True when the attacker gains; a refusal is thrown by the token. */
  readonly gains: (field: Field) => boolean;
}

const PAIR: HsmKeySpec = { kind: 'ec', curve: 'P-256', use: 'derive' };
const SECRET: HsmKeySpec = { kind: 'aes', bits: 256 };
const ROOM = 4096;

/** CKM_SHA_1 and CKG_MGF1_SHA1. */
const OAEP_SHA1 = {
  type: CK_PARAMS.RSA_OAEP,
  hashAlg: 0x220,
  mgf: 1,
  source: CKZ_DATA_SPECIFIED,
};

/** RSA wraps secret keys by either padding; which one is left to the token. */
const RSA_WRAPS: readonly Mechanism[] = [
  { mechanism: CKM.RSA_PKCS },
  // With SHA-1, which every token has that has OAEP.
  { mechanism: CKM.RSA_PKCS_OAEP, parameter: OAEP_SHA1 },
];

/** CKM_AES_ECB: one block of a wrapped blob decrypted is a step of the unwrapping. */
const CKM_AES_ECB = 0x1081;

export const ATTACKS: readonly Attack[] = [
  {
    name: 'read the root',
    gains: ({ cryptoki, session, root }) => {
      const [read] = cryptoki.C_GetAttributeValue(session, root, [{ type: CKA.VALUE }]);
      return (read?.value.length ?? 0) > 0;
    },
  },
  {
    name: 'decrypt with the root',
    gains: ({ cryptoki, session, root, wrappedPair }) => {
      cryptoki.C_DecryptInit(session, { mechanism: CKM_AES_ECB }, root);
      return cryptoki.C_Decrypt(session, wrappedPair.subarray(0, 16), Buffer.alloc(32)).length > 0;
    },
  },
  {
    name: 'change an attribute of the root',
    gains: ({ cryptoki, session, root }) => {
      cryptoki.C_SetAttributeValue(session, root, [{ type: CKA.DECRYPT, value: false }]);
      return true;
    },
  },
  ...[CKA.DECRYPT, CKA.ENCRYPT].map((type) => ({
    name: `copy the root with attribute 0x${type.toString(16)} set`,
    gains: (field: Field) => copies(field, [{ type, value: true }], type),
  })),
  {
    name: 'copy the root to a modifiable object',
    gains: (field) => copies(field, [{ type: CKA.MODIFIABLE, value: true }], CKA.MODIFIABLE),
  },
  { name: 'wrap the root with itself', gains: (field) => wraps(field, field.root, field.root) },
  {
    name: 'wrap the root with a key of one’s own',
    gains: (field) => withOwnKey(field, (own) => wraps(field, own, field.root)),
  },
  {
    name: 'make a trusted key of one’s own',
    gains: (field) => withOwnKey(field, () => true, [{ type: CKA.TRUSTED, value: true }]),
  },
  {
    name: 'unwrap a private key as a readable secret',
    gains: (field) =>
      unwraps(field, field.wrappedPair, readableSecret(CKK.GENERIC_SECRET), () => true),
  },
  {
    name: 'unwrap a secret key readable',
    gains: (field) => unwraps(field, field.wrappedSecret, readableSecret(CKK.AES), () => true),
  },
  {
    name: 'unwrap a private key readable',
    gains: (field) => unwraps(field, field.wrappedPair, changed(CKA.SENSITIVE, false), exposed),
  },
  {
    name: 'unwrap with SENSITIVE left out',
    gains: (field) => unwraps(field, field.wrappedPair, without(CKA.SENSITIVE), exposed),
  },
  {
    name: 'unwrap with SENSITIVE twice',
    gains: (field) =>
      unwraps(
        field,
        field.wrappedPair,
        [...template(), { type: CKA.SENSITIVE, value: false }],
        exposed,
      ),
  },
  {
    name: 'unwrap for any wrapping key',
    gains: (field) =>
      unwraps(
        field,
        field.wrappedPair,
        [
          ...without(CKA.WRAP_WITH_TRUSTED, CKA.EXTRACTABLE),
          extractable(),
          { type: CKA.WRAP_WITH_TRUSTED, value: false },
        ],
        exposed,
      ),
  },
  {
    name: 'unwrap with WRAP_WITH_TRUSTED left out',
    gains: (field) =>
      unwraps(
        field,
        field.wrappedPair,
        [...without(CKA.WRAP_WITH_TRUSTED, CKA.EXTRACTABLE), extractable()],
        exposed,
      ),
  },
  {
    name: 'unwrap extractable and wrap with a key of one’s own',
    gains: (field) =>
      unwraps(field, field.wrappedPair, changed(CKA.EXTRACTABLE, true), (_, handle) =>
        withOwnKey(field, (own) => wraps(field, own, handle)),
      ),
  },
  {
    name: 'wrap the root with an RSA public key of one’s own',
    gains: (field) => withOwnRsaKey(field, (own) => rsaWraps(field, own, field.root)),
  },
  {
    name: 'make a trusted RSA public key of one’s own',
    gains: (field) => withOwnRsaKey(field, () => true, [{ type: CKA.TRUSTED, value: true }]),
  },
  {
    name: 'unwrap a secret extractable and wrap it with an RSA public key of one’s own',
    gains: (field) =>
      unwraps(
        field,
        field.wrappedSecret,
        [...secretTemplate(CKA.EXTRACTABLE), extractable()],
        (_, handle) => withOwnRsaKey(field, (own) => rsaWraps(field, own, handle)),
      ),
  },
  {
    name: 'unwrap a secret that unwraps',
    gains: (field) =>
      unwraps(
        field,
        field.wrappedSecret,
        [...secretTemplate(CKA.UNWRAP), { type: CKA.UNWRAP, value: true }],
        (_, handle) => readFlag(field.cryptoki, field.session, handle, CKA.UNWRAP) === true,
      ),
  },
];

/** Attributes a PIN holder could otherwise lean on, read back. */
const WANTED: readonly (readonly [string, number, boolean])[] = [
  ['CKA_TRUSTED', CKA.TRUSTED, true],
  ['CKA_SENSITIVE', CKA.SENSITIVE, true],
  ['CKA_WRAP_WITH_TRUSTED', CKA.WRAP_WITH_TRUSTED, true],
  ['CKA_ENCRYPT', CKA.ENCRYPT, false],
  ['CKA_DECRYPT', CKA.DECRYPT, false],
  ['CKA_MODIFIABLE', CKA.MODIFIABLE, false],
];

/** Answers by which a token refuses; any other failure decides nothing. */
const REFUSALS: ReadonlySet<number | undefined> = new Set([
  CKR.ACTION_PROHIBITED,
  CKR.ATTRIBUTE_READ_ONLY,
  CKR.ATTRIBUTE_SENSITIVE,
  CKR.ATTRIBUTE_TYPE_INVALID,
  CKR.ATTRIBUTE_VALUE_INVALID,
  CKR.KEY_FUNCTION_NOT_PERMITTED,
  CKR.KEY_NOT_WRAPPABLE,
  CKR.KEY_TYPE_INCONSISTENT,
  CKR.KEY_UNEXTRACTABLE,
  CKR.MECHANISM_INVALID,
  CKR.TEMPLATE_INCOMPLETE,
  CKR.TEMPLATE_INCONSISTENT,
  CKR.UNWRAPPING_KEY_TYPE_INCONSISTENT,
  CKR.WRAPPING_KEY_TYPE_INCONSISTENT,
]);

/** Every attack in turn, as the worker reports it; a lost session is thrown, never taken for a refusal. */
export function inspectRoot(connection: Connection, root: Handle): RootReport {
  const attacks = attackRoot(connection, root);
  const findings = [
    ...connection.run((session, cryptoki) =>
      WANTED.filter(([, type, value]) => readFlag(cryptoki, session, root, type) !== value).map(
        ([name, , value]) => `${name} is not ${String(value)}`,
      ),
    ),
    ...attacks.filter(({ outcome }) => outcome === 'allowed').map(({ name }) => name),
  ];
  const sure = findings.length === 0 && attacks.every(({ outcome }) => outcome === 'refused');
  return { custody: sure ? 'non-extractable' : 'extractableByPinHolder', findings, attacks };
}

/** `unknown` where nothing was found, but not every attack was seen to be refused. */
export function custodyOf({ custody, findings }: RootReport): HsmStatus['custody'] {
  return custody === 'extractableByPinHolder' && findings.length === 0 ? 'unknown' : custody;
}

/**
 * Where no attack was tried, a root that is not trusted is weaker than any that withstood them: the PIN
 * alone can put that in the place of another, and only the SO makes a trusted one.
 * @throws TwofoldError integrity_failed, hsm_unavailable while it is not known
 */
export function requireNoWeaker(
  { trusted }: { readonly trusted: boolean },
  report: RootReport | undefined,
  floor: HsmStatus['custody'],
): void {
  if (floor !== 'non-extractable') return;
  const untried = trusted ? floor : 'extractableByPinHolder';
  const custody = report === undefined ? untried : custodyOf(report);
  if (custody === floor) return;
  // An attack that had an odd answer shows nothing: it is tried again.
  throw new TwofoldError(
    custody === 'unknown' ? 'hsm_unavailable' : 'integrity_failed',
    `the root’s custody is ${custody}, where one that is ${floor} was selected`,
  );
}

export function attackRoot(connection: Connection, root: Handle): RootAttack[] {
  const mechanism = { mechanism: wrapMechanism(connection) };
  let wrappedPair: Buffer;
  let wrappedSecret: Buffer;
  try {
    wrappedPair = wrapNew(connection, root, PAIR);
    wrappedSecret = wrapNew(connection, root, SECRET);
  } catch (error) {
    if (failureOf(error, 'make').consequence !== 'none') throw error;
    // A token that wraps no private keys serves others; what its root withstands is not known.
    const detail = `control: ${answerOf(error)}`;
    return ATTACKS.map(({ name }) => ({ name, outcome: 'unknown', detail }));
  }
  const onField = (gains: Attack['gains']) => () =>
    connection.run((session, cryptoki) =>
      gains({ connection, cryptoki, session, root, mechanism, wrappedPair, wrappedSecret }),
    );
  // The control: what the service itself does must work, or a failure of the others tells nothing.
  const trusted = isTrusted(connection, root);
  const normal = privateTemplate(PAIR, { kind: 'unwrapped', trusted });
  const control = attempt(
    connection,
    onField((field) => unwraps(field, field.wrappedPair, normal, () => true)),
  );
  return ATTACKS.map(({ name, gains }) => {
    if (control.outcome !== 'allowed') {
      return { name, outcome: 'unknown', detail: `control: ${control.detail}` };
    }
    return { name, ...attempt(connection, onField(gains)) };
  });
}

function attempt(connection: Connection, gains: () => boolean): Omit<RootAttack, 'name'> {
  try {
    return { outcome: gains() ? 'allowed' : 'refused', detail: '' };
  } catch (error) {
    connection.run((session, cryptoki) => cryptoki.C_GetSessionInfo(session));
    const value = returnValueOf(error);
    if (REFUSALS.has(value)) return { outcome: 'refused', detail: '' };
    return { outcome: 'unknown', detail: answerOf(error) };
  }
}

function answerOf(error: unknown): string {
  const value = returnValueOf(error);
  return `the token answered ${value === undefined ? 'an error' : `CKR 0x${value.toString(16)}`}`;
}

function wrapNew(connection: Connection, root: Handle, spec: HsmKeySpec): Buffer {
  const made = connection.run((session, cryptoki) => {
    const keyTemplate = privateTemplate(spec, {
      kind: 'to-be-wrapped',
      trusted: isTrusted(connection, root),
    });
    if (!isPair(spec)) {
      return [cryptoki.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, keyTemplate)];
    }
    const mechanism = { mechanism: CKM.EC_KEY_PAIR_GEN };
    const pair = cryptoki.C_GenerateKeyPair(session, mechanism, publicTemplate(spec), keyTemplate);
    return [pair.privateKey, pair.publicKey];
  });
  connection.objects += made.length;
  try {
    return connection.run((session, cryptoki) => {
      const mechanism = { mechanism: wrapMechanism(connection) };
      return cryptoki.C_WrapKey(session, mechanism, root, made[0] ?? root, Buffer.alloc(ROOM));
    });
  } finally {
    for (const handle of made) connection.destroy(handle);
  }
}

function wraps(field: Field, wrapping: Handle, key: Handle): boolean {
  const { cryptoki, session, mechanism } = field;
  cryptoki.C_WrapKey(session, mechanism, wrapping, key, Buffer.alloc(ROOM)).fill(0);
  return true;
}

function unwraps(
  field: Field,
  blob: Buffer,
  keyTemplate: Attribute[],
  gained: (field: Field, handle: Handle) => boolean,
): boolean {
  const { connection, cryptoki, session, mechanism, root } = field;
  const handle = cryptoki.C_UnwrapKey(session, mechanism, root, blob, keyTemplate);
  connection.objects += 1;
  try {
    return gained(field, handle);
  } finally {
    connection.destroy(handle);
  }
}

/** Readable now, or wrappable by any key at all. */
function exposed({ cryptoki, session }: Field, handle: Handle): boolean {
  const flag = (type: number) => readFlag(cryptoki, session, handle, type);
  const open = flag(CKA.EXTRACTABLE) !== false && flag(CKA.WRAP_WITH_TRUSTED) !== true;
  return flag(CKA.SENSITIVE) !== true || open;
}

function copies(field: Field, change: Attribute[], gained: number): boolean {
  const { connection, cryptoki, session, root } = field;
  const copy = cryptoki.C_CopyObject(session, root, [{ type: CKA.TOKEN, value: false }, ...change]);
  try {
    return readFlag(cryptoki, session, copy, gained) === true;
  } finally {
    connection.destroy(copy);
  }
}

function withOwnKey(field: Field, use: (own: Handle) => boolean, more: Attribute[] = []): boolean {
  const { connection, cryptoki, session } = field;
  const own = cryptoki.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, [
    ...attributes({ token: false, private: true, valueLen: 32, wrap: true, unwrap: true }),
    ...more,
  ]);
  connection.objects += 1;
  try {
    return use(own);
  } finally {
    connection.destroy(own);
  }
}

/** A public key of which the attacker has the private half outside the token. */
function withOwnRsaKey(
  field: Field,
  use: (own: Handle) => boolean,
  more: Attribute[] = [],
): boolean {
  const { connection, cryptoki, session } = field;
  if (!RSA_WRAPS.some(({ mechanism }) => connection.mechanisms.has(mechanism))) return false;
  const own = cryptoki.C_CreateObject(session, [
    ...attributes({ class: CKO.PUBLIC_KEY, keyType: CKK.RSA, token: false, private: false }),
    ...attributes({ wrap: true, encrypt: false, verify: false }),
    { type: CKA.MODULUS, value: Buffer.from(RSA_KEY.modulus) },
    { type: CKA.PUBLIC_EXPONENT, value: Buffer.from(PUBLIC_EXPONENT) },
    ...more,
  ]);
  connection.objects += 1;
  try {
    return use(own);
  } finally {
    connection.destroy(own);
  }
}

/** By one mechanism at least; fails as the token refuses the last one that it has. */
function rsaWraps(field: Field, own: Handle, key: Handle): boolean {
  const { connection, cryptoki, session } = field;
  const listed = RSA_WRAPS.filter(({ mechanism }) => connection.mechanisms.has(mechanism));
  for (const [index, mechanism] of listed.entries()) {
    try {
      cryptoki.C_WrapKey(session, mechanism, own, key, Buffer.alloc(ROOM)).fill(0);
      return true;
    } catch (error) {
      // An answer that does not refuse decides nothing, whatever the next one says.
      if (!REFUSALS.has(returnValueOf(error)) || index === listed.length - 1) throw error;
    }
  }
  return false;
}

function readableSecret(keyType: number): Attribute[] {
  return attributes({
    class: CKO.SECRET_KEY,
    keyType,
    token: false,
    private: true,
    sensitive: false,
    extractable: true,
  });
}

function template(): Attribute[] {
  return privateTemplate(PAIR, { kind: 'unwrapped', trusted: true });
}

function without(...types: readonly number[]): Attribute[] {
  return template().filter(({ type }) => !types.includes(type));
}

function secretTemplate(...without: readonly number[]): Attribute[] {
  const whole = privateTemplate(SECRET, { kind: 'unwrapped', trusted: true });
  return whole.filter(({ type }) => !without.includes(type));
}

function changed(type: number, value: boolean): Attribute[] {
  return [...without(type), { type, value }];
}

function extractable(): Attribute {
  return { type: CKA.EXTRACTABLE, value: true };
}
