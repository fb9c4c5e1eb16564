-- The keys that sign checkpoints of the audit log, and the log's name.

-- One row, written with the log's first keys: a log keeps its name for life.
create table public.log_name (
  one boolean not null default true,
  origin text collate "C" not null,
  created_at timestamptz(3) not null,
  mac bytea not null,
  constraint log_name_pkey primary key (one),
  constraint log_name_one check (one)
);

-- A pair of each zone: kind `ed25519` and kind `ml-dsa-44`. Of each kind a zone has at most one that
-- waits (`pending`), and one that signs (`active`). `first`: trusted by no announcement, only by
-- whoever pins it; the log has one such key of each kind.
create table public.log_key (
  id uuid not null,
  zone text collate "C" not null,
  kind text collate "C" not null,
  public_key bytea not null,
  state text collate "C" not null,
  pinned boolean not null,
  custody text,
  token_serial text,
  installation text,
  object_id bytea,
  generation integer,
  sealed bytea,
  -- The entry that announces it.
  announced text collate "C",
  created_at timestamptz(3) not null,
  activated_at timestamptz(3),
  retired_at timestamptz(3),
  revision integer not null,
  mac bytea not null,
  constraint log_key_pkey primary key (id),
  constraint log_key_kind check (kind in ('ed25519', 'ml-dsa-44')),
  constraint log_key_state check (state in ('pending', 'active', 'retiring', 'retired')),
  constraint log_key_retired check (
    state <> 'retired'
    or num_nonnulls(custody, token_serial, installation, object_id, generation, sealed) = 0
  )
);
create unique index log_key_pending_key on public.log_key (zone, kind) where state = 'pending';
create unique index log_key_active_key on public.log_key (zone, kind) where state = 'active';
create trigger log_key_onward before update on public.log_key
  for each row when (
    new.revision <= old.revision
    or array_position(array['pending', 'active', 'retiring', 'retired'], new.state)
      < array_position(array['pending', 'active', 'retiring', 'retired'], old.state)
  )
  execute function public.refuse_change('a key of the log only goes on');

-- {rows, object_id}: both keys of a pair; the token object of one, if any, is theirs from now on.
create function public.write_insert_log_keys(p_write jsonb) returns void language plpgsql as $$
declare
  one_row jsonb;
  k public.log_key;
begin
  if p_write ->> 'object_id' is not null then
    delete from public.token_intent
    where object_id = (p_write ->> 'object_id')::bytea and not abandoned;
    if not found then raise exception 'the intent is gone' using errcode = 'TF006'; end if;
  end if;
  for one_row in select jsonb_array_elements(p_write -> 'rows') loop
    k := jsonb_populate_record(null::public.log_key, one_row);
    insert into public.log_key select k.*;
  end loop;
end $$;

-- The pair; with a name it is the first of the log, which had no name.
create function public.make_log_keys(p_name jsonb, p_write jsonb) returns void
language plpgsql as $$
declare
  n public.log_name := jsonb_populate_record(null::public.log_name, p_name);
begin
  if p_name is not null then
    n.one := true;
    insert into public.log_name select n.* on conflict do nothing;
    if not found then raise exception 'the log has keys' using errcode = 'TF006'; end if;
  end if;
  perform public.write_insert_log_keys(p_write);
end $$;

-- Rows as they are from now on, each with `expected`, its revision before; and intents of what is removed.
create function public.update_log_keys(p_rows jsonb, p_intents jsonb) returns void
language plpgsql as $$
declare
  one_row jsonb;
  k public.log_key;
  i public.token_intent;
begin
  for one_row in select jsonb_array_elements(p_rows) loop
    k := jsonb_populate_record(null::public.log_key, one_row);
    update public.log_key set state = k.state, custody = k.custody, token_serial = k.token_serial,
      installation = k.installation, object_id = k.object_id, generation = k.generation,
      sealed = k.sealed, announced = k.announced, activated_at = k.activated_at,
      retired_at = k.retired_at, revision = k.revision, mac = k.mac
    where id = k.id and revision = (one_row ->> 'expected')::integer;
    if not found then raise exception 'a key of the log moved' using errcode = 'TF006'; end if;
  end loop;
  for one_row in select jsonb_array_elements(p_intents) loop
    i := jsonb_populate_record(null::public.token_intent, one_row);
    i.abandoned := false;
    insert into public.token_intent select i.*;
  end loop;
end $$;

revoke execute on function public.write_insert_log_keys, public.make_log_keys,
  public.update_log_keys from public;
grant execute on function public.write_insert_log_keys, public.make_log_keys,
  public.update_log_keys to twofold_app;
grant select, insert on public.log_name, public.log_key to twofold_app;
grant update (state, custody, token_serial, installation, object_id, generation, sealed, announced,
  activated_at, retired_at, revision, mac) on public.log_key to twofold_app;

-- Lines of witnesses under checkpoints. Without a row MAC: each is a signature, and is verified.
create table public.log_cosignature (
  size bigint not null,
  name text collate "C" not null,
  key_id text collate "C" not null,
  line text not null,
  at timestamptz(3) not null default current_timestamp,
  constraint log_cosignature_pkey primary key (size, name, key_id)
);
grant select, insert, delete on public.log_cosignature to twofold_app;
