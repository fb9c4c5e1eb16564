/** Requests of zones that join (`join_request`); their times are the database's. */
import { TwofoldError } from '../errors.ts';
import { bufferOf } from './entry-columns.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import {
  COMMITTED,
  commitStatement,
  committedRead,
  committing,
  transaction,
} from './transaction.ts';

/** A request is answered and accepted within this, or made again. */
export const JOIN_LIFETIME_MS = 3_600_000;
/** Requests that are open or answered, of all zones. */
export const MOST_JOINS = 16;
/** How long requests that are over stay for who looks at them; the audit log has what was done. */
const KEPT = '90 days';

/** `problem` of those that ended because their time was over. */
export const EXPIRED = 'expired';

export type JoinState = 'open' | 'answered' | 'accepted' | 'ended';

/** What a zone asks for. */
export interface JoinPosting {
  readonly id: string;
  readonly zone: string;
  /** The offer as a file holds it. */
  readonly offer: string;
  /** 48 bytes, of the offer. */
  readonly fingerprint: Uint8Array;
  /** Who asks: a person's name. */
  readonly requestedBy: string;
}

export interface JoinAnswer {
  readonly approvedBy: string;
  /** The zone that answers. */
  readonly answeredFrom: string;
  /** The answer as a file holds it; null once it was taken, or the request ended. */
  readonly answer: string | null;
  readonly mac: Uint8Array;
}

export interface JoinRequest extends JoinPosting {
  readonly requestedAt: Date;
  readonly expiresAt: Date;
  /** By the clock of the database. */
  readonly expired: boolean;
  readonly state: JoinState;
  /** Null until there was one. */
  readonly answered: JoinAnswer | null;
  readonly endedAt: Date | null;
  /** Why it ended otherwise than by being accepted. */
  readonly problem: string | null;
}

/** Whoever looks (`post`, `find`, `list`) ends what has expired, with which its answer goes. */
export interface JoinStore {
  /**
   * In the place of any other of the zone, which ends.
   * @throws TwofoldError conflict for an offer that was there before; quota_exceeded where too many are open
   */
  post(posting: JoinPosting): Promise<void>;
  find(id: string): Promise<JoinRequest | null>;
  /** Newest first, 100 at most. */
  list(): Promise<readonly JoinRequest[]>;
  /** Of one that is open; false where it was not, or has expired: then nothing was written. */
  answer(id: string, answer: JoinAnswer & { readonly answer: string }): Promise<boolean>;
  /** The answer goes; false where it was not `from`, or `accepted` and expired: then nothing was written. */
  end(
    id: string,
    from: JoinState,
    end: 'accepted' | { readonly problem: string },
  ): Promise<boolean>;
}

const REPLACE = `update public.join_request
  set state = 'ended', answer = null, ended_at = current_timestamp, problem = $2
  where zone = $1 and state in ('open', 'answered')`;
const EXPIRE = `update public.join_request
  set state = 'ended', answer = null, ended_at = current_timestamp, problem = '${EXPIRED}'
  where state in ('open', 'answered') and expires_at <= current_timestamp`;
const FORGET = `delete from public.join_request where expires_at < current_timestamp - interval '${KEPT}'`;
const POST = `insert into public.join_request (id, zone, offer, fingerprint, requested_by, expires_at)
  select $1, $2, $3, $4, $5, current_timestamp + $6 * interval '1 millisecond'
  where (select count(*) from public.join_request
    where state in ('open', 'answered') and expires_at > current_timestamp) < $7`;
const ANSWER = `update public.join_request
  set state = 'answered', approved_by = $2, answered_from = $3, answer = $4, mac = $5
  where id = $1 and state = 'open' and expires_at > current_timestamp`;
const END = `update public.join_request set state = $3, answer = null, ended_at = current_timestamp, problem = $4
  where id = $1 and state = $2 and ($3 <> 'accepted' or expires_at > current_timestamp)`;

