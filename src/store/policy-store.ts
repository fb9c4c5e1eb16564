/** Policies of namespaces, and the scheduler's way through the keys that a changed policy concerns. */
import type {
  Attested,
  NamespacePolicy,
  PolicySetSeal,
  PolicyStore,
  StoredPolicySet,
} from '../keyring/ports.ts';
import { pauseFromJson, policyFromJson, policyJson } from '../keyring/rotation-policy.ts';
import type { PolicyRounds } from '../rotation/scheduler-ports.ts';
import { refuse } from './failures.ts';
import type { rotation_policy, rotation_policy_set } from './generated/client.ts';
import { DatabaseBehind } from './outcome.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGate } from './read-gate.ts';
import { NO_KEY, RowReader } from './rows.ts';
import { COMMITTED, commitStatement, committedRead, committing } from './transaction.ts';

/** The seal's columns on each row, and those of one policy, null where there is none. */
const SET = committing({
  name: 'policy_set',
  text: `select e.epoch, to_jsonb(s) is not null as sealed, s.revision, s.hash, s.paused, s.mac as seal_mac,
      p.namespace, p.name, p.selector, p.priority, p.policy, p.mac
    from ${COMMITTED}, public.security_epoch e
    left join public.rotation_policy_set s on s.namespace = $1
    left join public.rotation_policy p on p.namespace = $1
    order by p.name`,
});

type Row = Omit<rotation_policy_set, 'namespace' | 'mac'> &
  rotation_policy & {
    readonly epoch: string;
    readonly sealed: boolean;
    readonly seal_mac: Uint8Array;
  };

const openRound = (lap: 0 | 1, from: '>' | '<='): string => `(
  select ${String(lap)} as lap, s.namespace, s.revision,
    case when r.revision = s.revision then r.after_id end as after_id
  from public.rotation_policy_set s left join public.rotation_policy_round r using (namespace)
  where (r.namespace is null or r.revision <> s.revision or not r.done) and s.namespace ${from} $2
  order by s.namespace limit 1)`;

/** Each call asks for looks at the next keys of one namespace whose policies have changed, by turns. */
/** Lateral: without work no key is looked at, and with it those of an index alone, however many keys there are. */
const MARK_NEXT = {
  name: 'policy_round',
  text: `with work as (
      select * from (${openRound(0, '>')} union all ${openRound(1, '<=')}) o order by lap limit 1
    ), chosen as (
      select k.id from work w cross join lateral (
        select id from public.key where namespace = w.namespace and destroyed_at is null
          and id > coalesce(w.after_id, '${NO_KEY}') order by id limit $1) k
    ), marked as (
      insert into public.key_schedule as s (key_id, next_at) select id, '-infinity' from chosen
      on conflict (key_id) do update set next_at = '-infinity', marks = s.marks + 1
    )
    insert into public.rotation_policy_round as r (namespace, revision, after_id, done)
    select namespace, revision,
      coalesce((select id from chosen order by id desc limit 1), after_id),
      (select count(*) from chosen) < $1
    from work
    on conflict (namespace) do update
      set revision = excluded.revision, after_id = excluded.after_id, done = excluded.done
    returning namespace, (select count(*) from chosen)::integer as marked`,
};

export const createPolicyStore = (
  pool: GuardedPool,
  lookups: ReadGate,
): PolicyStore & PolicyRounds => {
  /** The namespace of the last round that went on: in memory, since who comes later may begin anywhere. */
  let served = '';
  return {
    policies: async (namespace, epoch) => {
      const rows = await lookups.run(() =>
        committedRead<Row>(pool, SET, [namespace], ([first]) => {
          if (Number(first?.epoch) < epoch) {
            throw new DatabaseBehind('the read stands at an old epoch');
          }
        }).catch(refuse),
      );
      return storedSet(namespace, rows);
    },

    markNext: async (limit) => {
      const { rows } = await commitStatement<{ namespace: string; marked: number }>(
        pool,
        MARK_NEXT,
        [limit, served],
      ).catch(refuse);
      const [row] = rows;
      served = row?.namespace ?? served;
      return row?.marked ?? null;
    },
  };
};

function storedSet(namespace: string, rows: readonly Row[]): StoredPolicySet {
  const [first] = rows;
  return {
    seal:
      first?.sealed === true
        ? policySealFromRow({ ...first, namespace, mac: first.seal_mac })
        : null,
    policies: rows
      .filter(({ name }) => (name as string | null) !== null)
      .map(({ namespace: of, name, selector, priority, policy, mac }) =>
        policyFromRow({ namespace: of, name, selector, priority, policy, mac }),
      ),
  };
}

export const policySealFromRow = (
  row: Pick<rotation_policy_set, 'namespace' | 'revision' | 'paused'> & {
    readonly hash: Uint8Array;
    readonly mac: Uint8Array;
  },
): Attested<PolicySetSeal> => ({
  value: {
    namespace: row.namespace,
    revision: row.revision,
    hash: Uint8Array.from(row.hash),
    paused: pauseFromJson(row.paused),
  },
  mac: Uint8Array.from(row.mac),
});

/** @throws TwofoldError integrity_failed */
export function policyFromRow(row: rotation_policy): Attested<NamespacePolicy> {
  const reader = new RowReader<rotation_policy>('rotation_policy', row);
  const value: NamespacePolicy = {
    namespace: reader.text('namespace'),
    name: reader.text('name'),
    selector: reader.strings('selector'),
    priority: reader.integer('priority'),
    policy: policyFromJson(reader.json('policy')),
  };
  const attested = { value, mac: reader.bytes('mac') };
  reader.done();
  return attested;
}

export const policyRow = ({ value, mac }: Attested<NamespacePolicy>) => ({
  namespace: value.namespace,
  name: value.name,
  selector: value.selector,
  priority: value.priority,
  policy: policyJson(value.policy),
  mac,
});
