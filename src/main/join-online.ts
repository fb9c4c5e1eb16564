/**
 * `twofold hsm join request | approve | complete | list | withdraw`: the ceremony of `join-command.ts` where
 * both sides reach the database. Offer and answer are the same bytes; the database is what carries them.
 *
 *     the zone that joins                    a zone that has the root
 *     request    offer on the token, posted
 *                                            approve    hash of the offer typed; intent in the log; roots
 *                                                       wrapped; outcome in the log; answer posted
 *     complete   hash of the answer typed; roots unwrapped, canaries opened; log; request over; offer gone
 *
 * A command that was killed is run again: `request` begins anew, `approve` answers or shows what it answered,
 * `complete` goes on with what is on the token.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import type { RunningAuditLog } from '../audit/log.ts';
import { parseFlags } from '../cli/arguments.ts';
import type { Flags } from '../cli/arguments.ts';
import { typedLine } from '../cli/typed-line.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import type { JoinEnded } from '../hsm/ceremony-join.ts';
import { runJoinOffer } from '../hsm/run-ceremony.ts';
import { EXPIRED } from '../store/join-store.ts';
import type { JoinRequest } from '../store/join-store.ts';
import type { Store } from '../store/store.ts';
import { besides, instanceBeside, operator, storeBeside } from './beside.ts';
import {
  answeredBy,
  answerTo,
  attested,
  fingerprintBytes,
  isUnknown,
  personOf,
  publicKeyOf,
  requireApprovable,
  requireAttested,
  requireOwn,
  requirePlain,
  visible,
} from './join-request.ts';
import type { Taken } from './join-request.ts';
import {
  ceremonyPlace,
  endJoin,
  madeIn,
  placeRoots,
  requireKnown,
  rootHere,
  wrapRoots,
} from './join-roots.ts';
import {
  answerText,
  fingerprintOfOffer,
  offerText,
  parseAnswer,
  requireSame,
  transcriptOfAnswer,
} from './join-text.ts';
import type { Offer } from './join-text.ts';
import type { Unwinding } from './unwinding.ts';

export const ONLINE_USAGE = `Where both sides reach the database, without files:
  twofold hsm join request --operator NAME                                                   in the zone that joins
  twofold hsm join approve ID --operator NAME --so-pin-file FILE [--confirm FINGERPRINT]     in a zone that has the root
  twofold hsm join complete ID --operator NAME --so-pin-file FILE [--confirm TRANSCRIPT]     in the zone that joins
  twofold hsm join list
  twofold hsm join withdraw ID --operator NAME`;

const LOOK_MS = 1_000;

const refused = (detail: string) => new TwofoldError('invalid_value', detail);

interface Step {
  readonly config: Config;
  readonly store: Store;
  readonly unwinding: Unwinding;
  /** The request that is named, for commands that name one. */
  readonly id: string;
  /** The value of a flag. @throws TwofoldError invalid_value where it was not given */
  readonly needed: (name: string) => string;
  readonly given: (name: string) => string | undefined;
}

interface Command {
  readonly flags: Flags;
  readonly names: boolean;
  readonly run: (step: Step) => Promise<object>;
}

const OPERATOR = { operator: 'value' } as const;
const PIN = { ...OPERATOR, 'so-pin-file': 'value', confirm: 'value' } as const;

const COMMANDS: ReadonlyMap<string, Command> = new Map([
  ['request', { flags: OPERATOR, names: false, run: request }],
  ['approve', { flags: PIN, names: true, run: approve }],
  ['complete', { flags: PIN, names: true, run: complete }],
  ['list', { flags: {}, names: false, run: list }],
  ['withdraw', { flags: OPERATOR, names: true, run: withdraw }],
]);

/**
 * What the command has to say; null for what is no command of these.
 * @throws TwofoldError
 */
export async function joinOnline(config: Config, argv: readonly string[]): Promise<object | null> {
  const [name = '', ...others] = argv;
  const command = COMMANDS.get(name);
  if (command === undefined) return null;
  const { values, positional } = parseFlags(others, command.flags);
  const [id = ''] = positional;
  if (positional.length !== (command.names ? 1 : 0)) throw refused(ONLINE_USAGE);
  if (command.names && !/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/u.test(id)) {
    throw refused('A request is named by the id that `hsm join request` printed.');
  }
  const given = (flag: string) => values.get(flag)?.[0];
  const needed = (flag: string) => {
    const value = given(flag);
    if (value === undefined) throw refused(`--${flag} is needed.\n${ONLINE_USAGE}`);
    return value;
  };
  return besides(async (unwinding) => {
    const store = await storeBeside(config, unwinding);
    return command.run({ config, store, unwinding, id, needed, given });
  });
}

