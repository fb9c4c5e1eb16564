/**
 * The only way in which the store acknowledges: a transaction, or one statement that commits itself.
 *
 * Any error destroys the connection. What was certainly not applied is repeated with jitter inside
 * the caller's deadline; an unknown outcome is thrown as `OutcomeUnknown`, never repeated.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Leave } from './circuit.ts';
import { CircuitOpen, classify, isDiskFull, storeError } from './outcome.ts';
import type { Outcome, Phase } from './outcome.ts';
import type { GuardedClient, GuardedPool } from './pool.ts';

/**
 * A statement: its text, or with a name when it is to be prepared once per connection; its rows as
 * objects, or as arrays in the order of its columns.
 */
export type Statement =
  string | { readonly name: string; readonly text: string; readonly rowMode?: 'array' };

/** Statements inside one transaction, one at a time; dead once the transaction has ended. */
export interface Sql {
  query<Row extends pg.QueryResultRow>(
    statement: Statement,
    values?: readonly unknown[],
  ): Promise<pg.QueryResult<Row>>;
}

export interface DeadlineOptions {
  /** Milliseconds for everything, repeats included; 3000. */
  readonly deadlineMs?: number | undefined;
}

/** A failed attempt with what it means; the loop below unwraps it. */
class Attempt extends Error {
  readonly outcome: Outcome;

  constructor(cause: unknown, outcome: Outcome) {
    super('attempt failed', { cause });
    this.outcome = outcome;
  }
}

type Connection = pg.PoolClient & Pick<GuardedClient, 'statementDeadlineMs'>;

const send = async <Row extends pg.QueryResultRow>(
  client: Connection,
  until: number,
  limitMs: number,
  statement: Statement,
  values: readonly unknown[],
): Promise<pg.QueryResult<Row>> => {
  client.statementDeadlineMs = Math.max(1, Math.min(limitMs, until - performance.now()));
  const query = typeof statement === 'string' ? { text: statement } : statement;
  return client.query<Row>({ ...query, values: [...values] });
};

/** Whether commits of this role, given up or not, have waited for a standby for so many ms. */
const WAITING = `select exists (
    select from pg_stat_activity
    where usename = current_user and wait_event = 'SyncRep'
      and query_start < clock_timestamp() - $1 * interval '1 millisecond'
  ) as waiting`;

/**
 * The circuit may have opened while a commit waited for its connection; and a probe that waited as the
 * commits before it still do would only add to them.
 *
 * @throws CircuitOpen
 */
const assertHeldNoMore = async (
  { circuit, statementDeadlineMs }: GuardedPool,
  client: Connection,
  { isProbe }: Leave,
): Promise<void> => {
  if (!isProbe) {
    if (circuit.open) throw new CircuitOpen('commits are held back');
    return;
  }
  const { rows } = await client.query<{ waiting: boolean }>(WAITING, [statementDeadlineMs / 2]);
  if (rows[0]?.waiting !== false) throw new CircuitOpen('commits wait for a standby');
};

/** One attempt: `work` gets a connection and moves `phase` on; any error destroys the connection. */
const attempt = async <T>(
  pool: GuardedPool,
  work: (client: Connection, enterPhase: (phase: Phase) => void) => Promise<T>,
): Promise<T> => {
  let phase: Phase = 'connect';
  let client: Connection | undefined;
  let leave: Leave | undefined;
  try {
    leave = pool.circuit.enter();
    client = (await pool.connect()) as unknown as Connection;
    phase = 'open';
    await assertHeldNoMore(pool, client, leave);
    const result = await work(client, (next) => {
      phase = next;
    });
    client.release();
    leave.report('applied');
    return result;
  } catch (error) {
    // Nothing was sent that could have left the connection in doubt.
    if (error instanceof CircuitOpen) client?.release();
    else client?.release(error instanceof Error ? error : true);
    const outcome = classify(error, phase);
    leave?.report(outcome);
    throw new Attempt(error, outcome);
  }
};

const repeat = async <T>(deadlineMs: number, once: (until: number) => Promise<T>): Promise<T> => {
  const until = performance.now() + deadlineMs;
  for (let pause = 10; ; pause = Math.min(pause * 2, 250)) {
    try {
      return await once(until);
    } catch (error) {
      if (!(error instanceof Attempt)) throw error;
      const wait = pause * (0.5 + Math.random());
      const again = error.outcome === 'not_applied' && !isDiskFull(error.cause);
      if (!again || performance.now() + wait >= until) throw storeError(error.cause, error.outcome);
      await sleep(wait);
    }
  }
};

/** The transaction was answered with ROLLBACK: `fn` hid a failed statement. */
const assertCommitted = (command: string): void => {
  if (command !== 'COMMIT') throw new Error(`COMMIT was answered with ${command}`);
};

