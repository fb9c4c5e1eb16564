-- The first schema. Plain SQL for PostgreSQL 15 to 18, run as the owner role in one transaction.
--
-- The server runs as a member of `twofold_app`, which owns nothing: it may append to the audit
-- tables and never change them, because a table's owner could disable their triggers. Where the role
-- is missing it is made without login; a deployment grants it to the role that its servers use.
--
-- Functions name every object with its schema and pin `search_path` where they run as the owner.
-- They raise SQLSTATEs of class TF, which `src/store/failures.ts` turns into error codes:
--   TF001 the lane does not exist                    TF006 a revision moved, or an intent is gone
--   TF002 the lane is closed                         TF007 the name is taken
--   TF003 the batch would leave a gap in its lane    TF008 the name belonged to a destroyed key
--   TF004 what stands was to be changed              TF009 the idempotency key is taken
--   TF005 the transaction is not READ COMMITTED      TF010 the instance does not exist
--   TF011 appends did not make way in time           TF012 the instance is fenced or closed

do $$
begin
  -- Asked first: without CREATEROLE the statement fails even when the role exists.
  if not exists (select from pg_catalog.pg_roles where rolname = 'twofold_app') then
    create role twofold_app nologin;
  end if;
exception
  when duplicate_object or unique_violation then null;
end $$;

-- For triggers; the argument says what stands.
create function public.refuse_change() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  raise exception '% of % is refused: %', tg_op, tg_table_name, tg_argv[0] using errcode = 'TF004';
end $$;

-- Namespaces ----------------------------------------------------------------------------------

create table public.namespace (
  name text collate "C" not null,
  created_at timestamptz(3) not null default current_timestamp,
  -- Null only for `default`, which exists before there is a root that could attest it.
  mac bytea,
  constraint namespace_pkey primary key (name),
  constraint namespace_attested check (mac is not null or name = 'default')
);
insert into public.namespace (name) values ('default');

-- Keys and versions ---------------------------------------------------------------------------

-- One row per name for ever: a destroyed key keeps its row, so that its name is never reused.
create table public.key (
  id uuid not null,
  namespace text collate "C" not null,
  name text collate "C" not null,
  purpose text not null,
  labels jsonb not null,
  -- Reserved for rotation policies.
  rotation jsonb,
  deletion_protection boolean not null,
  primary_version integer,
  min_usable_version integer not null,
  latest_version integer not null,
  suspended_at timestamptz(3),
  suspension_reason text,
  destroyed_at timestamptz(3),
  created_at timestamptz(3) not null,
  revision integer not null,
  mac bytea not null,
  constraint key_pkey primary key (id),
  constraint key_namespace_fkey foreign key (namespace) references public.namespace (name)
    on update restrict on delete restrict,
  constraint key_purpose check (purpose in ('wrap', 'kem', 'sign', 'mac')),
  constraint key_labels check (jsonb_typeof(labels) = 'object'),
  constraint key_suspension check (num_nulls(suspended_at, suspension_reason) in (0, 2))
);
create unique index key_namespace_name_key on public.key (namespace, name);

-- One set of material in one suite. Which columns are set follows from `state` and the suite.
create table public.key_version (
  key_id uuid not null,
  version integer not null,
  suite integer not null,
  state text not null,
  created_at timestamptz(3) not null,
  revision integer not null,
  activate_at timestamptz(3),
  activated_at timestamptz(3),
  deactivate_at timestamptz(3),
  suspended_at timestamptz(3),
  deactivated_at timestamptz(3),
  compromised_at timestamptz(3),
  destroy_at timestamptz(3),
  destroyed_at timestamptz(3),
  reason text,
  classical_custody text,
  classical_public bytea,
  classical_check bytea,
  classical_generation integer,
  classical_blob bytea,
  classical_token_serial text,
  classical_installation text,
  classical_object_id bytea,
  pq_custody text,
  pq_public bytea,
  pq_generation integer,
  pq_sealed bytea,
  psk_custody text,
  psk_generation integer,
  psk_sealed bytea,
  mac bytea not null,
  constraint key_version_pkey primary key (key_id, version),
  constraint key_version_key_fkey foreign key (key_id) references public.key (id)
    on update restrict on delete restrict,
  constraint key_version_number check (version >= 1),
  constraint key_version_suite check (suite between 1 and 65535),
  constraint key_version_state check (
    state in ('pre-active', 'active', 'suspended', 'deactivated', 'compromised', 'destroyed')
  ),
  constraint key_version_destroyed check (
    state <> 'destroyed'
    or num_nonnulls(
      classical_custody, classical_public, classical_check, classical_blob, classical_object_id,
      pq_custody, pq_public, pq_sealed, psk_custody, psk_sealed
    ) = 0
  )
);
create index key_version_suite_idx on public.key_version (suite);

