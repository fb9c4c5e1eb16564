/** Approvals of far-reaching requests, and the rules that ask for them. */
import { z } from 'zod';

import { changeOf } from './admin-keys.ts';
import { PAGING, page } from './answer.ts';
import { GUARD_NAMES } from './guards.ts';
import { defineRoute } from './route.ts';
import { text, time } from './scalars.ts';
import type { ErrorCode } from '../errors.ts';

const named = z.object({ issuer: z.string(), subject: z.string() });
const hash = (description: string) => z.string().meta({ description: `${description}, base64.` });

const approvalMembers = {
  id: z.uuid().meta({ description: 'UUID, lower case.' }),
  state: z.enum(['pending', 'approved', 'denied', 'withdrawn', 'executed', 'expired']),
  operation: z.string().meta({ description: 'What the request does.' }),
  guards: z.array(z.string()).meta({ description: 'Names under which rules guard it.' }),
  rule: z.string().nullable().meta({ description: 'The rule that it would weaken.' }),
  requester: named,
  request: z.object({
    method: z.string(),
    path: z.string(),
    query: z.string(),
    ifMatch: z.string().nullable(),
    bodyHash: hash('SHA-256 of the canonical body'),
    hash: hash('SHA-256 of all of it, with its namespace'),
  }),
  preview: z.looseObject({}).nullable().meta({
    description: 'What a dry run of the very request answered; null where it was too long.',
  }),
  needed: z
    .array(z.object({ rule: z.string(), needed: z.int(), approved: z.int() }))
    .meta({ description: 'By the rules in force: approvals that each needs, and those it has.' }),
  approvals: z.array(z.object({ issuer: z.string(), subject: z.string(), at: time })),
  reason: z.string().nullable().meta({ description: 'Why it was denied or withdrawn.' }),
  createdAt: time,
  expiresAt: time,
  endedAt: time.nullable(),
  revision: z.int().meta({ description: 'For If-Match.' }),
} as const;

export const approval = z.object(approvalMembers).meta({ id: 'Approval' });
const changedApproval = z
  .object({ ...approvalMembers, dryRun: z.literal(true).optional() })
  .meta({ id: 'ChangedApproval' });

const approvalId = z.strictObject({ approval: z.uuid().toLowerCase() });
const reason = z
  .strictObject({ reason: text(512, 'Why; kept with the approval and in the audit log.') })
  .meta({ id: 'ApprovalReasonRequest' });

const read = { plane: 'admin', operation: 'approvals.read' } as const;
const decide = {
  ...changeOf(approvalId),
  method: 'POST',
  response: changedApproval,
} as const;
const CHANGE = [
  'not_found',
  'etag_mismatch',
  'read_only_grace',
  'storage_full',
] as const satisfies readonly ErrorCode[];
const DECISION = [
  ...CHANGE,
  'approval_used',
  'approval_ended',
  'approval_expired',
] as const satisfies readonly ErrorCode[];

export const listApprovals = defineRoute({
  ...read,
  method: 'GET',
  id: 'listApprovals',
  path: '/v1/admin/approvals',
  summary: 'Approvals of the namespace, newest first.',
  query: z.strictObject({ ...PAGING, state: approvalMembers.state.optional() }),
  response: page(approval, 'ApprovalList'),
  errors: ['not_found'],
});

export const getApproval = defineRoute({
  ...read,
  method: 'GET',
  id: 'getApproval',
  path: '/v1/admin/approvals/{approval}',
  summary: 'One approval.',
  params: approvalId,
  response: approval,
  errors: ['not_found'],
});

export const approveApproval = defineRoute({
  ...decide,
  id: 'approveApproval',
  path: '/v1/admin/approvals/{approval}/approve',
  operation: 'approvals.decide',
  summary: 'Consents to a request of somebody else; once for each principal.',
  errors: [...DECISION, 'self_approval'],
});

