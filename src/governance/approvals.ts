/**
 * Approvals: requests that wait for the consent of others, bound to the very request.
 *
 * Who may ask for an operation asks with it; who may decide on approvals consents or refuses; and the
 * requester alone executes, by repeating the request. An approval that was denied or withdrawn ends
 * every request that stands on it, at once and everywhere (promise P5).
 */
import { randomUUID } from 'node:crypto';

import { approvalRequest } from '../access/approval-request.ts';
import type { Grant, Operation, Principal } from '../access/grant.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import type {
  Approval,
  ApprovalQuery,
  ApprovalStore,
  Approver,
} from '../keyring/approval-ports.ts';
import { Changes, plainPlan } from '../keyring/changes.ts';
import type { ChangeSubject } from '../keyring/changes.ts';
import { inTurns } from '../keyring/in-turns.ts';
import { checkReason } from '../keyring/names.ts';
import type { Backing, ChangeDone, ChangeRun } from '../keyring/operations.ts';
import type { Attested, KeyWrite } from '../keyring/ports.ts';
import { attestApproval, verifyApproval } from './approval-mac.ts';
import { ApprovalRules, isEligible, isSatisfied, tallyOf } from './approval-rules.ts';
import type { Question, StandingRule } from './approval-rules.ts';
import type { Guard } from '../contract/guards.ts';
import type { SealedSetParts } from './sealed-set.ts';

const BOUNDS = { ofNamespace: 1_000, ofPrincipal: 100 } as const;
const MACS_AT_ONCE = 16;
const OPEN: readonly Approval['state'][] = ['pending', 'approved'];

export interface ApprovalParts extends SealedSetParts {
  readonly approvals: ApprovalStore;
}

/** The request as it arrived. */
export type AskedFor = Pick<
  Approval,
  'operation' | 'method' | 'path' | 'query' | 'ifMatch' | 'bodyHash' | 'requestHash'
>;

/** An approval, and what the rules in force make of it. */
export interface ApprovalView {
  readonly approval: Approval;
  readonly state: Approval['state'] | 'expired';
  readonly needed: ReturnType<typeof tallyOf>;
}

export interface PreparedApproval {
  readonly kind: 'request' | 'approve' | 'deny' | 'withdraw';
  readonly before: Approval | null;
  readonly view: ApprovalView;
}

export type ApprovalRun = ChangeRun<PreparedApproval>;
export type ApprovalDone = ChangeDone<PreparedApproval>;

/** Somebody whose consent is asked about. */
export interface Consenting {
  readonly principal: Principal;
  readonly tlsGroup: string | null;
  readonly at: Date;
}

/** What executing stands on: in which standing an approver is now. */
export type StillMay = (approver: Consenting) => Promise<boolean>;

/** An approval that somebody consents to. */
export interface Consent {
  readonly id: string;
  /** Of the connection. */
  readonly tlsGroup: string | null;
  /** Whether policies permit a consent. */
  readonly permits: (approver: Consenting) => boolean;
}

const SUBJECT: ChangeSubject<PreparedApproval> = {
  touched: ({ kind, view: { approval } }) => ({
    keyId: null,
    // No key can have this name.
    keyName: `approval/${approval.id}`,
    also: [],
    ...(kind === 'deny' || kind === 'withdraw' ? { reach: 'namespace' as const } : {}),
  }),
  facts: ({ kind, view: { approval } }) => ({
    keyRef: null,
    keyId: null,
    keyVersion: null,
    suite: null,
    detail: {
      kind,
      approval: approval.id,
      of: approval.operation,
      state: approval.state,
      approvals: approval.approvers.length,
      reason: approval.reason,
      requestHash: Buffer.from(approval.requestHash).toString('base64'),
    },
  }),
  events: () => [],
};

const isRequester = ({ requester }: Approval, { issuer, subject }: Principal) =>
  requester.issuer === issuer && requester.subject === subject;

/** Who approved, as somebody whose permission can be asked for once more. */
const consentingOf = (approver: Approver): Consenting => {
  const { issuer, subject, method, roles, at, circumstances } = approver;
  return {
    principal: {
      issuer,
      subject,
      method: method === 'mtls' ? 'mtls' : 'jwt',
      roles,
      namespace: null,
      // Where none are kept, the consent stands without: policies that come to ask for them take it anew.
      acr: circumstances?.acr ?? null,
      amr: circumstances?.amr ?? [],
      session: null,
      expiresAt: new Date(8.64e15),
    },
    tlsGroup: circumstances?.tlsGroup ?? null,
    at,
  };
};

/**
 * The consent as it is kept: with its circumstances where policies permit it by these alone. Where they
 * do not matter nothing of them is kept, and an instance of before them reads the row.
 */
function keptConsent(
  { principal }: Grant<'approvals.decide'>,
  { tlsGroup, permits }: Consent,
  at: Date,
): Approver {
  const { issuer, subject, method, roles, acr, amr } = principal;
  const bare = { issuer, subject, method, roles, at, circumstances: null };
  return permits(consentingOf(bare)) ? bare : { ...bare, circumstances: { acr, amr, tlsGroup } };
}

