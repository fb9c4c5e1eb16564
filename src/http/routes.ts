/** Every route of the service, joined to its handler. */
import { adminKeyRoutes } from './admin-keys.ts';
import { aliasRoutes } from './aliases.ts';
import { approvalRuleRoutes } from './approval-rules.ts';
import { approvalRoutes } from './approvals.ts';
import { auditRoutes } from './audit.ts';
import { backupRoutes } from './backups.ts';
import { auditValueRoutes } from './audit-values.ts';
import { certificateRoutes } from './certificates.ts';
import { csrRoutes } from './csr.ts';
import { denialRoutes } from './denials.ts';
import { eventRoutes } from './events.ts';
import { exportRoutes } from './exports.ts';
import { importRoutes } from './imports.ts';
import { issuerRoutes } from './issuers.ts';
import { kemRoutes } from './kem.ts';
import { keyRotationRoutes } from './key-rotation.ts';
import { keyRoutes } from './keys.ts';
import { lifecycleRoutes } from './lifecycle.ts';
import { logKeyRoutes } from './log-keys.ts';
import { logRoutes } from './log.ts';
import { limitRoutes } from './limits.ts';
import { localTokenRoutes } from './local-tokens.ts';
import { macRoutes } from './mac.ts';
import { operationRoutes } from './operations.ts';
import { namespacePolicyRoutes } from './namespace-policies.ts';
import { namespaceRotationRoutes } from './namespace-rotations.ts';
import { publishedRoutes } from './published.ts';
import { rootRoutes } from './root.ts';
import { rewrapJobRoutes } from './rewrap-jobs.ts';
import { keyPolicyRoutes } from './rotation.ts';
import { rotationPlanRoutes } from './rotation-plan.ts';
import { rotationOrderRoutes } from './rotation-orders.ts';
import { parallelRoutes } from './sign-parallel.ts';
import { signRoutes } from './sign.ts';
import { keyGrantRoutes } from './key-grants.ts';
import { namespaceRoutes } from './namespaces.ts';
import { policyRoutes } from './policies.ts';
import { policyReplayRoutes } from './policy-replays.ts';
import { publicRoutes, systemRoutes } from './system.ts';
import { versionUseRoutes } from './version-uses.ts';
import { wrapRoutes } from './wrap.ts';
import type { AnyRoute } from './app.ts';
import type { HttpDependencies, HttpLimits } from './dependencies.ts';
import type { EventStreams } from './event-stream.ts';
import type { Document } from './route.ts';

/** In the order in which Express tries them: what is called most stands first. */
export function allRoutes(
  deps: HttpDependencies,
  limits: HttpLimits,
  document: Document['text'],
  streams: EventStreams,
): readonly AnyRoute[] {
  return [
    ...wrapRoutes(deps, limits),
    ...signRoutes(deps),
    ...csrRoutes(deps),
    ...parallelRoutes(deps),
    ...macRoutes(deps),
    ...kemRoutes(deps),
    ...keyRoutes(deps),
    ...systemRoutes(deps),
    ...adminKeyRoutes(deps),
    ...importRoutes(deps),
    ...exportRoutes(deps),
    ...aliasRoutes(deps),
    ...versionUseRoutes(deps),
    ...keyPolicyRoutes(deps),
    ...keyRotationRoutes(deps),
    ...namespacePolicyRoutes(deps),
    ...rotationPlanRoutes(deps),
    ...certificateRoutes(deps),
    ...rewrapJobRoutes(deps, limits),
    ...namespaceRotationRoutes(deps),
    ...rotationOrderRoutes(deps, limits),
    ...rootRoutes(deps),
    ...backupRoutes(deps),
    ...operationRoutes(deps),
    ...lifecycleRoutes(deps),
    ...namespaceRoutes(deps),
    ...denialRoutes(deps),
    ...limitRoutes(deps),
    ...issuerRoutes(deps),
    ...approvalRoutes(deps),
    ...approvalRuleRoutes(deps),
    ...localTokenRoutes(deps),
    ...policyRoutes(deps),
    ...policyReplayRoutes(deps),
    ...keyGrantRoutes(deps),
    ...auditRoutes(deps),
    ...logRoutes(deps, streams),
    ...auditValueRoutes(deps),
    ...logKeyRoutes(deps),
    ...eventRoutes(deps, streams),
    ...publishedRoutes(deps),
    ...publicRoutes(deps, document),
  ];
}
