-- Cold storage: the rows of entries whose whole bundles are in an archive (a complete export) may go. Runs, tiles
-- and checkpoints stay, so that everything that is proved by hashes goes on as before.

create table public.log_archive (
  one boolean not null default true,
  -- Entries before this index are in the archive; whole bundles.
  until bigint not null default 0,
  -- Rows before this one have been removed, but for those that `refuse_unarchived_entry` keeps.
  removed bigint not null default 0,
  -- Where the archive is, in the words of whoever made it.
  place text not null default '',
  constraint log_archive_pkey primary key (one),
  constraint log_archive_one check (one),
  constraint log_archive_until check (until >= removed and removed >= 0 and until % 256 = 0)
);
insert into public.log_archive default values;
create trigger log_archive_onward before update on public.log_archive
  for each row when (new.until < old.until or new.removed < old.removed)
  execute function public.refuse_change('what is in the archive stays there');
create trigger log_archive_stays before delete on public.log_archive
  for each row execute function public.refuse_change('what is in the archive stays there');
create trigger log_archive_no_truncate before truncate on public.log_archive
  for each statement execute function public.refuse_change('what is in the archive stays there');
grant select on public.log_archive to twofold_app;

-- Only the owner may remove rows at all, and only those that are in the archive. The last entry of a lane that has an
-- index stays while the lane is looked at: the next append and the sequencer read it.
create function public.refuse_unarchived_entry() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if exists (
    select from (select * from public.log_run where lane = old.lane and from_n <= old.n
        order by from_n desc limit 1) r
      join public.lane l on l.id = r.lane
      cross join public.log_archive a
    where old.n < r.from_n + r.count and r.first + old.n - r.from_n < a.until
      and (l.drained or old.n < l.next - 1)
  ) then
    return old;
  end if;
  raise exception 'the table is append-only' using errcode = 'TF004';
end $$;
revoke execute on function public.refuse_unarchived_entry from public;
drop trigger entry_append_only on public.entry;
create trigger entry_append_only before update on public.entry
  for each row execute function public.refuse_change('the table is append-only');
create trigger entry_archived_only before delete on public.entry
  for each row execute function public.refuse_unarchived_entry();
