-- Every list reads in the order of an index, at most so many rows, whatever it filters by.

-- Keys ----------------------------------------------------------------------------------------

-- What keys are listed by, one row for each: `label:<name>=<value>`, `state:<state>` and
-- `suite:<number>` of versions that are not destroyed. Ordered by name within each, which no index on
-- the columns themselves can be: labels are JSON, suites are another table's. It proves nothing and
-- only says where to look: lists compare the columns again, and those are under the row's MAC.
create table public.key_facet (
  namespace text collate "C" not null,
  facet text collate "C" not null,
  name text collate "C" not null,
  constraint key_facet_pkey primary key (namespace, facet, name)
);

create function public.key_facets(
  p_labels jsonb, p_suspended_at timestamptz, p_destroy_at timestamptz,
  p_destroyed_at timestamptz
) returns setof text language sql immutable as $$
  select 'label:' || l.key || '=' || l.value from pg_catalog.jsonb_each_text(p_labels) l
  where l.value is not null
  union all
  select 'state:' || case when p_destroyed_at is not null then 'destroyed'
    when p_destroy_at is not null then 'pending-destruction'
    when p_suspended_at is not null then 'suspended' else 'enabled' end
$$;

create function public.keep_key_facets() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' then
    delete from public.key_facet
    where namespace = old.namespace and name = old.name and facet in (
      select public.key_facets(old.labels, old.suspended_at, old.destroy_at, old.destroyed_at)
      except select public.key_facets(new.labels, new.suspended_at, new.destroy_at, new.destroyed_at));
  end if;
  insert into public.key_facet (namespace, facet, name)
  select new.namespace, f, new.name
  from public.key_facets(new.labels, new.suspended_at, new.destroy_at, new.destroyed_at) f
  on conflict do nothing;
  return null;
end $$;
create trigger key_facets after insert or update of labels, suspended_at, destroy_at, destroyed_at
  on public.key for each row execute function public.keep_key_facets();

create function public.keep_suite_facet() returns trigger language plpgsql as $$
declare
  k public.key;
  by_suite text := 'suite:' || new.suite;
begin
  select * into strict k from public.key where id = new.key_id;
  if exists (select from public.key_version
    where key_id = new.key_id and suite = new.suite and state <> 'destroyed') then
    insert into public.key_facet (namespace, facet, name) values (k.namespace, by_suite, k.name)
    on conflict do nothing;
  else
    delete from public.key_facet
    where namespace = k.namespace and facet = by_suite and name = k.name;
  end if;
  return null;
end $$;
create trigger key_version_suite_facet after insert or update of state
  on public.key_version for each row execute function public.keep_suite_facet();

insert into public.key_facet (namespace, facet, name)
select k.namespace, f, k.name
from public.key k
cross join lateral public.key_facets(k.labels, k.suspended_at, k.destroy_at, k.destroyed_at) f
union
select k.namespace, 'suite:' || v.suite, k.name
from public.key k join public.key_version v on v.key_id = k.id and v.state <> 'destroyed';

revoke execute on function public.key_facets, public.keep_key_facets, public.keep_suite_facet
  from public;
grant execute on function public.key_facets, public.keep_key_facets, public.keep_suite_facet
  to twofold_app;
grant select, insert, delete on public.key_facet to twofold_app;

-- Its last reader lists by facets now.
drop index public.key_version_suite_idx;

-- Whether an object of the token belongs to a version is asked once for each abandoned intent.
create index key_version_classical_object_id_idx on public.key_version (classical_object_id)
  where classical_object_id is not null;

-- Audit entries -------------------------------------------------------------------------------

-- Newest first within a namespace, and by each filter that may match few entries. An append pays for
-- each: the README says how much. Partitions made later get them when they are attached.
drop index public.entry_at_lane_n_idx;
create index entry_namespace_at_lane_n_idx on public.entry (namespace, at, lane, n);
create index entry_namespace_subject_at_lane_n_idx
  on public.entry (namespace, subject, at, lane, n);
create index entry_namespace_operation_at_lane_n_idx
  on public.entry (namespace, operation, at, lane, n);
create index entry_key_id_idx on public.entry (namespace, key_id, at, lane, n)
  where key_id is not null;
create index entry_key_ref_idx on public.entry (namespace, key_ref, at, lane, n)
  where key_ref is not null;
create index entry_failed_idx on public.entry (namespace, outcome, at, lane, n)
  where outcome <> 'ok';
