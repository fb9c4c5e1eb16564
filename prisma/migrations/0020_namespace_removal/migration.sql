-- The end of a namespace, and whose keys a scheduled run was of.

-- Removal: a namespace ends with no key that lives, and with no member of what governs access. Grants of
-- single keys ended with their keys.
create index key_living_idx on public.key (namespace, id) where destroyed_at is null;
create index set_member_namespace_idx on public.set_member (namespace, kind);

-- {name}: runs under the barrier of changes, so that no key is made beside it.
create function public.write_require_empty_namespace(p_write jsonb) returns void
language plpgsql as $$
declare
  of_name text collate "C" := p_write ->> 'name';
begin
  -- In the order of an index each, whatever the statistics say.
  perform id from public.key where namespace = of_name and destroyed_at is null order by id limit 1;
  if found then
    raise exception 'the namespace has keys' using errcode = 'TF020';
  end if;
  perform kind from public.set_member
  where namespace = of_name and (kind < 'grant/' or kind >= 'grant0') order by kind limit 1;
  if found then
    raise exception 'a set of the namespace moved' using errcode = 'TF006';
  end if;
end $$;
revoke execute on function public.write_require_empty_namespace from public;
grant execute on function public.write_require_empty_namespace to twofold_app;

-- What was done because it was due is listed by namespace: another one's runs are not read for it. Rows
-- of keys that are there; keys never go.
alter table public.scheduled_run add column namespace text collate "C";
update public.scheduled_run r set namespace = k.namespace from public.key k where k.id = r.key_id;
alter table public.scheduled_run alter column namespace set not null;
create index scheduled_run_namespace_idx
  on public.scheduled_run (namespace, done_at, key_id, action);
drop index public.scheduled_run_all_done_at_idx;

create or replace function public.write_insert_run(p_write jsonb) returns void language plpgsql as $$
declare
  r public.scheduled_run := jsonb_populate_record(null::public.scheduled_run, p_write -> 'row');
begin
  r.namespace := (select namespace from public.key where id = r.key_id);
  insert into public.scheduled_run select r.*;
end $$;
