-- The sequenced log: which entry has which index in the Merkle tree, the tree's tiles, and its signed
-- checkpoints. One sequencer leads (role `sequencer` in `leadership`). All that it writes, it writes by
-- one call of `sequence`, as the owner: the server's role reads these tables and may change none.
--
--   TF030 the log's head is another than the caller's
--   TF031 a lane's cursor is another, its entries are not there, or the counts do not add up

-- Heartbeats --------------------------------------------------------------------------------

-- How many entries of the lanes that it writes now an instance has had acknowledged. Null until it
-- says so. What stands here is a claim: the sequencer compares it with the lane.
alter table public.instance
  add column use_lane integer,
  add column use_count bigint,
  add column change_lane integer,
  add column change_count bigint;
grant update (use_lane, use_count, change_lane, change_count) on public.instance to twofold_app;

-- Lanes -------------------------------------------------------------------------------------

-- Closed, and all of it has its index: nobody looks at the lane again.
alter table public.lane add column drained boolean not null default false;
create index lane_undrained_idx on public.lane (id) where not drained;
drop trigger lane_onward on public.lane;
create trigger lane_onward before update on public.lane
  for each row when (
    (old.closed and not new.closed) or new.next < old.next
    or (old.drained and (not new.drained or new.next <> old.next))
    or (new.drained and not new.closed)
  )
  execute function public.refuse_change('a closed lane stays closed, a cursor goes on');
revoke update (next) on public.lane from twofold_app;

-- The log -----------------------------------------------------------------------------------

create table public.log_head (
  one boolean not null default true,
  size bigint not null,
  root bytea not null,
  note text,
  constraint log_head_pkey primary key (one),
  constraint log_head_one check (one),
  constraint log_head_root check (octet_length(root) = 32),
  constraint log_head_note check ((note is null) = (size = 0))
);
-- RFC 6962, section 2.1: the root of the empty tree is SHA-256 of nothing.
insert into public.log_head (size, root) values (0, pg_catalog.sha256(''));
create trigger log_head_onward before update on public.log_head
  for each row when (new.size <= old.size)
  execute function public.refuse_change('the log only grows');
create trigger log_head_stays before delete on public.log_head
  for each row execute function public.refuse_change('the log only grows');
create trigger log_head_no_truncate before truncate on public.log_head
  for each statement execute function public.refuse_change('the log only grows');

-- Entries (lane, from_n) to (lane, from_n + count - 1) have the indexes from `first` on.
create table public.log_run (
  first bigint not null,
  lane integer not null,
  from_n bigint not null,
  count bigint not null,
  constraint log_run_pkey primary key (first),
  constraint log_run_count check (count >= 1 and from_n >= 1 and first >= 0)
);
create unique index log_run_lane_from_n_key on public.log_run (lane, from_n);
create trigger log_run_append_only before update or delete on public.log_run
  for each row execute function public.refuse_change('the table is append-only');
create trigger log_run_no_truncate before truncate on public.log_run
  for each statement execute function public.refuse_change('the table is append-only');

-- Tiles of hashes (C2SP tlog-tiles, height 8), 32 bytes each. Full ones of level 0; of the levels above
-- also the growing one at the right edge. The leaves behind the last full tile stand in `entry`.
create table public.log_tile (
  level integer not null,
  index bigint not null,
  hashes bytea not null,
  constraint log_tile_pkey primary key (level, index),
  constraint log_tile_place check (level between 0 and 7 and index >= 0),
  constraint log_tile_width check (
    octet_length(hashes) between 32 and 8192 and octet_length(hashes) % 32 = 0
    and (level > 0 or octet_length(hashes) = 8192)
  )
);
-- Hashes do not compress.
alter table public.log_tile alter column hashes set storage external;
create trigger log_tile_grows before update on public.log_tile
  for each row when (
    new.level <> old.level or new.index <> old.index
    or octet_length(new.hashes) <= octet_length(old.hashes)
    or substring(new.hashes from 1 for octet_length(old.hashes)) <> old.hashes
  )
  execute function public.refuse_change('a tile only grows');
create trigger log_tile_stays before delete on public.log_tile
  for each row execute function public.refuse_change('a tile only grows');
create trigger log_tile_no_truncate before truncate on public.log_tile
  for each statement execute function public.refuse_change('a tile only grows');

create table public.log_checkpoint (
  size bigint not null,
  -- The whole signed note.
  note text not null,
  at timestamptz(3) not null default current_timestamp,
  constraint log_checkpoint_pkey primary key (size)
);
create index log_checkpoint_at_idx on public.log_checkpoint (at);
create trigger log_checkpoint_append_only before update or delete on public.log_checkpoint
  for each row execute function public.refuse_change('the table is append-only');
create trigger log_checkpoint_no_truncate before truncate on public.log_checkpoint
  for each statement execute function public.refuse_change('the table is append-only');

-- Order, cursors, tiles and checkpoint in one statement, under the term of the leader and the head that it
-- grew from. False: it leads no more, and nothing was written. One run a lane, in the order of the log.
create function public.sequence(
  p_term bigint, p_holder uuid, p_size bigint, p_root bytea,
  p_new_size bigint, p_new_root bytea, p_note text,
  p_lanes integer[], p_from bigint[], p_counts bigint[],
  p_levels integer[], p_indexes bigint[], p_hashes bytea[]
) returns boolean language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  moved bigint;
begin
  update public.leadership set beat = beat + 1
    where role = 'sequencer' and term = p_term and holder = p_holder;
  if not found then return false; end if;
  update public.log_head set size = p_new_size, root = p_new_root, note = p_note
    where size = p_size and root = p_root;
  if not found then
    raise exception 'the head of the log is another' using errcode = 'TF030';
  end if;
  insert into public.log_run (first, lane, from_n, count)
    select p_size + sum(u.c) over (order by u.o) - u.c, u.l, u.f, u.c
    from unnest(p_lanes, p_from, p_counts) with ordinality u(l, f, c, o);
  update public.lane l set next = u.f + u.c
    from unnest(p_lanes, p_from, p_counts) u(l, f, c)
    where l.id = u.l and l.next = u.f
      and exists (select from public.entry e where e.lane = u.l and e.n = u.f + u.c - 1);
  get diagnostics moved = row_count;
  if moved <> cardinality(p_lanes)
      or p_new_size is distinct from p_size + (select sum(c) from unnest(p_counts) u(c)) then
    raise exception 'a cursor of a lane is another' using errcode = 'TF031';
  end if;
  insert into public.log_tile (level, index, hashes)
    select * from unnest(p_levels, p_indexes, p_hashes)
    on conflict (level, index) do update set hashes = excluded.hashes;
  insert into public.log_checkpoint (size, note) values (p_new_size, p_note);
  return true;
end $$;

-- Marks closed lanes whose every entry has its index. Decides nothing that the rows do not say.
create function public.drain_lanes(p_lanes integer[]) returns void language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
  update public.lane l set drained = true
    where l.id = any (p_lanes) and l.closed and not l.drained
      and not exists (select from public.entry e where e.lane = l.id and e.n >= l.next);
end $$;

revoke execute on function public.sequence, public.drain_lanes from public;
grant execute on function public.sequence, public.drain_lanes to twofold_app;
grant select on public.log_head, public.log_run, public.log_tile, public.log_checkpoint
  to twofold_app;
