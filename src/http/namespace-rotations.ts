/** Routes of what the scheduler does in a whole namespace. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/namespace-rotations.ts';
import { TwofoldError } from '../errors.ts';
import { answerPrepared } from './admin-keys.ts';
import { runResource } from './key-rotation.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { effectsMember } from './policy-effects.ts';
import { route } from './route.ts';
import type { PauseDone, PauseRun, PreparedPause } from '../keyring/namespace-policies.ts';
import type { NamedRun, WatchedKey, WatchPosition } from '../rotation/scheduler-ports.ts';
import type { ChangeCall } from './admin-keys.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

type Watching = 'failing' | 'late';

const watchedResource = (state: Watching, { keyName, ...watched }: WatchedKey) => ({
  key: keyName,
  state,
  ...watched,
  run: null,
});

const doneResource = (run: NamedRun) => ({
  key: run.keyName,
  keyId: run.keyId,
  state: 'done' as const,
  since: run.doneAt,
  failure: null,
  nextAt: null,
  run: runResource(run),
});

/** Position of a page: `<ms>/<key id>/<action>`; of keys without an action. */
const positionOf = ({ at, keyId, action }: WatchPosition): string =>
  `${at.getTime()}/${keyId}/${action}`;

function afterPosition(position: string | null): WatchPosition | null {
  if (position === null) return null;
  const [, at, keyId, action] = /^([0-9]{1,15})\/([0-9a-f-]{36})\/(.*)$/.exec(position) ?? [];
  if (at === undefined || keyId === undefined || action === undefined) {
    throw new TwofoldError('internal');
  }
  return { at: new Date(Number(at)), keyId, action };
}

type Dependencies = Pick<HttpDependencies, 'rotation' | 'policies' | 'pageTokenKey'>;

function listRoute({ rotation, pageTokenKey }: Dependencies): GuardedRoute {
  const tokens = new PageTokens(pageTokenKey);
  return route(contract.listNamespaceRotations, {
    handle: async ({ grant, query }) => {
      const { state } = query;
      const scope = pageScope(contract.listNamespaceRotations.id, grant, query);
      const size = query.pageSize ?? DEFAULT_PAGE_SIZE;
      // One more tells whether another page exists.
      const page = { after: afterPosition(tokens.open(scope, query.pageToken)), limit: size + 1 };
      const found =
        state === 'done'
          ? (await rotation.done(grant, page)).map(doneResource)
          : (await rotation.watched(grant, state, page)).map((key) => watchedResource(state, key));
      const items = found.slice(0, size);
      const last = found.length > size ? items.at(-1) : undefined;
      const position =
        last === undefined
          ? null
          : positionOf({ at: last.since, keyId: last.keyId, action: last.run?.action ?? '' });
      return { body: { items, nextPageToken: tokens.seal(scope, position) } };
    },
  });
}

const tagOf = (revision: number) => ({ ETag: `"${String(revision)}"` });

async function answerPause(
  call: ChangeCall & { readonly grant: { readonly namespace: string } },
  change: (run: PauseRun) => Promise<PauseDone>,
) {
  const preview = call.query.dryRun === true ? { dryRun: true } : {};
  const show = ({ paused, revision, effects }: PreparedPause) => ({
    namespace: call.grant.namespace,
    paused,
    revision,
    ...preview,
    ...effectsMember(effects),
  });
  const { reply, done } = await answerPrepared(call, show, change);
  if (done.change === null) return reply;
  call.notes.detail(done.change.detail);
  return { ...reply, headers: tagOf(done.change.revision) };
}

export function namespaceRotationRoutes(deps: Dependencies): readonly GuardedRoute[] {
  const { policies } = deps;
  return [
    listRoute(deps),
    route(contract.getRotationPause, {
      handle: async ({ grant }) => {
        const { paused, revision } = await policies.list(grant);
        const { namespace } = grant;
        return { body: { namespace, paused, revision }, headers: tagOf(revision) };
      },
    }),
    route(contract.pauseRotations, {
      handle: (call) =>
        answerPause(call, (run) => policies.pauseAll(call.grant, call.body.reason, run)),
    }),
    route(contract.resumeRotations, {
      handle: (call) =>
        answerPause(call, (run) => policies.resumeAll(call.grant, call.body.reason, run)),
    }),
  ];
}
