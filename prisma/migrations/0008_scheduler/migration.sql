-- What will happen to keys by itself: who runs it, which keys to look at and when, and what was done.

-- Leadership (design: only a commit is exclusive). The holder counts its beats up; who sees neither term
-- nor beats move for a while, on its own clock, takes the term after it. Every effect of a leader
-- beats under its term in the same transaction, so a leader that was overtaken has none.
create table public.leadership (
  role text collate "C" not null,
  term bigint not null,
  holder uuid,
  beat bigint not null,
  constraint leadership_pkey primary key (role)
);
create trigger leadership_onward before update on public.leadership
  for each row when (new.term < old.term or (new.term = old.term and new.beat < old.beat))
  execute function public.refuse_change('terms and beats only rise');

-- When a key is to be looked at. A hint without a MAC: it says where to look, the key's own verified rows
-- decide, and a slow round over all keys finds what it hides. `marks` counts the changes that ask for
-- a look, so that a look which began before a change does not answer for it.
create table public.key_schedule (
  key_id uuid not null,
  next_at timestamptz(3),
  marks bigint not null default 1,
  -- Of the primary, when a policy counts uses: at this many the key is looked at.
  max_uses bigint,
  -- The last look failed: how often in a row, with which code, and when.
  failures integer not null default 0,
  failure_code text,
  failed_at timestamptz(3),
  constraint key_schedule_pkey primary key (key_id),
  constraint key_schedule_failure check ((failures = 0) = (failure_code is null)),
  constraint key_schedule_failed_at check ((failures = 0) = (failed_at is null))
);
create index key_schedule_next_at_idx on public.key_schedule (next_at, key_id);
create index key_schedule_failures_idx on public.key_schedule (key_id) where failures > 0;

-- Every change of a key asks for a look at it, whoever makes it. `-infinity` is now, on every clock.
create function public.mark_key(p_key uuid) returns void language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into public.key_schedule as s (key_id, next_at) values (p_key, '-infinity')
  on conflict (key_id) do update set next_at = '-infinity', marks = s.marks + 1;
end $$;
create function public.mark_changed_key() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform public.mark_key(new.id);
  return null;
end $$;
create trigger key_changed after insert or update on public.key
  for each row execute function public.mark_changed_key();
insert into public.key_schedule (key_id, next_at)
  select id, '-infinity' from public.key where destroyed_at is null;

-- And a use count that reaches what its key's policy allows, or the half of what AES-GCM allows.
-- Counters are named `<key id>/<version>`.
create function public.mark_used_key() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  used_key uuid;
begin
  if new.counter !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9]+$' then return null; end if;
  used_key := split_part(new.counter, '/', 1)::uuid;
  if (new.used >= 2147483648 and (tg_op = 'INSERT' or old.used < 2147483648)) or exists (
    select from public.key_schedule s where s.key_id = used_key and new.used >= s.max_uses
  ) then
    perform public.mark_key(used_key);
  end if;
  return null;
end $$;
create trigger usage_reached after insert or update on public.usage_counter
  for each row execute function public.mark_used_key();

-- What was done because it was due, once for each (key, policy revision, action, due time). Written in the
-- transaction that does it.
create table public.scheduled_run (
  key_id uuid not null,
  policy_revision integer not null,
  action text collate "C" not null,
  due_at timestamptz(3) not null,
  cause text,
  version integer,
  done_at timestamptz(3) not null,
  term bigint not null,
  constraint scheduled_run_pkey primary key (key_id, policy_revision, action, due_at)
);
create index scheduled_run_done_at_idx on public.scheduled_run (key_id, done_at, action);

create function public.write_hold_leadership(p_write jsonb) returns void language plpgsql as $$
begin
  update public.leadership set beat = beat + 1
  where role = p_write ->> 'role' and term = (p_write ->> 'term')::bigint
    and holder = (p_write ->> 'holder')::uuid;
  if not found then raise exception 'leader no more' using errcode = 'TF006'; end if;
end $$;

create function public.write_insert_run(p_write jsonb) returns void language plpgsql as $$
declare
  r public.scheduled_run := jsonb_populate_record(null::public.scheduled_run, p_write -> 'row');
begin
  insert into public.scheduled_run select r.*;
end $$;

revoke execute on function public.mark_key, public.mark_changed_key, public.mark_used_key,
  public.write_hold_leadership, public.write_insert_run from public;
grant execute on function public.mark_key, public.mark_changed_key, public.mark_used_key,
  public.write_hold_leadership, public.write_insert_run to twofold_app;
grant select, insert, update on public.leadership to twofold_app;
grant select, insert, update on public.key_schedule to twofold_app;
grant select, insert on public.scheduled_run to twofold_app;
