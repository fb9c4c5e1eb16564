/**
 * The service's own principals. They hold no token: whoever runs the code is them, and the policies say
 * what they may do, like anybody's. No issuer of tokens may have their issuer's name.
 */
import { NAME } from '../name.ts';
import type { Principal } from './grant.ts';

/** Does what was set in advance and what policies ask for. */
export const SCHEDULER: Principal = Object.freeze({
  issuer: NAME.systemIssuer,
  subject: 'scheduler',
  method: 'system',
  roles: [],
  session: null,
  expiresAt: new Date(8.64e15),
  namespace: null,
});
