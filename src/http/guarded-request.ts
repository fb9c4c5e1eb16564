/**
 * One authenticated request, in the order of the contract: permission on route and key 403 before the
 * body is read, input 400, permission with what policy reads of the body 403, existence 404, state
 * 409; then its one audit entry, and only then the answer (promise P3).
 *
 * When a change overtook the request, nothing of its answer leaves: it runs again from its
 * authorization (promise P5).
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { StaleAnswer } from '../audit/ports.ts';
import { TwofoldError } from '../errors.ts';
import { canonicalReference } from '../contract/scalars.ts';
import { isDelegated } from '../access/delegation.ts';
import { isUse } from '../access/uses.ts';
import { AnswerWriter } from './answer.ts';
import { ApprovalGate } from './approval-gate.ts';
import { requestHash } from './canonical.ts';
import { CheckedInput } from './checked-input.ts';
import { credentialsOf, namespaceOf } from './credentials.ts';
import { RateRefused, costOf } from './limit-gate.ts';
import { AuditNotes } from './notes.ts';
import { engineOf } from './suite-resource.ts';
import { RequestAccess } from './request-access.ts';
import { RequestLimits } from './request-limits.ts';
import { Streamed } from './route.ts';
import { tlsGroupOf } from './tls-group.ts';
import type { Decision, Grant, Operation, Principal } from '../access/grant.ts';
import type { BodyFacts, Resource } from '../access/ports.ts';
import type { RouteContract } from '../contract/route.ts';
import type { NamespaceStanding } from '../governance/namespaces.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { Arrival, Checked } from './checked-input.ts';
import type { Answer } from './exchange.ts';
import type { Limited } from './limited.ts';
import type { Call, GuardedContract, GuardedRoute, Reply } from './route.ts';

/** How often a request runs before changes that keep overtaking it make it fail. */
const ATTEMPTS = 40;
/** From this attempt on it takes its turn among the changes of its key. */
const IN_TURN = 4;
/** It pauses for up to this much longer each time, so that it does not run in step with the changes. */
const PAUSE_MS = 1;
/** Codes that say whether something exists; only who may read learns that it does not. */
const ABSENT: ReadonlySet<string> = new Set(['key_not_found', 'version_not_found', 'not_found']);

/** Who asks, and the security epoch when the token began to be checked. */
export interface Authenticated {
  readonly principal: Principal;
  readonly epoch: number;
  /** Why the principal's credential is worth nothing; null where it is good. */
  readonly refused: TwofoldError | null;
}

/** What one run came to, before its audit entry. */
type Outcome =
  | { readonly reply: Reply<RouteContract>; readonly error: null }
  | { readonly reply: null; readonly error: TwofoldError };

type AnyGrant = Grant<Operation>;

export class GuardedRequest {
  readonly #deps: HttpDependencies;
  readonly #arrival: Arrival;
  #principal: Principal;
  readonly #refused: TwofoldError | null;
  readonly #resource: Resource;
  readonly #secrets: SecretBytes[] = [];
  readonly #ended = Promise.withResolvers<undefined>();
  /** When this run began to read, which its authentication was part of. */
  #epoch: number;
  readonly #input: CheckedInput;
  /** What decides in this run. */
  #access: RequestAccess | undefined;
  readonly #counts: RequestLimits;
  /** The key that the latest run found. */
  #keyId: string | null = null;
  /** What its entry may say in clear; as of the latest run. */
  #loggable: readonly string[] = [];

