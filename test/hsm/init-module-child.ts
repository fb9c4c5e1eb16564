/**
 * Initialises a token of a test's own, in a process whose environment tells the module where it lies:
 * C_InitToken where the module wants it, then the user PIN. Prints the slots' numbers and labels.
 */
import { CKF, CKU, readUlong } from '../../src/hsm/cryptoki.ts';
import type { Cryptoki, Handle } from '../../src/hsm/cryptoki.ts';
import { loadAlone } from '../../src/hsm/module.ts';

export interface InitRequest {
  readonly module: string;
  readonly moduleParameters?: string;
  /** Of the slots that hold a token, in the module's order. */
  readonly index: number;
  /** Absent: the token is there already and has no PIN (NSS). */
  readonly label?: string;
  readonly soPin: string;
  readonly pin: string;
}

function initialise(cryptoki: Cryptoki, request: InitRequest): void {
  const slot = cryptoki.C_GetSlotList(true)[request.index];
  if (slot === undefined) throw new Error('no such slot');
  const { soPin, label } = request;
  if (label !== undefined) cryptoki.C_InitToken(slot, soPin, label.padEnd(32));
  const session = cryptoki.C_OpenSession(slot, CKF.RW_SESSION | CKF.SERIAL_SESSION);
  cryptoki.C_Login(session, CKU.SO, soPin);
  cryptoki.C_InitPIN(session, request.pin);
  cryptoki.C_Logout(session);
  cryptoki.C_CloseSession(session);
}

function slots(cryptoki: Cryptoki) {
  return cryptoki.C_GetSlotList(true).map((slot: Handle) => {
    const { label, flags } = cryptoki.C_GetTokenInfo(slot);
    return { slot: readUlong(slot), label: label.trim(), flags };
  });
}

const request = JSON.parse(process.argv[2] ?? '') as InitRequest;
const cryptoki = loadAlone(request.module, request.moduleParameters);
try {
  initialise(cryptoki, request);
} finally {
  process.stdout.write(`${JSON.stringify(slots(cryptoki))}\n`);
  cryptoki.C_Finalize();
}
