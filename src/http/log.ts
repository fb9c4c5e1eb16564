/** Routes of the log as a whole, which the root namespace's policies alone can open, and of its proofs. */
import { LogReading } from '../audit/log-reading.ts';
import { parseAuditId, recordFrom } from '../audit/reader.ts';
import { parseTilePath } from '../audit/tree/tiles.ts';
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import * as contract from '../contract/log.ts';
import { TwofoldError } from '../errors.ts';
import { requireRoot } from '../governance/namespaces.ts';
import { entryResource } from './audit.ts';
import { stateOf } from './key-resource.ts';
import { pageScope } from './keys.ts';
import { EntryFeed } from './log-feed.ts';
import { PageTokens } from './page-token.ts';
import { Document, route } from './route.ts';
import type { SequencedEntry } from '../audit/log-ports.ts';
import type { AlteredKey } from '../keyring/key-states.ts';
import type { KeyView } from '../keyring/operations.ts';
import { DEFAULT_NAMESPACE } from './dependencies.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { EventStreams } from './event-stream.ts';
import type { GuardedRoute } from './route.ts';

type Dependencies = Pick<
  HttpDependencies,
  'audit' | 'log' | 'lanes' | 'keyStates' | 'pageTokenKey' | 'epoch'
>;

/** Entries are up to 64 KiB long: a page ends after the one that takes it over this. */
const PAGE_BYTES = 4 * 1024 * 1024;
/** Read at a time. */
const CHUNK = 64;

const textDocument = (text: string) => ({ body: new Document('text/plain', text) });

/** Reading the log is part of a session (`audit/reading-sessions.ts`): else a copy of it would lengthen it. */
type RecordReading = HttpDependencies['audit']['record'];

export const logEntryResource = (entry: SequencedEntry) => ({
  index: entry.index,
  ...entryResource(recordFrom(entry)),
});

function treeRoutes(log: LogReading, record: RecordReading): readonly GuardedRoute[] {
  return [
    route(contract.getCheckpoint, {
      handle: async ({ grant }) => {
        requireRoot(grant);
        return { ...textDocument(await log.checkpoint()), record };
      },
    }),
    route(contract.listCheckpoints, {
      handle: async ({ grant, query }) => {
        requireRoot(grant);
        const pageSize = query.pageSize ?? DEFAULT_PAGE_SIZE;
        // One more tells whether another page exists.
        const found = await log.checkpoints(query.size ?? 0, pageSize + 1);
        const next = found[pageSize]?.size ?? null;
        return { body: { items: found.slice(0, pageSize), next }, record };
      },
    }),
    route(contract.getLogTile, {
      handle: async ({ grant, params }) => {
        requireRoot(grant);
        const tile = parseTilePath(`tile/${params.level}/${params.tile}`);
        return { body: new Document('application/octet-stream', await log.tile(tile)), record };
      },
    }),
    route(contract.getConsistencyProof, {
      handle: async ({ grant, query: { from, to } }) => {
        requireRoot(grant);
        return { body: { from, to, proof: await log.consistency(from, to) }, record };
      },
    }),
  ];
}

/** Entries from `from` on: at most `pageSize`, and none after the one that takes them over 4 MiB. */
async function pageOfLog(log: LogReading, from: number, pageSize: number) {
  const { size } = await log.head();
  const until = Math.min(size, from + pageSize);
  const items: ReturnType<typeof logEntryResource>[] = [];
  let at = from;
  for (let bytes = 0; at < until && bytes < PAGE_BYTES;) {
    const chunk = await log.entries(at, Math.min(until, at + CHUNK));
    for (const entry of chunk) {
      // A row that is missing is no place to go on silently.
      if (entry.index !== at) throw new TwofoldError('integrity_failed');
      if (bytes >= PAGE_BYTES) break;
      items.push(logEntryResource(entry));
      bytes += entry.body.length;
      at += 1;
    }
    if (chunk.length === 0) throw new TwofoldError('integrity_failed');
  }
  return { items, next: at < size ? at : null };
}

