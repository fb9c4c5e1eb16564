-- A wrapped root of ours has a MAC by `root-mac`, so that nobody who writes the database can have another one
-- carried by backups. Rows from before have none and are wrapped anew, in their place.
alter table public.root_escrow add column mac bytea;
alter table public.root_escrow add constraint root_escrow_mac
  check (mac is null or octet_length(mac) in (32, 36));
grant update on public.root_escrow to twofold_app;
