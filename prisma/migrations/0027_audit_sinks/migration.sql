-- How far each sink of the audit log is: index of the next entry that it gets. Counters: they decide
-- nothing but what is sent again, so they carry no MAC.
create table public.audit_sink (
  name text collate "C" not null,
  next bigint not null,
  changed_at timestamptz(3) not null default clock_timestamp(),
  constraint audit_sink_pkey primary key (name),
  constraint audit_sink_next check (next >= 0)
);
grant select, insert, update (next, changed_at) on public.audit_sink to twofold_app;
