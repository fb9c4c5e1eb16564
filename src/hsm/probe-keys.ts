/** Keys for the trials of the probe: imported where a token takes clear keys, else made for the trial. */
import { timingSafeEqual } from 'node:crypto';
import type { Connection } from './connection.ts';
import { CKM, CKO } from './cryptoki.ts';
import type { Attribute, Handle } from './cryptoki.ts';
import { failureOf } from './failures.ts';
import { pairMechanism, requirePublicKey } from './pairs.ts';
import type { HsmKeySpec } from './port.ts';
import { wrapMechanism } from './roots.ts';
import { attributes, privateTemplate, publicTemplate } from './templates.ts';
import type { PairSpec, Residence } from './templates.ts';

export type Verdict = 'known-answer' | 'consistency' | 'wrong';

export interface Trial {
  readonly name: string;
  readonly mechanisms: readonly (readonly [name: string, oneOf: readonly number[]])[];
  readonly run: (connection: Connection) => Verdict;
  /** The mechanism that served, where it had a choice. */
  readonly served?: (connection: Connection) => string;
}

/** Many tokens make no private key that may leave them: only trials of wrapping ask for one. */
export const SESSION = { kind: 'session' } as const;
/** Wrapped by a key that lives as long as the trial. */
export const TO_BE_WRAPPED = { kind: 'to-be-wrapped', trusted: false } as const;

export const MESSAGE = Buffer.from('known answer');

/** Takes the PKCS#8 of any key. */
const BLOB_ROOM = 4096;

export function secretImport(keyType: number, use: Parameters<typeof attributes>[0]): Attribute[] {
  const base = { class: CKO.SECRET_KEY, keyType, token: false, private: true, sensitive: true };
  return attributes({ ...base, ...use });
}

/**
 * A session object, or `undefined` where the token's policy refuses clear keys.
 *
 * @param session the keeper session for a key that outlives a failed call; the operation session when absent
 */
export function importKey(
  connection: Connection,
  template: Attribute[],
  session?: Handle,
): Handle | undefined {
  try {
    return connection.run((operation, cryptoki) =>
      cryptoki.C_CreateObject(session ?? operation, template),
    );
  } catch (error) {
    if (failureOf(error, 'produce').consequence === 'lost') throw error;
    return undefined;
  }
}

export function generateSecret(
  connection: Connection,
  mechanism: number,
  spec: HsmKeySpec,
  residence: Residence = SESSION,
): Handle {
  return connection.run((session, cryptoki) =>
    cryptoki.C_GenerateKey(session, { mechanism }, privateTemplate(spec, residence)),
  );
}

/** A pair of the trial's own; its public half is read and gone. For `session`, see `importKey`. */
export function generatePair(
  connection: Connection,
  spec: PairSpec,
  residence: Residence = SESSION,
  session?: Handle,
): { readonly handle: Handle; readonly publicKey: Uint8Array } {
  const pair = connection.run((operation, cryptoki) =>
    cryptoki.C_GenerateKeyPair(
      session ?? operation,
      { mechanism: pairMechanism(connection, spec) },
      publicTemplate(spec),
      privateTemplate(spec, residence),
    ),
  );
  try {
    const publicKey = using(connection, pair.publicKey, () =>
      requirePublicKey(connection, spec, pair.publicKey),
    );
    return { handle: pair.privateKey, publicKey };
  } catch (error) {
    connection.destroy(pair.privateKey);
    throw error;
  }
}

export function usingPair(
  connection: Connection,
  spec: PairSpec,
  use: (handle: Handle, publicKey: Uint8Array) => Verdict,
  residence: Residence = SESSION,
): Verdict {
  const { handle, publicKey } = generatePair(connection, spec, residence);
  return using(connection, handle, () => use(handle, publicKey));
}

/** Wraps the key under one that lives for the trial, and uses what comes back. */
export function wrappedAndBack(
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
      const room = Buffer.alloc(BLOB_ROOM);
      const blob = cryptoki.C_WrapKey(session, mechanism, wrapping, key, room);
      const template = privateTemplate(spec, { kind: 'unwrapped', trusted: false });
      return cryptoki.C_UnwrapKey(session, mechanism, wrapping, blob, template);
    });
    return using(connection, copy, () => use(copy));
  });
}

export function using<Result>(connection: Connection, handle: Handle, use: () => Result): Result {
  connection.objects += 1;
  try {
    return use();
  } finally {
    connection.destroy(handle);
  }
}

export function same(seen: Uint8Array, wanted: Uint8Array, verdict: Verdict): Verdict {
  return seen.length === wanted.length && timingSafeEqual(seen, wanted) ? verdict : 'wrong';
}
