-- Every answer waits for one call of `append`, so it asks what it has to know in one query in place of seven.
-- What it checks, and in which order, is as before.
create or replace function public.append(
  p_epoch bigint, p_lane integer, p_first bigint, p_hmac bytea, p_leaves bytea[], p_bodies bytea[],
  p_at timestamptz[], p_namespaces text[], p_operations text[], p_key_ids uuid[],
  p_key_refs text[], p_subjects text[], p_outcomes text[]
) returns bigint language plpgsql as $$
declare
  v record;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform public.require_read_committed();
  end if;
  -- In an expression: plpgsql evaluates those without a query. The query after it has a snapshot that is
  -- newer than the lock, like every one under READ COMMITTED.
  if pg_advisory_xact_lock_shared(7411) is null then null; end if;
  select s.epoch, l.id is null as unknown, l.closed as shut, l.instance,
      i.fenced or i.closed as ended,
      exists (select from public.entry where lane = p_lane and n = p_first) as there,
      p_first = 1 or exists (select from public.entry where lane = p_lane and n = p_first - 1) as follows
    into strict v
    from public.security_epoch s
    left join public.lane l on l.id = p_lane
    left join public.instance i on i.id = l.instance;
  if v.there and public.entries_present(p_lane, p_first, p_leaves) then return p_epoch; end if;
  if v.epoch <> p_epoch then return -v.epoch; end if;
  if v.unknown then raise exception 'no lane %', p_lane using errcode = 'TF001'; end if;
  if v.shut then raise exception 'lane % is closed', p_lane using errcode = 'TF002'; end if;
  if v.ended is distinct from false then perform public.require_open_instance(v.instance); end if;
  if not v.follows then
    raise exception 'nothing is before % in lane %', p_first, p_lane using errcode = 'TF003';
  end if;
  insert into public.entry
    (lane, n, leaf, body, batch_hmac, at, namespace, operation, key_id, key_ref, subject, outcome)
  select p_lane, p_first + u.o - 1, u.leaf, u.body, case when u.o = 1 then p_hmac end,
    u.at, u.namespace, u.operation, u.key_id, u.key_ref, u.subject, u.outcome
  from unnest(p_leaves, p_bodies, p_at, p_namespaces, p_operations, p_key_ids, p_key_refs,
    p_subjects, p_outcomes) with ordinality
    u(leaf, body, at, namespace, operation, key_id, key_ref, subject, outcome, o);
  return v.epoch;
end $$;

-- Checkpoints -------------------------------------------------------------------------------

-- One a second is 300 MB a day, and what they are for they do as well thinned: to say when the log had
-- which size, and to bound where an edit is. Of each hour of the database's clock that is over for two
-- days the last one stays, and any that a witness has cosigned. Proofs need none but the newest, and
-- whoever saw one that is gone can still prove from tiles that the log went on from it.
create function public.refuse_needed_checkpoint() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if old.at < clock_timestamp() - interval '2 days'
      and exists (select from public.log_checkpoint c where c.size > old.size
        and date_trunc('hour', c.at, 'UTC') = date_trunc('hour', old.at, 'UTC'))
      and not exists (select from public.log_cosignature s where s.size = old.size) then
    return old;
  end if;
  raise exception 'the checkpoint of size % stays', old.size using errcode = 'TF004';
end $$;
drop trigger log_checkpoint_append_only on public.log_checkpoint;
create trigger log_checkpoint_append_only before update on public.log_checkpoint
  for each row execute function public.refuse_change('the table is append-only');
create trigger log_checkpoint_thinned before delete on public.log_checkpoint
  for each row execute function public.refuse_needed_checkpoint();

-- Removes at most `p_limit` of before `p_before` by that rule; how many.
create function public.thin_checkpoints(p_before timestamptz, p_limit integer)
returns integer language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  removed integer;
begin
  with old as (
    select c.size from public.log_checkpoint c
    where c.at < least(p_before, date_trunc('hour', clock_timestamp() - interval '2 days', 'UTC'))
      and exists (select from public.log_checkpoint l where l.size > c.size
        and l.at >= c.at and l.at < date_trunc('hour', c.at, 'UTC') + interval '1 hour')
      and not exists (select from public.log_cosignature s where s.size = c.size)
    order by c.at limit least(p_limit, 10000)
  )
  delete from public.log_checkpoint d using old where d.size = old.size;
  get diagnostics removed = row_count;
  return removed;
end $$;
revoke execute on function public.thin_checkpoints, public.refuse_needed_checkpoint from public;
grant execute on function public.thin_checkpoints, public.refuse_needed_checkpoint to twofold_app;
