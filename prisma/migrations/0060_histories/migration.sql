-- Which action of a key failed, and why in words. The release before writes neither: `failure_noted_at` says
-- whether they are of the failure that stands.
alter table public.key_schedule add column failure_action text;
alter table public.key_schedule add column failure_detail text;
alter table public.key_schedule add column failure_noted_at timestamptz(3);

-- What the row of a destroyed version no longer says: when it was in use, and the newest root generation that
-- wrapped what was destroyed, of which copies may exist. Written by the database from the row as it was, so
-- that instances of the release before leave it too. Without a MAC: nothing is decided on it, and the audit
-- log says the same.
create table public.destroyed_version (
  key_id uuid not null,
  version integer not null,
  activated_at timestamptz(3),
  deactivated_at timestamptz(3),
  root_generation integer,
  constraint destroyed_version_pkey primary key (key_id, version)
);

create function public.keep_destroyed_version() returns trigger language plpgsql as $$
begin
  insert into public.destroyed_version (key_id, version, activated_at, deactivated_at, root_generation)
  values (old.key_id, old.version, old.activated_at, old.deactivated_at,
    greatest(old.classical_generation, old.pq_generation, old.psk_generation))
  on conflict do nothing;
  return null;
end $$;
create trigger key_version_destroyed_kept after update of state on public.key_version
  for each row when (new.state = 'destroyed' and old.state <> 'destroyed')
  execute function public.keep_destroyed_version();

revoke execute on function public.keep_destroyed_version from public;
grant select, insert on public.destroyed_version to twofold_app;
