/**
 * A root travels: from its token wrapped for the recovery key, and from there onto another token. Runs in
 * the ceremony process, the only one that ever holds the SO PIN.
 *
 *     K1   = the ECDH of an ephemeral P-384 pair and the recovery key, derived inside the token
 *     D    = HKDF-SHA-384(ML-KEM-1024 secret, info = label ‖ transcript, 32 bytes), in the host
 *     KEK  = AES-CBC(K1, D), derived inside the token by the SO, who alone makes it trusted
 *     W    = AES key wrap with padding of root-wrap under KEK
 *     transcript = SHA-384(Q ‖ ek ‖ Q_E ‖ ct ‖ installation ‖ u32 generation)
 *
 * K1, KEK and the root are never readable. Everything but the root itself is a session object: it is
 * destroyed at the end, and a process that is killed takes it along.
 */
import { createHash, hkdfSync } from 'node:crypto';

import { concatBytes, equalBytes, uint32, utf8 } from '../crypto/bytes.ts';
import { checkPublicKey } from '../crypto/curve.ts';
import type { Engine } from '../crypto/engine.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { EK_LENGTH } from '../recovery/key.ts';
import type { RecoveryPrivateKey } from '../recovery/key.ts';
import { custodyOf, login, nameOf, trustedTemplate } from './ceremony-root.ts';
import type { RootMade } from './ceremony-root.ts';
import { selectSlot } from './connection.ts';
import { CKA, CKD_NULL, CKF, CKK, CKM, CKO, CKU, CK_PARAMS, ulong } from './cryptoki.ts';
import type { Attribute, Cryptoki, Handle } from './cryptoki.ts';
import { uuidBytes } from './inputs.ts';
import { unwrapKey } from './nested-template.ts';
import { findObjects, readAttribute } from './objects.ts';
import type { PinFile } from './pin.ts';
import type { RootOnToken } from './port.ts';
import type { TokenSelector } from './protocol.ts';
import { forgetUse, noteUse, rootId } from './roots.ts';
import { attributes } from './templates.ts';

/** A root wrapped for the recovery key. Nothing in it is secret to who has not that key. */
export interface EscrowedRoot {
  readonly root: RootOnToken;
  /** ek ‖ Q of the recovery key that it is for. */
  readonly publicKey: Uint8Array;
  /** Q_E, 97 bytes. */
  readonly point: Uint8Array;
  /** ct, 1,568 bytes. */
  readonly ciphertext: Uint8Array;
  readonly wrapped: Uint8Array;
  /** 48 bytes; says what both sides have seen. */
  readonly transcript: Uint8Array;
}

export interface Transport {
  readonly module: string;
  readonly tokenSelector: TokenSelector;
  readonly user: PinFile;
  readonly officer: PinFile;
  readonly engine: Pick<Engine, 'mlKem'>;
}

/** secp384r1 (RFC 5480). */
const P384 = Buffer.from('06052b81040022', 'hex');
const DER_OCTET_STRING = 0x04;
const KEY_BYTES = 32;
const IV = Buffer.alloc(16);
/** Takes a wrapped key of 32 bytes. */
const ROOM = 256;

export function transcriptOf({
  root,
  publicKey,
  point,
  ciphertext,
}: Omit<EscrowedRoot, 'wrapped' | 'transcript'>): Uint8Array {
  const [ek, q] = [publicKey.subarray(0, EK_LENGTH), publicKey.subarray(EK_LENGTH)];
  const hash = createHash('sha384').update(q).update(ek).update(point).update(ciphertext);
  hash.update(uuidBytes(root.installation)).update(uint32(root.generation));
  return Uint8Array.from(hash.digest());
}

function diversifier(secret: SecretBytes, transcript: Uint8Array): SecretBytes {
  const info = concatBytes(utf8(NAME.rootTransport), transcript);
  return SecretBytes.own(
    new Uint8Array(hkdfSync('sha384', secret.reveal(), new Uint8Array(0), info, KEY_BYTES)),
  );
}

/** What a token is doing here: one session, and what is to be destroyed whatever happens. */
export class Bench {
  readonly cryptoki: Cryptoki;
  readonly session: Handle;
  readonly wrapMechanism: number;
  readonly #made: Handle[] = [];

