/** What the sequencer reads and writes; see migrations 0022 and 0064. */
import type {
  CheckpointThinning,
  LaneEntry,
  LaneRange,
  LaneView,
  SequencerStore,
  Stage,
  StageOutcome,
  StoredEdge,
} from '../audit/sequencer-ports.ts';
import type { Tile } from '../audit/tree/edge.ts';
import { HASH_BYTES } from '../audit/tree/hashes.ts';
import { MAX_LEVEL } from '../audit/tree/tiles.ts';
import { bufferOf } from './entry-columns.ts';
import { refuse } from './failures.ts';
import { sqlState } from './outcome.ts';
import type { GuardedPool } from './pool.ts';
import { COMMITTED, commitStatement, committedRead, committing, read } from './transaction.ts';

/**
 * `last` by the primary key, backwards; an empty lane has none. A lane that is open and marked as drained would take
 * entries of which the log never hears.
 */
const LANES = `select l.id as lane, l.kind, l.next, l.closed, l.drained,
    coalesce((select e.n from public.entry e where e.lane = l.id order by e.n desc limit 1), 0)
      as last,
    coalesce((select r.from_n + r.count from public.log_run r where r.lane = l.id
      order by r.from_n desc limit 1), 1) as sequenced,
    case when i.use_lane = l.id and l.kind = 'use' then i.use_count
      when i.change_lane = l.id and l.kind = 'change' then i.change_count end as announced
  from public.lane l left join public.instance i on i.id = l.instance
  where not (l.drained and l.closed)`;
const PLAIN_LANES = { name: 'sequencer_lanes', text: `${LANES} order by l.id` };
const CERTAIN_LANES = committing({
  name: 'sequencer_lanes_certain',
  text: `select v.* from ${COMMITTED} left join (${LANES}
      or exists (select from public.entry e where e.lane = l.id and e.n >= l.next)) v on true
    order by v.lane`,
});

/**
 * Where nothing is found: the outer join's row, which is left out here. A condition for it would make the join an
 * inner one, whose plan may find nothing before it commits the message, and so be answered by an old primary.
 */
interface NoLane {
  readonly lane: null;
}

interface LaneRow {
  readonly lane: number;
  readonly kind: string;
  readonly next: string;
  readonly last: string;
  readonly sequenced: string;
  readonly closed: boolean;
  readonly drained: boolean;
  readonly announced: string | null;
}

const viewOf = (row: LaneRow): LaneView => ({
  lane: row.lane,
  kind: row.kind === 'change' ? 'change' : 'use',
  next: Number(row.next),
  sequenced: Number(row.sequenced),
  last: Number(row.last),
  closed: row.closed,
  drained: row.drained,
  announced: row.announced === null ? null : Number(row.announced),
});

const INTAKE = `select e.lane, e.n, e.leaf, e.body, e.batch_hmac
  from unnest($1::integer[], $2::bigint[], $3::bigint[]) with ordinality w(lane, from_n, until_n, o)
  cross join lateral (select * from public.entry x
    where x.lane = w.lane and x.n >= w.from_n and x.n < w.until_n) e`;
const PLAIN_INTAKE = {
  name: 'sequencer_intake',
  text: `${INTAKE} order by w.o, e.n`,
  rowMode: 'array',
} as const;
const CERTAIN_INTAKE = committing({
  name: 'sequencer_intake_certain',
  text: `select v.lane, v.n, v.leaf, v.body, v.batch_hmac from ${COMMITTED} left join (
      ${INTAKE.replace('select ', 'select w.o, ')}) v on true
    order by v.o, v.n`,
  rowMode: 'array',
});

type IntakeRow = readonly [number, string, Buffer, Buffer, Buffer | null];
/** As for lanes. */
type NoRow = readonly [null, null, null, null, null];

const entryOf = ([lane, n, leaf, body, batchHmac]: IntakeRow): LaneEntry => ({
  lane,
  n: Number(n),
  leaf,
  body,
  batchHmac,
});

/** In the order of the primary key; of no entry all is null. */
const HOLDS = {
  name: 'sequencer_holds',
  text: `select bool_and(e.leaf = sha256('\\x00'::bytea || e.body)) as hashed,
      sha256(string_agg(coalesce(e.batch_hmac, '') || e.leaf, ''::bytea order by e.n)) as digest
    from public.entry e where e.lane = $1 and e.n >= $2 and e.n < $3`,
};

interface HoldsRow {
  readonly hashed: boolean | null;
  readonly digest: Buffer | null;
}

/** One snapshot; the leaves behind the last full tile are found through the runs. */
const EDGE = committing({
  name: 'sequencer_edge',
  text: `select h.size, h.root, h.note, c.size as checkpoint_size, c.note as checkpoint_note,
      array(select x.leaf from public.log_run r
        cross join lateral (
          select e.leaf, r.first + e.n - r.from_n as at from public.entry e
          where e.lane = r.lane and e.n >= r.from_n + greatest(0, h.size / 256 * 256 - r.first)
            and e.n < r.from_n + r.count) x
        where r.first < h.size and r.first >= (select coalesce(max(o.first), 0)
          from public.log_run o where o.first <= h.size / 256 * 256)
        order by x.at) as leaves,
      (select json_agg(json_build_array(t.level, t.index, encode(t.hashes, 'hex')))
        from generate_series(1, ${MAX_LEVEL}) s(level)
        join public.log_tile t on t.level = s.level
          and t.index = h.size / (256::numeric ^ (s.level + 1))::bigint) as tiles
    from ${COMMITTED} cross join public.log_head h
    left join (select * from public.log_checkpoint order by size desc limit 1) c on true`,
});