/** A new offer in the place of any other of this zone, here and in the database. */
async function request({ config, store, needed }: Step): Promise<object> {
  const requestedBy = personOf(needed('operator'));
  const zone = config.zone.name;
  const { publicKey } = await runJoinOffer(await ceremonyPlace(config));
  const made: Offer = { zone, publicKey };
  const id = randomUUID();
  const fingerprint = fingerprintBytes(made);
  await store.joins.post({ id, zone, offer: offerText(made), fingerprint, requestedBy });
  const { expiresAt } = await found(store, id);
  return { id, zone, fingerprint: fingerprintOfOffer(made), expiresAt: expiresAt.toISOString() };
}

async function rowOf(store: Pick<Store, 'joins'>, id: string): Promise<JoinRequest> {
  const row = await store.joins.find(id);
  if (row === null) throw new TwofoldError('not_found', 'There is no such request.');
  return row;
}

/** Of which nothing is used before it is known to be what a command could have written. */
const found = async (store: Store, id: string): Promise<JoinRequest> =>
  requirePlain(await rowOf(store, id));

/** What the other side said, from `--confirm` or typed; nothing is done before it is the same. */
async function requireConfirmed(
  { given }: Step,
  computed: string,
  about: { readonly who: string; readonly what: string; readonly expiresAt: Date },
): Promise<void> {
  const { who, what, expiresAt } = about;
  const otherwise = `The ${what} that the other side reads out is needed: --confirm HASH, or a terminal.`;
  const withinMs = Math.max(0, Math.min(expiresAt.getTime() - Date.now(), 86_400_000));
  const prompt = `${who}\n${what}, as the other side reads it out: `;
  const said = given('confirm') ?? (await typedLine(prompt, { otherwise, withinMs }));
  requireSame(said, computed, what);
}

const changed = () =>
  new TwofoldError(
    'integrity_failed',
    'The request changed while the hash was typed. Begin again with `hsm join request`.',
  );

/** Somebody may have written the row while a person typed. */
async function approvable(
  step: Step,
  by: { readonly person: string; readonly zone: string },
): Promise<{ readonly row: JoinRequest; readonly offered: Offer; readonly fingerprint: string }> {
  const { store, id } = step;
  const first = await found(store, id);
  const fingerprint = fingerprintOfOffer(requireApprovable(first, by));
  const { zone, requestedBy, requestedAt, expiresAt } = first;
  const who = `Zone ${zone} asks for the root, by ${requestedBy}, at ${requestedAt.toISOString()}.`;
  const what = 'fingerprint of the offer';
  await requireConfirmed(step, fingerprint, { who, what, expiresAt });
  const row = await found(store, id);
  const offered = requireApprovable(row, by);
  if (fingerprintOfOffer(offered) !== fingerprint || row.requestedBy !== requestedBy) {
    throw changed();
  }
  return { row, offered, fingerprint };
}

async function approve(step: Step): Promise<object> {
  const { config, store, unwinding, id, needed } = step;
  const [approvedBy, soPinFile] = [personOf(needed('operator')), needed('so-pin-file')];
  const by = { person: approvedBy, zone: config.zone.name };
  const { row, offered, fingerprint } = await approvable(step, by);
  const opened = await rootHere(config, store, unwinding);
  if (row.answered !== null && row.answered.answer !== null) {
    // It was answered, and whoever did so may not have lived to read what is printed.
    await requireAttested(row, opened.auditMac);
    return shown(row, parseAnswer(row.answered.answer), fingerprint);
  }
  const { audit } = await instanceBeside(config, store, opened, unwinding);
  const about = {
    ...{ request: id, zone: row.zone, fingerprint, operator: operator(), approvedBy },
    ...{ requestedBy: row.requestedBy, requestedAt: row.requestedAt.toISOString() },
  };
  await audit.recordOwn('root.join', { step: 'intent', ...about });
  try {
    const { publicKey } = offered;
    const roots = await wrapRoots(config, store, { publicKey, soPinFile });
    const made = { zone: config.zone.name, roots };
    const transcript = transcriptOfAnswer(made);
    const generations = roots.map(({ root }) => root.generation).join(' ');
    await audit.recordOwn('root.join', { step: 'answer', ...about, transcript, generations });
    const answer = { approvedBy, answeredFrom: made.zone, answer: answerText(made) };
    const signed = await attested(row, answer, opened.auditMac);
    if (!(await answeredBy(store.joins, id, signed))) throw await whyNot(store, id);
    return shown(row, made, fingerprint);
  } catch (error) {
    await logFailed(audit, about, error);
    throw error;
  }
}

