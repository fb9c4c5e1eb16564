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

import { parseFlags } from '../cli/arguments.ts';
import type { Flags } from '../cli/arguments.ts';
import { typedLine } from '../cli/typed-line.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { runJoinEnd, runJoinOffer } from '../hsm/run-ceremony.ts';
import type { JoinRequest } from '../store/join-store.ts';
import type { Store } from '../store/store.ts';
import { besides, instanceBeside, operator, storeBeside } from './beside.ts';
import {
  answerTo,
  attested,
  fingerprintBytes,
  personOf,
  requireApprovable,
  requireAttested,
  requireOwn,
} from './join-request.ts';
import type { Taken } from './join-request.ts';
import { ceremonyPlace, clearAway, madeIn, placeRoots, rootHere, wrapRoots } from './join-roots.ts';
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

async function found(store: Store, id: string): Promise<JoinRequest> {
  const row = await store.joins.find(id);
  if (row === null) throw new TwofoldError('not_found', 'There is no such request.');
  return row;
}

/** What the other side said, from `--confirm` or typed; nothing is done before it is the same. */
async function requireConfirmed(
  { given }: Step,
  computed: string,
  { what, expiresAt }: { readonly what: string; readonly expiresAt: Date },
): Promise<void> {
  const otherwise = `The ${what} that the other side reads out is needed: --confirm HASH, or a terminal.`;
  const withinMs = Math.max(0, Math.min(expiresAt.getTime() - Date.now(), 86_400_000));
  const said =
    given('confirm') ??
    (await typedLine(`${what}, as the other side reads it out: `, { otherwise, withinMs }));
  requireSame(said, computed, what);
}

async function approve(step: Step): Promise<object> {
  const { config, store, unwinding, id, needed } = step;
  const [approvedBy, soPinFile] = [personOf(needed('operator')), needed('so-pin-file')];
  const row = await found(store, id);
  const offered = requireApprovable(row, { person: approvedBy, zone: config.zone.name });
  const fingerprint = fingerprintOfOffer(offered);
  await requireConfirmed(step, fingerprint, { what: 'fingerprint of the offer', ...row });
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
    const posted = await store.joins.answer(id, await attested(row, answer, opened.auditMac));
    if (!posted) throw await whyNot(store, id);
    return shown(row, made, fingerprint);
  } catch (error) {
    const code = TwofoldError.is(error) ? error.code : 'internal';
    await audit
      .recordOwn('root.join', { step: 'failed', ...about, code })
      .catch((unlogged: unknown) => {
        process.emitWarning(`the log does not have that this failed: ${String(unlogged)}`);
      });
    throw error;
  }
}

const shown = (row: JoinRequest, answer: ReturnType<typeof parseAnswer>, fingerprint: string) => ({
  ...{ id: row.id, for: row.zone, requestedBy: row.requestedBy, fingerprint },
  generations: answer.roots.map(({ root }) => root.generation),
  transcript: transcriptOfAnswer(answer),
  expiresAt: row.expiresAt.toISOString(),
});

/** Of an answer that the database did not take. */
async function whyNot(store: Store, id: string): Promise<TwofoldError> {
  const { state, expired } = await found(store, id);
  if (state === 'ended') return new TwofoldError('approval_ended', 'The request ended meanwhile.');
  if (expired) return new TwofoldError('approval_expired', 'The request expired meanwhile.');
  return new TwofoldError('approval_used', 'Somebody else answered the request meanwhile.');
}

/** Waits for the answer as long as the request lives. */
async function complete(step: Step): Promise<object> {
  const { config, store, id, needed } = step;
  const [person, soPinFile] = [personOf(needed('operator')), needed('so-pin-file')];
  const by = { person, zone: config.zone.name };
  for (;;) {
    const row = await found(store, id);
    requireOwn(row, by.zone);
    if (row.state === 'accepted') return finished(step, row);
    if (row.expired && row.state === 'answered') await clear(step, row, soPinFile);
    const answer = answerTo(row, by);
    if (answer !== null) return take(step, { row, answer, person, soPinFile });
    await sleep(LOOK_MS);
  }
}

