/**
 * Making `root-wrap` so that the user PIN alone extracts nothing. Runs in the ceremony process, the
 * only one that ever holds the SO PIN.
 *
 * CKA_TRUSTED may only be set by the SO, who cannot make private objects. So the SO makes a public
 * session object with all templates, and the user copies it to a private token object (MODIFIABLE
 * false is set last: tokens apply attributes in order).
 */
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { selectSlot } from './connection.ts';
import { CKA, CKF, CKK, CKM, CKO, CKR, CKU, returnValueOf, ulong } from './cryptoki.ts';
import type { Cryptoki, Handle } from './cryptoki.ts';
import { failureOf, TokenFailure } from './failures.ts';
import { flag, generateAesKey, number } from './nested-template.ts';
import type { NestedAttribute } from './nested-template.ts';
import { findObjects, readFlag } from './objects.ts';
import { pinText } from './pin.ts';
import type { PinFile } from './pin.ts';
import type { RootOnToken } from './port.ts';
import type { TokenSelector } from './protocol.ts';
import { forgetUse, rootId, rootsOn } from './roots.ts';
import { attributes, plainRootTemplate, ROOT_LABEL } from './templates.ts';

export interface MakeRoot {
  readonly module: string;
  readonly tokenSelector: TokenSelector;
  readonly user: PinFile;
  /** Absent where the SO has no part in it; a root is then made with `allowExtractable` alone. */
  readonly officer: PinFile | undefined;
  readonly root: RootOnToken;
  /** Leave a token that holds any root of ours as it is: for operators who name no installation. */
  readonly unlessAny: boolean;
  /** Take a root that whoever holds the PIN can extract, where the token has no better. */
  readonly allowExtractable: boolean;
}

export interface RootMade {
  /** False when an earlier run had made it. */
  readonly made: boolean;
  /** The root that is on the token now. */
  readonly root: RootOnToken;
  readonly custody: 'non-extractable' | 'extractableByPinHolder';
  /** Of the offer of a zone that joins: what is on the token was placed by it, in this run or before. */
  readonly ofThisOffer?: true;
}

/** Attributes that a trusted root carries; `hsm.md` in the notes of the design has the reasons. */
export function trustedTemplate(
  wrapMechanism: number,
  how: 'generated' | 'unwrapped' = 'generated',
): NestedAttribute[] {
  return [
    number(CKA.CLASS, CKO.SECRET_KEY),
    number(CKA.KEY_TYPE, CKK.AES),
    // What is unwrapped has its length with it.
    ...(how === 'generated' ? [number(CKA.VALUE_LEN, 32)] : []),
    flag(CKA.TOKEN, false),
    flag(CKA.PRIVATE, false),
    flag(CKA.TRUSTED, true),
    flag(CKA.SENSITIVE, true),
    flag(CKA.EXTRACTABLE, true),
    flag(CKA.WRAP, true),
    flag(CKA.UNWRAP, true),
    flag(CKA.WRAP_WITH_TRUSTED, true),
    flag(CKA.ENCRYPT, false),
    flag(CKA.DECRYPT, false),
    flag(CKA.SIGN, false),
    flag(CKA.VERIFY, false),
    flag(CKA.DERIVE, false),
    { type: CKA.ALLOWED_MECHANISMS, value: ulong(wrapMechanism) },
    { type: CKA.WRAP_TEMPLATE, value: [flag(CKA.UNWRAP, false)] },
    {
      type: CKA.UNWRAP_TEMPLATE,
      value: [
        flag(CKA.SENSITIVE, true),
        flag(CKA.WRAP_WITH_TRUSTED, true),
        flag(CKA.UNWRAP, false),
      ],
    },
  ];
}

/** What a token answers that knows no trusted keys, or no templates within templates. */
const NOT_KNOWN: ReadonlySet<number | undefined> = new Set([
  CKR.ATTRIBUTE_TYPE_INVALID,
  CKR.ATTRIBUTE_VALUE_INVALID,
  CKR.TEMPLATE_INCONSISTENT,
]);

