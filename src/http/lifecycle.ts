/** Routes of the life of keys and versions. */
import * as contract from '../contract/lifecycle.ts';
import { parseDuration } from '../duration.ts';
import { answerChange, showVersion } from './admin-keys.ts';
import { keyResource } from './key-resource.ts';
import { route } from './route.ts';
import type { PreparedChange } from '../keyring/operations.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

type Dependencies = Pick<HttpDependencies, 'lifecycle' | 'token'>;

/** Where a key without a primary gets one, and why it did not get it at once. */
const replacementOf = ({ after: { key }, detail: { replacementRefused } }: PreparedChange) =>
  key.primary === null
    ? {
        replacement: { method: 'POST' as const, path: `/v1/admin/keys/${key.name}/rotate` },
        ...(typeof replacementRefused === 'string' ? { replacementRefused } : {}),
      }
    : {};

const momentOf = (text: string | null): Date | null => (text === null ? null : new Date(text));

function stateRoutes({ lifecycle, token }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.activateVersion, {
      handle: (call) => {
        const { version } = call.params;
        const input = { version, reason: call.body.reason };
        return answerChange(call, showVersion(token, version), (run) =>
          lifecycle.activateVersion(call.grant, input, run),
        );
      },
    }),
    route(contract.deactivateVersion, {
      handle: (call) => {
        const { version } = call.params;
        const input = { version, reason: call.body.reason };
        return answerChange(call, showVersion(token, version), (run) =>
          lifecycle.deactivateVersion(call.grant, input, run),
        );
      },
    }),
    route(contract.compromiseVersion, {
      handle: (call) => {
        const { version } = call.params;
        const { reason, replace = false } = call.body;
        const shown = showVersion(token, version);
        const show = (change: PreparedChange) => ({ ...shown(change), ...replacementOf(change) });
        return answerChange(call, show, (run) =>
          lifecycle.compromiseVersion(call.grant, { version, reason, replace }, run),
        );
      },
    }),
    route(contract.scheduleVersion, {
      handle: (call) => {
        const { version } = call.params;
        const { activateAt, deactivateAt } = call.body;
        const input = {
          version,
          ...(activateAt === undefined ? {} : { activateAt: momentOf(activateAt) }),
          ...(deactivateAt === undefined ? {} : { deactivateAt: momentOf(deactivateAt) }),
        };
        return answerChange(call, showVersion(token, version), (run) =>
          lifecycle.scheduleVersion(call.grant, input, run),
        );
      },
    }),
  ];
}

interface DestructionBody {
  readonly at?: string | undefined;
  readonly after?: string | undefined;
  readonly reason: string;
}

function destructionOf({ at, after, reason }: DestructionBody) {
  const afterMs = after === undefined ? undefined : parseDuration(after);
  return {
    reason,
    ...(at === undefined ? {} : { at: new Date(at) }),
    ...(afterMs === undefined ? {} : { afterMs }),
  };
}

function destructionRoutes({ lifecycle, token }: Dependencies): readonly GuardedRoute[] {
  const showKey = ({ after, tombstones }: PreparedChange) => keyResource(after, token, tombstones);
  return [
    route(contract.putKeyDestruction, {
      handle: (call) =>
        answerChange(call, showKey, (run) =>
          lifecycle.scheduleDestruction(call.grant, destructionOf(call.body), run),
        ),
    }),
    route(contract.deleteKeyDestruction, {
      handle: (call) =>
        answerChange(call, showKey, (run) => lifecycle.cancelDestruction(call.grant, run)),
    }),
    route(contract.putVersionDestruction, {
      handle: (call) => {
        const { version } = call.params;
        const input = { version, ...destructionOf(call.body) };
        return answerChange(call, showVersion(token, version), (run) =>
          lifecycle.scheduleVersionDestruction(call.grant, input, run),
        );
      },
    }),
    route(contract.deleteVersionDestruction, {
      handle: (call) => {
        const { version } = call.params;
        return answerChange(call, showVersion(token, version), (run) =>
          lifecycle.cancelVersionDestruction(call.grant, { version }, run),
        );
      },
    }),
  ];
}

export function lifecycleRoutes(deps: Dependencies): readonly GuardedRoute[] {
  return [...stateRoutes(deps), ...destructionRoutes(deps)];
}
