/** A credential that is good in itself, and on a denial list. */
import { TwofoldError } from '../errors.ts';
import type { Principal } from './grant.ts';

/** Thrown when all else of the credential was right, so that its refusal can be put down to somebody. */
export class DeniedCredential extends TwofoldError {
  readonly principal: Principal;

  constructor(principal: Principal) {
    super('token_denied');
    this.principal = principal;
  }
}