/**
 * Idempotent: a root of this installation and generation that is there already is left as it is.
 *
 * @throws TwofoldError `suite_unavailable_here` when only an extractable root could be made and that
 *   was not allowed, conflict when another host made the same root at once, integrity_failed when two are
 *   there; whatever fails, no root is made
 */
export async function makeRoot(cryptoki: Cryptoki, request: MakeRoot): Promise<RootMade> {
  const slot = selectSlot(cryptoki, request.tokenSelector);
  const session = cryptoki.C_OpenSession(slot.handle, CKF.RW_SESSION | CKF.SERIAL_SESSION);
  await login(cryptoki, session, CKU.USER, request.user);
  const existing = existingRoot(cryptoki, session, request);
  if (existing !== undefined) {
    const custody = custodyOf(cryptoki, session, existing.handle);
    return { made: false, root: existing.root, custody };
  }
  const mechanisms = new Set(cryptoki.C_GetMechanismList(slot.handle));
  const wrap = mechanisms.has(CKM.AES_KEY_WRAP_PAD) ? CKM.AES_KEY_WRAP_PAD : CKM.AES_KEY_WRAP_KWP;
  const root =
    (await makeTrusted(cryptoki, session, request, wrap)) ?? makePlain(cryptoki, session, request);
  requireAlone(cryptoki, session, request.root, root);
  const custody = custodyOf(cryptoki, session, root);
  if (custody === 'extractableByPinHolder' && !request.allowExtractable) {
    cryptoki.C_DestroyObject(session, root);
    throw onlyExtractable('the token did not keep the attributes of the root that was made');
  }
  return { made: true, root: request.root, custody };
}

export interface DestroyRoot {
  readonly tokenSelector: TokenSelector;
  readonly user: PinFile;
  readonly root: RootOnToken;
}

export interface RootDestroyed {
  /** False when it was not on the token any more. */
  readonly destroyed: boolean;
  readonly root: RootOnToken;
}

/** Idempotent. The caller has proved that nothing is wrapped under the root. */
export async function destroyRoot(
  cryptoki: Cryptoki,
  { tokenSelector, user, root }: DestroyRoot,
): Promise<RootDestroyed> {
  const slot = selectSlot(cryptoki, tokenSelector);
  const session = cryptoki.C_OpenSession(slot.handle, CKF.RW_SESSION | CKF.SERIAL_SESSION);
  await login(cryptoki, session, CKU.USER, user);
  const found = objectsOf(cryptoki, session, root);
  for (const handle of found) cryptoki.C_DestroyObject(session, handle);
  forgetUse(cryptoki, session, root.installation);
  return { destroyed: found.length > 0, root };
}

/** A PIN that the token refused before is not offered; the mark is durable before it is. */
export async function login(
  cryptoki: Cryptoki,
  session: Handle,
  user: number,
  file: PinFile,
): Promise<void> {
  const pin = await file.read();
  try {
    await file.offer(pin, () => cryptoki.C_Login(session, user, pinText(pin)), {
      refuses: (error) => failureOf(error, 'login').consequence === 'pin',
      onUnmarked: (cause) => {
        const detail = 'the mark of the attempt could not be written, so no PIN was offered';
        throw new TwofoldError('hsm_unavailable', detail, { cause });
      },
    });
  } catch (error) {
    throw refusedBy(user, error);
  } finally {
    wipe(pin);
  }
}

/** Says which of the two PINs it was. */
function refusedBy(user: number, error: unknown): unknown {
  const failure = failureOf(error, 'login');
  if (failure.consequence !== 'pin') return error;
  const whose = user === CKU.SO ? 'PIN of the security officer' : 'user PIN';
  return new TokenFailure({ ...failure, detail: `the token refused the ${whose}` });
}

function onlyExtractable(why: string): TwofoldError {
  return new TwofoldError(
    'suite_unavailable_here',
    `${why}: whoever holds the user PIN and the database could extract keys from such a root. ` +
      'It was not made; --allow-extractable makes it',
  );
}

