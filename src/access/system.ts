/**
 * The service's own principals. They hold no token: whoever runs the code is them, and the policies say
 * what they may do, like anybody's. No issuer of tokens may have their issuer's name.
 */
import { NAME } from '../name.ts';
import type { Principal } from './grant.ts';

const own = (subject: string): Principal =>
  Object.freeze({
    issuer: NAME.systemIssuer,
    subject,
    method: 'system',
    roles: [],
    acr: null,
    amr: [],
    namespace: null,
    session: null,
    expiresAt: new Date(8.64e15),
  });

/** Does what was set in advance and what policies ask for. */
export const SCHEDULER: Principal = own('scheduler');

/** Writes what a new installation begins with. */
export const SERVICE: Principal = own('service');

/** Wraps and unwraps for a Kubernetes API server, with the key that the configuration names. */
export const KUBERNETES: Principal = own('kubernetes');
