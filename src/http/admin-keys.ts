/**
 * Routes that change keys. The keyring writes effect and audit entry in one transaction; what changed
 * nothing (a dry run, a replayed answer) gets its entry from the pipeline, like any other request.
 */
import * as contract from '../contract/admin-keys.ts';
import { findSuite } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { differences } from '../keyring/change-facts.ts';
import { entityTag, keyResource, versionResource } from './key-resource.ts';
import { keyEffectsMember } from './policy-effects.ts';
import { renderPublicJson } from './render.ts';
import { Rerendered, route } from './route.ts';
import { changeUsesResource } from './version-uses.ts';
import type {
  Backing,
  ChangeDone,
  ChangeRun,
  KeyView,
  PreparedChange,
} from '../keyring/operations.ts';
import type { HttpDependencies, TokenFacts } from './dependencies.ts';
import type { AuditNotes } from './notes.ts';
import type { GuardedRoute } from './route.ts';

/** What a change needs of its call, whichever route it came by. */
export interface ChangeCall {
  readonly requestId: string;
  readonly ended: Promise<unknown>;
  readonly source: string;
  readonly notes: AuditNotes;
  readonly backing: Backing | null;
  readonly requestHash: () => Uint8Array;
  readonly query: { readonly dryRun?: boolean | undefined };
  readonly headers: Readonly<Record<string, string | undefined>>;
}

type Show = (change: PreparedChange) => object;
type Change = (run: ChangeRun) => Promise<ChangeDone>;

const OWN_TAG = /^"([0-9]{1,15})"$/;

/** The revision that If-Match names. A tag that we never gave matches nothing. */
function revisionOf(tag: string | undefined): number | null {
  if (tag === undefined) return null;
  const revision = OWN_TAG.exec(tag)?.[1];
  if (revision === undefined) throw new TwofoldError('etag_mismatch');
  return Number(revision);
}

function runOf<C>(call: ChangeCall, show: (change: C) => object, status: number): ChangeRun<C> {
  const dryRun = call.query.dryRun ?? false;
  const key = call.headers['idempotency-key'];
  return {
    dryRun,
    requestId: call.requestId,
    ended: call.ended,
    source: call.source,
    request: () => call.notes.request(),
    ifMatch: revisionOf(call.headers['if-match']),
    idempotency: key === undefined || dryRun ? null : { key, requestHash: call.requestHash() },
    render: (change) => ({
      status: dryRun ? 200 : status,
      body: renderPublicJson(show(change)),
    }),
    ...(dryRun ? {} : call.backing),
  };
}

/** What a dry run says of a change beside what it would leave behind. */
function preview({ before, after, used, uses, effects }: PreparedChange) {
  const { primary } = after.key;
  // A dry run makes no version; the suite of the one that would be the primary is known all the same.
  const made =
    primary === null || after.versions.some(({ version }) => version === primary)
      ? {}
      : { suite: used.suite };
  if (before === null) return { dryRun: true, ...made };
  const changes = Object.entries(differences(before, after, used.keyVersion)).map(
    ([field, [from, to]]) => ({ field, from, to }),
  );
  const told = uses === undefined ? {} : { uses: changeUsesResource(before, uses) };
  return { dryRun: true, ...made, changes, ...told, ...keyEffectsMember(effects) };
}

const headersOfKey = (
  { status }: ChangeDone,
  key: { readonly name: string; readonly revision: number },
): Record<string, string> => ({
  ETag: entityTag(key),
  ...(status === 201 ? { Location: `/v1/keys/${key.name}` } : {}),
});

function headersOf(done: ChangeDone): Record<string, string> {
  if (done.replayed) {
    // Only changes that leave a key behind are replayed; what is kept is that key.
    const key = JSON.parse(done.body) as { readonly name: string; readonly revision: number };
    return { ...headersOfKey(done, key), [contract.REPLAYED_HEADER]: 'true' };
  }
  return done.change === null ? {} : headersOfKey(done, done.change.after.key);
}

/** Runs a change and answers it; `show` makes the resource that it leaves behind. */
export async function answerChange(call: ChangeCall, show: Show, change: Change, status = 200) {
  const shown: Show = (prepared) => ({
    ...show(prepared),
    ...(call.query.dryRun === true ? preview(prepared) : {}),
  });
  const { reply, done } = await answerPrepared(call, shown, change, status);
  if (done.change !== null) {
    call.notes.used(done.change.used);
    call.notes.detail(done.change.detail);
  }
  return { ...reply, headers: headersOf(done) };
}