  constructor(deps: HttpDependencies, arrival: Arrival, authenticated: Authenticated) {
    this.#deps = deps;
    this.#arrival = arrival;
    this.#input = new CheckedInput(arrival);
    this.#principal = authenticated.principal;
    this.#refused = authenticated.refused;
    this.#epoch = authenticated.epoch;
    this.#counts = new RequestLimits(deps.limits.gate, arrival.route.contract);
    const key = arrival.params['key'];
    this.#resource = {
      // Checked with the other headers, after permission: an impossible name permits nothing.
      namespace: namespaceOf(arrival.head),
      key: typeof key === 'string' ? canonicalReference(key) : null,
      tlsGroup: tlsGroupOf(arrival.exchange.request.socket),
    };
  }

  /** Answers the request. Never rejects; no secret outlives it. */
  async serve(): Promise<void> {
    const { exchange } = this.#arrival;
    try {
      await this.#run();
    } catch (error) {
      this.#counts.refund();
      await exchange.fail(error, null);
    } finally {
      this.#input.wipe();
      this.#wipeSecrets();
      this.#ended.resolve(undefined);
    }
  }

  async #run(): Promise<void> {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      try {
        await this.#attempt(attempt === 1);
        return;
      } catch (error) {
        if (!(error instanceof StaleAnswer)) throw error;
        this.#wipeSecrets();
        await sleep(Math.random() * PAUSE_MS * attempt);
        if (attempt + 1 >= IN_TURN && !(await this.#takeTurn())) break;
        this.#epoch = this.#deps.epoch.current;
      }
    }
    await this.#giveUp();
  }

  /** Of the key that the earlier attempts found, if any; false when it did not come in time. */
  async #takeTurn(): Promise<boolean> {
    if (this.#keyId === null) return true;
    const { requestId } = this.#arrival.exchange;
    try {
      await this.#deps.turns.take(this.#keyId, requestId, this.#ended.promise);
      return true;
    } catch (error) {
      if (TwofoldError.is(error, 'conflict')) return false;
      throw error;
    }
  }

  /** The refusal stands on no key, so that only a change of access could overtake it too. */
  async #giveUp(): Promise<void> {
    const { audit, epoch } = this.#deps;
    const error = new TwofoldError('conflict', 'Changes kept overtaking the request.');
    const { namespace } = this.#resource;
    const standing = { epoch: epoch.current, namespace, keyId: null, keyName: null };
    const auditId = await audit
      .record(this.#notes(await this.#standing()).draft(error.code), standing)
      .catch((cause: unknown) => {
        throw new TwofoldError('audit_unavailable', undefined, { cause });
      });
    await this.#arrival.exchange.fail(error, auditId);
  }

  /** Runs once. Rejects with `StaleAnswer` to be run again, or with what may leave without an entry. */
  async #attempt(first: boolean): Promise<void> {
    this.#loggable = await this.#deps.governance.loggable.of(this.#resource.namespace);
    const notes = this.#notes(await this.#standing());
    const outcome = await this.#outcomeOr(this.#unworthy(), notes, first);
    this.#keyId = notes.foundKey;
    const auditId = this.#isCounted(notes, outcome)
      ? null
      : (outcome.reply?.recorded ?? (await this.#recordOrDrop(notes, outcome)));
    // It will not run again; a client that reads its answer slowly holds up nobody's turn.
    this.#ended.resolve(undefined);
    const { exchange } = this.#arrival;
    const headers = this.#counts.headers(outcome.error);
    if (outcome.error !== null) {
      this.#counts.failed(outcome.error);
      await exchange.fail(outcome.error, auditId, headers);
      return;
    }
    if (outcome.reply.body instanceof Streamed) {
      exchange.stream(outcome.reply.body, auditId, headers);
      return;
    }
    const writer = new AnswerWriter(this.#arrival.route.contract);
    const type = this.#input.answerType ?? 'application/json';
    const answer = writer.write(outcome.reply, type);
    if (auditId !== null) this.#assertLeaving(auditId, notes, answer);
    await exchange.send({ ...answer, headers: { ...answer.headers, ...headers } }, auditId);
  }

  /** Why it is not worth beginning; thrown where no entry could say so. */
  #unworthy(): TwofoldError | null {
    const refusal = this.#deps.audit.refusal(this.#arrival.route.contract.operation);
    if (refusal !== null && refusal.code === 'audit_unavailable') throw refusal;
    return refusal;
  }

  async #outcomeOr(
    refusal: TwofoldError | null,
    notes: AuditNotes,
    first: boolean,
  ): Promise<Outcome> {
    return refusal === null ? this.#outcome(notes, first) : { reply: null, error: refusal };
  }

  /** Nothing is awaited from here until the answer is on its connection. */
  #assertLeaving(auditId: string, notes: AuditNotes, answer: Answer): void {
    try {
      const durable = this.#deps.audit.leaving(auditId, notes.standing()) === 'durable';
      // One that waits for those before it on the connection would leave at any time.
      if (durable || this.#arrival.exchange.response.socket !== null) return;
      throw new TwofoldError('audit_unavailable');
    } catch (error) {
      // Nobody else does: whoever sends an answer wipes it.
      if (answer.body.secret) answer.body.bytes.fill(0);
      throw error;
    }
  }

  /** Of many refusals for one limit the first has an entry, the others are counted. */
  #isCounted(notes: AuditNotes, { error }: Outcome): boolean {
    if (!(error instanceof RateRefused)) return false;
    notes.detail({ limit: error.limit.name });
    return this.#deps.limits.refusals.counted(notes.draft(error.code), error.limit.name);
  }

  /** Of the namespace that the request names. */
  #standing(): Promise<NamespaceStanding> {
    return this.#deps.governance.namespaces.standing(this.#resource.namespace);
  }

  #notes(standing: NamespaceStanding): AuditNotes {
    const { route, exchange } = this.#arrival;
    return new AuditNotes({
      requestId: exchange.requestId,
      source: exchange.source,
      principal: this.#principal,
      operation: route.contract.operation,
      epoch: this.#epoch,
      namespaceKnown: standing !== 'absent',
      started: exchange.started,
      loggable: this.#loggable,
      engineOf: (suite) => engineOf(this.#deps.engine, suite),
      ...this.#resource,
    });
  }

  async #outcome(notes: AuditNotes, first: boolean): Promise<Outcome> {
    try {
      if (!first) await this.#authenticateAgain();
      else if (this.#refused !== null) throw this.#refused;
      return { reply: await this.#reply(notes), error: null };
    } catch (error) {
      if (error instanceof StaleAnswer) throw error;
      return { reply: null, error: this.#visible(TwofoldError.from(error), this.#resource.key) };
    }
  }

  /**
   * What overtook the request may have been the end of its issuer, or have made its principal another:
   * then it begins once more, under that one's name.
   */
  async #authenticateAgain(): Promise<void> {
    const { exchange, head } = this.#arrival;
    const { issuer, subject } = this.#principal;
    const credentials = credentialsOf(exchange.request, head);
    this.#principal = await this.#deps.authenticator.authenticate(credentials);
    const same = this.#principal.issuer === issuer && this.#principal.subject === subject;
    if (!same) throw new StaleAnswer();
  }

  /** A stream without an entry never begins. */
  async #recordOrDrop(notes: AuditNotes, outcome: Outcome): Promise<string> {
    try {
      return await this.#record(notes, outcome);
    } catch (error) {
      if (outcome.reply?.body instanceof Streamed) outcome.reply.body.drop();
      throw error;
    }
  }

  async #record(notes: AuditNotes, outcome: Outcome): Promise<string> {
    const { audit } = this.#deps;
    const record = outcome.reply?.record ?? ((...entry) => audit.record(...entry));
    try {
      return await record(notes.draft(outcome.error?.code ?? 'ok'), notes.standing());
    } catch (error) {
      if (error instanceof StaleAnswer || TwofoldError.is(error, 'audit_unavailable')) throw error;
      throw new TwofoldError('audit_unavailable', undefined, { cause: error });
    }
  }

  async #reply(notes: AuditNotes): Promise<Reply<RouteContract>> {
    const { route } = this.#arrival;
    const access = await this.#open();
    const early = await this.#authorize(notes, access);
    const input = await this.#input.read();
    const grant = await this.#refine(notes, access, early, factsOf(route, input.body, early));
    await this.#checkExistence();
    await this.#counts.count(this.#limited(), costOf(input.body));
    const started = performance.now();
    const reply = await new ApprovalGate(this.#deps).handle({
      route,
      request: this.#arrival.exchange.request,
      call: this.#call(access, grant, input, notes),
      rehearsal: () => this.#call(access, grant, input, this.#notes('active')),
    });
    if (notes.suite !== null) {
      this.#deps.times.record(notes.suite, grant.operation, performance.now() - started);
    }
    return reply;
  }

  #limited(): Limited {
    const { namespace, key } = this.#resource;
    const { plane, operation } = this.#arrival.route.contract;
    return { principal: this.#principal, namespace, key, plane, uses: isUse(operation) };
  }

  async #open(): Promise<RequestAccess> {
    const { operation } = this.#arrival.route.contract;
    this.#access = undefined;
    const asked = { principal: this.#principal, operation, resource: this.#resource };
    this.#access = await RequestAccess.open(this.#deps, asked);
    return this.#access;
  }

  /** Null where what the body says may permit it. */
  async #authorize(notes: AuditNotes, access: RequestAccess): Promise<AnyGrant | null> {
    const decision = access.decide();
    notes.decided(decision);
    if (decision.allowed) return access.authorize();
    if (this.#arrival.route.hasFacts && access.awaitsBody()) return null;
    return this.#delegated(notes, decision, () => access.authorize());
  }

  /** What was lent, if the denial leaves room for it; else the denial. */
  async #delegated(
    notes: AuditNotes,
    denial: Decision,
    denied: () => AnyGrant,
    facts?: BodyFacts,
  ): Promise<AnyGrant> {
    notes.decided(denial);
    // Where there is no namespace nothing can have been lent.
    if ((await this.#standing()) === 'absent') return denied();
    const { operation } = this.#arrival.route.contract;
    const asked = { principal: this.#principal, operation, resource: this.#resource, denial };
    const lent = await this.#deps.governance.delegation.permit(asked, facts);
    if (lent === null) return denied();
    notes.decided(lent.decision);
    return lent;
  }

  async #refine(
    notes: AuditNotes,
    access: RequestAccess,
    early: AnyGrant | null,
    facts: readonly BodyFacts[],
  ): Promise<AnyGrant> {
    let grant = early;
    for (const each of facts) {
      const decision = access.decide(each);
      grant = decision.allowed
        ? access.authorize(each)
        : await this.#delegated(notes, decision, () => access.authorize(each), each);
      notes.decided(grant.decision);
      this.#counts.admitted(this.#limited(), grant.decision);
    }
    const whole = grant ?? access.authorize();
    if (facts.length === 0) this.#counts.admitted(this.#limited(), whole.decision);
    return whole;
  }

  /** The second key of an operation is asked for like the first, with the same facts. */
  #grantOn<O extends Operation>(
    notes: AuditNotes,
    access: RequestAccess,
    operation: O,
    key: string,
    facts: BodyFacts,
  ): Grant<O> {
    let grant: Grant<O>;
    try {
      grant = access.grantOn(operation, key, facts);
    } catch (error) {
      notes.denied(access.decideOn(operation, key, facts));
      throw error;
    }
    notes.alsoDecided(grant.decision);
    this.#counts.admitted(this.#limited(), grant.decision, key);
    return grant;
  }

  #grantIf<O extends Operation>(
    notes: AuditNotes,
    access: RequestAccess,
    operation: O,
  ): Grant<O> | null {
    const grant = access.grantIf(operation);
    if (grant !== null) notes.alsoDecided(grant.decision);
    return grant;
  }

  /** A queued response does not hear of its connection's end; the connection itself does. */
  #gone(): AbortSignal {
    const { socket } = this.#arrival.exchange.request;
    const controller = new AbortController();
    const abort = () => controller.abort();
    if (socket.destroyed) abort();
    else socket.once('close', abort);
    void this.#ended.promise.then(() => socket.off('close', abort));
    return controller.signal;
  }

  async #checkExistence(): Promise<void> {
    const { key } = this.#resource;
    const standing = await this.#standing();
    if (standing === 'absent') throw new TwofoldError(key === null ? 'not_found' : 'key_not_found');
    if (standing === 'suspended') throw new TwofoldError('namespace_suspended');
  }

  #call(
    access: RequestAccess,
    grant: AnyGrant,
    input: Checked,
    notes: AuditNotes,
  ): Call<GuardedContract> {
    const { exchange } = this.#arrival;
    return {
      grant,
      principal: this.#principal,
      params: input.params,
      query: input.query,
      headers: input.headers,
      body: input.body,
      requestId: exchange.requestId,
      ended: this.#ended.promise,
      gone: () => this.#gone(),
      source: exchange.source,
      credentials: credentialsOf(exchange.request, this.#arrival.head),
      tlsGroup: this.#resource.tlsGroup ?? null,
      requestHash: () => requestHash(exchange.request, input.body),
      notes,
      approval: null,
      confirmed: false,
      backing: null,
      own: (secret) => {
        this.#secrets.push(secret);
        return secret;
      },
      grantOn: (key, facts) => this.#grantOn(notes, access, grant.operation, key, facts),
      grantFor: (operation, key, facts = {}) => this.#grantOn(notes, access, operation, key, facts),
      resolve: async (...keys) => {
        await access.resolve(keys);
        await this.#counts.foresee(this.#limited(), keys);
      },
      grantIf: (operation) => this.#grantIf(notes, access, operation),
      visible: (error, key = this.#resource.key) => this.#visible(TwofoldError.from(error), key),
    };
  }

  /** Hides absence from those who may not read: they are told what a present key would tell them. */
  #visible(error: TwofoldError, key: string | null): TwofoldError {
    if (!ABSENT.has(error.code)) return error;
    return this.#access?.mayRead(key) === true ? error : new TwofoldError('forbidden');
  }

  #wipeSecrets(): void {
    for (const secret of this.#secrets.splice(0)) secret.wipe();
  }
}

/** Of a body without facts a grant that was lent is asked too: it may be for named contexts alone. */
function factsOf(route: GuardedRoute, body: unknown, grant: AnyGrant | null): readonly BodyFacts[] {
  const facts = route.facts(body);
  return facts.length === 0 && grant !== null && isDelegated(grant) ? [{}] : facts;
}
