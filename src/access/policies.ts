/**
 * The schema and the built-in, read-only policy set, in Cedar.
 *
 * What the roles may do; whatever is not in this table is denied:
 *
 * | operation                                            | admin | operator | user | auditor | no role |
 * | ---------------------------------------------------- | ----- | -------- | ---- | ------- | ------- |
 * | `whoami`, `suites.read`                              | yes   | yes      | yes  | yes     | yes     |
 * | `keys.read`, `keys.list`, `rotations.read`           | yes   | yes      | yes  | yes     | no      |
 * | `random`, and every use of a key (`wrap` … `verify-mac`, also `csr` and `sign-parallel`) | yes | no     | yes  | no      | no      |
 * | changes of keys, versions and rotation policies      | yes   | yes      | no   | no      | no      |
 * | `versions.uses` (how much a version is used, by whom) | yes   | yes      | no   | yes     | no      |
 * | `rewrap-jobs.create`, `rewrap-jobs.continue`         | yes   | no       | yes  | no      | no      |
 * | `operations.read`                                    | yes   | yes      | yes  | yes     | no      |
 * | `operations.cancel`                                  | yes   | yes      | yes  | no      | no      |
 * | `operations.oversee`                                 | yes   | yes      | no   | yes     | no      |
 * | what destroys (`keys.schedule-destruction`, `versions.schedule-destruction`, and `keys.destroy`, `versions.destroy`, which have no route) | yes | no | no | no | no |
 * | `issuers.read`, `denials.read`                       | yes   | yes      | no   | yes     | no      |
 * | `issuers.change`, `denials.change`                   | yes   | no       | no   | no      | no      |
 * | `namespaces.read`                                    | yes   | yes      | no   | yes     | no      |
 * | `namespaces.change`                                  | yes   | no       | no   | no      | no      |
 * | `approvals.read`, `local-tokens.read`                | yes   | yes      | no   | yes     | no      |
 * | `approvals.decide`, `approvals.configure`, and `bootstrap.open`, `break-glass.open`, which have no route | yes   | no       | no   | no      | no      |
 * | `approvals.withdraw`, and `approvals.request`, which has no route | yes | yes | yes | no      | no      |
 * | `audit.read`                                         | yes   | no       | no   | yes     | no      |
 * | `events.read`                                        | yes   | yes      | no   | yes     | no      |
 *
 * To destroy is a group of its own, `destroy`, so that a policy can single it out; to cancel a destruction
 * is a change like any other: who keeps the keys in use may stop what would end them.
 *
 * So whoever changes keys need not be able to use them, and whoever uses them cannot change them.
 *
 * `bootstrap.open` and `break-glass.open` are commands on the machine (`local-access.ts`), which no policy
 * permits or forbids.
 *
 * To ask for an approval takes the permission of what it is for (`approval-request.ts`), so nothing
 * asks for `approvals.request`; `approvals.withdraw` is about the principal's own.
 *
 * `operations.read` and `operations.cancel` are about the principal's own operations; with
 * `operations.oversee` they reach everybody's. A rewrap job moves data as its owner may anyway, so it
 * belongs to the use of keys; it is no permission: each of its requests takes `rewrap` on the key too.
 */

import { NAME } from '../name.ts';

/**
 * Entity types, actions and context.
 *
 * - `User` is in the `Role`s of its token.
 * - A `Key` has `name` or `id`, whichever the request used, and lies in its `Namespace`. A policy that
 *   must hold for a key however it is named has to be about both.
 * - The body's facts are absent while a permission is decided before the body is read.
 */
