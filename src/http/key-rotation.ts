/** Routes that tell what rotates a key and when, and what was done. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/rotation.ts';
import { TwofoldError } from '../errors.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { policyResource } from './policy-resource.ts';
import { route } from './route.ts';
import type { Candidate } from '../keyring/selector-policy.ts';
import type { DueAction } from '../rotation/due.ts';
import type { HistoryEntry } from '../rotation/reading.ts';
import type { RunPosition } from '../rotation/scheduler-ports.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

function candidateResource({ name, matchingLabels, priority, policy }: Candidate) {
  const source = name === null ? ('key' as const) : ('namespace' as const);
  return { source, name, matchingLabels, priority, policy: policyResource(policy) };
}

const dueResource = (action: DueAction) => ({
  action: action.kind,
  dueAt: action.dueAt,
  version: 'version' in action ? action.version : null,
});

export const runResource = (run: HistoryEntry) => ({
  action: run.action,
  cause: run.cause,
  policyRevision: run.policyRevision,
  version: run.version,
  dueAt: run.dueAt,
  doneAt: run.doneAt,
});

/** Position of a page: `<done in ms>/<action>`. */
const positionOf = ({ doneAt, action }: RunPosition): string => `${doneAt.getTime()}/${action}`;

function afterPosition(position: string | null): RunPosition | null {
  if (position === null) return null;
  const [, at, action] = /^([0-9]{1,15})\/(.+)$/.exec(position) ?? [];
  if (at === undefined || action === undefined) throw new TwofoldError('internal');
  return { doneAt: new Date(Number(at)), action };
}

export function keyRotationRoutes({
  rotation,
  pageTokenKey,
}: Pick<HttpDependencies, 'rotation' | 'pageTokenKey'>): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.getRotation, {
      handle: async ({ grant, notes }) => {
        const { view, effective, paused, nextAt, late, failure, ...planned } =
          await rotation.ofKey(grant);
        notes.keyId(view.key.id);
        const candidates = (effective?.candidates ?? []).map(candidateResource);
        return {
          body: {
            key: view.key.name,
            keyId: view.key.id,
            effective: candidates[0] ?? null,
            reason: effective?.reason ?? null,
            paused,
            candidates,
            nextAt,
            due: planned.due.map(dueResource),
            coming: planned.coming.map(dueResource),
            late,
            failure,
          },
        };
      },
    }),
    route(contract.listRotations, {
      handle: async ({ grant, notes, params, query }) => {
        const scope = pageScope(`${contract.listRotations.id}/${params.key}`, grant, query);
        const size = query.pageSize ?? DEFAULT_PAGE_SIZE;
        const after = afterPosition(tokens.open(scope, query.pageToken));
        // One more tells whether another page exists.
        const { view, runs } = await rotation.history(grant, { after, limit: size + 1 });
        notes.keyId(view.key.id);
        const items = runs.slice(0, size);
        const last = runs.length > size ? items.at(-1) : undefined;
        const position = last === undefined ? null : positionOf(last);
        return {
          body: { items: items.map(runResource), nextPageToken: tokens.seal(scope, position) },
        };
      },
    }),
  ];
}