-- Uses reserved in blocks. Without a row MAC: each use would need one, and a lowered counter is a
-- stated residual risk.
create table public.usage_counter (
  counter text collate "C" not null,
  used bigint not null,
  constraint usage_counter_pkey primary key (counter),
  constraint usage_counter_used check (used >= 0)
);
create trigger usage_counter_rises before update on public.usage_counter
  for each row when (new.used < old.used)
  execute function public.refuse_change('a counter only rises');

-- Roots and token objects ---------------------------------------------------------------------

-- Without a row MAC: the MAC key is in here; the canary proves a generation.
create table public.root_generation (
  generation integer not null,
  installation text not null,
  state text not null,
  seal_blob bytea,
  seal_check bytea,
  mac_blob bytea,
  mac_check bytea,
  canary bytea,
  constraint root_generation_pkey primary key (generation),
  constraint root_generation_state check (
    (state = 'intended' and num_nonnulls(seal_blob, seal_check, mac_blob, mac_check, canary) = 0)
    or (state = 'complete' and num_nulls(seal_blob, seal_check, mac_blob, mac_check, canary) = 0)
  )
);
create trigger root_generation_final before update on public.root_generation
  for each row when (old.state = 'complete')
  execute function public.refuse_change('the generation is complete');

-- Token objects that are being made. `abandoned` is set, once, before an orphan is removed, so that
-- a maker thought dead cannot complete an object that is going away.
create table public.token_intent (
  object_id bytea not null,
  installation text not null,
  token_serial text not null,
  instance uuid not null,
  abandoned boolean not null default false,
  created_at timestamptz(3) not null,
  mac bytea not null,
  constraint token_intent_pkey primary key (object_id)
);
create trigger token_intent_abandoned before update on public.token_intent
  for each row when (old.abandoned and not new.abandoned)
  execute function public.refuse_change('the intent is abandoned');

-- Requests that took effect -------------------------------------------------------------------

create table public.idempotency (
  namespace text collate "C" not null,
  principal bytea not null,
  key text collate "C" not null,
  request_hash bytea not null,
  status integer not null,
  body text not null,
  audit_id text not null,
  -- Says no more than when the record may go; outside the MAC.
  created_at timestamptz(3) not null default current_timestamp,
  mac bytea not null,
  constraint idempotency_pkey primary key (namespace, principal, key)
);
create index idempotency_created_at_idx on public.idempotency (created_at);

-- Instances and the security epoch ------------------------------------------------------------

create table public.instance (
  id uuid not null,
  zone text not null,
  suites integer[] not null,
  envelopes integer[] not null,
  grace_ms integer not null,
  opened_at timestamptz(3) not null default current_timestamp,
  beat bigint not null default 0,
  -- By the database's clock: no two machines' clocks are compared.
  beat_at timestamptz(3) not null default current_timestamp,
  epoch_seen bigint not null default 0,
  fenced boolean not null default false,
  closed boolean not null default false,
  constraint instance_pkey primary key (id)
);
create trigger instance_closed before update on public.instance
  for each row when (old.closed and not new.closed)
  execute function public.refuse_change('the instance is closed');

create table public.security_epoch (
  one boolean not null default true,
  epoch bigint not null,
  constraint security_epoch_pkey primary key (one),
  constraint security_epoch_one check (one)
);
insert into public.security_epoch (epoch) values (1);
create trigger security_epoch_rises before update on public.security_epoch
  for each row when (new.epoch is distinct from old.epoch + 1)
  execute function public.refuse_change('the epoch rises by one');

