/**
 * Keys from outside, opened inside the token (docs/import.md). The wrapping key comes to be there by two
 * derivations of which the host reads neither: ECDH of the importing key with the importer's, and AES-CBC
 * of data that the host knows under the result.
 */
import { TwofoldError } from '../errors.ts';
import type { Connection } from './connection.ts';
import { CKA, CKD_NULL, CKM, CK_PARAMS } from './cryptoki.ts';
import type { Attribute, Handle } from './cryptoki.ts';
import { failureOf, TokenFailure } from './failures.ts';
import { readAttribute } from './objects.ts';
import { withoutZeros } from './pairs.ts';
import type { HsmKeySpec, WrappedImport } from './port.ts';
import { wrapMechanism } from './roots.ts';
import { modulusOf } from './rsa.ts';
import { ecParams, isPair, transportTemplate } from './templates.ts';

const IV_BYTES = 16;
/** What RFC 5649 adds to a multiple of 8 bytes. */
const WRAP_BYTES = 8;
const CONSEQUENT: readonly string[] = ['lost', 'pin'];

/** The importer's wrapping key as a session object that unwraps, and nothing else. */
export function deriveUnwrapping(
  connection: Connection,
  importing: Handle,
  { peer, derivation }: WrappedImport,
): Handle {
  return connection.run((session, cryptoki) => {
    const peers = { type: CK_PARAMS.EC_DH, kdf: CKD_NULL, publicData: Buffer.from(peer) };
    const agreement = { mechanism: CKM.ECDH1_DERIVE, parameter: peers };
    const template = transportTemplate('derive');
    const shared = cryptoki.C_DeriveKey(session, agreement, importing, template);
    connection.objects += 1;
    try {
      const parameter = {
        type: CK_PARAMS.AES_CBC,
        iv: Buffer.alloc(IV_BYTES),
        data: Buffer.from(derivation),
      };
      const mechanism = { mechanism: CKM.AES_CBC_ENCRYPT_DATA, parameter };
      const unwrapping = cryptoki.C_DeriveKey(
        session,
        mechanism,
        shared,
        transportTemplate('unwrap'),
      );
      connection.objects += 1;
      return unwrapping;
    } finally {
      connection.destroy(shared);
    }
  });
}

/**
 * The foreign key as a session object of `template`.
 * @throws TwofoldError import_invalid; what `control` throws
 */
export function unwrapForeign(
  connection: Connection,
  unwrapping: Handle,
  blob: Uint8Array,
  { template, control }: { readonly template: Attribute[]; readonly control: () => void },
): Handle {
  const mechanism = { mechanism: wrapMechanism(connection) };
  try {
    const handle = connection.run((session, cryptoki) =>
      cryptoki.C_UnwrapKey(session, mechanism, unwrapping, Buffer.from(blob), template),
    );
    connection.objects += 1;
    return handle;
  } catch (error) {
    throw refusal(error, control);
  }
}

/**
 * What a failed use of a foreign key means. Tokens report keys that they cannot use as they report faults
 * of their own; `control` tells the two apart, and throws for the latter.
 */
export function refusal(error: unknown, control: () => void): Error {
  if (TwofoldError.is(error, 'integrity_failed')) return new TwofoldError('import_mismatch');
  if (TwofoldError.is(error)) return error;
  const failure = failureOf(error, 'unwrap');
  if (CONSEQUENT.includes(failure.consequence) || failure.code === 'hsm_full') {
    return new TokenFailure(failure);
  }
  control();
  return new TwofoldError('import_invalid', 'The wrapped key does not open or cannot be used.');
}

/**
 * A blob can hold another key than was asked for: of another curve, another modulus, another length.
 * @throws TwofoldError import_invalid, import_mismatch
 */
export function requireKind(
  connection: Connection,
  spec: HsmKeySpec,
  handle: Handle,
  { publicKey, blob }: WrappedImport,
): void {
  const read = (type: number) =>
    connection.run((session, cryptoki) => readAttribute(cryptoki, session, handle, type));
  if (!isPair(spec)) {
    const wanted = spec.kind === 'aes' ? spec.bits / 8 : spec.bytes;
    // SoftHSM tells no length of a secret that it unwrapped. One that is up to 7 bytes shorter than its
    // wrapping has room for is refused by AES, and the same key of HMAC: RFC 2104 fills both with zeros.
    if (blob.length !== wanted + WRAP_BYTES) {
      throw new TwofoldError('import_invalid', `The secret does not have ${String(wanted)} bytes.`);
    }
    return;
  }
  if (spec.kind === 'rsa') {
    const [modulus, wanted] = [read(CKA.MODULUS), modulusOf(spec.bits, publicKey ?? Buffer.of())];
    if (modulus === undefined || wanted === undefined || !withoutZeros(modulus).equals(wanted)) {
      throw new TwofoldError('import_mismatch');
    }
    return;
  }
  if (read(CKA.EC_PARAMS)?.toString('hex') !== ecParams(spec)) {
    throw new TwofoldError('import_invalid', 'The private key is not on the curve of the suite.');
  }
}