interface EdgeRow {
  readonly size: string;
  readonly root: Buffer;
  readonly note: string | null;
  readonly checkpoint_size: string | null;
  readonly checkpoint_note: string | null;
  readonly leaves: readonly Buffer[];
  readonly tiles: readonly (readonly [number, number, string])[] | null;
}

const tileOf = (level: number, index: number, hashes: Uint8Array): Tile => ({
  level,
  index,
  hashes,
  width: hashes.length / HASH_BYTES,
});

const edgeOf = (row: EdgeRow): StoredEdge => {
  const { note, checkpoint_size: checkpointSize, checkpoint_note: checkpointNote } = row;
  const size = Number(row.size);
  const partial = tileOf(0, Math.floor(size / 256), Buffer.concat(row.leaves));
  const above = (row.tiles ?? []).map(([level, index, hex]) =>
    tileOf(level, index, Buffer.from(hex, 'hex')),
  );
  const checkpoint =
    checkpointNote === null ? null : { size: Number(checkpointSize), note: checkpointNote };
  return { size, root: Uint8Array.from(row.root), note, checkpoint, tiles: [partial, ...above] };
};

const SEQUENCE = {
  name: 'sequence_leaves',
  text: 'select public.sequence_leaves($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14) as led',
};

/** Of level 0 only whole tiles are kept. */
const isKept = ({ level, width }: Tile): boolean => level > 0 || width === 256;

const stageValues = ({ term, holder, before, after, runs, tiles }: Stage): readonly unknown[] => {
  const kept = tiles.filter(isKept);
  return [
    term,
    holder,
    before.size,
    bufferOf(before.root),
    after.size,
    bufferOf(after.root),
    after.note,
    runs.map(({ lane }) => lane),
    runs.map(({ from }) => from),
    runs.map(({ count }) => count),
    kept.map(({ level }) => level),
    kept.map(({ index }) => index),
    kept.map(({ hashes }) => bufferOf(hashes)),
    runs.map(({ leaf }) => bufferOf(leaf)),
  ];
};

/** The head, a cursor, or an entry is another. */
const MOVED = new Set(['TF030', 'TF031']);

const PROGRESS = `select h.size,
    (extract(epoch from clock_timestamp() - c.at) * 1000)::bigint as age,
    (select coalesce(sum(greatest(0, v.last - v.next + 1)), 0) from (${LANES}) v) as unsequenced
  from public.log_head h
  left join (select at from public.log_checkpoint order by size desc limit 1) c on true`;

interface ProgressRow {
  readonly size: string;
  readonly age: string | null;
  readonly unsequenced: string;
}

export const createSequencerStore = (pool: GuardedPool): SequencerStore => ({
  lanes: async (certain) => {
    const rows = certain
      ? await committedRead<LaneRow | NoLane>(pool, CERTAIN_LANES, []).catch(refuse)
      : await plain<LaneRow>(pool, PLAIN_LANES, []);
    return rows.flatMap((row) => (row.lane === null ? [] : [viewOf(row)]));
  },

  intake: async (ranges, certain) => {
    const values = intakeValues(ranges);
    const rows: readonly unknown[] = certain
      ? await committedRead(pool, CERTAIN_INTAKE, values).catch(refuse)
      : await plain(pool, PLAIN_INTAKE, values);
    const found = rows as readonly (IntakeRow | NoRow)[];
    return found.flatMap((row) => (row[0] === null ? [] : [entryOf(row)]));
  },

  holds: async ({ lane, from, until }, digest) => {
    const [row] = await plain<HoldsRow>(pool, HOLDS, [lane, from, until]);
    return row?.hashed === true && row.digest !== null && row.digest.equals(digest);
  },

  edge: async () => {
    const [row] = await committedRead<EdgeRow & object>(pool, EDGE, []).catch(refuse);
    if (row === undefined) return refuse(new Error('the log has no head'));
    return edgeOf(row);
  },

  sequence: async (stage): Promise<StageOutcome> => {
    try {
      const { rows } = await commitStatement<{ led: boolean }>(pool, SEQUENCE, stageValues(stage));
      return rows[0]?.led === true ? 'committed' : 'deposed';
    } catch (error) {
      return MOVED.has(sqlState(error) ?? '') ? 'moved' : refuse(error);
    }
  },

  drain: async (lanes) => {
    await commitStatement(pool, 'select public.drain_lanes($1)', [lanes]).catch(refuse);
  },

  progress: async () => {
    const [row] = await plain<ProgressRow>(pool, PROGRESS, []);
    return {
      size: Number(row?.size ?? 0),
      unsequenced: Number(row?.unsequenced ?? 0),
      checkpointAgeMs: typeof row?.age === 'string' ? Number(row.age) : null,
    };
  },
});

/** Thins checkpoints by the rule of migration 0032. */
export const createCheckpointThinning = (pool: GuardedPool): CheckpointThinning => ({
  expire: async (before, limit) => {
    const { rows } = await commitStatement<{ removed: number }>(
      pool,
      'select public.thin_checkpoints($1,$2) as removed',
      [before, limit],
    ).catch(refuse);
    return rows[0]?.removed ?? 0;
  },
});

const plain = async <Row extends object>(
  pool: GuardedPool,
  statement: string | { readonly text: string },
  values: readonly unknown[],
): Promise<readonly Row[]> => {
  const query = typeof statement === 'string' ? { text: statement } : statement;
  const { rows } = await read(() => pool.query<Row>({ ...query, values: [...values] })).catch(
    refuse,
  );
  return rows;
};

const intakeValues = (ranges: readonly LaneRange[]): readonly unknown[] => [
  ranges.map(({ lane }) => lane),
  ranges.map(({ from }) => from),
  ranges.map(({ until }) => until),
];
