-- Certificate chains beside versions. The text is apart from the row, which is read with every use of
-- its key: chains are long. The row has its SHA-256, and the row's MAC covers that.

alter table public.key_version add column certificate_chain bytea;
alter table public.key_version add constraint key_version_certificate_chain
  check (octet_length(certificate_chain) = 32);

create table public.certificate_chain (
  key_id uuid not null,
  version integer not null,
  pem text not null,
  constraint certificate_chain_pkey primary key (key_id, version),
  constraint certificate_chain_version_fkey foreign key (key_id, version)
    references public.key_version (key_id, version) on update restrict on delete restrict
);

-- One write of a change; `p_write` is {kind, row} or {kind, row, expected} with the row's columns.
create or replace function public.write_key_row(p_write jsonb) returns void language plpgsql as $$
declare
  k public.key;
  v public.key_version;
  retired boolean;
begin
  case p_write ->> 'kind'
    when 'insert-key' then
      k := jsonb_populate_record(null::public.key, p_write -> 'row');
      select destroyed_at is not null into retired
        from public.key where namespace = k.namespace and name = k.name;
      if retired then raise exception 'name retired' using errcode = 'TF008'; end if;
      if found then raise exception 'name taken' using errcode = 'TF007'; end if;
      k.publish := coalesce(k.publish, false);
      insert into public.key select k.*;
    when 'update-key' then
      k := jsonb_populate_record(null::public.key, p_write -> 'row');
      -- Id, namespace, name, purpose and creation are for ever.
      update public.key set
        labels = k.labels, rotation = k.rotation, deletion_protection = k.deletion_protection,
        publish = coalesce(k.publish, false),
        primary_version = k.primary_version, min_usable_version = k.min_usable_version,
        latest_version = k.latest_version, suspended_at = k.suspended_at,
        suspension_reason = k.suspension_reason, destroyed_at = k.destroyed_at,
        revision = k.revision, mac = k.mac
      where id = k.id and revision = (p_write ->> 'expected')::integer;
      if not found then raise exception 'key revision moved' using errcode = 'TF006'; end if;
    when 'insert-version' then
      v := jsonb_populate_record(null::public.key_version, p_write -> 'row');
      insert into public.key_version select v.*;
    when 'update-version' then
      v := jsonb_populate_record(null::public.key_version, p_write -> 'row');
      -- Key, number, suite and creation are for ever.
      update public.key_version set
        state = v.state, revision = v.revision, activate_at = v.activate_at,
        activated_at = v.activated_at, deactivate_at = v.deactivate_at,
        suspended_at = v.suspended_at, deactivated_at = v.deactivated_at,
        compromised_at = v.compromised_at, destroy_at = v.destroy_at, destroyed_at = v.destroyed_at,
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
    when 'put-certificate-chain' then
      insert into public.certificate_chain (key_id, version, pem)
      values ((p_write ->> 'key_id')::uuid, (p_write ->> 'version')::integer, p_write ->> 'pem')
      on conflict (key_id, version) do update set pem = excluded.pem;
    when 'delete-certificate-chain' then
      delete from public.certificate_chain
      where key_id = (p_write ->> 'key_id')::uuid and version = (p_write ->> 'version')::integer;
    when 'complete-intent' then
      delete from public.token_intent
      where object_id = (p_write ->> 'object_id')::bytea and not abandoned;
      if not found then raise exception 'intent abandoned' using errcode = 'TF006'; end if;
  end case;
end $$;

grant update (certificate_chain) on public.key_version to twofold_app;
grant select, insert, delete, update (pem) on public.certificate_chain to twofold_app;
