/**
 * What of the log lies outside the database: the newest checkpoint in the data folder, copies that are
 * published, and witnesses. By these a database that was rolled back is found; nothing that a caller
 * waits for waits for any of it.
 */
import { createHash } from 'node:crypto';
import type { CheckpointKeys } from '../audit/checkpoint-keys.ts';
import { logNameAndKeys } from '../audit/checkpoint-keys.ts';
import type { Cosignature } from '../audit/cosignature-ports.ts';
import type { LogReader } from '../audit/log-ports.ts';
import { SIGNATURE_TYPE, parseNote, parseVkey, signersOf } from '../audit/notes.ts';
import type { CheckpointNote, Vkey } from '../audit/notes.ts';
import { WitnessClient } from '../audit/witness/submission.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import type { OutsideLog } from '../http/dependencies.ts';
import type { Root } from '../keyring/root.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';
import { LogFollower } from './log-follower.ts';
import { LogOutlet } from './log-outlet.ts';
import { exchange, nameOf, publish, publishedCopies } from './log-places.ts';
import { checkNotRolledBack, seenBeyond } from './newest-checkpoint.ts';
import type { GivenUp, Seen, SeenBeyond } from './newest-checkpoint.ts';
import type { Unwinding } from './unwinding.ts';

interface CheckParts {
  readonly config: Pick<Config, 'audit' | 'dataDir'>;
  readonly store: Pick<Store, 'log' | 'logKeys'>;
  readonly root: Pick<Root, 'mac' | 'installation'>;
  readonly log: Pick<Log, 'warn'>;
}

const keysOf = (vkeys: readonly string[]): readonly Vkey[] =>
  vkeys.map(parseVkey).filter((key) => key !== null);

const clientsOf = (
  { witnesses }: Pick<Config['audit'], 'witnesses'>,
  reader: Pick<LogReader, 'tile'>,
): readonly WitnessClient[] =>
  witnesses.map(
    ({ url, vkeys }) =>
      new WitnessClient({
        ...{ url, keys: keysOf(vkeys), reader },
        post: (to, body) => exchange(to, 'POST', body),
      }),
  );

/**
 * To be called once the root is open, and before anything is written.
 * @throws TwofoldError log_rolled_back, integrity_failed
 */
export async function checkLogOutside(parts: CheckParts): Promise<GivenUp> {
  const { config } = parts;
  const given = await checkNotRolledBack({
    ...(await placesOf(parts)),
    accepted: config.audit.acceptRollback,
  });
  await checkWitnesses(parts);
  return given;
}

/**
 * What `checkLogOutside` would refuse of a log that was restored, and by which names it is given up.
 * @throws TwofoldError integrity_failed
 */
export async function logBeyond(parts: CheckParts): Promise<readonly SeenBeyond[]> {
  const seen = await seenBeyond(await placesOf(parts));
  const [newest] = seen;
  const witnessed = await witnessedElsewhere(parts);
  return [
    // Older ones of that history go with it.
    ...seen.filter(({ size }) => size === newest?.size),
    ...witnessed.map(({ url, size }) => ({ place: url, size, checkpoint: witnessHash(url, size) })),
  ];
}

/** What is outside the database and not asked over a network. */
async function placesOf({ config, store, root, log }: CheckParts) {
  const { audit } = config;
  const { origin, vkeys } = await logNameAndKeys(store.logKeys, {
    ...root,
    configured: audit.origin,
  });
  const published = await publishedCopies(audit.publishTo, (place) =>
    log.warn({ place }, 'a published checkpoint is not of this log, and was left aside'),
  );
  return {
    ...{ folder: config.dataDir, origin, reader: store.log },
    published: published.filter((seen) => counts(seen, origin, vkeys, log)),
  };
}

/**
 * A copy of another log, or on which a signature of this one is forged, is no reason not to start. One of this log's
 * name whose signers the database does not know at all is: that is what a copy from after a rotation of
 * the keys looks like to a database that was rolled back to before it.
 */