-- What each epoch changed, and the audit entry that says so.
create table public.security_change (
  epoch bigint not null,
  scope text not null,
  namespace text collate "C" not null,
  key_id uuid,
  key_name text collate "C",
  lane integer not null,
  n bigint not null,
  at timestamptz(3) not null default current_timestamp,
  constraint security_change_pkey primary key (epoch),
  constraint security_change_scope check (scope in ('key', 'access'))
);
create unique index security_change_lane_n_key on public.security_change (lane, n);

-- Audit ---------------------------------------------------------------------------------------

create table public.lane (
  id integer generated always as identity not null,
  instance uuid not null,
  kind text not null,
  -- The sequencer's cursor: the next entry that it takes from this lane.
  next bigint not null default 1,
  closed boolean not null default false,
  opened_at timestamptz(3) not null default current_timestamp,
  constraint lane_pkey primary key (id),
  constraint lane_kind check (kind in ('use', 'change'))
);
create index lane_instance_idx on public.lane (instance);
create trigger lane_onward before update on public.lane
  for each row when ((old.closed and not new.closed) or new.next < old.next)
  execute function public.refuse_change('a closed lane stays closed, a cursor goes on');

-- Entries in their final bytes. The columns after `body` repeat what it says, for filters, and
-- prove nothing. `batch_hmac` stands at the first entry of each batch, which reaches to the next
-- such entry or the lane's end: batches are appended whole.
-- No foreign key to `lane`: it would lock the lane's row once for every entry; `append_entries` checks.
create table public.entry (
  lane integer not null,
  n bigint not null,
  leaf bytea not null,
  body bytea not null,
  batch_hmac bytea,
  at timestamptz(3) not null,
  namespace text collate "C" not null,
  operation text collate "C" not null,
  key_id uuid,
  key_ref text collate "C",
  subject text collate "C" not null,
  outcome text collate "C" not null,
  constraint entry_pkey primary key (lane, n),
  constraint entry_leaf check (octet_length(leaf) = 32),
  constraint entry_n check (n >= 1)
) partition by range (lane);
create index entry_at_lane_n_idx on public.entry (at, lane, n);

-- Row triggers are cloned to every partition; truncation has statement triggers only, which each
-- partition gets when it is made.
create trigger entry_append_only before update or delete on public.entry
  for each row execute function public.refuse_change('the table is append-only');
create trigger entry_no_truncate before truncate on public.entry
  for each statement execute function public.refuse_change('the table is append-only');
create trigger security_change_append_only before update or delete on public.security_change
  for each row execute function public.refuse_change('the table is append-only');
create trigger security_change_no_truncate before truncate on public.security_change
  for each statement execute function public.refuse_change('the table is append-only');

-- Makes the partition that holds a lane, 1,024 lanes each. Attaching takes a lock that appends to
-- other lanes do not wait for, which CREATE TABLE ... PARTITION OF would make them do.
create function public.make_entry_partition(p_lane integer) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  low integer := p_lane / 1024 * 1024;
  name text := format('entry_%s', low);
begin
  if to_regclass('public.' || name) is not null then return; end if;
  perform pg_advisory_xact_lock(7412);
  -- By a query, whose snapshot is newer than the lock: to_regclass may answer from a cache that is not.
  if exists (
    select from pg_class where relnamespace = 'public'::regnamespace and relname = name
  ) then return; end if;
  execute format('create table public.%I (like public.entry including constraints)', name);
  execute format('create trigger %I before truncate on public.%I for each statement
    execute function public.refuse_change(%L)', name || '_no_truncate', name,
    'the table is append-only');
  execute format('alter table public.entry attach partition public.%I for values from (%s) to (%s)',
    name, low, low::bigint + 1024);
end $$;

-- What an instance writes ends with it: a fenced or closed one begins anew, under another id.
create function public.require_open_instance(p_instance uuid) returns void language plpgsql as $$
declare
  ended boolean;
begin
  select fenced or closed into ended from public.instance where id = p_instance;
  if not found then raise exception 'no instance %', p_instance using errcode = 'TF010'; end if;
  if ended then
    raise exception 'instance % is fenced or closed', p_instance using errcode = 'TF012';
  end if;
end $$;

