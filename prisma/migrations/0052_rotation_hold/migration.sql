-- Since a rotation was undone by hand: which policy waits for an operator, and why.
alter table public.key add column rotation_hold jsonb
  constraint key_rotation_hold check (rotation_hold is null or jsonb_typeof(rotation_hold) = 'object');

-- Instances of the release before do not name it: what they write holds nothing.
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
    rotation_hold = k.rotation_hold,
    revision = k.revision, mac = k.mac
  where id = k.id;
end $$;

grant update (rotation_hold) on public.key to twofold_app;
