-- The sequencer reads what it sequences plainly, so that during a fail-over an old primary may answer it: with
-- an entry whose outcome was unknown there, and in whose place this server has another one. Then the tree would
-- have, signed, a leaf that the log does not hold. Each run comes with the leaf of its last entry, which stands
-- for those before it (every entry has the leaf of the one before it), and has to be what stands here.
--
-- A program of before calls `sequence` itself, which stays.
create function public.sequence_leaves(
  p_term bigint, p_holder uuid, p_size bigint, p_root bytea,
  p_new_size bigint, p_new_root bytea, p_note text,
  p_lanes integer[], p_from bigint[], p_counts bigint[],
  p_levels integer[], p_indexes bigint[], p_hashes bytea[], p_leaves bytea[]
) returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not public.sequence(p_term, p_holder, p_size, p_root, p_new_size, p_new_root, p_note,
      p_lanes, p_from, p_counts, p_levels, p_indexes, p_hashes) then
    return false;
  end if;
  if exists (select from unnest(p_lanes, p_from, p_counts, p_leaves) u(l, f, c, leaf)
      where not exists (select from public.entry e
        where e.lane = u.l and e.n = u.f + u.c - 1 and e.leaf = u.leaf)) then
    raise exception 'an entry is another than the one that was sequenced' using errcode = 'TF031';
  end if;
  return true;
end $$;
revoke execute on function public.sequence_leaves from public;
grant execute on function public.sequence_leaves to twofold_app;
