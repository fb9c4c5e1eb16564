/**
 * Initialising a token: that of development, whose folder the service made itself
 * (development-token.ts), and one of SoftHSM by an operator's command. No other module is ever given
 * C_InitToken.
 */
import { Module } from 'graphene-pk11';
import { TwofoldError } from '../errors.ts';
import { CKF, CKU } from './cryptoki.ts';
import type { Cryptoki, Handle } from './cryptoki.ts';

export interface TokenInitialised {
  readonly serial: string;
}

/**
 * C_InitToken on the first uninitialised slot, then C_InitPIN, then a login with the PIN that the
 * server will use. Both PINs are on disk before; a token that a killed run left behind is in a
 * folder that was never put in place.
 */
export function initialiseToken(
  cryptoki: Cryptoki,
  label: string,
  pin: string,
  soPin: string,
): TokenInitialised {
  cryptoki.C_InitToken(emptySlot(cryptoki), soPin, label.padEnd(32));
  // SoftHSM moves a new token to a slot of its own, and appends another empty one.
  const slot = findSlot(cryptoki, label);
  if (slot === undefined) throw new Error('the new token is not there');
  return setUserPin(cryptoki, slot, pin, soPin);
}

export interface TokenFound extends TokenInitialised {
  /** False where a token of this label was there with its user PIN: it is left as it is. */
  readonly made: boolean;
}

/**
 * A SoftHSM token of this label, made where there is none; one that a killed run left without its user
 * PIN is completed.
 *
 * @throws TwofoldError `invalid_value` for any other module: its vendor's tool initialises its tokens
 */
export function ensureSoftToken(
  cryptoki: Cryptoki,
  label: string,
  pin: string,
  soPin: string,
): TokenFound {
  if (!isSoftHsm(cryptoki)) {
    throw new TwofoldError(
      'invalid_value',
      'only tokens of SoftHSM are initialised by this command',
    );
  }
  const slot = findSlot(cryptoki, label);
  if (slot === undefined) return { made: true, ...initialiseToken(cryptoki, label, pin, soPin) };
  const { flags, serialNumber } = cryptoki.C_GetTokenInfo(slot);
  if ((flags & CKF.USER_PIN_INITIALIZED) === 0) {
    return { made: true, ...setUserPin(cryptoki, slot, pin, soPin) };
  }
  return { made: false, serial: serialNumber.trim() };
}

const isSoftHsm = (cryptoki: Cryptoki): boolean =>
  cryptoki.C_GetInfo().manufacturerID.startsWith('SoftHSM');

/**
 * The same, but for a token of any other module, which is found and left as it is.
 *
 * @throws TwofoldError `hsm_unavailable` where another module has no initialised token of this label
 */
export function ensureToken(
  cryptoki: Cryptoki,
  label: string,
  pin: string,
  soPin: string,
): TokenFound {
  if (isSoftHsm(cryptoki)) return ensureSoftToken(cryptoki, label, pin, soPin);
  const slot = findSlot(cryptoki, label);
  if (slot === undefined) {
    const detail = 'no token of this label is initialised; that is done with the vendor’s tool';
    throw new TwofoldError('hsm_unavailable', detail);
  }
  return { made: false, serial: cryptoki.C_GetTokenInfo(slot).serialNumber.trim() };
}

function setUserPin(
  cryptoki: Cryptoki,
  slot: Handle,
  pin: string,
  soPin: string,
): TokenInitialised {
  const session = cryptoki.C_OpenSession(slot, CKF.RW_SESSION | CKF.SERIAL_SESSION);
  cryptoki.C_Login(session, CKU.SO, soPin);
  cryptoki.C_InitPIN(session, pin);
  cryptoki.C_Logout(session);
  cryptoki.C_Login(session, CKU.USER, pin);
  cryptoki.C_CloseSession(session);
  return { serial: cryptoki.C_GetTokenInfo(slot).serialNumber.trim() };
}

/** By the flag, never by a blank label: C_InitToken on a token that is in use would empty it. */
function emptySlot(cryptoki: Cryptoki): Handle {
  const slot = slotsOf(cryptoki).find(
    (handle) => (cryptoki.C_GetTokenInfo(handle).flags & CKF.TOKEN_INITIALIZED) === 0,
  );
  if (slot === undefined) throw new Error('the module offers no empty slot');
  return slot;
}

function findSlot(cryptoki: Cryptoki, label: string): Handle | undefined {
  return slotsOf(cryptoki).find((handle) => {
    const info = cryptoki.C_GetTokenInfo(handle);
    return (info.flags & CKF.TOKEN_INITIALIZED) !== 0 && info.label.trim() === label;
  });
}

/** Slots with a token, initialised or not. */
function slotsOf(cryptoki: Cryptoki): readonly Handle[] {
  const slots = new Module(cryptoki).getSlots(true);
  return Array.from({ length: slots.length }, (_, index) => slots.items(index).handle);
}
