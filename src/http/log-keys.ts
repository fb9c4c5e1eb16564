/** Routes of the keys that sign checkpoints, and of the checkpoint that anybody may read. */
import * as contract from '../contract/log-keys.ts';
import { TwofoldError } from '../errors.ts';
import { answerPrepared } from './admin-keys.ts';
import { Document, publicRoute, route } from './route.ts';
import type { ListedLogKey } from '../audit/key-ports.ts';
import type { AnyRoute } from './app.ts';
import type { HttpDependencies } from './dependencies.ts';

const resource = (key: ListedLogKey) => ({
  id: key.id,
  vkey: key.vkey,
  kind: key.kind,
  zone: key.zone,
  state: key.state,
  custody: key.custody,
  announcedBy: key.announced,
  pinned: key.pinned,
  createdAt: key.createdAt.toISOString(),
  activatedAt: key.activatedAt?.toISOString() ?? null,
  retiredAt: key.retiredAt?.toISOString() ?? null,
});

export function logKeyRoutes({
  logKeys,
  outsideLog,
}: Pick<HttpDependencies, 'logKeys' | 'outsideLog'>): readonly AnyRoute[] {
  return [
    route(contract.listLogKeys, {
      handle: async ({ grant }) => {
        const { origin, keys } = await logKeys.list(grant);
        return { body: { origin, keys: keys.map(resource), witness: outsideLog.witness() } };
      },
    }),
    route(contract.rotateLogKeys, {
      handle: async (call) => {
        const { reason, lost = false } = call.body;
        const preview = call.query.dryRun === true ? { dryRun: true as const } : {};
        const { reply } = await answerPrepared(
          call,
          ({ keys }: { readonly keys: readonly ListedLogKey[] }) => ({
            keys: keys.map(resource),
            ...preview,
          }),
          (run) => logKeys.rotate(call.grant, { reason, lost }, run),
        );
        return reply;
      },
    }),
    publicRoute(contract.publicCheckpoint, () => {
      const note = outsideLog.publicCheckpoint();
      if (note === null) throw new TwofoldError('not_found');
      return { status: 200, body: new Document('text/plain', note) };
    }),
  ];
}
