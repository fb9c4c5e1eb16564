/**
 * The gate in front of every handler of a route that a rule can guard: such a request asks for approval,
 * runs under one, or, where no rule asks for any, runs.
 */
import { asksNobody } from '../access/local-access.ts';
import * as contract from '../contract/approvals.ts';
import { createDenial } from '../contract/denials.ts';
import { putLimits } from '../contract/limits.ts';
import { denialOf } from './denials.ts';
import { limitsOfBody } from './limits.ts';
import { APPROVAL_HEADER, APPROVAL_REQUIRED_HEADER } from '../contract/guards.ts';
import { takesApproval } from '../contract/route.ts';
import { ruleOf } from './approval-rules.ts';
import { answerApproval, approvalHeaders, approvalResource } from './approvals.ts';
import { unprotectsByLabels } from '../keyring/provider-record.ts';
import { bodyHash, wholeRequestHash } from './canonical.ts';
import { Consents, permitsConsent } from './consents.ts';
import { Rerendered } from './route.ts';
import type { IncomingMessage } from 'node:http';
import type { Guard } from '../contract/guards.ts';
import type { RouteContract } from '../contract/route.ts';
import type { Question, StandingRule } from '../governance/approval-rules.ts';
import type { AskedFor, Consenting } from '../governance/approvals.ts';
import type { CredentialFacts } from '../access/trust.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { Call, GuardedContract, GuardedRoute, Reply } from './route.ts';

type AnyCall = Call<GuardedContract>;
type Answer = Promise<Reply<RouteContract>>;

/** A longer answer of a dry run is not kept. */
const LONGEST_PREVIEW = 65_536;
/** Routes that end a namespace. */
const ENDINGS: ReadonlySet<string> = new Set(['suspendNamespace', 'deleteNamespace']);

/** What arrives at the gate. */
export interface AtGate {
  readonly route: GuardedRoute;
  readonly request: IncomingMessage;
  readonly call: AnyCall;
  /** The call once more, for a dry run that leaves no trace in the entry of the request. */
  readonly rehearsal: () => AnyCall;
}

type GateDependencies = Pick<HttpDependencies, 'governance' | 'access' | 'keys' | 'issuers'>;

export class ApprovalGate {
  readonly #deps: GateDependencies;
  readonly #consents: Consents;

  constructor(deps: GateDependencies) {
    this.#deps = deps;
    this.#consents = new Consents(deps);
  }

  async handle(at: AtGate): Answer {
    const { route, call } = at;
    if (!takesApproval(route.contract)) return route.handle(call);
    const { approvals } = this.#deps.governance;
    if (asksNobody(call.principal)) return this.#alone(route, call);
    const question = await this.#question(route.contract, call);
    const rules = await approvals.rules.requiredBy(call.grant.namespace, question);
    if (call.query['dryRun'] === true) {
      return said(await route.handle(rules.length === 0 ? call : asApproved(call)), rules);
    }
    const id = approvalOf(call);
    if (id !== undefined) return this.#execute(at, id, question);
    return rules.length === 0 ? route.handle(call) : this.#ask(at, question);
  }

