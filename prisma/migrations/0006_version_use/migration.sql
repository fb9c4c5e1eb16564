-- How often each version was used, in which way and by whom, in sums that instances add to every few
-- seconds. Statistics: the audit log is what is exact and durable. Without a row MAC, since each flush
-- would need one for every row; nothing is decided on them but by people, and a forged sum shows there.
-- No foreign key: it would lock a row of `key_version` for every row of every flush. Rows of destroyed
-- versions stay: who used a version, and until when, is asked after its end too.
create table public.version_use (
  key_id uuid not null,
  version integer not null,
  usage text collate "C" not null,
  -- Both empty: everyone beyond the principals that an instance tells apart.
  issuer text collate "C" not null,
  subject text collate "C" not null,
  uses bigint not null,
  first_at timestamptz(3) not null,
  last_at timestamptz(3) not null,
  -- Orders principals of the same time; a page goes on after it.
  id bigint generated always as identity not null,
  constraint version_use_pkey primary key (key_id, version, usage, issuer, subject),
  constraint version_use_version check (version >= 1),
  constraint version_use_usage check (usage in ('protect', 'process')),
  constraint version_use_uses check (uses >= 1),
  constraint version_use_times check (first_at <= last_at)
);
-- Pages of the principals of a version, most recent first.
create index version_use_recent_idx on public.version_use (key_id, version, last_at, id);
create trigger version_use_grows before update on public.version_use
  for each row when (new.uses < old.uses or new.first_at > old.first_at or new.last_at < old.last_at)
  execute function public.refuse_change('sums of uses only grow');

-- The number of the last flush of each instance that counts, so that one sent twice counts once.
create table public.use_flush (
  instance uuid not null,
  flushed bigint not null,
  constraint use_flush_pkey primary key (instance),
  constraint use_flush_flushed check (flushed >= 1)
);
create trigger use_flush_rises before update on public.use_flush
  for each row when (new.flushed <= old.flushed)
  execute function public.refuse_change('numbers of flushes only rise');

-- Which counters have passed a number is asked of all of them.
create index usage_counter_used_idx on public.usage_counter (used);

grant select, insert on public.version_use, public.use_flush to twofold_app;
grant update (uses, first_at, last_at) on public.version_use to twofold_app;
grant update (flushed) on public.use_flush to twofold_app;
