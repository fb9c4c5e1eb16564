-- Rotations by order, the pause of a whole namespace, and what is late or failing.

-- A namespace whose rotations are paused says so in the seal of its policies: {at, reason}, or null.
alter table public.rotation_policy_set add column paused jsonb;
grant update (paused) on public.rotation_policy_set to twofold_app;

create or replace function public.write_put_policy_set(p_write jsonb) returns void language plpgsql as $$
declare
  s public.rotation_policy_set :=
    jsonb_populate_record(null::public.rotation_policy_set, p_write -> 'row');
begin
  if (p_write ->> 'expected')::integer = 0 then
    insert into public.rotation_policy_set select s.* on conflict do nothing;
  else
    update public.rotation_policy_set
      set revision = s.revision, hash = s.hash, mac = s.mac, paused = s.paused
    where namespace = s.namespace and revision = (p_write ->> 'expected')::integer;
  end if;
  if not found then raise exception 'policy set moved' using errcode = 'TF006'; end if;
end $$;

-- What a look left undone has been due since `due_at`; a key that nobody looks at is late since the time
-- of its look. Marked keys (`-infinity`) are looked at now and are late by their last look alone.
alter table public.key_schedule
  add column due_at timestamptz(3),
  add column failing_since timestamptz(3);
update public.key_schedule set failing_since = failed_at where failures > 0;
drop index public.key_schedule_failures_idx;
create index key_schedule_failing_since_key_id_idx
  on public.key_schedule (failing_since, key_id) where failures > 0;
create index key_schedule_late_idx on public.key_schedule
  (least(due_at, case when isfinite(next_at) then next_at end), key_id);
create index scheduled_run_all_done_at_idx on public.scheduled_run (done_at, key_id, action);

-- The scheduler's way through the keys of an order, which is an `operation` of the kind `rotation`. Hints
-- without a MAC, as `key_schedule`: the operation's own row says what was ordered, and each key's verified
-- rows whether it belongs to it.
create table public.rotation_order (
  operation_id uuid not null,
  -- The last key of the namespace that was looked at for a match, and whether that was the last of all.
  after_id uuid,
  walked boolean not null default false,
  matched integer not null default 0,
  rotated integer not null default 0,
  skipped integer not null default 0,
  failed integer not null default 0,
  constraint rotation_order_pkey primary key (operation_id),
  constraint rotation_order_operation_id_fkey foreign key (operation_id)
    references public.operation (id) on update restrict on delete cascade
);
-- What the scheduler takes up: the running ones, oldest first.
create index operation_rotation_created_at_id_idx on public.operation (created_at, id)
  where kind = 'rotation' and state = 'running';

create table public.rotation_order_key (
  operation_id uuid not null,
  key_id uuid not null,
  state text not null default 'waiting',
  -- A waiting one is tried no sooner.
  next_at timestamptz(3) not null,
  attempts integer not null default 0,
  -- Why the last attempt failed.
  code text,
  at timestamptz(3),
  version integer,
  constraint rotation_order_key_pkey primary key (operation_id, key_id),
  constraint rotation_order_key_operation_id_fkey foreign key (operation_id)
    references public.rotation_order (operation_id) on update restrict on delete cascade,
  constraint rotation_order_key_state check (state in ('waiting', 'rotated', 'skipped', 'failed'))
);
create index rotation_order_key_waiting_idx on public.rotation_order_key (operation_id, next_at, key_id)
  where state = 'waiting';
create index rotation_order_key_code_idx on public.rotation_order_key (operation_id, key_id)
  where code is not null;
create trigger rotation_order_key_onward before update on public.rotation_order_key
  for each row when (old.state <> 'waiting')
  execute function public.refuse_change('what is settled stays so');

-- Stands beside the new version, in its transaction: once for a key and order, and for a running one alone.
create function public.write_rotate_by_order(p_write jsonb) returns void language plpgsql as $$
declare
  ordered uuid := (p_write ->> 'operation_id')::uuid;
  moment timestamptz := (p_write ->> 'at')::timestamptz;
begin
  update public.operation
    set updated_at = moment, expires_at = (p_write ->> 'expires_at')::timestamptz
  where id = ordered and kind = 'rotation' and state = 'running' and expires_at > moment;
  if not found then raise exception 'order has ended' using errcode = 'TF006'; end if;
  update public.rotation_order_key set state = 'rotated', code = null, at = moment,
    version = (p_write ->> 'version')::integer
  where operation_id = ordered and key_id = (p_write ->> 'key_id')::uuid and state = 'waiting';
  if not found then raise exception 'key is settled' using errcode = 'TF006'; end if;
  update public.rotation_order set rotated = rotated + 1 where operation_id = ordered;
end $$;

revoke execute on function public.write_rotate_by_order from public;
grant execute on function public.write_rotate_by_order to twofold_app;
grant select, insert, update on public.rotation_order, public.rotation_order_key to twofold_app;
