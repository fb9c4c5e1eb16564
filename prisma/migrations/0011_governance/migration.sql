-- What governs access: policies, issuers, denials, namespaces and the like, as sets under a seal each.

-- The members in force. `author` is the JSON of issuer and subject.
create table public.set_member (
  kind text collate "C" not null,
  namespace text collate "C" not null,
  name text collate "C" not null,
  revision integer not null,
  at timestamptz(3) not null,
  author text not null,
  value jsonb not null,
  mac bytea not null,
  constraint set_member_pkey primary key (kind, namespace, name)
);

-- What each revision of a set changed, for ever; `value` is null where it took the member away.
create table public.set_history (
  kind text collate "C" not null,
  namespace text collate "C" not null,
  revision integer not null,
  name text collate "C" not null,
  at timestamptz(3) not null,
  author text not null,
  value jsonb,
  mac bytea not null,
  constraint set_history_pkey primary key (kind, namespace, revision, name)
);
create index set_history_name_idx on public.set_history (kind, namespace, name, revision);
create trigger set_history_append_only before update or delete on public.set_history
  for each row execute function public.refuse_change('the table is append-only');
create trigger set_history_no_truncate before truncate on public.set_history
  for each statement execute function public.refuse_change('the table is append-only');

-- One row for all members of one kind in one namespace: the hash of the whole set under a MAC, so that a
-- member which was inserted, deleted or put back is found. It stays when the last member goes.
create table public.set_seal (
  kind text collate "C" not null,
  namespace text collate "C" not null,
  revision integer not null,
  hash bytea not null,
  mac bytea not null,
  constraint set_seal_pkey primary key (kind, namespace)
);
create trigger set_seal_onward before update on public.set_seal
  for each row when (new.revision <= old.revision)
  execute function public.refuse_change('revisions of a set only rise');

-- A member whose value is null goes.
create function public.write_put_member(p_write jsonb) returns void language plpgsql as $$
declare
  h public.set_history := jsonb_populate_record(null::public.set_history, p_write -> 'row');
begin
  insert into public.set_history select h.*;
  if h.value is null then
    delete from public.set_member
    where kind = h.kind and namespace = h.namespace and name = h.name;
    if not found then raise exception 'member is gone' using errcode = 'TF006'; end if;
  else
    insert into public.set_member (kind, namespace, name, revision, at, author, value, mac)
    values (h.kind, h.namespace, h.name, h.revision, h.at, h.author, h.value, h.mac)
    on conflict (kind, namespace, name) do update set revision = excluded.revision,
      at = excluded.at, author = excluded.author, value = excluded.value, mac = excluded.mac;
  end if;
end $$;

-- `expected` is the revision of the set that the change was made for; 0: there was none.
create function public.write_put_seal(p_write jsonb) returns void language plpgsql as $$
declare
  s public.set_seal := jsonb_populate_record(null::public.set_seal, p_write -> 'row');
begin
  if (p_write ->> 'expected')::integer = 0 then
    insert into public.set_seal select s.* on conflict do nothing;
  else
    update public.set_seal set revision = s.revision, hash = s.hash, mac = s.mac
    where kind = s.kind and namespace = s.namespace
      and revision = (p_write ->> 'expected')::integer;
  end if;
  if not found then raise exception 'set moved' using errcode = 'TF006'; end if;
end $$;

-- A change that rests on a set takes effect only while that is at the revision that was read; 0: none.
create function public.write_require_seal(p_write jsonb) returns void language plpgsql as $$
begin
  if (p_write ->> 'revision')::integer is distinct from coalesce((
    select revision from public.set_seal
    where kind = p_write ->> 'set' and namespace = p_write ->> 'namespace'
  ), 0) then
    raise exception 'set moved' using errcode = 'TF006';
  end if;
end $$;

revoke execute on function public.write_put_member, public.write_put_seal,
  public.write_require_seal from public;
grant execute on function public.write_put_member, public.write_put_seal,
  public.write_require_seal to twofold_app;
grant select, insert, delete on public.set_member to twofold_app;
grant update (revision, at, author, value, mac) on public.set_member to twofold_app;
grant select, insert on public.set_history to twofold_app;
grant select, insert on public.set_seal to twofold_app;
grant update (revision, hash, mac) on public.set_seal to twofold_app;

-- What a namespace is stands in the set of kind `namespace`, under its seal; this row is only what other
-- tables refer to, so it needs no MAC of its own.
alter table public.namespace drop constraint namespace_attested;

create function public.write_insert_namespace(p_write jsonb) returns void language plpgsql as $$
begin
  insert into public.namespace (name) values (p_write ->> 'name') on conflict do nothing;
end $$;
revoke execute on function public.write_insert_namespace from public;
grant execute on function public.write_insert_namespace to twofold_app;
grant insert (name) on public.namespace to twofold_app;