/** Runs a change of any kind; headers and what its entry says of it are the caller's. */
export async function answerPrepared<C>(
  call: ChangeCall,
  show: (change: C) => object,
  change: (run: ChangeRun<C>) => Promise<ChangeDone<C>>,
  status = 200,
) {
  const done = await change(runOf(call, show, status));
  const { notes } = call;
  if (done.replayed) notes.detail({ replayed: true, replayedFrom: done.auditId });
  else if (done.auditId === null) notes.detail({ dryRun: true });
  const reply = {
    status: done.status,
    body: new Rerendered(done.body),
    recorded: done.replayed ? null : done.auditId,
  };
  return { reply, done };
}

export const showKey: Show = ({ after }) => keyResource(after);

export const showVersion =
  (token: TokenFacts, number: number): Show =>
  ({ after }) => {
    const version = versionOf(after, number);
    return versionResource(after.key, version, token);
  };

function versionOf({ versions }: KeyView, number: number) {
  const found = versions.find(({ version }) => version === number);
  if (found === undefined) throw new TwofoldError('version_not_found');
  return found;
}

export const given = <T extends object>(members: T) =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };

/** Times are texts on the wire. */
const timed = <T extends { readonly activateAt?: string | undefined }>(body: T) => ({
  ...body,
  activateAt: body.activateAt === undefined ? undefined : new Date(body.activateAt),
});

type Dependencies = Pick<HttpDependencies, 'manage' | 'token'>;

function materialRoutes({ manage }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.createKey, {
      facts: ({ suite, labels }) => [{ suite, ...(labels === undefined ? {} : { labels }) }],
      handle: (call) => {
        const { labels = {}, deletionProtection = false, publish = false, ...named } = call.body;
        call.notes.named(named.name);
        const suite = findSuite(named.suite);
        const input = { ...given(timed(named)), suite, labels, deletionProtection, publish };
        return answerChange(call, showKey, (run) => manage.create(call.grant, input, run), 201);
      },
    }),
    route(contract.updateKey, {
      facts: ({ labels }) => (labels === undefined ? [] : [{ labels: setLabels(labels) }]),
      handle: (call) =>
        answerChange(call, showKey, (run) => manage.update(call.grant, given(call.body), run)),
    }),
    route(contract.rotateKey, {
      facts: ({ suite }) => (suite === undefined ? [] : [{ suite }]),
      handle: (call) => {
        const { suite: id, ...others } = call.body;
        const suite = id === undefined ? {} : { suite: findSuite(id) };
        const input = { ...given(timed(others)), ...suite };
        return answerChange(call, showKey, (run) => manage.rotate(call.grant, input, run));
      },
    }),
  ];
}

/** The labels that a patch sets; what it removes is no fact for policy. */
function setLabels(labels: Readonly<Record<string, string | null>>): Record<string, string> {
  const set = Object.entries(labels).filter((pair): pair is [string, string] => pair[1] !== null);
  return Object.fromEntries(set);
}

function suspensionRoutes({ manage, token }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.suspendKey, {
      handle: (call) =>
        answerChange(call, showKey, (run) => manage.suspend(call.grant, call.body, run)),
    }),
    route(contract.resumeKey, {
      handle: (call) =>
        answerChange(call, showKey, (run) => manage.resume(call.grant, call.body, run)),
    }),
    route(contract.suspendVersion, {
      handle: (call) => {
        const { version } = call.params;
        const input = { version, reason: call.body.reason };
        const show = showVersion(token, version);
        return answerChange(call, show, (run) => manage.suspendVersion(call.grant, input, run));
      },
    }),
    route(contract.resumeVersion, {
      handle: (call) => {
        const { version } = call.params;
        const input = { version, reason: call.body.reason };
        const show = showVersion(token, version);
        return answerChange(call, show, (run) => manage.resumeVersion(call.grant, input, run));
      },
    }),
  ];
}

export function adminKeyRoutes(deps: Dependencies): readonly GuardedRoute[] {
  return [...materialRoutes(deps), ...suspensionRoutes(deps)];
}