  constructor(cryptoki: Cryptoki, selector: TokenSelector) {
    this.cryptoki = cryptoki;
    const slot = selectSlot(cryptoki, selector).handle;
    this.session = cryptoki.C_OpenSession(slot, CKF.RW_SESSION | CKF.SERIAL_SESSION);
    const mechanisms = new Set(cryptoki.C_GetMechanismList(slot));
    const pad = mechanisms.has(CKM.AES_KEY_WRAP_PAD);
    this.wrapMechanism = pad ? CKM.AES_KEY_WRAP_PAD : CKM.AES_KEY_WRAP_KWP;
    const needed = [CKM.ECDH1_DERIVE, CKM.AES_CBC_ENCRYPT_DATA, this.wrapMechanism];
    if (!needed.every((each) => mechanisms.has(each))) {
      throw new TwofoldError(
        'suite_unavailable_here',
        'the token lacks CKM_ECDH1_DERIVE, CKM_AES_CBC_ENCRYPT_DATA or an AES key wrap',
      );
    }
  }

  keep(handle: Handle): Handle {
    this.#made.push(handle);
    return handle;
  }

  /** Never throws: what the token does not destroy goes with the session. */
  clear(): void {
    for (const handle of this.#made.splice(0)) {
      try {
        this.cryptoki.C_DestroyObject(this.session, handle);
      } catch {
        // Gone already, or not to be seen by who is logged in: the process ends soon.
      }
    }
  }

  /** K1: the token's own, of which nobody can read anything. */
  agree(privateKey: Handle, peer: Uint8Array): Handle {
    const parameter = { type: CK_PARAMS.EC_DH, kdf: CKD_NULL, publicData: Buffer.from(peer) };
    const mechanism = { mechanism: CKM.ECDH1_DERIVE, parameter };
    const template = [...transportKey({ derive: true }), ...length()];
    return this.keep(this.cryptoki.C_DeriveKey(this.session, mechanism, privateKey, template));
  }

  /** KEK, by the SO. */
  derive(agreed: Handle, data: SecretBytes, use: 'wrap' | 'unwrap'): Handle {
    const bytes = Buffer.from(data.reveal());
    try {
      const parameter = { type: CK_PARAMS.AES_CBC, iv: IV, data: bytes };
      const mechanism = { mechanism: CKM.AES_CBC_ENCRYPT_DATA, parameter };
      const trusted = { type: CKA.TRUSTED, value: true };
      const template = [...transportKey({ [use]: true }), trusted, ...length()];
      return this.keep(this.cryptoki.C_DeriveKey(this.session, mechanism, agreed, template));
    } finally {
      wipe(bytes);
    }
  }
}

const length = (): Attribute[] => [{ type: CKA.VALUE_LEN, value: ulong(KEY_BYTES) }];

/** Public, so that user and SO both see it within the session; for one use, and never to leave. */
function transportKey(use: { derive?: true; wrap?: true; unwrap?: true }): Attribute[] {
  return attributes({
    class: CKO.SECRET_KEY,
    keyType: CKK.AES,
    token: false,
    private: false,
    sensitive: true,
    extractable: false,
    encrypt: false,
    decrypt: false,
    sign: false,
    verify: false,
    derive: use.derive ?? false,
    wrap: use.wrap ?? false,
    unwrap: use.unwrap ?? false,
  });
}

/**
 * A P-384 pair that never leaves the token; `kept`: the private key is a token object of these attributes,
 * for the process that goes on with it, and not destroyed here.
 */
export function ephemeral(
  bench: Bench,
  kept?: Attribute[],
): { readonly privateKey: Handle; readonly point: Uint8Array } {
  const { cryptoki, session } = bench;
  const open = attributes({ token: false, private: false, paramsEC: P384 });
  const secret = attributes({
    token: kept !== undefined,
    private: true,
    sensitive: true,
    extractable: false,
    derive: true,
    sign: false,
    decrypt: false,
    unwrap: false,
  }).concat(kept ?? []);
  const made = cryptoki.C_GenerateKeyPair(
    session,
    { mechanism: CKM.EC_KEY_PAIR_GEN },
    open,
    secret,
  );
  if (kept === undefined) bench.keep(made.privateKey);
  bench.keep(made.publicKey);
  const der = readAttribute(cryptoki, session, made.publicKey, CKA.EC_POINT);
  // DER OCTET STRING of 97 bytes; its length takes one byte.
  const framed = der?.[0] === DER_OCTET_STRING && der[1] === der.length - 2;
  const point = Uint8Array.from(framed ? der.subarray(2) : (der ?? []));
  checkPublicKey('P-384', point);
  return { privateKey: made.privateKey, point };
}

function rootOn({ cryptoki, session }: Bench, root: RootOnToken): Handle | undefined {
  const template = attributes({ class: CKO.SECRET_KEY, token: true, id: rootId(root) });
  const found = findObjects(cryptoki, session, template);
  if (found.length > 1) {
    throw new TwofoldError('integrity_failed', 'two objects claim to be the same root');
  }
  return found[0];
}

