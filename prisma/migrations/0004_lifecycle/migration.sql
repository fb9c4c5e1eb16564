-- Keys over years: further names of a key, destruction that is scheduled before it runs, and writes of
-- a change as one function each, so that a later kind of row adds its own and repeats no other.

-- Further names of a key. They share the name space of key names, which `require_free_name` keeps
-- under the epoch barrier; the key's MAC covers them.
alter table public.key add column aliases text[] collate "C" not null default '{}';
create index key_aliases_idx on public.key using gin (aliases);

-- A destruction to come: when, why, and since when it is known. All three or none.
alter table public.key add column destroy_at timestamptz(3);
alter table public.key add column destruction_requested_at timestamptz(3);
alter table public.key add column destruction_reason text;
alter table public.key add constraint key_destruction
  check (num_nulls(destroy_at, destruction_requested_at, destruction_reason) in (0, 3));
alter table public.key_version add column destruction_requested_at timestamptz(3);
alter table public.key_version add column destruction_reason text;
alter table public.key_version add constraint key_version_destruction
  check (num_nulls(destroy_at, destruction_requested_at, destruction_reason) in (0, 3));

-- Names and ids that a change touches beside its key's own: aliases, and the key that loses one.
alter table public.security_change add column also text[] collate "C" not null default '{}';

-- One name names one key for ever: names of destroyed keys stay taken, aliases are free once dropped.
create function public.require_free_name(p_namespace text, p_name text, p_key uuid)
returns void language plpgsql as $$
declare
  retired boolean;
begin
  select destroyed_at is not null into retired
    from public.key where namespace = p_namespace and name = p_name;
  if retired then raise exception 'name retired' using errcode = 'TF008'; end if;
  if found then raise exception 'name taken' using errcode = 'TF007'; end if;
  perform from public.key
    where aliases @> array[p_name] and namespace = p_namespace and id <> p_key;
  if found then raise exception 'name taken by an alias' using errcode = 'TF007'; end if;
end $$;

create function public.write_insert_key(p_write jsonb) returns void language plpgsql as $$
declare
  k public.key := jsonb_populate_record(null::public.key, p_write -> 'row');
begin
  perform public.require_free_name(k.namespace, k.name, k.id);
  k.publish := coalesce(k.publish, false);
  k.aliases := coalesce(k.aliases, '{}');
  insert into public.key select k.*;
end $$;

create function public.write_update_key(p_write jsonb) returns void language plpgsql as $$
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
  -- Id, namespace, name, purpose and creation are for ever.
  update public.key set
    labels = k.labels, rotation = k.rotation, deletion_protection = k.deletion_protection,
    publish = coalesce(k.publish, false), aliases = k.aliases,
    primary_version = k.primary_version, min_usable_version = k.min_usable_version,
    latest_version = k.latest_version, suspended_at = k.suspended_at,
    suspension_reason = k.suspension_reason, destroy_at = k.destroy_at,
    destruction_requested_at = k.destruction_requested_at,
    destruction_reason = k.destruction_reason, destroyed_at = k.destroyed_at,
    revision = k.revision, mac = k.mac
  where id = k.id;
end $$;

create function public.write_insert_version(p_write jsonb) returns void language plpgsql as $$
declare
  v public.key_version := jsonb_populate_record(null::public.key_version, p_write -> 'row');
begin
  insert into public.key_version select v.*;
end $$;

create function public.write_update_version(p_write jsonb) returns void language plpgsql as $$
declare
  v public.key_version := jsonb_populate_record(null::public.key_version, p_write -> 'row');
begin
  -- Key, number, suite and creation are for ever.
  update public.key_version set
    state = v.state, revision = v.revision, activate_at = v.activate_at,
    activated_at = v.activated_at, deactivate_at = v.deactivate_at,
    suspended_at = v.suspended_at, deactivated_at = v.deactivated_at,
    compromised_at = v.compromised_at, destroy_at = v.destroy_at,
    destruction_requested_at = v.destruction_requested_at,
    destruction_reason = v.destruction_reason, destroyed_at = v.destroyed_at,
    reason = v.reason, classical_custody = v.classical_custody,
    classical_public = v.classical_public, classical_check = v.classical_check,
    classical_generation = v.classical_generation, classical_blob = v.classical_blob,
    classical_token_serial = v.classical_token_serial,
    classical_installation = v.classical_installation,
    classical_object_id = v.classical_object_id, pq_custody = v.pq_custody,
    pq_public = v.pq_public, pq_generation = v.pq_generation, pq_sealed = v.pq_sealed,
    psk_custody = v.psk_custody, psk_generation = v.psk_generation, psk_sealed = v.psk_sealed,
    certificate_chain = v.certificate_chain, mac = v.mac
  where key_id = v.key_id and version = v.version
    and revision = (p_write ->> 'expected')::integer;
  if not found then raise exception 'version revision moved' using errcode = 'TF006'; end if;