  async #execute({ route, request, call }: AtGate, id: string, question: Question): Answer {
    const { access, governance } = this.#deps;
    const { namespace } = call.grant;
    const permits = permitsConsent(await access.in(namespace), namespace);
    const requestHash = wholeRequestHash(request, await this.#about(call), call.body);
    call.notes.approved(id);
    const backing = await governance.approvals.redeem(
      call.grant,
      { id, requestHash, question },
      async (approver) =>
        permits(approver) &&
        (await this.#consents.stands(namespace, approver.principal, approver.at)) &&
        !(await governance.denials.denies(namespace, consentOf(approver))),
    );
    return route.handle({ ...call, approval: { id }, confirmed: true, backing });
  }

  async #about({ grant: { namespace, key } }: AnyCall): Promise<About> {
    if (key === null) return { namespace, keyId: null };
    return { namespace, keyId: (await this.#deps.keys.resolve(namespace, key))?.id ?? null };
  }

  /** A bootstrap token ends with the policies that it writes. */
  async #alone(route: GuardedRoute, call: AnyCall): Answer {
    const { localTokens } = this.#deps.governance;
    const { method, subject } = call.principal;
    const ends = method === 'bootstrap' && route.contract.operation === 'policies.change';
    if (!ends || call.query['dryRun'] === true) return route.handle(call);
    const id = subject.slice('bootstrap/'.length);
    const alongside = await localTokens.spend(call.grant, id);
    const backing = { alongside, admit: () => undefined, because: { bootstrap: id } };
    return route.handle({ ...call, backing });
  }

  /** One request has one approval at a time, however often it is sent. */
  async #ask(at: AtGate, question: Question): Answer {
    const { call } = at;
    const { approvals } = this.#deps.governance;
    const asked = askedFor(at, await this.#about(call));
    const open = await approvals.openOf(call.grant, asked);
    if (open !== null) {
      call.notes.detail({ approval: open.approval.id, executed: false });
      const body = new Rerendered(JSON.stringify(approvalResource(open)));
      return { status: 202, body, headers: approvalHeaders(open) };
    }
    const preview = await rehearse(at);
    const plain = { ...call, query: {}, headers: {} };
    return answerApproval(
      plain,
      (run) => approvals.request(call.grant, question, { ...asked, preview }, run),
      202,
    );
  }

  async #question(route: GuardedContract, { grant, params, body }: AnyCall): Promise<Question> {
    const given = { params: params as Readonly<Record<string, unknown>>, body };
    const rule = await this.#weakenedRule(route, grant.namespace, given);
    if (await this.#deniesMore(route, grant, body)) return { guards: [], rule };
    if (await this.#tightensLimits(route, grant, body)) return { guards: [], rule };
    return { guards: guardsOfCall(route, body), rule };
  }

  /** Whether it denies what is not denied, and admits nothing: that waits for nobody. */
  async #deniesMore({ id }: GuardedContract, grant: AnyCall['grant'], body: unknown) {
    if (id !== createDenial.id) return false;
    const denial = denialOf(body as Parameters<typeof denialOf>[0]);
    return this.#deps.governance.denials.deniesMore(grant.namespace, denial);
  }

  /** Whether no limit lets through more than before: that waits for nobody. */
  async #tightensLimits({ id }: GuardedContract, grant: AnyCall['grant'], body: unknown) {
    if (id !== putLimits.id) return false;
    const after = limitsOfBody(body as Parameters<typeof limitsOfBody>[0]);
    return !(await this.#deps.governance.limits.wouldLoosen(grant.namespace, after));
  }

  async #weakenedRule(
    { id }: GuardedContract,
    namespace: string,
    {
      params,
      body,
    }: { readonly params: Readonly<Record<string, unknown>>; readonly body: unknown },
  ): Promise<string | null> {
    const { rules } = this.#deps.governance.approvals;
    const puts = id === contract.putApprovalRule.id;
    if (!puts && id !== contract.deleteApprovalRule.id) return null;
    const name = String(params['rule']);
    const after = puts ? ruleOf(body as Parameters<typeof ruleOf>[0]) : null;
    return (await rules.wouldWeaken(namespace, name, after)) ? name : null;
  }
}

function approvalOf({ headers }: AnyCall): string | undefined {
  return (headers as Readonly<Record<string, string | undefined>>)[APPROVAL_HEADER];
}

/** The names under which rules guard the request. */
function guardsOfCall({ id, operation }: GuardedContract, body: unknown): readonly Guard[] {
  if (operation === 'keys.update' && unprotects(body)) return ['keys.update', 'keys.unprotect'];
  const own = operation as Guard;
  return ENDINGS.has(id) ? [own, 'namespaces.end'] : [own];
}

/** Of a key, or of versions that a Kubernetes provider has retired. */
function unprotects(body: unknown): boolean {
  const { deletionProtection, labels = {} } = body as {
    readonly deletionProtection?: boolean;
    readonly labels?: Readonly<Record<string, string | null>>;
  };
  return deletionProtection === false || unprotectsByLabels(labels);
}

type About = Parameters<typeof wholeRequestHash>[1];

/** What a denial can name of a consent: who gave it, and when. */
const consentOf = ({ principal: { issuer, subject }, at }: Consenting): CredentialFacts => ({
  issuer,
  subject,
  tokenId: null,
  issuedAt: at,
  certificate: null,
});

function askedFor({ request, call }: AtGate, about: About): AskedFor {
  const { grant, headers } = call;
  const [path = '', query = ''] = (request.url ?? '').split(/\?(.*)/su, 2);
  return {
    operation: grant.operation,
    method: request.method ?? '',
    path,
    query,
    ifMatch: (headers as Readonly<Record<string, string | undefined>>)['if-match'] ?? null,
    bodyHash: bodyHash(call.body),
    requestHash: wholeRequestHash(request, about, call.body),
  };
}

/** What is tried as it would run under its approval. */
const asApproved = (call: AnyCall): AnyCall => ({ ...call, confirmed: true });

/** What a dry run answers, as JSON. @throws TwofoldError what the request itself would be refused with */
async function rehearse({ route, rehearsal }: AtGate): Promise<string> {
  const call = rehearsal();
  const { body } = await route.handle({
    ...asApproved(call),
    query: { ...call.query, dryRun: true },
  });
  const json = body instanceof Rerendered ? body.json : JSON.stringify(body);
  return Buffer.byteLength(json) > LONGEST_PREVIEW ? 'null' : json;
}

/** A dry run takes no approval; it says which rules the request itself would meet. */
function said(reply: Reply<RouteContract>, rules: readonly StandingRule[]): Reply<RouteContract> {
  if (rules.length === 0) return reply;
  const names = rules.map(({ name }) => name).join(', ');
  return { ...reply, headers: { ...reply.headers, [APPROVAL_REQUIRED_HEADER]: names } };
}
