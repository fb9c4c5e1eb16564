/**
 * Replays recorded decisions under changed policies, page by page: so many entries a request, through
 * the gate of the searches, each kind of decision once.
 */
import { setImmediate } from 'node:timers/promises';

import { isDelegatedPolicy } from '../access/delegation.ts';
import type { CompiledPolicy } from '../access/compiled-policy.ts';
import * as contract from '../contract/policy-replays.ts';
import { TwofoldError } from '../errors.ts';
import { policySetOf } from '../governance/policy-sets.ts';
import { namesOneKey, recordedOutcome, replay, touches } from '../governance/policy-replay.ts';
import type { Policies as Compiled, RecordedDecision } from '../governance/policy-replay.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { placed, policyOf } from './policies.ts';
import { route } from './route.ts';
import type { Grant } from '../access/grant.ts';
import type { AuditCursor, AuditRecord } from '../audit/ports.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

type Dependencies = Pick<HttpDependencies, 'governance' | 'pageTokenKey' | 'keys' | 'audit'>;
type Body = NonNullable<(typeof contract.replayPolicies)['body']['_zod']['output']>;

const DAY_MS = 86_400_000;
const LOOKED_AT = 1_000;
/** Entries that are read at once. */
const CHUNK = 200;
/** Revisions of the set that one page reads. */
const REVISIONS = 8;
const LOCAL: ReadonlySet<string> = new Set(['system', 'bootstrap', 'break-glass']);

/** Entries that say the same of a decision. */
interface Group {
  readonly newest: AuditRecord;
  oldest: AuditRecord;
  count: number;
}

interface Place {
  readonly from: Date;
  readonly after: AuditCursor | null;
}

function placeOf(token: string | null, { from }: Body): Place {
  if (token === null) return { from: from ?? new Date(Date.now() - DAY_MS), after: null };
  const [began, lane, n] = token.split(' ').map(Number);
  return { from: new Date(began ?? 0), after: { lane: lane ?? 0, n: n ?? 0 } };
}

/** The sets that decided, each read once. */
class PastSets {
  readonly #governance: HttpDependencies['governance'];
  readonly #grant: Grant<'policies.read'>;
  readonly #known = new Map<string, Compiled | null>();

  constructor(governance: HttpDependencies['governance'], grant: Grant<'policies.read'>) {
    this.#governance = governance;
    this.#grant = grant;
  }

  /** Whether it would take one more than a page may read. */
  isFull(revision: string): boolean {
    return !this.#known.has(revision) && this.#known.size >= REVISIONS;
  }

  /** Null: it is not known what that set was, as of decisions under another schema. */
  async at(revision: string): Promise<Compiled | null> {
    const known = this.#known.get(revision);
    if (known !== undefined) return known;
    const read = await this.#read(revision);
    this.#known.set(revision, read);
    return read;
  }

  async #read(revision: string): Promise<Compiled | null> {
    const [, number] = /^(\d{1,9})-[0-9a-f]{32}$/u.exec(revision) ?? [];
    if (number === undefined) return null;
    const { policies } = this.#governance;
    const { revision: newest } = await policies.list(this.#grant);
    if (Number(number) > newest) return null;
    const set = policySetOf(this.#grant.namespace, await policies.at(this.#grant, Number(number)));
    if (set.revision !== revision) return null;
    return new Map(set.policies.map(({ id, compiled }) => [id, compiled]));
  }
}

const isByPolicies = ({ draft: { actor, decision } }: AuditRecord): boolean =>
  decision !== null && !LOCAL.has(actor.method) && !decision.policies.some(isDelegatedPolicy);

/** Equal for entries that say the same. */
function groupKey({ draft }: AuditRecord): string {
  const { actor, operation, keyRef, keyId, decision, outcome, items } = draft;
  return JSON.stringify([
    ...[actor.issuer, actor.subject, actor.method, actor.roles, operation, keyRef, keyId],
    ...[decision?.revision, decision?.policies, outcome === 'forbidden', items.length > 0],
  ]);
}

class Replay {
  readonly groups = new Map<string, Group>();
  looked = 0;
  others = 0;
  readonly #deps: Dependencies;
  readonly #past: PastSets;

  constructor(deps: Dependencies, past: PastSets) {
    this.#deps = deps;
    this.#past = past;
  }

