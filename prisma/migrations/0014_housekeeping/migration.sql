-- What time and growth must not break: destructions that no server's clock can hasten, and rows of
-- instances that have long ended.

-- Destruction ---------------------------------------------------------------------------------

-- The time that destructions are judged by. A function of its own, so that the owner of a database that
-- lives on a simulated clock can put another one in its place; the server's role cannot.
create function public.wall_clock() returns timestamptz language sql volatile
set search_path = pg_catalog, pg_temp as 'select clock_timestamp()';

-- The waiting period of a destruction ends by this database's clock too, whatever the clock of the server
-- that runs it says; a minute is what two good clocks may differ by. Triggers, since the server's role
-- may write these columns also without the functions of a change.
create function public.require_wait_over(p_destroy_at timestamptz) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if p_destroy_at is null or p_destroy_at > public.wall_clock() + interval '1 minute' then
    raise exception 'no destruction is due by the clock of the database' using errcode = 'TF014';
  end if;
end $$;

create function public.refuse_early_key_destruction() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform public.require_wait_over(old.destroy_at);
  return new;
end $$;
create trigger key_destroyed_when_due before update of destroyed_at on public.key
  for each row when (old.destroyed_at is null and new.destroyed_at is not null)
  execute function public.refuse_early_key_destruction();

-- A version goes by its own destruction, or with its key, whose row is written before it.
create function public.refuse_early_version_destruction() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (
    select from public.key where id = old.key_id and destroyed_at is not null
  ) then
    perform public.require_wait_over(old.destroy_at);
  end if;
  return new;
end $$;
create trigger key_version_destroyed_when_due before update of state on public.key_version
  for each row when (old.state <> 'destroyed' and new.state = 'destroyed')
  execute function public.refuse_early_version_destruction();

-- Instances -----------------------------------------------------------------------------------

-- Sums of uses are taken from instances that have a row. The lock keeps the row until they are written,
-- so that a flush which comes after its instance and the mark of it are gone adds nothing twice.
create function public.require_kept_instance(p_instance uuid) returns void language plpgsql as $$
begin
  perform from public.instance where id = p_instance for key share;
  if not found then
    raise exception 'instance % is gone', p_instance using errcode = 'TF012';
  end if;
end $$;

-- Removes instances, each with the mark of its flushes, that have not beaten since `p_before`, at most
-- `p_limit`: closed, fenced or dead. One that comes back finds no row and ends. The server's role removes
-- none by itself, and none that has beaten within a day by this either.
create function public.expire_instances(p_before timestamptz, p_limit integer)
returns integer language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  removed integer;
begin
  with old as (
    select id from public.instance
    where beat_at < least(p_before, clock_timestamp() - interval '1 day')
    order by id limit least(p_limit, 10000) for update skip locked
  ), gone as (
    delete from public.instance i using old where i.id = old.id returning i.id
  ), flushes as (
    delete from public.use_flush f using gone where f.instance = gone.id
  )
  select count(*)::integer into removed from gone;
  return removed;
end $$;

revoke execute on function public.wall_clock, public.require_wait_over,
  public.refuse_early_key_destruction, public.refuse_early_version_destruction,
  public.require_kept_instance, public.expire_instances from public;
grant execute on function public.wall_clock, public.require_wait_over,
  public.refuse_early_key_destruction, public.refuse_early_version_destruction,
  public.require_kept_instance, public.expire_instances to twofold_app;

-- Indexes of audit entries --------------------------------------------------------------------

-- Every answer pays for them. By a hash of subject and of key name where that was the text itself, which
-- is shorter and compared faster; of operations those alone that are no use of a key: uses are most
-- entries, and are found among the newest. By a key's id without the namespace, which the key has one of.
drop index public.entry_namespace_subject_at_lane_n_idx;
drop index public.entry_namespace_operation_at_lane_n_idx;
drop index public.entry_key_id_idx;
drop index public.entry_key_ref_idx;
create index entry_subject_idx on public.entry
  (pg_catalog.hashtextextended(subject, pg_catalog.hashtextextended(namespace, 0)), at, lane, n);
create index entry_key_ref_idx on public.entry
  (pg_catalog.hashtextextended(key_ref, pg_catalog.hashtextextended(namespace, 0)), at, lane, n)
  where key_ref is not null;
create index entry_key_id_idx on public.entry (key_id, at, lane, n) where key_id is not null;
create index entry_operation_idx on public.entry (namespace, operation, at, lane, n)
  where operation <> all (array['wrap', 'unwrap', 'rewrap', 'data-keys.create',
    'data-keys.create-wrapped', 'random', 'encapsulate', 'decapsulate', 'sign', 'verify', 'sign-parallel', 'mac', 'verify-mac']);
