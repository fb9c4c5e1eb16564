/**
 * The schema, and the roles in Cedar: as templates that stored policies link, and as a set.
 *
 * What the roles may do where their policies are stored; whatever is not in this table is denied:
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
 * | `issuers.read`, `denials.read`, `limits.read`        | yes   | yes      | no   | yes     | no      |
 * | `issuers.change`, `denials.change`, `limits.change`  | yes   | no       | no   | no      | no      |
 * | `access.ask` (may I, and why)                        | yes   | yes      | yes  | yes     | yes     |
 * | `policies.read`                                      | yes   | yes      | no   | yes     | no      |
 * | `policies.change`                                    | yes   | no       | no   | no      | no      |
 * | `namespaces.read`                                    | yes   | yes      | no   | yes     | no      |
 * | `namespaces.change`                                  | yes   | no       | no   | no      | no      |
 * | `approvals.read`, `local-tokens.read`                | yes   | yes      | no   | yes     | no      |
 * | `approvals.decide`, `approvals.configure`, and `bootstrap.open`, `break-glass.open`, which have no route | yes   | no       | no   | no      | no      |
 * | `approvals.withdraw`, and `approvals.request`, which has no route | yes | yes | yes | no      | no      |
 * | `grants.read`                                        | yes   | yes      | no   | yes     | no      |
 * | `grants.create`, `grants.retire`                     | yes   | no       | no   | no      | no      |
 * | `audit.read`, `audit.hash`                           | yes   | no       | no   | yes     | no      |
 * | `audit.log` (the whole log, in the root namespace)   | yes   | no       | no   | yes     | no      |
 * | `audit.configure`                                    | yes   | no       | no   | no      | no      |
 * | `audit.keys.rotate` (in the root namespace)           | yes   | no       | no   | no      | no      |
 * | `backups.read` (in the root namespace)               | yes   | yes      | no   | yes     | no      |
 * | `backups.take` (in the root namespace)               | yes   | no       | no   | no      | no      |
 * | `events.read`                                        | yes   | yes      | no   | yes     | no      |
 *
 * Who has no role is told who they are in the root alone: elsewhere that would say that there is such a
 * namespace. Who is to be told has a policy that says so (`EVERYONE_IDENTIFIES`).
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
 * - A `Key` is the key that the request means, however it names it: by name, id or alias. It is called
 *   `Key::"<name>"`, has name, id, aliases and labels, and lies in its `Namespace`. Of a key that is not
 *   there only the reference is known: its name, or its id.
 * - The body's facts are absent while a permission is decided before the body is read. What a permit
 *   needs of them is decided after it.
 * - `tlsGroup` (IANA's name) is absent over plain HTTP; `authentication.acr` where the token does not say.
 */
export const SCHEMA = `
entity Role;
entity User in [Role] { issuer: String, subject: String, method: String };
entity Namespace;
entity Key in [Namespace] { name?: String, id?: String, aliases: Set<String>, labels: Pairs };
entity Pairs tags String;

type Facts = {
  time: datetime,
  tlsGroup?: String,
  authentication: { method: String, acr?: String, amr: Set<String> },
  encryptionContext?: Pairs,
  encryptionContextNames?: Set<String>,
  suite?: String,
  origin?: String,
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
action "keys.create", "keys.import-parameters", "keys.import" in [change]
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
action "versions.schedule-destruction", "versions.destroy", "keys.export",
  "keys.schedule-destruction", "keys.destroy" in [destroy]
  appliesTo { principal: User, resource: Key, context: Facts };
action "rotation-policies.change", "rotations.order" in [change]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "rotations.carry-out", "root.carry-out" in [schedule]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "issuers.read", "denials.read", "limits.read" in [oversee]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "issuers.change", "denials.change", "limits.change" in [govern]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "policies.read" in [oversee]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "policies.change" in [govern]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "access.ask" in [identify]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "namespaces.read", "root.read", "backups.read" in [oversee]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "namespaces.change", "audit.keys.rotate", "root.rotate", "root.retire", "backups.take" in [govern]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "approvals.read", "local-tokens.read" in [oversee]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "approvals.decide", "approvals.configure", "bootstrap.open", "break-glass.open" in [govern]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "approvals.withdraw" in [attend]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "approvals.request" in [attend]
  appliesTo { principal: User, resource: [Namespace, Key], context: Facts };
action "grants.read" in [oversee]
  appliesTo { principal: User, resource: Key, context: Facts };
action "grants.create", "grants.retire" in [govern]
  appliesTo { principal: User, resource: Key, context: Facts };
action "audit.read", "audit.log", "audit.hash" in [inspect]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "audit.configure" in [govern]
  appliesTo { principal: User, resource: Namespace, context: Facts };
action "events.read" in [follow]
  appliesTo { principal: User, resource: Namespace, context: Facts };
`;

