-- A destruction waits as long as it says by this database's clock too: one that is new or comes sooner than it
-- did has to have been asked for now. A server whose clock lags would else count a wait that is over. Triggers,
-- for the reason of those of 0014; the minute is the same.
create function public.require_whole_wait() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if isfinite(public.wall_clock())
    and new.destruction_requested_at < public.wall_clock() - interval '1 minute' then
    raise exception 'the destruction was asked for earlier, by the clock of the database'
      using errcode = 'TF063';
  end if;
  return new;
end $$;
create trigger key_waits_whole before update of destroy_at on public.key
  for each row when (new.destroy_at is not null
    and (old.destroy_at is null or new.destroy_at < old.destroy_at))
  execute function public.require_whole_wait();
create trigger key_version_waits_whole before update of destroy_at on public.key_version
  for each row when (new.destroy_at is not null
    and (old.destroy_at is null or new.destroy_at < old.destroy_at))
  execute function public.require_whole_wait();

revoke execute on function public.require_whole_wait from public;