/** The entry says `unknown` where the answer may yet be in the database. */
async function logFailed(
  audit: Pick<RunningAuditLog, 'recordOwn'>,
  about: Readonly<Record<string, string>>,
  error: unknown,
): Promise<void> {
  const step = isUnknown(error) ? 'unknown' : 'failed';
  const code = TwofoldError.is(error) ? error.code : 'internal';
  await audit.recordOwn('root.join', { step, ...about, code }).catch((unlogged: unknown) => {
    process.emitWarning(`the log does not have that this failed: ${String(unlogged)}`);
  });
}

const shown = (row: JoinRequest, answer: ReturnType<typeof parseAnswer>, fingerprint: string) => ({
  ...{ id: row.id, for: row.zone, requestedBy: row.requestedBy, fingerprint },
  generations: answer.roots.map(({ root }) => root.generation),
  transcript: transcriptOfAnswer(answer),
  expiresAt: row.expiresAt.toISOString(),
});

/** Of what the database did not take. */
async function whyNot(store: Store, id: string): Promise<TwofoldError> {
  const { state, expired, problem } = await rowOf(store, id);
  if (expired && (state !== 'ended' || problem === EXPIRED)) {
    return new TwofoldError('approval_expired', 'The request expired meanwhile.');
  }
  if (state === 'ended') return new TwofoldError('approval_ended', 'The request ended meanwhile.');
  return new TwofoldError('approval_used', 'Somebody else answered the request meanwhile.');
}

/** Waits for the answer as long as the request lives; what ends the join for good leaves nothing of it. */
async function complete(step: Step): Promise<object> {
  const person = personOf(step.needed('operator'));
  const soPinFile = step.needed('so-pin-file');
  try {
    // The sessions are closed before anything of theirs is destroyed.
    return await besides((unwinding) => completing({ ...step, unwinding }, person, soPinFile));
  } catch (error) {
    if (isFinal(error)) await over(step, error);
    throw error;
  }
}

/** After which the same request cannot be completed any more. */
const isFinal = (error: unknown): error is TwofoldError =>
  TwofoldError.is(error, 'integrity_failed') ||
  TwofoldError.is(error, 'approval_ended') ||
  TwofoldError.is(error, 'approval_expired');

async function completing(step: Step, person: string, soPinFile: string): Promise<object> {
  const { config, store, id } = step;
  const by = { person, zone: config.zone.name };
  for (;;) {
    const row = await found(store, id);
    requireOwn(row, by.zone);
    if (row.state === 'accepted') return finished(step, row);
    const answer = answerTo(row, by);
    if (answer === null) {
      await sleep(LOOK_MS);
      continue;
    }
    const transcript = transcriptOfAnswer(answer);
    const who = `Zone ${answer.zone} answers, by ${answer.approvedBy}.`;
    const about = { who, what: 'transcript of the answer', expiresAt: row.expiresAt };
    const unconfirmed = await requireConfirmed(step, transcript, about).then(
      () => null,
      (error: unknown) => ({ error }),
    );
    // Again, as somebody may have written it while a person typed; it may also be too late.
    const now = await found(store, id);
    if (now.state === 'accepted') return finished(step, now);
    const same = answerTo(now, by);
    if (unconfirmed !== null) throw unconfirmed.error;
    if (same === null || transcriptOfAnswer(same) !== transcript) throw changed();
    return take(step, { row: now, answer: same, person, soPinFile });
  }
}

/** Killed after the root was accepted: what is left is to show that it is whole, and to end the offer. */
async function finished({ config, store, unwinding }: Step, row: JoinRequest): Promise<object> {
  const { generations, auditMac } = await rootHere(config, store, unwinding);
  await requireAttested(row, auditMac);
  const { publicKey } = requireOwn(row, config.zone.name);
  await endJoin(config, publicKey, { accepted: true });
  return { id: row.id, zone: row.zone, generations, made: 0 };
}

/** The row of another zone says nothing of what is here. Of one that is accepted the root stays, for `hsm verify`. */
async function over({ config, store, id }: Step, why: TwofoldError): Promise<void> {
  try {
    const row = await store.joins.find(id);
    if (row === null || row.zone !== config.zone.name) return;
    const { state } = await ended(store, row, `the answer was not taken (${why.code})`);
    // Of a row that was altered, whichever offer is open here.
    await endJoin(config, publicKeyOf(row), { accepted: state === 'accepted' });
  } catch (error) {
    process.emitWarning(
      `what the offer left here was not destroyed (${String(error)}): run the command again, or \`hsm join withdraw\``,
    );
  }
}

