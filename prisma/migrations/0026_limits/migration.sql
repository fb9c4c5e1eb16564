-- Rate limits that hold over all instances, and quotas of namespaces.

-- What was spent of each bucket. It is what is missing to a full bucket that is stored, so that neither a
-- changed limit nor an instance that forgot the bucket fills it; `full_at` says from when the row says
-- nothing any more. `id` is a SHA-256 of what is limited, so that a row names nobody.
create table public.limit_bucket (
  id bytea not null,
  debt double precision not null,
  at timestamptz not null,
  full_at timestamptz not null,
  constraint limit_bucket_pkey primary key (id)
);
create index limit_bucket_full_at_idx on public.limit_bucket (full_at);

-- Allowance for an instance, one for each bucket. `p_owed` was used already and is charged in any case
-- (negative: given back); of `p_wanted` as much as there is. In the order of the ids, so that two
-- instances cannot wait for each other. By this database's clock alone.
create function public.lease_allowance(
  p_ids bytea[], p_owed double precision[], p_wanted double precision[],
  p_per_second double precision[], p_burst double precision[]
) returns table (id bytea, granted double precision, available double precision)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  moment timestamptz := public.wall_clock();
  asked record;
  left_over double precision;
  given double precision;
begin
  if cardinality(p_ids) > 1000 then
    raise exception 'too many buckets at once' using errcode = '22023';
  end if;
  for asked in
    select a.* from unnest(p_ids, p_owed, p_wanted, p_per_second, p_burst)
      a(bucket, owed, wanted, per_second, burst) order by a.bucket
  loop
    -- Takes the row's lock, also where it is there.
    insert into public.limit_bucket as b (id, debt, at, full_at)
      values (asked.bucket, 0, moment, moment)
      on conflict on constraint limit_bucket_pkey do update set debt = b.debt
      returning greatest(0, greatest(0, b.debt
        - asked.per_second * greatest(0, extract(epoch from moment - b.at)::double precision))
        + asked.owed)
      into left_over;
    given := greatest(0, least(asked.wanted, floor(asked.burst - left_over + 1e-6)));
    left_over := left_over + given;
    update public.limit_bucket b set debt = left_over, at = greatest(b.at, moment),
      full_at = moment + make_interval(secs => least(left_over / asked.per_second, 31536000))
      where b.id = asked.bucket;
    id := asked.bucket;
    granted := given;
    available := asked.burst - left_over;
    return next;
  end loop;
end $$;

-- Removes rows of buckets that have been full since before `p_before`, at most `p_limit`.
create function public.expire_limit_buckets(p_before timestamptz, p_limit integer)
returns integer language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  removed integer;
begin
  with old as (
    select b.id from public.limit_bucket b
    where b.full_at < least(p_before, public.wall_clock())
    order by b.full_at limit least(p_limit, 10000) for update skip locked
  )
  delete from public.limit_bucket b using old where b.id = old.id;
  get diagnostics removed = row_count;
  return removed;
end $$;

-- How many living keys and versions a namespace has; kept by triggers, so that a quota costs no count.
create table public.namespace_usage (
  namespace text collate "C" not null,
  keys bigint not null,
  versions bigint not null,
  constraint namespace_usage_pkey primary key (namespace)
);
insert into public.namespace_usage (namespace, keys, versions)
  select k.namespace, count(distinct k.id) filter (where k.destroyed_at is null),
    count(v.key_id) filter (where v.state <> 'destroyed')
  from public.key k left join public.key_version v on v.key_id = k.id group by k.namespace;

create function public.count_usage(p_namespace text, p_keys integer, p_versions integer)
returns void language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into public.namespace_usage as u (namespace, keys, versions)
    values (p_namespace, p_keys, p_versions)
    on conflict (namespace) do update
      set keys = u.keys + excluded.keys, versions = u.versions + excluded.versions
$$;
create function public.count_key() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform public.count_usage(new.namespace, case when tg_op = 'INSERT' then 1 else -1 end, 0);
  return null;
end $$;
create trigger key_counted after insert on public.key
  for each row execute function public.count_key();
create trigger key_end_counted after update of destroyed_at on public.key
  for each row when (old.destroyed_at is null and new.destroyed_at is not null)
  execute function public.count_key();
create function public.count_version() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform public.count_usage(k.namespace, 0, case when tg_op = 'INSERT' then 1 else -1 end)
    from public.key k where k.id = new.key_id;
  return null;
end $$;
create trigger key_version_counted after insert on public.key_version
  for each row execute function public.count_version();
create trigger key_version_end_counted after update of state on public.key_version
  for each row when (old.state <> 'destroyed' and new.state = 'destroyed')
  execute function public.count_version();

-- {namespace, keys, versions}: the most that there may be after the writes before it; null: any number.
-- Runs under the barrier of changes, so that no two instances exceed it together.
create function public.write_require_quota(p_write jsonb) returns void language plpgsql as $$
begin
  perform from public.namespace_usage
  where namespace = p_write ->> 'namespace'
    and (keys > (p_write ->> 'keys')::bigint or versions > (p_write ->> 'versions')::bigint);
  if found then
    raise exception 'the quota of the namespace is used up' using errcode = 'TF026';
  end if;
end $$;

revoke execute on function public.lease_allowance, public.expire_limit_buckets, public.count_usage,
  public.count_key, public.count_version, public.write_require_quota from public;
grant execute on function public.lease_allowance, public.expire_limit_buckets,
  public.write_require_quota to twofold_app;
grant select on public.limit_bucket, public.namespace_usage to twofold_app;