/**
 * Steps 2 to 4 of the joining of a zone, for the recovery key in the place of the other token.
 *
 * @throws TwofoldError zone_lacks_material where the root is not on the token; suite_unavailable_here
 *   where the token cannot
 */
export async function escrowRoot(
  cryptoki: Cryptoki,
  request: Transport & { readonly root: RootOnToken; readonly publicKey: Uint8Array },
): Promise<EscrowedRoot> {
  const { root, publicKey, user, officer, engine } = request;
  const bench = new Bench(cryptoki, request.tokenSelector);
  let shared: SecretBytes | undefined;
  try {
    await login(cryptoki, bench.session, CKU.USER, user);
    if (rootOn(bench, root) === undefined) {
      const detail = `root generation ${String(root.generation)} is not on the token`;
      throw new TwofoldError('zone_lacks_material', detail);
    }
    const { privateKey, point } = ephemeral(bench);
    const agreed = bench.agree(privateKey, publicKey.subarray(EK_LENGTH));
    const encapsulated = await engine.mlKem.encapsulate(
      'ML-KEM-1024',
      publicKey.subarray(0, EK_LENGTH),
    );
    shared = encapsulated.sharedSecret;
    const sent = { root, publicKey, point, ciphertext: encapsulated.ciphertext };
    const transcript = transcriptOf(sent);
    const kek = await asOfficer(bench, { user, officer }, () =>
      deriveKek(bench, agreed, shared, transcript, 'wrap'),
    );
    const held = rootOn(bench, root);
    if (held === undefined) throw new TwofoldError('zone_lacks_material', 'the root is gone');
    const wrapped = cryptoki.C_WrapKey(
      bench.session,
      { mechanism: bench.wrapMechanism },
      kek,
      held,
      Buffer.alloc(ROOM),
    );
    return { ...sent, transcript, wrapped: Uint8Array.from(wrapped) };
  } finally {
    wipe(shared);
    bench.clear();
  }
}

function deriveKek(
  bench: Bench,
  agreed: Handle,
  shared: SecretBytes | undefined,
  transcript: Uint8Array,
  use: 'wrap' | 'unwrap',
): Handle {
  if (shared === undefined) throw new Error('there is no shared secret');
  const data = diversifier(shared, transcript);
  try {
    return bench.derive(agreed, data, use);
  } finally {
    wipe(data);
  }
}

/** Public session objects survive the change of who is logged in; ends with the user logged in. */
async function asOfficer<T>(
  { cryptoki, session }: Bench,
  { user, officer }: Pick<Transport, 'user' | 'officer'>,
  act: () => T,
): Promise<T> {
  cryptoki.C_Logout(session);
  await login(cryptoki, session, CKU.SO, officer);
  try {
    return act();
  } finally {
    cryptoki.C_Logout(session);
    await login(cryptoki, session, CKU.USER, user);
  }
}

/** Whose private key opens a wrapped root. */
export interface Receiver {
  /** For messages: `recovery key` or `offer`. */
  readonly what: string;
  /** ek ‖ Q. */
  readonly publicKey: Uint8Array;
  /** d ‖ z of the ML-KEM-1024 half; the caller wipes it. */
  readonly pqSeed: SecretBytes;
  /** Its P-384 half on the token. */
  readonly privateKey: (bench: Bench) => Handle;
  /** Ends the label of what it receives, so that a later run knows that it did. */
  readonly mark?: string;
}

/** The root of an escrow onto a token that has it not, by the recovery key, a session object for as long. */
export async function placeRoot(
  cryptoki: Cryptoki,
  request: Transport & { readonly escrow: EscrowedRoot; readonly key: RecoveryPrivateKey },
): Promise<RootMade> {
  const { publicKey, pqSeed } = request.key;
  const privateKey = (bench: Bench) => importScalar(bench, request.key);
  const receiver = { what: 'recovery key', publicKey, pqSeed, privateKey };
  return receiveRoot(cryptoki, { ...request, receiver });
}

/**
 * Steps 5 and 6: the root onto a token that has it not. One that is there already is left as it is: the
 * canary says whether it is the same.
 *
 * @throws TwofoldError integrity_failed for what is not for this receiver, or was altered
 */
