-- Keys that may leave, and what of them has left.

-- Said at the creation, for ever: no change of a row writes it.
alter table public.key add column exportable boolean not null default false;
-- Each export, in the order of time; nothing is taken away from it.
alter table public.key add column exports jsonb not null default '[]'
  constraint key_exports check (jsonb_typeof(exports) = 'array' and (exportable or exports = '[]'));

-- Instances of the release before name neither: what they write cannot leave.
create or replace function public.write_insert_key(p_write jsonb) returns void language plpgsql as $$
declare
  k public.key := jsonb_populate_record(null::public.key, p_write -> 'row');
begin
  perform public.require_free_name(k.namespace, k.name, k.id);
  k.publish := coalesce(k.publish, false);
  k.aliases := coalesce(k.aliases, '{}');
  k.origin := coalesce(k.origin, 'generated');
  k.exportable := coalesce(k.exportable, false);
  k.exports := coalesce(k.exports, '[]');
  insert into public.key select k.*;
end $$;

create or replace function public.write_update_key(p_write jsonb) returns void language plpgsql as $$
declare
  k public.key := jsonb_populate_record(null::public.key, p_write -> 'row');
  before public.key;
  added text;
begin
  select * into before from public.key
    where id = k.id and revision = (p_write ->> 'expected')::integer;
  if not found then raise exception 'key revision moved' using errcode = 'TF006'; end if;
  k.aliases := coalesce(k.aliases, '{}');
  for added in select unnest(k.aliases) except select unnest(before.aliases) loop
    perform public.require_free_name(before.namespace, added, k.id);
  end loop;
  -- Id, namespace, name, purpose, origin, creation and whether it may leave are for ever.
  update public.key set
    labels = k.labels, rotation = k.rotation, deletion_protection = k.deletion_protection,
    publish = coalesce(k.publish, false), aliases = k.aliases,
    primary_version = k.primary_version, min_usable_version = k.min_usable_version,
    latest_version = k.latest_version, suspended_at = k.suspended_at,
    suspension_reason = k.suspension_reason, destroy_at = k.destroy_at,
    destruction_requested_at = k.destruction_requested_at,
    destruction_reason = k.destruction_reason, destroyed_at = k.destroyed_at,
    exports = coalesce(k.exports, before.exports),
    revision = k.revision, mac = k.mac
  where id = k.id;
end $$;

grant update (exports) on public.key to twofold_app;
