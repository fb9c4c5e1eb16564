/** Routes of rotation policies. */
import { findSuite } from '../crypto/suites.ts';
import * as contract from '../contract/rotation.ts';
import { answerChange, showKey } from './admin-keys.ts';
import { route } from './route.ts';
import type { BodyFacts } from '../access/ports.ts';
import type { PolicyTerms } from '../keyring/rotation-policy.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

interface GivenTerms {
  readonly interval?: string | null | undefined;
  readonly maxUses?: number | null | undefined;
  readonly upgrade?: { readonly suite: string; readonly notBefore: Date } | null | undefined;
  readonly retire?:
    | {
        readonly keepVersions?: number | null | undefined;
        readonly after?: string | null | undefined;
      }
    | null
    | undefined;
  readonly notice?: string | null | undefined;
  readonly paused?: object | null | undefined;
}

/** Whether the policy is paused, as the caller read it; nothing where that is not said. */
export const pauseAsRead = ({ paused }: GivenTerms): { readonly isPaused?: boolean } =>
  paused === undefined ? {} : { isPaused: paused !== null };

/** What policy reads of terms: the suite that they rotate to, as of a rotation by hand. */
export const termFacts = ({ upgrade }: GivenTerms): readonly BodyFacts[] =>
  upgrade ? [{ suite: upgrade.suite }] : [];

/** What is absent is not asked for. */
export const termsOf = ({
  interval,
  maxUses,
  upgrade,
  retire,
  notice,
}: GivenTerms): PolicyTerms => ({
  interval: interval ?? null,
  maxUses: maxUses ?? null,
  upgrade: upgrade
    ? { suite: findSuite(upgrade.suite).number, notBefore: upgrade.notBefore }
    : null,
  retire: retire
    ? { keepVersions: retire.keepVersions ?? null, after: retire.after ?? null }
    : null,
  notice: notice ?? null,
});

export function keyPolicyRoutes({
  manage,
}: Pick<HttpDependencies, 'manage'>): readonly GuardedRoute[] {
  return [
    route(contract.putRotationPolicy, {
      facts: termFacts,
      handle: (call) => {
        const set = { kind: 'set', terms: termsOf(call.body) } as const;
        const input = { ...set, ...pauseAsRead(call.body) };
        return answerChange(call, showKey, (run) => manage.changeRotation(call.grant, input, run));
      },
    }),
    route(contract.deleteRotationPolicy, {
      handle: (call) => {
        const input = { kind: 'delete' } as const;
        return answerChange(call, showKey, (run) => manage.changeRotation(call.grant, input, run));
      },
    }),
    route(contract.pauseRotationPolicy, {
      handle: (call) => {
        const input = { kind: 'pause', reason: call.body.reason } as const;
        return answerChange(call, showKey, (run) => manage.changeRotation(call.grant, input, run));
      },
    }),
    route(contract.resumeRotationPolicy, {
      handle: (call) => {
        const input = { kind: 'resume', reason: call.body.reason } as const;
        return answerChange(call, showKey, (run) => manage.changeRotation(call.grant, input, run));
      },
    }),
  ];
}
