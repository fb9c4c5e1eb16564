-- Several generations of the root in one database, and the rotation from one to the next.
--
-- A MAC of the first generation of an installation is 32 bytes, as all were before; one of a later
-- generation is the generation (u32, big-endian) followed by them. What is wrapped or sealed names its
-- generation in a column. No row says anything else when its MAC or its material is made anew, so
-- triggers that hold revisions and histories let exactly that through.

-- intended: the ceremony began; complete: on the token, with its keys and canary; in-force: what new
-- material is made under, one at a time; retiring: a later one is in force; retired: nothing refers to it.
drop trigger root_generation_final on public.root_generation;
alter table public.root_generation drop constraint root_generation_state;
update public.root_generation set state = 'in-force' where state = 'complete'
  and generation = (select max(generation) from public.root_generation where state = 'complete');
alter table public.root_generation
  add column kept_generation integer,
  add column kept_blob bytea,
  add column kept_mac bytea,
  add constraint root_generation_state check (
    (state = 'intended' and num_nonnulls(seal_blob, seal_check, mac_blob, mac_check, canary) = 0)
    or (state in ('complete', 'in-force', 'retiring', 'retired')
      and num_nulls(seal_blob, seal_check, mac_blob, mac_check, canary) = 0)
  ),
  -- root-mac of a generation that is going, wrapped under a later one: for the audit log alone.
  add constraint root_generation_kept
    check (num_nonnulls(kept_generation, kept_blob, kept_mac) in (0, 3));
create trigger root_generation_final before update on public.root_generation
  for each row when (
    old.state <> 'intended'
    and row(new.installation, new.seal_blob, new.seal_check, new.mac_blob, new.mac_check, new.canary)
      is distinct from
      row(old.installation, old.seal_blob, old.seal_check, old.mac_blob, old.mac_check, old.canary)
  )
  execute function public.refuse_change('the generation is complete');
create unique index root_generation_in_force on public.root_generation ((true))
  where state = 'in-force';
create trigger root_generation_onward before update on public.root_generation
  for each row when (
    array_position(array['intended', 'complete', 'in-force', 'retiring', 'retired'], new.state)
      < array_position(array['intended', 'complete', 'in-force', 'retiring', 'retired'], old.state)
  )
  execute function public.refuse_change('a generation of the root only goes on');

-- Which generations an instance has opened.
alter table public.instance add column generations integer[] not null default '{}';

create function public.mac_generation(p_mac bytea, p_first integer) returns integer
language sql immutable as $$
  select case when octet_length(p_mac) = 36
    then ('x' || encode(substring(p_mac from 1 for 4), 'hex'))::bit(32)::integer
    else p_first end
$$;

-- One rotation of the root at a time.
create unique index operation_root_rotation on public.operation (kind)
  where kind = 'root-rotation' and state = 'running';

-- Few among many operations.
create index operation_root_rotations on public.operation (namespace, created_at, id)
  where kind = 'root-rotation';

-- Making a MAC anew changes nothing else: revisions rise whenever something else does.
drop trigger rotation_policy_set_onward on public.rotation_policy_set;
create trigger rotation_policy_set_onward before update on public.rotation_policy_set
  for each row when (
    new.revision <= old.revision
    and row(new.namespace, new.revision, new.hash, new.paused)
      is distinct from row(old.namespace, old.revision, old.hash, old.paused)
  )
  execute function public.refuse_change('revisions of a set only rise');
drop trigger set_seal_onward on public.set_seal;
create trigger set_seal_onward before update on public.set_seal
  for each row when (
    new.revision <= old.revision
    and row(new.kind, new.namespace, new.revision, new.hash)
      is distinct from row(old.kind, old.namespace, old.revision, old.hash)
  )
  execute function public.refuse_change('revisions of a set only rise');
drop trigger set_history_append_only on public.set_history;
create trigger set_history_append_only
  before update of kind, namespace, revision, name, at, author, value or delete
  on public.set_history
  for each row execute function public.refuse_change('the table is append-only');
drop trigger approval_onward on public.approval;
create trigger approval_onward before update on public.approval
  for each row when (
    (new.revision <= old.revision or old.state in ('denied', 'withdrawn', 'executed'))
    and to_jsonb(new) - 'mac' is distinct from to_jsonb(old) - 'mac'
  )
  execute function public.refuse_change('what has ended stays so, and revisions only rise');
drop trigger log_key_onward on public.log_key;
create trigger log_key_onward before update on public.log_key
  for each row when (
    (
      new.revision <= old.revision
      and to_jsonb(new) - array['mac', 'generation', 'sealed']
        is distinct from to_jsonb(old) - array['mac', 'generation', 'sealed']
    )
    or array_position(array['pending', 'active', 'retiring', 'retired'], new.state)
      < array_position(array['pending', 'active', 'retiring', 'retired'], old.state)
  )
  execute function public.refuse_change('a key of the log only goes on');