/** Looks at a row that somebody else writes as well. */
const MOST_LOOKS = 5;

/**
 * Ends a request that is not over, before anything of it is destroyed: no `complete` that runs beside can have
 * it accepted any more. A run that is killed in between destroys when it is run again, as it is over then.
 * @throws TwofoldError conflict where others kept changing it: nothing was written, or destroyed
 */
async function ended(
  store: Pick<Store, 'joins'>,
  first: JoinRequest,
  problem: string,
): Promise<{ readonly state: 'accepted' | 'ended'; readonly now: boolean }> {
  let row = first;
  for (let look = 1; look <= MOST_LOOKS; look += 1) {
    const { id, state } = row;
    if (state === 'accepted' || state === 'ended') return { state, now: false };
    if (await store.joins.end(id, state, { problem })) return { state: 'ended', now: true };
    row = await rowOf(store, id);
  }
  throw new TwofoldError('conflict', 'The request keeps changing.');
}

interface Taking {
  readonly row: JoinRequest;
  readonly answer: Taken;
  readonly person: string;
  readonly soPinFile: string;
}

async function take(step: Step, { row, answer, person, soPinFile }: Taking): Promise<object> {
  const { config, store, unwinding, id } = step;
  const transcript = transcriptOfAnswer(answer);
  const { name: zone } = config.zone;
  const about = {
    ...{ request: id, zone, from: answer.zone, transcript, operator: operator() },
    ...{ requestedBy: row.requestedBy, approvedBy: answer.approvedBy, person },
  };
  await requireOfHere(store, answer);
  const placed = await placeRoots({
    ...{ config, given: answer, soPinFile, store, unwinding },
    settle: async (opened, audit, made) => {
      try {
        await requireAttested(row, opened.auditMac);
        await (await audit()).recordOwn('root.join', { step: 'accept', ...about, made });
        if (!(await store.joins.end(id, 'answered', 'accepted'))) await requireAccepted(store, id);
      } catch (error) {
        if (isFinal(error)) await logFailed(await audit(), about, error);
        throw error;
      }
    },
  });
  const generations = answer.roots.map(({ root }) => root.generation);
  const custodies = placed.map(({ custody }) => custody);
  return { id, zone, generations, made: madeIn(placed), custodies, transcript };
}

/** The request has no other answer than this, so that there is nothing to try again. */
async function requireOfHere(store: Store, answer: Taken): Promise<void> {
  const rows = await store.roots.generations();
  try {
    requireKnown(rows, answer);
  } catch (cause) {
    if (!TwofoldError.is(cause, 'conflict')) throw cause;
    throw new TwofoldError('integrity_failed', cause.message, { cause });
  }
}

async function requireAccepted(store: Store, id: string): Promise<void> {
  const { state } = await rowOf(store, id);
  if (state !== 'accepted') throw await whyNot(store, id);
}

/** Without the hashes: they are read out, and not copied from here. */
async function list({ store }: Step): Promise<object> {
  const rows = await store.joins.list();
  return {
    requests: rows.map((row) => ({
      ...{ id: row.id, zone: visible(row.zone), requestedBy: visible(row.requestedBy) },
      state: row.problem === EXPIRED ? 'expired' : row.state,
      requestedAt: row.requestedAt.toISOString(),
      expiresAt: row.expiresAt.toISOString(),
      ...(row.answered === null
        ? {}
        : {
            approvedBy: visible(row.answered.approvedBy),
            answeredFrom: visible(row.answered.answeredFrom),
          }),
      ...(row.endedAt === null ? {} : { endedAt: row.endedAt.toISOString() }),
      ...(row.problem === null ? {} : { problem: visible(row.problem) }),
    })),
  };
}

/**
 * In the zone that asked, the private halves of its offer are destroyed as well, and unless it was accepted
 * what it had placed; also of a request that is over. A newer offer is not this request's to end.
 */
async function withdraw({ config, store, id, needed }: Step): Promise<object> {
  const person = personOf(needed('operator'));
  const row = await rowOf(store, id);
  const { zone } = row;
  const publicKey = zone === config.zone.name ? requireOwn(row, zone).publicKey : null;
  const { state, now } = await ended(store, row, `withdrawn by ${person}`);
  const { destroyed, roots }: JoinEnded =
    publicKey === null
      ? { destroyed: 0, roots: [] }
      : await endJoin(config, publicKey, { accepted: state === 'accepted' });
  if (!now && destroyed === 0 && roots.length === 0) {
    throw new TwofoldError('approval_ended', 'The request is over.');
  }
  const generations = roots.map(({ generation }) => generation);
  return { id, zone: visible(zone), state, destroyed, roots: generations };
}
