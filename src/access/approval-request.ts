/** Who may do an operation may ask for the approval that it takes: the one permission is the other. */
import { mintGrant } from './grant.ts';
import type { Grant, Operation } from './grant.ts';

export const approvalRequest = (grant: Grant<Operation>): Grant<'approvals.request'> =>
  mintGrant({
    operation: 'approvals.request',
    namespace: grant.namespace,
    key: grant.key,
    principal: grant.principal,
    decision: grant.decision,
    epoch: grant.epoch,
  });
