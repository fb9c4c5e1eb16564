-- Backups: the root wrapped for the recovery key, what was backed up, and whether this database came out
-- of a backup.

-- W of the joining ceremony (deploy/backup.md), for each generation and recovery key. Nothing in it opens
-- without the recovery key; what was put in its place, the canary finds at a restore.
create table public.root_escrow (
  generation integer not null,
  -- SHA-256 of the recovery public key.
  recovery_key bytea not null,
  installation text not null,
  public_key bytea not null,
  point bytea not null,
  ciphertext bytea not null,
  wrapped bytea not null,
  transcript bytea not null,
  created_at timestamptz(3) not null default current_timestamp,
  constraint root_escrow_pkey primary key (generation, recovery_key),
  constraint root_escrow_lengths check (
    octet_length(recovery_key) = 32 and octet_length(public_key) = 1665
    and octet_length(point) = 97 and octet_length(ciphertext) = 1568
    and octet_length(wrapped) = 40 and octet_length(transcript) = 48
  )
);
grant select, insert on public.root_escrow to twofold_app;

-- What was asked for and came of it. The files say it themselves, signed; these rows are for lists and alarms.
create table public.backup (
  id uuid not null,
  state text not null,
  -- Issuer and subject; null: the schedule.
  issuer text,
  subject text,
  created_at timestamptz(3) not null,
  ended_at timestamptz(3),
  place text not null,
  entries text not null,
  bytes bigint,
  row_count bigint,
  keys bigint,
  log_size bigint,
  problem text,
  constraint backup_pkey primary key (id),
  constraint backup_state check (state in ('running', 'complete', 'failed')),
  constraint backup_entries check (entries in ('tail', 'all')),
  constraint backup_end check ((state = 'running') = (ended_at is null)),
  constraint backup_subject check ((issuer is null) = (subject is null))
);
create index backup_time_idx on public.backup (created_at, id);
create trigger backup_ends before update on public.backup
  for each row when (
    old.state <> 'running' or new.id <> old.id or new.created_at <> old.created_at
  )
  execute function public.refuse_change('a backup ends once');
grant select, insert on public.backup to twofold_app;
grant update (state, ended_at, bytes, row_count, keys, log_size, problem) on public.backup to twofold_app;

-- One row, in a database that was restored. `loaded`: its rows are there and nobody has shown that they open;
-- no service starts on that. `verified`: they do. `announced`: the log says so.
create table public.restoration (
  one boolean not null default true,
  backup uuid not null,
  state text not null,
  -- When the backup was taken, and the head of the log in it.
  taken_at timestamptz(3) not null,
  restored_at timestamptz(3) not null,
  log_size bigint not null,
  log_root bytea not null,
  constraint restoration_pkey primary key (one),
  constraint restoration_one check (one),
  constraint restoration_state check (state in ('loaded', 'verified', 'announced')),
  constraint restoration_root check (octet_length(log_root) = 32)
);
create trigger restoration_onward before update on public.restoration
  for each row when (
    new.backup <> old.backup or new.log_size <> old.log_size or new.log_root <> old.log_root
    or (old.state, new.state) not in (('loaded', 'verified'), ('verified', 'announced'))
  )
  execute function public.refuse_change('a restoration goes on to its end');
grant select on public.restoration to twofold_app;
grant update (state) on public.restoration to twofold_app;