export const SCHEMA = `
entity Role;
entity User in [Role] { issuer: String, subject: String, method: String };
entity Namespace;
entity Key in [Namespace] { name?: String, id?: String };
entity Pairs tags String;

type Facts = {
  encryptionContext?: Pairs,
  encryptionContextNames?: Set<String>,
  suite?: String,
  labels?: Pairs,
};

action identify, read, use, change, destroy, attend, oversee, inspect, follow, govern,
  schedule;

action "whoami", "suites.read" in [identify]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "random", "sign-parallel", "rewrap-jobs.continue" in [use]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "keys.read" in [read]
  appliesTo { principal: User, resource: Key, context: Facts };
action "keys.list", "operations.read", "rotations.read" in [read]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "wrap", "unwrap", "rewrap", "data-keys.create", "data-keys.create-wrapped",
  "encapsulate", "decapsulate", "sign", "verify", "csr", "mac", "verify-mac",
  "rewrap-jobs.create" in [use]
  appliesTo { principal: User, resource: Key, context: Facts };
action "keys.set-rotation", "keys.announce", "versions.retire" in [change]
  appliesTo { principal: User, resource: Key, context: Facts };
action "keys.create" in [change]
  appliesTo { principal: User, resource: [Namespace, Key], context: Facts };
action "keys.update", "keys.rotate", "keys.suspend", "keys.resume",
  "keys.set-primary", "keys.put-alias", "keys.delete-alias",
  "versions.suspend", "versions.resume",
  "versions.put-certificates", "versions.delete-certificates" in [change]
  appliesTo { principal: User, resource: Key, context: Facts };
action "versions.uses" in [inspect]
  appliesTo { principal: User, resource: Key, context: Facts };
action "operations.cancel" in [attend]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "operations.oversee" in [oversee]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "versions.activate", "versions.deactivate", "versions.compromise", "versions.schedule",
  "versions.cancel-destruction", "keys.cancel-destruction" in [change]
  appliesTo { principal: User, resource: Key, context: Facts };
action "versions.schedule-destruction", "versions.destroy",
  "keys.schedule-destruction", "keys.destroy" in [destroy]
  appliesTo { principal: User, resource: Key, context: Facts };
action "rotation-policies.change", "rotations.order" in [change]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "rotations.carry-out" in [schedule]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "issuers.read", "denials.read" in [oversee]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "issuers.change", "denials.change" in [govern]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "namespaces.read" in [oversee]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "namespaces.change" in [govern]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "approvals.read", "local-tokens.read" in [oversee]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "approvals.decide", "approvals.configure", "bootstrap.open", "break-glass.open" in [govern]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "approvals.withdraw" in [attend]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "approvals.request" in [attend]
  appliesTo { principal: User, resource: [Namespace, Key], context: Facts };
action "audit.read" in [inspect]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "events.read" in [follow]
  appliesTo { principal: User, resource: Namespace, context: Facts };
`;

/** The entity of the scheduler, the service's own principal (`access/system.ts`). */
const SYSTEM_SCHEDULER = JSON.stringify([NAME.systemIssuer, 'scheduler']);

/** Each policy has an \`@id\`, which audit entries name. */
export const BUILT_IN_POLICIES = `
@id("everyone-identifies")
permit (principal, action in Action::"identify", resource);

@id("admin-does-everything")
permit (
  principal in Role::"admin",
  action in [
    Action::"read", Action::"use", Action::"change", Action::"destroy", Action::"attend",
    Action::"oversee", Action::"inspect", Action::"govern"
  ],
  resource
);

@id("operator-changes-keys")
permit (
  principal in Role::"operator",
  action in [Action::"read", Action::"change", Action::"attend", Action::"oversee"],
  resource
);

@id("operator-sees-uses")
permit (
  principal in Role::"operator",
  action == Action::"versions.uses",
  resource
);

@id("user-uses-keys")
permit (
  principal in Role::"user",
  action in [Action::"read", Action::"use", Action::"attend"],
  resource
);

@id("scheduler-does-what-was-set")
permit (
  principal == User::${JSON.stringify(SYSTEM_SCHEDULER)},
  action in [
    Action::"keys.read", Action::"keys.rotate", Action::"keys.announce", Action::"keys.destroy",
    Action::"versions.activate", Action::"versions.deactivate", Action::"versions.destroy",
    Action::"versions.retire", Action::"rotations.carry-out", Action::"operations.oversee"
  ],
  resource
);

@id("events-are-followed")
permit (
  principal,
  action in Action::"follow",
  resource
) when {
  principal in Role::"admin" || principal in Role::"operator" || principal in Role::"auditor"
};

@id("auditor-reads")
permit (
  principal in Role::"auditor",
  action in [Action::"read", Action::"oversee", Action::"inspect"],
  resource
);
`;
