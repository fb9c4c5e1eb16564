-- Instances that answer from cache for a while when no commit comes back (`instance.grace_ms` above 0).
--
-- What has to hold (src/audit/grace/lease.ts): of a change that was committed, every instance whose row is
-- open says until when it may answer without having heard of it. So an instance with a grace opens under the
-- barrier that changes take: each change finds its row, or the instance begins with that change's epoch.

alter table public.instance
  add constraint instance_grace check (grace_ms between 0 and 120000);

create function public.open_grace_instance(
  p_id uuid, p_zone text, p_suites integer[], p_envelopes integer[], p_grace_ms integer
) returns void language plpgsql as $$
begin
  perform public.require_read_committed();
  perform public.take_barrier();
  insert into public.instance (id, zone, suites, envelopes, grace_ms, epoch_seen)
  values (p_id, p_zone, p_suites, p_envelopes, p_grace_ms, (select epoch from public.security_epoch))
  on conflict (id) do nothing;
end $$;

-- Whether a change has to wait for anyone. Asked in the change's own transaction, under its barrier; a query
-- of its own, so that its snapshot is newer than the lock. Takes what the change returned so that it is
-- evaluated after it.
create function public.grace_held(p_epoch bigint) returns boolean language plpgsql volatile as $$
begin
  return p_epoch > 0 and exists (
    select from public.instance where grace_ms > 0 and not closed and not fenced
  );
end $$;

-- Fences instances that have not told `p_epoch`: the caller has waited until none of them can have the right
-- to answer any more from before it. A heartbeat that tells it holds the row until it has committed, and is
-- found here. Answers how many were fenced. Runs as the owner, since the server's role may fence nobody else.
create function public.fence_instances(p_epoch bigint, p_ids uuid[]) returns integer language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  ended integer;
begin
  update public.instance set fenced = true
  where id = any (p_ids) and grace_ms > 0 and epoch_seen < p_epoch and not closed and not fenced
    and p_epoch <= (select epoch from public.security_epoch);
  get diagnostics ended = row_count;
  return ended;
end $$;

-- Entries of answers that left in the grace, from the spool of the instance that owned the lane, whatever
-- became of it since: the bytes stand, so no epoch is compared. Once and only once: what is there already has
-- to be the same, and the rest follows it. Answers the epoch. Always a commit, also where all is there.
create function public.replay_entries(
  p_instance uuid, p_lane integer, p_first bigint, p_hmacs bytea[], p_leaves bytea[], p_bodies bytea[],
  p_at timestamptz[], p_namespaces text[], p_operations text[], p_key_ids uuid[],
  p_key_refs text[], p_subjects text[], p_outcomes text[]
) returns bigint language plpgsql as $$
declare
  v record;
  now_epoch bigint;
begin
  perform public.require_read_committed();
  perform pg_advisory_xact_lock_shared(7411);
  select epoch into strict now_epoch from public.security_epoch;
  if public.entries_present(p_lane, p_first, p_leaves) then
    perform pg_logical_emit_message(true, 'twofold', '');
    return now_epoch;
  end if;
  select l.closed, l.instance into v from public.lane l where l.id = p_lane;
  if not found or v.instance <> p_instance then
    raise exception 'no lane %', p_lane using errcode = 'TF001';
  end if;
  if v.closed then raise exception 'lane % is closed', p_lane using errcode = 'TF002'; end if;
  if p_first <> 1 and not exists (
    select from public.entry where lane = p_lane and n = p_first - 1
  ) then raise exception 'nothing is before % in lane %', p_first, p_lane using errcode = 'TF003'; end if;
  if exists (
    select from unnest(p_leaves) with ordinality u(leaf, o)
    join public.entry e on e.lane = p_lane and e.n = p_first + u.o - 1
    where e.leaf <> u.leaf
  ) then raise exception 'other entries stand in lane %', p_lane using errcode = 'TF040'; end if;
  insert into public.entry
    (lane, n, leaf, body, batch_hmac, at, namespace, operation, key_id, key_ref, subject, outcome)
  select p_lane, p_first + u.o - 1, u.leaf, u.body, u.hmac,
    u.at, u.namespace, u.operation, u.key_id, u.key_ref, u.subject, u.outcome
  from unnest(p_hmacs, p_leaves, p_bodies, p_at, p_namespaces, p_operations, p_key_ids, p_key_refs,
    p_subjects, p_outcomes) with ordinality
    u(hmac, leaf, body, at, namespace, operation, key_id, key_ref, subject, outcome, o)
  where not exists (
    select from public.entry e where e.lane = p_lane and e.n = p_first + u.o - 1
  );
  return now_epoch;
end $$;

-- As before, but that an instance with a grace stays until it is known to have ended: a clock of the database
-- that jumps must not make a change overlook it.
create or replace function public.expire_instances(p_before timestamptz, p_limit integer)
returns integer language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  removed integer;
begin
  with old as (
    select id from public.instance
    where beat_at < least(p_before, clock_timestamp() - interval '1 day')
      and (grace_ms = 0 or closed or fenced)
    order by id limit least(p_limit, 10000) for update skip locked
  ), gone as (
    delete from public.instance i using old where i.id = old.id returning i.id
  ), flushes as (
    delete from public.use_flush f using gone where f.instance = gone.id
  )
  select count(*)::integer into removed from gone;
  return removed;
end $$;

revoke execute on function public.open_grace_instance, public.grace_held, public.fence_instances,
  public.replay_entries from public;
grant execute on function public.open_grace_instance, public.grace_held, public.fence_instances,
  public.replay_entries to twofold_app;