-- How many rows refer to each generation, by table: what is wrapped, sealed or MACed under it.
create function public.root_references()
returns table (generation integer, what text, rows bigint) language sql stable as $$
  with first as (select min(g.generation) as n from public.root_generation g),
  refs (generation, what) as (
    select mac_generation, t.what from first, lateral (
      select public.mac_generation(mac, n), 'key' from public.key
      union all select public.mac_generation(mac, n), 'version' from public.key_version
      union all select public.mac_generation(mac, n), 'intent' from public.token_intent
      union all select public.mac_generation(mac, n), 'idempotency' from public.idempotency
      union all select public.mac_generation(mac, n), 'operation' from public.operation
      union all select public.mac_generation(mac, n), 'policy' from public.rotation_policy
      union all select public.mac_generation(mac, n), 'policy-set' from public.rotation_policy_set
      union all select public.mac_generation(mac, n), 'member' from public.set_member
      union all select public.mac_generation(mac, n), 'history' from public.set_history
      union all select public.mac_generation(mac, n), 'seal' from public.set_seal
      union all select public.mac_generation(mac, n), 'approval' from public.approval
      union all select public.mac_generation(mac, n), 'log-name' from public.log_name
      union all select public.mac_generation(mac, n), 'log-key' from public.log_key
      union all select public.mac_generation(kept_mac, n), 'kept' from public.root_generation
        where kept_mac is not null
    ) t (mac_generation, what)
    union all select classical_generation, 'classical' from public.key_version
      where classical_generation is not null
    union all select pq_generation, 'pq' from public.key_version where pq_generation is not null
    union all select psk_generation, 'psk' from public.key_version where psk_generation is not null
    union all select l.generation, 'log-seed' from public.log_key l where l.generation is not null
    union all select kept_generation, 'kept' from public.root_generation
      where kept_generation is not null
  )
  select refs.generation, refs.what, count(*) from refs group by 1, 2
$$;

-- A rotation begins: its operation is there, the new generation in force, the old one retiring.
-- Refused while an instance that lives has not opened the new one.
create function public.write_begin_root_rotation(p_write jsonb) returns void language plpgsql as $$
declare
  wanted integer := (p_write ->> 'generation')::integer;
  standing text;
begin
  if exists (
    select from public.operation where kind = 'root-rotation' and state = 'running'
  ) then raise exception 'a rotation of the root runs' using errcode = 'TF006'; end if;
  if exists (
    select from public.instance
    where not closed and not fenced
      and beat_at > clock_timestamp() - (p_write ->> 'live_seconds')::integer * interval '1 s'
      and not wanted = any (generations)
  ) then raise exception 'an instance has not opened it' using errcode = 'TF006'; end if;
  select state into standing from public.root_generation where generation = wanted for update;
  if standing = 'complete' then
    update public.root_generation set state = 'retiring' where state = 'in-force'
      and generation < wanted;
    update public.root_generation set state = 'in-force' where generation = wanted;
  elsif standing is distinct from 'in-force' then
    raise exception 'the generation is not complete' using errcode = 'TF006';
  end if;
  perform public.write_operation_row(p_write -> 'operation');
end $$;

-- Everything is under the generation in force, and every instance drops what it had read before.
create function public.write_end_root_rotation(p_write jsonb) returns void language plpgsql as $$
begin
  perform public.write_operation_row(p_write -> 'operation');
end $$;

-- A generation is retired: nothing refers to it, and its MACs of the audit log were taken over.
create function public.write_retire_root_generation(p_write jsonb) returns void
language plpgsql as $$
declare
  old integer := (p_write ->> 'generation')::integer;
begin
  if exists (select from public.root_references() r where r.generation = old)
    or exists (select from public.operation where kind = 'root-rotation' and state = 'running')
  then raise exception 'something refers to the generation' using errcode = 'TF006'; end if;
  update public.root_generation set state = 'retired'
    where generation = old and state = 'retiring' and kept_blob is not null;
  if not found then raise exception 'the generation is not retiring' using errcode = 'TF006'; end if;
end $$;

-- One batch: rows as they were read (by the MAC that each had) take their new MACs and material. A row
-- that moved meanwhile refuses the whole batch, which is then read and made anew. Runs as the owner,
-- because the server may not update these columns: this is all it can make happen to them.
create function public.remake_root_rows(p_rows jsonb) returns void language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  r jsonb;
  old_mac bytea;
  new_mac bytea;
