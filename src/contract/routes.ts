/** The tables of routes: everything that the service answers, and nothing else. */
import * as adminKeys from './admin-keys.ts';
import * as aliases from './aliases.ts';
import * as approvals from './approvals.ts';
import * as audit from './audit.ts';
import * as backups from './backups.ts';
import * as auditValues from './audit-values.ts';
import * as certificates from './certificates.ts';
import * as csr from './csr.ts';
import * as denials from './denials.ts';
import * as events from './events.ts';
import * as exports from './exports.ts';
import * as imports from './imports.ts';
import * as issuers from './issuers.ts';
import * as kem from './kem.ts';
import * as keyGrants from './key-grants.ts';
import * as keys from './keys.ts';
import * as lifecycle from './lifecycle.ts';
import * as log from './log.ts';
import * as limits from './limits.ts';
import * as localTokens from './local-tokens.ts';
import * as logKeys from './log-keys.ts';
import * as mac from './mac.ts';
import * as namespaceRotations from './namespace-rotations.ts';
import * as namespaces from './namespaces.ts';
import * as operations from './operations.ts';
import * as policies from './policies.ts';
import * as policyReplays from './policy-replays.ts';
import * as parallel from './sign-parallel.ts';
import * as published from './published.ts';
import * as root from './root.ts';
import * as rotation from './rotation.ts';
import * as rotationPlan from './rotation-plan.ts';
import * as rotationOrders from './rotation-orders.ts';
import * as sign from './sign.ts';
import { status } from './status.ts';
import * as system from './system.ts';
import * as versionUses from './version-uses.ts';
import * as wrap from './wrap.ts';
import type { RouteContract } from './route.ts';

function isRoute(value: unknown): value is RouteContract {
  return typeof value === 'object' && value !== null && 'plane' in value && 'operation' in value;
}

const RESOURCES = [
  system,
  keys,
  wrap,
  kem,
  sign,
  csr,
  parallel,
  mac,
  adminKeys,
  exports,
  imports,
  aliases,
  versionUses,
  rotation,
  rotationPlan,
  rotationOrders,
  root,
  backups,
  namespaceRotations,
  certificates,
  operations,
  lifecycle,
  namespaces,
  denials,
  limits,
  issuers,
  approvals,
  localTokens,
  policies,
  policyReplays,
  keyGrants,
  audit,
  log,
  auditValues,
  logKeys,
  events,
  published,
] as const;

export const ROUTES: readonly RouteContract[] = Object.freeze(
  RESOURCES.flatMap((resource) => Object.values<unknown>(resource).filter(isRoute)),
);

/** What handlers ask for beside the operation of their route. */
export const ASKED_BESIDES: readonly string[] = ['operations.oversee'];

/** What no route asks for: what the scheduler does, what comes with another permission, and commands. */
export const UNROUTED: readonly string[] = [
  'approvals.request',
  'bootstrap.open',
  'break-glass.open',
  'keys.announce',
  'keys.destroy',
  'rotations.carry-out',
  'root.carry-out',
  'root.retire',
  'versions.destroy',
  'versions.retire',
];

/** The anonymous few, by name; a route of the plane `public` that is not here does not start. */
export const ANONYMOUS_PATHS: readonly string[] = [
  '/healthz',
  '/readyz',
  '/openapi.yaml',
  '/public/log/checkpoint',
  '/public/{namespace}/{key}/jwks.json',
  '/public/{namespace}/{key}/key.pem',
];

/** What the metrics listener serves beside Prometheus text, and no other listener does. */
export const MONITORING_ROUTES: readonly RouteContract[] = Object.freeze([status]);
export const MONITORING_PATHS: readonly string[] = MONITORING_ROUTES.map(({ path }) => path);
