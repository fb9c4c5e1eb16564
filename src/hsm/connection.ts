/**
 * One worker's hold on the token: a keeper session that owns unwrapped objects and is never closed
 * while they are in use, and an operation session that is replaced whenever a call fails in it (a
 * session abandoned between Init and the operation stays CKR_OPERATION_ACTIVE).
 *
 * Login is per process and C_Logout would kill every private session object of every worker, so it
 * is never called; closing the last session logs out.
 */
import { Module, SessionFlag } from 'graphene-pk11';
import type { Session, Slot } from 'graphene-pk11';
import { TwofoldError } from '../errors.ts';
import { CKF, CKR, CKS, CKU, readUlong, returnValueOf } from './cryptoki.ts';
import type { Cryptoki, Handle } from './cryptoki.ts';
import { failureOf, TokenFailure } from './failures.ts';
import { pinText } from './pin.ts';
import type { Opened, OpenRequest, TokenSelector } from './protocol.ts';
import type { OaepWay } from './rsa.ts';

export class Connection {
  readonly cryptoki: Cryptoki;
  readonly tokenEpoch: number;
  readonly serial: string;
  readonly mechanisms: ReadonlySet<number>;
  readonly keeper: Handle;
  readonly #slot: Slot;
  #operation: Handle;
  /** Objects made in this process since it began; SoftHSM never returns about 0.24 kB of each. */
  objects = 0;
  /** Which mechanism opens OAEP here, once a key has shown it (oaep-call.ts). */
  oaepWay: OaepWay | undefined;

  private constructor(cryptoki: Cryptoki, slot: Slot, keeper: Handle, tokenEpoch: number) {
    this.cryptoki = cryptoki;
    this.#slot = slot;
    this.keeper = keeper;
    this.tokenEpoch = tokenEpoch;
    this.serial = slot.getToken().serialNumber.trim();
    this.mechanisms = new Set(cryptoki.C_GetMechanismList(slot.handle));
    this.#operation = this.#openSession();
  }

  /** Opens sessions and logs in once per process; a refused PIN fails with consequence `pin`. */
  static open(cryptoki: Cryptoki, selector: TokenSelector, request: OpenRequest): Connection {
    const slot = selectSlot(cryptoki, selector);
    const keeper = slot.open(SessionFlag.RW_SESSION | SessionFlag.SERIAL_SESSION);
    try {
      login(cryptoki, keeper, request.pin);
      return new Connection(cryptoki, slot, keeper.handle, request.tokenEpoch);
    } catch (error) {
      closeQuietly(cryptoki, keeper.handle);
      throw error;
    }
  }

  describe(): Opened {
    const token = this.#slot.getToken();
    const { major, minor } = token.firmwareVersion;
    return {
      token: {
        serial: this.serial,
        label: token.label.trim(),
        model: token.model.trim(),
        manufacturer: token.manufacturerID.trim(),
        firmware: `${major}.${minor}`,
      },
    };
  }

  /** Runs one call in the operation session, which is replaced when the call fails. */
  run<Result>(call: (session: Handle, cryptoki: Cryptoki) => Result): Result {
    try {
      return call(this.#operation, this.cryptoki);
    } catch (error) {
      if (returnValueOf(error) !== undefined) this.#replaceOperationSession();
      throw error;
    }
  }

  /** Destroys a session object; failures are of no consequence, the object dies with its session. */
  destroy(handle: Handle): void {
    try {
      this.cryptoki.C_DestroyObject(this.#operation, handle);
    } catch {
      // A handle that is gone already is what was asked for.
    }
  }

  close(): void {
    closeQuietly(this.cryptoki, this.#operation);
    closeQuietly(this.cryptoki, this.keeper);
  }

  #openSession(): Handle {
    return this.cryptoki.C_OpenSession(this.#slot.handle, CKF.RW_SESSION | CKF.SERIAL_SESSION);
  }

  #replaceOperationSession(): void {
    closeQuietly(this.cryptoki, this.#operation);
    try {
      this.#operation = this.#openSession();
    } catch {
      // The next call in the closed session reports the loss, which reopens everything.
    }
  }
}

/** The one slot that the selector names; absence and ambiguity are both `hsm_unavailable`. */
export function selectSlot(cryptoki: Cryptoki, selector: TokenSelector): Slot {
  const slots = new Module(cryptoki).getSlots(true);
  const found: Slot[] = [];
  for (let index = 0; index < slots.length; index += 1) {
    const slot = slots.items(index);
    if (names(slot, selector)) found.push(slot);
  }
  const [slot] = found;
  if (slot === undefined || found.length > 1) {
    const detail = slot === undefined ? 'no token matches' : 'several tokens match';
    throw new TokenFailure({
      code: 'hsm_unavailable',
      detail: `${detail} the configured slot, label or serial`,
      consequence: 'lost',
      returnValue: CKR.TOKEN_NOT_PRESENT,
    });
  }
  return slot;
}

function names(slot: Slot, selector: TokenSelector): boolean {
  if (selector.slot !== undefined && readUlong(slot.handle) !== selector.slot) return false;
  if (selector.label === undefined && selector.serial === undefined) return true;
  try {
    const { label, serialNumber } = slot.getToken();
    if (selector.label !== undefined && label.trim() !== selector.label) return false;
    return selector.serial === undefined || serialNumber.trim() === selector.serial;
  } catch {
    // A token that cannot be read, or was just taken out, is not the one that is named.
    return false;
  }
}

function login(cryptoki: Cryptoki, keeper: Session, pin: Uint8Array): void {
  if (keeper.state === CKS.RW_USER) return;
  try {
    cryptoki.C_Login(keeper.handle, CKU.USER, pinText(pin));
  } catch (error) {
    if (returnValueOf(error) === CKR.USER_ALREADY_LOGGED_IN) return;
    if (returnValueOf(error) === CKR.USER_PIN_NOT_INITIALIZED) {
      throw new TwofoldError('hsm_unavailable', 'the token has no user PIN yet');
    }
    throw new TokenFailure(failureOf(error, 'login'));
  }
}

function closeQuietly(cryptoki: Cryptoki, session: Handle): void {
  try {
    cryptoki.C_CloseSession(session);
  } catch {
    // Already closed or lost: nothing is held either way.
  }
}
