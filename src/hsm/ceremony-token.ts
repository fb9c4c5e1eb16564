/**
 * Initialising a development token. Only ever called on a module whose token folder the service made
 * itself (development-token.ts), never on a configured one.
 */
import { Module } from 'graphene-pk11';
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
  cryptoki.C_InitToken(slotLabelled(cryptoki, ''), soPin, label.padEnd(32));
  // SoftHSM moves a new token to a slot of its own, and appends another empty one.
  const slot = slotLabelled(cryptoki, label);
  const session = cryptoki.C_OpenSession(slot, CKF.RW_SESSION | CKF.SERIAL_SESSION);
  cryptoki.C_Login(session, CKU.SO, soPin);
  cryptoki.C_InitPIN(session, pin);
  cryptoki.C_Logout(session);
  cryptoki.C_Login(session, CKU.USER, pin);
  cryptoki.C_CloseSession(session);
  return { serial: cryptoki.C_GetTokenInfo(slot).serialNumber.trim() };
}

function slotLabelled(cryptoki: Cryptoki, label: string): Handle {
  const slots = new Module(cryptoki).getSlots(true);
  for (let index = 0; index < slots.length; index += 1) {
    const slot = slots.items(index);
    if (slot.getToken().label.trim() === label) return slot.handle;
  }
  throw new Error(label === '' ? 'the module offers no empty slot' : 'the new token is not there');
}