export const denyApproval = defineRoute({
  ...decide,
  id: 'denyApproval',
  path: '/v1/admin/approvals/{approval}/deny',
  operation: 'approvals.decide',
  summary:
    'Refuses a request of somebody else, also one that was approved, at once and everywhere.',
  body: reason,
  errors: [...DECISION, 'self_approval'],
});

export const withdrawApproval = defineRoute({
  ...decide,
  id: 'withdrawApproval',
  path: '/v1/admin/approvals/{approval}/withdraw',
  operation: 'approvals.withdraw',
  summary: 'Takes back a request of one’s own, at once and everywhere.',
  body: reason,
  errors: DECISION,
});

const ruleName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,127}$/, 'must be 1 to 128 of a-z, 0-9, ".", "_" and "-"');
const ruleId = z.strictObject({ rule: ruleName });

const guards = z.array(z.enum(GUARD_NAMES)).meta({
  description:
    'Operations, or parts of them: `keys.unprotect` is to take deletion protection off, or to retire ' +
    'versions in the record of a Kubernetes provider, `namespaces.end` to suspend a namespace. `destroy` and `govern` are several at once.',
});

const ruleMembers = {
  name: z.string(),
  guards,
  needed: z.int(),
  approvers: z.object({ roles: z.array(z.string()), principals: z.array(named) }).nullable(),
  expiresAfter: z.string().meta({ description: 'ISO 8601.' }),
  updatedAt: time,
  updatedBy: named,
  revision: z.int().meta({ description: 'For If-Match.' }),
} as const;
const rule = z.object(ruleMembers).meta({ id: 'ApprovalRule' });
const changedRule = z
  .object({
    ...ruleMembers,
    deleted: z.literal(true).optional(),
    dryRun: z.literal(true).optional(),
  })
  .meta({ id: 'ChangedApprovalRule' });

const configure = {
  ...changeOf(ruleId),
  operation: 'approvals.configure',
  path: '/v1/admin/approval-rules/{rule}',
  response: changedRule,
} as const;

export const listApprovalRules = defineRoute({
  ...read,
  method: 'GET',
  id: 'listApprovalRules',
  path: '/v1/admin/approval-rules',
  summary: 'Approval rules of the namespace, by name.',
  query: z.strictObject(PAGING),
  response: page(rule, 'ApprovalRuleList'),
  errors: ['not_found'],
});

export const getApprovalRule = defineRoute({
  ...read,
  method: 'GET',
  id: 'getApprovalRule',
  path: configure.path,
  summary: 'One approval rule.',
  params: ruleId,
  response: rule,
  errors: ['not_found'],
});

export const putApprovalRule = defineRoute({
  ...configure,
  method: 'PUT',
  id: 'putApprovalRule',
  summary: 'Makes or replaces a rule; with the approval of others where there is one already.',
  body: z
    .strictObject({
      guards,
      needed: z.int().meta({ description: 'Distinct principals beside the requester, 1 to 20.' }),
      approvers: z
        .strictObject({
          roles: z.array(text(128, 'A role.')).max(100).optional(),
          principals: z
            .array(
              z.strictObject({
                issuer: text(2048, 'Its name.'),
                subject: text(1024, 'Who, as that issuer says.'),
              }),
            )
            .max(100)
            .optional(),
        })
        .optional()
        .meta({ description: 'Whoever may decide on approvals, unless told.' }),
      expiresAfter: z
        .string()
        .max(32)
        .optional()
        .meta({ description: 'How long a request waits: `PT1H` to `P30D`, `P7D` unless told.' }),
      mayLockOut: z.literal(true).optional().meta({
        description:
          'That a first rule which does not name enough others may be one that nobody can meet, which freezes what it guards; kept nowhere.',
      }),
    })
    .meta({ id: 'ApprovalRuleRequest' }),
  errors: [...CHANGE, 'precondition_required', 'quota_exceeded', 'would_lock_out'],
});

export const deleteApprovalRule = defineRoute({
  ...configure,
  method: 'DELETE',
  id: 'deleteApprovalRule',
  summary: 'Takes a rule away, under the approval that it asks for.',
  errors: [...CHANGE, 'precondition_required'],
});
