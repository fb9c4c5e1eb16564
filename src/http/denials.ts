/** Routes of the denial lists. */
import * as contract from '../contract/denials.ts';
import { TwofoldError } from '../errors.ts';
import { denialName } from '../governance/denials.ts';
import { answerSet, memberTag, pageOfMembers } from './governed.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { Denial, DenialTarget } from '../governance/denials.ts';
import type { Member, PreparedSetChange } from '../governance/sealed-set.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { Call, GuardedRoute } from './route.ts';

type Body = Call<typeof contract.createDenial>['body'];

/** @throws TwofoldError invalid_value unless exactly one thing is named */
function targetOf({ tokenId, issuer, subject, certificate, serial }: Body): DenialTarget {
  const named = [tokenId, issuer, certificate].filter((value) => value !== undefined).length;
  const within = [subject, serial].filter((value) => value !== undefined).length;
  if (named !== 1 || within > (issuer === undefined ? 0 : 1)) {
    const detail =
      'Exactly one of tokenId, certificate and issuer is named; with issuer, subject or serial may be.';
    throw new TwofoldError('invalid_value', detail);
  }
  if (tokenId !== undefined) return { kind: 'token', tokenId };
  if (issuer === undefined) return { kind: 'certificate', fingerprint: certificate ?? '' };
  if (subject !== undefined) return { kind: 'subject', issuer, subject };
  return serial === undefined ? { kind: 'issuer', issuer } : { kind: 'serial', issuer, serial };
}

const shownTarget = (target: DenialTarget) => {
  if (target.kind !== 'certificate') return target;
  return { kind: target.kind, certificate: target.fingerprint };
};

function resource({ name, revision, at, by, value }: Member<Denial>) {
  const { target, reason, expiresAt, issuedBefore } = value;
  const expired = expiresAt !== null && expiresAt.getTime() <= Date.now();
  return {
    id: name,
    ...shownTarget(target),
    reason,
    expiresAt: expiresAt?.toISOString() ?? null,
    issuedBefore: issuedBefore?.toISOString() ?? null,
    state: expired ? ('expired' as const) : ('active' as const),
    updatedAt: at.toISOString(),
    updatedBy: by,
    revision,
  };
}

/** Of all that the change did (it also takes away what ended long ago), what was asked for. */
const shownOf =
  (name: string, unchanged: () => Member<Denial> | undefined) =>
  ({ changes }: PreparedSetChange<Denial>): object => {
    const change = changes.find((each) => each.name === name);
    const member = change?.after ?? change?.before ?? unchanged();
    if (member === undefined) throw new TwofoldError('not_found');
    return { ...resource(member), ...(change?.after === null ? { deleted: true } : {}) };
  };

type Dependencies = Pick<HttpDependencies, 'governance' | 'pageTokenKey'>;

function readingRoutes({ governance, pageTokenKey }: Dependencies): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(contract.listDenials, {
      handle: async (call) => {
        const view = await governance.denials.list(call.grant);
        const { id } = contract.listDenials;
        return { body: pageOfMembers(tokens, id, call, view, resource) };
      },
    }),
    route(contract.getDenial, {
      handle: async ({ grant, params }) => {
        const member = (await governance.denials.list(grant)).members.get(params.denial);
        if (member === undefined) throw new TwofoldError('not_found');
        return { body: resource(member), headers: memberTag(member) };
      },
    }),
  ];
}

const timeOf = (text: string | undefined): Date | null =>
  text === undefined ? null : new Date(text);

/** @throws TwofoldError invalid_value */
export function denialOf(body: Body): Denial {
  const { reason, expiresAt, issuedBefore } = body;
  const times = { expiresAt: timeOf(expiresAt), issuedBefore: timeOf(issuedBefore) };
  return { target: targetOf(body), reason, ...times };
}

function changingRoutes({ governance }: Dependencies): readonly GuardedRoute[] {
  return [
    route(contract.createDenial, {
      handle: async (call) => {
        const denial = denialOf(call.body);
        const { members } = await governance.denials.list(call.grant);
        const name = denialName(denial.target);
        const show = shownOf(name, () => members.get(name));
        return answerSet(call, show, (run) => governance.denials.add(call.grant, denial, run), 201);
      },
    }),
    route(contract.deleteDenial, {
      handle: (call) => {
        const { denial } = call.params;
        const show = shownOf(denial, () => undefined);
        return answerSet(call, show, (run) => governance.denials.remove(call.grant, denial, run));
      },
    }),
  ];
}

export function denialRoutes(deps: Dependencies): readonly GuardedRoute[] {
  return [...readingRoutes(deps), ...changingRoutes(deps)];
}