-- Runs as the owner, because the server may not create tables: that is all it can make happen here.
create function public.open_lane(p_instance uuid, p_kind text) returns integer language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  opened integer;
begin
  perform public.require_open_instance(p_instance);
  insert into public.lane (instance, kind) values (p_instance, p_kind) returning id into opened;
  perform public.make_entry_partition(opened);
  return opened;
end $$;

-- The exclusive side of the epoch barrier. Waiting longer than 2 s is refused for good, so that the
-- server has given up before its client does and no change takes effect that nobody waits for.
create function public.take_barrier() returns void language plpgsql as $$
begin
  perform set_config('lock_timeout', '2s', true);
  perform pg_advisory_xact_lock(7411);
exception
  when lock_not_available then
    raise exception 'the epoch barrier is not free' using errcode = 'TF011';
end $$;

-- Under the exclusive barrier, so that an append that found the lane open has committed before.
create function public.close_lane(p_lane integer) returns void language plpgsql as $$
begin
  perform public.take_barrier();
  update public.lane set closed = true where id = p_lane;
  if not found then
    raise exception 'no lane %', p_lane using errcode = 'TF001';
  end if;
end $$;

-- Whether exactly these entries are there already. Batches are appended whole, so the first entry
-- answers for nearly every call.
create function public.entries_present(p_lane integer, p_first bigint, p_leaves bytea[])
returns boolean language plpgsql as $$
begin
  if not exists (select from public.entry where lane = p_lane and n = p_first) then return false; end if;
  return not exists (
    select from unnest(p_leaves) with ordinality u(leaf, o)
    left join public.entry e on e.lane = p_lane and e.n = p_first + u.o - 1
    where e.leaf is distinct from u.leaf
  );
end $$;

-- The part that an append and a change share. The caller holds the barrier.
create function public.append_entries(
  p_lane integer, p_first bigint, p_hmac bytea, p_leaves bytea[], p_bodies bytea[],
  p_at timestamptz[], p_namespaces text[], p_operations text[], p_key_ids uuid[],
  p_key_refs text[], p_subjects text[], p_outcomes text[]
) returns void language plpgsql as $$
declare
  shut boolean;
  owned_by uuid;
begin
  select closed, instance into shut, owned_by from public.lane where id = p_lane;
  if not found then raise exception 'no lane %', p_lane using errcode = 'TF001'; end if;
  if shut then raise exception 'lane % is closed', p_lane using errcode = 'TF002'; end if;
  perform public.require_open_instance(owned_by);
  if p_first <> 1 and not exists (select from public.entry where lane = p_lane and n = p_first - 1) then
    raise exception 'nothing is before % in lane %', p_first, p_lane using errcode = 'TF003';
  end if;
  insert into public.entry
    (lane, n, leaf, body, batch_hmac, at, namespace, operation, key_id, key_ref, subject, outcome)
  select p_lane, p_first + u.o - 1, u.leaf, u.body, case when u.o = 1 then p_hmac end,
    u.at, u.namespace, u.operation, u.key_id, u.key_ref, u.subject, u.outcome
  from unnest(p_leaves, p_bodies, p_at, p_namespaces, p_operations, p_key_ids, p_key_refs,
    p_subjects, p_outcomes) with ordinality
    u(leaf, body, at, namespace, operation, key_id, key_ref, subject, outcome, o);
end $$;

-- A snapshot older than the barrier would let an old epoch pass.
create function public.require_read_committed() returns void language plpgsql as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the epoch barrier needs READ COMMITTED' using errcode = 'TF005';
  end if;
end $$;

-- Appends a batch under the epoch barrier: the epoch when it is there afterwards, the negated
-- current epoch when that is not the caller's and nothing was written. A batch that is there already
-- is answered before epochs are compared: its commit did happen, whatever changed since.
create function public.append(
  p_epoch bigint, p_lane integer, p_first bigint, p_hmac bytea, p_leaves bytea[], p_bodies bytea[],
  p_at timestamptz[], p_namespaces text[], p_operations text[], p_key_ids uuid[],
  p_key_refs text[], p_subjects text[], p_outcomes text[]
) returns bigint language plpgsql as $$
declare
  now_epoch bigint;
