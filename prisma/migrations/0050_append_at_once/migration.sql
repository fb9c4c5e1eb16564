-- Every answer waits for one call of `append`. When all is well, which is nearly always, it is one
-- statement now: what it checks is a condition of the insert. When that writes nothing, the function as it
-- was finds out why, in the order that callers rely on (entries that are there already come before an epoch
-- that is over), or appends after all.
alter function public.append rename to append_or_say_why;

create function public.append(
  p_epoch bigint, p_lane integer, p_first bigint, p_hmac bytea, p_leaves bytea[], p_bodies bytea[],
  p_at timestamptz[], p_namespaces text[], p_operations text[], p_key_ids uuid[],
  p_key_refs text[], p_subjects text[], p_outcomes text[]
) returns bigint language plpgsql as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform public.require_read_committed();
  end if;
  -- In an expression: plpgsql evaluates those without a query. The statement after it has a snapshot that
  -- is newer than the lock, like every one under READ COMMITTED.
  if pg_advisory_xact_lock_shared(7411) is null then null; end if;
  insert into public.entry
    (lane, n, leaf, body, batch_hmac, at, namespace, operation, key_id, key_ref, subject, outcome)
  select p_lane, p_first + u.o - 1,
    -- No leaf is no entry.
    case when octet_length(u.leaf) = 32 then u.leaf end,
    u.body, case when u.o = 1 then p_hmac end,
    u.at, u.namespace, u.operation, u.key_id, u.key_ref, u.subject, u.outcome
  from unnest(p_leaves, p_bodies, p_at, p_namespaces, p_operations, p_key_ids, p_key_refs,
    p_subjects, p_outcomes) with ordinality
    u(leaf, body, at, namespace, operation, key_id, key_ref, subject, outcome, o)
  where (select s.epoch from public.security_epoch s) = p_epoch
    and (select not l.closed and not i.fenced and not i.closed
      from public.lane l join public.instance i on i.id = l.instance where l.id = p_lane)
    -- The entry before the first is there, and the first is not.
    and coalesce((select max(e.n) from public.entry e
      where e.lane = p_lane and e.n between p_first - 1 and p_first), 0) = p_first - 1;
  if found then return p_epoch; end if;
  return public.append_or_say_why(p_epoch, p_lane, p_first, p_hmac, p_leaves, p_bodies, p_at,
    p_namespaces, p_operations, p_key_ids, p_key_refs, p_subjects, p_outcomes);
end $$;
revoke execute on function public.append from public;
grant execute on function public.append to twofold_app;

-- PostgreSQL parses and plans a check constraint anew for each statement: a tenth of an append. What these
-- two said holds without them: `append` and changes write n from 1 on without gaps, and a leaf that is not
-- the hash of its body is refused by the sequencer.
alter table public.entry drop constraint entry_leaf, drop constraint entry_n;