  /** @returns where the next page goes on */
  async gather(namespace: string, body: Body, { from, after }: Place): Promise<AuditCursor | null> {
    const most = body.pageSize ?? LOOKED_AT;
    let place = after;
    while (this.looked < most) {
      const page = await this.#deps.audit.list({
        ...{ operation: null, keyId: null, keyRef: null, subject: null, outcome: null },
        ...{ pageSize: Math.min(CHUNK, most - this.looked), after: place, namespace, from },
        until: body.until ?? null,
      });
      for (const record of page.items) {
        if (!(await this.#take(record))) return place;
        place = { lane: record.lane, n: record.n };
      }
      if (page.next === null) return null;
      place = page.next;
    }
    return place;
  }

  async #take(record: AuditRecord): Promise<boolean> {
    const { decision } = record.draft;
    if (decision === null || !isByPolicies(record)) {
      this.others += 1;
    } else {
      if (this.#past.isFull(decision.revision)) return false;
      await this.#past.at(decision.revision);
      const key = groupKey(record);
      const group = this.groups.get(key);
      if (group === undefined) this.groups.set(key, { newest: record, oldest: record, count: 1 });
      else Object.assign(group, { oldest: record, count: group.count + 1 });
    }
    this.looked += 1;
    return true;
  }

  async difference({ newest, oldest, count }: Group, now: Compiled) {
    const { draft } = newest;
    const { actor, operation, keyRef, decision } = draft;
    const then = await this.#past.at(decision?.revision ?? '');
    if (then !== null && !touches(operation, then, now)) return null;
    const recorded = {
      ...{ issuer: actor.issuer, subject: actor.subject, method: actor.method, roles: actor.roles },
      ...{ operation, namespace: draft.namespace, policies: decision?.policies ?? [] },
      ...{ refused: draft.outcome === 'forbidden', batch: draft.items.length > 0 },
      key: await this.#nameOf(newest, [...(then?.values() ?? []), ...now.values()]),
    };
    const before = then === null ? null : recordedOutcome(recorded, then);
    const was = before === null ? 'undetermined' : before ? 'allowed' : 'denied';
    const after = then === null ? 'undetermined' : replay(recorded, then, now);
    if (before !== null && was === after) return null;
    return {
      principal: { issuer: actor.issuer, subject: actor.subject },
      operation,
      key: keyRef,
      before: was,
      after,
      policies: [...(decision?.policies ?? [])],
      count,
      firstAt: oldest.at.toISOString(),
      lastAt: newest.at.toISOString(),
      exampleEntry: newest.id,
    } as const;
  }

  /** Keys keep their names; an alias may have meant another key then. Looked up where policies name keys. */
  async #nameOf(
    { draft: { namespace, keyRef, keyId } }: AuditRecord,
    policies: readonly CompiledPolicy[],
  ): Promise<RecordedDecision['key']> {
    if (keyRef === null) return null;
    if (!policies.some(({ resource }) => namesOneKey(resource))) return undefined;
    const found = await this.#deps.keys.resolve(namespace, keyRef);
    if (found === null) return undefined;
    return [found.id === keyId, found.id === keyRef, found.name === keyRef].includes(true)
      ? found.name
      : undefined;
  }
}

export function policyReplayRoutes(deps: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(deps.pageTokenKey);
  return [
    route(contract.replayPolicies, {
      handle: async ({ grant, grantIf, body, notes }) => {
        const reading = grantIf('policies.read');
        if (reading === null) {
          throw new TwofoldError('forbidden', 'Only who reads policies may replay decisions.');
        }
        const changes = new Map(
          body.changes.map(({ name, ...terms }) => {
            const goes = terms.cedar === undefined && terms.template === undefined;
            return [name, goes ? null : policyOf(terms)] as const;
          }),
        );
        const tried = await placed(() => deps.governance.policies.tried(reading, changes));
        const scope = pageScope(contract.replayPolicies.id, grant, body);
        const place = placeOf(tokens.open(scope, body.pageToken), body);
        const replaying = new Replay(deps, new PastSets(deps.governance, reading));
        const next = await replaying.gather(grant.namespace, body, place);
        const items = [];
        let differing = 0;
        for (const group of replaying.groups.values()) {
          // Others take their turn between two of them.
          await setImmediate();
          const item = await replaying.difference(group, tried.policies);
          if (item === null) continue;
          differing += item.count;
          items.push(item);
        }
        const { looked, others } = replaying;
        notes.detail({ kind: 'policy-replay', looked });
        const position =
          next && `${String(place.from.getTime())} ${String(next.lane)} ${String(next.n)}`;
        return {
          body: {
            setRevision: tried.revision,
            ...{ looked, same: looked - others - differing, others, items },
            nextPageToken: tokens.seal(scope, position),
          },
        };
      },
    }),
  ];
}