/** Entities of the service's own principals (`access/system.ts`). */
const own = (subject: string): string =>
  `User::${JSON.stringify(JSON.stringify([NAME.systemIssuer, subject]))}`;

/**
 * What decides about the service itself, in every namespace, and about nobody else. What the scheduler
 * does was permitted when the rotation policy was set that asks for it.
 */
export const SYSTEM_POLICIES = `
@id("scheduler-does-what-was-set")
permit (
  principal == ${own('scheduler')},
  action in [
    Action::"keys.read", Action::"keys.rotate", Action::"keys.announce", Action::"keys.destroy",
    Action::"versions.activate", Action::"versions.deactivate", Action::"versions.destroy",
    Action::"versions.retire", Action::"rotations.carry-out", Action::"root.carry-out",
    Action::"operations.oversee"
  ],
  resource
);

@id("service-writes-initial-policies")
permit (
  principal == ${own('service')},
  action == Action::"policies.change",
  resource
);

@id("provider-wraps-for-kubernetes")
permit (
  principal == ${own('kubernetes')},
  action in [Action::"keys.read", Action::"wrap", Action::"unwrap"],
  resource
);

@id("provider-announces-its-versions")
permit (
  principal == ${own('kubernetes')},
  action == Action::"keys.update",
  resource
);

@id("provider-makes-its-key-for-development")
permit (
  principal == ${own('kubernetes')},
  action == Action::"keys.create",
  resource
);
`;

/** Roles that a stored policy can give to a role or user (`?principal`) in a namespace or on a key. */
export const TEMPLATES = {
  admin: `permit (
  principal in ?principal,
  action in [
    Action::"identify", Action::"read", Action::"use", Action::"change", Action::"destroy",
    Action::"attend", Action::"oversee", Action::"inspect", Action::"follow", Action::"govern"
  ],
  resource in ?resource
);`,
  operator: `permit (
  principal in ?principal,
  action in [
    Action::"identify", Action::"read", Action::"change", Action::"attend", Action::"oversee",
    Action::"follow", Action::"versions.uses"
  ],
  resource in ?resource
);`,
  user: `permit (
  principal in ?principal,
  action in [Action::"identify", Action::"read", Action::"use", Action::"attend"],
  resource in ?resource
);`,
  auditor: `permit (
  principal in ?principal,
  action in [
    Action::"identify", Action::"read", Action::"oversee", Action::"inspect", Action::"follow"
  ],
  resource in ?resource
);`,
} as const;

export type TemplateName = keyof typeof TEMPLATES;
export const TEMPLATE_NAMES = Object.keys(TEMPLATES) as readonly TemplateName[];

/** Lets everyone with a token ask who they are and what they may. */
export const EVERYONE_IDENTIFIES = 'permit (principal, action in Action::"identify", resource);';

/** The roles as one set. Each policy has an \`@id\`, which audit entries name. */
export const BUILT_IN_POLICIES = `
@id("everyone-identifies")
${EVERYONE_IDENTIFIES}

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
