-- Quotas of a day or a month: buckets that never fill. The period is part of what is limited, so each has a
-- bucket of its own, which says nothing any more once the longest period is over.
create or replace function public.lease_allowance(
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
      full_at = moment + case when asked.per_second > 0
        then make_interval(secs => least(left_over / asked.per_second, 31536000))
        else interval '32 days' end
      where b.id = asked.bucket;
    id := asked.bucket;
    granted := given;
    available := asked.burst - left_over;
    return next;
  end loop;
end $$;