function entryRoutes(
  { audit }: Dependencies,
  log: LogReading,
  record: RecordReading,
): readonly GuardedRoute[] {
  return [
    route(contract.listLogEntries, {
      handle: async ({ grant, query }) => {
        requireRoot(grant);
        const pageSize = query.pageSize ?? DEFAULT_PAGE_SIZE;
        return { body: await pageOfLog(log, query.from ?? 0, pageSize), record };
      },
    }),
    route(contract.getEntryProof, {
      handle: async ({ grant, params }) => {
        const found = await audit.read(params.id);
        const archived = found === null ? await archivedPlace(log, grant, params.id) : null;
        if (archived !== null) return { ...textDocument(await log.proof(archived)), record };
        if (found?.draft.namespace !== grant.namespace) throw new TwofoldError('not_found');
        return { ...textDocument(await log.proof(found)), record };
      },
    }),
  ];
}

/**
 * An entry in cold storage, proved by the leaf that the tree has; null for what never was. Of which namespace it is
 * nobody knows here, so it is told in the root namespace, as the log is; elsewhere only where it is.
 */
async function archivedPlace(
  log: LogReading,
  grant: Parameters<typeof requireRoot>[0],
  id: string,
) {
  const place = parseAuditId(id);
  const leaf = place === null ? null : await log.leafAt(place);
  if (place === null || leaf === null) return null;
  if (grant.namespace !== DEFAULT_NAMESPACE) await log.requireStored(place);
  return { ...place, leaf };
}

/** As `audit/verify/rows.ts` knows it. */
const ALTERED = {
  ...{ name: '', revision: 0, state: 'altered', primary: null },
  ...{ minUsableVersion: 0, latestVersion: 0, versions: [] },
};

const stateResource = (found: KeyView | AlteredKey) => {
  if ('altered' in found) {
    const { id: keyId, namespace } = found.altered;
    return { keyId, namespace, ...ALTERED };
  }
  const { key, versions } = found;
  return {
    keyId: key.id,
    namespace: key.namespace,
    name: key.name,
    revision: key.revision,
    state: stateOf(key),
    primary: key.primary,
    minUsableVersion: key.minUsableVersion,
    latestVersion: key.latestVersion,
    versions: versions.map(({ version, revision, state }) => ({ version, revision, state })),
  };
};

/** Each with an entry of its own: an export takes the entry's index for the age of what it shows. */
function stateRoutes({ keyStates, lanes, pageTokenKey }: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listKeyStates, {
      handle: async ({ grant, query }) => {
        requireRoot(grant);
        const scope = pageScope(contract.listKeyStates.id, grant, query);
        const after = tokens.open(scope, query.pageToken);
        const pageSize = query.pageSize ?? DEFAULT_PAGE_SIZE;
        const { items, next } = await keyStates.page(grant, after, pageSize);
        return {
          body: { items: items.map(stateResource), nextPageToken: tokens.seal(scope, next) },
        };
      },
    }),
    route(contract.listLanes, {
      handle: async ({ grant, query }) => {
        requireRoot(grant);
        const scope = pageScope(contract.listLanes.id, grant, query);
        const after = Number(tokens.open(scope, query.pageToken) ?? 0);
        const pageSize = query.pageSize ?? DEFAULT_PAGE_SIZE;
        const found = await lanes.lanes(after, pageSize + 1);
        const items = found.slice(0, pageSize);
        const last = found.length > items.length ? (items.at(-1)?.lane ?? null) : null;
        const nextPageToken = tokens.seal(scope, last === null ? null : String(last));
        return { body: { items, nextPageToken } };
      },
    }),
  ];
}

function streamRoute(deps: Dependencies, streams: EventStreams): GuardedRoute {
  return route(contract.streamAuditEntries, {
    handle: async ({ grant, principal, query, headers, requestId, credentials, tlsGroup }) => {
      const last = headers['last-event-id'];
      const place = {
        from: last === undefined ? (query.from ?? null) : last + 1,
        since: query.since ?? null,
        follow: query.follow !== false,
      };
      const feed = new EntryFeed(deps, grant, place, {
        operation: query.operation ?? null,
        keyRef: query.key ?? null,
        keyId: query.keyId ?? null,
        subject: query.subject ?? null,
        outcome: query.outcome ?? null,
      });
      const asking = { grant, principal, credentials, tlsGroup, requestId };
      return { body: await streams.open({ ...asking, feed }) };
    },
  });
}

export function logRoutes(deps: Dependencies, streams: EventStreams): readonly GuardedRoute[] {
  const log = new LogReading(deps.log);
  const record: RecordReading = (draft, standing) => deps.audit.reading(draft, standing);
  return [
    ...treeRoutes(log, record),
    ...entryRoutes(deps, log, record),
    ...stateRoutes(deps),
    streamRoute(deps, streams),
  ];
}