const COLUMNS = `j.id, j.zone, j.offer, j.fingerprint, j.requested_by, j.requested_at, j.expires_at,
  j.state, j.approved_by, j.answered_from, j.answer, j.mac, j.ended_at, j.problem,
  j.expires_at <= current_timestamp as expired`;
// Only the primary answers: what an old one says of a request may be over. Outer joins, so that there is
// something to commit where nothing is found: one row, of nulls.
const FIND = committing({
  name: 'join_find',
  text: `select ${COLUMNS} from ${COMMITTED} left join public.join_request j on j.id = $1`,
});
const LIST = committing({
  name: 'join_list',
  text: `select ${COLUMNS} from ${COMMITTED} left join public.join_request j on true
    order by j.requested_at desc, j.id desc limit 100`,
});

interface Row extends Record<string, unknown> {
  /** Null in the row that says that there is none. */
  readonly id: string | null;
  readonly zone: string;
  readonly offer: string;
  readonly fingerprint: Buffer;
  readonly requested_by: string;
  readonly requested_at: Date;
  readonly expires_at: Date;
  readonly state: JoinState;
  readonly approved_by: string | null;
  readonly answered_from: string | null;
  readonly answer: string | null;
  readonly mac: Buffer | null;
  readonly ended_at: Date | null;
  readonly problem: string | null;
  readonly expired: boolean;
}

const answeredOf = (row: Row): JoinAnswer | null =>
  row.mac === null || row.approved_by === null || row.answered_from === null
    ? null
    : {
        approvedBy: row.approved_by,
        answeredFrom: row.answered_from,
        answer: row.answer,
        mac: Uint8Array.from(row.mac),
      };

const fromRow = (row: Row & { readonly id: string }): JoinRequest => ({
  id: row.id,
  zone: row.zone,
  offer: row.offer,
  fingerprint: Uint8Array.from(row.fingerprint),
  requestedBy: row.requested_by,
  requestedAt: row.requested_at,
  expiresAt: row.expires_at,
  expired: row.expired,
  state: row.state,
  answered: answeredOf(row),
  endedAt: row.ended_at,
  problem: row.problem,
});

export const createJoinStore = (pool: GuardedPool): JoinStore => {
  const rows = async (statement: typeof FIND, values: readonly unknown[]) =>
    (await committedRead<Row>(pool, statement, values).catch(refuse))
      .filter((row): row is Row & { readonly id: string } => row.id !== null)
      .map(fromRow);
  const written = async (statement: string, values: readonly unknown[]): Promise<boolean> =>
    (await commitStatement(pool, statement, values).catch(refuse)).rowCount === 1;
  const looked = async (statement: typeof FIND, values: readonly unknown[]) => {
    const found = await rows(statement, values);
    if (!found.some(({ expired, endedAt }) => expired && endedAt === null)) return found;
    await commitStatement(pool, EXPIRE, []).catch(refuse);
    return rows(statement, values);
  };
  return {
    post: async ({ id, zone, offer, fingerprint, requestedBy }) => {
      const values = [id, zone, offer, bufferOf(fingerprint), requestedBy];
      await transaction(pool, async (sql) => {
        await sql.query(REPLACE, [zone, 'a newer request took its place']);
        await sql.query(EXPIRE);
        await sql.query(FORGET);
        const { rowCount } = await sql.query(POST, [...values, JOIN_LIFETIME_MS, MOST_JOINS]);
        if (rowCount !== 1) {
          const detail = `${String(MOST_JOINS)} requests are open: withdraw one, or wait for an hour.`;
          throw new TwofoldError('quota_exceeded', detail);
        }
      }).catch(refuse);
    },
    find: async (id) => (await looked(FIND, [id]))[0] ?? null,
    list: () => looked(LIST, []),
    answer: (id, { approvedBy, answeredFrom, answer, mac }) =>
      written(ANSWER, [id, approvedBy, answeredFrom, answer, bufferOf(mac)]),
    end: (id, from, end) =>
      written(END, end === 'accepted' ? [id, from, end, null] : [id, from, 'ended', end.problem]),
  };
};
