/** Routes of approval rules. */
import type { z } from 'zod';

import * as contract from '../contract/approvals.ts';
import { parseDuration } from '../duration.ts';
import { TwofoldError } from '../errors.ts';
import { DEFAULT_EXPIRY_MS } from '../governance/approval-rules.ts';
import { Consents } from './consents.ts';
import { answerSet, memberTag, pageOfMembers } from './governed.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { ApprovalRule, Named, StandingRule } from '../governance/approval-rules.ts';
import type { PreparedSetChange } from '../governance/sealed-set.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

type RuleBody = z.output<typeof contract.putApprovalRule.body>;

const HOUR_MS = 3_600_000;

/** @throws TwofoldError invalid_value */
function expiryOf(text: string | undefined): number {
  if (text === undefined) return DEFAULT_EXPIRY_MS;
  const expiry = parseDuration(text);
  if (expiry !== undefined) return expiry;
  throw new TwofoldError('invalid_value', 'expiresAfter is a duration of whole days and hours.');
}

/** @throws TwofoldError invalid_value */
export const ruleOf = ({ guards, needed, approvers, expiresAfter }: RuleBody): ApprovalRule => ({
  guards,
  needed,
  approvers:
    approvers === undefined
      ? null
      : { roles: approvers.roles ?? [], principals: approvers.principals ?? [] },
  expiryMs: expiryOf(expiresAfter),
});

function durationText(ms: number): string {
  const hours = Math.round(ms / HOUR_MS);
  const [days, rest] = [Math.floor(hours / 24), hours % 24];
  return `P${days === 0 ? '' : `${String(days)}D`}${rest === 0 ? '' : `T${String(rest)}H`}`;
}

function resource({ name, revision, at, by, value }: StandingRule) {
  const { guards, needed, approvers, expiryMs } = value;
  return {
    name,
    guards: [...guards],
    needed,
    approvers: approvers && {
      roles: [...approvers.roles],
      principals: approvers.principals.map(({ issuer, subject }) => ({ issuer, subject })),
    },
    expiresAfter: durationText(expiryMs),
    updatedAt: at.toISOString(),
    updatedBy: by,
    revision,
  };
}

/** The rule as it is after the change, or as it was where it is gone; `unchanged` where nothing changed. */
const shownOf =
  (unchanged: StandingRule | undefined) =>
  ({ changes: [change] }: PreparedSetChange<ApprovalRule>) => {
    const rule = change === undefined ? unchanged : (change.after ?? change.before);
    if (!rule) throw new TwofoldError('not_found');
    return { ...resource(rule), ...(change?.after === null ? { deleted: true } : {}) };
  };

type Dependencies = Pick<HttpDependencies, 'governance' | 'issuers' | 'pageTokenKey'>;
/** After every change of an issuer. */
const EVER = new Date(8.64e15);

function readingRoutes({ governance, pageTokenKey }: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listApprovalRules, {
      handle: async (call) => {
        const view = await governance.approvals.rules.list(call.grant);
        const { id } = contract.listApprovalRules;
        return { body: pageOfMembers(tokens, id, call, view, resource) };
      },
    }),
    route(contract.getApprovalRule, {
      handle: async ({ grant, params }) => {
        const rule = (await governance.approvals.rules.list(grant)).members.get(params.rule);
        if (rule === undefined) throw new TwofoldError('not_found');
        return { body: resource(rule), headers: memberTag(rule) };
      },
    }),
  ];
}

export function approvalRuleRoutes(deps: Dependencies): readonly GuardedRoute[] {
  const { governance } = deps;
  const standing = async (namespace: string, name: string) =>
    (await governance.approvals.rules.of(namespace)).members.get(name);
  const consents = new Consents(deps);
  const foresee = (namespace: string) => async (rule: ApprovalRule) => {
    const counting: Named[] = [];
    for (const named of rule.approvers?.principals ?? []) {
      if (await consents.stands(namespace, named, EVER)) counting.push(named);
    }
    const decidable = await governance.policies.mayBeDone('approvals.decide', namespace);
    return { counting, decidable };
  };
  return [
    ...readingRoutes(deps),
    route(contract.putApprovalRule, {
      handle: async (call) => {
        const input = { name: call.params.rule, rule: ruleOf(call.body) };
        const show = shownOf(await standing(call.grant.namespace, input.name));
        const making = {
          foresee: foresee(call.grant.namespace),
          confirmed: call.confirmed || call.body.mayLockOut === true,
        };
        return answerSet(call, show, (run) =>
          governance.approvals.rules.put(call.grant, input, run, making),
        );
      },
    }),
    route(contract.deleteApprovalRule, {
      handle: async (call) => {
        const name = call.params.rule;
        const show = shownOf(await standing(call.grant.namespace, name));
        return answerSet(call, show, (run) =>
          governance.approvals.rules.delete(call.grant, name, run),
        );
      },
    }),
  ];
}
