-- What happened to keys, for those who follow it: events beside the audit entry of the change, in its
-- transaction. A change holds the epoch barrier and raises the epoch by one, so (epoch, n) is the order
-- of commits and has no gap that a later commit fills: who has read up to a place has missed nothing.

create table public.event (
  -- The epoch that the change makes.
  epoch bigint not null,
  -- Within the change, from 1.
  n integer not null,
  type text collate "C" not null,
  namespace text collate "C" not null,
  key_id uuid not null,
  key_name text collate "C" not null,
  -- By this database's clock, which retention goes by.
  at timestamptz(3) not null,
  audit_id text not null,
  -- Facts without secrets.
  data jsonb not null,
  constraint event_pkey primary key (epoch, n),
  constraint event_n_positive check (n > 0)
);
create index event_namespace_epoch_n_idx on public.event (namespace, epoch, n);

-- The last place of a namespace that was removed: who stands before it has missed something.
create table public.event_horizon (
  namespace text collate "C" not null,
  epoch bigint not null,
  n integer not null,
  constraint event_horizon_pkey primary key (namespace)
);

create trigger event_stands before update on public.event
  for each row execute function public.refuse_change('the table is append-only');
create trigger event_no_truncate before truncate on public.event
  for each statement execute function public.refuse_change('the table is append-only');
create trigger event_horizon_onward before update on public.event_horizon
  for each row when ((new.epoch, new.n) < (old.epoch, old.n))
  execute function public.refuse_change('a horizon only moves on');

-- `commit_change` holds the barrier here and raises the epoch after all writes.
create function public.write_insert_event(p_write jsonb) returns void language plpgsql as $$
declare
  e public.event := jsonb_populate_record(null::public.event, p_write -> 'row');
begin
  select epoch + 1 into strict e.epoch from public.security_epoch;
  e.at := clock_timestamp();
  insert into public.event select e.*;
end $$;

-- Removes the oldest events, at most `p_limit`, as far as they are older than `p_before`: a beginning
-- of the order, so that one horizon says what is gone. The server's role removes no event by itself,
-- and none that is younger than a day by this either.
create function public.expire_events(p_before timestamptz, p_limit integer)
returns integer language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  removed integer;
begin
  with oldest as (
    select epoch, n, at from public.event order by epoch, n limit least(p_limit, 10000)
  ), kept as (
    select min(epoch) as epoch from oldest where at >= least(p_before, now() - interval '1 day')
  ), gone as (
    delete from public.event e using kept
    where (e.epoch, e.n) in (select o.epoch, o.n from oldest o)
      and (kept.epoch is null or e.epoch < kept.epoch)
    returning e.namespace, e.epoch, e.n
  ), moved as (
    insert into public.event_horizon as h (namespace, epoch, n)
    select distinct on (namespace) namespace, epoch, n from gone
    order by namespace, epoch desc, n desc
    on conflict (namespace) do update set epoch = excluded.epoch, n = excluded.n
      where (h.epoch, h.n) < (excluded.epoch, excluded.n)
  )
  select count(*)::integer into removed from gone;
  return removed;
end $$;

revoke execute on function public.write_insert_event, public.expire_events from public;
grant execute on function public.write_insert_event, public.expire_events to twofold_app;
grant select, insert on public.event to twofold_app;
grant select on public.event_horizon to twofold_app;