begin
  perform public.require_read_committed();
  perform pg_advisory_xact_lock_shared(7411);
  if public.entries_present(p_lane, p_first, p_leaves) then return p_epoch; end if;
  select epoch into strict now_epoch from public.security_epoch;
  if now_epoch <> p_epoch then return -now_epoch; end if;
  perform public.append_entries(p_lane, p_first, p_hmac, p_leaves, p_bodies, p_at, p_namespaces,
    p_operations, p_key_ids, p_key_refs, p_subjects, p_outcomes);
  return now_epoch;
end $$;

-- One write of a change; `p_write` is {kind, row} or {kind, row, expected} with the row's columns.
create function public.write_key_row(p_write jsonb) returns void language plpgsql as $$
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
      insert into public.key select k.*;
    when 'update-key' then
      k := jsonb_populate_record(null::public.key, p_write -> 'row');
      -- Id, namespace, name, purpose and creation are for ever.
      update public.key set
        labels = k.labels, rotation = k.rotation, deletion_protection = k.deletion_protection,
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
        mac = v.mac
      where key_id = v.key_id and version = v.version
        and revision = (p_write ->> 'expected')::integer;
      if not found then raise exception 'version revision moved' using errcode = 'TF006'; end if;
    when 'complete-intent' then
      delete from public.token_intent
      where object_id = (p_write ->> 'object_id')::bytea and not abandoned;
      if not found then raise exception 'intent abandoned' using errcode = 'TF006'; end if;
  end case;
end $$;

-- A change: effect, audit entry, `security_change` and the raised epoch, under the exclusive
-- barrier, in one statement and so one round trip, so that no paused client ever holds the barrier.
-- Returns the new epoch, or the negated current one when that is not the caller's and nothing was
-- written. The same change sent again is answered with the epoch that it raised.
create function public.commit_change(
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
  insert into public.security_change (epoch, scope, namespace, key_id, key_name, lane, n)
  values (now_epoch, p_scope ->> 'scope', p_scope ->> 'namespace', (p_scope ->> 'key_id')::uuid,
    p_scope ->> 'key_name', p_lane, p_n);
  update public.security_epoch set epoch = now_epoch;
  perform pg_notify('twofold_epoch', now_epoch::text);
  return now_epoch;
end $$;

-- Privileges of the server's role -------------------------------------------------------------
--
-- Updates are granted column by column: what identifies a row is for ever.

revoke execute on function public.append, public.append_entries, public.close_lane,
  public.commit_change, public.entries_present, public.make_entry_partition, public.open_lane,
  public.refuse_change, public.require_open_instance, public.require_read_committed,
  public.take_barrier, public.write_key_row from public;
grant execute on function public.append, public.append_entries, public.close_lane,
  public.commit_change, public.entries_present, public.open_lane, public.require_open_instance,
  public.require_read_committed, public.take_barrier, public.write_key_row to twofold_app;
grant usage on schema public to twofold_app;
grant select on public.namespace, public.security_epoch, public.lane to twofold_app;
grant select, insert on public.key, public.key_version, public.usage_counter,
  public.root_generation, public.token_intent, public.idempotency, public.instance,
  public.security_change, public.entry to twofold_app;
grant delete on public.token_intent, public.idempotency to twofold_app;
grant update (labels, rotation, deletion_protection, primary_version, min_usable_version,
  latest_version, suspended_at, suspension_reason, destroyed_at, revision, mac)
  on public.key to twofold_app;
grant update (state, revision, activate_at, activated_at, deactivate_at, suspended_at,
  deactivated_at, compromised_at, destroy_at, destroyed_at, reason, classical_custody,
  classical_public, classical_check, classical_generation, classical_blob, classical_token_serial,
  classical_installation, classical_object_id, pq_custody, pq_public, pq_generation, pq_sealed,
  psk_custody, psk_generation, psk_sealed, mac) on public.key_version to twofold_app;
grant update (used) on public.usage_counter to twofold_app;
grant update (state, seal_blob, seal_check, mac_blob, mac_check, canary)
  on public.root_generation to twofold_app;
grant update (abandoned) on public.token_intent to twofold_app;
grant update (beat, beat_at, epoch_seen, closed) on public.instance to twofold_app;
grant update (epoch) on public.security_epoch to twofold_app;
grant update (next, closed) on public.lane to twofold_app;