end $$;

create function public.write_put_certificate_chain(p_write jsonb) returns void language plpgsql as $$
begin
  insert into public.certificate_chain (key_id, version, pem)
  values ((p_write ->> 'key_id')::uuid, (p_write ->> 'version')::integer, p_write ->> 'pem')
  on conflict (key_id, version) do update set pem = excluded.pem;
end $$;

create function public.write_delete_certificate_chain(p_write jsonb) returns void language plpgsql as $$
begin
  delete from public.certificate_chain
  where key_id = (p_write ->> 'key_id')::uuid and version = (p_write ->> 'version')::integer;
end $$;

create function public.write_complete_intent(p_write jsonb) returns void language plpgsql as $$
begin
  delete from public.token_intent
  where object_id = (p_write ->> 'object_id')::bytea and not abandoned;
  if not found then raise exception 'intent abandoned' using errcode = 'TF006'; end if;
end $$;

-- A token object that no version has any more: whoever finds its maker dead removes it.
create function public.write_intend_removal(p_write jsonb) returns void language plpgsql as $$
declare
  i public.token_intent := jsonb_populate_record(null::public.token_intent, p_write -> 'row');
begin
  i.abandoned := false;
  insert into public.token_intent select i.*;
end $$;

-- One write of a change: {kind, ...} goes to the function `write_<kind>`.
create or replace function public.write_key_row(p_write jsonb) returns void language plpgsql as $$
begin
  execute format('select public.%I($1)', 'write_' || replace(p_write ->> 'kind', '-', '_'))
    using p_write;
end $$;

-- As in the first migration, and with what else the change touches.
create or replace function public.commit_change(
  p_epoch bigint, p_writes jsonb, p_idempotency jsonb, p_scope jsonb,
  p_lane integer, p_n bigint, p_hmac bytea, p_leaf bytea, p_body bytea, p_at timestamptz,
  p_namespace text, p_operation text, p_key_id uuid, p_key_ref text, p_subject text, p_outcome text
) returns bigint language plpgsql as $$
declare
  now_epoch bigint;
  one_write jsonb;
  repeat public.idempotency;
begin
  perform public.require_read_committed();
  perform public.take_barrier();
  if public.entries_present(p_lane, p_n, array[p_leaf]) then
    select epoch into strict now_epoch from public.security_change where lane = p_lane and n = p_n;
    return now_epoch;
  end if;
  select epoch into strict now_epoch from public.security_epoch;
  if now_epoch <> p_epoch then return -now_epoch; end if;
  perform public.append_entries(p_lane, p_n, p_hmac, array[p_leaf], array[p_body], array[p_at],
    array[p_namespace], array[p_operation], array[p_key_id], array[p_key_ref], array[p_subject],
    array[p_outcome]);
  if p_idempotency is not null then
    repeat := jsonb_populate_record(null::public.idempotency, p_idempotency);
    repeat.created_at := current_timestamp;
    insert into public.idempotency select repeat.* on conflict do nothing;
    if not found then raise exception 'idempotency key taken' using errcode = 'TF009'; end if;
  end if;
  for one_write in select jsonb_array_elements(p_writes) loop
    perform public.write_key_row(one_write);
  end loop;
  now_epoch := now_epoch + 1;
  insert into public.security_change (epoch, scope, namespace, key_id, key_name, lane, n, also)
  values (now_epoch, p_scope ->> 'scope', p_scope ->> 'namespace', (p_scope ->> 'key_id')::uuid,
    p_scope ->> 'key_name', p_lane, p_n,
    array(select jsonb_array_elements_text(coalesce(p_scope -> 'also', '[]'))));
  update public.security_epoch set epoch = now_epoch;
  perform pg_notify('twofold_epoch', now_epoch::text);
  return now_epoch;
end $$;

revoke execute on function public.require_free_name, public.write_insert_key,
  public.write_update_key, public.write_insert_version, public.write_update_version,
  public.write_put_certificate_chain, public.write_delete_certificate_chain,
  public.write_complete_intent, public.write_intend_removal from public;
grant execute on function public.require_free_name, public.write_insert_key,
  public.write_update_key, public.write_insert_version, public.write_update_version,
  public.write_put_certificate_chain, public.write_delete_certificate_chain,
  public.write_complete_intent, public.write_intend_removal to twofold_app;
grant update (aliases, destroy_at, destruction_requested_at, destruction_reason)
  on public.key to twofold_app;
grant update (destruction_requested_at, destruction_reason) on public.key_version to twofold_app;