/** Killed after the root was accepted: what is left is to show that it is whole, and to end the offer. */
async function finished({ config, store, unwinding }: Step, row: JoinRequest): Promise<object> {
  const { generations } = await rootHere(config, store, unwinding);
  await runJoinEnd(await ceremonyPlace(config));
  return { id: row.id, zone: row.zone, generations, made: 0 };
}

/** Killed before a canary was opened, and too late to go on: what opens nothing does not stay. */
async function clear(step: Step, row: JoinRequest, soPinFile: string): Promise<void> {
  const { config, store, unwinding } = step;
  const text = row.answered?.answer ?? null;
  if (text === null) return;
  await clearAway({ config, given: parseAnswer(text), soPinFile, store, unwinding });
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
  await requireConfirmed(step, transcript, { what: 'transcript of the answer', ...row });
  const { name: zone } = config.zone;
  const about = { request: id, zone, from: answer.zone, transcript, operator: operator() };
  const people = { ...{ requestedBy: row.requestedBy, approvedBy: answer.approvedBy }, person };
  const placed = await placeRoots({
    ...{ config, given: answer, soPinFile, store, unwinding },
    settle: async (opened, audit, made) => {
      await requireAttested(row, opened.auditMac);
      await audit.recordOwn('root.join', { step: 'accept', ...about, ...people, made });
      if (!(await store.joins.end(id, 'answered', 'accepted'))) await requireAccepted(store, id);
    },
  }).catch(async (error: unknown) => {
    if (!TwofoldError.is(error, 'integrity_failed')) throw error;
    await store.joins.end(id, 'answered', {
      problem: 'the answer did not open (integrity_failed)',
    });
    throw error;
  });
  const generations = answer.roots.map(({ root }) => root.generation);
  const custodies = placed.map(({ custody }) => custody);
  return { id, zone, generations, made: madeIn(placed), custodies, transcript };
}

async function requireAccepted(store: Store, id: string): Promise<void> {
  const { state } = await found(store, id);
  if (state === 'accepted') return;
  const detail = 'The request ended meanwhile. The root is on the token: see `hsm verify`.';
  throw new TwofoldError('approval_ended', detail);
}

/** Without the hashes: they are read out, and not copied from here. */
async function list({ store }: Step): Promise<object> {
  const rows = await store.joins.list();
  return {
    requests: rows.map((row) => ({
      ...{ id: row.id, zone: row.zone, requestedBy: row.requestedBy },
      state: row.expired && row.endedAt === null ? 'expired' : row.state,
      requestedAt: row.requestedAt.toISOString(),
      expiresAt: row.expiresAt.toISOString(),
      ...(row.answered === null
        ? {}
        : { approvedBy: row.answered.approvedBy, answeredFrom: row.answered.answeredFrom }),
      ...(row.endedAt === null ? {} : { endedAt: row.endedAt.toISOString() }),
      ...(row.problem === null ? {} : { problem: row.problem }),
    })),
  };
}

/** In the zone that asked, the private halves of its offer are destroyed as well. */
async function withdraw({ config, store, id, needed }: Step): Promise<object> {
  const person = personOf(needed('operator'));
  const { zone, state } = await found(store, id);
  if (state !== 'open' && state !== 'answered') {
    throw new TwofoldError('approval_ended', 'The request is over.');
  }
  const ended = await store.joins.end(id, state, { problem: `withdrawn by ${person}` });
  if (!ended) throw new TwofoldError('conflict', 'The request changed meanwhile.');
  const destroyed =
    zone === config.zone.name ? (await runJoinEnd(await ceremonyPlace(config))).destroyed : 0;
  return { id, zone, state: 'ended', destroyed };
}
