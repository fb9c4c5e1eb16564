/** What routes of sealed sets have in common: members as pages, and changes with their ETag. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import type {
  Member,
  PreparedSetChange,
  SetDone,
  SetRun,
  SetView,
} from '../governance/sealed-set.ts';
import { answerPrepared } from './admin-keys.ts';
import { pageScope } from './keys.ts';
import type { Grant, Operation } from '../access/grant.ts';
import type { ChangeCall } from './admin-keys.ts';
import type { PageTokens } from './page-token.ts';

interface ListCall {
  readonly grant: Grant<Operation>;
  readonly query: {
    readonly pageSize?: number | undefined;
    readonly pageToken?: string | undefined;
  };
}

/** One page of a set that is in memory, by name. */
export function pageOfMembers<T, R>(
  tokens: PageTokens,
  route: string,
  { grant, query }: ListCall,
  { members }: SetView<T>,
  resource: (member: Member<T>) => R,
): { readonly items: readonly R[]; readonly nextPageToken: string | null } {
  const scope = pageScope(route, grant, query);
  const after = tokens.open(scope, query.pageToken) ?? '';
  const size = query.pageSize ?? DEFAULT_PAGE_SIZE;
  const rest = [...members.values()].filter(({ name }) => name > after);
  const items = rest.slice(0, size);
  const last = items.length < rest.length ? (items.at(-1)?.name ?? null) : null;
  return { items: items.map(resource), nextPageToken: tokens.seal(scope, last) };
}

export const memberTag = ({ revision }: { readonly revision: number }) => ({
  ETag: `"${String(revision)}"`,
});

/** Runs a change of a set and answers it; `show` makes the resource that it leaves behind. */
export async function answerSet<T>(
  call: ChangeCall,
  show: (change: PreparedSetChange<T>) => object,
  change: (run: SetRun<T>) => Promise<SetDone<T>>,
  status = 200,
) {
  const preview = call.query.dryRun === true ? { dryRun: true } : {};
  const shown = (prepared: PreparedSetChange<T>) => ({ ...show(prepared), ...preview });
  const { reply, done } = await answerPrepared(call, shown, change, status);
  if (done.change !== null) call.notes.detail(done.change.detail);
  const after = done.change?.changes[0]?.after ?? null;
  return { ...reply, headers: after === null ? {} : memberTag(after) };
}