interface FoundRoot {
  readonly root: RootOnToken;
  readonly handle: Handle;
}

function existingRoot(
  cryptoki: Cryptoki,
  session: Handle,
  { root, unlessAny }: MakeRoot,
): FoundRoot | undefined {
  const [handle, another] = objectsOf(cryptoki, session, root);
  if (another !== undefined) {
    throw new TwofoldError('integrity_failed', 'two objects claim to be the same root');
  }
  if (handle !== undefined) return { root, handle };
  return unlessAny ? rootsOn(cryptoki, session)[0] : undefined;
}

/** The lock of ceremonies is one machine's: hosts that share a token each look for the other's root. */
function requireAlone(cryptoki: Cryptoki, session: Handle, root: RootOnToken, made: Handle): void {
  if (objectsOf(cryptoki, session, root).length === 1) return;
  cryptoki.C_DestroyObject(session, made);
  throw new TwofoldError(
    'conflict',
    'another host made the same root on this token meanwhile; the one made here was destroyed: run the ' +
      'command again',
  );
}

const objectsOf = (cryptoki: Cryptoki, session: Handle, root: RootOnToken): Handle[] =>
  findObjects(
    cryptoki,
    session,
    attributes({ class: CKO.SECRET_KEY, token: true, id: rootId(root) }),
  );

/** Undefined where the SO has no part, or the token knows no trusted keys or templates. */
async function makeTrusted(
  cryptoki: Cryptoki,
  session: Handle,
  request: MakeRoot,
  wrapMechanism: number,
): Promise<Handle | undefined> {
  if (request.officer === undefined) return undefined;
  cryptoki.C_Logout(session);
  await login(cryptoki, session, CKU.SO, request.officer);
  const made = generateAsOfficer(cryptoki, session, request, wrapMechanism);
  await login(cryptoki, session, CKU.USER, request.user);
  if (made === undefined) return undefined;
  try {
    return cryptoki.C_CopyObject(session, made, [
      { type: CKA.TOKEN, value: true },
      { type: CKA.PRIVATE, value: true },
      ...nameOf(request.root),
      { type: CKA.MODIFIABLE, value: false },
    ]);
  } finally {
    cryptoki.C_DestroyObject(session, made);
  }
}

/** Ends logged out: the public session object survives that. */
function generateAsOfficer(
  cryptoki: Cryptoki,
  session: Handle,
  request: MakeRoot,
  wrapMechanism: number,
): Handle | undefined {
  try {
    return generateAesKey(request.module, session, trustedTemplate(wrapMechanism));
  } catch (error) {
    // Any other failure is one of this attempt; a root for good is not made on its account.
    if (!NOT_KNOWN.has(returnValueOf(error))) throw error;
    if (request.allowExtractable) return undefined;
    throw onlyExtractable('the token knows no trusted keys with templates');
  } finally {
    cryptoki.C_Logout(session);
  }
}

/** What a token without trusted keys allows; its custody is `extractableByPinHolder`. */
function makePlain(cryptoki: Cryptoki, session: Handle, request: MakeRoot): Handle {
  if (!request.allowExtractable) throw onlyExtractable('the security officer has no part in it');
  return cryptoki.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, [
    ...plainRootTemplate(),
    ...nameOf(request.root),
  ]);
}

/** @param by what placed it, to be found again; not a part of what it is */
export function nameOf(root: RootOnToken, by = '') {
  return [
    { type: CKA.LABEL, value: `${ROOT_LABEL}${root.generation}${by}` },
    { type: CKA.ID, value: rootId(root) },
  ];
}

/** Read back, not assumed; the server tries the attacks themselves when it selects the root. */
export function custodyOf(cryptoki: Cryptoki, session: Handle, root: Handle): RootMade['custody'] {
  const trusted = readFlag(cryptoki, session, root, CKA.TRUSTED) === true;
  const fixed = readFlag(cryptoki, session, root, CKA.MODIFIABLE) === false;
  return trusted && fixed ? 'non-extractable' : 'extractableByPinHolder';
}
