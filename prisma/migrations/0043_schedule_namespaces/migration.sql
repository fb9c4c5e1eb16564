-- What failed and what is late is asked for by namespace: the rows of others are not walked through for it.

alter table public.key_schedule add column namespace text collate "C";
update public.key_schedule s set namespace = k.namespace from public.key k where k.id = s.key_id;
-- Of a key that is not there, whom nobody asks for.
delete from public.key_schedule where namespace is null;
alter table public.key_schedule alter column namespace set not null;

-- The key's own, which never changes, whoever writes the row.
create function public.name_schedule() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
  select k.namespace into new.namespace from public.key k where k.id = new.key_id;
  return new;
end $$;
revoke execute on function public.name_schedule from public;
create trigger key_schedule_named before insert on public.key_schedule
  for each row execute function public.name_schedule();

drop index public.key_schedule_failing_since_key_id_idx;
create index key_schedule_namespace_failing_since_key_id_idx
  on public.key_schedule (namespace, failing_since, key_id) where failures > 0;
drop index public.key_schedule_late_idx;
create index key_schedule_namespace_late_idx on public.key_schedule
  (namespace, least(due_at, case when isfinite(next_at) then next_at end), key_id);