export async function receiveRoot(
  cryptoki: Cryptoki,
  request: Transport & { readonly escrow: EscrowedRoot; readonly receiver: Receiver },
): Promise<RootMade> {
  const { escrow, receiver, user, officer } = request;
  requireWhole(escrow, receiver);
  const bench = new Bench(cryptoki, request.tokenSelector);
  const imported = request.engine.mlKem.importSeed('ML-KEM-1024', receiver.pqSeed);
  let shared: SecretBytes | undefined;
  let isNoted = false;
  try {
    await login(cryptoki, bench.session, CKU.USER, user);
    // Before it is there: no start takes a root that came from elsewhere for a new one.
    noteUse(cryptoki, bench.session, escrow.root.installation);
    isNoted = true;
    const there = rootOn(bench, escrow.root);
    if (there !== undefined) {
      const custody = custodyOf(cryptoki, bench.session, there);
      const marked = isMarked(cryptoki, bench.session, there, receiver.mark)
        ? ({ ofThisOffer: true } as const)
        : {};
      return { made: false, root: escrow.root, custody, ...marked };
    }
    const agreed = bench.agree(receiver.privateKey(bench), escrow.point);
    shared = await imported.decapsulate(escrow.ciphertext);
    const carried = await asOfficer(bench, { user, officer }, () => {
      const kek = deriveKek(bench, agreed, shared, escrow.transcript, 'unwrap');
      return unwrapRoot(bench, request.module, kek, escrow.wrapped);
    });
    const made = settle(bench, carried, escrow.root, receiver.mark);
    return receiver.mark === undefined ? made : { ...made, ofThisOffer: true };
  } catch (error) {
    if (isNoted) takeNoteBack(bench, escrow.root);
    throw error;
  } finally {
    imported.release();
    wipe(shared);
    bench.clear();
  }
}

/** As good as may be beside the error that is on its way: a note that stays stops a start, and lets none through. */
function takeNoteBack({ cryptoki, session }: Bench, { installation }: RootOnToken): void {
  try {
    forgetUse(cryptoki, session, installation);
  } catch {
    // The token is away: its error is the one that is thrown.
  }
}

/** Whether the label of a root says that it was placed by this receiver (`Receiver.mark`). */
export function isMarked(
  cryptoki: Cryptoki,
  session: Handle,
  root: Handle,
  mark: string | undefined,
): boolean {
  const label = readAttribute(cryptoki, session, root, CKA.LABEL)?.toString('utf8');
  return mark !== undefined && label?.endsWith(mark) === true;
}

function requireWhole(escrow: EscrowedRoot, { publicKey, what }: Receiver): void {
  if (!equalBytes(escrow.publicKey, publicKey)) {
    throw new TwofoldError('integrity_failed', `the root was wrapped for another ${what}`);
  }
  checkPublicKey('P-384', escrow.point);
  if (!equalBytes(transcriptOf(escrow), escrow.transcript)) {
    throw new TwofoldError('integrity_failed', 'the wrapped root was altered');
  }
}

function importScalar(bench: Bench, { scalar }: RecoveryPrivateKey): Handle {
  const value = Buffer.from(scalar.reveal());
  try {
    const template = [
      ...attributes({
        class: CKO.PRIVATE_KEY,
        keyType: CKK.EC,
        token: false,
        private: true,
        sensitive: true,
        extractable: false,
        derive: true,
        sign: false,
        decrypt: false,
        unwrap: false,
        paramsEC: P384,
      }),
      { type: CKA.VALUE, value },
    ];
    return bench.keep(bench.cryptoki.C_CreateObject(bench.session, template));
  } finally {
    wipe(value);
  }
}

function unwrapRoot(
  { session, wrapMechanism: mechanism }: Bench,
  module: string,
  key: Handle,
  wrapped: Uint8Array,
): Handle {
  const template = trustedTemplate(mechanism, 'unwrapped');
  return unwrapKey(module, session, { mechanism, key }, wrapped, template);
}

/** The copy is the root; MODIFIABLE goes last, because tokens apply attributes in order. */
function settle(bench: Bench, carried: Handle, root: RootOnToken, mark?: string): RootMade {
  const { cryptoki, session } = bench;
  bench.keep(carried);
  const placed = cryptoki.C_CopyObject(session, carried, [
    { type: CKA.TOKEN, value: true },
    { type: CKA.PRIVATE, value: true },
    ...nameOf(root, mark),
    { type: CKA.MODIFIABLE, value: false },
  ]);
  const custody = custodyOf(cryptoki, session, placed);
  if (custody === 'extractableByPinHolder') {
    cryptoki.C_DestroyObject(session, placed);
    throw new TwofoldError(
      'suite_unavailable_here',
      'the token did not keep the attributes of the root that was placed; it was removed again',
    );
  }
  return { made: true, root, custody };
}