export class Approvals {
  readonly rules: ApprovalRules;
  readonly #parts: ApprovalParts;
  readonly #changes: Changes<PreparedApproval>;

  constructor(parts: ApprovalParts) {
    this.#parts = parts;
    this.rules = new ApprovalRules(parts);
    this.#changes = new Changes(parts, SUBJECT);
  }

  /** @throws TwofoldError not_found, integrity_failed */
  async get({ namespace }: Grant<'approvals.read'>, id: string): Promise<ApprovalView> {
    return this.#view(await this.#find(namespace, id));
  }

  /** Newest first, with the place where the next page begins. */
  async list(
    { namespace }: Grant<'approvals.read'>,
    query: Pick<ApprovalQuery, 'state' | 'pageSize'> & { readonly after: string | null },
  ) {
    const { approvals, clock } = this.#parts;
    const { state, pageSize } = query;
    const after = query.after === null ? null : placeFrom(query.after);
    const rows = await approvals.list({
      namespace,
      state,
      pageSize: pageSize + 1,
      now: clock(),
      after,
    });
    const page = rows.slice(0, pageSize);
    await inTurns(page, MACS_AT_ONCE, (row) => this.#verify(row));
    const items = await Promise.all(page.map(({ value }) => this.#view(value)));
    const last = rows.length > page.length ? (page.at(-1)?.value ?? null) : null;
    return { items, next: last && placeText(last) };
  }

  /** One that is open and for the very request; null where none is. */
  async openOf({ namespace, principal }: Grant<Operation>, { requestHash }: AskedFor) {
    const { issuer, subject } = principal;
    const { approvals, clock } = this.#parts;
    const row = await approvals.findOpen(namespace, { issuer, subject }, requestHash, clock());
    if (row === null) return null;
    await this.#verify(row);
    return this.#view(row.value);
  }

  /**
   * Asks for the approval of a request, which the grant permits but for that.
   * @throws TwofoldError quota_exceeded
   */
  request(
    grant: Grant<Operation>,
    question: Question,
    asked: AskedFor & Pick<Approval, 'preview'>,
    run: ApprovalRun,
  ): Promise<ApprovalDone> {
    const { namespace, principal } = grant;
    return this.#changes.run(approvalRequest(grant), run, async () => {
      const rules = await this.rules.requiredBy(namespace, question);
      const createdAt = this.#parts.clock();
      const wait = Math.min(...rules.map(({ value }) => value.expiryMs));
      const approval: Approval = {
        ...asked,
        id: randomUUID(),
        namespace,
        requester: { issuer: principal.issuer, subject: principal.subject },
        guards: question.guards,
        rule: question.rule,
        createdAt,
        expiresAt: new Date(createdAt.getTime() + wait),
        state: 'pending',
        reason: null,
        approvers: [],
        endedAt: null,
        revision: 1,
      };
      const row = await attestApproval(this.#parts.mac, approval);
      const write = { kind: 'insert-approval', row, bounds: BOUNDS } as const;
      const view = await this.#view(approval);
      return plainPlan({ kind: 'request', before: null, view }, [write]);
    });
  }

  /**
   * @throws TwofoldError self_approval, forbidden for who is no approver of it, approval_used,
   *   approval_ended, approval_expired
   */
  approve(
    grant: Grant<'approvals.decide'>,
    consent: Consent,
    run: ApprovalRun,
  ): Promise<ApprovalDone> {
    const { issuer, subject } = grant.principal;
    return this.#decide(grant, consent.id, run, 'approve', async (before) => {
      const rules = await this.#rulesOf(before);
      const eligible =
        rules.length === 0 || rules.some(({ value }) => isEligible(value, grant.principal));
      if (!eligible) throw new TwofoldError('forbidden', 'The rules name other approvers.');
      // Said again it is a consent of now: what made the earlier one worthless is over by then.
      const others = before.approvers.filter(
        (each) => each.issuer !== issuer || each.subject !== subject,
      );
      const approvers = [...others, keptConsent(grant, consent, this.#parts.clock())];
      const state = isSatisfied(tallyOf(rules, approvers)) ? 'approved' : 'pending';
      return { ...before, approvers, state };
    });
  }

  /** @throws TwofoldError self_approval, approval_used, approval_ended, approval_expired */
  deny(
    grant: Grant<'approvals.decide'>,
    { id, reason }: { readonly id: string; readonly reason: string },
    run: ApprovalRun,
  ): Promise<ApprovalDone> {
    checkReason(reason);
    return this.#decide(grant, id, run, 'deny', (before) => this.#ended(before, 'denied', reason));
  }

  /** By the requester. @throws TwofoldError forbidden, approval_used, approval_ended, approval_expired */
  withdraw(
    grant: Grant<'approvals.withdraw'>,
    { id, reason }: { readonly id: string; readonly reason: string },
    run: ApprovalRun,
  ): Promise<ApprovalDone> {
    checkReason(reason);
    return this.#decide(grant, id, run, 'withdraw', (before) =>
      this.#ended(before, 'withdrawn', reason),
    );
  }

  /**
   * What the repeated request stands on, and spends with its effect. What is wrong with the approval
   * itself is told by `admit`, after the answer to a request that was executed before.
   * @throws TwofoldError not_found, approval_mismatch
   */
  async redeem(
    { namespace, principal }: Grant<Operation>,
    {
      id,
      requestHash,
      question,
    }: Pick<AskedFor, 'requestHash'> & {
      readonly id: string;
      readonly question: Question;
    },
    stillMay: StillMay,
  ): Promise<Backing> {
    const before = await this.#find(namespace, id);
    if (!isRequester(before, principal) || !equalBytes(before.requestHash, requestHash)) {
      throw new TwofoldError('approval_mismatch');
    }
    const rules = await this.rules.requiredBy(namespace, question);
    const standing = await Promise.all(
      before.approvers.map((each) => stillMay(consentingOf(each))),
    );
    const approvers = before.approvers.filter((_, index) => standing[index] === true);
    // Where the rules are gone that asked for it, it still is what somebody agrees to.
    const satisfied =
      before.state === 'approved' && approvers.length > 0 && isSatisfied(tallyOf(rules, approvers));
    const write = await this.#write(before, {
      ...before,
      state: 'executed',
      endedAt: this.#parts.clock(),
    });
    return {
      admit: () => {
        this.#requireOpen(before);
        if (!satisfied) throw new TwofoldError('approval_pending');
      },
      alongside: [write],
      because: { approval: id },
    };
  }

  async #decide(
    grant: Grant<'approvals.decide' | 'approvals.withdraw'>,
    id: string,
    run: ApprovalRun,
    kind: PreparedApproval['kind'],
    next: (before: Approval) => Approval | Promise<Approval>,
  ): Promise<ApprovalDone> {
    return this.#changes.run(grant, run, async () => {
      const before = await this.#find(grant.namespace, id);
      const own = isRequester(before, grant.principal);
      if (kind === 'withdraw' && !own)
        throw new TwofoldError('forbidden', 'It is of another principal.');
      if (kind !== 'withdraw' && own) throw new TwofoldError('self_approval');
      if (run.ifMatch !== null && run.ifMatch !== before.revision)
        throw new TwofoldError('etag_mismatch');
      this.#requireOpen(before);
      const wanted = await next(before);
      const changes = JSON.stringify(wanted) !== JSON.stringify(before);
      const after = changes ? { ...wanted, revision: before.revision + 1 } : before;
      const writes = changes ? [await this.#write(before, after)] : [];
      return plainPlan({ kind, before, view: await this.#view(after) }, writes);
    });
  }

  async #write(before: Approval, after: Approval): Promise<KeyWrite> {
    const row = await attestApproval(this.#parts.mac, { ...after, revision: before.revision + 1 });
    return { kind: 'update-approval', row, expected: before.revision };
  }

  #ended(before: Approval, state: 'denied' | 'withdrawn', reason: string): Approval {
    return { ...before, state, reason, endedAt: this.#parts.clock() };
  }

  #requireOpen({ state, expiresAt }: Approval): void {
    if (state === 'executed') throw new TwofoldError('approval_used');
    if (!OPEN.includes(state)) throw new TwofoldError('approval_ended', `It was ${state}.`);
    if (expiresAt.getTime() <= this.#parts.clock().getTime())
      throw new TwofoldError('approval_expired');
  }

  async #find(namespace: string, id: string): Promise<Approval> {
    const row = await this.#parts.approvals.find(namespace, id);
    if (row === null) throw new TwofoldError('not_found');
    await this.#verify(row);
    return row.value;
  }

  /** Found altered, it is read again until it is whole. */
  #verify(row: Attested<Approval>): Promise<void> {
    const { integrity, mac, approvals } = this.#parts;
    const { id, namespace } = row.value;
    let first: Attested<Approval> | null = row;
    return integrity.over(JSON.stringify(['approval', id]), async () => {
      const read = first ?? (await approvals.find(namespace, id));
      first = null;
      if (read !== null) await verifyApproval(mac, read);
    });
  }

  #rulesOf({ namespace, guards, rule }: Approval): Promise<readonly StandingRule[]> {
    return this.rules.requiredBy(namespace, { guards: guards as readonly Guard[], rule });
  }

  async #view(approval: Approval): Promise<ApprovalView> {
    const needed = tallyOf(await this.#rulesOf(approval), approval.approvers);
    const over = approval.expiresAt.getTime() <= this.#parts.clock().getTime();
    const state = over && OPEN.includes(approval.state) ? 'expired' : approval.state;
    return { approval, state, needed };
  }
}

const placeText = ({ createdAt, id }: Approval) => `${createdAt.toISOString()} ${id}`;

function placeFrom(text: string) {
  const [createdAt = '', id = ''] = text.split(' ');
  return { createdAt: new Date(createdAt), id };
}