begin
  for r in select jsonb_array_elements(p_rows) loop
    old_mac := (r ->> 'old')::bytea;
    new_mac := (r ->> 'mac')::bytea;
    case r ->> 'table'
      when 'key' then
        update public.key set mac = new_mac where id = (r ->> 'id')::uuid and mac = old_mac;
      when 'version' then
        update public.key_version set mac = new_mac,
          classical_generation = (r ->> 'classical_generation')::integer,
          classical_blob = (r ->> 'classical_blob')::bytea,
          pq_generation = (r ->> 'pq_generation')::integer,
          pq_sealed = (r ->> 'pq_sealed')::bytea,
          psk_generation = (r ->> 'psk_generation')::integer,
          psk_sealed = (r ->> 'psk_sealed')::bytea
        where key_id = (r ->> 'id')::uuid and version = (r ->> 'version')::integer
          and mac = old_mac;
      when 'intent' then
        update public.token_intent set mac = new_mac
          where object_id = (r ->> 'object_id')::bytea and mac = old_mac;
      when 'idempotency' then
        update public.idempotency set mac = new_mac
          where namespace = r ->> 'namespace' and principal = (r ->> 'principal')::bytea
            and key = r ->> 'key' and mac = old_mac;
      when 'operation' then
        update public.operation set mac = new_mac where id = (r ->> 'id')::uuid and mac = old_mac;
      when 'policy' then
        update public.rotation_policy set mac = new_mac
          where namespace = r ->> 'namespace' and name = r ->> 'name' and mac = old_mac;
      when 'policy-set' then
        update public.rotation_policy_set set mac = new_mac
          where namespace = r ->> 'namespace' and mac = old_mac;
      when 'member' then
        update public.set_member set mac = new_mac
          where kind = r ->> 'kind' and namespace = r ->> 'namespace' and name = r ->> 'name'
            and mac = old_mac;
      when 'history' then
        update public.set_history set mac = new_mac
          where kind = r ->> 'kind' and namespace = r ->> 'namespace'
            and revision = (r ->> 'revision')::integer and name = r ->> 'name' and mac = old_mac;
      when 'seal' then
        update public.set_seal set mac = new_mac
          where kind = r ->> 'kind' and namespace = r ->> 'namespace' and mac = old_mac;
      when 'approval' then
        update public.approval set mac = new_mac where id = (r ->> 'id')::uuid and mac = old_mac;
      when 'log-name' then
        update public.log_name set mac = new_mac where mac = old_mac;
      when 'log-key' then
        update public.log_key set mac = new_mac,
          generation = (r ->> 'generation')::integer, sealed = (r ->> 'sealed')::bytea
        where id = (r ->> 'id')::uuid and mac = old_mac;
      when 'kept' then
        update public.root_generation set kept_generation = (r ->> 'kept_generation')::integer,
          kept_blob = (r ->> 'kept_blob')::bytea, kept_mac = new_mac
        where generation = (r ->> 'generation')::integer and state in ('retiring', 'retired')
          and kept_mac is not distinct from old_mac;
    end case;
    if not found then raise exception 'a row moved' using errcode = 'TF006'; end if;
  end loop;
end $$;

-- A batch with its audit entry and the progress of the rotation, under the epoch barrier.
create function public.commit_root_batch(
  p_rows jsonb, p_epoch bigint, p_write jsonb, p_lane integer, p_n bigint, p_hmac bytea,
  p_leaf bytea, p_body bytea, p_at timestamptz, p_namespace text, p_operation text, p_key_id uuid,
  p_key_ref text, p_subject text, p_outcome text
) returns bigint language plpgsql as $$
declare
  answer bigint;
begin
  perform public.require_read_committed();
  perform pg_advisory_xact_lock_shared(7411);
  if public.entries_present(p_lane, p_n, array[p_leaf]) then return p_epoch; end if;
  answer := public.commit_operation(p_epoch, p_write, null, p_lane, p_n, p_hmac, p_leaf, p_body, p_at,
    p_namespace, p_operation, p_key_id, p_key_ref, p_subject, p_outcome);
  if answer < 0 then return answer; end if;
  perform public.remake_root_rows(p_rows);
  return answer;
end $$;

revoke execute on function public.mac_generation, public.root_references,
  public.write_begin_root_rotation, public.write_end_root_rotation,
  public.write_retire_root_generation, public.remake_root_rows, public.commit_root_batch from public;
grant execute on function public.mac_generation, public.root_references,
  public.write_begin_root_rotation, public.write_end_root_rotation,
  public.write_retire_root_generation, public.remake_root_rows, public.commit_root_batch to twofold_app;
grant update (generations) on public.instance to twofold_app;
