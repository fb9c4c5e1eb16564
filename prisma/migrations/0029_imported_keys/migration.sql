-- Keys that came from outside.

-- Of a key that of its first version, for ever: no change of a row writes it.
alter table public.key add column origin text collate "C" not null default 'generated'
  constraint key_origin check (origin in ('generated', 'imported'));
alter table public.key_version add column origin text collate "C" not null default 'generated'
  constraint key_version_origin check (origin in ('generated', 'imported'));

-- Instances of the release before name no origin: what they write was made here.
create or replace function public.write_insert_key(p_write jsonb) returns void language plpgsql as $$
declare
  k public.key := jsonb_populate_record(null::public.key, p_write -> 'row');
begin
  perform public.require_free_name(k.namespace, k.name, k.id);
  k.publish := coalesce(k.publish, false);
  k.aliases := coalesce(k.aliases, '{}');
  k.origin := coalesce(k.origin, 'generated');
  insert into public.key select k.*;
end $$;

create or replace function public.write_insert_version(p_write jsonb) returns void
language plpgsql as $$
declare
  v public.key_version := jsonb_populate_record(null::public.key_version, p_write -> 'row');
begin
  v.origin := coalesce(v.origin, 'generated');
  insert into public.key_version select v.*;
end $$;

-- Import parameters that were used. They are kept in no table before that: who asked for them brings them
-- along, sealed. A row is of no use once its parameters have expired, and stays a day longer.
create table public.used_import (
  id uuid not null,
  expires_at timestamptz(3) not null,
  constraint used_import_pkey primary key (id)
);
create index used_import_expires_at_idx on public.used_import (expires_at);

-- {id, expires_at}: once only.
create function public.write_use_import(p_write jsonb) returns void language plpgsql as $$
begin
  delete from public.used_import where expires_at < current_timestamp - interval '1 day';
  insert into public.used_import (id, expires_at)
  values ((p_write ->> 'id')::uuid, (p_write ->> 'expires_at')::timestamptz)
  on conflict do nothing;
  if not found then
    raise exception 'import parameters used twice' using errcode = 'TF029';
  end if;
end $$;

revoke execute on function public.write_use_import from public;
grant execute on function public.write_use_import to twofold_app;
grant select, insert, delete on public.used_import to twofold_app;
