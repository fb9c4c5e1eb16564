/** Who may do what: decided by stored policies, which a new installation may begin with. */
import { randomUUID } from 'node:crypto';

import { PolicyAuthorizer, systemPolicies } from '../access/authorize.ts';
import { SERVICE } from '../access/system.ts';
import { StaleAnswer } from '../audit/ports.ts';
import type { Config } from '../config.ts';
import type { SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { StoredAccess } from '../governance/access-control.ts';
import type { Governance, InitialPolicies } from '../governance/governance.ts';
import { ROOT_NAMESPACE } from '../governance/namespaces.ts';
import { governanceOf } from './governing.ts';
import type { GoverningParts } from './governing.ts';
import type { LateParts } from './late-parts.ts';

/** Several processes that start at once write them once; this often one looks whether another did. */
const ATTEMPTS = 5;

const initialPoliciesOf = ({ mode, access }: Config): InitialPolicies =>
  access.initialPolicies ?? (mode === 'dev' ? 'roles' : 'none');

export const openAccess = (late: LateParts, epoch: SecurityEpoch): StoredAccess =>
  new StoredAccess({
    policies: { inForce: (namespace) => late.governance.port.policies.inForce(namespace) },
    namespaces: { standing: (name) => late.governance.port.namespaces.standing(name) },
    epoch,
    clock: () => new Date(),
  });

/** What is stored about access, with what a new installation begins with. */
export async function openGoverned(parts: GoverningParts, config: Config): Promise<Governance> {
  const initial = initialPoliciesOf(config);
  const governance = governanceOf(parts, initial);
  if (initial === 'roles') await writeInitialPolicies(governance, parts.incarnation.epoch);
  return governance;
}

/** Writes the roles as the policies of the root namespace, where it never had any. */
export async function writeInitialPolicies(
  { policies }: Pick<Governance, 'policies'>,
  epoch: SecurityEpoch,
): Promise<void> {
  const system = PolicyAuthorizer.of({ epoch, policies: systemPolicies() });
  for (let attempt = 1; ; attempt += 1) {
    if ((await policies.inForce(ROOT_NAMESPACE)).revision > 0) return;
    const about = { namespace: ROOT_NAMESPACE, key: null };
    const grant = system.authorize(SERVICE, 'policies.change', about);
    try {
      await policies.begin(grant, {
        dryRun: false,
        requestId: randomUUID(),
        ended: Promise.resolve(),
        source: 'service',
        ifMatch: null,
        idempotency: null,
        render: ({ revision }) => ({ status: 200, body: JSON.stringify({ revision }) }),
      });
      return;
    } catch (error) {
      const overtaken = error instanceof StaleAnswer || TwofoldError.is(error, 'conflict');
      if (!overtaken || attempt >= ATTEMPTS) throw error;
    }
  }
}