export const counts = (
  { place, note }: Seen,
  origin: string,
  vkeys: readonly string[],
  log: CheckParts['log'],
): boolean => {
  const keys = keysOf(vkeys);
  const isKnown = note.note.signatures.some((line) =>
    keys.some(({ name, keyId }) => name === line.name && keyId === line.keyId),
  );
  const types = signersOf(note, keys).map(({ key }) => key.type);
  const isSound = !isKnown || types.includes(SIGNATURE_TYPE.ed25519);
  if (note.checkpoint.origin !== origin || !isSound) {
    log.warn({ place }, 'a published checkpoint is not of this log, and was left aside');
    return false;
  }
  if (!isKnown)
    log.warn(
      { place },
      'a published checkpoint is signed by keys that this database does not know',
    );
  return true;
};

/** By what an operator gives up that a witness stands further: there is no checkpoint to name. */
const witnessHash = (url: string, size: number): string =>
  createHash('sha256')
    .update(`${url}\n${String(size)}\n`)
    .digest('hex');

type WitnessCheckParts = Pick<CheckParts, 'log'> & {
  readonly config: {
    readonly audit: Pick<Config['audit'], 'witnesses' | 'acceptRollback'>;
  };
  readonly store: { readonly log: Pick<LogReader, 'head' | 'tile'> };
};

/** A witness that has cosigned `size` entries which the log does not go on from, or has not got. */
interface Witnessed {
  readonly url: string;
  readonly size: number;
  readonly outcome: 'ahead' | 'contradicted';
}

/**
 * Whether every witness that answers has cosigned what the log goes on from.
 * @throws TwofoldError log_rolled_back
 */
export async function checkWitnesses(parts: WitnessCheckParts): Promise<void> {
  for (const witnessed of await witnessedElsewhere(parts)) {
    // Others may have gone on since: then the log has too.
    const { size } = await parts.store.log.head();
    if (witnessed.outcome === 'ahead' && size >= witnessed.size) continue;
    requireAccepted(parts.config, size, witnessed);
  }
}

/** Those that do not answer, or do not know the log, keep nobody from starting. */
async function witnessedElsewhere({
  config,
  store,
  log,
}: WitnessCheckParts): Promise<readonly Witnessed[]> {
  const { note: text } = await store.log.head();
  const note = text === null ? null : parseNote(text);
  if (text === null || note === null) return [];
  // An old primary may not have the tiles of that head: what a witness refuses then is no fork.
  const tile: LogReader['tile'] = (level, index, width) =>
    store.log.tile(level, index, width, true);
  const asked = clientsOf(config.audit, { tile }).map(async (client) => {
    const found = await client.submit(note, text);
    return { url: client.url, found };
  });
  const answers = await Promise.allSettled(asked);
  return answers.flatMap((answer) => {
    if (answer.status === 'rejected') {
      log.warn({ err: answer.reason as unknown }, 'a witness did not say how far it saw the log');
      return [];
    }
    const { url, found } = answer.value;
    if (found.outcome === 'refused') log.warn({ witness: url, ...found }, REFUSED);
    if (found.outcome === 'refused' || found.outcome === 'cosigned') return [];
    return [{ url, ...found }];
  });
}

const REFUSED = 'a witness refuses the log';

const requireAccepted = (
  { audit }: WitnessCheckParts['config'],
  has: number,
  { url, size, outcome }: Witnessed,
): void => {
  const hash = witnessHash(url, size);
  if (audit.acceptRollback?.checkpoints.includes(hash) === true) return;
  const wrong =
    outcome === 'ahead'
      ? `the log has ${String(has)}. The database was rolled back`
      : `the log of ${String(has)} entries is not a continuation of them. The database was rolled back or altered, ` +
        'or is another one';
  throw new TwofoldError(
    'log_rolled_back',
    `The witness ${url} has cosigned ${String(size)} entries of this log, but ${wrong}. ` +
      'Restore the newest state; where that is lost for good, see "After a roll-back" in deploy/witnesses.md: ' +
      `what to give up is ${hash}.`,
  );
};