/**
 * Runs `fn` in a READ COMMITTED transaction and commits it; when this returns, the commit was
 * acknowledged under the server's synchronous rules.
 *
 * `fn` may run several times and therefore has no effect but through `sql`.
 *
 * @throws OutcomeUnknown when COMMIT had been sent and its outcome is not known.
 * @throws TwofoldError `database_unavailable` when nothing was applied within the deadline,
 *   `storage_full` when the server's disk is full.
 * @throws what `fn` threw, or pg's `DatabaseError` when the database refused a statement.
 */
export const transaction = async <T>(
  pool: GuardedPool,
  fn: (sql: Sql) => Promise<T>,
  { deadlineMs = 3000 }: DeadlineOptions = {},
): Promise<T> =>
  repeat(deadlineMs, (until) =>
    attempt(pool, async (client, enterPhase) => {
      let live = true;
      const run = <Row extends pg.QueryResultRow>(
        statement: Statement,
        values: readonly unknown[] = [],
      ) => send<Row>(client, until, pool.statementDeadlineMs, statement, values);
      const sql: Sql = {
        query: async (statement, values) => {
          if (!live) throw new Error('the transaction has ended');
          return run(statement, values);
        },
      };
      try {
        await run('BEGIN');
        const result = await fn(sql);
        live = false;
        enterPhase('commit');
        const { command } = await run('COMMIT');
        if (command !== 'COMMIT') enterPhase('open');
        assertCommitted(command);
        return result;
      } finally {
        live = false;
      }
    }),
  );

/**
 * Runs one statement that commits itself, such as a call of a function that appends, in one round
 * trip. Errors as for `transaction`.
 */
export const commitStatement = async <Row extends pg.QueryResultRow>(
  pool: GuardedPool,
  statement: Statement,
  values: readonly unknown[] = [],
  { deadlineMs = 3000 }: DeadlineOptions = {},
): Promise<pg.QueryResult<Row>> =>
  repeat(deadlineMs, (until) =>
    attempt(pool, (client, enterPhase) => {
      enterPhase('commit');
      return send<Row>(client, until, pool.statementDeadlineMs, statement, values);
    }),
  );

/**
 * Runs a read, by Prisma or SQL, and repeats it after any lost connection: a read has no outcome
 * that could be unknown.
 *
 * @throws TwofoldError `database_unavailable` when no attempt succeeded within the deadline.
 */
export const read = async <T>(
  fn: () => Promise<T>,
  { deadlineMs = 3000 }: DeadlineOptions = {},
): Promise<T> =>
  repeat(deadlineMs, async () => {
    try {
      return await fn();
    } catch (error) {
      throw new Attempt(error, classify(error, 'open'));
    }
  });

/** What a committed read selects from: a transactional message is a WAL record without effect. */
export const COMMITTED = `pg_logical_emit_message(true, 'twofold', '')`;

type Prepared = Exclude<Statement, string>;

/** No statement has this member: `committing` alone makes one of the type. */
declare const commits: unique symbol;

/** A statement that reads and commits a record of its own, whatever it finds. */
export type Committing = Prepared & { readonly [commits]: true };

const all = new Map<string, Committing>();

/** Each that was made, for the test that shows that no server in recovery answers one. */
export const committingStatements = (): readonly Committing[] => [...all.values()];

/**
 * Makes a statement that only the primary answers. It selects from `COMMITTED`, or calls `by` that emits such
 * a message itself. What it reads is joined so that there is a row where nothing is found: outer joins, whose row of
 * nulls the caller drops. An inner join, or a condition behind the join, has plans that find out first
 * that there is nothing and commit nothing, and those an old primary answers.
 */
export const committing = (statement: Prepared, by = COMMITTED): Committing => {
  const { name, text } = statement;
  if (!text.includes(by)) throw new TypeError(`${name} commits nothing`);
  if (all.has(name)) throw new TypeError(`there are two statements ${name}`);
  const made = statement as Committing;
  all.set(name, made);
  return made;
};

/**
 * Runs a statement that reads and also commits a record of its own, so that only the
 * primary answers it: an old one serves reads for as long as it lives, but cannot commit.
 * `accept` refuses an answer by throwing; that connection is destroyed and the read repeated.
 *
 * @throws TwofoldError `database_unavailable` when no attempt succeeded within the deadline.
 */
export const committedRead = async <Row extends pg.QueryResultRow>(
  pool: GuardedPool,
  statement: Committing,
  values: readonly unknown[],
  accept: (rows: readonly Row[]) => void = () => undefined,
): Promise<readonly Row[]> =>
  repeat(3000, async (until) => {
    try {
      return await attempt(pool, async (client, enterPhase) => {
        enterPhase('commit');
        const result = await send<Row>(client, until, pool.statementDeadlineMs, statement, values);
        accept(result.rows);
        return result.rows;
      });
    } catch (error) {
      // A read has no outcome that could be unknown, but the circuit was told of it.
      if (!(error instanceof Attempt) || error.outcome !== 'unknown') throw error;
      throw new Attempt(error.cause, 'not_applied');
    }
  });
