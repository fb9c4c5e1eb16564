/** Routes of backups: what was taken, and one more. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import { REPLAYED_HEADER } from '../contract/admin-keys.ts';
import * as contract from '../contract/backups.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { BackupView } from '../governance/backups.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

const STATES = { running: 'running', complete: 'succeeded', failed: 'failed' } as const;

const backupResource = (view: BackupView) => ({
  id: view.id,
  state: STATES[view.state],
  verified: view.state === 'complete',
  requestedBy: view.requestedBy,
  createdAt: view.createdAt.toISOString(),
  ageSeconds: Math.floor(view.ageMs / 1_000),
  endedAt: view.endedAt?.toISOString() ?? null,
  folder: view.place,
  entries: view.entries,
  bytes: view.bytes,
  rows: view.rows,
  keys: view.keys,
  logSize: view.logSize,
  problem: view.problem,
});

export function backupRoutes({
  backups,
  audit,
  pageTokenKey,
}: Pick<HttpDependencies, 'backups' | 'audit' | 'pageTokenKey'>): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.takeBackup, {
      handle: async (call) => {
        const { grant, notes, body, query } = call;
        const { dryRun = false } = query;
        const key = call.headers['idempotency-key'];
        const request = key === undefined || dryRun ? null : { key, hash: call.requestHash() };
        const wanted = { entries: body.entries ?? null, dryRun, request };
        const { view, giveUp, replayed } = await backups.take(grant, wanted);
        const resource = backupResource(view);
        if (dryRun) {
          notes.detail({ dryRun });
          return { status: 200, body: { ...resource, dryRun: true as const } };
        }
        notes.detail({ backup: view.id, entries: view.entries, ...(replayed ? { replayed } : {}) });
        return {
          status: 201,
          body: resource,
          headers: {
            Location: `${contract.takeBackup.path}/${view.id}`,
            ...(replayed ? { [REPLAYED_HEADER]: 'true' } : {}),
          },
          record: async (draft, standing) => {
            try {
              return await audit.record(draft, standing);
            } catch (error) {
              // Who asked is told that it was not done.
              await giveUp();
              throw error;
            }
          },
        };
      },
    }),
    route(contract.listBackups, {
      handle: async ({ grant, query }) => {
        const scope = pageScope(contract.listBackups.id, grant, query);
        const { items, next } = await backups.list(grant, {
          pageSize: query.pageSize ?? DEFAULT_PAGE_SIZE,
          after: tokens.open(scope, query.pageToken),
        });
        return {
          body: { items: items.map(backupResource), nextPageToken: tokens.seal(scope, next) },
        };
      },
    }),
    route(contract.getBackup, {
      handle: async ({ grant, notes, params }) => {
        const view = await backups.get(grant, params.id);
        notes.detail({ backup: view.id });
        return { body: backupResource(view) };
      },
    }),
  ];
}