export interface OutsideParts {
  readonly config: Pick<Config, 'audit' | 'dataDir'>;
  readonly store: Pick<Store, 'log' | 'cosignatures'>;
  readonly keys: CheckpointKeys;
  readonly worker: number;
  readonly log: Log;
}

export interface LogOutside {
  /** Looks at the log now; for whoever committed. */
  look(): void;
  readonly state: LogFollower['state'];
  /** The newest note that was verified here, with what witnesses said of it; null before the first. */
  newest(): string | null;
}

/** How long a cosigned checkpoint is shown in place of a newer one. */
const COSIGNED_MS = 300_000;

/** Follows, publishes and submits until unwound. */
export async function openLogOutside(
  { config, store, keys, worker, log }: OutsideParts,
  unwinding: Unwinding,
): Promise<LogOutside> {
  const trouble = (what: object, message: string) => (err: unknown) =>
    log.warn({ ...what, err }, message);
  let cosigned: { readonly text: string; readonly at: number } | null = null;
  const outlets: LogOutlet<Verified>[] = [
    ...config.audit.publishTo.map(
      (target) =>
        new LogOutlet<Verified>(
          ({ note, text }) => publish(target, note, text),
          trouble({ place: nameOf(target) }, 'a checkpoint could not be published; trying on'),
        ),
    ),
    ...clientsOf(config.audit, store.log).map(
      (client) =>
        new LogOutlet<Verified>(
          async (verified) => {
            const text = await submit(client, verified, store, log);
            if (text !== null) cosigned = { text, at: performance.now() };
          },
          trouble({ witness: client.url }, 'a checkpoint could not be witnessed; trying on'),
        ),
    ),
  ];
  const follower = new LogFollower({
    ...{ reader: store.log, keys, folder: config.dataDir, worker },
    onVerified: (note, text) => outlets.forEach((outlet) => outlet.offer({ note, text })),
    onTrouble: trouble({}, 'the log could not be followed; trying on'),
    onContradiction: (err) => log.fatal({ err }, 'the log was rolled back, or forked'),
  });
  await follower.start();
  unwinding.add('follower of the log', async () => {
    await follower.stop();
    await Promise.all(outlets.map((outlet) => outlet.stop()));
  });
  return {
    look: () => void follower.look(),
    get state() {
      return follower.state;
    },
    newest: () =>
      cosigned !== null && performance.now() - cosigned.at < COSIGNED_MS
        ? cosigned.text
        : follower.newest,
  };
}

interface Verified {
  readonly note: CheckpointNote;
  readonly text: string;
}

/** The note with the lines of the witness; null where another process has them, or it gives none. */
async function submit(
  client: WitnessClient,
  { note, text }: Verified,
  { log: reader, cosignatures }: OutsideParts['store'],
  log: Log,
): Promise<string | null> {
  const { size } = note.checkpoint;
  const known = await cosignatures.of(size);
  const lines = known.filter((line) => client.isBy(line));
  if (lines.length > 0) return withLines(text, known);
  const found = await client.submit(note, text);
  if (found.outcome === 'cosigned') {
    await cosignatures.add(size, found.lines);
    return withLines(text, [...known, ...found.lines]);
  }
  const witness = client.url;
  if (found.outcome !== 'ahead') {
    log.error({ witness, ...found }, REFUSED);
    return null;
  }
  const facts = { witness, size, stands: found.size };
  // Another process of this log may have gone on meanwhile, and then the log has: that is no fault.
  if ((await reader.head()).size >= found.size) log.info(facts, 'a witness stands further');
  else log.error(facts, 'a witness has cosigned more than the log has');
  return null;
}

/** What witnesses say stands after the lines of the log itself. */
export const withLines = (text: string, lines: readonly Cosignature[]): string =>
  [text, ...new Set(lines.map(({ line }) => line))].join('');

/** For listeners, which are there before it. */
export const outsideLog = (
  { audit }: Pick<Config, 'audit'>,
  late: { readonly outside: LogOutside | null; readonly witness: readonly string[] },
): OutsideLog => ({
  publicCheckpoint: () => (audit.publicCheckpoint ? (late.outside?.newest() ?? null) : null),
  witness: () => late.witness,
});
