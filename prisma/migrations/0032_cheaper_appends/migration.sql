-- Every answer waits for one call of `append`, so it asks what it has to know in one query in place of seven.
-- What it checks, and in which order, is as before.
create or replace function public.append(
  p_epoch bigint, p_lane integer, p_first bigint, p_hmac bytea, p_leaves bytea[], p_bodies bytea[],
  p_at timestamptz[], p_namespaces text[], p_operations text[], p_key_ids uuid[],
  p_key_refs text[], p_subjects text[], p_outcomes text[]
) returns bigint language plpgsql as $$
declare
  v record;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform public.require_read_committed();
  end if;
  -- In an expression: plpgsql evaluates those without a query. The query after it has a snapshot that is
  -- newer than the lock, like every one under READ COMMITTED.
  if pg_advisory_xact_lock_shared(7411) is null then null; end if;
  select s.epoch, l.id is null as unknown, l.closed as shut, l.instance,
      i.fenced or i.closed as ended,
      exists (select from public.entry where lane = p_lane and n = p_first) as there,
      p_first = 1 or exists (select from public.entry where lane = p_lane and n = p_first - 1) as follows
    into strict v
    from public.security_epoch s
    left join public.lane l on l.id = p_lane
    left join public.instance i on i.id = l.instance;
  if v.there and public.entries_present(p_lane, p_first, p_leaves) then return p_epoch; end if;
  if v.epoch <> p_epoch then return -v.epoch; end if;
  if v.unknown then raise exception 'no lane %', p_lane using errcode = 'TF001'; end if;
  if v.shut then raise exception 'lane % is closed', p_lane using errcode = 'TF002'; end if;
  if v.ended is distinct from false then perform public.require_open_instance(v.instance); end if;
  if not v.follows then
    raise exception 'nothing is before % in lane %', p_first, p_lane using errcode = 'TF003';
  end if;
  insert into public.entry
    (lane, n, leaf, body, batch_hmac, at, namespace, operation, key_id, key_ref, subject, outcome)
  select p_lane, p_first + u.o - 1, u.leaf, u.body, case when u.o = 1 then p_hmac end,
    u.at, u.namespace, u.operation, u.key_id, u.key_ref, u.subject, u.outcome
  from unnest(p_leaves, p_bodies, p_at, p_namespaces, p_operations, p_key_ids, p_key_refs,
    p_subjects, p_outcomes) with ordinality
    u(leaf, body, at, namespace, operation, key_id, key_ref, subject, outcome, o);
  return v.epoch;
end $$;
