-- Rotation policies that a namespace gives to its keys by their labels.

create table public.rotation_policy (
  namespace text collate "C" not null,
  name text collate "C" not null,
  selector jsonb not null,
  priority integer not null,
  policy jsonb not null,
  mac bytea not null,
  constraint rotation_policy_pkey primary key (namespace, name),
  constraint rotation_policy_namespace_fkey foreign key (namespace)
    references public.namespace (name)
);

-- One row for all policies of a namespace: the hash of the whole set under a MAC, so that a policy which
-- was inserted, deleted or put back is found. It stays when the last policy goes.
create table public.rotation_policy_set (
  namespace text collate "C" not null,
  revision integer not null,
  hash bytea not null,
  mac bytea not null,
  constraint rotation_policy_set_pkey primary key (namespace),
  constraint rotation_policy_set_namespace_fkey foreign key (namespace)
    references public.namespace (name)
);
create trigger rotation_policy_set_onward before update on public.rotation_policy_set
  for each row when (new.revision <= old.revision)
  execute function public.refuse_change('revisions of a set only rise');

-- How far the scheduler has asked for looks at the keys of a namespace since its policies changed:
-- a hint without a MAC, like `key_schedule`.
create table public.rotation_policy_round (
  namespace text collate "C" not null,
  revision integer not null,
  after_id uuid,
  done boolean not null,
  constraint rotation_policy_round_pkey primary key (namespace)
);

create function public.write_put_rotation_policy(p_write jsonb) returns void language plpgsql as $$
declare
  p public.rotation_policy := jsonb_populate_record(null::public.rotation_policy, p_write -> 'row');
begin
  insert into public.rotation_policy select p.*
  on conflict (namespace, name) do update set selector = excluded.selector,
    priority = excluded.priority, policy = excluded.policy, mac = excluded.mac;
end $$;

create function public.write_delete_rotation_policy(p_write jsonb) returns void language plpgsql as $$
begin
  delete from public.rotation_policy
  where namespace = p_write ->> 'namespace' and name = p_write ->> 'name';
  if not found then raise exception 'policy is gone' using errcode = 'TF006'; end if;
end $$;

-- `expected` is the revision of the set that the change was made for; 0: there was none.
create function public.write_put_policy_set(p_write jsonb) returns void language plpgsql as $$
declare
  s public.rotation_policy_set :=
    jsonb_populate_record(null::public.rotation_policy_set, p_write -> 'row');
begin
  if (p_write ->> 'expected')::integer = 0 then
    insert into public.rotation_policy_set select s.* on conflict do nothing;
  else
    update public.rotation_policy_set set revision = s.revision, hash = s.hash, mac = s.mac
    where namespace = s.namespace and revision = (p_write ->> 'expected')::integer;
  end if;
  if not found then raise exception 'policy set moved' using errcode = 'TF006'; end if;
end $$;

-- What a policy asked for takes effect only while the set stands that the policy was read in.
create function public.write_require_policy_set(p_write jsonb) returns void language plpgsql as $$
begin
  if (p_write ->> 'revision')::integer is distinct from coalesce((
    select revision from public.rotation_policy_set where namespace = p_write ->> 'namespace'
  ), 0) then
    raise exception 'policy set moved' using errcode = 'TF006';
  end if;
end $$;

revoke execute on function public.write_put_rotation_policy, public.write_delete_rotation_policy,
  public.write_put_policy_set, public.write_require_policy_set from public;
grant execute on function public.write_put_rotation_policy, public.write_delete_rotation_policy,
  public.write_put_policy_set, public.write_require_policy_set to twofold_app;
grant select, insert, delete on public.rotation_policy to twofold_app;
grant update (selector, priority, policy, mac) on public.rotation_policy to twofold_app;
grant select, insert on public.rotation_policy_set to twofold_app;
grant update (revision, hash, mac) on public.rotation_policy_set to twofold_app;
grant select, insert, update on public.rotation_policy_round to twofold_app;
